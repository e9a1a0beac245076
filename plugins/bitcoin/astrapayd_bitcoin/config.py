"""``[chains.ID]`` with ``plugin = "bitcoin"``."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from astrapayd.config import ChainSection, Section
from astrapayd.secret import Secret


def _node_url(url: str) -> str:
    wanted = 'write "http://127.0.0.1:8332" for Bitcoin Core or "wss://127.0.0.1:8334" for btcd'
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"is not a URL: {wanted}") from None
    if "@" in parts.netloc:
        raise ValueError("has a user or password in it: write them as user and password beside it")
    if parts.scheme not in {"http", "ws", "wss"}:
        raise ValueError(f"does not begin with http:// (Bitcoin Core) or wss:// (btcd): {wanted}")
    if not host or not port or any(char.isspace() for char in url):
        raise ValueError(f"has no proper host and port: {wanted}")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(f"has something behind the port, but no wallet is used: {wanted}")
    return url.rstrip("/")


def _endpoint(text: str) -> str:
    wanted = 'write what follows -zmqpubrawtx= in the node\'s options, such as "tcp://127.0.0.1:28332"'
    scheme, _, place = text.partition("://")
    if scheme not in {"tcp", "ipc"} or not place or any(char.isspace() for char in text):
        raise ValueError(f"is no address of ZeroMQ: {wanted}")
    if scheme == "tcp":
        host, _, port = place.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port[:6]) < 65536:
            raise ValueError(f"has no proper host and port: {wanted}")
    return text


def _genesis(text: str) -> str:
    lower = text.lower()
    if len(lower) != 64 or set(lower) - set("0123456789abcdef"):
        raise ValueError("is not a block's hash: write 64 hex digits, or leave it out")
    return lower


class NodeSection(Section):
    """``[[chains.ID.nodes]]``: one node, Bitcoin Core or btcd.

    ``url`` is Bitcoin Core's RPC (``http://``) or btcd's websocket (``wss://``). It is asked either with ``user`` and
    ``password``, or, Bitcoin Core only, with the ``cookie_file`` that it writes at each start. ``zmq`` are the
    addresses that Bitcoin Core publishes ``rawtx``, ``sequence`` and ``hashblock`` at, usually one for all.
    ``certificate`` is btcd's ``rpc.cert``.
    """

    url: Annotated[str, AfterValidator(_node_url)]
    user: Annotated[str, Field(min_length=1, pattern="^[^:]*$")] | None = None
    password: Secret | None = None
    cookie_file: Annotated[str, Field(pattern="^/")] | None = None
    zmq: Annotated[tuple[Annotated[str, AfterValidator(_endpoint)], ...], Field(max_length=3)] = ()
    certificate: Annotated[str, Field(pattern="^/")] | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.cookie_file is not None and (self.user is not None or self.password is not None):
            raise ValueError("has a cookie_file beside user or password: write one or the other")
        if self.cookie_file is None and (self.user is None or self.password is None):
            raise ValueError("does not say how to log in: write user and password, or cookie_file")
        return self

    @model_validator(mode="after")
    def _what_its_kind_has(self) -> Self:
        if self.url.startswith("http"):
            if not self.zmq:
                raise ValueError('has no zmq, by which payments are seen: write zmq = ["tcp://127.0.0.1:28332"]')
            if self.certificate is not None:
                raise ValueError("has a certificate, but Bitcoin Core speaks no TLS: leave it out")
        elif self.zmq or self.cookie_file is not None:
            raise ValueError("has zmq or a cookie_file, but btcd has neither: write user and password only")
        return self


class BitcoinChainSection(ChainSection):
    """Bitcoin, or one of its test networks.

    ``network`` is compared with every node. ``nodes`` are asked in order. ``confirmations`` is when a payment counts,
    ``final`` when it can no longer be taken back: depths in blocks, 1 = mined. ``xpub_addresses`` is what the addresses
    of a bare xpub (or tpub) look like; zpub, ypub and descriptors say that themselves. ``genesis``: the hash of block
    0, for a signet of one's own. ``title``: what customers call the network.

    Limits, right for nearly everybody: ``request_timeout_secs`` for one answer, ``poll_secs`` between looks at the tip
    while no news comes by itself.
    """

    network: Literal["mainnet", "testnet", "testnet4", "signet", "regtest"] = "mainnet"
    nodes: Annotated[tuple[NodeSection, ...], Field(min_length=1, max_length=16)]
    confirmations: Annotated[int, Field(ge=1, le=1000)] = 2
    final: Annotated[int, Field(ge=1, le=100_000)] = 100
    xpub_addresses: Literal["p2wpkh", "p2tr", "p2sh-p2wpkh", "p2pkh"] = "p2wpkh"
    genesis: Annotated[str, AfterValidator(_genesis)] | None = None
    title: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    request_timeout_secs: Annotated[float, Field(ge=1, le=600)] = 30
    poll_secs: Annotated[float, Field(ge=0.1, le=60)] = 5

    @model_validator(mode="after")
    def _final_not_before_confirmed(self) -> Self:
        if self.final < self.confirmations:
            raise ValueError(f"has final reached before confirmations: write final = {self.confirmations} or more")
        if len({node.url for node in self.nodes}) != len(self.nodes):
            raise ValueError("names the same node twice: write each once")
        return self
