"""One view for every state that a customer can meet. Screenshots and template tests are made from these."""

from collections.abc import Mapping
from dataclasses import replace

from markupsafe import Markup

from astrapayd.web import qr
from astrapayd.web.views import (
    AddressText,
    AmountText,
    AssetChoice,
    ClaimForm,
    LinkView,
    NetworkText,
    PaidView,
    PayerForm,
    PaymentView,
    ProblemView,
    ReceiptView,
    StoreText,
    TransferLine,
    VerifyView,
    View,
)

SESSION = "ses_q3v7k2m9x4d6b8w1n5r0t2y7c"
ADDRESS = "0x71C7656EC7ab88b098defB751B7401B5f6d8976F"
TOKEN = "0xdAC17F958D2ee523a2206206994597C13D831ec7"
TX_ONE = "0x9f2c51d0f4a3b7e86c1d25e0a94f7b3c6d8e1f20a5b4c3d2e1f0987654321abc"
TX_TWO = "0x04be7712aa9d3c55e8f6071b2c3d4e5f60718293a4b5c6d7e8f9012345678def"

STORE = StoreText("Kaffeehaus Nord", "pay.kaffeehaus-nord.example", contact_url="mailto:hallo@kaffeehaus-nord.example")
ERC20 = NetworkText("Ethereum", "ERC-20", ("TRC-20", "BEP-20"))
TRC20 = NetworkText("Tron", "TRC-20", ("ERC-20", "BEP-20"))


def usdt(whole: str, tail: str = "") -> AmountText:
    """An amount of USDT."""
    return AmountText(whole, tail, "USDT")


def token_uri(base_units: str) -> str:
    """The ERC-681 URI of a token payment."""
    return f"ethereum:{TOKEN}@1/transfer?address={ADDRESS}&uint256={base_units}"


USDT_ETH = AssetChoice("usdt-eth", "USDT", ERC20, "25.00", "Network fee about 0.40 USD", "about 1 minute")
USDT_TRON = AssetChoice("usdt-tron", "USDT", TRC20, "25.00", "Network fee 1 to 3 USD", "about 1 minute")
BTC = AssetChoice("btc", "BTC", NetworkText("Bitcoin"), "0.00028714", "Network fee about 0.30 USD", "10 to 60 minutes")
ETH = AssetChoice("eth", "ETH", NetworkText("Ethereum"), "0.008417", available=False)

LINK = LinkView(
    slug="two-bags",
    state="open",
    store=STORE,
    title="Two bags of Sidamo, 500 g",
    description="Washed Ethiopian coffee, roasted on Tuesday, posted on Wednesday.",
    price="25.00",
    currency="USDT",
    choices=(USDT_ETH,),
    form_token="2b6f",
    back_url="https://kaffeehaus-nord.example/cart",
)

OPEN_AMOUNT = replace(
    LINK,
    title="Support the choir",
    description="Every amount helps us to rent the hall.",
    price="",
    choices=(replace(USDT_ETH, price=""),),
    least="1.00",
    most="500.00",
    presets=("5", "20", "50"),
)

CLAIM = ClaimForm(
    token="9e1b",
    challenge=(
        "I have paid, and ask the shop to count my payment. This signature moves no money.\n"
        f"\nShop: {STORE.name} at https://{STORE.host}\nPayment: {SESSION}\nPaid to: {ADDRESS}\nCode: 7KQ2-M9XD"
    ),
)

PAYER = PayerForm(
    token="77d0",
    challenge=(
        "I am going to pay from this account, and ask the shop to count whatever I send. "
        "This signature moves no money.\n"
        f"\nShop: {STORE.name} at https://{STORE.host}\nPayment: {SESSION}\nPaid to: {ADDRESS}\nCode: 7KQ2-M9XD"
    ),
)

WAITING = PaymentView(
    session_id=SESSION,
    revision=1,
    state="waiting",
    store=STORE,
    title="Two bags of Sidamo, 500 g",
    due=usdt("25.00", "3417"),
    network=ERC20,
    address=AddressText.of(ADDRESS),
    payment_uri=token_uri("25003417"),
    qr_address=qr.svg(ADDRESS),
    qr_uri=qr.svg(token_uri("25003417")),
    prefer_uri=False,
    opened_at="2026-11-23T12:00:00Z",
    expires_at="2026-11-23T12:30:00Z",
    server_now="2026-11-23T12:00:19Z",
    seconds_left=1781,
    window_secs=1800,
    code="7KQ2-M9XD",
    node_seen_at="2026-11-23T12:00:17Z",
    late_until="2026-11-24T12:30:00Z",
    can_cancel=True,
    cancel_token="c4f1",
    claim=CLAIM,
    payer=PAYER,
    link_url="/l/two-bags",
    back_url="https://kaffeehaus-nord.example/cart",
    order="1042",
)

