"""Turns committed rows into views: formats, splits and names; decides nothing about money."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urlsplit

from markupsafe import Markup

from astrapayd.chains import Chain
from astrapayd.event_data import amount_text, confirmations
from astrapayd.events import iso_time
from astrapayd.links import Link, Unavailable, is_direct
from astrapayd.money import Asset, format_amount
from astrapayd.prefill import Terms
from astrapayd.services.core import Core
from astrapayd.services.sessions import SessionDetails
from astrapayd.sessions import Flag, Status
from astrapayd.web import qr
from astrapayd.web.views import (
    AddressText,
    AmountText,
    AssetChoice,
    ClaimForm,
    LinkState,
    LinkView,
    NetworkText,
    PaidView,
    PayerForm,
    PaymentState,
    PaymentView,
    ReceiptView,
    StoreText,
    TransferLine,
    VerifyView,
)

_MIXED_UP = ("ERC-20", "TRC-20", "BEP-20")
"""Token standards whose addresses or names are mistaken for each other, with money lost each time."""


def link_view(
    core: Core,
    link: Link,
    why: Unavailable | None,
    level: dict[str, bool],
    *,
    form_token: str,
    terms: Terms | None = None,
) -> LinkView:
    """:param level: by chain id, whether its watcher is level with its node.
    :param terms: what the shop has signed; its amount stands where else the customer would choose one."""
    terms = terms or Terms()
    price = link.price or terms.amount
    states: dict[Unavailable | None, LinkState] = {
        None: "open",
        Unavailable.PAUSED: "paused",
        Unavailable.EXPIRED: "expired",
        Unavailable.ARCHIVED: "expired",
        Unavailable.SOLD_OUT: "sold_out",
    }
    assets = {asset.id: asset for asset in core.assets_of(link.store)}
    return LinkView(
        slug=link.slug,
        state=states[why],
        store=_store(core, link.store),
        title=link.title,
        price=price,
        currency=link.currency,
        description=link.description,
        choices=tuple(
            AssetChoice(
                asset_id=asset.id,
                symbol=asset.symbol,
                network=_network(asset, core.registry[asset.chain]),
                price=price if is_direct(asset, link.currency) else "",  # converted at the opening
                available=level.get(asset.chain, False),
            )
            for asset in (assets[a] for a in link.assets if a in assets)
        ),
        form_token=form_token,
        least=link.amount_rules.least,
        most=link.amount_rules.most,
        presets=link.amount_rules.presets,
        order=terms.order,
        back_url=link.back_url,
        demo=_is_demo(core, link.assets),
    )


def payment_view(
    core: Core,
    details: SessionDetails,
    *,
    cancel_token: str = "",
    claim: ClaimForm | None = None,
    payer: PayerForm | None = None,
    extras: tuple[Markup, ...] = (),
) -> PaymentView:
    """The page of a session that is not paid. ``cancel_token`` and the forms are for its own browser only."""
    row, state, asset = details.row, details.row.state, details.row.asset
    chain, now = core.registry[row.chain], core.now()
    asking_rest = details.asking.purpose == "rest"
    own_address = details.asking.tail is None
    # On an address of its own the rest needs no other amount: it is simply what is missing.
    asked_base = (own_address and state.received_base and state.missing_base) or details.asking.due_base
    address = chain.display_address(row.address)
    uri = chain.payment_uri(asset, row.address, asked_base)
    excess = state.received_base - state.due_base
    return PaymentView(
        session_id=row.id,
        revision=state.revision,
        state=payment_state(details),
        store=_store(core, row.store),
        title=details.link.title,
        due=due_text(state.due_base, asset, has_tail=not own_address),
        network=_network(asset, chain),
        address=AddressText.of(address),
        payment_uri=uri,
        qr_address=_qr(address),
        qr_uri=_qr(uri) if uri else None,
        # Wallets that read only a token URI's address have sent money to the token's contract.
        prefer_uri=asset.contract is None,
        opened_at=iso_time(row.opened_at),
        expires_at=iso_time(state.expires_at),
        server_now=iso_time(now),
        seconds_left=max(state.expires_at - now, 0),
        window_secs=state.expires_at - row.opened_at,
        code=row.code,
        received=_plain(state.received_base, asset) if state.received_base else None,
        missing=_plain(state.missing_base, asset) if state.missing_base and state.received_base else None,
        excess=_plain(excess, asset) if excess >= state.overpaid_from_base else None,
        price=f"{row.price} {row.currency}" if row.quote is not None else "",
        rate=row.quote.rate_sentence(row.currency, asset) if row.quote is not None else "",
        rest=due_text(asked_base, asset, has_tail=True) if asking_rest else None,
        transfers=_lines(core, details),
        node_seen_at=iso_time(details.looked_at) if details.looked_at else "",
        late_until=iso_time(state.late_until),
        can_cancel=bool(cancel_token) and state.status is Status.PENDING and not state.received_base,
        cancel_token=cancel_token,
        claim=claim,
        payer=payer,
        # Without what the shop has signed, the link would sell another thing than the order: back to the shop then.
        link_url="" if row.order_ref else f"/l/{details.link.slug}",
        back_url=row.back_url,
        order=row.order_ref,
        demo=_is_demo(core, [asset.id]),
        extras=extras,
    )


def payment_state(details: SessionDetails) -> PaymentState:
    """Which words the page chooses."""
    state = details.row.state
    if Flag.HELD in state.flags:
        if Flag.LATE in state.flags:
            return "late_held"
        return "dust_missing" if state.rest_is_dust else "held"
    match state.status:
        case Status.PAID:
            return "paid"
        case Status.CANCELLED:
            return "cancelled"
        case Status.EXPIRED:
            return "expired_partial" if state.received_base else "expired"
        case Status.PROCESSING if Flag.LATE in state.flags:
            return "late_accepted"
        case Status.PROCESSING if Flag.OVERPAID in state.flags:
            return "overpaid"
        case Status.PROCESSING:
            mined = all(confirmations(c.transfer, details.head_height) for c in details.credits if c.transfer.live)
            return "confirming" if mined else "seen"
        case Status.PENDING | Status.DRAFT:
            if state.received_base:
                return "underpaid"
            if Flag.REVERTED in state.flags:
                return "reverted"
            return "waiting" if details.level else "node_trouble"


def paid_view(core: Core, details: SessionDetails, *, extras: tuple[Markup, ...] = ()) -> PaidView:
    """The page of a session that is paid."""
    row, state, asset = details.row, details.row.state, details.row.asset
    chain = core.registry[row.chain]
    return PaidView(
        session_id=row.id,
        revision=state.revision,
        store=_store(core, row.store),
        title=details.link.title,
        received=_plain(state.received_base, asset),
        network=_network(asset, chain),
        code=row.code,
        paid_at=iso_time(row.paid_at or row.opened_at),
        transfers=_lines(core, details),
        receipt_url=f"/r/{row.id}",
        excess=_excess(details),
        late=Flag.LATE in state.flags,
        back_url=row.back_url,
        order=row.order_ref,
        demo=_is_demo(core, [asset.id]),
        extras=extras,
    )


def receipt_view(core: Core, details: SessionDetails) -> ReceiptView:
    """The same facts, to keep."""
    row, asset = details.row, details.row.asset
    chain = core.registry[row.chain]
    base_url = core.config.server.public_url.rstrip("/")
    return ReceiptView(
        session_id=row.id,
        store=_store(core, row.store),
        title=details.link.title,
        description=details.link.description,
        price=row.price,
        currency=row.currency,
        received=_plain(row.state.received_base, asset),
        network=_network(asset, chain),
        address=AddressText.of(chain.display_address(row.address)),
        code=row.code,
        paid_at=iso_time(row.paid_at or row.opened_at),
        transfers=_lines(core, details),
        verify_url=f"{base_url}/verify?code={row.code}",
        page_url=f"{base_url}/s/{row.id}",
        order=row.order_ref,
        excess=_excess(details),
        back_url=row.back_url,
        demo=_is_demo(core, [asset.id]),
    )


def verify_view(details: SessionDetails) -> VerifyView:
    """Status, amount and date; nothing that leads to the session or its customer."""
    row, state = details.row, details.row.state
    received = state.received_base if state.status is Status.PAID else state.due_base
    return VerifyView(
        result="found",
        code=row.code,
        state=payment_state(details),
        amount=_plain(received, row.asset),
        at=iso_time(row.paid_at or row.opened_at),
    )


def due_text(base: int, asset: Asset, *, has_tail: bool) -> AmountText:
    """An amount to be sent, with the digits that make it unique set apart."""
    if not has_tail:
        return _plain(base, asset)
    # Every digit down to the tail's last is shown, so that nothing is left to a wallet's rounding.
    text = format_amount(base, asset.decimals, at_least=asset.price_decimals + asset.tail_digits)
    return AmountText(text[: -asset.tail_digits], text[-asset.tail_digits :], asset.symbol)


def _plain(base: int, asset: Asset) -> AmountText:
    return AmountText(amount_text(base, asset), "", asset.symbol)


def _excess(details: SessionDetails) -> AmountText | None:
    state = details.row.state
    excess = state.received_base - state.due_base
    return _plain(excess, details.row.asset) if excess >= state.overpaid_from_base else None


def _lines(core: Core, details: SessionDetails) -> tuple[TransferLine, ...]:
    needed = core.ingest.books.confirmed_from(details.row, details.credits).blocks
    return tuple(
        TransferLine(
            tx=credit.transfer.tx,
            amount=_plain(credit.transfer.amount_base, details.row.asset),
            confirmations=confirmations(credit.transfer, details.head_height),
            needed=needed or 0,
            seen_at=iso_time(credit.transfer.first_seen_at),
            finality=needed is None,
        )
        for credit in details.credits
        if credit.transfer.live
    )


def _network(asset: Asset, chain: Chain) -> NetworkText:
    if asset.contract is None:
        return NetworkText(chain.title)
    standard = chain.token_standard
    mixed_up = tuple(other for other in _MIXED_UP if other != standard) if standard in _MIXED_UP else ()
    return NetworkText(chain.title, standard, mixed_up)


def _store(core: Core, store_id: str) -> StoreText:
    parts = urlsplit(core.config.server.public_url)
    return StoreText(name=core.config.stores[store_id].name, host=parts.netloc)


def _is_demo(core: Core, asset_ids: tuple[str, ...] | list[str]) -> bool:
    """Every page of a testnet's asset says that no real money moves."""
    return any(asset.testnet for asset in core.registry.assets() if asset.id in asset_ids)


@lru_cache(maxsize=512)
def _qr(text: str) -> Markup:
    return qr.svg(text)
