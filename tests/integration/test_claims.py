"""Who says that an unmatched transaction was meant for which session, and who decides, on a real SQLite file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from sqlalchemy import insert

from astrapayd.claims import MAX_OPEN_CLAIMS, ClaimRefused, ClaimStatus
from astrapayd.db.claims import ClaimRow
from astrapayd.db.sessions import SessionRow
from astrapayd.db.tables import addresses, claims, credits, events
from astrapayd.services.claims import Evidence, approve, challenge_of, claims_of, list_claims, present, refuse
from astrapayd.services.core import NotFound, TryLater
from astrapayd.services.payments import list_payments
from astrapayd.services.sessions import cancel, find_session, settle, story
from astrapayd.services.unmatched import NotSortable, assign, dismiss, list_unmatched
from astrapayd.sessions import Flag, Session, Status
from astrapayd.testing import FakeChain, fake_signature
from astrapayd.transfers import Transfer
from tests.databases import both_engines
from tests.shopfront import ADDRESS, Shopfront, SilentChain, look, shopfront

pytestmark = both_engines

WHOLE = 1_000_000
PAYER = "fake1customer"
EXCHANGE = "fake1exchange"
BY = "the merchant"


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Shopfront]:
    async with shopfront(tmp_path) as front:
        yield front


async def row(front: Shopfront, session: Session) -> SessionRow:
    return (await find_session(front.core, session.id)).row


async def claim(front: Shopfront, session: Session, paid: Transfer | str, signature: str = "") -> ClaimRow:
    """What the session's customer sends."""
    tx = paid if isinstance(paid, str) else paid.tx
    return await present(front.core, session.id, Evidence(tx, (await row(front, session)).code, signature))


async def signed(front: Shopfront, session: Session, address: str) -> str:
    return fake_signature(address, challenge_of(front.core, await row(front, session)))


async def refused(front: Shopfront, session: Session, paid: Transfer | str, signature: str = "") -> str:
    """The sentence that a claim is refused with; nothing is written."""
    counts = [await front.count(table) for table in (claims, credits, events)]
    with pytest.raises(ClaimRefused) as error:
        await claim(front, session, paid, signature)
    assert [await front.count(table) for table in (claims, credits, events)] == counts
    return str(error.value)


async def test_claim_waits_for_the_merchant_and_is_approved(front: Shopfront) -> None:
    session = await front.open_new()
    paid = front.pay(30 * WHOLE)
    await front.mine(paid)
    first = await claim(front, session, paid)
    assert (first.status, first.proof) == (ClaimStatus.OPEN, {})
    assert await claim(front, session, f" {paid.tx.upper().replace('0X', '0x')} ") == first, "asked twice, told once"
    assert await front.told(first.id) == ["claim.opened"]
    assert (await front.session(session.id)).status is Status.PENDING
    (listed,) = await list_claims(front.core)
    assert (listed.claim, listed.session.id, [t.tx for t in listed.transfers]) == (first, session.id, [paid.tx])
    claimed, after = await approve(front.core, first.id, by=BY, note="screenshot of the wallet")
    assert (claimed.status, after.status) == (ClaimStatus.APPROVED, Status.PROCESSING)
    await front.mine()
    assert (await front.session(session.id)).status is Status.PAID
    (payment,) = await list_payments(front.core)
    assert (payment.session_id, payment.credited_by) == (session.id, "claim")
    line = (await story(front.core, session.id))[1]
    assert line["cause"] == "claim approved by the merchant"
    assert line["rule"] == f"{first.id} on {paid.tx} was approved by hand: screenshot of the wallet"
    with pytest.raises(ClaimRefused, match=r"approved already \(screenshot of the wallet\)"):
        await approve(front.core, first.id, by=BY)
    await front.every_event_has_one_delivery()


async def test_the_event_tells_what_is_to_be_decided(front: Shopfront) -> None:
    first, second = await front.open_new(), await front.open_new()
    paid = front.pay(30 * WHOLE)
    await front.mine(paid)
    rival, claimed = await claim(front, first, paid), await claim(front, second, paid)
    told = [orjson.loads(r["body"]) for r in await front.rows(events) if r["type"] == "claim.opened"]
    assert [(t["subject"], t["data"]["claim"]["contested"]) for t in told] == [(rival.id, False), (claimed.id, True)]
    body = told[1]["data"]["claim"]
    assert body["session"]["id"] == second.id
    assert (body["rivals"], body["payments"][0]["amount"]) == ([rival.id], "30.00")


