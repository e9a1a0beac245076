"""``[chains.ID]`` with ``plugin = "tron"``."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from astrapayd.config import ChainSection, Section
from astrapayd_tron.networks import NETWORKS, of_genesis

SOLIDIFIED: Literal["solidified"] = "solidified"
"""Counts when the node itself calls the block solidified: 19 of the 27 producers have built on it, about a minute."""


def _url(text: str, wanted: str) -> str:
    """Never repeats the URL: a path of it may hold a key."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"is not a URL: {wanted}") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"does not begin with http:// or https://: {wanted}")
    if "@" in parts.netloc:
        raise ValueError(f"has a user or password in it, but java-tron knows none: {wanted}")
    if not host or port == 0 or any(char.isspace() for char in text):
        raise ValueError(f"has no proper host and port: {wanted}")
    if parts.path not in {"", "/"} or parts.query or "#" in text:
        raise ValueError(f"has something behind the port: {wanted}")
    return text.rstrip("/")


def _node_url(text: str) -> str:
    return _url(text, 'write the node\'s HTTP address, such as "http://127.0.0.1:8090"')


def _solidity_url(text: str) -> str:
    return _url(text, 'write the node\'s solidity HTTP address, such as "http://127.0.0.1:8091"')


def _endpoint(text: str) -> str:
    wanted = 'write where the node\'s native queue publishes, such as "tcp://127.0.0.1:5555", or leave it out'
    scheme, _, place = text.partition("://")
    host, _, port = place.rpartition(":")
    if scheme != "tcp" or any(char.isspace() for char in text):
        raise ValueError(f"is no address of ZeroMQ: {wanted}")
    if not host or host == "*" or not port.isdecimal() or not 0 < int(port[:6]) < 65536:
        raise ValueError(f"has no proper host and port: {wanted}")
    return text


def _genesis(text: str) -> str:
    lower = text.lower().removeprefix("0x")
    if len(lower) != 64 or set(lower) - set("0123456789abcdef"):
        raise ValueError("is not a block's id: write 64 hex digits, or leave it out")
    return lower


class NodeSection(Section):
    """``[[chains.ID.nodes]]``: one java-tron.

    ``url`` is its full node HTTP (port 8090), ``solidity`` its solidity HTTP (8091), which tells what is final.
    ``events`` is where its event queue publishes by ZeroMQ (5555); without it the node is asked every ``poll_secs``.
    """

    url: Annotated[str, AfterValidator(_node_url)]
    solidity: Annotated[str, AfterValidator(_solidity_url)]
    events: Annotated[str, AfterValidator(_endpoint)] | None = None

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        if self.url == self.solidity:
            raise ValueError("has the same url and solidity, but what is final stands at a port of its own (8091)")
        return self


class TronChainSection(ChainSection):
    """Tron, or one of its test networks.

    ``network`` is compared with every node. ``nodes`` are asked in order. ``confirmations`` is when a payment counts: a
    depth in blocks (1 = mined), or "solidified", after which it cannot be taken back. ``genesis``: the id of block 0,
    for a private network. ``title``: what customers call the network.

    ``uri``: "tron" gives a payment in TRX the form ``tron:ADDRESS?amount=``, which some wallets read and others
    refuse; "off" gives the bare address, which all read. Tokens always have the bare address.

    Limits, right for nearly everybody: ``request_timeout_secs`` for one answer, ``poll_secs`` between looks at the head
    while no news comes by itself.
    """

    network: Literal["mainnet", "nile", "shasta", "private"] = "mainnet"
    nodes: Annotated[tuple[NodeSection, ...], Field(min_length=1, max_length=16)]
    confirmations: Annotated[int, Field(ge=1, le=1000)] | Literal["solidified"] = SOLIDIFIED
    genesis: Annotated[str, AfterValidator(_genesis)] | None = None
    title: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    uri: Literal["off", "tron"] = "off"
    request_timeout_secs: Annotated[float, Field(ge=1, le=600)] = 30
    poll_secs: Annotated[float, Field(ge=0.1, le=60)] = 3

    @property
    def genesis_id(self) -> str:
        """The id of block 0, configured or known."""
        genesis = self.genesis or NETWORKS[self.network].genesis
        assert genesis is not None
        return genesis

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        known = NETWORKS[self.network].genesis
        if known is None and self.genesis is None:
            raise ValueError("is a private network without genesis: write the id of its block 0")
        if known is not None and self.genesis not in {None, known}:
            raise ValueError('has the genesis of another network: leave it out, or write network = "private"')
        public = of_genesis(self.genesis) if known is None and self.genesis is not None else None
        if public is not None:
            raise ValueError(f'has the genesis of {public.title}: write network = "{public.name}"')
        return self

    @model_validator(mode="after")
    def _each_node_once(self) -> Self:
        if len({node.url for node in self.nodes}) != len(self.nodes):
            raise ValueError("names the same node twice: write each once")
        return self
