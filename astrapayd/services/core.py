"""What every service works on, built once by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from astrapayd.chains import ChainRegistry
from astrapayd.config import Config, StoreSection
from astrapayd.db.engine import Database
from astrapayd.ingest import Ingest
from astrapayd.money import Asset
from astrapayd.services.quotes import Quotes
from astrapayd.services.vetting import Vetting


@dataclass(frozen=True, slots=True)
class Core:
    """Configuration, database and rules. ``minimums`` are base units by asset. ``now`` answers Unix seconds."""

    config: Config
    registry: ChainRegistry
    database: Database
    ingest: Ingest
    vetting: Vetting
    quotes: Quotes
    minimums: Mapping[str, int]
    now: Callable[[], int]

    def store(self, store_id: str) -> StoreSection:
        """:raises NotFound: if the configuration has no such store."""
        if store_id not in self.config.stores:
            known = ", ".join(self.config.stores) or "none"
            raise NotFound(f"there is no store {store_id!r}; the configuration has: {known}")
        return self.config.stores[store_id]

    def is_same_currency(self, asset: Asset, currency: str) -> bool:
        """Whether an amount of the asset is worth the same as one of the currency, today and tomorrow."""
        section = self.config.assets.get(asset.id)
        return currency == asset.symbol or (section is not None and currency == section.currency)

    def assets_of(self, store_id: str) -> tuple[Asset, ...]:
        """What a store can be paid in: the assets of every chain on which it has an account.

        :raises NotFound: if the configuration has no such store.
        """
        accounts = self.store(store_id).accounts
        return tuple(asset for asset in self.registry.assets() if asset.chain in accounts)


class NotFound(Exception):
    """What was asked for does not exist. The message is one sentence for who asked."""


class TryLater(Exception):
    """Not now, through no fault of the customer. ``retry_after_secs`` goes into ``Retry-After``."""

    def __init__(self, message: str, retry_after_secs: int) -> None:
        super().__init__(message)
        self.retry_after_secs = retry_after_secs
