"""Reads the configuration file: TOML → tables without private keys → models → checks between tables.

Each step adds to one list of problems and the next goes on with what is usable, so that one run tells everything.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from astrapayd import private_keys
from astrapayd.config import (
    AssetSection,
    ChainSection,
    Config,
    ConfigError,
    ConfigRegistry,
    DatabaseSection,
    LogSection,
    Problem,
    RatesSection,
    Section,
    ServerSection,
    StoreSection,
    parse_listener,
)
from astrapayd.config_reasons import Loc, did_you_mean, dotted, reasons
from astrapayd.money import AmountError, parse_amount

SectionT = TypeVar("SectionT", bound=Section)

_TABLES = ("server", "database", "log", "chains", "assets", "stores", "rates", "plugins")
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_MAX_BYTES = 1024 * 1024
_AT = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(slots=True)
class _Findings:
    """Problems and notes so far. ``hidden`` are the places of private keys: what else is said of them is dropped,
    since the checks saw an empty text there."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hidden: set[Loc] = field(default_factory=set)

    def add(self, loc: Loc, reason: str) -> None:
        if not any(loc[:end] in self.hidden for end in range(1, len(loc) + 1)):
            self.problems.append(Problem(dotted(loc), reason))


def load(path: Path, registry: ConfigRegistry) -> Config:
    """See :func:`astrapayd.config.load`.

    1. read and parse; 2. take private keys out, each a problem; 3. validate each table with its model;
    4. check what the tables say of each other; 5. refuse the file if anything was found.
    """
    found = _Findings()
    text = _read(path, found)
    raw, leaks = private_keys.scrub(_parse(path, text), registry.hash_keys)
    for leak in leaks:
        found.add(leak.loc, f"holds {leak.kind}: astrapayd never needs one, so remove it from the file")
        found.hidden.add(leak.loc)
    for line, kind in private_keys.in_comments(text, registry.hash_keys):
        found.problems.append(Problem(f"line {line}", f"holds {kind} in a comment: remove it from the file"))
    for key in raw:
        if key not in _TABLES:
            found.add((key,), f"is not a table of this file: {did_you_mean(key, _TABLES)}")

    server = _section(ServerSection, raw.get("server", {}), ("server",), found)
    database = _section(DatabaseSection, raw.get("database", {}), ("database",), found)
    log = _section(LogSection, raw.get("log", {}), ("log",), found)
    chains = _chains(_table(raw, "chains", found), registry, found)
    assets = _each(AssetSection, _table(raw, "assets", found), "assets", found)
    stores = _each(StoreSection, _table(raw, "stores", found), "stores", found)
    rates = _section(RatesSection, raw.get("rates", {}), ("rates",), found)
    plugins = _plugins(_table(raw, "plugins", found), registry, found)

    if server is not None:
        _check_server(server, found)
    if database is not None:
        database = _check_database(database, path, found)
    chain_ids = _table(raw, "chains", _Findings()).keys()
    _check_assets(assets, chain_ids, found)
    _check_stores(stores, chain_ids, found)
    _check_tolerances(stores, assets, found)
    if rates is not None:
        _check_rates(rates, _table(raw, "assets", _Findings()).keys(), found)
    if found.problems or server is None or database is None or log is None or rates is None:
        raise ConfigError(path, tuple(dict.fromkeys(found.problems)))
    return Config(path, server, database, chains, assets, stores, plugins, log, rates, tuple(found.notes))


def _read(path: Path, found: _Findings) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise _refused(path, "does not exist: run 'astrapayd init', or name the file with --config") from None
    except OSError as error:
        raise _refused(path, f"cannot be read ({error.strerror}): mend its permissions or name another file") from None
    except ValueError:
        raise _refused(path, "is not a possible file name: write it again") from None
    if len(raw) > _MAX_BYTES:
        raise _refused(path, "is longer than 1 MiB: this is not a configuration file, name another")
    if mode & stat.S_IWOTH:
        # who can write the file can put an address of their own into it
        found.notes.append(f"{path}: every user of this machine can change where payments go: chmod o-w {path}")
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _refused(path, f"is not UTF-8 text in line {line}: save it in that encoding", f"line {line}") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _refused(path, "is nested too deeply: no setting needs that, write it flat") from None
    except ValueError as error:
        # tomllib's error, or int()'s about a number of thousands of digits, which has no place
        message = str(error)
        at = _AT.search(message)
        if at is None:
            raise _refused(path, "has a number that is far too long: shorten it") from None
        line, column = at[1] or text.count("\n") + 1, at[2] or len(text) - text.rfind("\n")
        # what tomllib quotes can be a name from the file, never needed beside line and column
        said = re.sub(r"\s*'.*'$", "", message[: at.start()].strip(), flags=re.DOTALL)
        said = (
            "a value is missing, or is text without quotes" if said == "Invalid value" else said[:1].lower() + said[1:]
        )
        raise _refused(path, f"is not valid TOML in line {line}, column {column} ({said}): mend that line") from None


