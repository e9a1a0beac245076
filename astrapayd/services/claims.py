"""Claims: a customer who paid without matching says which transaction it was; a signature or the merchant decides."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.chains import TransactionError
from astrapayd.claims import MAX_OPEN_CLAIMS, Claimant, ClaimRefused, ClaimStatus, Found, challenge, claimable
from astrapayd.db import chains as chain_queries
from astrapayd.db import claims as claim_queries
from astrapayd.db import outbox
from astrapayd.db import sessions as session_queries
from astrapayd.db import transfers as transfer_queries
from astrapayd.db.claims import ClaimRow
from astrapayd.db.engine import uninterrupted
from astrapayd.db.outbox import NewEvent
from astrapayd.db.sessions import SessionRow
from astrapayd.db.transfers import TransferRow
from astrapayd.event_data import amount_text, claim_data
from astrapayd.events import EventType
from astrapayd.ids import new_id, normal_code
from astrapayd.matching import CreditReason
from astrapayd.services.core import Core, NotFound
from astrapayd.services.crediting import Decision, count_for, hold_chain
from astrapayd.services.sessions import LOOK_MAX_AGE_SECS
from astrapayd.services.signatures import signers, words_of
from astrapayd.sessions import Session, Status


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a customer presents: texts as they were typed. ``signature`` is that of :func:`challenge_of`, or empty."""

    tx: str
    code: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class ListedClaim:
    """A claim with its session, what its transaction holds for the store, and other sessions' claims on it."""

    claim: ClaimRow
    session: SessionRow
    transfers: tuple[TransferRow, ...]
    rivals: tuple[ClaimRow, ...]


def challenge_of(core: Core, row: SessionRow) -> str:
    """The text that the sender of a payment signs to have it counted for this session."""
    return challenge(**words_of(core, row))


async def present(core: Core, session_id: str, evidence: Evidence) -> ClaimRow:
    """A customer claims a transaction for a session. Who asks was checked: it is the session's own browser.

    1. Everything that can be said without a node: the code, the transaction, what the session can have of it.
    2. A signature is checked, outside of any transaction. A wrong one is refused; it is not taken for a bare claim.
    3. All of it once more with the chain held: then the claim waits for the merchant (``claim.opened``), or is approved
       where the sender has signed, whoever else claims the same.

    :raises NotFound: if there is no such session.
    :raises ClaimRefused: with one sentence for the customer; nothing was written.
    :raises TryLater: if a contract's signature cannot be checked now, since no node answers.
    """
    row, senders = await uninterrupted(_look(core, session_id, evidence))
    signers: set[str] | None = None
    if evidence.signature.strip():
        signers = await _signers(core, row, senders, evidence.signature.strip())
    return await uninterrupted(_commit(core, row, evidence, signers))


async def _look(core: Core, session_id: str, evidence: Evidence) -> tuple[SessionRow, set[str]]:
    """The session, and who has sent what it can claim of the transaction."""
    async with core.database.read() as connection:
        row = await _session(core, connection, session_id)
        found = await _claimable(core, connection, row, _transaction(core, row, evidence))
        return row, {transfer.sender for transfer in found}


async def _commit(core: Core, row: SessionRow, evidence: Evidence, signers: set[str] | None) -> ClaimRow:
    """Write the claim, after a second look. ``signers`` are those of the senders who signed, None for a bare claim."""
    async with core.database.write() as tx:
        await hold_chain(tx, row.chain)
        row = await _session(core, tx, row.id, lock=True)
        tx_id = _transaction(core, row, evidence)  # what was due may have come meanwhile
        found = [t for t in await _claimable(core, tx, row, tx_id) if signers is None or t.sender in signers]
        before = next((c for c in await claim_queries.claims_of(tx, row.id) if c.tx == tx_id), None)
        if signers is None:
            return await _wait(core, tx, row, tx_id, found, before)
        if not found:
            raise ClaimRefused("that transaction has changed meanwhile: ask again")
        proof = {"text": challenge_of(core, row), "signature": evidence.signature.strip(), "signer": found[0].sender}
        return await _prove(core, tx, row, tx_id, found, before, proof)


async def list_claims(
    core: Core, *, store: str | None = None, status: ClaimStatus | None = ClaimStatus.OPEN, limit: int = 50
) -> list[ListedClaim]:
    """The newest first."""
    listed = []
    async with core.database.read() as connection:
        for claim in await claim_queries.newest_claims(connection, store, status, limit):
            rows = await session_queries.load_sessions(connection, [claim.session_id], core.registry)
            found = await transfer_queries.load_by_tx(connection, claim.chain, claim.tx)
            transfers = tuple(t for t, of_store in found if of_store == claim.store)
            listed.append(
                ListedClaim(claim, rows[claim.session_id], transfers, tuple(await _rivals(connection, claim)))
            )
    return listed


