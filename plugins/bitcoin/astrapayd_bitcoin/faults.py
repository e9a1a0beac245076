"""What can be wrong with a node. Every one of these is mended by waiting, by asking again, or by another node.

Messages are parts of sentences for the administrator (``node 127.0.0.1:8332 <message>``). They never hold a user name,
password or cookie, and never what a node sent beyond a short, printable excerpt of its error text.
"""

from __future__ import annotations

_EXCERPT_CHARS = 160


class NodeFault(Exception):
    """Base of everything a node can do wrong."""


class NodeUnreachable(NodeFault):
    """No connection, or it was lost."""


class NodeSilent(NodeFault):
    """Connected, but a request was not answered in time, or no more notifications come."""


class NodeRefuses(NodeFault):
    """The node does not take the user, password or cookie, or nobody from this address."""


class NodeStarting(NodeFault):
    """The node answers, but it is still loading its blocks (error -28)."""


class NodeSyncing(NodeFault):
    """The node is in its initial block download: what it calls its tip is old, and nothing is credited by it."""


class GarbageAnswer(NodeFault):
    """What came is no answer of a Bitcoin node: an HTML page, half a message, an answer without result."""


class MalformedAnswer(NodeFault):
    """An answer, but not what the method answers with, or not about what was asked for. Such an answer is asked for
    again and never used in part: what it left out could be somebody's payment."""


class ShiftingView(NodeFault):
    """The node's chain changed between two answers; asking again gives one consistent view."""


class NodeBehind(NodeFault):
    """The node is behind what was already seen, and stays there."""


class HistoryPruned(NodeFault):
    """The node has deleted blocks that are needed."""


class WrongChain(NodeFault):
    """The node answers well, but it follows another chain."""


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


def excerpt(text: str) -> str:
    """The beginning of a foreign text, with nothing in it that could forge a log line."""
    shown = "".join(char if char.isprintable() else " " for char in text[: _EXCERPT_CHARS + 1])
    return shown if len(shown) <= _EXCERPT_CHARS else shown[: _EXCERPT_CHARS - 3] + "..."
