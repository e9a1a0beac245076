"""What can be wrong with a Bitcoin node beside what can be wrong with every node (:mod:`astrapayd.node_faults`)."""

from __future__ import annotations

from astrapayd.node_faults import NodeFault, excerpt


class NodeRefuses(NodeFault):
    """The node does not take the user, password or cookie, or nobody from this address."""


class NodeStarting(NodeFault):
    """The node answers, but it is still loading its blocks (error -28)."""


class NodeSyncing(NodeFault):
    """The node is in its initial block download: what it calls its tip is old, and nothing is credited by it."""


class RpcError(NodeFault):
    """The node answered a request with an error object."""

    MISC = -1
    NOT_FOUND = -5
    INVALID_PARAMETER = -8
    IN_WARMUP = -28
    METHOD_NOT_FOUND = -32601

    def __init__(self, code: int, message: str) -> None:
        """:param message: the node's own text; kept short and printable."""
        super().__init__(f"answered with error {code}: {excerpt(message)}")
        self.code = code
        self.message = message

    @property
    def says_pruned(self) -> bool:
        """Whether a block was asked for that is deleted."""
        return self.code == self.MISC and "pruned" in self.message.lower()
