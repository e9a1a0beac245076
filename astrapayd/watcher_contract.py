"""The watcher contract: what the core relies on, as checks that any chain's plugin can be put to.

A plugin's author writes a :class:`Stage` (how to pay, mine and reorganise on a test chain) and runs every check of
:data:`CHECKS` against it, for example with pytest::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_watcher_contract(check, stage):
        await check(stage)

A check raises AssertionError with a sentence. Nothing here needs a test framework; ``docs/writing-plugins.md`` builds a
whole plugin against it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from astrapayd.chains import Chain
from astrapayd.money import Asset
from astrapayd.transfers import BlockRef, ChainUpdate, Transfer, Watched, WatchSet

PATIENCE_SECS = 20.0
"""How long a watcher may take to tell of something that is on its chain."""


class Stage(Protocol):
    """A test chain with a node, and the plugin's chain that watches it. Addresses in canonical form."""

    @property
    def chain(self) -> Chain:
        """What the plugin registers; its watchers see the test chain's node."""
        ...

    @property
    def address(self) -> str:
        """The address that is watched from the beginning."""
        ...

    @property
    def other_address(self) -> str:
        """An address that is added to the watched ones later."""
        ...

    async def pay(self, asset: Asset, address: str, amount_base: int) -> str:
        """Send a payment that the next block will hold; its transaction id."""
        ...

    async def mine(self, blocks: int = 1) -> None:
        """Mine what waits, and then more blocks, so many in all."""
        ...

    async def reorganise_away(self, tx: str) -> None:
        """Replace the newest blocks by a longer branch in which the transaction is not, and never will be."""
        ...

    async def reorganise_elsewhere(self, tx: str) -> None:
        """Replace the newest blocks by a longer branch in which the transaction stands in another block."""
        ...

    async def restart_node(self) -> None:
        """Stop the node in an orderly way and start it again with its chain as it was."""
        ...


Check = Callable[[Stage], Awaitable[None]]


@dataclass
class _Follower:
    """Does what the core does: applies updates, keeps the branch, and checks that each hangs together."""

    stage: Stage
    watch: WatchSet
    branch: list[BlockRef] = field(default_factory=list)
    transfers: dict[tuple[str, str, int], Transfer] = field(default_factory=dict)

    @property
    def recent(self) -> Sequence[BlockRef]:
        """Newest first, as a watcher is given them."""
        return tuple(reversed(self.branch))

    def apply(self, step: ChainUpdate) -> None:
        """One update, with everything that the contract says of its shape."""
        tip = self.branch[-1] if self.branch else None
        assert step.chain == self.stage.chain.id, "an update names the chain that it is of"
        assert step.base == tip, "an update's base is the head before it"
        for block in step.disconnected:
            assert self.branch, "more is disconnected than was ever connected"
            assert block == self.branch.pop(), "blocks are disconnected newest first"
        if step.disconnected:
            least = (tip or step.head).height
            assert step.head.height >= least, "a block is disconnected only by a competing block at its height"
        for block in step.connected:
            if self.branch:
                parent = self.branch[-1]
                assert (block.parent, block.height) == (parent.hash, parent.height + 1), "connected blocks are linked"
            self.branch.append(block)
        assert step.head == self.branch[-1], "the head is where the blocks lead"
        assert step.final_height <= step.head.height, "no block above the head is final"
        assert step.watch_version <= self.watch.current.version, "the version is that of a set that was watched"
        gone = {block.hash for block in step.disconnected}
        self.transfers = {
            identity: transfer
            for identity, transfer in self.transfers.items()
            if (transfer.tx not in step.replaced if transfer.block is None else transfer.block.hash not in gone)
        }
        for transfer in step.transfers:
            assert transfer.amount_base > 0, "a transfer of nothing is none"
            assert transfer.recipient in self.watch.current.addresses, "only what comes to watched addresses is told"
            if transfer.block is not None:
                assert transfer.block in step.connected, "a mined transfer lies in a connected block"
            self.transfers[transfer.identity] = transfer

    async def until(self, updates: AsyncGenerator[ChainUpdate], done: Callable[[], bool], what: str) -> None:
        """Pull and apply updates until something is so."""
        try:
            async with asyncio.timeout(PATIENCE_SECS):
                while not done():
                    self.apply(await anext(updates))
        except TimeoutError:
            raise AssertionError(f"within {PATIENCE_SECS:g} s, {what}") from None

    def of(self, tx: str) -> list[Transfer]:
        """What is known of a transaction now."""
        return [transfer for transfer in self.transfers.values() if transfer.tx == tx]

    def knows(self, tx: str) -> bool:
        """Whether a transaction's payment was told."""
        return bool(self.of(tx))

    def mined(self, tx: str) -> bool:
        """Whether a transaction's payment was told with its block."""
        return any(transfer.block is not None for transfer in self.of(tx))

    def amounts(self) -> list[int]:
        """Every amount that is in a block, sorted."""
        return sorted(transfer.amount_base for transfer in self.transfers.values() if transfer.block is not None)


