"""The customer's pages: link, payment, paid, receipt, verification. Reads committed rows and asks services."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from aiohttp import web
from markupsafe import Markup

from astrapayd.claims import ClaimRefused, ClaimStatus
from astrapayd.ids import normal_code
from astrapayd.links import Link
from astrapayd.money import AmountError
from astrapayd.news import News
from astrapayd.prefill import PrefillRefused, Terms, Why, given_query
from astrapayd.rates import NoQuote
from astrapayd.services import claims as claim_service
from astrapayd.services import payers as payer_service
from astrapayd.services import sessions as session_service
from astrapayd.services.chains import levels
from astrapayd.services.claims import Evidence
from astrapayd.services.core import Core, NotFound, TryLater
from astrapayd.services.links import find_link
from astrapayd.services.payers import PayerProof
from astrapayd.services.prefill import read_terms
from astrapayd.services.sessions import LinkUnavailable, SessionDetails, find_session
from astrapayd.sessions import NotPossible, Status
from astrapayd.web import present
from astrapayd.web.headers import PAGE_HEADERS
from astrapayd.web.limits import CLAIMS, VERIFICATIONS, Limits
from astrapayd.web.render import Pages, live_event
from astrapayd.web.routes import Extra
from astrapayd.web.views import ClaimForm, LinkView, PaidView, PayerForm, PaymentView, VerifyView, View

LIVE_EVERY_SECS = 10
"""A live page is sent anew at least this often, so that it shows when the node was last looked at, and so that a
change by another process (the CLI) is seen."""

MAX_LIVE = 10_000

_Typed = Evidence | PayerProof
"""What a customer has filled into a form of the payment page."""

QUOTE_RETRY_SECS = 60
"""When to come back where there is no recent rate."""

OTHER_AMOUNT = "other"
"""The choice beside the offered amounts: the one that is typed."""


class Checkout:
    """Handlers of the public pages."""

    def __init__(
        self,
        core: Core,
        pages: Pages,
        news: News,
        limits: Limits,
        extras: Sequence[Extra],
        committed: Callable[[Iterable[str]], None],
        stopping: asyncio.Event,
    ) -> None:
        """:param committed: called after each commit with the sessions that changed.
        :param stopping: set when the daemon stops; live streams then end, and browsers come back to the next one."""
        self._core = core
        self._pages = pages
        self._news = news
        self._limits = limits
        self._extras = extras
        self._committed = committed
        self._stopping = stopping
        self._secure = core.config.server.public_url.startswith("https:")

    def routes(self) -> list[web.RouteDef]:
        """Everything under ``/l``, ``/s``, ``/r`` and ``/verify``."""
        return [
            web.get("/l/{slug}", self.link),
            web.post("/l/{slug}", self.open),
            web.get("/s/{session}", self.session),
            web.get("/s/{session}/status", self.status),
            web.get("/s/{session}/live", self.live),
            web.post("/s/{session}/cancel", self.cancel),
            web.get("/s/{session}/claim", self.claim_form),
            web.post("/s/{session}/claim", self.claim),
            web.get("/s/{session}/payer", self.payer_form),
            web.post("/s/{session}/payer", self.prove_payer),
            web.get("/r/{session}", self.receipt),
            web.get("/verify", self.verify),
        ]

    async def link(self, request: web.Request) -> web.Response:
        """The link's page. Nothing is reserved here: a chat's preview must not take an amount."""
        return self._page(await self._link_view(request))

    async def open(self, request: web.Request) -> web.Response:
        """Open a session and send the browser to it."""
        form = await request.post()
        slug, token = request.match_info["slug"], form.get("form_token", "")
        asset_id = form.get("asset", "")
        amount = str(form.get("amount", "")).strip()
        try:
            link, _why = await find_link(self._core, slug)
            # The signature came along in the form's own address and is verified again: what it says is not taken
            # from the page, which the customer can edit.
            terms = await self._terms(request, link) or Terms()
            amount = _chosen_amount(str(form.get("preset", "")), amount, terms.amount)
            opened = await session_service.open_session(
                self._core,
                slug,
                str(asset_id),
                form_token=str(token)[:100],
                source="checkout",
                amount=amount,
                order_ref=terms.order,
            )
        except LinkUnavailable:
            return self._page(await self._link_view(request), status=409)
        except AmountError as error:
            view = await self._link_view(request, error=_sentence(str(error)), amount=amount, chosen=str(asset_id))
            return self._page(view, status=422)
        except NoQuote as none:
            view = await self._link_view(request, error=_sentence(str(none)), amount=amount, chosen=str(asset_id))
            return self._page(view, status=503, retry_after_secs=QUOTE_RETRY_SECS)
        except TryLater as later:
            view = await self._link_view(request, error=_sentence(str(later)), amount=amount, chosen=str(asset_id))
            return self._page(view, status=503, retry_after_secs=later.retry_after_secs)
        self._committed([opened.session_id])
        answer = web.Response(status=303, headers={"Location": f"/s/{opened.session_id}", **PAGE_HEADERS})
        answer.set_cookie(
            _cookie(opened.session_id),
            opened.secret,
            path=f"/s/{opened.session_id}",
            httponly=True,
            samesite="Strict",
            secure=self._secure,
            max_age=7 * 86400,
        )
        return answer

    async def session(self, request: web.Request) -> web.Response:
        """The payment page, or the paid one."""
        return self._page(await self._session_view(request))

    async def status(self, request: web.Request) -> web.Response:
        """The part of the page that changes, once; for a browser whose stream does not come through."""
        details = await find_session(self._core, request.match_info["session"])
        html = self._pages.live(self._view(details, request))
        return web.Response(text=html, content_type="text/html", headers=PAGE_HEADERS)

    async def live(self, request: web.Request) -> web.StreamResponse:
        """The same part at each change, as server-sent events, until the browser leaves."""
        session_id = request.match_info["session"]
        details = await find_session(self._core, session_id)
        if self._news.listening >= MAX_LIVE:
            raise TryLater("too many pages are open; this one refreshes by itself", LIVE_EVERY_SECS)
        answer = web.StreamResponse(
            headers={**PAGE_HEADERS, "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        await answer.prepare(request)
        subjects = (session_id, f"chain:{details.row.chain}")
        with self._news.listen(*subjects) as changed, contextlib.suppress(ConnectionError):
            while not self._stopping.is_set():
                changed.clear()
                details = await find_session(self._core, session_id)
                view = self._view(details, request)
                await answer.write(live_event(self._pages.live(view), view.revision))
                await self._next(changed)
        return answer

    async def cancel(self, request: web.Request) -> web.Response:
        """Give the session up, by its own browser only."""
        session_id = request.match_info["session"]
        details = await find_session(self._core, session_id)
        form = await request.post()
        if not self._is_own(details, request, "cancel", form):
            raise web.HTTPForbidden(text="Only the browser that opened this payment can cancel it.")
        with contextlib.suppress(NotPossible):  # paid meanwhile: the page says so
            await session_service.cancel(self._core, session_id, by="the customer")
        self._committed([session_id])
        return web.Response(status=303, headers={"Location": f"/s/{session_id}", **PAGE_HEADERS})

    async def claim_form(self, request: web.Request) -> web.Response:
        """The payment page with the form for a claim open, and without refreshing by itself while it is filled in."""
        return self._page(await self._session_view(request, filling_in=Evidence("", "")))

    async def claim(self, request: web.Request) -> web.Response:
        """Claim a transaction for the session, by its own browser only."""
        form = await self._own_form(request, "claim", "Only the browser that opened this payment can claim one for it.")
        evidence = Evidence(*(str(form.get(name, "")) for name in ("tx", "code", "signature")))
        asked = claim_service.present(self._core, request.match_info["session"], evidence)
        return await self._answer(request, asked, evidence)

    async def payer_form(self, request: web.Request) -> web.Response:
        """The payment page with the form for the account that pays open, and without refreshing by itself."""
        return self._page(await self._session_view(request, filling_in=PayerProof("", "")))

    async def prove_payer(self, request: web.Request) -> web.Response:
        """Take an account for the session's payer, by its own browser only."""
        form = await self._own_form(request, "payer", "Only the browser that opened this payment can say who pays it.")
        proof = PayerProof(*(str(form.get(name, "")) for name in ("account", "signature")))
        asked = payer_service.prove_payer(self._core, request.match_info["session"], proof)
        return await self._answer(request, asked, proof)

    async def _own_form(self, request: web.Request, what: str, refusal: str) -> Mapping[str, object]:
        """What the session's own browser has sent; each such form may ask a node about a signature, so few do."""
        self._limits.count(request, CLAIMS, "claim")
        details = await find_session(self._core, request.match_info["session"])
        form = await request.post()
        if not self._is_own(details, request, what, form):
            raise web.HTTPForbidden(text=refusal)
        return form

    async def _answer(self, request: web.Request, asked: Awaitable[object], typed: _Typed) -> web.Response:
        """Back to the payment, or the form as it was typed with what is wrong."""
        session_id = request.match_info["session"]
        try:
            await asked
        except ClaimRefused as refused:
            return self._page(await self._session_view(request, filling_in=typed, error=str(refused)), status=422)
        except TryLater as later:
            view = await self._session_view(request, filling_in=typed, error=str(later))
            return self._page(view, status=503, retry_after_secs=later.retry_after_secs)
        self._committed([session_id])
        return web.Response(status=303, headers={"Location": f"/s/{session_id}", **PAGE_HEADERS})

    async def receipt(self, request: web.Request) -> web.Response:
        """Only of a payment that is there: a receipt of a reverted one would be a lie."""
        details = await find_session(self._core, request.match_info["session"])
        if details.row.state.status is not Status.PAID:
            raise NotFound("there is no receipt before the payment is complete")
        return self._page(present.receipt_view(self._core, details))

    async def verify(self, request: web.Request) -> web.Response:
        """Whether a code is one of ours, and what it stands for."""
        typed = request.query.get("code", "")
        if not typed:
            return self._page(VerifyView(result="ask"))
        self._limits.count(request, VERIFICATIONS, "verify")
        code = normal_code(typed)
        session_id = await session_service.find_by_code(self._core, code) if code else None
        if session_id is None:
            return self._page(VerifyView(result="not_found", code=typed[:20]), status=404)
        return self._page(present.verify_view(await find_session(self._core, session_id)))

    async def _next(self, changed: asyncio.Event) -> None:
        """Until a change, the regular repetition, or the daemon's end."""
        waits = [asyncio.ensure_future(changed.wait()), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(waits, timeout=LIVE_EVERY_SECS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _link_view(
        self, request: web.Request, *, error: str = "", amount: str = "", chosen: str = ""
    ) -> LinkView:
        """:raises TermsRefused: if what the address says does not count."""
        slug = request.match_info["slug"]
        link, why = await find_link(self._core, slug)
        if slug != link.slug:
            raise NotFound("there is no such link")
        terms = await self._terms(request, link)
        level = await levels(self._core)
        token = secrets.token_urlsafe(16)
        view = present.link_view(self._core, link, why, level, form_token=token, terms=terms)
        carried = given_query(request.query.items()) if terms is not None else ""
        return replace(view, error=error, amount=amount[:100], chosen=chosen, prefill=carried)

    async def _terms(self, request: web.Request, link: Link) -> Terms | None:
        """What the shop has signed in the address. :raises TermsRefused: if it does not count."""
        try:
            return await read_terms(self._core, link, list(request.query.items()))
        except PrefillRefused as refused:
            raise TermsRefused(refused.why, _sentence(str(refused)), link.back_url) from None

    async def _session_view(
        self, request: web.Request, *, filling_in: _Typed | None = None, error: str = ""
    ) -> PaymentView | PaidView:
        """The whole page; ``filling_in`` is what the customer has typed into one of its forms so far."""
        details = await find_session(self._core, request.match_info["session"])
        blocks = [await extra(details) for extra in self._extras]
        claim = await self._claim_form(details, request, filling_in, error)
        payer = await self._payer_form(details, request, filling_in, error)
        return self._view(details, request, claim, payer, tuple(b for b in blocks if b is not None))

    async def _claim_form(
        self, details: SessionDetails, request: web.Request, filling_in: _Typed | None, error: str
    ) -> ClaimForm | None:
        row = details.row
        token = self._token(details, request, "claim")
        if not token or row.state.received_base >= row.state.enough_base:
            return None
        claims = await claim_service.claims_of(self._core, row.id)
        signs = self._core.registry[row.chain].signs_messages
        typed = filling_in if isinstance(filling_in, Evidence) else None
        return ClaimForm(
            token=token,
            challenge=claim_service.challenge_of(self._core, row) if signs else "",
            waiting=tuple(c.tx for c in claims if c.status is ClaimStatus.OPEN),
            open=typed is not None,
            tx=typed.tx[:200] if typed else "",
            signature=typed.signature[:10_000] if typed else "",
            error=error if typed else "",
        )

    async def _payer_form(
        self, details: SessionDetails, request: web.Request, filling_in: _Typed | None, error: str
    ) -> PayerForm | None:
        """Where amounts tell customers apart, and the chain has signatures of texts."""
        row, chain = details.row, self._core.registry[details.row.chain]
        token = self._token(details, request, "payer")
        has_tail = details.asking.tail is not None
        if not token or row.state.status is not Status.PENDING or not has_tail or not chain.signs_messages:
            return None
        typed = filling_in if isinstance(filling_in, PayerProof) else None
        return PayerForm(
            token=token,
            challenge=payer_service.payer_challenge_of(self._core, row),
            proved=tuple(chain.display_address(one) for one in await payer_service.payers_of(self._core, row.id)),
            open=typed is not None,
            account=typed.account[:200] if typed else "",
            signature=typed.signature[:10_000] if typed else "",
            error=error if typed else "",
        )

    def _view(
        self,
        details: SessionDetails,
        request: web.Request,
        claim: ClaimForm | None = None,
        payer: PayerForm | None = None,
        extras: tuple[Markup, ...] = (),
    ) -> PaymentView | PaidView:
        if present.payment_state(details) == "paid":
            return present.paid_view(self._core, details, extras=extras)
        token = self._token(details, request, "cancel")
        return present.payment_view(self._core, details, cancel_token=token, claim=claim, payer=payer, extras=extras)

    def _token(self, details: SessionDetails, request: web.Request, what: str) -> str:
        """What a form must bring along. Empty unless the request comes from the browser that opened the session."""
        secret = request.cookies.get(_cookie(details.row.id), "")
        if not session_service.is_customer(details.row, secret):
            return ""
        return hashlib.sha256(f"{what}\0{secret}".encode()).hexdigest()

    def _is_own(self, details: SessionDetails, request: web.Request, what: str, form: Mapping[str, object]) -> bool:
        """Whether a form was filled in by the browser that opened the session, on a page of ours."""
        expected = self._token(details, request, what)
        given = str(form.get(f"{what}_token", "")).encode(errors="replace")  # a text beyond ASCII cannot be compared
        return bool(expected) and hmac.compare_digest(expected.encode(), given)

    def _page(self, view: View, *, status: int = 200, retry_after_secs: int = 0) -> web.Response:
        headers = dict(PAGE_HEADERS)
        if retry_after_secs:
            headers["Retry-After"] = str(retry_after_secs)
        return web.Response(text=self._pages.render(view), status=status, content_type="text/html", headers=headers)


class TermsRefused(Exception):
    """What a link's address says does not count; nothing is reserved, and the page leads back to the shop."""

    def __init__(self, why: Why, sentence: str, back_url: str) -> None:
        super().__init__(sentence)
        self.status = 400 if why in (Why.GIVEN_TWICE, Why.UNUSABLE) else 403
        self.sentence = sentence
        self.back_url = back_url


def _chosen_amount(preset: str, typed: str, signed: str) -> str:
    """What a form asks to pay: what the shop has signed, else one of the offered amounts or the one that was typed.

    :raises AmountError: if it says two; which one was meant is not guessed.
    """
    if signed:
        for given in (typed, "" if preset == OTHER_AMOUNT else preset):
            if given not in ("", signed):
                raise AmountError(f"the shop has fixed the amount at {signed}: it cannot be changed to {given[:60]}")
        return signed
    if preset in ("", OTHER_AMOUNT):
        return typed
    if typed not in ("", preset):
        raise AmountError(f"two amounts are given, {preset} and {typed}: choose one, and clear the other")
    return preset


def _sentence(text: str) -> str:
    """As a customer reads it."""
    return text[:1].upper() + text[1:] + "."


def _cookie(session_id: str) -> str:
    return f"astrapay_{session_id}"
