"""The configuration: one TOML file, read into frozen models, every problem reported at once with its key.

The file holds what an administrator deploys (listeners, nodes, assets, addresses); what a merchant edits lives in
the database. A plugin declares its part with :class:`ConfigRegistry` in the hook ``astrapayd_register_config``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Base of every table in the file: unknown keys are refused, values are not coerced, nothing changes later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ServerSection(Section):
    """``[server]``: two listeners, both ``host:port``; ``public_url`` is what customers type."""

    public: str = "127.0.0.1:8420"
    admin: str = "127.0.0.1:8421"
    public_url: str = "http://127.0.0.1:8420"
    trusted_proxies: tuple[str, ...] = ()


class DatabaseSection(Section):
    """``[database]``: SQLite needs only a path; PostgreSQL is chosen by its URL."""

    url: str = "sqlite:///var/lib/astrapayd/astrapayd.db"


class ChainSection(Section):
    """``[chains.ID]``: what every chain has. A plugin's own section inherits from it."""

    plugin: str


class AssetSection(Section):
    """``[assets.ID]``. ``contract`` absent means the chain's native coin. ``price_decimals + tail_digits`` is at
    most ``decimals``."""

    chain: str
    symbol: Annotated[str, Field(min_length=1, max_length=12)]
    contract: str | None = None
    decimals: Annotated[int, Field(ge=0, le=36)]
    price_decimals: Annotated[int, Field(ge=0, le=36)] = 2
    tail_digits: Annotated[int, Field(ge=0, le=9)] = 4


class AccountSection(Section):
    """``[stores.ID.accounts.CHAIN]``: where one store is paid on one chain."""

    addresses: tuple[str, ...] = ()


class StoreSection(Section):
    """``[stores.ID]``: one shop. ``payment_window_secs`` is how long a customer has; ``late_window_secs`` how long
    after that a payment still finds its session."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    payment_window_secs: Annotated[int, Field(ge=60, le=7 * 86400)] = 30 * 60
    late_window_secs: Annotated[int, Field(ge=0, le=30 * 86400)] = 24 * 3600
    accounts: Mapping[str, AccountSection] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file, checked. ``plugins`` maps a plugin's name to the section model it declared."""

    path: Path
    server: ServerSection
    database: DatabaseSection
    chains: Mapping[str, ChainSection]
    assets: Mapping[str, AssetSection]
    stores: Mapping[str, StoreSection]
    plugins: Mapping[str, Section]


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

    def add_chain_section(self, plugin: str, model: type[ChainSection]) -> None:
        """Declare the model of ``[chains.ID]`` tables that name this plugin."""
        self.chain_sections[plugin] = model

    def add_plugin_section(self, plugin: str, model: type[Section]) -> None:
        """Declare the model of ``[plugins.NAME]``; absent from the file, its defaults hold."""
        self.plugin_sections[plugin] = model