def _watch(stage: Stage, *addresses: str, version: int = 1) -> WatchSet:
    assets = stage.chain.assets.values()
    return WatchSet(
        Watched(
            version=version,
            addresses=frozenset(addresses or (stage.address,)),
            contracts=frozenset(asset.contract for asset in assets if asset.contract is not None),
            native=any(asset.contract is None for asset in assets),
        )
    )


async def _started(stage: Stage, updates: AsyncGenerator[ChainUpdate]) -> _Follower:
    follower = _Follower(stage, _watch(stage))
    await follower.until(updates, lambda: bool(follower.branch), "the first update begins at the node's head")
    return follower


async def check_says_who_the_node_is(stage: Stage) -> None:
    """``check()`` names each node, reaches it, and finds nothing wrong with a good one."""
    watcher = stage.chain.watcher()
    try:
        statuses = await watcher.check()
    finally:
        await watcher.close()
    assert statuses, "there is one status for each configured node"
    for status in statuses:
        assert status.node, "a status names its node"
        assert status.reachable, f"the node is reached: {status.problems}"
        assert not status.problems, f"nothing is wrong: {status.problems}"
        assert status.genesis, "the genesis is told, so that chains of one id are told apart"
        assert status.head is not None, "the head is told"


async def check_names_used_addresses_only(stage: Stage) -> None:
    """An address that nobody ever paid is not called used: else derived addresses would never be given out."""
    asset = next(iter(stage.chain.assets.values()))
    await stage.pay(asset, stage.address, 3)
    await stage.mine()
    watcher = stage.chain.watcher()
    used = await watcher.used([stage.address, stage.other_address])
    await watcher.close()
    assert used <= {stage.address}, "only an address that was paid has a history"


async def check_believes_no_signature_that_is_none(stage: Stage) -> None:
    """Whatever a stranger sends in place of a signature is no proof: a claim would be paid out on it."""
    watcher = stage.chain.watcher()
    try:
        for signature in ("", "0x", "0x" + "00" * 65, "0x" + "ff" * 65, "yes", "0x" + "1b" * 200, "\x00ä"):
            believed = await watcher.signed_by(stage.address, "a text", signature)
            assert not believed, f"{signature[:20]!r} is no signature"
    finally:
        await watcher.close()


async def check_begins_at_the_head_without_earlier_transfers(stage: Stage) -> None:
    """A new chain begins at the node's head: what is older was not paid to anybody here."""
    asset = next(iter(stage.chain.assets.values()))
    await stage.pay(asset, stage.address, 5)
    await stage.mine(2)
    watcher, watch = stage.chain.watcher(), _watch(stage)
    async with aclosing(watcher.updates((), watch)) as updates:
        async with asyncio.timeout(PATIENCE_SECS):
            first = await anext(updates)
        assert first.base is None, "the first update has no base"
        assert first.connected == (first.head,), "it connects the head and nothing else"
        assert first.transfers == (), "it tells of no transfer"
    await watcher.close()