async def test_claim_with_a_strangers_transaction(front: Shopfront) -> None:
    """Everybody sees the chain: what is another session's, older, or nobody's cannot be claimed, and whose it is is
    not said. What is unmatched waits for the merchant, who refuses it."""
    older = front.pay(25 * WHOLE)
    await front.mine(older)
    victim, thief = await front.open_new(), await front.open_new()
    paid, elsewhere = front.pay(victim.due_base), front.pay(26 * WHOLE, to="fake1stranger")
    await front.mine(paid, elsewhere)
    said = await refused(front, thief, paid)
    assert said == "that transaction is counted for another payment already"
    assert await refused(front, thief, older) == (
        "that transaction was made before this payment was opened, so it cannot be for it"
    )
    assert (await refused(front, thief, elsewhere)).startswith("no payment of that transaction has reached FAKE1SHOP")
    stray = front.pay(27 * WHOLE)
    await front.mine(stray)
    waiting = await claim(front, thief, stray)
    await front.mine_more(8)
    assert (await front.session(thief.id)).received_base == 0, "nobody believes it by itself"
    await refuse(front.core, waiting.id, note="it is another customer's")
    assert "refused it" in await refused(front, thief, stray)
    assert {one.payment.transfer.tx for one in await list_unmatched(front.core)} == {older.tx, stray.tx}


async def test_claim_proved_by_signature(front: Shopfront) -> None:
    session = await front.open_new()
    paid = front.pay(30 * WHOLE)
    await front.mine(paid)
    proof = await signed(front, session, PAYER)
    claimed = await claim(front, session, paid, proof)
    assert claimed.status is ClaimStatus.APPROVED
    text = challenge_of(front.core, await row(front, session))
    assert claimed.proof == {"text": text, "signature": proof, "signer": PAYER}
    assert (await front.session(session.id)).status is Status.PROCESSING
    assert (await story(front.core, session.id))[1]["cause"] == "claim proved by signature"
    assert await front.told(claimed.id) == [], "nobody has to decide"
    await front.mine()
    assert (await front.session(session.id)).status is Status.PAID
    (payment,) = await list_payments(front.core)
    assert payment.credited_by == "claim"


async def test_a_signature_is_good_for_one_session_and_one_shop(front: Shopfront) -> None:
    first, second = await front.open_new(), await front.open_new()
    paid = front.pay(30 * WHOLE)
    await front.mine(paid)
    text = challenge_of(front.core, await row(front, first))
    for said in (
        front.core.config.server.public_url,
        "Shop",
        first.id,
        ADDRESS.upper(),
        (await row(front, first)).code,
    ):
        assert said in text
    for wrong in (await signed(front, first, PAYER), await signed(front, second, "fake1thief"), "0x00", "signed"):
        assert (await refused(front, second, paid, wrong)).startswith("that is not a signature of exactly the text")


async def test_declared_exchange_wallet_as_payer(front: Shopfront) -> None:
    """Two customers withdraw from one exchange: each can name its wallet, and neither can sign for it."""
    first, second = await front.open_new(), await front.open_new()
    withdrawn = front.pay(24 * WHOLE, sender=EXCHANGE)
    await front.mine(withdrawn)
    for session in (first, second):
        for text in (EXCHANGE, await signed(front, session, PAYER)):
            assert "made by FAKE1EXCHANGE, which has paid" in await refused(front, session, withdrawn, text)
        assert (await claim(front, session, withdrawn)).status is ClaimStatus.OPEN
    listed = await list_claims(front.core)
    assert [len(one.rivals) for one in listed] == [1, 1], "both are shown as contested"
    await front.mine_more(8)
    assert [(await front.session(s.id)).received_base for s in (first, second)] == [0, 0]


async def test_contested_claims_are_decided_by_a_signature(front: Shopfront) -> None:
    liar, payer = await front.open_new(), await front.open_new()
    paid = front.pay(30 * WHOLE)
    await front.mine(paid)
    lie, truth = await claim(front, liar, paid), await claim(front, payer, paid)
    assert (await claim(front, payer, paid, await signed(front, payer, PAYER))).id == truth.id
    (beaten,) = await claims_of(front.core, liar.id)
    assert (beaten.id, beaten.status, beaten.note) == (
        lie.id,
        ClaimStatus.REFUSED,
        "the payment was counted for another session",
    )
    assert (await front.session(payer.id)).received_base == 30 * WHOLE
    assert (await front.session(liar.id)).received_base == 0
    assert await refused(front, liar, paid) == "that transaction is counted for another payment already"


async def test_contested_claims_are_decided_by_the_merchant(front: Shopfront) -> None:
    first, second = await front.open_new(), await front.open_new()
    paid = front.pay(30 * WHOLE)
    await front.mine(paid)
    beaten, chosen = await claim(front, first, paid), await claim(front, second, paid)
    await approve(front.core, chosen.id, by=BY)
    assert [c.status for c in await claims_of(front.core, first.id)] == [ClaimStatus.REFUSED]
    with pytest.raises(ClaimRefused, match="refused already"):
        await approve(front.core, beaten.id, by=BY)
    assert await list_claims(front.core) == []
    assert len(await list_claims(front.core, status=None)) == 2


