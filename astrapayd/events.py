"""Public event types, and the envelope that every receiver gets. An event's bytes are frozen when it is written.

Names and bodies are the contract with shops: ``docs/events.md`` lists them and a test compares the two.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson

API_VERSION = "2026-11"
"""Version of the event body; a receiver sees it in every event."""


class EventType(StrEnum):
    """Everything that a subscriber can be told."""

    LINK_CREATED = "link.created"
    SESSION_CREATED = "session.created"
    SESSION_PENDING = "session.pending"
    PAYMENT_SEEN = "payment.seen"
    PAYMENT_CONFIRMED = "payment.confirmed"
    PAYMENT_REVERTED = "payment.reverted"
    SESSION_PROCESSING = "session.processing"
    SESSION_UNDERPAID = "session.underpaid"
    SESSION_OVERPAID = "session.overpaid"
    SESSION_HELD = "session.held"
    SESSION_PAID = "session.paid"
    SESSION_REVERTED = "session.reverted"
    SESSION_RESTORED = "session.restored"
    SESSION_FINAL = "session.final"
    SESSION_EXPIRED = "session.expired"
    SESSION_CANCELLED = "session.cancelled"
    TRANSFER_UNMATCHED = "transfer.unmatched"
    BALANCE_UNEXPLAINED = "balance.unexplained"
    CLAIM_OPENED = "claim.opened"
    INVOICE_SENT = "invoice.sent"
    INVOICE_OVERDUE = "invoice.overdue"
    NODE_DOWN = "node.down"
    NODE_RECOVERED = "node.recovered"
    WEBHOOK_TEST = "webhook.test"  # asked for by the merchant, to one endpoint only


@dataclass(frozen=True, slots=True)
class Event:
    """One committed fact. ``body`` are the exact bytes that every attempt of every delivery sends.

    ``subject`` (a session, link, transfer or node) is what order is kept for; ``sequence`` grows over all events
    without being reused; ``created_at`` is Unix seconds.
    """

    id: str
    sequence: int
    type: EventType
    store: str
    subject: str
    created_at: int
    body: bytes


def event_id(subject: str, kind: str, ordinal: int) -> str:
    """``evt_`` and 128 bits of SHA-256 over subject, kind and ordinal: a replay gives the same id."""
    digest = hashlib.sha256(f"{subject}\0{kind}\0{ordinal}".encode()).digest()[:16]
    return "evt_" + base64.b32encode(digest).decode().rstrip("=").lower()


def iso_time(unix_secs: int) -> str:
    """ISO 8601 in UTC with seconds, such as ``2026-11-23T12:00:00Z``."""
    return datetime.fromtimestamp(unix_secs, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def envelope(
    *, id: str, sequence: int, type: EventType, created_at: int, store: str, subject: str, data: Mapping[str, Any]
) -> bytes:
    """The JSON body of an event, UTF-8."""
    return orjson.dumps(
        {
            "id": id,
            "sequence": sequence,
            "type": type,
            "created_at": iso_time(created_at),
            "api_version": API_VERSION,
            "store": store,
            "subject": subject,
            "data": data,
        }
    )
