"""A whole chain plugin in one file: the chain of pebbles, whose "node" is a JSON file that somebody rewrites.

The file holds the winning branch, oldest block first::

    {"blocks": [{"height": 0, "hash": "b0", "parent": "", "time": 1800000000,
                 "moves": [{"id": "m1", "from": "peb-ann", "to": "peb-shop", "pebbles": 25}]}]}
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

from astrapayd.chains import AddressError, ChainRegistry, Depth, TransactionError
from astrapayd.config import ChainSection, Config, ConfigRegistry
from astrapayd.hookspecs import hookimpl
from astrapayd.money import Asset
from astrapayd.transfers import (
    BlockRef,
    ChainUpdate,
    NodeStatus,
    Transfer,
    TransferKind,
    WatcherHealth,
    WatchSet,
)

LOOK_SECS = 0.1


# 1. The plugin's table in the configuration: `[chains.ID]` with `plugin = "pebble"`.
class PebbleSection(ChainSection):
    """``file`` is the node: the JSON file that holds the chain."""

    file: str


# 2. The hooks. Everything else is ordinary code.
@hookimpl
def astrapayd_register_config(registry: ConfigRegistry) -> None:
    registry.add_chain_section("pebble", PebbleSection)


@hookimpl
def astrapayd_register_chains(registry: ChainRegistry, config: Config) -> None:
    for chain_id, section in config.chains.items():
        if isinstance(section, PebbleSection):
            registry.add(PebbleChain(chain_id, Path(section.file), config))


# 3. The chain: address rules, assets and the watcher's factory. No I/O here.
class PebbleChain:
    title = "Pebbles"
    signs_messages = False
    token_standard = ""
    network = "pebble:1"
    confirmations = Depth(1, "1 block")
    final = Depth(10, "10 blocks")

    def __init__(self, chain_id: str, file: Path, config: Config) -> None:
        self.id = chain_id
        self._file = file
        self.assets: Mapping[str, Asset] = {
            key: Asset(
                key, chain_id, a.symbol, a.decimals, a.price_decimals, a.tail_digits, None, f"{self.network}/{key}"
            )
            for key, a in config.assets.items()
            if a.chain == chain_id
        }

    def parse_address(self, text: str) -> str:
        if not re.fullmatch(r"peb-[a-z]{2,20}", text):
            raise AddressError(f"{text!r} is no address for pebbles: write peb- and 2 to 20 letters")
        return text

    def parse_xpub(self, text: str) -> str:
        raise AddressError("is not possible: pebbles have no extended keys, list addresses instead")

    def derive(self, xpub: str, branch: int, index: int) -> str:
        raise NotImplementedError  # nothing is derived, since parse_xpub refuses every key

    def display_address(self, address: str) -> str:
        return address

    def parse_transaction(self, text: str) -> str:
        if not re.fullmatch(r"m[0-9]{1,20}", text):
            raise TransactionError("that is not the id of a move: it is m and a number")
        return text

    def payment_uri(self, asset: Asset, address: str, amount_base: int) -> str:
        return f"pebble:{address}?pebbles={amount_base}"

    def watcher(self) -> PebbleWatcher:
        return PebbleWatcher(self.id, self._file)


# 4. The watcher: looks at the node, and yields one update after the other.
class PebbleWatcher:
    def __init__(self, chain_id: str, file: Path) -> None:
        self._chain_id = chain_id
        self._file = file
        self.health = WatcherHealth(level=False, looked_at=0, problem="")

    async def check(self) -> tuple[NodeStatus, ...]:
        try:
            blocks = self._blocks()
        except (OSError, ValueError) as error:
            return (NodeStatus(self._file.name, reachable=False, problems=(f"cannot be read: {error}",)),)
        return (NodeStatus(self._file.name, True, "pebbles", _ref(blocks[0]).hash, _ref(blocks[-1])),)

    async def used(self, addresses: Sequence[str]) -> frozenset[str]:
        return frozenset()  # only asked of derived addresses, and pebbles have none

    async def signed_by(self, address: str, message: str, signature: str) -> bool:
        return False  # pebbles have no keys: the merchant decides about every claim

    async def updates(self, recent: Sequence[BlockRef], watch: WatchSet) -> AsyncGenerator[ChainUpdate]:
        ours = list(reversed(recent))  # oldest first
        while True:
            try:
                blocks = self._blocks()
            except (OSError, ValueError) as error:  # the node is away: wait, and say so
                self.health = WatcherHealth(False, self.health.looked_at, f"cannot be read: {error}")
                await asyncio.sleep(LOOK_SECS)
                continue
            step = self._step(ours, blocks, watch)
            if step is not None:
                yield step  # returns here once it is committed
                del ours[len(ours) - len(step.disconnected) :]
                ours += step.connected
                continue
            self.health = WatcherHealth(level=True, looked_at=int(time.time()), problem="")
            await asyncio.sleep(LOOK_SECS)

    async def close(self) -> None:
        """Nothing is held open."""

    def _step(self, ours: Sequence[BlockRef], blocks: Sequence[Any], watch: WatchSet) -> ChainUpdate | None:
        """What leads from our branch to the node's, or None where there is nothing new."""
        watched = watch.current
        head = _ref(blocks[-1])
        if ours and (head == ours[-1] or head.height < ours[-1].height):
            return None  # level; or the node is behind, which means wait
        theirs = {block["hash"] for block in blocks}
        disconnected = []
        while len(disconnected) < len(ours) and ours[-1 - len(disconnected)].hash not in theirs:
            disconnected.append(ours[-1 - len(disconnected)])
        if not ours:
            new = [blocks[-1]]  # a new chain begins at the head, and nothing before it was paid to us
        else:
            ancestor = ours[-1 - len(disconnected)]
            new = [block for block in blocks if block["height"] > ancestor.height]
        return ChainUpdate(
            chain=self._chain_id,
            base=ours[-1] if ours else None,
            head=head,
            final_height=-1,  # pebbles know no finality: the depths of the chain count
            disconnected=tuple(disconnected),
            connected=tuple(_ref(block) for block in new),
            transfers=tuple(
                Transfer(
                    tx=move["id"],
                    kind=TransferKind.NATIVE,
                    ordinal=0,
                    contract=None,
                    sender=move["from"],
                    recipient=move["to"],
                    amount_base=move["pebbles"],
                    block=_ref(block),
                )
                for block in new
                for move in block["moves"]
                if ours and move["to"] in watched.addresses
            ),
            replaced=(),
            watch_version=watched.version,
        )

    def _blocks(self) -> list[Any]:
        blocks: list[Any] = json.loads(self._file.read_text())["blocks"]
        return blocks


def _ref(block: Any) -> BlockRef:
    return BlockRef(block["height"], block["hash"], block["parent"], block["time"])
