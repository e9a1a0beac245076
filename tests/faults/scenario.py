"""What happens to the store whose process is ended: 20 payments and a reorganisation, the same in every run."""

from __future__ import annotations

from astrapayd.testing import ChainScript, FakeChain
from astrapayd.transfers import ChainUpdate, Transfer
from tests.shopfront import ADDRESS

PAYMENTS = 20
WHOLE = 1_000_000


def scenario(script: ChainScript, due: list[int]) -> list[ChainUpdate]:
    """20 payments (one short, one over, one twice, one a stranger's), seen and mined; then a reorganisation that loses
    two of them for good and moves the others; then blocks until all is final."""
    usd = FakeChain().assets["usd"]

    def pay(amount_base: int) -> Transfer:
        return script.transfer(usd, ADDRESS, amount_base)

    paid = [pay(amount) for amount in due]
    paid[3] = pay(due[3] - WHOLE)
    paid[4] = pay(due[4] + WHOLE)
    twice, stranger = pay(due[5]), pay(7 * WHOLE)
    steps = [
        script.see(stranger, *paid[:5]),
        script.mine(*paid[:7], stranger),
        script.mine(*paid[7:14]),
        script.mine(twice),
    ]
    steps.append(script.reorg(2, paid[14:], [*paid[9:14], twice], [], []))
    steps += [script.mine(paid[7]) if i == 0 else script.mine() for i in range(8)]
    steps.append(script.mine(secs=3_600))
    return [*steps, *(script.mine() for _ in range(2))]
