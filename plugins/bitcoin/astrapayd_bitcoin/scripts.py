"""The output scripts of the watched addresses, kept up with the watched set."""

from __future__ import annotations

from astrapayd.transfers import BlockRef, Transfer, TransferKind, Watched
from astrapayd_bitcoin.address import script_of
from astrapayd_bitcoin.blocks import Payment
from astrapayd_bitcoin.networks import Network


class Scripts:
    """``by_script`` maps an output script to its watched address; :meth:`follow` brings it to a version of the set.

    Only what was added or taken away is computed, since a set may hold 100,000 addresses.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self.addresses: frozenset[str] = frozenset()
        self.by_script: dict[bytes, str] = {}
        self.version = -1
        """The version of the set that they are of; -1: none yet."""

    def follow(self, watched: Watched) -> bool:
        """Whether anything has changed."""
        if watched.version == self.version:
            return False
        addresses = watched.addresses if watched.native else frozenset()
        for address in self.addresses - addresses:
            del self.by_script[script_of(address, self._network)]
        for address in addresses - self.addresses:
            self.by_script[script_of(address, self._network)] = address
        self.addresses, self.version = addresses, watched.version
        return True

    def transfers(self, payment: Payment, block: BlockRef | None) -> list[Transfer]:
        """A payment's outputs as transfers: the ordinal is the output's index. The sender is not told: the outputs that
        a transaction spends stand in other transactions, and it may have many."""
        return [
            Transfer(
                tx=payment.txid,
                kind=TransferKind.NATIVE,
                ordinal=index,
                contract=None,
                sender="",
                recipient=self.by_script[script],
                amount_base=satoshis,
                block=block,
            )
            for index, script, satoshis in payment.outputs
            if script in self.by_script
        ]
