"""A regtest-like chain behind the stand-in node: pay, mine, replace, reorganise, restart, with a real one's frames.

Their order is that of the recordings: a mempool entry is ``rawtx`` then ``A``; a block is the ``rawtx`` of all its
transactions, ``C``, then ``hashblock``; a reorganisation first takes off every block (``rawtx``, then ``D``), and has
one ``hashblock`` at its end. Nothing is said of a payment that it has double-spent.
"""

from __future__ import annotations

from collections.abc import Sequence

from astrapayd_bitcoin.address import script_of
from astrapayd_bitcoin.networks import REGTEST
from tests.plugins.bitcoin.raw_bytes import Tx, block, block_hash, coinbase
from tests.plugins.bitcoin.standin import NodeState, StandInNode, StoredBlock

GENESIS_TIME = 1_800_000_000
START_HEIGHT = 10
MINER = script_of("bcrt1qkwgskuzmmwwvqajnyr7yp9hgvh5y45kg984qvy", REGTEST)


class Regtest:
    """Everything that happens on the chain. Transactions are by id; blocks by hash."""

    def __init__(self) -> None:
        self.state = NodeState()
        self.node = StandInNode(self.state)
        self.txs: dict[str, Tx] = {}
        self.block_txs: dict[str, list[Tx]] = {}
        self._mined = 0
        self._spent = 0
        self._tip = StoredBlock(0, REGTEST.genesis, "", GENESIS_TIME)
        self.state.blocks[self._tip.hash] = self._tip
        self.state.tip = self._tip.hash
        for _ in range(START_HEIGHT):
            self._connect(self._make(self._tip, ()))

    @property
    def tip(self) -> StoredBlock:
        return self._tip

    # Transactions

    def make(self, address: str, satoshis: int, *, spends: Sequence[tuple[str, int]] = ()) -> Tx:
        """A payment with change, of an outpoint of its own unless said otherwise; not sent."""
        self._spent += 1
        inputs = tuple(spends) or ((f"{self._spent:064x}", 0),)
        tx = Tx(inputs, ((script_of(address, REGTEST), satoshis), (MINER, 5_000_000)), lock_time=self._spent)
        self.txs[tx.txid] = tx
        return tx

    async def send(self, tx: Tx) -> str:
        """Into the mempool; what spends the same is replaced, with its descendants (``R`` first, then the new one)."""
        for txid in self._against([tx]):
            del self.state.mempool[txid]
            await self.node.publish("sequence", bytes.fromhex(txid) + b"R" + bytes(8))
        self.txs[tx.txid] = tx
        self.state.mempool[tx.txid] = tx.raw
        await self._announce_entry(tx)
        return tx.txid

    async def evict(self, txid: str) -> None:
        """Expired, or squeezed out by better ones: an ``R`` and nothing else."""
        del self.state.mempool[txid]
        await self.node.publish("sequence", bytes.fromhex(txid) + b"R" + bytes(8))

    # Blocks

    async def mine(self, blocks: int = 1, *, extra: Sequence[Tx] = (), empty: bool = False) -> None:
        """What waits, and transactions that were never announced, into the first; then empty ones."""
        for number in range(blocks):
            waiting = () if empty or number else (*(self.txs[txid] for txid in self.state.mempool), *extra)
            made = self._make(self._tip, waiting)
            self._connect(made)
            await self._announce_connected(made)
            await self.node.publish("hashblock", bytes.fromhex(made.hash))

    async def reorganise(self, depth: int, *branch: Sequence[Tx]) -> None:
        """Take ``depth`` blocks off, and put one for each element of ``branch`` in their place."""
        old = [self._tip]
        while len(old) < depth:
            old.append(self.state.blocks[old[-1].parent])
        fork = self.state.blocks[old[-1].parent]
        new = []
        at = fork
        for txs in branch:
            at = self._make(at, txs)
            new.append(at)
        in_new = {tx.txid for txs in branch for tx in txs}
        spent_in_new = {outpoint for txs in branch for tx in txs for outpoint in tx.inputs}
        back = [
            tx
            for gone in reversed(old)
            for tx in self.block_txs[gone.hash][1:]
            if tx.txid not in in_new and not spent_in_new & set(tx.inputs)
        ]
        self._tip, self.state.tip = fork, fork.hash
        for made in new:
            self._connect(made)
        for tx in back:
            self.state.mempool[tx.txid] = tx.raw
        # A node says all this when it is over: frames tell of the past.
        for gone in old:
            for tx in self.block_txs[gone.hash]:
                await self.node.publish("rawtx", tx.raw)
            await self.node.publish("sequence", bytes.fromhex(gone.hash) + b"D")
        for tx in back:
            await self._announce_entry(tx)
        for made in new:
            await self._announce_connected(made)
        await self.node.publish("hashblock", bytes.fromhex(self._tip.hash))

    def block_of(self, txid: str) -> StoredBlock:
        """Where a transaction stands on the winning branch."""
        at = self._tip
        while txid not in {tx.txid for tx in self.block_txs[at.hash]}:
            at = self.state.blocks[at.parent]
        return at

    async def restart(self) -> None:
        """Orderly: the mempool is saved, and announced anew."""
        await self.node.stop()
        await self.node.start()
        for txid in self.state.mempool:
            await self._announce_entry(self.txs[txid])

    def _make(self, parent: StoredBlock, txs: Sequence[Tx]) -> StoredBlock:
        self._mined += 1
        height = parent.height + 1
        whole = [coinbase(height, self._mined), *txs]
        raw = block(parent.hash, parent.time + 600, whole)
        made = StoredBlock(height, block_hash(raw), parent.hash, parent.time + 600, raw)
        self.block_txs[made.hash] = whole
        self.state.blocks[made.hash] = made
        return made

    def _connect(self, made: StoredBlock) -> None:
        self._tip, self.state.tip = made, made.hash
        txs = self.block_txs[made.hash]
        for tx in txs:
            self.state.mempool.pop(tx.txid, None)
        for txid in self._against(txs):
            del self.state.mempool[txid]

    def _against(self, txs: Sequence[Tx]) -> list[str]:
        """Of the mempool, what cannot be mined beside these: conflicts, and what spends those."""
        spent = {outpoint for tx in txs for outpoint in tx.inputs}
        out: list[str] = []
        for txid in self.state.mempool:
            tx = self.txs[txid]
            if spent & set(tx.inputs) or {parent for parent, _ in tx.inputs} & set(out):
                out.append(txid)
        return [txid for txid in out if txid not in {tx.txid for tx in txs}]

    async def _announce_entry(self, tx: Tx) -> None:
        await self.node.publish("rawtx", tx.raw)
        await self.node.publish("sequence", bytes.fromhex(tx.txid) + b"A" + bytes(8))

    async def _announce_connected(self, made: StoredBlock) -> None:
        for tx in self.block_txs[made.hash]:
            await self.node.publish("rawtx", tx.raw)
        await self.node.publish("sequence", bytes.fromhex(made.hash) + b"C")
