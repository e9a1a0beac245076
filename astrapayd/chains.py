"""What a chain plugin gives to the core, and the registry that collects it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from astrapayd.config import Problem
from astrapayd.money import Asset
from astrapayd.transfers import Watcher


class AddressError(ValueError):
    """A text that is not an address of the chain. The message is one sentence for the person who wrote it."""


class TransactionError(ValueError):
    """A text that is not a transaction id of the chain. The message is one sentence for the customer who typed it."""


@dataclass(frozen=True, slots=True)
class Depth:
    """When a block counts: ``blocks`` deep (1 = mined), or, where None, when the node calls it final.

    ``label`` is how pages and CLI name it, such as ``finalized``.
    """

    blocks: int | None
    label: str

    @classmethod
    def of_blocks(cls, blocks: int) -> Depth:
        """A depth in blocks, with its label."""
        return cls(blocks, "1 block" if blocks == 1 else f"{blocks} blocks")

    def reached(self, height: int, head_height: int, final_height: int) -> bool:
        """Whether a block at ``height`` counts, seen from ``head_height`` with ``final_height`` final (-1: none)."""
        if self.blocks is None:
            return height <= final_height
        return head_height - height + 1 >= self.blocks


@dataclass(frozen=True, slots=True)
class Tier:
    """Sessions of at least ``from_base`` (base units) wait until their payments lie so deep."""

    from_base: int
    depth: Depth


class Chain(Protocol):
    """One configured chain: address rules, URIs, and a factory of watchers. No I/O but in the watcher."""

    @property
    def id(self) -> str:
        """The key under ``[chains]``."""
        ...

    @property
    def title(self) -> str:
        """What a customer calls the network, such as ``Ethereum``."""
        ...

    @property
    def token_standard(self) -> str:
        """What a customer calls tokens there, such as ``ERC-20``; empty where there are none."""
        ...

    @property
    def network(self) -> str:
        """CAIP-2 id, such as ``eip155:1``; written into the database and compared at each start."""
        ...

    @property
    def assets(self) -> Mapping[str, Asset]:
        """The chain's assets by id, with their CAIP-19 ids filled in."""
        ...

    @property
    def confirmations(self) -> Depth:
        """When a payment counts as confirmed."""
        ...

    @property
    def final(self) -> Depth:
        """When a payment can no longer be taken back."""
        ...

    def parse_address(self, text: str) -> str:
        """The canonical form of an address.

        :raises AddressError: with one sentence that says what is wrong.
        """
        ...

    def parse_xpub(self, text: str) -> str:
        """The canonical form of an account's extended public key.

        :raises AddressError: with one sentence; also where the chain has no such keys.
        """
        ...

    def derive(self, xpub: str, branch: int, index: int) -> str:
        """The canonical address at ``branch/index`` below an account's key (BIP-32, without hardening)."""
        ...

    def display_address(self, address: str) -> str:
        """The form that wallets show and people compare (EVM: EIP-55 checksum)."""
        ...

    @property
    def signs_messages(self) -> bool:
        """Whether wallets there can sign a text, and the watcher's ``signed_by`` can check it. Without, a customer's
        claim waits for the merchant."""
        ...

    def parse_transaction(self, text: str) -> str:
        """The canonical form of a transaction id, as :attr:`astrapayd.transfers.Transfer.tx` has it.

        :raises TransactionError: with one sentence that says what is wrong.
        """
        ...

    def payment_uri(self, asset: Asset, address: str, amount_base: int) -> str:
        """A URI that opens a wallet with everything filled in (ERC-681, BIP-21); empty where none is safe to offer."""
        ...

    def watcher(self) -> Watcher:
        """A new watcher; nothing is connected until it is used."""
        ...


class ChainRegistry:
    """Collects the chains that plugins register; given to ``astrapayd_register_chains``."""

    def __init__(self) -> None:
        self._chains: dict[str, Chain] = {}
        self._problems: list[Problem] = []

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What plugins found wrong in the configuration; the daemon reports all of it and does not start."""
        return tuple(self._problems)

    def problem(self, key: str, reason: str) -> None:
        """Say that the value at the dotted ``key`` cannot be used, in one sentence that says how to mend it."""
        self._problems.append(Problem(key, reason))

    def add(self, chain: Chain) -> None:
        """Register a chain under its id.

        :raises ValueError: if another plugin has registered that id.
        """
        if chain.id in self._chains:
            raise ValueError(f"chain {chain.id!r} is registered twice")
        self._chains[chain.id] = chain

    def __getitem__(self, chain_id: str) -> Chain:
        return self._chains[chain_id]

    def __contains__(self, chain_id: object) -> bool:
        return chain_id in self._chains

    def __iter__(self) -> Iterator[Chain]:
        return iter(self._chains.values())

    def __len__(self) -> int:
        return len(self._chains)

    def asset(self, asset_id: str) -> Asset:
        """The asset with that id.

        :raises KeyError: if no chain has it.
        """
        for chain in self._chains.values():
            if asset_id in chain.assets:
                return chain.assets[asset_id]
        raise KeyError(asset_id)

    def assets(self) -> tuple[Asset, ...]:
        """Every asset of every chain, in configured order."""
        return tuple(asset for chain in self._chains.values() for asset in chain.assets.values())