async def test_a_refused_claim_can_still_be_proved(front: Shopfront) -> None:
    session = await front.open_new()
    paid = front.pay(30 * WHOLE)
    await front.mine(paid)
    bare = await claim(front, session, paid)
    await refuse(front.core, bare.id, note="who are you?")
    proved = await claim(front, session, paid, await signed(front, session, PAYER))
    assert (proved.id, proved.status) == (bare.id, ClaimStatus.APPROVED)


async def test_assigning_and_dismissing_decide_the_claims_too(front: Shopfront) -> None:
    first, second = await front.open_new(), await front.open_new()
    given, gift = front.pay(30 * WHOLE), front.pay(31 * WHOLE)
    await front.mine(given, gift)
    for paid in (given, gift):
        for session in (first, second):
            await claim(front, session, paid)
    found = {one.payment.transfer.tx: one for one in await list_unmatched(front.core)}
    assert {c.session_id for c in found[given.tx].claims} == {first.id, second.id}
    await assign(front.core, found[given.tx].payment.transfer.id, first.id, by=BY)
    await dismiss(front.core, found[gift.tx].payment.transfer.id, note="a gift")
    status = {(c.session_id, c.tx): c.status for s in (first, second) for c in await claims_of(front.core, s.id)}
    assert status == {
        (first.id, given.tx): "approved",
        (second.id, given.tx): "refused",
        (first.id, gift.tx): "refused",
        (second.id, gift.tx): "refused",
    }
    assert "put it aside" in await refused(front, second, gift)


async def test_claim_before_the_transaction_is_in_a_block(front: Shopfront) -> None:
    session = await front.open_new()
    paid, replaced = front.pay(30 * WHOLE), front.pay(31 * WHOLE)
    assert "if it was sent only just now, ask again when it is in a block" in await refused(front, session, paid)
    await front.apply(front.script.see(paid, replaced))
    assert "is in no block yet: ask again" in await refused(front, session, paid)
    await front.apply(front.script.give_up(replaced.tx))
    assert "replaced by another one" in await refused(front, session, replaced)
    await front.mine(paid)
    assert (await claim(front, session, paid)).status is ClaimStatus.OPEN


async def test_what_was_seen_before_the_opening_is_not_claimed_although_it_was_mined_after_it(front: Shopfront) -> None:
    paid = front.pay(30 * WHOLE)
    await front.apply(front.script.see(paid))
    await front.mine_more(1)
    session = await front.open_new()
    await front.mine(paid)
    assert "before this payment was opened" in await refused(front, session, paid)


async def test_wrong_asset_address_and_code(front: Shopfront) -> None:
    session = await front.open_new()
    euros, foreign = front.pay(30 * 10**18, asset="eur"), front.pay(30 * WHOLE, to="fake1other")
    async with front.core.database.write() as tx:
        await tx.execute(insert(addresses).values(chain="fake", address="fake1other", store="other", added_version=0))
    await front.mine(euros, foreign)
    assert await refused(front, session, euros) == (
        "that transaction paid EUR, but this payment is in USD: ask the shop"
    )
    assert (await refused(front, session, foreign)).startswith("that transaction pays to another address")
    assert "is not a transaction id" in await refused(front, session, "what my wallet said; DROP TABLE")
    for code in ("", "7KQ2-M9XD", "\x00ä"):
        with pytest.raises(ClaimRefused, match="not this payment's verification code"):
            await present(front.core, session.id, Evidence(euros.tx, code))
    with pytest.raises(NotFound):
        await present(front.core, "ses_none", Evidence(euros.tx, "7KQ2-M9XD"))


async def test_nothing_is_claimed_for_what_has_its_money(front: Shopfront) -> None:
    paid_session, settled = await front.open_new(), await front.open_new()
    twice = front.pay(30 * WHOLE)
    await front.mine(front.pay(paid_session.due_base), twice)
    await settle(front.core, settled.id, by=BY, note="cash")
    for session in (paid_session, settled):
        assert await refused(front, session, twice) == "what was due has arrived already: there is nothing to claim"


async def test_while_the_node_is_behind_nothing_is_called_unknown(front: Shopfront) -> None:
    session = await front.open_new()
    await look(front.core, front.epoch, level=False)
    assert "node is catching up" in await refused(front, session, front.pay(30 * WHOLE))


