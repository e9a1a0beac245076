"""Never answers and ignores cancellation, until ``end`` is set."""

import asyncio
import contextlib

from astrapayd.events import Event
from astrapayd.hookspecs import Accepted, Delivery, Outcome, PluginContext, hookimpl

end = False


@hookimpl
async def astrapayd_event(event: Event, delivery: Delivery, context: PluginContext) -> Outcome:
    while not end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)
    return Accepted()