PENDING = TransferLine(TX_ONE, usdt("25.003417"), 0, 12, "2026-11-23T12:03:41Z")
SOON = replace(WAITING, seconds_left=259, server_now="2026-11-23T12:25:41Z", node_seen_at="2026-11-23T12:25:39Z")
SEEN = replace(
    WAITING, revision=2, state="seen", received=usdt("25.00", "3417"), transfers=(PENDING,), can_cancel=False
)
CONFIRMING = replace(SEEN, revision=4, state="confirming", transfers=(replace(PENDING, confirmations=2),))
UNDERPAID = replace(
    WAITING,
    revision=3,
    state="underpaid",
    received=usdt("21.003417"),
    missing=usdt("4.00"),
    rest=usdt("4.00", "8152"),
    payment_uri=token_uri("4008152"),
    qr_uri=qr.svg(token_uri("4008152")),
    transfers=(TransferLine(TX_ONE, usdt("21.003417"), 3, 12, "2026-11-23T12:03:41Z"),),
    seconds_left=1402,
    can_cancel=False,
)
OVERPAID = replace(
    CONFIRMING,
    state="overpaid",
    received=usdt("30.003417"),
    excess=usdt("5.00"),
    transfers=(TransferLine(TX_ONE, usdt("30.003417"), 5, 12, "2026-11-23T12:03:41Z"),),
)
LATE_ACCEPTED = replace(
    CONFIRMING,
    state="late_accepted",
    seconds_left=0,
    transfers=(replace(PENDING, confirmations=4, needed=0, finality=True),),
)
LATE_HELD = replace(LATE_ACCEPTED, state="late_held", transfers=(replace(PENDING, confirmations=12),))
HELD = replace(LATE_HELD, state="held")
DUST_MISSING = replace(
    UNDERPAID, state="dust_missing", received=usdt("24.99"), missing=usdt("0.013417"), rest=None, seconds_left=0
)
REVERTED = replace(WAITING, state="reverted", can_cancel=False)
EXPIRED = replace(WAITING, state="expired", seconds_left=0, can_cancel=False)
EXPIRED_PARTIAL = replace(UNDERPAID, state="expired_partial", rest=None, seconds_left=0)
CANCELLED = replace(EXPIRED, state="cancelled")
NODE_TROUBLE = replace(WAITING, state="node_trouble", node_seen_at="2026-11-23T11:57:02Z")
LONG_AMOUNT = replace(
    WAITING,
    title="A whole container of green coffee, delivered to the harbour of Hamburg before the end of March",
    due=AmountText("12345.67890123", "4567890123", "WETH"),
    network=NetworkText("Arbitrum One", "ERC-20", ("Ethereum", "Base")),
)
NATIVE = replace(
    WAITING,
    due=AmountText("0.008417", "5238", "ETH"),
    network=NetworkText("Ethereum"),
    payment_uri=f"ethereum:{ADDRESS}@1?value=8417523800000000",
    qr_uri=qr.svg(f"ethereum:{ADDRESS}@1?value=8417523800000000"),
    prefer_uri=True,
)
DEMO_EXTRAS = Markup(
    '<section class="note" aria-labelledby="demo"><h2 id="demo">Demo wallet</h2>'
    '<form method="post" action="/demo/pay"><button class="button" type="submit">Pay exactly</button></form></section>'
)
DEMO = replace(WAITING, demo=True, extras=(DEMO_EXTRAS,))

PAID = PaidView(
    session_id=SESSION,
    revision=9,
    store=STORE,
    title="Two bags of Sidamo, 500 g",
    received=usdt("25.003417"),
    network=ERC20,
    code="7KQ2-M9XD",
    paid_at="2026-11-23T12:06:20Z",
    transfers=(replace(PENDING, confirmations=12),),
    receipt_url=f"/r/{SESSION}",
    back_url="https://kaffeehaus-nord.example/thanks?order=1042",
    order="1042",
)
RECEIPT = ReceiptView(
    session_id=SESSION,
    store=STORE,
    title="Two bags of Sidamo, 500 g",
    description="Washed Ethiopian coffee, roasted on Tuesday, posted on Wednesday.",
    price="25.00",
    currency="USDT",
    received=usdt("25.003417"),
    network=ERC20,
    address=AddressText.of(ADDRESS),
    code="7KQ2-M9XD",
    paid_at="2026-11-23T12:06:20Z",
    transfers=(replace(PENDING, confirmations=12),),
    verify_url="https://pay.kaffeehaus-nord.example/verify",
    page_url=f"/s/{SESSION}",
    order="1042",
)

