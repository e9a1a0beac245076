"""Count a transfer for a session because somebody decided so, in a transaction that somebody else began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.claims import ClaimStatus
from astrapayd.db import chains as chain_queries
from astrapayd.db import claims as claim_queries
from astrapayd.db import sessions as session_queries
from astrapayd.db import transfers as transfer_queries
from astrapayd.db.sessions import SessionRow
from astrapayd.db.transfers import TransferRow
from astrapayd.matching import CreditReason
from astrapayd.services.core import Core
from astrapayd.sessions import Session

COUNTED_ELSEWHERE = "the payment was counted for another session"


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a transfer is counted. ``cause`` and ``rule`` are for the session's story."""

    reason: CreditReason
    cause: str
    rule: str


async def hold_chain(tx: AsyncConnection, chain_id: str) -> None:
    """The first thing of every such transaction: ingest locks the chain before transfers and sessions too."""
    await chain_queries.lock_chain(tx, chain_id)


async def count_for(
    core: Core, tx: AsyncConnection, row: SessionRow, transfers: Sequence[TransferRow], decision: Decision
) -> Session:
    """Count unmatched transfers of one chain for a session of it, and answer the session as it is then.

    1. Each transfer becomes credited; the primary key of its credit refuses a second session.
    2. Claims on its transaction that still wait are decided by that.
    3. The session is computed anew, with its story and events, as after a block.
    """
    now = core.now()
    for transfer in transfers:
        await transfer_queries.insert_credit(tx, transfer.id, row.id, decision.reason, now)
        await transfer_queries.set_standing(tx, transfer.id, "credited", decision.rule, ())
    await close_claims(core, tx, row.chain, [t.tx for t in transfers], given_to=row.id, note=COUNTED_ELSEWHERE)
    view = await core.ingest.books.committed_view(tx, row.chain)
    await core.ingest.books.look(tx, [row.id], view, decision.cause, {row.id: [decision.rule]})
    return (await session_queries.load_sessions(tx, [row.id], core.registry))[row.id].state


async def close_claims(
    core: Core, tx: AsyncConnection, chain_id: str, tx_ids: Sequence[str], *, given_to: str | None, note: str
) -> None:
    """Decide the claims that wait for something that is no longer to be had: the session that was given it has its
    claim approved, the others are refused with the note. A transaction with another unmatched payment stays claimable.
    """
    open_claims = [c for c in await claim_queries.claims_on(tx, chain_id, tx_ids) if c.status is ClaimStatus.OPEN]
    for claim in open_claims:
        if claim.session_id == given_to:
            await claim_queries.decide_claim(tx, claim.id, ClaimStatus.APPROVED, note="", now=core.now())
            continue
        found = await transfer_queries.load_by_tx(tx, chain_id, claim.tx)
        if not any(t.standing == "unmatched" and store == claim.store for t, store in found):
            await claim_queries.decide_claim(tx, claim.id, ClaimStatus.REFUSED, note=note, now=core.now())
