"""Who a node is, and whether it can serve this configuration. Raw JSON-RPC; sentences for an administrator."""

from __future__ import annotations

from astrapayd.money import Asset
from astrapayd.transfers import BlockRef, NodeStatus
from astrapayd_evm import address as addresses
from astrapayd_evm import decode
from astrapayd_evm.faults import GarbageAnswer, HistoryPruned, MalformedAnswer, NodeFault, RpcError, ShiftingView, WrongChain
from astrapayd_evm.networks import network
from astrapayd_evm.node import EvmNode
from astrapayd_evm.settings import Settings

_DECIMALS_CALL = "0x313ce567"  # the first 4 bytes of keccak256("decimals()")


async def identify(node: EvmNode, settings: Settings, genesis: str | None) -> str:
    """At every connect: is this the chain that we follow?

    :param genesis: the hash that block 0 must have, as configured or first seen; None if not known yet.
    :returns: the hash that the node's block 0 has; empty if the node no longer has it.
    :raises WrongChain: if chain id or genesis differ.
    """
    chain_id = await node.chain_id()
    if chain_id != settings.chain_id:
        raise WrongChain(_other_chain(settings, chain_id))
    theirs = await node.genesis_hash()
    if genesis and theirs and theirs != genesis:
        raise WrongChain(_other_genesis(settings, theirs, genesis))
    return theirs


async def check_node(node: EvmNode, settings: Settings) -> NodeStatus:
    """Everything at once, for the start and for ``node status``. Never raises for a node's fault."""
    who = f"node {node.label}"
    problems: list[str] = []
    try:
        await node.rpc.open()
        chain_id = await node.chain_id()
        client = await _client(node)
        if chain_id != settings.chain_id:
            problem = f"{who} {_other_chain(settings, chain_id)}"
            return NodeStatus(node.label, reachable=True, client=client, problems=(problem,))
        genesis = await node.genesis_hash()
        if settings.genesis and genesis and genesis != settings.genesis:
            problems.append(f"{who} {_other_genesis(settings, genesis, settings.genesis)}")
        syncing = await node.syncing()
        if syncing:
            problems.append(f"{who} is still syncing with its network: payments show only once it has caught up")
        head, final = await node.head(), await node.final()
        problems += await _limits(node, settings, head, final)
        for asset in settings.assets:
            problems += await _asset(node, settings, asset)
    except NodeFault as fault:
        return NodeStatus(node.label, reachable=False, problems=(*problems, f"{who} {fault}"))
    return NodeStatus(
        node=node.label,
        reachable=True,
        client=client,
        genesis=genesis,
        head=head,
        final_height=final.height if final else -1,
        syncing=syncing,
        problems=tuple(problems),
    )


async def _limits(node: EvmNode, settings: Settings, head: BlockRef, final: BlockRef | None) -> list[str]:
    problems = []
    needed_by = [key for key in ("confirmations", "final") if getattr(settings, key).blocks is None]
    if final is None and needed_by:
        keys = " and ".join(f"chains.{settings.chain}.{key}" for key in needed_by)
        problems.append(
            f'node {node.label} calls no block final, so {keys} = "finalized" would never be reached: '
            f"write a number of blocks, or use a node that knows finality"
        )
    try:
        await node.block_receipts(head)
    except (RpcError, HistoryPruned, MalformedAnswer) as fault:
        problems.append(
            f"node {node.label} does not serve eth_getBlockReceipts ({fault}): blocks are read by their logs "
            f"instead, which is slower; update the node, or enable its eth namespace"
        )
    except ShiftingView:
        pass  # the block was reorganised away between two questions: nothing is known to be wrong
    return problems


async def _asset(node: EvmNode, settings: Settings, asset: Asset) -> list[str]:
    """Is the token there, and does it count as configured? An asset is never trusted by its symbol."""
    if asset.contract is None:
        return []
    shown, key = addresses.display(asset.contract), f"assets.{asset.id}"
    if await node.code(asset.contract) in {"0x", "0x0"}:
        where = f"chain {settings.chain_id} ({network(settings.chain_id).title})"
        return [f"{key}.contract: there is no contract at {shown} on {where}: correct the address or the chain"]
    try:
        answer = await node.call_contract(asset.contract, _DECIMALS_CALL)
        decimals = decode.quantity(answer, most=255)
    except (RpcError, MalformedAnswer):
        return [f"{key}.contract: the contract at {shown} does not tell its decimals, so it is no ERC-20 token"]
    if decimals != asset.decimals:
        return [f"{key}.decimals is {asset.decimals}, but the contract at {shown} says {decimals}: write {decimals}"]
    return []


async def _client(node: EvmNode) -> str:
    try:
        return await node.client()
    except (RpcError, GarbageAnswer):
        return ""  # some gateways close the web3 namespace


def _other_chain(settings: Settings, theirs: int) -> str:
    return (
        f"is of chain {theirs} ({network(theirs).title}), but chains.{settings.chain}.chain_id says "
        f"{settings.chain_id} ({network(settings.chain_id).title}): correct the number or the node"
    )


def _other_genesis(settings: Settings, theirs: str, ours: str) -> str:
    return (
        f"is of another chain with the same id {settings.chain_id}: its genesis is {theirs}, but {ours} was expected "
        f"(chains.{settings.chain}.genesis, or the first one seen)"
    )
