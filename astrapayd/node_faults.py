"""What can be wrong with a node, whatever its chain. Each is mended by waiting, by asking again, or by another node.

Messages are parts of sentences for the administrator (``node eth.lan:8546 <message>``). They never hold a URL's user
name, password, path or query, and never what a node sent beyond a short, printable :func:`excerpt` of its error text.
"""

from __future__ import annotations

_EXCERPT_CHARS = 160


class NodeFault(Exception):
    """Base of everything a node can do wrong."""


class NodeUnreachable(NodeFault):
    """No connection, or it was lost."""


class NodeSilent(NodeFault):
    """Connected, but a request was not answered in time, or no more notifications come."""


class GarbageAnswer(NodeFault):
    """What came is no answer of such a node: an HTML page, half a message, an answer without result."""


class MalformedAnswer(NodeFault):
    """An answer, but not what the method answers with, or not about what was asked for. Such an answer is asked for
    again and never used in part: what it left out could be somebody's payment."""


class ShiftingView(NodeFault):
    """The node's chain changed between two answers; asking again gives one consistent view."""


class NodeBehind(NodeFault):
    """The node is behind what was already seen, and stays there."""


class HistoryPruned(NodeFault):
    """The node no longer has the blocks, or what stands in them, that are needed."""


class WrongChain(NodeFault):
    """The node answers well, but it follows another chain."""


def excerpt(text: str) -> str:
    """The beginning of a foreign text, with nothing in it that could forge a log line."""
    shown = "".join(char if char.isprintable() else " " for char in text[: _EXCERPT_CHARS + 1])
    return shown if len(shown) <= _EXCERPT_CHARS else shown[: _EXCERPT_CHARS - 3] + "..."