async def check_tells_of_exact_payments_in_every_asset(stage: Stage) -> None:
    """Amount, recipient, contract and block of a payment are exact, and nothing else is told."""
    watcher = stage.chain.watcher()
    updates = watcher.updates((), _watch(stage))
    async with aclosing(updates):
        follower = await _started(stage, updates)
        for amount_base, asset in enumerate(stage.chain.assets.values(), 1_000_001):
            tx = await stage.pay(asset, stage.address, amount_base)
            await stage.pay(asset, stage.other_address, amount_base)
            await stage.mine()
            await follower.until(updates, partial(follower.knows, tx), "a mined payment is told")
            (transfer,) = follower.of(tx)
            assert (transfer.amount_base, transfer.recipient) == (amount_base, stage.address), "it is exact"
            assert transfer.contract == asset.contract, "the contract tells which asset it is"
        assert len(follower.transfers) == len(stage.chain.assets), "what comes to others is not told"
    await watcher.close()


async def check_fills_a_gap_once(stage: Stage) -> None:
    """Closed and begun again from the kept blocks, a watcher tells of everything in between, once."""
    asset = next(iter(stage.chain.assets.values()))
    watcher = stage.chain.watcher()
    updates = watcher.updates((), _watch(stage))
    follower = await _started(stage, updates)
    await updates.aclose()
    await watcher.close()
    for amount_base in (11, 12, 13):
        await stage.pay(asset, stage.address, amount_base)
        await stage.mine(3)
    watcher = stage.chain.watcher()
    async with aclosing(watcher.updates(follower.recent, follower.watch)) as updates:
        await follower.until(
            updates, lambda: follower.amounts() == [11, 12, 13], "a gap is filled with all its payments"
        )
    await watcher.close()


async def check_repeats_what_was_not_committed(stage: Stage) -> None:
    """An update that was pulled and not committed comes again, the same."""
    asset = next(iter(stage.chain.assets.values()))
    watcher = stage.chain.watcher()
    updates = watcher.updates((), _watch(stage))
    follower = await _started(stage, updates)
    await updates.aclose()
    await stage.pay(asset, stage.address, 21)
    await stage.mine()
    seen = []
    for _ in range(2):
        async with aclosing(watcher.updates(follower.recent, follower.watch)) as updates:
            async with asyncio.timeout(PATIENCE_SECS):
                step = await anext(updates)
                while not step.transfers:
                    follower.apply(step)
                    step = await anext(updates)
            seen.append((step.connected, step.transfers))
    assert seen[0] == seen[1], "what is not committed comes again, the same"
    await watcher.close()


async def check_reverts_a_payment_that_is_reorganised_away(stage: Stage) -> None:
    """The block is disconnected, and the payment is gone with it."""
    asset = next(iter(stage.chain.assets.values()))
    watcher = stage.chain.watcher()
    async with aclosing(watcher.updates((), _watch(stage))) as updates:
        follower = await _started(stage, updates)
        tx = await stage.pay(asset, stage.address, 31)
        await stage.mine()
        await follower.until(updates, lambda: follower.mined(tx), "a mined payment is told")
        await stage.reorganise_away(tx)
        await follower.until(updates, lambda: not follower.of(tx), "a payment that was reorganised away is gone")
    await watcher.close()


async def check_follows_a_payment_to_another_block(stage: Stage) -> None:
    """Mined again elsewhere, a transfer keeps its identity: it is the same payment, not a second one."""
    asset = next(iter(stage.chain.assets.values()))
    watcher = stage.chain.watcher()
    async with aclosing(watcher.updates((), _watch(stage))) as updates:
        follower = await _started(stage, updates)
        tx = await stage.pay(asset, stage.address, 41)
        await stage.mine()
        await follower.until(updates, lambda: follower.mined(tx), "a mined payment is told")
        (before,) = follower.of(tx)
        await stage.reorganise_elsewhere(tx)
        await follower.until(
            updates,
            lambda: any(t.block != before.block for t in follower.of(tx)),
            "a payment that was mined again elsewhere is told with its new block",
        )
        (after,) = follower.of(tx)
        assert after.identity == before.identity, "its identity is the same"
        assert after.amount_base == before.amount_base, "and so is its amount"
    await watcher.close()