async def claims_of(core: Core, session_id: str) -> list[ClaimRow]:
    """A session's own claims, the oldest first."""
    async with core.database.read() as connection:
        return await claim_queries.claims_of(connection, session_id)


async def approve(
    core: Core, claim_id: str, *, by: str, payments: Collection[str] = (), note: str = ""
) -> tuple[ClaimRow, Session]:
    """The merchant takes a claim for true: its payment is counted for its session.

    :param payments: which ones, where the transaction holds several that it could mean.
    :raises NotFound: if there is no such claim.
    :raises ClaimRefused: if it is decided already, or its transaction can no longer be had.
    """
    async with core.database.write() as tx:
        claim = await _open_claim(tx, claim_id)
        row = await _session(core, tx, claim.session_id, lock=True)
        found = _chosen(await _claimable(core, tx, row, claim.tx), payments, row)
        await claim_queries.decide_claim(tx, claim_id, ClaimStatus.APPROVED, note=note, now=core.now())
        rule = f"{claim_id} on {found[0].tx} was approved by hand" + (f": {note}" if note else "")
        decision = Decision(CreditReason.CLAIM, f"claim approved by {by}", rule)
        session = await count_for(core, tx, row, found, decision)
        return await _written(tx, claim_id), session


async def refuse(core: Core, claim_id: str, *, note: str) -> ClaimRow:
    """The merchant does not believe a claim. Its payment stays unmatched.

    :raises NotFound: if there is no such claim.
    :raises ClaimRefused: if it is decided already.
    """
    async with core.database.write() as tx:
        await _open_claim(tx, claim_id)
        await claim_queries.decide_claim(tx, claim_id, ClaimStatus.REFUSED, note=note, now=core.now())
        return await _written(tx, claim_id)


# -- what is checked ----------------------------------------------------------------------------------------------


def _transaction(core: Core, row: SessionRow, evidence: Evidence) -> str:
    """The transaction's canonical id, once code and session allow a claim at all."""
    if normal_code(evidence.code) != row.code:
        raise ClaimRefused("that is not this payment's verification code: compare it with the one on this page")
    if row.state.status is Status.DRAFT:
        raise ClaimRefused("this payment has not been opened yet, so nothing can have been paid for it")
    if row.state.status is Status.PAID or row.state.received_base >= row.state.enough_base:
        raise ClaimRefused("what was due has arrived already: there is nothing to claim")
    try:
        return core.registry[row.chain].parse_transaction(evidence.tx.strip()[:200])
    except TransactionError as error:
        raise ClaimRefused(str(error)) from None


async def _claimable(core: Core, connection: AsyncConnection, row: SessionRow, tx_id: str) -> list[TransferRow]:
    found = await transfer_queries.load_by_tx(connection, row.chain, tx_id)
    chain = core.registry[row.chain]
    if not found:
        state = await chain_queries.load_chain(connection, row.chain)
        if state is None or not state.level or core.now() - state.looked_at > LOOK_MAX_AGE_SECS:
            raise ClaimRefused(f"the shop's {chain.title} node is catching up and may not know it yet: ask again later")
    claimant = Claimant(
        session_id=row.id,
        store=row.store,
        asset=row.asset.id,
        symbol=row.asset.symbol,
        opened_height=row.opened_height,
        place=f"{chain.display_address(row.address)} on {chain.title}",
    )
    told = []
    for transfer, store in found:
        credited = await transfer_queries.session_credited_with(connection, transfer.id)
        told.append(
            Found(
                payment_id=transfer.id,
                store=store,
                asset=transfer.asset,
                symbol=core.registry.asset(transfer.asset).symbol,
                sender=transfer.sender,
                state=transfer.state,
                height=transfer.block_height,
                first_seen_height=transfer.first_seen_height,
                standing=transfer.standing,
                session_id=credited[0] if credited is not None else None,
            )
        )
    kept = {one.payment_id for one in claimable(claimant, told)}
    return [transfer for transfer, _ in found if transfer.id in kept]


async def _signers(core: Core, row: SessionRow, senders: set[str], signature: str) -> set[str]:
    """Those of the senders whose signature of the session's challenge this is.

    :raises ClaimRefused: if it is nobody's.
    :raises TryLater: if only a node could tell, and none answers.
    """
    chain = core.registry[row.chain]
    if not chain.signs_messages:
        raise ClaimRefused(f"{chain.title} has no signatures of texts: leave it empty, and the shop decides")
    signed = await signers(chain, senders, challenge_of(core, row), signature)
    if not signed:
        payer = " or ".join(chain.display_address(sender) for sender in sorted(senders))
        raise ClaimRefused(f"that is not a signature of exactly the text shown, made by {payer}, which has paid")
    return signed


