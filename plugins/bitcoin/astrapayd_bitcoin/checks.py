"""Asks a node who it is, and whether it can be followed: `doctor`, `config check --nodes`, and each start."""

from __future__ import annotations

from collections.abc import Sequence

from astrapayd.node_faults import NodeFault, WrongChain, excerpt
from astrapayd.transfers import NodeStatus
from astrapayd_bitcoin.faults import NodeRefuses, RpcError
from astrapayd_bitcoin.networks import Network
from astrapayd_bitcoin.node import CoreNode
from astrapayd_bitcoin.notifications import TOPICS


async def identify(node: CoreNode, network: Network, genesis: str) -> str:
    """The genesis hash of a node, once it has shown to follow the right chain.

    :param genesis: the hash that block 0 must have.
    :raises WrongChain: if the network or block 0 is another.
    :raises NodeFault: for what is wrong with the node.
    """
    info = await node.info()
    if info.chain != network.node_name:
        raise WrongChain(f"follows the network {excerpt(info.chain)!r}, but network = {network.name!r} is configured")
    found = await node.hash_at(0)
    if found != genesis:
        raise WrongChain(f"begins with block {found}, but {network.name} begins with {genesis}")
    return found


async def check_node(
    node: CoreNode, *, chain: str, network: Network, genesis: str, endpoints: Sequence[str]
) -> NodeStatus:
    """Everything that is wrong with a node, as whole sentences with the key to mend; never raises for its faults."""
    label = node.rpc.label
    try:
        found = await identify(node, network, genesis)
        info = await node.info()
        head = await node.block(info.best)
        return NodeStatus(
            label,
            reachable=True,
            client=excerpt(await node.client()),
            genesis=found,
            head=head,
            syncing=info.syncing,
            pruned_below=info.pruned_below,
            problems=tuple(await _notification_problems(node, chain, endpoints)),
        )
    except WrongChain as fault:
        return NodeStatus(label, reachable=True, problems=(f"{fault}: mend chains.{chain}.network or nodes",))
    except (NodeRefuses, RpcError) as fault:
        return NodeStatus(label, reachable=True, problems=(str(fault),))
    except NodeFault as fault:
        return NodeStatus(label, reachable=False, problems=(str(fault),))
    finally:
        await node.rpc.close()


async def _notification_problems(node: CoreNode, chain: str, endpoints: Sequence[str]) -> list[str]:
    """What keeps payments from being seen within a second."""
    options = " ".join(f"-zmqpub{topic}={endpoint}" for topic in TOPICS for endpoint in endpoints[:1])
    try:
        published = await node.published()
    except RpcError as error:
        if error.code == RpcError.METHOD_NOT_FOUND:
            return ["is built without ZeroMQ, by which it tells of payments: use a build that has it"]
        raise
    if published is None:
        return []
    missing = [topic for topic in TOPICS if topic not in published]
    if missing:
        return [f"does not publish {', '.join(missing)} by ZeroMQ for chains.{chain}.nodes: start it with {options}"]
    return []
