"""java-tron's HTTP, one port at a time: questions by POST, answers as JSON.

A question goes to the configured host and to no other: redirects are refused, and no proxy is taken from the
environment. What is wrong with an answer is told as one of :mod:`astrapayd.node_faults`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from astrapayd.node_faults import GarbageAnswer, MalformedAnswer, NodeSilent, NodeUnreachable, excerpt
from astrapayd_tron.collector import no_collection

_MOST_CONNECTIONS = 12
_MOST_CONNECT_SECS = 10.0
_READ_BYTES = 2**20  # a full block has some hundred KiB: few, large reads


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """``max_answer_bytes`` for one answer, ``request_secs`` until it is there."""

    max_answer_bytes: int = 128 * 2**20
    request_secs: float = 30.0


class NodeRefuses(MalformedAnswer):
    """The node answered with an error of the method, in its own words."""


class NodeHttp:
    """One port of one node. Connects at the first question, and again whenever it has to."""

    def __init__(self, url: str, limits: HttpLimits) -> None:
        """:param url: ``http://host:port``."""
        self.label = urlsplit(url).netloc
        self._url = url
        self._limits = limits
        self._session: ClientSession | None = None

    async def ask(self, path: str, **parameters: Any) -> Any:
        """The answer to one question, such as ``ask("wallet/getblockbynum", num=5)``.

        :raises NodeRefuses: if the node answers with an error of the method.
        :raises NodeFault: for everything else that is wrong with it.
        """
        try:
            async with asyncio.timeout(self._limits.request_secs):
                body = await self._post(path, parameters)
        except TimeoutError:
            raise NodeSilent(f"has not answered {path} within {self._limits.request_secs:g} s") from None
        except ClientError as error:
            what = getattr(error, "strerror", None) or type(error).__name__
            raise NodeUnreachable(f"cannot be reached or hung up ({what})") from error
        except OSError as error:
            raise NodeUnreachable(f"cannot be reached ({error.strerror or type(error).__name__})") from error
        try:
            with no_collection():
                answer = orjson.loads(body)
        except ValueError:
            raise GarbageAnswer(f"sent something that is no JSON as its answer to {path}: is it java-tron?") from None
        if isinstance(answer, dict) and "Error" in answer:
            raise NodeRefuses(f"answered {path} with an error: {excerpt(str(answer['Error']))}")
        return answer

    async def close(self) -> None:
        """Hang up. Safe to call twice; asking again connects again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, path: str, parameters: dict[str, Any]) -> bytes:
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(limit=_MOST_CONNECTIONS),
                cookie_jar=DummyCookieJar(),
                headers={"Accept-Encoding": "identity", "Content-Type": "application/json"},
                timeout=ClientTimeout(total=None, sock_connect=_MOST_CONNECT_SECS),
                trust_env=False,
                auto_decompress=False,
                read_bufsize=_READ_BYTES,
            )
        question = orjson.dumps(parameters)
        async with self._session.post(f"{self._url}/{path}", data=question, allow_redirects=False) as answer:
            if answer.status in {429, 502, 503, 504}:
                raise NodeUnreachable(f"is too busy, starting or stopping (HTTP {answer.status})")
            if answer.status != 200:
                raise GarbageAnswer(f"answered {path} with HTTP {answer.status}: is it java-tron's HTTP port?")
            parts, size = [], 0
            async for part in answer.content.iter_any():
                size += len(part)
                if size > self._limits.max_answer_bytes:
                    raise GarbageAnswer(f"sent more than {self._limits.max_answer_bytes} bytes in answer to {path}")
                parts.append(part)
            return b"".join(parts)