def _chosen(found: list[TransferRow], payments: Collection[str], row: SessionRow) -> list[TransferRow]:
    """Those of a transaction's payments that the merchant means."""
    listed = ", ".join(f"{t.id} ({amount_text(t.amount_base, row.asset)} {row.asset.symbol})" for t in found)
    if not payments:
        if len(found) > 1:
            raise ClaimRefused(f"the transaction holds several payments, name those that are meant: {listed}")
        return found
    if unknown := sorted(set(payments) - {t.id for t in found}):
        raise ClaimRefused(f"{', '.join(unknown)} cannot be claimed here, only: {listed}")
    return [t for t in found if t.id in payments]


# -- what is written ----------------------------------------------------------------------------------------------


async def _wait(
    core: Core,
    tx: AsyncConnection,
    row: SessionRow,
    tx_id: str,
    found: Sequence[TransferRow],
    before: ClaimRow | None,
) -> ClaimRow:
    """A bare claim: it waits for the merchant, who is told once."""
    if before is not None:
        if before.status is ClaimStatus.OPEN:
            return before
        if before.status is ClaimStatus.APPROVED:
            raise ClaimRefused("the shop has approved this claim already: ask the shop about what is left")
        raise ClaimRefused("the shop has looked at this claim and refused it: ask the shop, with your code")
    if await claim_queries.count_open(tx, row.id) >= MAX_OPEN_CLAIMS:
        raise ClaimRefused("several claims of this payment wait for the shop already: ask the shop, with your code")
    claim_id, now = new_id("clm"), core.now()
    await claim_queries.insert_claim(
        tx,
        claim_id=claim_id,
        session_id=row.id,
        tx_id=tx_id,
        status=ClaimStatus.OPEN,
        proof={},
        note="",
        now=now,
    )
    claim = await _written(tx, claim_id)
    data = claim_data(claim, row, found, await _rivals(tx, claim), core.registry[row.chain])
    await outbox.append_events(
        tx, [NewEvent(EventType.CLAIM_OPENED, claim_id, 0, data)], store=row.store, created_at=now
    )
    return claim


async def _prove(
    core: Core,
    tx: AsyncConnection,
    row: SessionRow,
    tx_id: str,
    found: Sequence[TransferRow],
    before: ClaimRow | None,
    proof: dict[str, str],
) -> ClaimRow:
    """Signed by the sender: approved, whoever else claims it, and even where the bare claim was refused."""
    claim_id, now, note = before.id if before is not None else new_id("clm"), core.now(), "signed by the sender"
    if before is None:
        await claim_queries.insert_claim(
            tx,
            claim_id=claim_id,
            session_id=row.id,
            tx_id=tx_id,
            status=ClaimStatus.APPROVED,
            proof=proof,
            note=note,
            now=now,
        )
    else:
        await claim_queries.decide_claim(tx, claim_id, ClaimStatus.APPROVED, note=note, now=now, proof=proof)
    sender = core.registry[row.chain].display_address(found[0].sender)
    rule = f"{claim_id} on {tx_id} is signed by {sender}, which has paid"
    await count_for(core, tx, row, found, Decision(CreditReason.CLAIM, "claim proved by signature", rule))
    return await _written(tx, claim_id)


async def _session(core: Core, connection: AsyncConnection, session_id: str, *, lock: bool = False) -> SessionRow:
    rows = await session_queries.load_sessions(connection, [session_id], core.registry, lock=lock)
    if session_id not in rows:
        raise NotFound(f"there is no session {session_id!r}")
    return rows[session_id]


async def _open_claim(tx: AsyncConnection, claim_id: str) -> ClaimRow:
    claim = await claim_queries.load_claim(tx, claim_id)
    if claim is None:
        raise NotFound(f"there is no claim {claim_id!r}: astrapayd claim list shows their ids (clm_…)")
    await hold_chain(tx, claim.chain)
    claim = await _written(tx, claim_id)
    if claim.status is not ClaimStatus.OPEN:
        why = f" ({claim.note})" if claim.note else ""
        raise ClaimRefused(
            f"{claim_id} is {claim.status} already{why}: astrapayd unmatched assign counts a payment that is left"
        )
    return claim


async def _rivals(connection: AsyncConnection, claim: ClaimRow) -> list[ClaimRow]:
    """Claims of other sessions on the same transaction that were not refused."""
    on_it = await claim_queries.claims_on(connection, claim.chain, [claim.tx])
    return [c for c in on_it if c.session_id != claim.session_id and c.status is not ClaimStatus.REFUSED]


async def _written(tx: AsyncConnection, claim_id: str) -> ClaimRow:
    claim = await claim_queries.load_claim(tx, claim_id)
    assert claim is not None  # written or read above, in this transaction
    return claim
