"""Tells systemd how the daemon is: ready, stopping, alive, and one line of status (``sd_notify(3)``).

The protocol is one datagram to a Unix socket, so no library is taken for it (``docs/dependencies.md``). Without
systemd there is no socket and every call does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notifier:
    """``address`` is the socket, None without systemd. ``watchdog_secs`` is how often to call :meth:`alive`: half of
    what the unit allows, None where it has no ``WatchdogSec``."""

    address: str | None = None
    watchdog_secs: float | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Notifier:
        """From ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``, which systemd sets.

        The environment is left as it is, so a child process would speak for the daemon if it read it; the unit's
        ``NotifyAccess=main`` makes systemd ignore that.
        """
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET") or None
        if address is not None and address[0] not in "/@":
            address = None  # vsock and other kinds are for virtual machines' managers, not for services
        pid = environ.get("WATCHDOG_PID", "")
        usec = environ.get("WATCHDOG_USEC", "")
        watched = usec.isdecimal() and int(usec) > 0 and pid in {"", str(os.getpid())}
        return cls(address, int(usec) / 2_000_000 if watched else None)

    def ready(self, status: str = "") -> bool:
        """Start-up is over: units ordered after this one may start."""
        return self._send("READY=1", status)

    def stopping(self, status: str = "") -> bool:
        """Shutdown has begun."""
        return self._send("STOPPING=1", status)

    def alive(self) -> bool:
        """The loop turns and the database answers; the watchdog starts counting anew."""
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """The line that ``systemctl status`` shows."""
        return self._send("", text)

    def _send(self, state: str, status: str = "") -> bool:
        """Whether systemd was told. Never raises and never blocks: a full or missing socket must not stop payments."""
        if self.address is None:
            return False
        lines = [state] if state else []
        if status:
            lines.append("STATUS=" + " ".join(status.split()))  # a line break would begin another assignment
        # '@' stands for the zero byte of Linux' abstract sockets
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
                sock.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
        return True
