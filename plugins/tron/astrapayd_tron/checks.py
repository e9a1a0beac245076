"""Asks a java-tron who it is, and whether it can be followed: `node status`, `config check --nodes`, and each start."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from astrapayd.money import Asset
from astrapayd.node_faults import MalformedAnswer, NodeFault, WrongChain, excerpt
from astrapayd.transfers import NodeStatus
from astrapayd_tron import decode
from astrapayd_tron.address import to_hex20, to_hex21
from astrapayd_tron.fetching import Fetcher
from astrapayd_tron.notifications import Notifications
from astrapayd_tron.rpc import NodeHttp, NodeRefuses

_NOBODY = "41" + "00" * 20
"""Who asks, in a call that changes nothing."""
_SYNCING_BEHIND_SECS = 300  # of the clock: a block comes every 3 s
_QUEUE_SECS = 3.0
_WORD_CHARS = 64


async def used_addresses(full: NodeHttp, addresses: Sequence[str], assets: Sequence[Asset]) -> frozenset[str]:
    """Those that the node has an account for, or that hold one of the tokens.

    :raises NodeFault: for what is wrong with the node.
    """
    tokens = [asset.contract for asset in assets if asset.contract is not None]
    used = set()
    for address in addresses:
        account = await full.ask("wallet/getaccount", address=to_hex21(address))
        if not isinstance(account, dict):
            raise MalformedAnswer("sent something else where an account belongs")
        held = [await _constant(full, token, "balanceOf(address)", to_hex20(address)) for token in tokens]
        if account or any(held):
            used.add(address)
    return frozenset(used)


async def check_node(
    full: NodeHttp,
    solidity: NodeHttp,
    events: str | None,
    *,
    chain: str,
    genesis: str,
    assets: Sequence[Asset],
    now: float,
) -> NodeStatus:
    """Everything that is wrong with a node, as whole sentences with the key to mend; never raises for its faults."""
    try:
        return await _ask(full, solidity, events, genesis, assets, now)
    except WrongChain as fault:
        return NodeStatus(full.label, reachable=True, problems=(f"{fault}: mend chains.{chain}.network or nodes",))
    except NodeFault as fault:
        return NodeStatus(full.label, reachable=await _answers(full), problems=(await _whose(full, solidity, fault),))
    finally:
        await full.close()
        await solidity.close()


async def _ask(
    full: NodeHttp, solidity: NodeHttp, events: str | None, genesis: str, assets: Sequence[Asset], now: float
) -> NodeStatus:
    fetcher = Fetcher(full, solidity)
    await fetcher.identify(genesis)
    newest = await full.ask("wallet/getnowblock")
    head = decode.block_ref(newest)
    solidified = await fetcher.solidified()
    problems = [problem for asset in assets if asset.contract for problem in await _token_problems(full, asset)]
    infos = await full.ask("wallet/gettransactioninfobyblocknum", num=head.height)
    if decode.transaction_ids(newest) and not infos:
        problems.append('keeps no transaction infos: write storage.transHistory.switch = "on" in its configuration')
    if events is not None and not await _publishes(events):
        problems.append("does not publish at events: switch on its event queue, or leave events out")
    return NodeStatus(
        full.label,
        reachable=True,
        client=await _client(full),
        genesis=genesis,
        head=head,
        final_height=min(solidified.height, head.height),
        syncing=now - head.time > _SYNCING_BEHIND_SECS,
        problems=tuple(problems),
    )


async def _answers(full: NodeHttp) -> bool:
    try:
        await full.ask("wallet/getnowblock")
    except NodeFault:
        return False
    return True


async def _whose(full: NodeHttp, solidity: NodeHttp, fault: NodeFault) -> str:
    """The fault, with the port that has it where it is the other one."""
    if not await _answers(full):
        return str(fault)
    try:
        await solidity.ask("walletsolidity/getnowblock")
    except NodeFault as other:
        return f"has a solidity port ({solidity.label}) that {other}"
    return str(fault)


async def _client(full: NodeHttp) -> str:
    """What the node calls itself; some gateways refuse to say."""
    try:
        said = await full.ask("wallet/getnodeinfo")
    except NodeFault:
        return ""
    settings = said.get("configNodeInfo") if isinstance(said, dict) else None
    version = settings.get("codeVersion") if isinstance(settings, dict) else None
    return excerpt(f"java-tron/{version}") if isinstance(version, str) else ""


async def _publishes(endpoint: str) -> bool:
    notifications = Notifications(endpoint)
    await notifications.open()
    try:
        async with asyncio.timeout(_QUEUE_SECS):
            await notifications.connected.wait()
    except TimeoutError:
        return False
    finally:
        await notifications.close()
    return True


async def _token_problems(full: NodeHttp, asset: Asset) -> list[str]:
    assert asset.contract is not None
    try:
        decimals = await _constant(full, asset.contract, "decimals()", "")
    except (NodeRefuses, _NoAnswer):
        return [f"has no contract at assets.{asset.id}.contract that answers decimals(): it is no TRC-20 token"]
    if decimals != asset.decimals:
        return [f"says that the token has {decimals} decimals, but assets.{asset.id}.decimals says {asset.decimals}"]
    return []


class _NoAnswer(MalformedAnswer):
    """The contract is not there, or failed."""


async def _constant(full: NodeHttp, contract: str, selector: str, argument_hex20: str) -> int:
    """What a contract answers to a call that changes nothing, as a uint256."""
    answer = await full.ask(
        "wallet/triggerconstantcontract",
        owner_address=_NOBODY,
        contract_address=to_hex21(contract),
        function_selector=selector,
        parameter=argument_hex20.rjust(_WORD_CHARS, "0") if argument_hex20 else "",
    )
    with decode.malformed("a call's answer"):
        words: Any = answer.get("constant_result", [])
        if answer.get("result", {}).get("result") is not True or not words or len(words[0]) != _WORD_CHARS:
            raise _NoAnswer("has a contract that does not answer")
        return int(words[0], 16)
