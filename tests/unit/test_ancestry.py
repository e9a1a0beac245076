"""Where a node's chain parts from ours, and what it takes to give up a block."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrapayd.ancestry import Branch, OffBranch
from astrapayd.node_faults import NodeBehind, ShiftingView
from astrapayd.transfers import BlockRef


def chain(names: str, start: int = 100, parent: str = "root") -> list[BlockRef]:
    """Blocks from the oldest to the newest, one a letter."""
    blocks = []
    for height, name in enumerate(names, start):
        blocks.append(BlockRef(height, name, parent, height * 12))
        parent = name
    return blocks


def node(blocks: list[BlockRef]):  # type: ignore[no-untyped-def]
    by_height = {block.height: block for block in blocks}

    async def block_at(height: int) -> BlockRef | None:
        return by_height.get(height)

    return block_at


async def test_chain_that_went_on_has_our_tip_as_ancestor() -> None:
    ours, theirs = chain("abc"), chain("abcdef")
    assert await Branch(ours[::-1]).common_ancestor(theirs[-1], node(theirs)) == ours[-1]


async def test_competing_branch_parts_where_it_parts() -> None:
    ours, theirs = chain("abcd"), chain("abXYZ")
    branch = Branch(ours[::-1])
    ancestor = await branch.common_ancestor(theirs[-1], node(theirs))
    assert ancestor == ours[1]
    assert [b.hash for b in branch.above(ancestor)] == ["d", "c"]


async def test_branch_of_equal_length_competes() -> None:
    ours, theirs = chain("abcd"), chain("abXY")
    assert (await Branch(ours[::-1]).common_ancestor(theirs[-1], node(theirs))).hash == "b"


@pytest.mark.parametrize("theirs", ["abc", "abX", "a", "XYZ"])
async def test_node_below_our_tip_is_behind_whatever_its_branch(theirs: str) -> None:
    blocks = chain(theirs)
    with pytest.raises(NodeBehind):
        await Branch(chain("abcd")[::-1]).common_ancestor(blocks[-1], node(blocks))


async def test_chain_that_parts_right_below_everything_kept_replaces_it_all() -> None:
    ours, theirs = chain("ab"), chain("XYZ")
    branch = Branch(ours[::-1])
    ancestor = await branch.common_ancestor(theirs[-1], node(theirs))
    assert (ancestor.height, ancestor.hash) == (99, "root")
    assert [b.hash for b in branch.above(ancestor)] == ["b", "a"]


async def test_chain_without_any_of_our_blocks_is_another() -> None:
    theirs = chain("UVWXYZ", parent="elsewhere")
    with pytest.raises(OffBranch):
        await Branch(chain("abcd")[::-1]).common_ancestor(theirs[-1], node(theirs))


async def test_chain_that_changes_while_it_is_asked_is_asked_again() -> None:
    theirs = chain("abXYZ")
    with pytest.raises(ShiftingView):
        await Branch(chain("abcd")[::-1]).common_ancestor(theirs[-1], node(theirs[:2]))


@given(st.integers(0, 8), st.integers(1, 8), st.integers(90, 130))
def test_move_keeps_one_linked_branch_and_an_anchor(disconnected: int, connected: int, final_height: int) -> None:
    ours = chain("abcdefghi")
    branch = Branch(ours[::-1])
    kept = ours[: len(ours) - disconnected]
    added = chain("ABCDEFGH"[:connected], kept[-1].height + 1, kept[-1].hash)
    branch.move(disconnected, added, final_height)
    assert branch.tip == added[-1]
    blocks = branch.above(BlockRef(0, "", "", 0))[::-1]
    assert all(child.parent == parent.hash for parent, child in pairwise(blocks))
    assert blocks[0].height == max(100, min(final_height, added[-1].height))
