"""What an administrator of a Bitcoin shop can get wrong, from the command line, against the stand-in node."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from astrapayd_bitcoin import base58
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


async def said(config: Path, command: str, *, fails: bool = True) -> str:
    """Run the command line; all that it says. A user's mistake is told by an exit code and without a traceback."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "astrapayd", command, "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "400"},
    )
    try:
        async with asyncio.timeout(30):
            told = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert not fails or process.returncode in range(1, 64), told
    assert "Traceback" not in told
    return told


async def started(config: Path, seen: str) -> str:
    """What the daemon says from its start until it says that, and until it has stopped when asked to."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "astrapayd", "run", "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    told = ""
    try:
        async with asyncio.timeout(30):
            while seen not in told:
                line = await process.stdout.readline()
                assert line, told
                told += line.decode()
            process.terminate()
            told += (await process.stdout.read()).decode()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, told
    return told


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
    assert words in await said(written(tmp_path, regtest, account), command)


@pytest.mark.parametrize("command", ["doctor", "run"])
@pytest.mark.parametrize("key", ["addresses", "xpub"])
async def test_a_private_key(tmp_path: Path, regtest: Regtest, command: str, key: str) -> None:
    secret = bytes(range(1, 33))  # nobody's
    wif = base58.encode_check(b"\xef" + secret + b"\x01")
    xprv = base58.encode_check(bytes.fromhex("04358394") + bytes(41) + b"\0" + secret)
    account = f'addresses = ["{wif}"]' if key == "addresses" else f'xpub = "{xprv}"'
    told = await said(written(tmp_path, regtest, account), command)
    assert f"stores.shop.accounts.bitcoin.{key}" in told
    assert "private key" in told
    assert wif not in told
    assert xprv not in told


@pytest.mark.parametrize("command", ["doctor", "run"])
async def test_a_wrong_password(tmp_path: Path, regtest: Regtest, command: str) -> None:
    """Also by doctor before the first start, when there is no database yet."""
    told = await said(written(tmp_path, regtest, f'xpub = "{TPUB}"', password="wrong"), command)
    assert f"{regtest.node.url.removeprefix('http://')}" in told
    assert "does not take user and password: correct them (rpcuser and rpcpassword" in told


@pytest.mark.parametrize("command", ["doctor", "run"])
async def test_a_configuration_without_zeromq(tmp_path: Path, regtest: Regtest, command: str) -> None:
    config = written(tmp_path, regtest, f'xpub = "{TPUB}"')
    config.write_text(config.read_text().replace(f'zmq = ["{regtest.node.endpoint}"]', "zmq = []"))
    told = await said(config, command)
    assert 'has no zmq, by which payments are seen: write zmq = ["tcp://127.0.0.1:28332"]' in told
    assert "chains.bitcoin" in told


@pytest.mark.parametrize("command", ["doctor", "run"])
async def test_a_node_that_publishes_nothing(tmp_path: Path, regtest: Regtest, command: str) -> None:
    regtest.node.topics = ()
    told = await said(written(tmp_path, regtest, f'xpub = "{TPUB}"'), command)
    assert "does not publish rawtx, sequence, hashblock by ZeroMQ for chains.bitcoin.nodes: start it with" in told
    assert f"-zmqpubrawtx={regtest.node.endpoint}" in told


async def test_a_node_in_initial_download(tmp_path: Path, regtest: Regtest) -> None:
    """The daemon starts, says what it waits for, and credits nothing; doctor shows it as syncing."""
    regtest.state.syncing = True
    config = written(tmp_path, regtest, f'xpub = "{TPUB}"')
    assert "is still syncing: no session is opened until it is done" in await said(config, "doctor")
    assert "nothing counts until it is done" in await started(config, "still downloading the chain")
    database = sqlite3.connect(tmp_path / "astrapayd.db")
    assert database.execute("SELECT count(*) FROM chain_blocks").fetchone() == (0,)
    database.close()
    assert "is still syncing" in await said(config, "doctor", fails=False)
