"""The transaction pool: what has been sent and is not mined yet. Rules and wording follow geth's `core/txpool`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .blocks import SignedTransaction


class TransactionRefused(Exception):
    """The pool does not take the transaction; the text is geth's."""


class TransactionPool:
    """Several transactions per sender, ready in nonce order; the same nonce again replaces at fees a tenth higher."""

    def __init__(self) -> None:
        self._by_hash: dict[bytes, SignedTransaction] = {}  # in order of arrival
        self._by_nonce: dict[tuple[bytes, int], bytes] = {}

    def __len__(self) -> int:
        return len(self._by_hash)

    def __iter__(self) -> Iterator[SignedTransaction]:
        return iter(self._by_hash.values())

    def get(self, transaction_hash: bytes) -> SignedTransaction | None:
        """The waiting transaction, or None."""
        return self._by_hash.get(transaction_hash)

    def add(self, transaction: SignedTransaction, nonce: int, balance_wei: int) -> None:
        """Take a transaction whose sender has `nonce` and `balance_wei` on chain. Raises TransactionRefused."""
        if transaction.hash in self._by_hash:
            raise TransactionRefused("already known")
        if transaction.nonce < nonce:
            raise TransactionRefused(f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}")
        if transaction.gas < transaction.intrinsic_gas:
            raise TransactionRefused(
                f"intrinsic gas too low: gas {transaction.gas}, minimum needed {transaction.intrinsic_gas}"
            )
        cost = transaction.value + transaction.gas * transaction.max_fee_per_gas
        if cost > balance_wei:
            raise TransactionRefused(
                f"insufficient funds for gas * price + value: balance {balance_wei}, tx cost {cost},"
                f" overshot {cost - balance_wei}"
            )
        key = (transaction.sender, transaction.nonce)
        if (old_hash := self._by_nonce.get(key)) is not None:
            old = self._by_hash[old_hash]
            if (
                transaction.max_fee_per_gas * 10 < old.max_fee_per_gas * 11
                or transaction.max_priority_fee_per_gas * 10 < old.max_priority_fee_per_gas * 11
            ):
                raise TransactionRefused("replacement transaction underpriced")
            del self._by_hash[old_hash]
        self._by_hash[transaction.hash] = transaction
        self._by_nonce[key] = transaction.hash

    def put_back(self, transaction: SignedTransaction) -> None:
        """Return a transaction of an abandoned branch, unless its nonce is already taken by another one."""
        key = (transaction.sender, transaction.nonce)
        if key not in self._by_nonce:
            self._by_hash[transaction.hash] = transaction
            self._by_nonce[key] = transaction.hash

    def remove(self, transaction_hash: bytes) -> None:
        """Forget a transaction; nothing happens when it is not there."""
        if (transaction := self._by_hash.pop(transaction_hash, None)) is not None:
            del self._by_nonce[(transaction.sender, transaction.nonce)]

    def ready(self, base_fee: int, nonce_of: Callable[[bytes], int]) -> list[SignedTransaction]:
        """Those that can be mined now: no nonce gap, fee cap not below `base_fee`; first come, first served."""
        chosen: list[SignedTransaction] = []
        next_nonce: dict[bytes, int] = {}
        waiting = [transaction for transaction in self if transaction.max_fee_per_gas >= base_fee]
        progress = True
        while progress:  # again, because a later nonce may have arrived before an earlier one
            progress, still_waiting = False, []
            for transaction in waiting:
                sender = transaction.sender
                if sender not in next_nonce:
                    next_nonce[sender] = nonce_of(sender)
                if transaction.nonce == next_nonce[sender]:
                    chosen.append(transaction)
                    next_nonce[sender] += 1
                    progress = True
                else:
                    still_waiting.append(transaction)
            waiting = still_waiting
        return chosen

    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """The sender's next free nonce, `nonce` being the next on chain (eth_getTransactionCount of `pending`)."""
        while (sender, nonce) in self._by_nonce:
            nonce += 1
        return nonce

    def forget_below(self, sender: bytes, nonce: int) -> None:
        """Drop what can never be mined because the sender's nonce on chain is already `nonce`."""
        for key in [key for key in self._by_nonce if key[0] == sender and key[1] < nonce]:
            self._by_hash.pop(self._by_nonce.pop(key), None)
