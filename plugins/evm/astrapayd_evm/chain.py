"""One configured EVM chain, as the core knows it: addresses, assets, URIs, and its watcher."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from astrapayd.chains import AddressError, ChainRegistry, Depth, TransactionError
from astrapayd.config import AssetSection, Config
from astrapayd.money import Asset
from astrapayd.transfers import Watcher
from astrapayd_evm import address as addresses
from astrapayd_evm import derivation
from astrapayd_evm.config import FINALIZED, EvmChainSection
from astrapayd_evm.networks import network

_TRANSACTION = re.compile(r"(?:0x)?([0-9a-fA-F]{64})", re.ASCII | re.IGNORECASE)
_NATIVE_DECIMALS = 18  # JSON-RPC speaks of wei on every EVM chain, whatever the chain counts in itself


class EvmChain:
    """Implements :class:`astrapayd.chains.Chain`."""

    def __init__(self, chain_id: str, section: EvmChainSection, assets: Mapping[str, Asset]) -> None:
        """:param chain_id: the key under ``[chains]``; ``assets`` as :func:`read_assets` gives them."""
        self._id = chain_id
        self._section = section
        self._assets = MappingProxyType(dict(assets))
        self._network = network(section.chain_id)
        self._tokens = {asset.contract: asset for asset in assets.values() if asset.contract}

    @property
    def id(self) -> str:
        """The key under ``[chains]``."""
        return self._id

    @property
    def title(self) -> str:
        """What a customer calls the network."""
        return self._section.title or self._network.title

    @property
    def token_standard(self) -> str:
        """What a customer calls tokens there, such as ``ERC-20``."""
        return self._network.token_standard

    @property
    def network(self) -> str:
        """CAIP-2 id."""
        return caip2(self._section.chain_id)

    @property
    def assets(self) -> Mapping[str, Asset]:
        """The chain's assets by id."""
        return self._assets

    @property
    def confirmations(self) -> Depth:
        """When a payment counts as confirmed."""
        return _depth(self._section.confirmations)

    @property
    def final(self) -> Depth:
        """When a payment can no longer be taken back."""
        return _depth(self._section.final)

    def parse_address(self, text: str) -> str:
        """The canonical form of an address to be paid at.

        :raises AddressError: with one sentence; also for a listed token's own contract, where money is lost.
        """
        canonical = addresses.parse(text)
        if canonical in self._tokens:
            symbol = self._tokens[canonical].symbol
            raise AddressError(f"is the contract of {symbol}, where money is lost: write an address of your own")
        return canonical

    def parse_xpub(self, text: str) -> str:
        """The account key as it is kept.

        :raises AddressError: with one sentence.
        """
        return derivation.parse_xpub(text)

    def derive(self, xpub: str, branch: int, index: int) -> str:
        """The canonical address of ``m/44'/60'/account'/branch/index``."""
        return derivation.derive(xpub, branch, index)

    def display_address(self, address: str) -> str:
        """With EIP-55's checksum."""
        return addresses.display(address)

    @property
    def signs_messages(self) -> bool:
        """Every wallet knows ``personal_sign``."""
        return True

    def parse_transaction(self, text: str) -> str:
        """The canonical form: 0x and 64 lower-case hex digits.

        :raises TransactionError: with one sentence.
        """
        found = _TRANSACTION.fullmatch(text)
        if found is None:
            raise TransactionError(
                "that is not a transaction id, which is 0x and 64 letters or digits: copy it from your wallet"
            )
        return "0x" + found[1].lower()

    def payment_uri(self, asset: Asset, address: str, amount_base: int) -> str:
        """ERC-681, in plain integers: exponents and decimals are read differently by different wallets."""
        chain_id, to = self._section.chain_id, addresses.display(address)
        if asset.contract is None:
            return f"ethereum:{to}@{chain_id}?value={amount_base}"
        token = addresses.display(asset.contract)
        return f"ethereum:{token}@{chain_id}/transfer?address={to}&uint256={amount_base}"

    def watcher(self) -> Watcher:
        """A new watcher; nothing is connected until it is used."""
        from astrapayd_evm.watcher import EvmWatcher, Settings

        section = self._section
        return EvmWatcher(
            Settings(
                chain=self._id,
                chain_id=section.chain_id,
                node_urls=section.node_urls,
                assets=tuple(self._assets.values()),
                confirmations=self.confirmations,
                final=self.final,
                genesis=section.genesis,
                traces=section.traces == "auto",
                balances=section.balances == "auto",
                max_message_bytes=section.max_message_mib * 2**20,
                request_secs=section.request_timeout_secs,
                poll_secs=section.poll_secs,
            )
        )


def register_chains(registry: ChainRegistry, config: Config) -> None:
    """Add a chain for each EVM section; report what is wrong with its assets."""
    for chain_id, section in config.chains.items():
        if isinstance(section, EvmChainSection):
            listed = [(key, asset) for key, asset in config.assets.items() if asset.chain == chain_id]
            registry.add(EvmChain(chain_id, section, read_assets(chain_id, section, listed, registry)))


def read_assets(
    chain_id: str, section: EvmChainSection, listed: Iterable[tuple[str, AssetSection]], registry: ChainRegistry
) -> dict[str, Asset]:
    """The chain's usable assets by id; each problem of the others is reported with its key."""
    known = network(section.chain_id)
    assets: dict[str, Asset] = {}
    first_with: dict[str | None, str] = {}
    for asset_id, asset in listed:
        key = f"assets.{asset_id}"
        try:
            contract = None if asset.contract is None else addresses.parse(asset.contract)
        except AddressError as error:
            registry.problem(f"{key}.contract", str(error))
            continue
        usable = True
        if contract in first_with:
            what = "the chain's native coin" if contract is None else "the same contract"
            where = key if contract is None else f"{key}.contract"
            registry.problem(where, f"is {what} as assets.{first_with[contract]}: list it once")
            usable = False
        first_with.setdefault(contract, asset_id)
        if asset.price_decimals + asset.tail_digits > asset.decimals:
            registry.problem(
                f"{key}.tail_digits",
                f"is {asset.tail_digits}, which together with price_decimals = {asset.price_decimals} is more than "
                f"the asset's {asset.decimals} decimals: write smaller ones",
            )
            usable = False
        if contract is None and asset.decimals != _NATIVE_DECIMALS:
            registry.problem(
                f"{key}.decimals",
                f"is {asset.decimals}, but a native coin has 18: write 18, or add the contract if it is a token",
            )
            usable = False
        if usable:
            assets[asset_id] = Asset(
                id=asset_id,
                chain=chain_id,
                symbol=asset.symbol,
                decimals=asset.decimals,
                price_decimals=asset.price_decimals,
                tail_digits=asset.tail_digits,
                contract=contract,
                caip19=caip19(section.chain_id, contract, known.coin_type),
                testnet=section.testnet or known.testnet,
            )
    return assets


def caip2(chain_id: int) -> str:
    """CAIP-2 id of a chain."""
    return f"eip155:{chain_id}"


def caip19(chain_id: int, contract: str | None, coin_type: int) -> str:
    """CAIP-19 id of a token, by its canonical contract, or of the native coin, by its SLIP-44 number."""
    kind = f"slip44:{coin_type}" if contract is None else f"erc20:{contract}"
    return f"{caip2(chain_id)}/{kind}"


def _depth(setting: int | str) -> Depth:
    if isinstance(setting, int):
        return Depth.of_blocks(setting)
    return Depth(None, FINALIZED)
