"""The configuration: one TOML file, read into frozen models, every problem reported at once with its key.

The file holds what an administrator deploys (listeners, nodes, assets, addresses); what a merchant edits lives in
the database. A plugin declares its part with :class:`ConfigRegistry` in the hook ``astrapayd_register_config``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from astrapayd.secret import Secret

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_DECIMAL = re.compile(r"[0-9]{1,40}(\.[0-9]{1,36})?", re.ASCII)


class Section(BaseModel):
    """Base of every table in the file: unknown keys are refused, values are not coerced, nothing changes later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _freeze_arrays(cls, data: Any) -> Any:
        """TOML's arrays arrive as lists, which ``strict`` keeps out of tuple fields: the only coercion there is."""
        if not isinstance(data, Mapping):
            return data
        fields = cls.model_fields
        return {
            key: _frozen(value, fields[key].annotation) if isinstance(value, list) and key in fields else value
            for key, value in data.items()
        }


def _frozen(value: list[Any], annotation: Any) -> Any:
    """``value`` as the tuple or frozenset that ``annotation`` (or a branch of its union) asks for."""
    origin = get_origin(annotation) or annotation
    if origin is Annotated:
        return _frozen(value, get_args(annotation)[0])
    if origin in {Union, UnionType}:
        frozen = (_frozen(value, branch) for branch in get_args(annotation))
        return next((candidate for candidate in frozen if candidate is not value), value)
    if origin is tuple:
        inner = get_args(annotation)[:1]
        return tuple(_frozen(item, inner[0]) if inner and isinstance(item, list) else item for item in value)
    if origin is frozenset:
        # only where every entry can be in a set; else pydantic says what is wrong with the list
        return frozenset(value) if all(isinstance(item, str | int) for item in value) else value
    return value


def parse_listener(text: str) -> tuple[str, int]:
    """``host:port`` as (host, port); ``[::1]:8420`` for IPv6. Port 0 takes a free one (tests, the demo).

    :raises ValueError: with one sentence that says how to mend it.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > 65535:
        raise ValueError('has no port between 0 and 65535: write host:port, such as "127.0.0.1:8420"')
    if not (_is_ipv6(host) if bracketed else _HOST.fullmatch(host)):
        raise ValueError('has no host: write host:port, such as "127.0.0.1:8420" or "[::1]:8420"')
    return host, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _listener(text: str) -> str:
    parse_listener(text)
    return text


def _origin(text: str) -> str:
    wanted = 'write scheme and host only, such as "https://pay.example"'
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise ValueError(f"is not a URL: {wanted}") from None
    if url.scheme not in {"http", "https"}:
        raise ValueError(f"does not begin with http:// or https://: {wanted}")
    if "@" in url.netloc:
        raise ValueError(f"has a user name in it: {wanted}")
    if not host or (not _HOST.fullmatch(host) and ":" not in host) or port == 0:
        raise ValueError(f"has no proper host: {wanted} (names with other letters in their xn-- form)")
    if url.path not in {"", "/"} or "?" in text or "#" in text:
        raise ValueError(f"has a path or more behind the host, but checkout lives at the root: {wanted}")
    return urlunsplit((url.scheme, url.netloc.lower(), "", "", ""))


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError('is not an address or network: write "10.0.0.5" or "10.0.0.0/24"') from None
    return text


def _decimal(text: str) -> str:
    if not _DECIMAL.fullmatch(text):
        raise ValueError('is not an amount: write digits with a point, in quotes, such as "0.01"')
    return text


def _rate(text: str) -> str:
    if not _DECIMAL.fullmatch(text) or len(text) > 40 or not text.strip("0."):
        raise ValueError('is not a price above zero: write digits with a point, in quotes, such as "2512.40"')
    return text


def _currency(text: str) -> str:
    if not re.fullmatch(r"[A-Z0-9]{2,12}", text, re.ASCII):
        raise ValueError('is no currency: write 2 to 12 capital letters or digits, such as "EUR"')
    return text


def _moment(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("has no time zone: write it as 2026-11-24T10:00:00Z")
    return moment.astimezone(UTC)


Listener = Annotated[str, AfterValidator(_listener)]
"""``host:port``."""
Origin = Annotated[str, AfterValidator(_origin)]
"""Scheme and host, without a slash at the end."""
Network = Annotated[str, AfterValidator(_network)]
"""An IP address or network."""
Decimal = Annotated[str, AfterValidator(_decimal)]
"""An amount in whole units of an asset, as plain decimal text; read it with ``money.parse_amount``."""


Currency = Annotated[str, AfterValidator(_currency)]
"""A currency's name, such as ``EUR``."""


