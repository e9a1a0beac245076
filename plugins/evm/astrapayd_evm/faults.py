"""What can be wrong with a node. Every one of these is mended by waiting, by asking again, or by another node.

Messages are parts of sentences for the administrator (``node eth.lan:8546: <message>``). They never hold a URL's
user name, password, path or query, and never what a node sent beyond a short, printable excerpt of its error text.
"""

from __future__ import annotations

_EXCERPT_CHARS = 160


class NodeFault(Exception):
    """Base of everything a node can do wrong."""


class NodeUnreachable(NodeFault):
    """No connection, or it was lost."""


class NodeSilent(NodeFault):
    """Connected, but a request was not answered in time."""


class GarbageAnswer(NodeFault):
    """What came is not JSON-RPC 2.0: an HTML page, half a message, an answer without result."""


class MalformedAnswer(NodeFault):
    """JSON-RPC, but not what the method answers with, or not about the block that was asked for. Such an answer is
    asked for again and never used in part: what it left out could be somebody's payment."""


class ShiftingView(NodeFault):
    """The node's chain changed between two answers; asking again gives one consistent view."""


class NodeBehind(NodeFault):
    """The node is behind what was already seen, and stays there."""


class HistoryPruned(NodeFault):
    """The node no longer has the blocks or receipts that are needed."""


class WrongChain(NodeFault):
    """The node answers well, but it follows another chain."""


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


def excerpt(text: str) -> str:
    """The beginning of a foreign text, with nothing in it that could forge a log line."""
    shown = "".join(char if char.isprintable() else " " for char in text[: _EXCERPT_CHARS + 1])
    return shown if len(shown) <= _EXCERPT_CHARS else shown[: _EXCERPT_CHARS - 3] + "..."
