"""What a real Bitcoin Core (31.99, regtest) said in eighteen scenarios, played back through the stand-in node.

A file of ``recordings/`` has one JSON object per line, in the order in which things happened: ``step`` (what the
scenario does, in words), ``topic``, ``body`` and ``seq`` (a ZeroMQ frame as it was received), ``info`` and ``mempool``
(what RPC said of them then), ``block``, ``header`` and ``tx`` (what RPC said of these, with raw transactions, and the
addresses and amounts that the node itself decoded), ``down`` (RPC did not answer).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.plugins.bitcoin.raw_bytes import varint
from tests.plugins.bitcoin.standin import NodeState, StandInNode, StoredBlock

FOLDER = Path(__file__).parent / "recordings"
SCENARIOS = sorted(path.stem for path in FOLDER.glob("*.jsonl"))
VECTORS = json.loads((Path(__file__).parent / "derivation.json").read_text())["networks"]["regtest"]

Frame = tuple[str, bytes, int]
Publish = Callable[[Frame], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Told:
    """A transaction as the node itself decoded it: (output index, address, satoshis)."""

    raw: bytes
    outputs: tuple[tuple[int, str, int], ...]


class Recording:
    """One scenario, and what is true at its end by the node's own word."""

    def __init__(self, name: str) -> None:
        lines = (FOLDER / f"{name}.jsonl").read_text().splitlines()
        self.events: list[dict[str, Any]] = [json.loads(line, parse_float=Decimal) for line in lines]
        self.blocks: dict[str, StoredBlock] = {}
        self.txs: dict[str, Told] = {}
        self.block_txs: dict[str, list[str]] = {}
        for told in self._of("header"):
            self.blocks[told["hash"]] = StoredBlock(
                told["height"], told["hash"], told.get("previousblockhash", ""), told["time"]
            )
        for told in self._of("block"):
            self._keep_block(told)
        for told in self._of("tx"):
            self.txs.setdefault(told["txid"], _told(told))

    def watched(self) -> frozenset[str]:
        """The addresses of the scenario's watch-only wallet, and those of its map."""
        wallet = {address for address, _ in VECTORS["p2wpkh"]["receive"]}
        return frozenset(wallet | {event["address"] for event in self.events if "address" in event})

    def final(self) -> tuple[str, frozenset[str]]:
        """Tip and mempool at the end."""
        tips = [event["info"]["best"] for event in self.events if "info" in event]
        pools = [event["mempool"] for event in self.events if "mempool" in event]
        return tips[-1], frozenset(pools[-1])

    def expected(self, start: str) -> dict[tuple[str, int], tuple[str, int, str]]:
        """By the node's own decoding: what the watched addresses got in blocks above ``start``, and in the mempool."""
        tip, pool = self.final()
        watched = self.watched()
        live: dict[tuple[str, int], tuple[str, int, str]] = {}
        at = self.blocks[tip]
        while at.hash != start:
            for txid in self.block_txs[at.hash]:
                live |= self._paid(txid, at.hash, watched)
            if at.parent not in self.blocks:
                break
            at = self.blocks[at.parent]
        for txid in pool:
            live |= self._paid(txid, "", watched)
        return live

    async def play(self, node: StandInNode, publish: Publish, step_secs: float | None) -> None:
        """Everything in its order; what RPC says changes with the frames, and with what it was recorded to say.

        :param step_secs: between steps, in place of the seconds that they had; None: until the watcher has understood.
        """
        state = node.state
        for event in self.events:
            if "step" in event:
                await (node.quiet() if step_secs is None else asyncio.sleep(step_secs))
            elif "topic" in event:
                frame = (event["topic"], bytes.fromhex(event["body"]), event["seq"])
                self._follow_frame(state, frame)
                await publish(frame)
            elif "info" in event:
                if event["info"]["best"] in self.blocks:
                    self._move_to(state, event["info"]["best"])
                state.syncing = event["info"]["syncing"]
                node.refusing = False
            elif "mempool" in event:
                state.mempool = {txid: self.txs[txid].raw for txid in event["mempool"] if txid in self.txs}
            elif event.get("down"):
                node.refusing = True

    def begin(self, state: NodeState) -> str:
        """The first tip; its hash."""
        state.blocks |= self.blocks
        first = next(event["info"]["best"] for event in self.events if "info" in event)
        state.tip = first
        return str(first)

    def _follow_frame(self, state: NodeState, frame: Frame) -> None:
        topic, body, _ = frame
        if topic != "sequence":
            return
        subject, what = body[:32].hex(), body[32:33]
        if what == b"C" and subject in self.blocks:
            self._move_to(state, subject)
        elif what == b"D" and subject in self.blocks and state.tip == subject:
            state.tip = self.blocks[subject].parent
        elif what == b"A" and subject in self.txs:
            state.mempool[subject] = self.txs[subject].raw
        elif what == b"R":
            state.mempool.pop(subject, None)

    def _move_to(self, state: NodeState, tip: str) -> None:
        state.tip = tip
        for txid in self.block_txs.get(tip, ()):
            state.mempool.pop(txid, None)

    def _paid(self, txid: str, block: str, watched: frozenset[str]) -> dict[tuple[str, int], tuple[str, int, str]]:
        return {
            (txid, n): (address, satoshis, block)
            for n, address, satoshis in self.txs[txid].outputs
            if address in watched and satoshis
        }

    def _keep_block(self, told: dict[str, Any]) -> None:
        raw = (
            told["version"].to_bytes(4, "little")
            + bytes.fromhex(told["previousblockhash"])[::-1]
            + bytes.fromhex(told["merkleroot"])[::-1]
            + told["time"].to_bytes(4, "little")
            + bytes.fromhex(told["bits"])[::-1]
            + told["nonce"].to_bytes(4, "little")
            + varint(len(told["tx"]))
            + b"".join(bytes.fromhex(tx["hex"]) for tx in told["tx"])
        )
        self.blocks[told["hash"]] = StoredBlock(
            told["height"], told["hash"], told["previousblockhash"], told["time"], raw
        )
        self.block_txs[told["hash"]] = [tx["txid"] for tx in told["tx"]]
        self.txs |= {tx["txid"]: _told(tx) for tx in told["tx"]}

    def _of(self, kind: str) -> Iterator[dict[str, Any]]:
        return (event[kind] for event in self.events if kind in event)


def _told(tx: dict[str, Any]) -> Told:
    outputs = tuple((n, address or "", int(Decimal(value) * 10**8)) for n, address, value in tx["vout"])
    return Told(bytes.fromhex(tx["hex"]), outputs)
