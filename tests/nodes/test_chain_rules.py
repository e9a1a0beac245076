"""The demo chain in this process: pool, clock, journal, and what its command line refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from eth_account import Account

from astrapayd_evm.demo.accounts import ALL, CUSTOMERS
from astrapayd_evm.demo.chain import DemoChain, ReorgRefused
from astrapayd_evm.demo.methods import Methods
from astrapayd_evm.demo.pool import TransactionRefused
from astrapayd_evm.demo.rpc_errors import RpcError
from tests.nodes.harness import ROOT

GWEI = 10**9
SHOP = bytes.fromhex("42" * 20)


def signed(nonce: int, value_wei: int = 1, fee_gwei: int = 10, gas: int = 21000, legacy: bool = False) -> bytes:
    offered = ("gasPrice",) if legacy else ("maxFeePerGas", "maxPriorityFeePerGas")
    fees = dict.fromkeys(offered, fee_gwei * GWEI)
    fields = {"chainId": 1337, "nonce": nonce, "to": SHOP, "value": value_wei, "gas": gas, **fees}
    return bytes(Account.sign_transaction(fields, CUSTOMERS[0].private_key).raw_transaction)


def test_accounts_belong_to_their_keys() -> None:
    for account in ALL:
        assert Account.from_key(account.private_key).address == account.address


def test_nonces_may_arrive_in_any_order_and_a_gap_waits() -> None:
    chain = DemoChain()
    third, second, first = (chain.send(signed(nonce)) for nonce in (3, 1, 0))
    chain.mine()
    assert chain.locate(first)
    assert chain.locate(second)
    assert chain.locate(third) is None
    chain.send(signed(2, legacy=True))
    chain.mine()
    assert chain.locate(third)
    assert len(chain.pool) == 0


def test_a_replacement_has_to_pay_a_tenth_more() -> None:
    chain = DemoChain()
    old = chain.send(signed(0, value_wei=1, fee_gwei=10))
    with pytest.raises(TransactionRefused, match="already known"):
        chain.send(signed(0, value_wei=1, fee_gwei=10))
    with pytest.raises(TransactionRefused, match="underpriced"):
        chain.send(signed(0, value_wei=2, fee_gwei=10))
    new = chain.send(signed(0, value_wei=2, fee_gwei=11))
    chain.mine()
    assert chain.locate(old) is None
    assert chain.locate(new)
    with pytest.raises(TransactionRefused, match="nonce too low"):
        chain.send(signed(0, value_wei=3, fee_gwei=50))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (signed(0, gas=20000), "intrinsic gas too low"),
        (signed(0, value_wei=10**24), "insufficient funds"),
        (b"\x03\x01", "transaction type not supported"),
        (b"", "invalid transaction"),
        (b"\xf8\x00\x01", "invalid transaction"),
        (signed(0)[:-1], "invalid transaction"),
    ],
)
def test_what_the_pool_refuses(raw: bytes, reason: str) -> None:
    with pytest.raises((TransactionRefused, ValueError), match=reason):
        DemoChain().send(raw)


def test_another_chains_transaction_is_refused() -> None:
    with pytest.raises(ValueError, match="chain id"):
        DemoChain(chain_id=31337).send(signed(0))


def test_a_fee_cap_below_the_base_fee_waits() -> None:
    chain = DemoChain()
    cheap = chain.send(signed(0, fee_gwei=0))
    chain.mine()
    assert chain.locate(cheap) is None
    assert chain.pool.get(cheap)


def test_block_times_never_run_ahead_and_never_back() -> None:
    now = 1_700_000_000.0
    chain = DemoChain(clock=lambda: now)
    for _ in range(20):
        chain.mine()
    assert chain.head.timestamp == now
    now -= 3600
    assert chain.mine().timestamp == 1_700_000_000
    change = chain.reorg(3)
    assert [block.timestamp for block in change.added] == [1_700_000_000] * 4
    assert not {block.hash for block in change.added} & {block.hash for block in change.removed}


def test_a_plain_reorg_keeps_transactions_at_their_heights() -> None:
    chain = DemoChain()
    heights = {}
    for nonce in range(2):
        sent = chain.send(signed(nonce))
        heights[sent] = chain.mine().number
    change = chain.reorg(2)
    assert (len(change.removed), len(change.added)) == (2, 3)
    for sent, height in heights.items():
        place = chain.locate(sent)
        assert place
        assert place.block is chain.block_at(height)


def test_finality_never_goes_back_and_bounds_reorgs() -> None:
    chain = DemoChain(finality_depth=2)
    for _ in range(5):
        chain.mine()
    assert chain.finalized.number == 5
    chain.set_finality_depth(6)
    assert chain.finalized.number == 5
    with pytest.raises(ReorgRefused, match="finalized"):
        chain.reorg(3)
    for depth in (0, 100):
        with pytest.raises(ReorgRefused, match="depth"):
            chain.reorg(depth)
    chain.reorg(2)
    assert (chain.head.number, chain.finalized.number) == (8, 5)


def test_reorgs_through_rpc_check_their_arguments() -> None:
    chain = DemoChain()
    methods = Methods(chain)
    sent = chain.send(signed(0))
    with pytest.raises(RpcError, match="not mined"):
        methods.call("demo_reorgAway", ["0x" + sent.hex(), "0x" + signed(0, value_wei=2).hex()])
    chain.mine()
    with pytest.raises(RpcError, match="same sender with the same nonce"):
        methods.call("demo_reorgAway", ["0x" + sent.hex(), "0x" + signed(1).hex()])
    with pytest.raises(RpcError, match="another sender"):
        methods.call("demo_reorgMove", ["0x" + sent.hex(), "0x" + signed(1).hex()])
    assert len(methods.call("demo_reorg", [1])["added"]) == 2


def test_a_line_cut_off_by_a_kill_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "state"
    chain = DemoChain(state_file=file)
    chain.send(signed(0))
    chain.mine()
    whole = chain.head.hash
    chain.mine()
    chain.close()
    file.write_bytes(file.read_bytes()[:-20])
    again = DemoChain(state_file=file)
    assert again.head.hash == whole
    again.mine()
    again.close()
    once_more = DemoChain(state_file=file)
    assert once_more.head.hash == again.head.hash
    once_more.close()
    with pytest.raises(ValueError, match="belongs to chain id 1337"):
        DemoChain(chain_id=31337, state_file=file)


def test_two_fresh_chains_have_different_genesis_blocks() -> None:
    assert DemoChain().genesis.hash != DemoChain().genesis.hash


@pytest.mark.parametrize(
    ("options", "reason"),
    [(["--host", "0.0.0.0"], "not a loopback address"), (["--period", "0.5"], "one block a second")],
)
def test_the_command_line_refuses_in_one_sentence(options: list[str], reason: str) -> None:
    command = [sys.executable, "-m", "astrapayd_evm.demo.server", *options]
    environment = {"PYTHONPATH": str(ROOT / "plugins" / "evm")}
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment, timeout=30)
    assert run.returncode != 0
    assert reason in run.stderr
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""
