"""Reading the configuration: every class of mistake, all at once, each with its key, one sentence, and no echo."""

# ruff: noqa: E501 - tables of cases read best with one case a line

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator

from astrapayd.config import (
    ChainSection,
    Config,
    ConfigError,
    ConfigRegistry,
    DatabaseSection,
    Section,
    load,
    parse_listener,
)
from astrapayd.secret import Secret


class RingSection(ChainSection):
    """A chain plugin's section with a bit of everything."""

    chain_id: Annotated[int, Field(ge=1)]
    nodes: Annotated[tuple[str | Secret, ...], Field(min_length=1)]
    confirmations: Annotated[int, Field(ge=1)] | Literal["finalized"] = "finalized"
    genesis: str | None = None
    quorum: float = 0.5


class ShopSection(Section):
    token: Secret | None = None
    tags: frozenset[str] = frozenset()
    depth: int = 0

    @field_validator("depth")
    @classmethod
    def _breaks(cls, depth: int) -> int:
        if depth == 13:
            raise KeyError("a plugin's own bug")
        return depth


BASE = """
[chains.ring]
plugin = "ring"
chain_id = 7
nodes = ["ws://127.0.0.1:1"]
[assets.coin]
chain = "ring"
symbol = "COIN"
decimals = 6
[stores.shop]
name = "Shop"
accounts.ring.addresses = ["a1"]
"""


@pytest.fixture
def registry() -> ConfigRegistry:
    registry = ConfigRegistry()
    registry.add_chain_section("ring", RingSection)
    registry.add_plugin_section("shop", ShopSection)
    return registry


Problems = Callable[[str], dict[str, str]]


@pytest.fixture
def problems(tmp_path: Path, registry: ConfigRegistry) -> Problems:
    """What `load` says of a text, by key."""

    def read(toml: str) -> dict[str, str]:
        path = tmp_path / "astrapayd.toml"
        path.write_text(toml)
        with pytest.raises(ConfigError) as caught:
            load(path, registry)
        assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())
        return {problem.key: problem.reason for problem in caught.value.problems}

    return read


@pytest.fixture
def loaded(tmp_path: Path, registry: ConfigRegistry) -> Callable[[str], Config]:
    def read(toml: str) -> Config:
        path = tmp_path / "astrapayd.toml"
        path.write_text(toml)
        return load(path, registry)

    return read


def test_a_good_file_is_read_whole(loaded: Callable[[str], Config]) -> None:
    config = loaded(BASE)
    assert config.chains["ring"] == RingSection(plugin="ring", chain_id=7, nodes=("ws://127.0.0.1:1",))
    assert config.assets["coin"].tail_digits == 4
    assert config.stores["shop"].accounts["ring"].addresses == ("a1",)
    assert config.plugins == {"shop": ShopSection()}
    assert config.notes == ()


def test_an_empty_file_has_the_defaults(loaded: Callable[[str], Config]) -> None:
    config = loaded("")
    assert config.server.public == "127.0.0.1:8420"
    assert config.log.format == "auto"
    assert dict(config.chains) == {}


