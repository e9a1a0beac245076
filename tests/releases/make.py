"""Writes ``tests/releases/REVISION.sql.gz``, a small database of the present schema with something in every corner.

``python -m tests.releases.make``: before a release, and whenever a revision that is not released yet is changed. A dump
of a released revision is never written again: it is what merchants have on their disks.
"""

from __future__ import annotations

import asyncio
import gzip
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy import Table, insert

from astrapayd.config import AccountSection
from astrapayd.db import migrate
from astrapayd.db.tables import (
    addresses,
    api_keys,
    claims,
    customer_details,
    delivery_attempts,
    idempotency_keys,
    invoices,
    link_signing_keys,
    payers,
    quotes,
    store_settings,
    webhook_endpoints,
)
from astrapayd.testing import FakeChain
from tests.shopfront import shopfront

DUMPS = Path(__file__).parent


async def fill(folder: Path) -> None:
    """Sessions of every fate, on a shared address and on one of their own; events, deliveries, an endpoint."""
    chain = FakeChain()
    async with shopfront(folder, chain=chain) as front:
        link = await front.link()
        paid, short, over, seen, pending = [await front.open(link) for _ in range(5)]
        await front.mine(front.pay(paid.due_base), front.pay(short.due_base - 1_000_000))
        await front.mine_more(7)
        await front.mine(front.pay(over.due_base + 1_000_000), front.pay(7_000_000))
        await front.reorg(1, [front.pay(5_000_000)], [])
        await front.apply(chain.script.see(front.pay(seen.due_base)))
        async with front.core.database.write() as tx:
            for table, row in _more(link.id, pending.id):
                await tx.execute(insert(table).values(row))
    async with shopfront(folder, chain=chain, account=AccountSection(addresses=(), xpub="fakepub1")) as front:
        own = await front.open_new()
        row = next(r for r in await front.rows(addresses) if r["derivation"] is not None)
        front.script.watch_version = row["added_version"]
        await front.mine(front.pay(own.due_base, to=row["address"]))
        await front.open_new()


def _more(link_id: str, session_id: str) -> list[tuple[Table, dict[str, object]]]:
    """A row in each of the tables that the scenario leaves empty."""
    quote = {"source": "fixed", "base": "COIN", "quote": "USD", "rate": "2000", "observed_at": 5}
    invoice = {"store": "shop", "number": "1", "link_id": link_id, "status": "sent", "recipient": {}, "lines": []}
    endpoint = {"store": "shop", "url": "https://shop.example", "description": "", "secrets": []}
    claim = {"session_id": session_id, "tx": "0x1", "status": "open", "proof": {}}
    attempt = {"delivery_id": 1, "outcome": "retry", "note": "no answer"}
    key = {"store": "shop", "label": "a key", "key_hash": "0" * 64, "scopes": ["links:write"]}
    return [
        (quotes, quote),
        (invoices, invoice | {"id": "inv_1", "created_at": 5}),
        (webhook_endpoints, endpoint | {"id": "whk_1", "created_at": 5}),
        (claims, claim | {"id": "clm_1", "created_at": 5}),
        (api_keys, key | {"id": "key_1", "created_at": 5}),
        (idempotency_keys, {"api_key_id": "key_1", "key": "1", "request_hash": "0" * 64, "created_at": 5}),
        (delivery_attempts, attempt | {"attempt": 1, "started_at": 5, "duration_ms": 5}),
        (payers, {"session_id": session_id, "sender": "fake1customer", "proof": {}, "proved_at": 5}),
        (customer_details, {"session_id": session_id, "details": {"name": "A customer"}}),
        (link_signing_keys, {"store": "shop", "secrets": []}),
        (store_settings, {"store": "shop", "settings": {}, "revision": 1}),
    ]


def dump(database: Path) -> str:
    """The database as SQL statements."""
    with closing(sqlite3.connect(database)) as connection:
        return "\n".join(connection.iterdump()) + "\n"


def main() -> None:
    """Write the dump of the newest revision."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(fill(Path(folder)))
        target = DUMPS / f"{migrate.SCHEMA_VERSION}.sql.gz"
        target.write_bytes(gzip.compress(dump(Path(folder) / "shop.db").encode(), mtime=0))
    print(f"{target.name}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
