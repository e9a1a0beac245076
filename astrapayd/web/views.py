"""Everything a page template is told.

A view is made by a handler out of committed rows and holds text that is ready to print: amounts already split
into their whole part and their tail, times as ISO 8601 in UTC, addresses in groups. Nothing here, and nothing in
a template, decides about money; a template only chooses words for the state that it is given.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from markupsafe import Markup

LinkState = Literal["open", "sold_out", "paused", "expired"]
PaymentState = Literal[
    "waiting",
    "node_trouble",
    "seen",
    "confirming",
    "underpaid",
    "overpaid",
    "late_accepted",
    "late_held",
    "held",
    "dust_missing",
    "reverted",
    "expired",
    "expired_partial",
    "cancelled",
    "paid",
]
VerifyResult = Literal["ask", "found", "not_found"]


@dataclass(frozen=True, slots=True)
class AmountText:
    """An exact amount: ``whole`` is what was asked, ``tail`` the digits that make it the customer's own."""

    whole: str
    tail: str
    symbol: str

    @property
    def exact(self) -> str:
        """The number as a wallet wants it: no symbol, no space, no grouping."""
        return self.whole + self.tail

    def __str__(self) -> str:
        return f"{self.exact} {self.symbol}"


@dataclass(frozen=True, slots=True)
class AddressRun:
    """Characters of an address that are set in one weight."""

    text: str
    strong: bool


@dataclass(frozen=True, slots=True)
class AddressText:
    """An address for the eye: groups of four, the first and the last six characters strong."""

    plain: str
    groups: tuple[tuple[AddressRun, ...], ...]

    @classmethod
    def of(cls, address: str) -> "AddressText":
        """Split ``address``; the groups joined give exactly the address again."""
        strong = [at < 6 or at >= len(address) - 6 for at in range(len(address))]
        groups: list[tuple[AddressRun, ...]] = []
        for start in range(0, len(address), 4):
            runs: list[AddressRun] = []
            for at in range(start, min(start + 4, len(address))):
                if runs and runs[-1].strong == strong[at]:
                    runs[-1] = AddressRun(runs[-1].text + address[at], strong[at])
                else:
                    runs.append(AddressRun(address[at], strong[at]))
            groups.append(tuple(runs))
        return cls(address, tuple(groups))


@dataclass(frozen=True, slots=True)
class NetworkText:
    """The network to pay on, and what it is mistaken for."""

    name: str  # "Ethereum"
    standard: str = ""  # "ERC-20"; empty for a native coin
    confused_with: tuple[str, ...] = ()  # ("TRC-20", "BEP-20") where a mix-up is common


@dataclass(frozen=True, slots=True)
class StoreText:
    """Who receives the money. The host is what the customer can compare with the address bar."""

    name: str
    host: str
    logo_url: str = ""
    contact_url: str = ""  # https:, http: or mailto:


@dataclass(frozen=True, slots=True)
class AssetChoice:
    """One way to pay a link."""

    asset_id: str
    symbol: str
    network: NetworkText
    price: str  # "25.00", in this asset; empty while it is not known
    fee_hint: str = ""
    time_hint: str = ""
    available: bool = True  # False while the chain's node is not level