SAMPLES: Mapping[str, View] = {
    "link": LINK,
    "link-several": replace(LINK, currency="USD", choices=(USDT_ETH, USDT_TRON, BTC, ETH)),
    "link-open-amount": OPEN_AMOUNT,
    "link-open-amount-refused": replace(
        OPEN_AMOUNT, amount="0.5", error="Amount in USDT '0.5' is less than the least, 1.00: choose another one."
    ),
    "link-pre-filled": replace(
        OPEN_AMOUNT,
        title="Kaffeehaus Nord, your order",
        description="",
        price="74.50",
        choices=(replace(USDT_ETH, price="74.50"),),
        order="1042",
        prefill="amount=74.50&order=1042&signature=9b0f",
    ),
    "link-no-rate": replace(
        LINK,
        price="23.00",
        currency="EUR",
        choices=(replace(USDT_ETH, price=""),),
        error="The price in EUR cannot be converted to USDT at the moment: the latest rate is from "
        "2026-11-23T10:00:00Z, which is too long ago.",
    ),
    "link-node-behind": replace(LINK, choices=(replace(USDT_ETH, available=False),)),
    "link-sold-out": replace(LINK, state="sold_out"),
    "link-paused": replace(LINK, state="paused"),
    "link-expired": replace(LINK, state="expired"),
    "confirming-finality": replace(LATE_ACCEPTED, state="confirming"),
    "waiting": WAITING,
    "waiting-other-currency": replace(WAITING, price="23.00 EUR", rate="1 USDT = 0.92 EUR", due=usdt("25.00", "3417")),
    "waiting-native": NATIVE,
    "waiting-long-amount": LONG_AMOUNT,
    "waiting-demo": DEMO,
    "under-five-minutes": SOON,
    "node-trouble": NODE_TROUBLE,
    "seen": SEEN,
    "confirming": CONFIRMING,
    "underpaid": UNDERPAID,
    "underpaid-own-address": replace(UNDERPAID, rest=None),
    "overpaid": OVERPAID,
    "late-accepted": LATE_ACCEPTED,
    "late-held": LATE_HELD,
    "held": HELD,
    "dust-missing": DUST_MISSING,
    "reverted": REVERTED,
    "expired": EXPIRED,
    "expired-partial": EXPIRED_PARTIAL,
    "cancelled": CANCELLED,
    "claim": replace(WAITING, claim=replace(CLAIM, open=True)),
    "claim-wrong": replace(
        EXPIRED,
        claim=replace(
            CLAIM,
            open=True,
            tx=TX_TWO,
            signature="0x4ec0",
            error="that transaction was made before this payment was opened, so it cannot be for it",
        ),
    ),
    "claim-waits": replace(EXPIRED, claim=replace(CLAIM, waiting=(TX_ONE,))),
    "payer": replace(WAITING, payer=replace(PAYER, open=True)),
    "payer-wrong": replace(
        WAITING,
        payer=replace(
            PAYER,
            open=True,
            account=ADDRESS,
            signature="0x4ec0",
            error=f"that is not a signature of exactly the text shown, made by {ADDRESS}",
        ),
    ),
    "payer-proved": replace(WAITING, payer=replace(PAYER, proved=(ADDRESS,))),
    "paid": PAID,
    "paid-too-much": replace(PAID, received=usdt("30.003417"), excess=usdt("5.00"), late=True, back_url=""),
    "receipt": RECEIPT,
    "verify": VerifyView("ask"),
    "verify-found": VerifyView("found", "7KQ2-M9XD", "paid", usdt("25.003417"), "2026-11-23T12:06:20Z"),
    "verify-open": VerifyView("found", "7KQ2-M9XD", "waiting", usdt("25.003417"), "2026-11-23T12:00:00Z"),
    "verify-not-found": VerifyView("not_found", "7KQ2-M9XC"),
    "problem-edited": ProblemView(
        403,
        "This address was changed after the shop signed it: go back to the shop and start the payment there again.",
        back_url="https://kaffeehaus-nord.example/cart",
    ),
    "problem-404": ProblemView(404),
    "problem-429": ProblemView(429, retry_after_secs=30),
    "problem-503": ProblemView(503, retry_after_secs=60, back_url="https://kaffeehaus-nord.example/cart"),
    "problem-500": ProblemView(500),
}
