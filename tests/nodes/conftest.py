"""Fixtures: `node` is every real EVM node in turn; `embedded` is that one; `btcd` is Bitcoin's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.nodes.btcd import BtcdNode
from tests.nodes.harness import IN_TURN, AnvilNode, EmbeddedNode, GethNode, TestNode, running

MAKERS: dict[str, Callable[[Path], TestNode]] = {"embedded": EmbeddedNode, "anvil": AnvilNode, "geth": GethNode}


@pytest.fixture(params=IN_TURN)
async def node(request: pytest.FixtureRequest, tmp_path: Path, took_part: Any, missing: Any) -> AsyncIterator[TestNode]:
    """A running node with a fresh chain: once embedded, once anvil, once geth."""
    async for one in _running(request.param, tmp_path, took_part, missing):
        yield one


@pytest.fixture
async def embedded(tmp_path: Path, took_part: Any, missing: Any) -> AsyncIterator[TestNode]:
    """A running embedded chain, for what the others cannot do."""
    async for one in _running("embedded", tmp_path, took_part, missing):
        yield one


@pytest.fixture
async def btcd(tmp_path: Path, took_part: Any, missing: Any) -> AsyncIterator[BtcdNode]:
    """A running btcd with a fresh chain."""
    try:
        node = BtcdNode(tmp_path)
    except FileNotFoundError as error:
        missing(str(error))
    try:
        await node.start()
        took_part("Real nodes", node.name)
        yield node
    finally:
        await node.stop()


async def _running(name: str, folder: Path, took_part: Any, missing: Any) -> AsyncIterator[TestNode]:
    try:
        one = MAKERS[name](folder)
    except FileNotFoundError as error:
        missing(str(error))
    async with running(one):
        took_part("Real nodes", one.name)
        yield one