def test_everything_wrong_is_said_at_once(problems: Problems) -> None:
    said = problems("""
        [srever]
        [server]
        publik = "x"
        public_url = "ftp://x"
        [log]
        level = "loud"
        [chains.ring]
        plugin = "ring"
        chain_id = 0
        nodes = ["ws://a", 3]
        [chains.other]
        plugin = "rong"
        [assets.coin]
        chain = "rink"
        symbol = ""
        decimals = 6
        [stores.shop.accounts.rink]
        addresses = []
        [plugins.shop]
        token = "hunter2"
    """)
    assert set(said) == {
        "srever",
        "server.publik",
        "server.public_url",
        "log.level",
        "chains.ring.chain_id",
        "chains.ring.nodes[1]",
        "chains.other.plugin",
        "assets.coin.symbol",
        "stores.shop.name",
        "plugins.shop.token",
    }
    assert "hunter2" not in str(said)


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ("[server]\npublik = 1", "server.publik", "is not a setting: did you mean public?"),
        ("[serve]", "serve", "is not a table of this file: did you mean server?"),
        ("server = 3", "server", "is not a table: write [server] above its settings"),
        ("chains = 3", "chains", "is not a table: write [chains.NAME] above its settings"),
        ("assets.x = 3", "assets.x", "is not a table: write [assets.x] above its settings"),
        ("[log]\nlevel = 3", "log.level", 'is 3: write "debug", "info", "warning" or "error"'),
        ("[log]\nformat = 'xml'", "log.format", 'is not one of the choices: write "auto", "json" or "console"'),
        ("[assets.x]", "assets.x.chain", "is missing: add chain = ..."),
        ("[server]\npublic = 8420", "server.public", "is a whole number: write text in quotes"),
        ("[server]\ntrusted_proxies = '::1'", "server.trusted_proxies", "is text: write an array, in [ ]"),
        ("[server]\nallow_remote_admin = 'yes'", "server.allow_remote_admin", "is text: write true or false, without quotes"),
        ("[plugins.shop]\ndepth = 1.5", "plugins.shop.depth", "is a number with a point: write a whole number without quotes"),
        ("[plugins.shop]\ndepth = 2020-01-01", "plugins.shop.depth", "is a date or time: write a whole number without quotes"),
        ("[plugins.shop]\ndepth = true", "plugins.shop.depth", "is true or false: write a whole number without quotes"),
        ("[plugins.shop]\ndepth = {}", "plugins.shop.depth", "is a table: write a whole number without quotes"),
        ("[plugins.shop]\ntags = [{}]", "plugins.shop.tags", "is an array: write"),
        ("[plugins.shop]\ndepth = 13", "plugins.shop", "the plugin's own check failed with KeyError"),
        ("[plugins.chop]", "plugins.chop", "belongs to no installed plugin that has settings: did you mean shop?"),
        ("[chains.x]", "chains.x.plugin", "is missing: name the plugin that serves the chain (installed: ring)"),
        ("[chains.x]\nplugin = 'rinq'", "chains.x.plugin", "names no installed plugin (installed: ring): did you mean ring?"),
        ("[chains.x]\nplugin = 'bitcoin'", "chains.x.plugin", "install the plugin, or correct the name"),
        ("[chains.x]\nplugin = 3", "chains.x.plugin", "is a whole number: write text in quotes"),
        ("[chains.Big]\nplugin = 'ring'", "chains.Big", "is not a usable name: write lower-case letters"),
        ("[stores.'a b']\nname='x'", 'stores."a b"', "is not a usable name"),
        ("[stores.x]\nname = ''", "stores.x.name", "is empty: write something"),
        (f"[stores.x]\nname = '{'n' * 81}'", "stores.x.name", "is 81 characters long: write at most 80 characters"),
        ("[stores.x]\npayment_window_secs = 5", "stores.x.payment_window_secs", "is 5: write a number of at least 60"),
        ("[stores.x]\nlate_window_secs = 99999999", "stores.x.late_window_secs", "write a number of at most 2592000"),
        ("[stores.x]\ntolerance = 0.1", "stores.x.tolerance", "is a number with a point: write text in quotes"),
        ("[stores.x]\ntolerance = '-1'", "stores.x.tolerance", "is not an amount: write digits with a point, in quotes"),
        ("[stores.x.accounts]\nring = 3", "stores.x.accounts.ring", "is a whole number: write a table"),
        ("[stores.x.accounts.ring]\nadresses = []", "stores.x.accounts.ring.adresses", "did you mean addresses?"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_key_and_sentence(problems: Problems, change: str, key: str, reason: str) -> None:
    assert reason in problems(change)[key]


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ("confirmations = 0", "is 0: write a number of at least 1 or \"finalized\""),
        ("confirmations = 'final'", 'is not one of the choices: write a whole number without quotes or "finalized"'),
        ("confirmations = true", 'write a whole number without quotes or "finalized"'),
    ],
)  # fmt: skip
def test_a_choice_of_two_types_is_one_sentence(problems: Problems, chain: str, reason: str) -> None:
    said = problems(f"[chains.x]\nplugin='ring'\nchain_id=1\nnodes=['ws://a']\n{chain}")
    assert list(said) == ["chains.x.confirmations"]
    assert reason in said["chains.x.confirmations"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = ", "in line 1, column 5 (a value is missing, or is text without quotes)"),
        ('a = 1\nb = "x', "in line 2, column 7 (unterminated string)"),
        ("a = 1\n[b\n", "in line 2, column 3 (expected ']' at the end of a table declaration)"),
        ("a = 1\na = 2", "cannot overwrite a value"),
        ("a = 2020-02-30", "invalid date"),
        ("a = " + "1" * 5000, "has a number that is far too long"),
        ("a = " + "[" * 100_000, "is nested too deeply"),  # py-evm raises the recursion limit for its process
        ("a = {'sesame' = 1, 'sesame' = 2}", "duplicate inline table key"),
    ],
)
def test_what_is_not_toml_has_line_and_column(problems: Problems, text: str, reason: str) -> None:
    said = problems(text)
    assert reason in said[""]
    assert "sesame" not in said[""]
    assert "\n" not in said[""]


