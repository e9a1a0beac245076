"""sd_notify against a real datagram socket, on a path and in Linux' abstract space."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from astrapayd.sdnotify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """NOTIFY_SOCKET's value, and the socket that systemd would hold."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@astrapayd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        held.bind(name.replace("@", "\0", 1))
        held.settimeout(5)
        yield name, held


def test_each_message(systemd: tuple[str, socket.socket]) -> None:
    name, held = systemd
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": name})
    for call, datagram in [
        (lambda: notifier.ready("2 chains,\n  1 store"), b"READY=1\nSTATUS=2 chains, 1 store"),
        (notifier.ready, b"READY=1"),
        (notifier.alive, b"WATCHDOG=1"),
        (lambda: notifier.status("level with ethereum"), b"STATUS=level with ethereum"),
        (lambda: notifier.stopping("bye"), b"STOPPING=1\nSTATUS=bye"),
    ]:
        assert call()
        assert held.recv(4096) == datagram


def test_without_systemd_nothing_happens() -> None:
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
        notifier = Notifier.from_environment(environ)
        assert notifier == Notifier(None, None)
        assert not notifier.ready()


def test_a_lost_or_full_socket_never_stops_the_daemon(tmp_path: Path) -> None:
    assert not Notifier(str(tmp_path / "gone")).alive()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        held.bind(str(tmp_path / "full"))
        notifier = Notifier(str(tmp_path / "full"))
        assert not all(notifier.alive() for _ in range(10_000))  # and returns instead of waiting for a reader


@pytest.mark.parametrize(
    ("environ", "secs"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_how_often_the_watchdog_wants_to_hear(environ: dict[str, str], secs: float | None) -> None:
    assert Notifier.from_environment(environ).watchdog_secs == secs
