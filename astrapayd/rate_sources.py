"""The built-in sources of rates. ``parity``: a stablecoin counts as its currency, one to one. ``fixed``: rates that the
administrator wrote down, each with its date."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from astrapayd.config import AssetSection, Config, FixedRateSection
from astrapayd.hookspecs import hookimpl
from astrapayd.money import Asset
from astrapayd.rates import Rate, RateRegistry


class ParitySource:
    """One unit of an asset with ``currency = "USD"`` costs one USD, always."""

    def __init__(self, assets: Mapping[str, AssetSection], now: Callable[[], int]) -> None:
        self._currencies = {asset_id: section.currency for asset_id, section in assets.items()}
        self._now = now

    def covers(self, currency: str, asset: Asset) -> bool:
        """Whether the asset counts as that currency."""
        return self._currencies.get(asset.id) == currency

    async def rate(self, currency: str, asset: Asset) -> Rate | None:
        """One, as of now."""
        return Rate(currency, asset.id, Fraction(1), self._now()) if self.covers(currency, asset) else None


class FixedSource:
    """What stands under ``[[rates.fixed]]``."""

    def __init__(self, fixed: Sequence[FixedRateSection]) -> None:
        self._fixed = {(one.currency, one.asset): one for one in fixed}

    def covers(self, currency: str, asset: Asset) -> bool:
        """Whether the pair was written down."""
        return (currency, asset.id) in self._fixed

    async def rate(self, currency: str, asset: Asset) -> Rate | None:
        """As it was written, with its own date."""
        one = self._fixed.get((currency, asset.id))
        if one is None:
            return None
        return Rate(currency, asset.id, Fraction(one.price), int(one.taken_at.timestamp()), one.max_age_secs)


class RatesPlugin:
    """The two, as any plugin gives its own."""

    @hookimpl
    def astrapayd_register_rate_sources(self, registry: RateRegistry, config: Config) -> None:
        registry.add("parity", ParitySource(config.assets, lambda: int(time.time())))
        registry.add("fixed", FixedSource(config.rates.fixed))
