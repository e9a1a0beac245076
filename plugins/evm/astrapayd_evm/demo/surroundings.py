"""What `astrapayd demo` runs in: a chain in a process of its own, and a configuration that is thrown away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from astrapayd.services.chains import levels
from astrapayd.services.core import Core

START_TIMEOUT_SECS = 30
STORE = "corner-coffee"
USDT = "usdt-demo"
COIN = "coin-demo"
PAYMENT_WINDOW_SECS = 180  # short, so that "pay too late" can be watched
FINALITY_DEPTH = 30  # a block a second: half a minute in which a payment can still be reorganised away


class DemoError(Exception):
    """The demo cannot start. The message is one sentence for who typed the command."""


@dataclass(frozen=True, slots=True)
class DemoChainProcess:
    """The running chain: where it listens, its id, and the contract of its MockUSDT."""

    url: str
    chain_id: int
    usdt: str


@asynccontextmanager
async def demo_chain() -> AsyncIterator[DemoChainProcess]:
    """Run the embedded chain until the block ends. It ends with this process, however that ends.

    :raises DemoError: if it does not start.
    """
    try:
        import eth  # noqa: F401 - py-evm: only the chain's own process uses it
    except ImportError:
        raise DemoError("the demo's chain is not installed: run pip install 'astrapayd[demo]'") from None
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "astrapayd_evm.demo.server", "--finality-depth", str(FINALITY_DEPTH)),
        stdin=asyncio.subprocess.PIPE,  # it ends when this pipe closes
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        try:
            line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_SECS)
        except TimeoutError:
            raise DemoError(f"the demo's chain did not start within {START_TIMEOUT_SECS} s") from None
        if not line:
            raise DemoError("the demo's chain ended at once; what it printed stands above")
        said = json.loads(line)
        yield DemoChainProcess(said["url"], said["chain_id"], said["usdt"])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def wait_until_open(core: Core) -> None:
    """Wait until the shop takes payments: its watcher is level with the chain."""
    while not all((await levels(core)).values()):  # noqa: ASYNC110 - the database is asked, as every process does
        await asyncio.sleep(0.02)


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """So many ports, all different: asked for one after the other, the system may give the same one again."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def write_configuration(folder: Path, chain: DemoChainProcess, *, public: str, admin: str, webhooks: bool) -> Path:
    """A configuration as a merchant would write it, for the demo's chain; its path.

    :param webhooks: allow webhooks to this machine, for the self-test's receiver.
    """
    path = folder / "astrapayd.toml"
    path.write_text(
        f"""\
[server]
public = "{public}"
admin = "{admin}"
public_url = "http://{public}"

[database]
url = "sqlite:///{folder / "demo.db"}"

[chains.demo]
plugin = "evm"
title = "Demo chain"
chain_id = {chain.chain_id}
nodes = ["{chain.url}"]
confirmations = 3
final = "finalized"
testnet = true

[assets.{USDT}]
chain = "demo"
symbol = "USDT"
contract = "{chain.usdt}"
decimals = 6
price_decimals = 2
tail_digits = 4

[assets.{COIN}]
chain = "demo"
symbol = "ETH"
decimals = 18
price_decimals = 6
tail_digits = 4

[stores.{STORE}]
name = "Corner Coffee"
payment_window_secs = {PAYMENT_WINDOW_SECS}

[stores.{STORE}.accounts.demo]
addresses = ["0x{secrets.token_hex(20)}"]
{
            '''
[plugins.webhooks]
allow_private = true
'''
            if webhooks
            else ""
        }""",
        encoding="utf-8",
    )
    path.chmod(0o600)
    return path