@dataclass(frozen=True, slots=True)
class LinkView:
    """`/l/SLUG`: what is sold, for how much, and how it can be paid."""

    slug: str
    state: LinkState
    store: StoreText
    title: str
    price: str  # empty: the customer chooses the amount
    currency: str
    choices: tuple[AssetChoice, ...]
    least: str = ""
    most: str = ""
    presets: tuple[str, ...] = ()
    amount: str = ""  # as typed before, where it was refused
    order: str = ""  # the shop's reference, signed by it
    prefill: str = ""  # percent-encoded query that the form carries on; ``price`` is then what the shop has signed
    description: str = ""
    picture_url: str = ""
    chosen: str = ""  # asset id; the first available one otherwise
    form_token: str = ""  # the same token twice opens one session, not two
    error: str = ""
    back_url: str = ""
    demo: bool = False
    extras: tuple[Markup, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferLine:
    """One transfer credited to the session."""

    tx: str
    amount: AmountText
    confirmations: int
    needed: int  # meaningless with finality
    seen_at: str
    finality: bool = False  # waits for the chain's own finality: there is no "n of m" to show


@dataclass(frozen=True, slots=True)
class ClaimForm:
    """For the session's own browser: to say which transaction paid, where the page does not show it by itself.

    ``waiting`` are transactions whose claims wait for the shop. ``challenge`` is the text that proves the sender, empty
    where the chain knows no such signatures. ``open``: the customer is filling it in, so the page does not refresh.
    """

    token: str
    challenge: str = ""
    waiting: tuple[str, ...] = ()
    open: bool = False
    tx: str = ""  # as typed before, with what was wrong
    signature: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class PayerForm:
    """For the session's own browser: to prove the account that is going to pay, so that any amount from it is counted.

    ``proved`` are the accounts that did, ``challenge`` is the text to sign. ``open`` as in :class:`ClaimForm`.
    """

    token: str
    challenge: str
    proved: tuple[str, ...] = ()
    open: bool = False
    account: str = ""  # as typed before, with what was wrong
    signature: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class PaymentView:
    """`/s/ID` until it is paid, and each message of its live stream."""

    session_id: str
    revision: int
    state: PaymentState
    store: StoreText
    title: str
    due: AmountText
    network: NetworkText
    address: AddressText
    payment_uri: str
    qr_address: Markup
    qr_uri: Markup | None  # None when the address alone is what is safe to scan on this chain
    prefer_uri: bool  # True for native coins; tokens start with the address alone
    opened_at: str
    expires_at: str
    server_now: str
    seconds_left: int
    window_secs: int
    code: str
    received: AmountText | None = None
    missing: AmountText | None = None
    excess: AmountText | None = None
    price: str = ""  # where it is in another currency, such as "25.00 EUR", and …
    rate: str = ""  # … what it was converted with: "1 USDT = 0.92 EUR"
    rest: AmountText | None = None  # the missing part with a tail of its own; URI and QR codes are then for it
    transfers: tuple[TransferLine, ...] = ()
    node_seen_at: str = ""  # the last time the shop's node answered
    late_until: str = ""
    can_cancel: bool = False
    cancel_token: str = ""
    claim: ClaimForm | None = None
    payer: PayerForm | None = None
    link_url: str = ""  # to start again
    back_url: str = ""
    order: str = ""
    demo: bool = False
    extras: tuple[Markup, ...] = ()

    @property
    def asked(self) -> AmountText:
        """What the customer is to send now."""
        # On an address of its own the rest needs no tail; asking for the whole again would be asking twice.
        missing = self.missing if self.state == "underpaid" else None
        return self.rest or missing or self.due

    @property
    def latest(self) -> TransferLine | None:
        """The transfer that the tracker counts for: the one with the fewest confirmations."""
        return min(self.transfers, key=lambda line: line.confirmations, default=None)


@dataclass(frozen=True, slots=True)
class PaidView:
    """`/s/ID` once it is paid."""

    session_id: str
    revision: int
    store: StoreText
    title: str
    received: AmountText
    network: NetworkText
    code: str
    paid_at: str
    transfers: tuple[TransferLine, ...]
    receipt_url: str
    excess: AmountText | None = None
    late: bool = False
    back_url: str = ""
    order: str = ""
    demo: bool = False
    extras: tuple[Markup, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiptView:
    """`/r/ID`: the same facts, to keep and to print."""

    session_id: str
    store: StoreText
    title: str
    price: str
    currency: str
    received: AmountText
    network: NetworkText
    address: AddressText
    code: str
    paid_at: str
    transfers: tuple[TransferLine, ...]
    verify_url: str
    page_url: str
    description: str = ""
    order: str = ""
    excess: AmountText | None = None
    back_url: str = ""
    demo: bool = False


@dataclass(frozen=True, slots=True)
class VerifyView:
    """`/verify`: a code tells the status, the amount and the date, and nothing else."""

    result: VerifyResult
    code: str = ""
    state: PaymentState | None = None
    amount: AmountText | None = None
    at: str = ""


@dataclass(frozen=True, slots=True)
class ProblemView:
    """A page for what cannot be shown: 404, 410, 429, 500, 503 …"""

    status: int
    detail: str = ""
    retry_after_secs: int = 0
    back_url: str = ""


View: TypeAlias = LinkView | PaymentView | PaidView | ReceiptView | VerifyView | ProblemView
