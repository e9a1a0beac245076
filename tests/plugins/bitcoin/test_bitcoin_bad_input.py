"""What an administrator of a Bitcoin shop can get wrong, from the command line, against the stand-in node."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.plugins.bitcoin.regtest import Regtest
from tests.plugins.bitcoin.standin import PASSWORD, USER
from tests.plugins.bitcoin.test_bitcoin_derivation import TPUB, XPUB

OURS = "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk"


@pytest.fixture
async def regtest() -> AsyncIterator[Regtest]:
    regtest = Regtest()
    await regtest.node.start()
    yield regtest
    await regtest.node.stop()


def written(tmp_path: Path, regtest: Regtest, account: str, password: str = PASSWORD) -> Path:
    """A configuration that is right but for what is given."""
    config, secret = tmp_path / "astrapayd.toml", tmp_path / "password"
    secret.write_text(password)
    secret.chmod(0o600)
    login = f'user = "{USER}", password = {{ file = "{secret}" }}'
    config.write_text(
        f"""
[database]
url = "sqlite:///{tmp_path / "astrapayd.db"}"

[chains.bitcoin]
plugin = "bitcoin"
network = "regtest"
nodes = [{{ url = "{regtest.node.url}", {login}, zmq = ["{regtest.node.endpoint}"] }}]

[stores.shop]
name = "Shop"

[stores.shop.accounts.bitcoin]
{account}
"""
    )
    config.chmod(0o600)
    return config


async def refused(config: Path, command: str) -> str:
    """Run the command line; all that it says. It must fail as a user's mistake, without a traceback."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "astrapayd", command, "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "400"},
    )
    try:
        async with asyncio.timeout(30):
            said = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode in range(1, 64), said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("command", ["doctor", "run"])
@pytest.mark.parametrize(
    ("account", "words"),
    [
        pytest.param(f'xpub = "{XPUB}"', "accounts.bitcoin.xpub: is a key of", id="wrong network's key"),
        pytest.param(
            'addresses = ["bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"]',
            "is an address of mainnet, but this chain is regtest",
            id="wrong network's address",
        ),
    ],
)
async def test_a_wrong_account(tmp_path: Path, regtest: Regtest, command: str, account: str, words: str) -> None:
    assert words in await refused(written(tmp_path, regtest, account), command)


async def test_a_wrong_password(tmp_path: Path, regtest: Regtest) -> None:
    config = written(tmp_path, regtest, f'xpub = "{TPUB}"', password="wrong")
    for command in ("run", "doctor"):  # in this order: doctor looks at nodes once run has made the database
        said = await refused(config, command)
        assert "bitcoin" in said
        assert "does not take" in said
