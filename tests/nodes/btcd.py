"""btcd as a test node, on regtest. Blocks are made here and handed in, so that a test decides what is in each of them.

Everything is paid with outputs that anybody may spend (`OP_TRUE`), so that nothing has to be signed. A coinbase
can be spent a hundred blocks later; the first 130 blocks are made at the start.

Its quirk (0.26.2): with --regtest it deletes its chain at each start. So it is handed in again, and whoever watches
sees a node that was far behind for a moment. No mempool is kept over a restart.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from astrapayd.node_faults import NodeFault
from astrapayd_bitcoin.address import script_of
from astrapayd_bitcoin.btcd import BtcdConnection
from astrapayd_bitcoin.networks import REGTEST
from astrapayd_bitcoin.rpc import Credentials
from tests.nodes.protocol import ROOT
from tests.plugins.bitcoin.raw_bytes import Tx, block_hash, header, varint
from tests.plugins.bitcoin.standin import StoredBlock

USER, PASSWORD = "alice", "p@ss:w/ord"
_ANYBODY = b"\x51"
_COIN_SATS = 100_000_000
_FEE_SATS = 10_000
_MATURE = 100
_START_BLOCKS = 130
_START_SECS = 20
_TARGET = 0x7FFFFF << 8 * 29


class BtcdNode:
    """One btcd with its chain. Blocks are known by hash, transactions by id."""

    def __init__(self, folder: Path) -> None:
        """:raises FileNotFoundError: if btcd was not fetched."""
        self._binary = ROOT / "build" / "nodes" / "bin" / "btcd"
        if not self._binary.exists():
            raise FileNotFoundError("btcd: run tests/nodes/fetch.sh")
        self.name = "btcd 0.26.2"
        self._folder = folder
        self._port, self._peer_port = _free_port(), _free_port()
        self.url = f"wss://127.0.0.1:{self._port}"
        self.certificate = folder / "rpc.cert"
        self._process: asyncio.subprocess.Process | None = None
        self.rpc = BtcdConnection(self.url, Credentials(USER, PASSWORD), self.certificate)
        self.tip = StoredBlock(0, REGTEST.genesis, "", 0)
        self.blocks = {self.tip.hash: self.tip}
        self.block_txs: dict[str, list[Tx]] = {self.tip.hash: []}
        self.txs: dict[str, Tx] = {}
        self.waiting: list[Tx] = []
        self._spent: set[str] = set()
        self._made = 0
        self._coinbases: list[tuple[StoredBlock, str]] = []

    async def start(self, *, with_blocks: bool = True) -> None:
        """Start, or start again with the chain as it was; ``with_blocks``: make the first ones."""
        (self._folder / "btcd.conf").touch()
        self._process = await asyncio.create_subprocess_exec(
            self._binary,
            "--regtest",
            f"--configfile={self._folder / 'btcd.conf'}",
            f"--datadir={self._folder / 'data'}",
            f"--logdir={self._folder / 'logs'}",
            f"--rpcuser={USER}",
            f"--rpcpass={PASSWORD}",
            f"--rpclisten=127.0.0.1:{self._port}",
            f"--rpccert={self.certificate}",
            f"--rpckey={self._folder / 'rpc.key'}",
            f"--listen=127.0.0.1:{self._peer_port}",
            "--nodnsseed",
            "--relaynonstd",
            "--norelaypriority",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(_START_SECS):
            while True:
                try:
                    await self.rpc.call("getbestblockhash")
                    break
                except NodeFault:
                    await asyncio.sleep(0.05)
        if not self.tip.height:
            await self.mine(_START_BLOCKS if with_blocks else 0)
            return
        branch = [self.tip]
        while branch[-1].height > 1:
            branch.append(self.blocks[branch[-1].parent])
        for block in reversed(branch):
            await self._submit(block.raw)
        for tx in self.waiting:
            await self.rpc.call("sendrawtransaction", tx.raw.hex())

    async def stop(self) -> None:
        """Stop in an orderly way."""
        await self.rpc.close()
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            os.kill(process.pid, signal.SIGTERM)
            await process.wait()

    # Transactions

    def make(self, address: str, satoshis: int, *, replaces: Tx | None = None) -> Tx:
        """A payment out of a coinbase of its own, or of the one that another payment spends; not sent."""
        source = replaces.inputs[0][0] if replaces is not None else self._mature_coinbase()
        fee = _FEE_SATS * (10 if replaces is not None else 1)
        outputs = ((script_of(address, REGTEST), satoshis), (_ANYBODY, _COIN_SATS - satoshis - fee))
        tx = Tx(((source, 0),), outputs, segwit=False)
        self.txs[tx.txid] = tx
        return tx

    async def send(self, tx: Tx) -> str:
        """Into the mempool; its id."""
        await self.rpc.call("sendrawtransaction", tx.raw.hex())
        self.waiting = [other for other in self.waiting if not set(other.inputs) & set(tx.inputs)] + [tx]
        return tx.txid

    # Blocks

    async def mine(self, blocks: int = 1, *, extra: Sequence[Tx] = ()) -> None:
        """What waits, and what was never announced, into the first; then empty ones."""
        for number in range(blocks):
            txs = [] if number else [*self.waiting, *extra]
            made, raw = self._block(self.tip, txs)
            await self._submit(raw)
            self.tip = made
            self.waiting = [] if not number else self.waiting

    async def reorganise(self, depth: int, *branch: Sequence[Tx], by: BtcdNode | None = None) -> None:
        """Put a branch that is longer than ``depth`` in the place of so many blocks.

        :param by: another node, which is given the branch, and which this one then hears it from as a peer.
        """
        assert len(branch) > depth
        at = self.tip
        lost: list[Tx] = []
        for _ in range(depth):
            lost += self.block_txs[at.hash]
            at = self.blocks[at.parent]
        for txs in branch:
            at, raw = self._block(at, txs)
            await (by or self)._submit(raw)
        self.tip = at
        if by is not None:
            await self.rpc.call("addnode", f"127.0.0.1:{by._peer_port}", "onetry")
        mined = [tx for txs in branch for tx in txs]
        spent = {outpoint for tx in mined for outpoint in tx.inputs}
        self.waiting = [tx for tx in (*self.waiting, *lost) if not set(tx.inputs) & spent]

    async def copy_chain(self, other: BtcdNode) -> None:
        """Take over another node's blocks, as if they had always been peers."""
        branch = [other.tip]
        while branch[-1].height > self.tip.height + 1:
            branch.append(other.blocks[branch[-1].parent])
        for block in reversed(branch):
            await self._submit(block.raw)

    def depth_of(self, txid: str) -> int:
        """How deep a transaction is mined; 1 in the newest block."""
        at, depth = self.tip, 1
        while txid not in {tx.txid for tx in self.block_txs[at.hash]}:
            at, depth = self.blocks[at.parent], depth + 1
        return depth

    def _block(self, parent: StoredBlock, txs: Sequence[Tx]) -> tuple[StoredBlock, bytes]:
        self._made += 1
        height = parent.height + 1
        first = _coinbase(height, self._made)
        whole = [first, *txs]
        at = max(parent.time + 1, int(time.time()) - 3600 + height)
        txids = [tx.txid for tx in whole]
        nonce = 0
        while int(block_hash(header(parent.hash, at, txids, nonce)), 16) > _TARGET:
            nonce += 1
        raw = header(parent.hash, at, txids, nonce) + varint(len(whole)) + b"".join(tx.raw for tx in whole)
        made = StoredBlock(height, block_hash(raw), parent.hash, at, raw)
        self.blocks[made.hash], self.block_txs[made.hash] = made, list(txs)
        self._coinbases.append((made, first.txid))
        return made, raw

    async def _submit(self, raw: bytes) -> None:
        said = await self.rpc.call("submitblock", raw.hex())
        assert said is None, said

    def _mature_coinbase(self) -> str:
        for made, txid in self._coinbases:
            if made.height + _MATURE <= self.tip.height and txid not in self._spent:
                self._spent.add(txid)
                return txid
        raise AssertionError("no coinbase is left to spend")


def _coinbase(height: int, extra: int) -> Tx:
    """With its height in front, in the shortest form (BIP-34)."""
    if height <= 16:
        pushed = bytes((0x50 + height,))
    else:
        number = height.to_bytes(height.bit_length() // 8 + 1, "little")
        pushed = bytes((len(number),)) + number
    script_sig = pushed + b"\x04" + extra.to_bytes(4, "little")
    coin = Tx((("00" * 32, 0xFFFFFFFF),), ((_ANYBODY, _COIN_SATS),), segwit=False)
    return replace(coin, script_sig=script_sig)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
