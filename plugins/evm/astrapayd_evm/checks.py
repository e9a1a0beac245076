"""Asks a node who it is, and whether it can be followed: `node status`, `config check --nodes`, and each start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from astrapayd.money import Asset
from astrapayd.node_faults import MalformedAnswer, NodeFault, WrongChain, excerpt
from astrapayd.transfers import NodeStatus
from astrapayd_evm import decode
from astrapayd_evm.faults import RpcError
from astrapayd_evm.fetching import Fetcher
from astrapayd_evm.rpc import NodeRpc

_DECIMALS_CALL = "0x313ce567"  # keccak256("decimals()")[:4], ERC-20
_BALANCE_CALL = "0x70a08231"  # keccak256("balanceOf(address)")[:4], ERC-20


async def identify(rpc: NodeRpc, chain_id: int, genesis: str) -> str:
    """The genesis hash of a connected node, once it has shown to follow the right chain.

    :param genesis: the one expected; empty to accept any.
    :raises WrongChain: if chain id or genesis is another.
    :raises NodeFault: for what is wrong with the node.
    """
    theirs = decode.quantity(await rpc.call("eth_chainId"))
    if theirs != chain_id:
        raise WrongChain(f"is of chain {theirs}, but chain_id says {chain_id}")
    block = await rpc.call("eth_getBlockByNumber", "0x0", False)
    if block is None:
        return genesis  # history expiry may take even block 0; the chain's ancestry is still checked
    found = decode.block_ref(block).hash
    if genesis and found != genesis:
        raise WrongChain(f"begins with block {found}, but the chain followed so far begins with {genesis}")
    return found


async def used_addresses(rpc: NodeRpc, addresses: Sequence[str], assets: Sequence[Asset]) -> frozenset[str]:
    """Those that hold coin or one of the tokens, or have sent a transaction. What came and was swept by a contract's
    leave leaves no trace in the state, and is not found.

    :raises NodeFault: for what is wrong with the node.
    """
    used = set()
    for address in addresses:
        tokens = [asset.contract for asset in assets if asset.contract is not None]
        figures = [
            decode.quantity(await rpc.call("eth_getTransactionCount", address, "latest")),
            decode.quantity(await rpc.call("eth_getBalance", address, "latest")),
        ]
        for contract in tokens:
            call = {"to": contract, "data": _BALANCE_CALL + address.removeprefix("0x").rjust(64, "0")}
            figures.append(_word(await rpc.call("eth_call", call, "latest")))
        if any(figures):
            used.add(address)
    return frozenset(used)


async def check_node(
    rpc: NodeRpc, *, chain: str, chain_id: int, genesis: str, assets: Sequence[Asset], needs_finality: bool
) -> NodeStatus:
    """Everything that is wrong with a node, as whole sentences with the key to mend; never raises for its faults."""
    try:
        await rpc.open()
        return await _ask(rpc, chain, chain_id, genesis, assets, needs_finality)
    except WrongChain as fault:
        return NodeStatus(rpc.label, reachable=True, problems=(f"{fault}: mend chains.{chain}.chain_id or nodes",))
    except NodeFault as fault:
        return NodeStatus(rpc.label, reachable=rpc.is_open, problems=(str(fault),))
    finally:
        await rpc.close()


async def _ask(
    rpc: NodeRpc, chain: str, chain_id: int, genesis: str, assets: Sequence[Asset], needs_finality: bool
) -> NodeStatus:
    found_genesis = await identify(rpc, chain_id, genesis)
    fetcher = Fetcher(rpc)
    head = await fetcher.head()
    final_height = await fetcher.final_height()
    client = await _client(rpc)
    syncing = bool(await rpc.call("eth_syncing"))
    problems = [problem for asset in assets if asset.contract for problem in await _token_problems(rpc, asset)]
    if needs_finality and final_height < 0 and not syncing:
        problems.append(
            f"calls no block final, but chains.{chain} waits for that: write numbers of blocks for confirmations and "
            "final, or give the node its consensus client"
        )
    return NodeStatus(
        rpc.label,
        reachable=True,
        client=client,
        genesis=found_genesis,
        head=head,
        final_height=final_height,
        syncing=syncing,
        problems=tuple(problems),
    )


async def _client(rpc: NodeRpc) -> str:
    """What the node calls itself; some gateways refuse to say."""
    try:
        said = await rpc.call("web3_clientVersion")
    except RpcError:
        return ""
    return excerpt(said) if isinstance(said, str) else ""


async def _token_problems(rpc: NodeRpc, asset: Asset) -> list[str]:
    code = await rpc.call("eth_getCode", asset.contract, "latest")
    if code in ("0x", None):
        return [f"has no code at assets.{asset.id}.contract: it is no token of this chain"]
    try:
        answer = await rpc.call("eth_call", {"to": asset.contract, "data": _DECIMALS_CALL}, "latest")
        decimals = _word(answer)
    except (RpcError, MalformedAnswer):
        return [f"has a contract at assets.{asset.id}.contract that does not answer decimals(): it is no ERC-20 token"]
    if decimals != asset.decimals:
        return [f"says that the token has {decimals} decimals, but assets.{asset.id}.decimals says {asset.decimals}"]
    return []


def _word(answer: Any) -> int:
    """A uint256 as ``eth_call`` answers it: 32 bytes, with its leading zeros."""
    if not isinstance(answer, str) or len(answer) != 66:
        raise MalformedAnswer("sent a call's answer that is no number")
    return decode.quantity(answer)