class ServerSection(Section):
    """``[server]``: two listeners, both ``host:port``; ``public_url`` is what customers type.

    The admin listener stays on loopback unless ``allow_remote_admin`` says otherwise. ``trusted_proxies`` are the
    addresses whose ``Forwarded`` and ``X-Forwarded-For`` headers are believed.
    """

    public: Listener = "127.0.0.1:8420"
    admin: Listener = "127.0.0.1:8421"
    public_url: Origin = "http://127.0.0.1:8420"
    trusted_proxies: tuple[Network, ...] = ()
    allow_remote_admin: bool = False


class DatabaseSection(Section):
    """``[database]``: SQLite needs only a path; PostgreSQL is chosen by its URL.

    After :func:`load` the URL of an SQLite database is always ``sqlite:///`` and an absolute path (four slashes, as
    SQLAlchemy reads it); a PostgreSQL URL is as written, with ``password`` kept apart.
    """

    url: str = "sqlite:///var/lib/astrapayd/astrapayd.db"
    password: Secret | None = None

    def connect_url(self) -> str:
        """The URL with the password in it, to connect with and to show nobody."""
        if self.password is None:
            return self.url
        url = urlsplit(self.url)
        user, _, host = url.netloc.rpartition("@")
        user = user.partition(":")[0]
        netloc = f"{user}:{quote(self.password.reveal(), safe='')}@{host}"
        return urlunsplit((url.scheme, netloc, url.path, url.query, url.fragment))


class LogSection(Section):
    """``[log]``: ``auto`` means colours on a terminal and JSON lines everywhere else."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class ChainSection(Section):
    """``[chains.ID]``: what every chain has. A plugin's own section inherits from it."""

    plugin: str


class TierSection(Section):
    """``[[assets.ID.tiers]]``: sessions of ``at_least`` so much, in whole units, wait for more confirmations."""

    at_least: Decimal
    confirmations: Annotated[int, Field(ge=1, le=100_000)] | Literal["final"]


class AssetSection(Section):
    """``[assets.ID]``. ``contract`` absent means the chain's native coin. ``price_decimals + tail_digits`` is at
    most ``decimals``. ``minimum``, in whole units: less than this cannot be sent, or costs more in fees than it is.
    ``currency``: a stablecoin counts as one unit of it.
    ``tiers``: what counts as confirmed for larger sums; "final" is what the chain calls final."""

    chain: str
    symbol: Annotated[str, Field(min_length=1, max_length=12)]
    contract: str | None = None
    decimals: Annotated[int, Field(ge=0, le=36)]
    price_decimals: Annotated[int, Field(ge=0, le=36)] = 2
    tail_digits: Annotated[int, Field(ge=0, le=9)] = 4
    minimum: Decimal = "0"
    currency: Currency | None = None
    tiers: Annotated[tuple[TierSection, ...], Field(max_length=10)] = ()


class FixedRateSection(Section):
    """``[[rates.fixed]]``: one whole unit of ``asset`` costs ``price`` in ``currency``, as of ``taken_at`` and for
    ``max_age_secs`` from then; afterwards the rate is too old, and nothing is sold at it."""

    asset: str
    currency: Currency
    price: Annotated[str, AfterValidator(_rate)]
    taken_at: Annotated[datetime, AfterValidator(_moment)]
    max_age_secs: Annotated[int, Field(ge=1, le=366 * 86400)] = 86400


class RatesSection(Section):
    """``[rates]``: a session is opened with a rate that is at most ``max_age_secs`` old, unless its source says how
    long it counts."""

    max_age_secs: Annotated[int, Field(ge=1, le=7 * 86400)] = 300
    fixed: Annotated[tuple[FixedRateSection, ...], Field(max_length=1000)] = ()


class AccountSection(Section):
    """``[stores.ID.accounts.CHAIN]``: where one store is paid on one chain.

    ``addresses`` are shared by many sessions, which unique amounts tell apart. From ``xpub``, an account's extended
    public key, a session gets an address of its own; it is used where there is no address, or every amount of them is
    taken. ``gap_limit``: so many addresses in a row without a payment are given out, and no more, since a wallet looks
    no further.
    """

    addresses: tuple[str, ...] = ()
    xpub: str | None = None
    gap_limit: Annotated[int, Field(ge=1, le=10_000)] = 20


