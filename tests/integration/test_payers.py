"""Who proves before paying from which account: whatever it sends is counted. On both engines, the chain a script."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from astrapayd.claims import MAX_PAYERS, ClaimRefused
from astrapayd.db.tables import payers
from astrapayd.services.claims import challenge_of
from astrapayd.services.core import TryLater
from astrapayd.services.payers import PayerProof, payer_challenge_of, payers_of, prove_payer
from astrapayd.services.payments import list_payments
from astrapayd.services.sessions import find_session, story
from astrapayd.services.unmatched import list_unmatched
from astrapayd.sessions import Flag, Session, Status
from astrapayd.testing import FakeChain, fake_signature
from tests.databases import both_engines
from tests.shopfront import Shopfront, SilentChain, shopfront

pytestmark = both_engines

WHOLE = 1_000_000
PAYER = "fake1customer"  # who sends, unless said otherwise
OTHER = "fake1exchange"


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


async def prove(front: Shopfront, session: Session, account: str = PAYER) -> None:
    text = payer_challenge_of(front.core, (await find_session(front.core, session.id)).row)
    await prove_payer(front.core, session.id, PayerProof(account, fake_signature(account, text)))


async def test_any_amount_from_the_proved_account_is_counted(front: Shopfront) -> None:
    session, other = await front.open_new(), await front.open_new()
    await prove(front, session)
    await front.mine(front.pay(20 * WHOLE))
    short = await front.session(session.id)
    assert (short.status, short.received_base, Flag.UNDERPAID in short.flags) == (Status.PENDING, 20 * WHOLE, True)
    await front.mine(front.pay(10 * WHOLE))
    await front.mine()
    paid = await front.session(session.id)
    assert (paid.status, paid.received_base) == (Status.PAID, 30 * WHOLE)
    assert {payment.credited_by for payment in await list_payments(front.core)} == {"payer"}
    line = (await story(front.core, session.id))[1]
    assert line["rule"] == "its sender has proved by signature to be this session's payer"
    assert (await front.session(other.id)).received_base == 0
    await front.every_event_has_one_delivery()


async def test_declared_exchange_wallet_as_payer_is_refused(front: Shopfront) -> None:
    """Nothing but a signature of exactly this session's text proves an account, and nothing is written without."""
    session, other = await front.open_new(), await front.open_new()
    row, other_row = [(await find_session(front.core, s.id)).row for s in (session, other)]
    of_another = fake_signature(OTHER, payer_challenge_of(front.core, other_row))
    of_a_claim = fake_signature(OTHER, challenge_of(front.core, row))
    by_another = fake_signature(PAYER, payer_challenge_of(front.core, row))
    for signature in ("", " ", "0x00", of_another, of_a_claim, by_another):
        with pytest.raises(ClaimRefused, match="that is not a signature of exactly the text shown, made by FAKE1EXCH"):
            await prove_payer(front.core, session.id, PayerProof(OTHER, signature))
    with pytest.raises(ClaimRefused, match="address"):
        await prove_payer(front.core, session.id, PayerProof("nowhere", "x"))
    assert await front.count(payers) == 0
    await front.mine(front.pay(24 * WHOLE, sender=OTHER))
    (kept,) = await list_unmatched(front.core)
    assert kept.payment.transfer.sender == OTHER


async def test_what_was_sent_before_the_proof_needs_a_claim(front: Shopfront) -> None:
    session = await front.open_new()
    await front.mine(front.pay(20 * WHOLE))
    await prove(front, session)
    await front.mine()
    assert (await front.session(session.id)).received_base == 0
    assert len(await list_unmatched(front.core)) == 1


async def test_the_payer_of_two_open_sessions_is_not_guessed_at(front: Shopfront) -> None:
    first, second = await front.open_new(), await front.open_new()
    await prove(front, first)
    await prove(front, second)
    await front.mine(front.pay(20 * WHOLE))
    (kept,) = await list_unmatched(front.core)
    assert {c.session_id for c in kept.payment.transfer.candidates} == {first.id, second.id}
    await front.mine(front.pay(first.due_base))
    await front.mine()
    assert (await front.session(first.id)).status is Status.PAID, "an exact amount still says which"


async def test_what_the_payer_sends_after_it_has_paid_is_too_much(front: Shopfront) -> None:
    """As with an exact amount that is paid twice, until the late window ends: then nothing is reserved any more."""
    session = await front.open_new()
    await prove(front, session)
    await front.mine(front.pay(session.due_base))
    await front.mine(front.pay(20 * WHOLE))
    assert Flag.OVERPAID in (await front.session(session.id)).flags
    await front.mine(secs=2 * 86_400)
    await front.mine(front.pay(20 * WHOLE))
    assert len(await list_unmatched(front.core)) == 1


async def test_a_payment_of_the_payer_is_taken_back_by_a_reorganisation(front: Shopfront) -> None:
    session = await front.open_new()
    await prove(front, session)
    sent = front.pay(20 * WHOLE)
    await front.mine(sent)
    await front.reorg(1, [], [])
    assert (await front.session(session.id)).received_base == 0
    await front.mine(sent)
    assert (await front.session(session.id)).received_base == 20 * WHOLE


async def test_proofs_are_few_and_kept_once(front: Shopfront) -> None:
    session = await front.open_new()
    accounts = [f"fake1customer{number}" for number in range(MAX_PAYERS)]
    for account in (*accounts, accounts[0]):
        await prove(front, session, account)
    assert await payers_of(front.core, session.id) == accounts
    with pytest.raises(ClaimRefused, match="3 accounts are proved for this payment already"):
        await prove(front, session, PAYER)
    await front.mine(front.pay(session.due_base))
    with pytest.raises(ClaimRefused, match="this payment is processing"):
        await prove(front, session, PAYER)


async def test_no_proof_while_no_node_answers_and_none_on_a_chain_without_signatures(tmp_path: Path) -> None:
    async with shopfront(tmp_path / "silent", chain=SilentChain()) as front:
        with pytest.raises(TryLater, match="node does not answer"):
            await prove(front, await front.open_new())
        assert await front.count(payers) == 0
    async with shopfront(tmp_path / "unsigned", chain=FakeChain(signs_messages=False)) as front:
        with pytest.raises(ClaimRefused, match="has no signatures of texts"):
            await prove(front, await front.open_new())