async def test_a_session_claims_only_so_much(front: Shopfront) -> None:
    """A stranger opens a session and claims whatever the chain shows."""
    session = await front.open_new()
    paid = [front.pay(40 * WHOLE + n) for n in range(MAX_OPEN_CLAIMS + 1)]
    await front.mine(*paid)
    for one in paid[:-1]:
        await claim(front, session, one)
    assert "several claims" in await refused(front, session, paid[-1])


async def test_several_payments_in_one_transaction(front: Shopfront) -> None:
    """An exchange pays two customers of the shop at once: the merchant says which payment is meant."""
    first, second = await front.open_new(), await front.open_new()
    batch = [front.pay(n * WHOLE, tx="0xbatch", ordinal=n, sender=EXCHANGE) for n in (23, 24)]
    await front.mine(*batch)
    claims_made = [await claim(front, session, "0xbatch") for session in (first, second)]
    ids = {p.transfer.ordinal: p.transfer.id for p in await list_payments(front.core)}
    with pytest.raises(ClaimRefused, match=rf"several payments, name those that are meant: {ids[23]} \(23.00 USD\)"):
        await approve(front.core, claims_made[0].id, by=BY)
    with pytest.raises(ClaimRefused, match="pay_none cannot be claimed here"):
        await approve(front.core, claims_made[0].id, by=BY, payments=["pay_none"])
    await approve(front.core, claims_made[0].id, by=BY, payments=[ids[23]])
    assert [c.status for c in await claims_of(front.core, second.id)] == [ClaimStatus.OPEN], "the other one is left"
    await approve(front.core, claims_made[1].id, by=BY)
    assert [(await front.session(s.id)).received_base for s in (first, second)] == [23 * WHOLE, 24 * WHOLE]


async def test_claimed_credit_goes_with_a_reorganisation_and_comes_back(front: Shopfront) -> None:
    session = await front.open_new()
    paid = front.pay(30 * WHOLE)
    await front.mine(paid)
    await claim(front, session, paid, await signed(front, session, PAYER))
    await front.mine()
    assert (await front.session(session.id)).status is Status.PAID
    await front.reorg(2, [], [], [])
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.PENDING, {Flag.REVERTED})
    await front.mine(paid)
    await front.mine()
    assert (await front.session(session.id)).status is Status.PAID


async def test_a_signature_that_cannot_be_checked_now_is_neither_believed_nor_refused(tmp_path: Path) -> None:
    async with shopfront(tmp_path, chain=SilentChain()) as front:
        session = await front.open_new()
        paid = front.pay(30 * WHOLE)
        await front.mine(paid)
        with pytest.raises(TryLater, match="node does not answer"):
            await claim(front, session, paid, await signed(front, session, PAYER))
        assert await front.count(claims) == 0


async def test_a_chain_without_signatures(tmp_path: Path) -> None:
    async with shopfront(tmp_path, chain=FakeChain(signs_messages=False)) as front:
        session = await front.open_new()
        paid = front.pay(30 * WHOLE)
        await front.mine(paid)
        assert "leave it empty" in await refused(front, session, paid, await signed(front, session, PAYER))
        assert (await claim(front, session, paid)).status is ClaimStatus.OPEN


async def test_claim_of_a_cancelled_payment_is_held(front: Shopfront) -> None:
    """Whose payment it is is one question, whether to deliver another."""
    session = await front.open_new()
    await cancel(front.core, session.id, by="the customer")
    paid = front.pay(30 * WHOLE)
    await front.mine(paid)
    await claim(front, session, paid, await signed(front, session, PAYER))
    await front.mine_more(8)
    after = await front.session(session.id)
    assert (after.status, after.flags) == (Status.CANCELLED, {Flag.HELD, Flag.OVERPAID})
    assert "session.paid" not in await front.told(session.id)


async def test_claims_sent_at_once_are_counted_once(front: Shopfront) -> None:
    """A double tap, a rival with the same idea, and the merchant, all in one moment."""
    first, second = await front.open_new(), await front.open_new()
    paid = front.pay(30 * WHOLE)
    await front.mine(paid)
    (payment,) = await list_payments(front.core)
    proof = await signed(front, first, PAYER)
    answers = await asyncio.gather(
        *(claim(front, first, paid, proof) for _ in range(3)),
        *(claim(front, second, paid) for _ in range(3)),
        assign(front.core, payment.transfer.id, second.id, by=BY),
        return_exceptions=True,
    )
    assert all(not isinstance(a, Exception) or isinstance(a, (ClaimRefused, NotSortable)) for a in answers)
    received = sorted([(await front.session(s.id)).received_base for s in (first, second)])
    assert (received, await front.count(credits)) == ([0, 30 * WHOLE], 1)
    assert [r["type"] for r in await front.rows(events)].count("payment.seen") == 1
    await front.every_event_has_one_delivery()
