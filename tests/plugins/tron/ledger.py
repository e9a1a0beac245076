"""A chain like Tron's in memory: transactions wait, blocks are mined and reorganised by hand. Addresses base58."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from astrapayd_tron.address import from_hex20
from tests.plugins.tron import tron_blocks

GENESIS = tron_blocks.block_id(0, "private")
START_HEIGHT = 30
USDT = tron_blocks.USDT
CUSTOMER, STRANGER = from_hex20("c1" * 20), from_hex20("c2" * 20)


@dataclass(frozen=True, slots=True)
class Pending:
    """A transaction and its info but for the block's height and time. ``pays``: (contract or None, recipient, amount)
    of what it moves if it succeeds."""

    transaction: dict[str, Any]
    info: dict[str, Any]
    pays: tuple[tuple[str | None, str, int], ...] = ()

    @property
    def tx(self) -> str:
        return str(self.transaction["txID"])


@dataclass(frozen=True, slots=True)
class Block:
    """A block with what is in it."""

    height: int
    hash: str
    parent: str
    time_ms: int
    content: tuple[Pending, ...] = field(repr=False)

    @property
    def transactions(self) -> list[dict[str, Any]]:
        return [pending.transaction for pending in self.content]

    @property
    def infos(self) -> list[dict[str, Any]]:
        """For each transaction, as ``gettransactioninfobyblocknum`` has them."""
        place = {"blockNumber": self.height, "blockTimeStamp": self.time_ms}
        return [pending.info | place for pending in self.content]

    def as_json(self) -> dict[str, Any]:
        """As ``getblockbynum`` has it."""
        made = tron_blocks.block(self.transactions, self.height, self.time_ms)
        made["blockID"] = self.hash
        made["block_header"]["raw_data"]["parentHash"] = self.parent
        return made


class Ledger:
    """Everything that happens on the chain. ``tokens``: decimals by contract."""

    def __init__(self, blocks: int = START_HEIGHT) -> None:
        self.tokens = {USDT: 6}
        self.waiting: list[Pending] = []
        self.now_ms = lambda: int(time.time() * 1000)
        self._mined = itertools.count(1)
        self._numbers = itertools.count(1)
        genesis = Block(0, GENESIS, "00" * 32, 0, ())
        self.blocks: dict[str, Block] = {genesis.hash: genesis}
        self._chain = [genesis]
        for _ in range(blocks):
            self._connect(())

    @property
    def tip(self) -> Block:
        return self._chain[-1]

    def at(self, height: int) -> Block:
        """The block of the winning branch at a height."""
        return self._chain[height]

    def block_of(self, tx: str) -> Block | None:
        """Where a transaction stands on the winning branch."""
        return next((b for b in reversed(self._chain) for p in b.content if p.tx == tx), None)

    # Transactions

    def trx(self, to: str, amount_sun: int, result: str | None = "SUCCESS") -> Pending:
        tx = self._txid()
        pays = ((None, to, amount_sun),) if result == "SUCCESS" else ()
        return Pending(tron_blocks.trx(tx, CUSTOMER, to, amount_sun, result), tron_blocks.info(tx), pays)

    def token(
        self, payments: Sequence[tuple[str, int]], contract: str = USDT, result: str = "SUCCESS", sender: str = CUSTOMER
    ) -> Pending:
        """One call that moves a token, with a log for each payment; a failed one keeps its logs, as no node does."""
        tx = self._txid()
        logs = [tron_blocks.transfer_log(contract, sender, to, amount) for to, amount in payments]
        pays = tuple((contract, to, amount) for to, amount in payments) if result == "SUCCESS" else ()
        call = tron_blocks.call(tx, sender, contract, result)
        return Pending(call, tron_blocks.info(tx, result=result, log=logs), pays)

    def contract_payer(self, to: str, amount_sun: int, *, rejected: bool = False) -> Pending:
        """A call in which a contract (a shared wallet) sends TRX on."""
        tx = self._txid()
        inner = tron_blocks.internal(STRANGER, to, amount_sun, rejected=rejected)
        call = tron_blocks.call(tx, CUSTOMER, STRANGER)
        pays = () if rejected else ((None, to, amount_sun),)
        return Pending(call, tron_blocks.info(tx, result="SUCCESS", internal=[inner]), pays)

    def trx_and_token(self, to: str, amount_sun: int, amount_base: int) -> Pending:
        """A contract that sends TRX and a token on, in one call."""
        both = self.contract_payer(to, amount_sun)
        log = [tron_blocks.transfer_log(USDT, STRANGER, to, amount_base)]
        return Pending(both.transaction, both.info | {"log": log}, (*both.pays, (USDT, to, amount_base)))

    def posing(self, kind: str, to: str, amount: int) -> Pending:
        """TRC-10, delegated or frozen coin: amounts that are no TRX."""
        tx = self._txid()
        ours, theirs = ("41" + tron_blocks.to_hex20(one) for one in (CUSTOMER, to))
        value: dict[str, Any] = {
            "TransferAssetContract": {"asset_name": "747278", "to_address": theirs, "amount": amount},
            "DelegateResourceContract": {"resource": "ENERGY", "receiver_address": theirs, "balance": amount},
            "FreezeBalanceV2Contract": {"resource": "ENERGY", "frozen_balance": amount, "receiver_address": theirs},
        }[kind]
        return Pending(tron_blocks.transaction(tx, kind, value | {"owner_address": ours}), tron_blocks.info(tx))

    # Blocks

    def mine(self, blocks: int = 1) -> list[Block]:
        """What waits goes into the first; then empty ones."""
        made = []
        for _ in range(blocks):
            content, self.waiting = tuple(self.waiting), []
            made.append(self._connect(content))
        return made

    def reorganise(self, depth: int, *branch: Sequence[Pending]) -> list[Block]:
        """Take ``depth`` blocks off, and put one for each element of ``branch`` in their place."""
        del self._chain[-depth:]
        return [self._connect(tuple(content)) for content in branch]

    def coin_of(self, address: str, top: int) -> int:
        return self._came(None, address, top)

    def token_of(self, contract: str, address: str, top: int) -> int:
        return self._came(contract, address, top)

    def _came(self, contract: str | None, address: str, top: int) -> int:
        return sum(
            amount
            for block in self._chain[: top + 1]
            for pending in block.content
            for paid_in, to, amount in pending.pays
            if (paid_in, to) == (contract, address)
        )

    def _connect(self, content: tuple[Pending, ...]) -> Block:
        below = self._chain[-1]
        height = below.height + 1
        made_hash = f"{height:016x}" + hashlib.sha256(f"block {next(self._mined)}".encode()).hexdigest()[16:]
        made = Block(height, made_hash, below.hash, self.now_ms(), content)
        self.blocks[made.hash] = made
        self._chain.append(made)
        return made

    def _txid(self) -> str:
        return tron_blocks.txid(1_000_000 + next(self._numbers))
