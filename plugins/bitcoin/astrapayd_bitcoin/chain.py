"""One configured Bitcoin chain, as the core knows it: addresses, account keys, its one asset, URIs, and its watcher."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from astrapayd.chains import ChainRegistry, Depth, TransactionError
from astrapayd.config import AssetSection, Config
from astrapayd.money import Asset, format_amount
from astrapayd.transfers import Watcher
from astrapayd_bitcoin import address as addresses
from astrapayd_bitcoin import derivation
from astrapayd_bitcoin.config import BitcoinChainSection
from astrapayd_bitcoin.derivation import AddressType
from astrapayd_bitcoin.networks import NETWORKS, Network

_TRANSACTION = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_DECIMALS = 8  # one bitcoin is 100,000,000 satoshis


class BitcoinChain:
    """Implements :class:`astrapayd.chains.Chain`."""

    def __init__(self, chain_id: str, section: BitcoinChainSection, assets: Mapping[str, Asset]) -> None:
        """:param chain_id: the key under ``[chains]``; ``assets`` as :func:`read_assets` gives them."""
        self._id = chain_id
        self._section = section
        self._assets = MappingProxyType(dict(assets))
        self._network = NETWORKS[section.network]
        self._genesis = section.genesis or self._network.genesis

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
        """There are no tokens."""
        return ""

    @property
    def network(self) -> str:
        """CAIP-2 id, by the genesis block."""
        return caip2(self._genesis)

    @property
    def assets(self) -> Mapping[str, Asset]:
        """The coin."""
        return self._assets

    @property
    def confirmations(self) -> Depth:
        """When a payment counts as confirmed."""
        return Depth.of_blocks(self._section.confirmations)

    @property
    def final(self) -> Depth:
        """When a payment can no longer be taken back."""
        return Depth.of_blocks(self._section.final)

    def parse_address(self, text: str) -> str:
        """The canonical form of an address: bech32 in lower case, base58 as it is.

        :raises AddressError: with one sentence.
        """
        return addresses.parse(text, self._network)

    def parse_xpub(self, text: str) -> str:
        """An account as the descriptor that it is kept as; read from an xpub, ypub, zpub, their test versions, or a
        descriptor of one key.

        :raises AddressError: with one sentence.
        """
        return derivation.parse_xpub(text, self._network, AddressType(self._section.xpub_addresses))

    def derive(self, xpub: str, branch: int, index: int) -> str:
        """The canonical address at ``branch/index`` of an account."""
        return derivation.derive(xpub, branch, index, self._network)

    def display_address(self, address: str) -> str:
        """As it is kept; empty for a sender, which is not known here."""
        return address

    @property
    def signs_messages(self) -> bool:
        """False: a payment's sender is not told, so there is nobody whose signature would prove it."""
        return False

    def parse_transaction(self, text: str) -> str:
        """The canonical form: 64 lower-case hex digits.

        :raises TransactionError: with one sentence.
        """
        if not _TRANSACTION.fullmatch(text):
            raise TransactionError(
                "that is not a transaction id, which is 64 letters or digits: copy it from your wallet"
            )
        return text.lower()

    def payment_uri(self, asset: Asset, address: str, amount_base: int) -> str:
        """BIP-21, with the amount in whole bitcoins as decimal digits."""
        return f"bitcoin:{address}?amount={format_amount(amount_base, asset.decimals)}"

    def watcher(self) -> Watcher:
        """A new watcher; nothing is connected until it is used."""
        from astrapayd_bitcoin.rpc import Credentials
        from astrapayd_bitcoin.watcher import BitcoinWatcher, NodeSettings, Settings

        section = self._section
        return BitcoinWatcher(
            Settings(
                chain=self._id,
                network=self._network,
                nodes=tuple(
                    NodeSettings(
                        url=node.url,
                        credentials=Credentials(
                            user=node.user or "",
                            password=node.password.reveal() if node.password is not None else "",
                            cookie_file=Path(node.cookie_file) if node.cookie_file is not None else None,
                        ),
                        zmq=node.zmq,
                        certificate=Path(node.certificate) if node.certificate is not None else None,
                    )
                    for node in section.nodes
                ),
                genesis=self._genesis,
                final_blocks=section.final,
                request_secs=section.request_timeout_secs,
                poll_secs=section.poll_secs,
            )
        )


def register_chains(registry: ChainRegistry, config: Config) -> None:
    """Add a chain for each Bitcoin section; report what is wrong with its assets."""
    for chain_id, section in config.chains.items():
        if isinstance(section, BitcoinChainSection):
            listed = [(key, asset) for key, asset in config.assets.items() if asset.chain == chain_id]
            registry.add(BitcoinChain(chain_id, section, read_assets(chain_id, section, listed, registry)))


def read_assets(
    chain_id: str,
    section: BitcoinChainSection,
    listed: Iterable[tuple[str, AssetSection]],
    registry: ChainRegistry,
) -> dict[str, Asset]:
    """The chain's one asset by its id; each problem of it, or of others, is reported with its key."""
    network: Network = NETWORKS[section.network]
    assets: dict[str, Asset] = {}
    for asset_id, asset in listed:
        key = f"assets.{asset_id}"
        problems: list[tuple[str, str]] = []
        if asset.contract is not None:
            problems.append((f"{key}.contract", "cannot be, since Bitcoin has no tokens: leave it out"))
        if asset.decimals != _DECIMALS:
            problems.append((f"{key}.decimals", f"is {asset.decimals}, but Bitcoin has 8: write 8"))
        if asset.price_decimals + asset.tail_digits > _DECIMALS:
            sum_of = f"is {asset.tail_digits}, which together with price_decimals = {asset.price_decimals}"
            problems.append(
                (
                    f"{key}.tail_digits",
                    f"{sum_of} is more than Bitcoin's 8 decimals: write smaller ones, such as 5 and 3",
                )
            )
        if assets:
            problems.append((key, f"is the chain's coin, as assets.{next(iter(assets))} is: list it once"))
        for where, reason in problems:
            registry.problem(where, reason)
        if not problems:
            assets[asset_id] = Asset(
                id=asset_id,
                chain=chain_id,
                symbol=asset.symbol,
                decimals=_DECIMALS,
                price_decimals=asset.price_decimals,
                tail_digits=asset.tail_digits,
                contract=None,
                caip19=f"{caip2(section.genesis or network.genesis)}/slip44:{1 if network.testnet else 0}",
                testnet=network.testnet,
            )
    return assets


def caip2(genesis: str) -> str:
    """CAIP-2 id of a Bitcoin chain: the first 16 bytes of its genesis block's hash."""
    return f"bip122:{genesis[:32]}"
