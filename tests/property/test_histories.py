"""What must always hold, over generated histories on real databases that are compared with the book at each step."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.hypothesis_profiles import histories
from tests.postgres import Server
from tests.property.histories import ENGINE_STEPS
from tests.property.on_a_database import OnADatabase, OnServer

SETTINGS = settings(
    max_examples=histories("engine", 200),
    stateful_step_count=ENGINE_STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class OnPostgresql(OnADatabase):
    make_store = OnServer


TestHistoriesOnSqlite = OnADatabase.TestCase
TestHistoriesOnSqlite.settings = SETTINGS


@pytest.fixture(scope="module")
def server(postgresql: Server) -> None:
    OnServer.server = postgresql


@pytest.mark.usefixtures("server")
class TestHistoriesOnPostgresql(OnPostgresql.TestCase):  # type: ignore[name-defined,misc]
    settings = SETTINGS
