"""``[chains.ID]`` with ``plugin = "evm"``."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from astrapayd.config import ChainSection
from astrapayd.secret import Secret

FINALIZED: Literal["finalized"] = "finalized"
"""Counts when the node itself calls the block final (proof of stake: about 13 minutes on Ethereum)."""


def _node_url(node: str | Secret) -> str | Secret:
    """Never repeats the URL: it may hold a key."""
    url = node.reveal() if isinstance(node, Secret) else node
    wanted = 'write the node\'s websocket, such as "ws://127.0.0.1:8546"'
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"is not a URL: {wanted}") from None
    if parts.scheme in {"http", "https"}:
        raise ValueError(f"is an HTTP address, but a node is followed over its websocket: {wanted}")
    if parts.scheme not in {"ws", "wss"}:
        raise ValueError(f"does not begin with ws:// or wss://: {wanted}")
    if not host or port == 0 or any(char.isspace() for char in url):
        raise ValueError(f"has no proper host and port: {wanted}")
    if parts.fragment or "#" in url:
        raise ValueError(f"has a # in it, which no websocket address may have: {wanted}")
    return node


def _genesis(text: str) -> str:
    lower = text.lower()
    if len(lower) != 66 or not lower.startswith("0x") or set(lower[2:]) - set("0123456789abcdef"):
        raise ValueError("is not a block's hash: write 0x and 64 hex digits, or leave it out")
    return lower


NodeUrl = Annotated[str | Secret, AfterValidator(_node_url)]
"""``ws://`` or ``wss://``, or where such a secret is kept: ``{ env = "NAME" }``."""
Blocks = Annotated[int, Field(ge=1, le=100_000)]


class EvmChainSection(ChainSection):
    """One EVM chain.

    ``chain_id`` is the number of EIP-155, asked of every node at each connect. ``nodes`` are tried in order.
    ``confirmations`` is when a payment counts, ``final`` when it can no longer be taken back: a depth in blocks (1 =
    mined) or "finalized". ``testnet``: its coins are worth nothing and no live store takes them (well-known
    testnets are known as such without it). ``genesis``: the hash of block 0, to tell chains apart that share an id;
    without it the first one seen by the process is held to. ``title``: what customers call the network.

    ``traces``: "auto" finds coin that contracts send on (Safe wallets, account abstraction, exchanges' batches) where
    the node offers traces; "off" spares the node the work. ``balances``: "auto" compares what
    addresses hold with what was seen to come, and tells of the difference; "off" does not.

    Limits, right for nearly everybody: ``max_message_mib`` for one answer (a full block's receipts are 5 to 30
    MiB), ``request_timeout_secs`` for one answer, ``poll_secs`` between looks at the head while no news comes by
    itself.
    """

    chain_id: Annotated[int, Field(ge=1, le=2**53 - 1)]
    nodes: Annotated[tuple[NodeUrl, ...], Field(min_length=1, max_length=16, repr=False)]
    confirmations: Blocks | Literal["finalized"] = FINALIZED
    final: Blocks | Literal["finalized"] = FINALIZED
    testnet: bool = False
    genesis: Annotated[str, AfterValidator(_genesis)] | None = None
    title: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    traces: Literal["auto", "off"] = "auto"
    balances: Literal["auto", "off"] = "auto"
    max_message_mib: Annotated[int, Field(ge=1, le=2048)] = 128
    request_timeout_secs: Annotated[float, Field(ge=1, le=600)] = 30
    poll_secs: Annotated[float, Field(ge=0.1, le=60)] = 4

    @property
    def node_urls(self) -> tuple[str, ...]:
        """The nodes' URLs, revealed; secrets."""
        return tuple(node.reveal() if isinstance(node, Secret) else node for node in self.nodes)

    @model_validator(mode="after")
    def _final_not_before_confirmed(self) -> Self:
        if isinstance(self.final, int) and (
            self.confirmations == FINALIZED or (isinstance(self.confirmations, int) and self.final < self.confirmations)
        ):
            wanted = (
                '"finalized"' if self.confirmations == FINALIZED else f'{self.confirmations} or more, or "finalized"'
            )
            raise ValueError(f"has final reached before confirmations: write final = {wanted}")
        if len(set(self.node_urls)) != len(self.nodes):
            raise ValueError("names the same node twice: write each once")
        return self
