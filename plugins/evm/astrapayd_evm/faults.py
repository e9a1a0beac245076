"""What can be wrong with an Ethereum node beside what can be wrong with every node (:mod:`astrapayd.node_faults`)."""

from __future__ import annotations

from astrapayd.node_faults import NodeFault, excerpt


class RpcError(NodeFault):
    """The node answered a request with a JSON-RPC error object."""

    METHOD_NOT_FOUND = -32601
    HISTORY_PRUNED = 4444
    """geth and others, since history expiry (EIP-4444)."""

    def __init__(self, code: int, message: str) -> None:
        """:param message: the node's own text; kept short and printable."""
        super().__init__(f"answered with error {code}: {excerpt(message)}")
        self.code = code
        self.message = message

    @property
    def says_pruned(self) -> bool:
        """Whether the node says that it has deleted this part of the history; the words differ by client."""
        text = self.message.lower()
        return self.code == self.HISTORY_PRUNED or "pruned" in text or "history is not available" in text

    @property
    def says_unsupported(self) -> bool:
        """Whether the node does not have the method at all. Some gateways answer -32600 or -32000 with words."""
        text = self.message.lower()
        return self.code == self.METHOD_NOT_FOUND or (
            "method" in text
            and any(word in text for word in ("not found", "not exist", "not supported", "unsupported"))
        )
