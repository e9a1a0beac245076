"""Tries to end the process."""

import sys

from astrapayd.events import Event
from astrapayd.hookspecs import Delivery, Outcome, PluginContext, hookimpl


@hookimpl
async def astrapayd_event(event: Event, delivery: Delivery, context: PluginContext) -> Outcome:
    sys.exit("that was all")
