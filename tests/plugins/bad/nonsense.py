"""Answers ``answer``, whatever that is."""

from typing import Any

from astrapayd.events import Event
from astrapayd.hookspecs import Delivery, PluginContext, hookimpl

answer: Any = None


@hookimpl
def astrapayd_event(event: Event, delivery: Delivery, context: PluginContext) -> Any:
    return answer