def test_files_that_cannot_be_read(tmp_path: Path, registry: ConfigRegistry) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"a = 1\nb = 'caf\xe9'\n")
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * (1024 * 1024 + 1))
    for path, reason in [
        (tmp_path / "none.toml", "does not exist: run 'astrapayd init'"),
        (tmp_path, "cannot be read (Is a directory)"),
        (tmp_path / "nul\0", "is not a possible file name"),
        (latin, "is not UTF-8 text in line 2"),
        (huge, "is longer than 1 MiB"),
    ]:
        with pytest.raises(ConfigError) as caught:
            load(path, registry)
        assert reason in caught.value.problems[0].reason


def test_a_file_that_all_can_write_is_noted(
    loaded: Callable[[str], Config], tmp_path: Path, registry: ConfigRegistry
) -> None:
    loaded(BASE)
    path = tmp_path / "astrapayd.toml"
    path.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IWOTH)
    assert "every user of this machine can change where payments go" in load(path, registry).notes[0]


@pytest.mark.parametrize(
    ("listener", "parsed"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:8420", ("::1", 8420)), ("localhost:65535", ("localhost", 65535))],
)
def test_listeners(listener: str, parsed: tuple[str, int]) -> None:
    assert parse_listener(listener) == parsed


@pytest.mark.parametrize(
    "listener", ["", "localhost", ":8420", "::1:8420", "[::1]", "h:65536", "h:-1", "h:٣", "a b:1", "[x]:1", "h:"]
)
def test_what_is_no_listener(problems: Problems, listener: str) -> None:
    assert "write host:port" in problems(f"server.public = '{listener}'")["server.public"]


def test_the_admin_listener_stays_inside(problems: Problems, loaded: Callable[[str], Config]) -> None:
    for host in ("0.0.0.0", "192.168.1.2", "[::]", "shop.example"):
        assert "strangers could reach the dashboard" in problems(f"server.admin = '{host}:1'")["server.admin"]
        assert loaded(f"[server]\nadmin = '{host}:1'\nallow_remote_admin = true").server.admin == f"{host}:1"
    for host in ("127.0.0.2", "[::1]", "localhost"):
        assert loaded(f"server.admin = '{host}:1'").server.admin == f"{host}:1"
    assert "same as server.public" in problems("server.admin = '127.0.0.1:8420'")["server.admin"]


@pytest.mark.parametrize(
    "url",
    ["", "pay.example", "ftp://pay.example", "https://", "https://pay.example/shop", "https://pay.example/?a", "https://a:b@pay.example",
     "https://pay.example#x", "https://pay.example:99999", "https://[::1", "https://pay example", "https://pay.example?"],
)  # fmt: skip
def test_public_urls_that_are_refused(problems: Problems, url: str) -> None:
    assert "https://pay.example" in problems(f"server.public_url = '{url}'")["server.public_url"]


def test_public_urls(loaded: Callable[[str], Config]) -> None:
    assert loaded("server.public_url = 'https://Pay.Example/'").server.public_url == "https://pay.example"
    assert loaded("server.public_url = 'http://abc.onion'").notes == ()
    assert loaded("server.public_url = 'http://[::1]:8420'").notes == ()
    assert "without encryption" in loaded("server.public_url = 'http://pay.example'").notes[0]


def test_tables_are_checked_against_each_other(problems: Problems) -> None:
    said = problems(
        BASE
        + """
        [assets.fine]
        chain = "ring"
        symbol = "FINE"
        contract = "C1"
        decimals = 5
        [assets.again]
        chain = "ring"
        symbol = "COIN2"
        decimals = 8
        [assets.lost]
        chain = "rings"
        symbol = "LOST"
        decimals = 8
        [stores.two]
        name = "Two"
        tolerance = "0.0000001"
        accounts.ring.addresses = ["a2", "a1", "a2", " "]
        accounts.star.addresses = []
        """
    )
    assert said == {
        "assets.fine.tail_digits": "is 4, which with price_decimals 2 is more than the asset's 5 decimals: lower one of the two",
        "assets.again.contract": "is the same native coin (no contract) as that of assets.coin: keep one of them",
        "assets.lost.chain": "names no chain of this file: did you mean ring?",
        "stores.two.accounts.ring.addresses[1]": (
            "stands at stores.shop.accounts.ring.addresses[0] too, and an address belongs to one store: remove one"
        ),
        "stores.two.accounts.ring.addresses[2]": (
            "stands at stores.two.accounts.ring.addresses[0] too, and an address belongs to one store: remove one"
        ),
        "stores.two.accounts.ring.addresses[3]": "is empty: write an address",
        "stores.two.accounts.star": "is no chain of this file: use one of ring",
        "stores.two.accounts.star.addresses": "has no entry: write at least one address, or an xpub",
        "stores.two.tolerance": "is finer than COIN can be: write at most 6 decimals",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///var/lib/x.db", "/var/lib/x.db"),
        ("sqlite:////var/lib/x.db", "/var/lib/x.db"),
        ("sqlite+aiosqlite:////var/lib/x.db", "/var/lib/x.db"),
        ("sqlite:////x.db", "/x.db"),
        ("sqlite:///x.db", "{here}/x.db"),
        ("sqlite:///./sub/x.db", "{here}/sub/x.db"),
        ("sqlite:x.db", "{here}/x.db"),
    ],
)
def test_sqlite_paths_are_made_absolute(loaded: Callable[[str], Config], tmp_path: Path, url: str, file: str) -> None:
    assert loaded(f"database.url = '{url}'").database.url == "sqlite:///" + file.format(here=tmp_path)


