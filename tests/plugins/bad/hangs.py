"""Never answers, but can be cancelled."""

import asyncio

from astrapayd.events import Event
from astrapayd.hookspecs import Delivery, Outcome, PluginContext, hookimpl


@hookimpl
async def astrapayd_event(event: Event, delivery: Delivery, context: PluginContext) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError
