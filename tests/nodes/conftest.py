"""Fixtures: `node` is every real node in turn; `embedded` and `anvil` are one of them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.nodes.geth import GethNode
from tests.nodes.harness import AnvilNode, EmbeddedNode, TestNode, running

MAKERS: dict[str, Callable[[Path], TestNode]] = {"embedded": EmbeddedNode, "anvil": AnvilNode, "geth": GethNode}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`node` is the embedded chain and anvil, and geth in the modules that say GETH_TOO: it mines what comes by itself,
    so that what is about the harness' own mining makes no sense there."""
    if "node" in metafunc.fixturenames:
        wanted = os.environ.get("ASTRAPAYD_GETH") == "1"  # not yet steady enough for every run: docs/dev/status.md
        geth = ["geth"] if wanted and getattr(metafunc.module, "GETH_TOO", False) else []
        metafunc.parametrize("node", ["embedded", "anvil", *geth], indirect=True)


@pytest.fixture
async def node(request: pytest.FixtureRequest, tmp_path: Path, took_part: Any, missing: Any) -> AsyncIterator[TestNode]:
    """A running node with a fresh chain: once embedded, once anvil."""
    async for one in _running(request.param, tmp_path, took_part, missing):
        yield one


@pytest.fixture
async def embedded(tmp_path: Path, took_part: Any, missing: Any) -> AsyncIterator[TestNode]:
    """A running embedded chain, for what anvil cannot do."""
    async for one in _running("embedded", tmp_path, took_part, missing):
        yield one


async def _running(name: str, folder: Path, took_part: Any, missing: Any) -> AsyncIterator[TestNode]:
    try:
        one = MAKERS[name](folder)
    except FileNotFoundError as error:
        missing(str(error))
    async with running(one):
        took_part("Real nodes", one.name)
        yield one