@pytest.mark.parametrize(
    "url",
    ["", "x.db", "mysql://x/y", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://host/x.db", "sqlite:///x.db?mode=ro",
     "postgresql:x", "postgresql://host", "postgresql://host:port/x", "postgresql://u:hunter2@host/x"],
)  # fmt: skip
def test_databases_that_are_refused(problems: Problems, url: str) -> None:
    reason = problems(f"database.url = '{url}'")["database.url"]
    assert "hunter2" not in reason


def test_postgresql(loaded: Callable[[str], Config], problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "p@ss/word")
    for url in ("postgresql://me@host/db", "postgresql+asyncpg://me@/db?host=/run/postgresql"):
        assert loaded(f"database.url = '{url}'").database.connect_url() == url
    database = loaded("[database]\nurl = 'postgresql://me@host:5432/db'\npassword = { env = 'DB_PASSWORD' }").database
    assert database.connect_url() == "postgresql://me:p%40ss%2Fword@host:5432/db"
    assert "p@ss" not in repr(database)
    assert "only for PostgreSQL" in problems("database.password = { env = 'DB_PASSWORD' }")["database.password"]


def test_secrets_come_from_elsewhere(
    loaded: Callable[[str], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "from env")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "token").write_text("from file\n")
    for source, text in [
        ("{ env = 'TOKEN' }", "from env"),
        (f"{{ file = '{tmp_path}/token' }}", "from file"),
        ("{ credential = 'token' }", "from file"),
    ]:
        section = loaded(f"plugins.shop.token = {source}").plugins["shop"]
        assert isinstance(section, ShopSection)
        assert section.token is not None
        assert section.token.reveal() == text
        for shown in (repr(section), str(section), section.model_dump_json(), f"{section.token}"):
            assert text not in shown


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("'hunter2'", "is a secret and may not stand in the file itself"),
        ("5", "is a secret and may not stand in the file itself"),
        ("{}", "does not say where the secret is"),
        ("{ env = 'A', file = '/b' }", "does not say where the secret is"),
        ("{ env = 3 }", "does not say where the secret is"),
        ("{ value = 'hunter2' }", "does not say where the secret is"),
        ("{ env = 'hunter2' }", "names an environment variable that is not set"),
        ("{ env = 'EMPTY' }", "names a place that is empty (env)"),
        ("{ file = 'hunter2' }", "names a file by a relative path"),
        ("{ file = '/nowhere/x' }", "which cannot be read (No such file or directory)"),
        ('{ file = "/a\\u0000b" }', "has a null character"),
        ("{ file = '/dev/zero' }", "longer than any secret"),
        ("{ credential = 'x' }", "but systemd gave none"),
    ],
)
def test_secrets_that_are_refused(
    problems: Problems, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    said = problems(f"plugins.shop.token = {source}")["plugins.shop.token"]
    assert reason in said
    assert "hunter2" not in said


def test_credentials_have_no_path(problems: Problems, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name in ("../x", "/etc/passwd", "..", ""):
        assert "by a path" in problems(f"plugins.shop.token = {{ credential = '{name}' }}")["plugins.shop.token"]


def test_a_secret_is_a_value_without_a_face() -> None:
    secret = Secret("hunter2")
    assert secret == Secret("hunter2") != Secret("other")
    assert len({secret, Secret("hunter2")}) == 1
    with pytest.raises(TypeError):
        __import__("pickle").dumps(secret)
    assert DatabaseSection(url="postgresql://a/b", password=secret).password is secret