class StoreSection(Section):
    """``[stores.ID]``: one shop, and the policies that its sessions are opened with.

    ``payment_window_secs`` is how long a customer has; ``late_window_secs`` how long after that a payment still finds
    its session, and ``late`` what becomes of it then. A payment seen in time keeps its session open for
    ``held_open_secs`` after the window, until it is mined. ``small_rest``: a rest below the asset's minimum is
    forgiven, or the session is held for the merchant. ``tolerance`` is how much may be missing from a paid session,
    in whole units of its asset. A payment with the right tail that is off by whole cents belongs to its session if
    it is off by at most ``allowance`` units and ``allowance_percent`` of what is due (an exchange's fee).

    Of the unique amounts on the shared addresses, browsers together may hold ``anonymous_percent``, those of one link
    ``link_percent``, and one API key ``key_percent``: what is left keeps the shop open for the others.
    """

    name: Annotated[str, Field(min_length=1, max_length=80)]
    payment_window_secs: Annotated[int, Field(ge=60, le=7 * 86400)] = 30 * 60
    late_window_secs: Annotated[int, Field(ge=0, le=30 * 86400)] = 24 * 3600
    late: Literal["auto", "accept", "hold"] = "auto"
    held_open_secs: Annotated[int, Field(ge=0, le=30 * 86400)] = 24 * 3600
    small_rest: Literal["hold", "forgive"] = "hold"
    tolerance: Decimal = "0"
    allowance: Decimal = "3"
    allowance_percent: Annotated[int, Field(ge=0, le=100)] = 10
    anonymous_percent: Annotated[int, Field(ge=1, le=100)] = 90
    link_percent: Annotated[int, Field(ge=1, le=100)] = 80
    key_percent: Annotated[int, Field(ge=1, le=100)] = 90
    accounts: Mapping[str, AccountSection] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file, checked. ``plugins`` maps a plugin's name to the section model it declared.

    ``notes`` are sentences about what works but should not stay so; shown at start and by ``config check``.
    """

    path: Path
    server: ServerSection
    database: DatabaseSection
    chains: Mapping[str, ChainSection]
    assets: Mapping[str, AssetSection]
    stores: Mapping[str, StoreSection]
    plugins: Mapping[str, Section]
    log: LogSection = field(default_factory=LogSection)
    rates: RatesSection = field(default_factory=RatesSection)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in the file: the dotted key and one sentence that says how to mend it."""

    key: str
    reason: str


class ConfigError(Exception):
    """The file cannot be used. ``problems`` holds everything found, not only the first."""

    def __init__(self, path: Path, problems: tuple[Problem, ...]) -> None:
        super().__init__(
            "\n".join(f"{path}: {p.key}: {p.reason}" if p.key else f"{path}: {p.reason}" for p in problems)
        )
        self.path = path
        self.problems = problems


class ConfigRegistry:
    """Collects the tables that plugins declare; given to ``astrapayd_register_config``."""

    def __init__(self) -> None:
        self.chain_sections: dict[str, type[ChainSection]] = {}
        self.plugin_sections: dict[str, type[Section]] = {}
        self.hash_keys: set[str] = {"genesis"}

    def add_chain_section(self, plugin: str, model: type[ChainSection]) -> None:
        """Declare the model of ``[chains.ID]`` tables that name this plugin."""
        self.chain_sections[plugin] = model

    def add_plugin_section(self, plugin: str, model: type[Section]) -> None:
        """Declare the model of ``[plugins.NAME]``; absent from the file, its defaults hold."""
        self.plugin_sections[plugin] = model

    def add_hash_key(self, name: str) -> None:
        """Declare that 32-byte hex under settings of this name is a hash (``genesis`` is one already); anywhere
        else it is taken for a private key and refused."""
        self.hash_keys.add(name)


def load(path: Path, registry: ConfigRegistry) -> Config:
    """Read and check the file at ``path`` with the models that ``registry`` holds.

    Secrets are fetched from where the file says they are. Nothing else is touched: no node, no database.

    :raises ConfigError: with every problem found.
    """
    from astrapayd import config_file  # it builds on the models above

    return config_file.load(path, registry)