def _refused(path: Path, reason: str, key: str = "") -> ConfigError:
    return ConfigError(path, (Problem(key, reason),))


def _table(raw: Mapping[str, Any], name: str, found: _Findings) -> Mapping[str, Any]:
    """The table ``name``, its entries' keys checked; absent or wrong gives an empty one."""
    value = raw.get(name, {})
    if not isinstance(value, Mapping):
        found.add((name,), f"is not a table: write [{name}.NAME] above its settings")
        return {}
    return value


def _section(model: type[SectionT], value: object, loc: Loc, found: _Findings) -> SectionT | None:
    if not isinstance(value, Mapping):
        found.add(loc, f"is not a table: write [{dotted(loc)}] above its settings")
        return None
    try:
        return model.model_validate(dict(value))
    except ValidationError as error:
        for place, reason in reasons(error, model, value):
            found.add((*loc, *place), reason)
    except Exception as error:  # noqa: BLE001, RUF100 - a plugin's validator may raise anything; the file is still reported
        found.add(loc, f"cannot be checked, since the plugin's own check failed with {type(error).__name__}: report it")
    return None


def _each(model: type[SectionT], table: Mapping[str, Any], name: str, found: _Findings) -> dict[str, SectionT]:
    sections: dict[str, SectionT] = {}
    for key, value in table.items():
        _check_id(key, (name, key), found)
        section = _section(model, value, (name, key), found)
        if section is not None:
            sections[key] = section
    return sections


def _check_id(key: str, loc: Loc, found: _Findings) -> None:
    if not _ID.fullmatch(key):
        found.add(loc, "is not a usable name: write lower-case letters, digits and hyphens, at most 32")


def _chains(table: Mapping[str, Any], registry: ConfigRegistry, found: _Findings) -> dict[str, ChainSection]:
    sections: dict[str, ChainSection] = {}
    installed = ", ".join(sorted(registry.chain_sections)) or "none"
    for key, value in table.items():
        loc = ("chains", key)
        _check_id(key, loc, found)
        plugin = value.get("plugin") if isinstance(value, Mapping) else None
        if isinstance(value, Mapping) and "plugin" not in value:
            found.add((*loc, "plugin"), f"is missing: name the plugin that serves the chain (installed: {installed})")
        elif isinstance(plugin, str) and plugin not in registry.chain_sections:
            hint = did_you_mean(plugin, registry.chain_sections)
            hint = hint if hint.startswith("did you mean") else "install the plugin, or correct the name"
            found.add((*loc, "plugin"), f"names no installed plugin (installed: {installed}): {hint}")
        else:
            model = registry.chain_sections[plugin] if isinstance(plugin, str) else ChainSection
            section = _section(model, value, loc, found)
            if section is not None:
                sections[key] = section
    return sections


def _plugins(table: Mapping[str, Any], registry: ConfigRegistry, found: _Findings) -> dict[str, Section]:
    sections: dict[str, Section] = {}
    for name in table:
        if name not in registry.plugin_sections:
            hint = did_you_mean(name, registry.plugin_sections)
            found.add(("plugins", name), f"belongs to no installed plugin that has settings: {hint}")
    for name, model in registry.plugin_sections.items():
        section = _section(model, table.get(name, {}), ("plugins", name), found)
        if section is not None:
            sections[name] = section
    return sections


def _check_server(server: ServerSection, found: _Findings) -> None:
    host, port = parse_listener(server.admin)
    if server.admin == server.public and port:
        found.add(("server", "admin"), "is the same as server.public: write another port")
    if not server.allow_remote_admin and not _is_loopback(host):
        found.add(
            ("server", "admin"),
            "is not a loopback address, so strangers could reach the dashboard: write 127.0.0.1, or set "
            "server.allow_remote_admin = true if a firewall or proxy guards it",
        )
    url = urlsplit(server.public_url)
    if url.scheme == "http" and not _is_loopback(url.hostname or "") and not (url.hostname or "").endswith(".onion"):
        found.notes.append("server.public_url: customers reach the checkout without encryption: use https")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_database(database: DatabaseSection, path: Path, found: _Findings) -> DatabaseSection:
    loc = ("database", "url")
    scheme, _, rest = database.url.partition(":")
    if scheme in {"sqlite", "sqlite+aiosqlite"}:
        if database.password is not None:
            found.add(("database", "password"), "is only for PostgreSQL: remove it")
        file, problem = _sqlite_file(rest, path)
        if problem:
            found.add(loc, problem)
        return database.model_copy(update={"url": f"sqlite:///{file}"})
    if scheme not in {"postgresql", "postgresql+asyncpg"} or not rest.startswith("//"):
        found.add(loc, "is no database known here: write sqlite:///PATH or postgresql://USER@HOST/NAME")
        return database
    try:
        parts = urlsplit(database.url)
        name, password, _ = parts.path.strip("/"), parts.password, parts.port
    except ValueError:
        found.add(loc, "is not a URL: write postgresql://USER@HOST/NAME")
        return database
    if not name:
        found.add(loc, "names no database: write postgresql://USER@HOST/NAME")
    if password:
        found.add(loc, 'has a password in it: take it out and set database.password = { env = "NAME" }')
    return database


