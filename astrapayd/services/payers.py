"""A customer proves, before paying, from which account: then whatever it sends is counted, exact or not."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from astrapayd.chains import AddressError
from astrapayd.claims import MAX_PAYERS, ClaimRefused, payer_challenge
from astrapayd.db import payers as payer_queries
from astrapayd.db import sessions as session_queries
from astrapayd.db.engine import uninterrupted
from astrapayd.db.reservations import reservations_of
from astrapayd.db.sessions import SessionRow
from astrapayd.services.core import Core, NotFound
from astrapayd.services.crediting import hold_chain
from astrapayd.services.signatures import signers, words_of
from astrapayd.sessions import Status


@dataclass(frozen=True, slots=True)
class PayerProof:
    """What a customer presents, as typed: the account, and its signature of :func:`payer_challenge_of`."""

    account: str
    signature: str


def payer_challenge_of(core: Core, row: SessionRow) -> str:
    """The text that an account signs to have whatever it sends counted for this session."""
    return payer_challenge(**words_of(core, row))


async def prove_payer(core: Core, session_id: str, proof: PayerProof) -> str:
    """Take an account for the session's payer, and answer its canonical form. What it has sent before is not looked
    at again: a claim says which transaction that was. Proved twice, it is proved once.

    :raises NotFound: if there is no such session.
    :raises ClaimRefused: with one sentence for the customer; nothing was written.
    :raises TryLater: if a contract's signature cannot be checked now, since no node answers.
    """
    row = await uninterrupted(_look(core, session_id))
    chain, text, signature = core.registry[row.chain], payer_challenge_of(core, row), proof.signature.strip()
    if not chain.signs_messages:
        raise ClaimRefused(f"{chain.title} has no signatures of texts: send exactly the amount shown")
    try:
        account = chain.parse_address(proof.account.strip()[:200])
    except AddressError as error:
        raise ClaimRefused(str(error)) from None
    if not signature or not await signers(chain, [account], text, signature):
        shown = chain.display_address(account)
        raise ClaimRefused(f"that is not a signature of exactly the text shown, made by {shown}")
    await uninterrupted(_commit(core, row, account, {"text": text, "signature": signature}))
    return account


async def payers_of(core: Core, session_id: str) -> list[str]:
    """The accounts that have proved to pay a session."""
    async with core.database.read() as connection:
        return await payer_queries.payers_of(connection, session_id)


async def _look(core: Core, session_id: str) -> SessionRow:
    async with core.database.read() as connection:
        return await _waiting(core, connection, session_id)


async def _commit(core: Core, row: SessionRow, account: str, proof: dict[str, str]) -> None:
    async with core.database.write() as tx:
        await hold_chain(tx, row.chain)
        await _waiting(core, tx, row.id)
        known = await payer_queries.payers_of(tx, row.id)
        if account in known:
            return
        if len(known) >= MAX_PAYERS:
            raise ClaimRefused(f"{MAX_PAYERS} accounts are proved for this payment already: pay from one of them")
        await payer_queries.insert_payer(tx, row.id, account, proof=proof, now=core.now())


async def _waiting(core: Core, connection: AsyncConnection, session_id: str) -> SessionRow:
    rows = await session_queries.load_sessions(connection, [session_id], core.registry)
    if session_id not in rows:
        raise NotFound(f"there is no session {session_id!r}")
    row = rows[session_id]
    if row.state.status is not Status.PENDING:
        raise ClaimRefused(f"this payment is {row.state.status}, so nothing more is expected for it")
    if any(reservation.tail is None for reservation in await reservations_of(connection, session_id)):
        raise ClaimRefused("this payment has an address of its own: whatever arrives there is counted anyway")
    return row
