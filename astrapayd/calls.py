"""Calling code that cannot be trusted to return: in a task or a thread of its own, for a limited time."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pluggy
import structlog

_MOST_STUCK: Final = 8
"""Calls of one plugin that may outlive their time-out before no further one is made: each holds a thread or a task."""

_CANCEL_GRACE_SECS: Final = 1.0

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class CallFailed(Exception):
    """A call gave no answer. ``reason``: first a line for the log, then perhaps one with the error's own message.

    Where the code raised, its exception is the ``__cause__``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class IsolatedCalls:
    """Makes calls for plugins and keeps account of those that never ended."""

    def __init__(self) -> None:
        self._stuck: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()  # a task nobody holds may be collected while it runs

    async def call(self, plugin: str, caller: pluggy.HookCaller, timeout_secs: float, **arguments: object) -> Any:
        """The answer of one plugin's hook.

        A coroutine runs as a task here, a plain function in a daemon thread (a thread of a pool would be waited for
        when the process ends, and a stuck one would keep it from ending).

        :param caller: calls this plugin only.
        :raises CallFailed: as :meth:`limited` does, and if it answers twice.
        """
        answers = await self.limited(plugin, caller.name, lambda: self._run(plugin, caller, arguments), timeout_secs)
        if len(answers) > 1:
            raise CallFailed("the plugin implements the hook more than once")
        return answers[0] if answers else None

    async def limited(self, plugin: str, what: str, work: Callable[[], Awaitable[Any]], timeout_secs: float) -> Any:
        """What a plugin's coroutine answers, run as a task of its own.

        :param what: names the call in logs.
        :raises CallFailed: if it raises, or takes longer than ``timeout_secs``; it is then cancelled and, if it does
            not care, left alone.
        """
        if self._stuck[plugin] >= _MOST_STUCK:
            raise CallFailed(f"not called: {self._stuck[plugin]} earlier calls of the plugin have not ended")
        task = asyncio.create_task(_awaited(work), name=f"plugin {plugin}: {what}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_consume)
        try:
            await asyncio.wait({task}, timeout=timeout_secs)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_CANCEL_GRACE_SECS)
            if not task.done():
                self._stuck[plugin] += 1
                task.add_done_callback(lambda _: self._unstick(plugin))
                _log.warning("plugin ignores its time-out", plugin=plugin, hook=what, stuck=self._stuck[plugin])
            raise CallFailed(f"no answer within {timeout_secs:g} s")
        if task.cancelled():
            raise CallFailed("cancelled itself")
        return task.result()

    def abandon(self) -> None:
        """Cancel what still runs; nobody waits for it."""
        for task in self._tasks:
            task.cancel()

    async def _run(self, plugin: str, caller: pluggy.HookCaller, arguments: dict[str, object]) -> list[Any]:
        call = functools.partial(caller, **arguments)
        if any(inspect.iscoroutinefunction(impl.function) for impl in caller.get_hookimpls()):
            answers = call()
        else:
            answers = await self._in_thread(plugin, call)
        return [await answer if inspect.isawaitable(answer) else answer for answer in answers]

    async def _in_thread(self, plugin: str, call: Callable[[], list[Any]]) -> list[Any]:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[list[Any]] = loop.create_future()

        def finish(answers: list[Any], error: BaseException | None) -> None:
            if answered.cancelled():
                self._unstick(plugin)
                for answer in answers:
                    if inspect.iscoroutine(answer):
                        answer.close()
            elif error is not None:
                answered.set_exception(error)
            else:
                answered.set_result(answers)

        def work() -> None:
            answers: list[Any] = []
            error: BaseException | None = None
            try:
                answers = context.run(call)
            except BaseException as raised:
                # A future refuses StopIteration, and KeyboardInterrupt would end the loop: here it is only a plugin's.
                plain = isinstance(raised, Exception | SystemExit) and not isinstance(raised, StopIteration)
                error = raised if plain else RuntimeError(repr(raised))
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(finish, answers, error)

        context = contextvars.copy_context()
        threading.Thread(target=work, name=f"plugin {plugin}", daemon=True).start()
        try:
            return await answered
        except asyncio.CancelledError:
            if answered.cancelled():  # the thread goes on: until it ends it counts as stuck
                self._stuck[plugin] += 1
            raise

    def _unstick(self, plugin: str) -> None:
        self._stuck[plugin] -= 1


async def _awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await work()
    except (Exception, SystemExit) as error:  # SystemExit would end the loop, and everybody's payments with it
        raise CallFailed(f"{type(error).__name__} at {where(error)}\n{first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Kind and message of an error in one line of at most 300 characters; a sentence of our own without its kind."""
    lines = str(error).strip().splitlines()
    message = lines[0][:300] if lines else ""
    if type(error).__module__.startswith("astrapayd") and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def where(error: BaseException) -> str:
    """File and line that raised it, such as ``shop.py:41``: tells the author enough and holds nobody's data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def _consume(task: asyncio.Task[Any]) -> None:
    """Fetch the outcome so that asyncio does not warn about one that nobody waited for."""
    if not task.cancelled():
        task.exception()
