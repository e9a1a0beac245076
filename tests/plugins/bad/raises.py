"""Raises at every event, with a customer's address in the message."""

from astrapayd.events import Event
from astrapayd.hookspecs import Delivery, Outcome, PluginContext, hookimpl


@hookimpl
async def astrapayd_event(event: Event, delivery: Delivery, context: PluginContext) -> Outcome:
    raise ValueError("no such customer: jane@customer.example\nand a second line")