async def check_survives_a_reorganisation_while_it_was_away(stage: Stage) -> None:
    """The kept blocks tell where the branches part, although the node no longer knows the tip."""
    asset = next(iter(stage.chain.assets.values()))
    watcher = stage.chain.watcher()
    updates = watcher.updates((), _watch(stage))
    follower = await _started(stage, updates)
    tx = await stage.pay(asset, stage.address, 51)
    await stage.mine()
    await follower.until(updates, lambda: follower.mined(tx), "a mined payment is told")
    await updates.aclose()
    await watcher.close()
    await stage.reorganise_away(tx)
    await stage.mine()
    watcher = stage.chain.watcher()
    async with aclosing(watcher.updates(follower.recent, follower.watch)) as updates:
        await follower.until(updates, lambda: not follower.of(tx), "what happened while it was away is told")
    await watcher.close()


async def check_watches_an_address_from_the_moment_it_is_added(stage: Stage) -> None:
    """The live set is read anew at each fetch, and an update carries the version that it was made with."""
    asset = next(iter(stage.chain.assets.values()))
    watcher, watch = stage.chain.watcher(), _watch(stage)
    async with aclosing(watcher.updates((), watch)) as updates:
        follower = _Follower(stage, watch)
        await follower.until(updates, lambda: bool(follower.branch), "the first update begins at the node's head")
        watch.current = _watch(stage, stage.address, stage.other_address, version=2).current
        tx = await stage.pay(asset, stage.other_address, 61)
        await stage.mine()
        versions: list[int] = []
        async with asyncio.timeout(PATIENCE_SECS):
            while not follower.of(tx):
                step = await anext(updates)
                versions.append(step.watch_version)
                follower.apply(step)
        assert versions[-1] == 2, "the update says that it was made with the new set"
    await watcher.close()


async def check_goes_on_after_the_node_restarts(stage: Stage) -> None:
    """A lost connection is mended inside, and health says how it goes."""
    asset = next(iter(stage.chain.assets.values()))
    watcher = stage.chain.watcher()
    updates = watcher.updates((), _watch(stage))
    async with aclosing(updates):
        follower = await _started(stage, updates)
        pulling = asyncio.ensure_future(anext(updates))
        async with asyncio.timeout(PATIENCE_SECS):
            while not watcher.health.level:  # noqa: ASYNC110 - health is looked at, as the core does
                await asyncio.sleep(0.02)
        assert watcher.health.looked_at > 0, "health tells when the node answered last"
        await stage.restart_node()
        tx = await stage.pay(asset, stage.address, 71)
        await stage.mine()
        async with asyncio.timeout(PATIENCE_SECS):
            follower.apply(await pulling)
        await follower.until(updates, lambda: bool(follower.of(tx)), "it goes on after a restart of the node")
    await watcher.close()
    await watcher.close()  # safe to call twice


CHECKS: tuple[Check, ...] = (
    check_says_who_the_node_is,
    check_names_used_addresses_only,
    check_believes_no_signature_that_is_none,
    check_begins_at_the_head_without_earlier_transfers,
    check_tells_of_exact_payments_in_every_asset,
    check_fills_a_gap_once,
    check_repeats_what_was_not_committed,
    check_reverts_a_payment_that_is_reorganised_away,
    check_follows_a_payment_to_another_block,
    check_survives_a_reorganisation_while_it_was_away,
    check_watches_an_address_from_the_moment_it_is_added,
    check_goes_on_after_the_node_restarts,
)
"""Every check, in an order in which a new plugin may be made to pass them."""