def _sqlite_file(rest: str, path: Path) -> tuple[Path, str]:
    """The database's file, and what is wrong with it ("" for nothing).

    ``sqlite:///`` and a path is absolute, also with one slash less than SQLAlchemy wants; a bare file name, or a path
    that begins with a point, lies beside the configuration file: nobody keeps a database in ``/``.
    """
    name = rest.removeprefix("//")
    if not name or name == "/":
        return path, "names no file: write sqlite:///PATH (in memory, payments would be lost)"
    if not name.startswith("/") and rest.startswith("//"):
        return path, "has a host in it: write sqlite:///PATH with three slashes"
    if ":memory:" in name or "?" in name or "#" in name or "\0" in name:
        return path, "is not the path of a file: write sqlite:///PATH and nothing behind it"
    name = name.lstrip("/") if rest.startswith("//") else name
    relative = not rest.startswith("////") and ("/" not in name or name.startswith("."))
    if rest.startswith("//") and not relative:
        return Path("/") / name, ""
    return path.absolute().parent / name, ""


def _check_assets(assets: Mapping[str, AssetSection], chains: Collection[str], found: _Findings) -> None:
    first: dict[tuple[str, str], str] = {}
    for key, asset in assets.items():
        if asset.chain not in chains:
            found.add(("assets", key, "chain"), f"names no chain of this file: {_add_chain(asset.chain, chains)}")
        if asset.price_decimals + asset.tail_digits > asset.decimals:
            found.add(
                ("assets", key, "tail_digits"),
                f"is {asset.tail_digits}, which with price_decimals {asset.price_decimals} is more than the asset's "
                f"{asset.decimals} decimals: lower one of the two",
            )
        contract = (asset.contract or "").lower()
        other = first.setdefault((asset.chain, contract), key)
        if other != key:
            what = "contract" if contract else "native coin (no contract)"
            found.add(("assets", key, "contract"), f"is the same {what} as that of assets.{other}: keep one of them")


def _check_stores(stores: Mapping[str, StoreSection], chains: Collection[str], found: _Findings) -> None:
    owner: dict[tuple[str, str], Loc] = {}
    for key, store in stores.items():
        loc: Loc = ("stores", key, "accounts")
        if not store.accounts:
            found.notes.append(f"stores.{key}: nobody can pay it yet: add [stores.{key}.accounts.CHAIN]")
        for chain, account in store.accounts.items():
            if chain not in chains:
                found.add((*loc, chain), f"is no chain of this file: {_add_chain(chain, chains)}")
            if not account.addresses and account.xpub is None:
                found.add((*loc, chain, "addresses"), "has no entry: write at least one address, or an xpub")
            for index, address in enumerate(account.addresses):
                here: Loc = (*loc, chain, "addresses", index)
                if not address.strip():
                    found.add(here, "is empty: write an address")
                    continue
                other = owner.setdefault((chain, address), here)
                if other != here:
                    found.add(here, f"stands at {dotted(other)} too, and an address belongs to one store: remove one")


def _check_tolerances(stores: Mapping[str, StoreSection], assets: Mapping[str, AssetSection], found: _Findings) -> None:
    for key, store in stores.items():
        for asset in assets.values():
            if asset.chain in store.accounts:
                try:
                    parse_amount(store.tolerance, asset.decimals, what="text")
                except AmountError:
                    found.add(
                        ("stores", key, "tolerance"),
                        f"is finer than {asset.symbol} can be: write at most {asset.decimals} decimals",
                    )
                    break


def _check_rates(rates: RatesSection, assets: Collection[str], found: _Findings) -> None:
    first: dict[tuple[str, str], int] = {}
    for index, fixed in enumerate(rates.fixed):
        if fixed.asset not in assets:
            hint = did_you_mean(fixed.asset, assets) if assets else "add [assets.NAME]"
            found.add(("rates", "fixed", index, "asset"), f"names no asset of this file: {hint}")
        other = first.setdefault((fixed.asset, fixed.currency), index)
        if other != index:
            found.add(("rates", "fixed", index), f"is of the same pair as rates.fixed[{other}]: keep one of them")


def _add_chain(name: str, chains: Collection[str]) -> str:
    return did_you_mean(name, chains) if chains else "add [chains.NAME]"
