"""One configured Tron chain, as the core knows it: addresses, account keys, assets, URIs, and its watcher."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from astrapayd.chains import AddressError, ChainRegistry, Depth, TransactionError
from astrapayd.config import AssetSection, Config
from astrapayd.money import Asset, format_amount
from astrapayd.transfers import Watcher
from astrapayd_tron import address as addresses
from astrapayd_tron import derivation
from astrapayd_tron.config import SOLIDIFIED, TronChainSection
from astrapayd_tron.networks import COIN_TYPE, NETWORKS

_TRANSACTION = re.compile(r"(?:0x)?([0-9a-fA-F]{64})", re.ASCII | re.IGNORECASE)
_NATIVE_DECIMALS = 6  # one TRX is 1,000,000 sun


class TronChain:
    """Implements :class:`astrapayd.chains.Chain`."""

    def __init__(self, chain_id: str, section: TronChainSection, assets: Mapping[str, Asset]) -> None:
        """:param chain_id: the key under ``[chains]``; ``assets`` as :func:`read_assets` gives them."""
        self._id = chain_id
        self._section = section
        self._assets = MappingProxyType(dict(assets))
        self._network = NETWORKS[section.network]
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
        """What a customer calls tokens there."""
        return "TRC-20"

    @property
    def network(self) -> str:
        """CAIP-2 id, by the genesis block."""
        return caip2(self._section.genesis_id)

    @property
    def assets(self) -> Mapping[str, Asset]:
        """The chain's assets by id."""
        return self._assets

    @property
    def confirmations(self) -> Depth:
        """When a payment counts as confirmed."""
        setting = self._section.confirmations
        return Depth.of_blocks(setting) if isinstance(setting, int) else self.final

    @property
    def final(self) -> Depth:
        """When a payment can no longer be taken back: once the node calls its block solidified."""
        return Depth(None, SOLIDIFIED)

    def parse_address(self, text: str) -> str:
        """The canonical form of an address to be paid at, base58check.

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
        """The canonical address of ``m/44'/195'/account'/branch/index``."""
        return derivation.derive(xpub, branch, index)

    def display_address(self, address: str) -> str:
        """As it is kept."""
        return address

    @property
    def signs_messages(self) -> bool:
        """Tron's wallets know ``signMessageV2`` (TIP-191)."""
        return True

    def parse_transaction(self, text: str) -> str:
        """The canonical form: 64 lower-case hex digits.

        :raises TransactionError: with one sentence.
        """
        found = _TRANSACTION.fullmatch(text)
        if found is None:
            raise TransactionError(
                "that is not a transaction id, which is 64 letters or digits: copy it from your wallet"
            )
        return found[1].lower()

    def payment_uri(self, asset: Asset, address: str, amount_base: int) -> str:
        """Nothing unless it is configured, since no URI is a standard on Tron. Never for a token: a wallet that reads
        only address and amount would send as many TRX."""
        if self._section.uri == "off" or asset.contract is not None:
            return ""
        return f"tron:{address}?amount={format_amount(amount_base, asset.decimals)}"

    def watcher(self) -> Watcher:
        """A new watcher; nothing is connected until it is used."""
        from astrapayd_tron.watcher import NodeSettings, Settings, TronWatcher

        section = self._section
        return TronWatcher(
            Settings(
                chain=self._id,
                network=self._network,
                nodes=tuple(NodeSettings(node.url, node.solidity, node.events) for node in section.nodes),
                genesis=section.genesis_id,
                assets=tuple(self._assets.values()),
                confirmations=self.confirmations,
                final=self.final,
                request_secs=section.request_timeout_secs,
                poll_secs=section.poll_secs,
            )
        )


def register_chains(registry: ChainRegistry, config: Config) -> None:
    """Add a chain for each Tron section; report what is wrong with its assets."""
    for chain_id, section in config.chains.items():
        if isinstance(section, TronChainSection):
            listed = [(key, asset) for key, asset in config.assets.items() if asset.chain == chain_id]
            registry.add(TronChain(chain_id, section, read_assets(chain_id, section, listed, registry)))


def read_assets(
    chain_id: str, section: TronChainSection, listed: Iterable[tuple[str, AssetSection]], registry: ChainRegistry
) -> dict[str, Asset]:
    """The chain's usable assets by id; each problem of the others is reported with its key."""
    assets: dict[str, Asset] = {}
    first_with: dict[str | None, str] = {}
    for asset_id, asset in listed:
        key = f"assets.{asset_id}"
        try:
            contract = None if asset.contract is None else addresses.parse(asset.contract)
        except AddressError as error:
            registry.problem(f"{key}.contract", str(error))
            continue
        problems: list[tuple[str, str]] = []
        if contract in first_with:
            what = "the chain's native coin" if contract is None else "the same contract"
            where = key if contract is None else f"{key}.contract"
            problems.append((where, f"is {what} as assets.{first_with[contract]}: list it once"))
        first_with.setdefault(contract, asset_id)
        if asset.price_decimals + asset.tail_digits > asset.decimals:
            sum_of = f"is {asset.tail_digits}, which together with price_decimals = {asset.price_decimals}"
            most = f"the asset's {asset.decimals} decimals: write smaller ones"
            problems.append((f"{key}.tail_digits", f"{sum_of} is more than {most}"))
        if contract is None and asset.decimals != _NATIVE_DECIMALS:
            problems.append(
                (
                    f"{key}.decimals",
                    f"is {asset.decimals}, but TRX has 6: write 6, or add the contract if it is a token",
                )
            )
        for where, reason in problems:
            registry.problem(where, reason)
        if not problems:
            assets[asset_id] = Asset(
                id=asset_id,
                chain=chain_id,
                symbol=asset.symbol,
                decimals=asset.decimals,
                price_decimals=asset.price_decimals,
                tail_digits=asset.tail_digits,
                contract=contract,
                caip19=caip19(section.genesis_id, contract),
                testnet=NETWORKS[section.network].testnet,
            )
    return assets


def caip2(genesis: str) -> str:
    """CAIP-2 id of a Tron chain: the last four bytes of its genesis block's id, as a number (ChainAgnostic's ``tron``
    namespace; what ``eth_chainId`` answers)."""
    return f"tron:{int(genesis[-8:], 16)}"


def caip19(genesis: str, contract: str | None) -> str:
    """CAIP-19 id of a token, by its canonical contract, or of TRX, by its SLIP-44 number."""
    kind = f"slip44:{COIN_TYPE}" if contract is None else f"trc20:{contract}"
    return f"{caip2(genesis)}/{kind}"
