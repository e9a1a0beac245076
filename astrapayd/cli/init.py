"""`astrapayd init`."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from pathlib import Path

import click
import orjson

from astrapayd.cli.common import emit_json, fail, leaf, on_terminal

_ETHEREUM = """\
[chains.ethereum]
plugin = "evm"
chain_id = 1
nodes = ["ws://127.0.0.1:8546"]
# When a payment counts, and when it can no longer be taken back: numbers of blocks, or "finalized".
confirmations = 12
final = "finalized"

[assets.usdt-eth]
chain = "ethereum"
symbol = "USDT"
contract = "0xdAC17F958D2ee523a2206206994597C13D831ec7"
decimals = 6
price_decimals = 2
tail_digits = 4

[assets.usdc-eth]
chain = "ethereum"
symbol = "USDC"
contract = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
decimals = 6
price_decimals = 2
tail_digits = 4

[assets.eth]
chain = "ethereum"
symbol = "ETH"
decimals = 18
price_decimals = 6
tail_digits = 4
"""


@click.command(
    epilog="""\b
Examples:
  astrapayd init                     asks for what it needs
  astrapayd init --store-name "Corner Coffee" --address 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed
  astrapayd init --chain-file config/chains/polygon.toml …
"""
)
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Where to write.")
@click.option("--store-name", help="What customers read as the shop's name.")
@click.option("--public-url", help="What customers type. Default: this machine only, to try it.")
@click.option(
    "--chain-file", type=click.Path(path_type=Path, exists=True), help="One of config/chains/. Default: Ethereum."
)
@click.option("--node", help="Websocket of your own node, such as ws://127.0.0.1:8546.")
@click.option("--address", help="The address that the store is paid to.")
@leaf
def init(
    config_path: Path,
    as_json: bool,
    directory: Path,
    store_name: str | None,
    public_url: str | None,
    chain_file: Path | None,
    node: str | None,
    address: str | None,
) -> None:
    """Begin a shop: write astrapayd.toml. Never overwrites one, and writes nothing that does not load."""
    path = directory / "astrapayd.toml"
    if path.exists():
        fail(str(path), "is there already: edit it, or choose another --directory")
    chain_text = _chain_text(chain_file)
    name = _asked("--store-name", "Name of the shop", store_name)
    node = _asked("--node", "Websocket of your node", node, default="ws://127.0.0.1:8546")
    address = _asked("--address", "Address that the shop is paid to", address)
    _write(path, _configuration(chain_text, name, public_url or "http://127.0.0.1:8420", node, address))
    if as_json:
        emit_json({"file": str(path)})
        return
    click.echo(f"{path} is written. Next:")
    where = "" if directory == Path() else f" --config {path}"
    click.echo(f"  astrapayd config check --nodes{where}   is everything as it should be?")
    click.echo(f"  astrapayd run{where}                    run the daemon")
    click.echo(f'  astrapayd link create{where} --title "Coffee" --amount 25 --currency USDT')


def _chain_text(chain_file: Path | None) -> str:
    """The chain's tables, of which there must be one chain."""
    if chain_file is None:
        return _ETHEREUM
    try:
        text = chain_file.read_text(encoding="utf-8")
        chains = tomllib.loads(text).get("chains")
    except (OSError, ValueError) as error:
        fail(str(chain_file), f"cannot be read: {error}")
    if not isinstance(chains, dict) or len(chains) != 1:
        fail(str(chain_file), "holds no chain, or several: take one of config/chains/")
    return text


def _asked(option: str, question: str, value: str | None, *, default: str | None = None) -> str:
    """The option's value; on a terminal it is asked for."""
    if value is not None:
        return value
    if not on_terminal():
        raise click.UsageError(f"{option} is needed where nobody can be asked")
    answer: str = click.prompt(question, default=default)
    return answer


def _configuration(chain_text: str, store_name: str, public_url: str, node: str, address: str) -> str:
    chain_id = next(iter(tomllib.loads(chain_text)["chains"]))
    store_id = re.sub(r"[^a-z0-9]+", "-", store_name.lower()).strip("-")[:32].strip("-") or "shop"
    chain_text = re.sub(r"(?m)^nodes = .*$", lambda _: f"nodes = [{_quoted(node)}]", chain_text)
    return f"""\
# astrapayd: `astrapayd config check` tells everything that is wrong here; docs/configuration.md is the reference.
# No private key belongs in this file, in any form.

[server]
public_url = {_quoted(public_url)}

[database]
# A bare file name lies beside this file.
url = "sqlite:///astrapayd.db"

{chain_text}
[stores.{store_id}]
name = {_quoted(store_name)}

[stores.{store_id}.accounts.{chain_id}]
addresses = [{_quoted(address)}]
"""


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are among TOML's."""
    return orjson.dumps(text).decode()


def _write(path: Path, text: str) -> None:
    """Whole or not at all, readable by its owner only, and only if it loads.

    :raises astrapayd.config.ConfigError: with everything that is wrong.
    """
    from astrapayd.app import assemble
    from astrapayd.config import ConfigError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".astrapayd-", suffix=".toml")
    except OSError as error:
        fail(str(path.parent), f"cannot be written: {error.strerror}")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        try:
            assemble(Path(temporary))
        except ConfigError as error:
            raise ConfigError(path, error.problems) from error
        os.link(temporary, path)  # unlike a rename it never replaces a file that appeared meanwhile
    finally:
        Path(temporary).unlink()
