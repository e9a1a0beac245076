"""Asks the sources of rates: each alone and for a limited time, whatever it does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from astrapayd.calls import CallFailed, IsolatedCalls
from astrapayd.money import Asset
from astrapayd.rates import NoQuote, Quote, QuoteTooOld, RateRegistry, RateSource, checked_rate, quote_of

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Quotes:
    """What assets cost now. ``max_age_secs``: how old a rate may be that does not say so itself."""

    def __init__(
        self,
        sources: RateRegistry,
        max_age_secs: int,
        now: Callable[[], int],
        *,
        answer_secs: float = 5.0,
    ) -> None:
        """:param now: answers Unix seconds. :param answer_secs: how long each source may take."""
        self._sources = sources
        self._max_age_secs = max_age_secs
        self._now = now
        self._answer_secs = answer_secs
        self._calls = IsolatedCalls()

    def covers(self, currency: str, asset: Asset) -> bool:
        """Whether a price in the currency can be asked for in the asset, once there is a rate."""
        return any(_covers(name, source, currency, asset) for name, source in self._sources)

    async def quote(self, currency: str, asset: Asset) -> Quote:
        """The first source's rate that is recent enough.

        :raises QuoteTooOld: if there are only older ones.
        :raises NoQuote: if there is none.
        """
        too_old: QuoteTooOld | None = None
        for name, source in self._sources:
            if not _covers(name, source, currency, asset):
                continue
            try:
                asked = partial(source.rate, currency, asset)
                answer = await self._calls.limited(name, "rate", asked, self._answer_secs)
                if answer is None:
                    continue
                rate = checked_rate(answer, currency, asset, self._now())
                return quote_of(rate, name, asset, self._now(), self._max_age_secs)
            except QuoteTooOld as error:
                too_old = too_old or error
            except CallFailed as failed:
                _log.warning("rate source gave no answer", source=name, reason=failed.reason.partition("\n")[0])
                _log.debug("rate source raised", source=name, exc_info=failed.__cause__)
            except ValueError as wrong:
                _log.warning("rate source gave a wrong answer", source=name, reason=str(wrong))
        raise too_old or NoQuote(
            f"the price in {currency} cannot be converted to {asset.symbol} at the moment: there is no rate for it"
        )


def _covers(name: str, source: RateSource, currency: str, asset: Asset) -> bool:
    try:
        return source.covers(currency, asset) is True
    except Exception as error:
        _log.warning("rate source failed", source=name, reason=type(error).__name__)
        return False
