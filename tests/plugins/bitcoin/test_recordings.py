"""The recorded scenarios: at the end the watcher knows what the node says is true, whatever became of the frames."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astrapayd.transfers import ChainUpdate, Watched, WatchSet
from tests.hypothesis_profiles import examples
from tests.plugins.bitcoin.following import PATIENCE_SECS, Book, core_watcher
from tests.plugins.bitcoin.replay import SCENARIOS, Frame, Publish, Recording
from tests.plugins.bitcoin.standin import NodeState, StandInNode

# What a scenario is about, besides that everything is as the node says at its end: states of the payments that are not
# simply mined, in order of their amounts
LOST = {
    "rbf_bump": ["replaced", "replaced"],
    "rbf_redirect": ["replaced", "replaced"],
    "conflict_in_block": ["replaced", "replaced"],
    "reorg_double_spend": ["replaced"],
    "reorg_double_spend_p2p": ["replaced"],
}


CRASH = "node_crash"
"""Ends with a node that has lost block 131 again, and nobody gives it another: there is nothing to be level with."""


async def _play(
    name: str, publisher: object = None, *, list_secs: float = 60.0, step_secs: float | None = None
) -> Book:
    """Replay it against a watcher that has begun at the recording's first block."""
    recording, node = Recording(name), StandInNode(NodeState())
    start = recording.begin(node.state)
    await node.start()
    watcher = core_watcher(node, list_secs=list_secs, poll_secs=0.4)
    watch = WatchSet(Watched(1, recording.watched(), frozenset(), native=True))
    book = Book()

    async def publish(frame: Frame) -> None:
        topic, body, count = frame
        await node.publish(topic, body, count)

    async with AsyncExitStack() as stack:
        stack.push_async_callback(node.stop)
        stack.push_async_callback(watcher.close)
        updates = await stack.enter_async_context(aclosing(watcher.updates((), watch)))
        await book.until(updates, lambda: bool(book.branch), "it begins")
        send = publisher(publish) if callable(publisher) else publish
        playing = asyncio.create_task(recording.play(node, send, step_secs))
        pulling = asyncio.create_task(_apply_all(updates, book))
        expected, (tip, _) = recording.expected(start), recording.final()
        try:
            async with asyncio.timeout(PATIENCE_SECS):
                while not (
                    playing.done()
                    and book.branch[-1].hash == tip
                    and book.live() == expected
                    and "orphaned" not in book.states.values()
                ):
                    assert not pulling.done(), "it goes on for ever"
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"{name}: expected {expected}, known {book.live()}, {book.states}") from None
        finally:
            for task in (playing, pulling):
                task.cancel()
            await asyncio.gather(playing, pulling, return_exceptions=True)
    return book


async def _apply_all(updates: AsyncGenerator[ChainUpdate], book: Book) -> None:
    async for step in updates:
        book.apply(step)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != CRASH])
async def test_the_end_is_what_the_node_says(name: str) -> None:
    book = await _play(name)
    lost = [
        (t.amount_base, book.states[i])
        for i, t in book.transfers.items()
        if book.states[i] not in {"mined", "unconfirmed"}
    ]
    assert [state for _, state in sorted(lost)] == LOST.get(name, []), lost


async def test_a_crashed_node_that_lost_its_tip_means_wait() -> None:
    """After the first crash comes a competing block 131, which counts; after the second none: nothing is reverted."""
    recording, node = Recording(CRASH), StandInNode(NodeState())
    recording.begin(node.state)
    await node.start()
    watcher, book = core_watcher(node, poll_secs=0.05), Book()
    watch = WatchSet(Watched(1, recording.watched(), frozenset(), native=True))
    updates = watcher.updates((), watch)
    await book.until(updates, lambda: bool(book.branch), "it begins")
    pulling = asyncio.create_task(_apply_all(updates, book))

    async def publish(frame: Frame) -> None:
        await node.publish(*frame)

    await recording.play(node, publish, 0.4)
    await asyncio.sleep(0.5)
    assert (book.branch[-1].height, node.state.blocks[node.state.tip].height) == (131, 130)
    assert [amount for _, amount, block in sorted(book.live().values()) if block == book.branch[-1].hash] == [
        10**6,
        2 * 10**6,
    ]
    assert "behind block 131" in watcher.health.problem
    assert not watcher.health.level
    pulling.cancel()
    await asyncio.gather(pulling, return_exceptions=True)
    await updates.aclose()
    await watcher.close()
    await node.stop()


def test_all_eighteen_are_there() -> None:
    assert len(SCENARIOS) == 18


def _mangler(seed: int, share: float) -> object:
    """Frames dropped, doubled, and held back so that they come late and out of order."""
    rng = random.Random(seed)

    def around(publish: Publish) -> Publish:
        held: list[Frame] = []

        async def mangled(frame: Frame) -> None:
            chance = rng.random()
            if chance < share:
                return
            if chance < 2 * share:
                held.append(frame)
                return
            await publish(frame)
            if chance < 3 * share:
                await publish(frame)
            if held and rng.random() < 0.5:
                await publish(held.pop(rng.randrange(len(held))))

        return mangled

    return around


@settings(max_examples=examples(25))
@given(
    st.sampled_from([name for name in SCENARIOS if name != CRASH]), st.integers(0, 2**32), st.sampled_from([0.1, 0.3])
)
def test_dropped_doubled_and_late_frames_change_nothing(name: str, seed: int, share: float) -> None:
    asyncio.run(_play(name, _mangler(seed, share), list_secs=0.3, step_secs=0.02))
