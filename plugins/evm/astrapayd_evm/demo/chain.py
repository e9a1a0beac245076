"""The demo chain: canonical blocks, a pool, mining, finality and staged reorgs. No I/O but the journal."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import token
from .accounts import ALL, CUSTOMERS, OWNER
from .blocks import Block, BranchChange, GenesisRecipe, SignedTransaction
from .evm import Evm
from .journal import Journal
from .pool import TransactionPool, TransactionRefused

DEFAULT_CHAIN_ID = 1337
"""The chain id that private test chains have used since geth's --dev; no public chain has it."""
DEFAULT_FINALITY_DEPTH = 6
_SUPPLY_BASE = 10**15  # a thousand million MockUSDT
_CUSTOMER_BASE = 10**12  # a million for each customer


class ReorgRefused(Exception):
    """The asked reorganisation is impossible: too deep, behind the finalized block, or the transaction is not there."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a mined transaction is: its block and its position in it."""

    block: Block
    index: int


class DemoChain:
    """One chain with MockUSDT on it.

    Blocks never carry a time ahead of `clock`; a burst shares one second. `listener` is told of every change of the
    canonical chain after it has happened. With `keep_side_branches` (geth's way) abandoned blocks are still found by
    their hash, without it (anvil's) they are unknown.
    """

    def __init__(
        self,
        chain_id: int = DEFAULT_CHAIN_ID,
        finality_depth: int = DEFAULT_FINALITY_DEPTH,
        state_file: Path | None = None,
        keep_side_branches: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        # A few seconds back, so that the blocks of the set-up do not all carry the same time.
        # Random, so that two chains started in the same second have different genesis blocks.
        genesis = GenesisRecipe(int(clock()) - 10, b"astrapayd demo " + secrets.token_hex(8).encode())
        self._journal = Journal(state_file, chain_id, genesis) if state_file else None
        if self._journal:
            genesis = self._journal.genesis
        self.evm = Evm(chain_id, genesis, [bytes.fromhex(account.address[2:]) for account in ALL])
        self.chain_id = chain_id
        self.pool = TransactionPool()
        self.listener: Callable[[BranchChange], None] = lambda change: None
        self._keep_side_branches = keep_side_branches
        self._canonical: list[Block] = [self.evm.genesis]
        self._by_hash: dict[bytes, Block] = {self.evm.genesis.hash: self.evm.genesis}
        self._located: dict[bytes, Location] = {}
        self._branch = 0
        self._finality_depth = finality_depth
        self._finalized = 0
        self._restore()
        if self.head.number == 0:
            self._deploy()
        self.usdt = self._usdt_address()

    # -- Looking

    @property
    def head(self) -> Block:
        """The latest block."""
        return self._canonical[-1]

    @property
    def genesis(self) -> Block:
        """Block 0."""
        return self._canonical[0]

    @property
    def finalized(self) -> Block:
        """`finality_depth` blocks behind the head; never moves back."""
        return self._canonical[self._finalized]

    @property
    def safe(self) -> Block:
        """Half-way between head and finalized."""
        return self._canonical[(self._finalized + self.head.number + 1) // 2]

    def block_at(self, number: int) -> Block | None:
        """The canonical block at that height, or None above the head."""
        return self._canonical[number] if 0 <= number < len(self._canonical) else None

    def block_by_hash(self, block_hash: bytes) -> Block | None:
        """Any executed block that the chain still remembers, canonical or not."""
        return self._by_hash.get(block_hash)

    def is_canonical(self, block: Block) -> bool:
        """Whether the block is part of the chain that ends in the head."""
        return self.block_at(block.number) is block

    def locate(self, transaction_hash: bytes) -> Location | None:
        """Where the transaction is mined on the canonical chain, or None."""
        return self._located.get(transaction_hash)

    def pending_nonce(self, sender: bytes) -> int:
        """The sender's next nonce, counting what waits in the pool."""
        return self.pool.next_nonce(sender, self.evm.nonce(self.head, sender))

    # -- Changing

    def send(self, raw: bytes) -> bytes:
        """Put a signed transaction (EIP-2718) into the pool; its hash. Raises ValueError or TransactionRefused."""
        transaction = self.evm.decode(raw)
        if transaction.hash in self._located:
            raise TransactionRefused("already known")
        sender = transaction.sender
        self.pool.add(transaction, self.evm.nonce(self.head, sender), self.evm.balance(self.head, sender))
        return bytes(transaction.hash)

    def mine(self) -> Block:
        """Make one block of what is ready in the pool."""
        base_fee = self.head.header.base_fee_per_gas
        ready = self.pool.ready(base_fee, lambda sender: self.evm.nonce(self.head, sender))
        block, _ = self.evm.execute(self.head, self._time_after(self.head), self._extra(), ready)
        self._adopt(self.head.number, [block])
        return block

    def set_finality_depth(self, depth: int) -> None:
        """Make `finalized` lag `depth` blocks from now on. It advances at once to there, and never moves back."""
        self._finality_depth = depth
        self._finalized = max(self._finalized, self.head.number - depth)

    def reorg(self, depth: int) -> BranchChange:
        """Replace the last `depth` blocks by `depth` + 1 others with the same transactions at the same heights."""
        return self._replace(depth, [list(block.transactions) for block in self._canonical[-depth:]] if depth else [])

    def reorg_away(self, transaction_hash: bytes, replacement: bytes) -> BranchChange:
        """Reorganise a transaction away for good: `replacement` (raw, same sender and nonce) is mined in its place.

        The abandoned transaction does not come back: its nonce is used. Raises ReorgRefused.
        """
        location, depth = self._mined(transaction_hash)
        old = location.block.transactions[location.index]
        new = self.evm.decode(replacement)
        if (new.sender, new.nonce) != (old.sender, old.nonce) or new.hash == old.hash:
            raise ReorgRefused("the replacement must be another transaction of the same sender with the same nonce")
        contents = [list(block.transactions) for block in self._canonical[-depth:]]
        contents[0][location.index] = new
        return self._replace(depth, contents)

    def reorg_move(self, transaction_hash: bytes, preceding: bytes) -> BranchChange:
        """Reorganise so that a transaction is mined again one block later, after `preceding` (raw, other sender).

        When `preceding` carries logs, the moved transaction's logs get other indices. Raises ReorgRefused.
        """
        location, depth = self._mined(transaction_hash)
        before = self.evm.decode(preceding)
        if before.sender == location.block.transactions[location.index].sender:
            raise ReorgRefused("the preceding transaction must come from another sender")
        contents = [list(block.transactions) for block in self._canonical[-depth:]] + [[]]
        moved = contents[0].pop(location.index)
        contents[1][:0] = [before, moved]
        return self._replace(depth, contents)

    def close(self) -> None:
        """Close the journal."""
        if self._journal:
            self._journal.close()

    # -- Inside

    def _mined(self, transaction_hash: bytes) -> tuple[Location, int]:
        location = self.locate(transaction_hash)
        if location is None:
            raise ReorgRefused("the transaction is not mined")
        return location, self.head.number - location.block.number + 1

    def _replace(self, depth: int, contents: Sequence[Sequence[SignedTransaction]]) -> BranchChange:
        """Steps: 1 check; 2 execute a branch one block longer; 3 make it canonical; 4 put left-overs into the pool.

        What is not valid at its place (a predecessor was moved or dropped) is tried again in the next block.
        """
        ancestor = self.head.number - depth
        if depth < 1 or ancestor < 0:
            raise ReorgRefused(f"a depth from 1 to {self.head.number} is possible")
        if ancestor < self._finalized:
            raise ReorgRefused(f"block {self._finalized} is finalized, the reorganisation would begin at {ancestor}")
        self._branch += 1
        old = self._canonical[ancestor + 1 :]
        branch: list[Block] = []
        parent, waiting = self._canonical[ancestor], ()
        for position in range(max(depth + 1, len(contents))):
            planned = contents[position] if position < len(contents) else ()
            # The old time where possible: a payment does not become late by being mined again.
            replaced = old[position] if position < depth else None
            timestamp = max(parent.timestamp, replaced.timestamp if replaced else self._time_after(parent))
            # The plan comes first: in a move the displacing transaction has to stay in front.
            block, waiting = self.evm.execute(parent, timestamp, self._extra(), [*planned, *waiting])
            branch.append(block)
            parent = block
        change = self._adopt(ancestor, branch)
        for block in change.removed:
            for transaction in block.transactions:
                self._put_back(transaction)
        for transaction in waiting:
            self._put_back(transaction)
        return change

    def _put_back(self, transaction: SignedTransaction) -> None:
        if transaction.hash not in self._located and transaction.nonce >= self.evm.nonce(self.head, transaction.sender):
            self.pool.put_back(transaction)

    def _adopt(self, ancestor: int, blocks: Sequence[Block], record: bool = True) -> BranchChange:
        """Make `blocks` the canonical ones above height `ancestor`."""
        removed = self._canonical[ancestor + 1 :]
        for block in removed:
            for transaction in block.transactions:
                del self._located[transaction.hash]
            if not self._keep_side_branches:
                del self._by_hash[block.hash]
        self._canonical[ancestor + 1 :] = blocks
        for block in blocks:
            self._by_hash[block.hash] = block
            for index, transaction in enumerate(block.transactions):
                self._located[transaction.hash] = Location(block, index)
                self.pool.remove(transaction.hash)
                self.pool.forget_below(transaction.sender, transaction.nonce + 1)
        self._finalized = max(self._finalized, self.head.number - self._finality_depth)
        if self._journal and record:
            self._journal.append(ancestor, blocks)
        change = BranchChange(tuple(removed), tuple(blocks))
        self.listener(change)
        return change

    def _restore(self) -> None:
        for step in self._journal.replay() if self._journal else ():
            if step.ancestor < self.head.number:
                self._branch += 1
            parent, blocks = self._canonical[step.ancestor], []
            for recipe in step.blocks:
                transactions = [self.evm.decode(raw) for raw in recipe.transactions]
                parent, left_out = self.evm.execute(parent, recipe.timestamp, recipe.extra, transactions)
                if left_out:
                    raise ValueError(f"the state file does not replay: block {parent.number} lost a transaction")
                blocks.append(parent)
            self._adopt(step.ancestor, blocks, record=False)

    def _deploy(self) -> None:
        """Block 1 creates MockUSDT, block 2 gives every customer some."""
        self.send(
            self.evm.sign_legacy(OWNER.private_key, 0, b"", token.creation_code(_SUPPLY_BASE), 2_000_000).encode()
        )
        self.mine()
        usdt = self._usdt_address()
        payments = [(customer.address, _CUSTOMER_BASE) for customer in CUSTOMERS]
        self.send(self.evm.sign_legacy(OWNER.private_key, 1, usdt, token.batch_transfer(payments), 500_000).encode())
        self.mine()

    def _usdt_address(self) -> bytes:
        address = self._canonical[1].receipts[0].contract_address
        assert address is not None
        return address

    def _time_after(self, parent: Block) -> int:
        # max(): the machine's clock may have been set back.
        return max(parent.timestamp, int(self._clock()))

    def _extra(self) -> bytes:
        """At most 32 bytes; makes competing blocks with the same content and second differ."""
        return b"astrapayd demo" + (f"/{self._branch}".encode() if self._branch else b"")
