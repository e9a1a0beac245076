"""A plain function that blocks its thread, until ``end`` is set."""

import threading

from astrapayd.events import Event
from astrapayd.hookspecs import Accepted, Delivery, Outcome, PluginContext, hookimpl

end = threading.Event()


@hookimpl
def astrapayd_event(event: Event, delivery: Delivery, context: PluginContext) -> Outcome:
    end.wait()
    return Accepted()
