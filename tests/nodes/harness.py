"""Real nodes for tests: each a process of its own, with the same accounts and MockUSDT at the same address.

Blocks are mined only when a test says so. A payment is sent by `pay_*` and is on chain after the next `mine`.
"""

from __future__ import annotations

from tests.nodes.anvil import AnvilNode
from tests.nodes.embedded import EmbeddedNode
from tests.nodes.geth import GethNode
from tests.nodes.protocol import CONTRACTS, CUSTOMER_BASE, ROOT, TestNode, running

__all__ = [
    "CONTRACTS",
    "CUSTOMER_BASE",
    "IN_TURN",
    "ROOT",
    "AnvilNode",
    "EmbeddedNode",
    "GethNode",
    "TestNode",
    "running",
]

IN_TURN = ["embedded", "anvil", "geth"]
"""The nodes that every test with a node is run on."""
