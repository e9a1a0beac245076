"""Every table, with a constraint behind every promise. Times are Unix seconds, amounts base units."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from astrapayd.db.types import BaseAmount, BaseTotal, Json

metadata = MetaData(
    naming_convention={  # named constraints: a later migration can drop them on both engines
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite only numbers a key by itself when it is exactly INTEGER; PostgreSQL's 32 bits would run out.
SerialKey = BigInteger().with_variant(Integer, "sqlite")
Id = String(40)

# -- the installation ---------------------------------------------------------------------------------------------

installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("epoch", Integer, nullable=False),  # a restored backup begins the next one
    Column("created_at", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),  # of events; locked while one is written
    Column("restored_at", BigInteger),  # when this epoch began with a backup; None: it never did
    CheckConstraint("id = 1", name="single"),
)

# -- chains -------------------------------------------------------------------------------------------------------

chains = Table(
    "chains",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("network", String(64), nullable=False),  # CAIP-2, compared at each start
    Column("genesis", String(80), nullable=False, server_default=""),
    Column("head_height", BigInteger),
    Column("head_hash", String(80)),
    Column("final_height", BigInteger, nullable=False),
    Column("watcher_epoch", BigInteger, nullable=False),  # fences a watcher that lost its place
    Column("watch_version", BigInteger, nullable=False),
    Column("level", Boolean, nullable=False),  # whether the watcher is live and level with its node
    Column("looked_at", BigInteger, nullable=False),  # last time the node answered
    Column("problem", Text, nullable=False, server_default=""),
    CheckConstraint("(head_height IS NULL) = (head_hash IS NULL)", name="head_whole"),
)

chain_blocks = Table(  # what may still be disconnected: kept until final
    "chain_blocks",
    metadata,
    Column("chain", ForeignKey("chains.id"), nullable=False),
    Column("height", BigInteger, nullable=False),
    Column("hash", String(80), nullable=False),
    Column("parent", String(80), nullable=False),
    Column("time", BigInteger, nullable=False),
    PrimaryKeyConstraint("chain", "height"),
    UniqueConstraint("chain", "hash"),
)

# -- where stores are paid ----------------------------------------------------------------------------------------

addresses = Table(
    "addresses",
    metadata,
    Column("id", SerialKey, primary_key=True),
    Column("chain", ForeignKey("chains.id"), nullable=False),
    Column("address", String(128), nullable=False),
    Column("store", String(64), nullable=False),
    Column("derivation", ForeignKey("derivations.id")),  # None: a static address, shared by tails
    Column("derivation_index", BigInteger),
    Column("added_version", BigInteger, nullable=False),  # of the watched set
    Column("retired_at", BigInteger),  # no longer in the configuration: still watched, not given out
    UniqueConstraint("chain", "address"),  # an address belongs to one store
    UniqueConstraint("derivation", "derivation_index"),  # no derived index is given twice
)

derivations = Table(
    "derivations",
    metadata,
    Column("id", SerialKey, primary_key=True),
    Column("key_hash", String(64), nullable=False),  # SHA-256 of the account xpub, across stores and chains
    Column("branch", Integer, nullable=False),
    Column("next_index", BigInteger, nullable=False),
    UniqueConstraint("key_hash", "branch"),
)

tail_spaces = Table(  # the two numbers are immutable once an address was used with them
    "tail_spaces",
    metadata,
    Column("address_id", ForeignKey("addresses.id"), nullable=False),
    Column("asset", String(64), nullable=False),
    Column("price_decimals", Integer, nullable=False),
    Column("tail_digits", Integer, nullable=False),
    PrimaryKeyConstraint("address_id", "asset"),
)

balances = Table(  # an unexplained rise is told; it is never credited
    "balances",
    metadata,
    Column("address_id", ForeignKey("addresses.id"), nullable=False),
    Column("asset", String(64), nullable=False),
    Column("height", BigInteger, nullable=False),
    Column("amount_base", BaseAmount, nullable=False),
    PrimaryKeyConstraint("address_id", "asset"),
)

# -- what merchants make ------------------------------------------------------------------------------------------

store_settings = Table(
    "store_settings",
    metadata,
    Column("store", String(64), primary_key=True),
    Column("settings", Json, nullable=False),
    Column("revision", Integer, nullable=False),
)

links = Table(
    "links",
    metadata,
    Column("id", Id, primary_key=True),
    Column("store", String(64), nullable=False),
    Column("slug", String(64), nullable=False, unique=True),
    Column("source", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("title", String(200), nullable=False),
    Column("description", Text, nullable=False),
    Column("instructions", Text, nullable=False),
    Column("price", String(100), nullable=False),  # decimal text in `currency`; empty: an open amount
    Column("currency", String(16), nullable=False),
    Column("amount_rules", Json, nullable=False),  # of an open amount: presets, least, most
    Column("assets", Json, nullable=False),
    Column("form", Json, nullable=False),
    Column("max_uses", Integer),
    Column("expires_at", BigInteger),
    Column("back_url", String(2000), nullable=False),
    Column("metadata", Json, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint("status IN ('active', 'paused', 'archived')", name="status"),
    CheckConstraint("max_uses IS NULL OR max_uses > 0", name="max_uses"),
    Index(None, "store", "created_at"),
)

link_signing_keys = Table(  # with which a store signs what an address says of a payment
    "link_signing_keys",
    metadata,
    Column("store", String(64), primary_key=True),
    Column("secrets", Json, nullable=False),  # `lnksec_…`, newest first; two while they are rotated
)

invoices = Table(
    "invoices",
    metadata,
    Column("id", Id, primary_key=True),
    Column("store", String(64), nullable=False),
    Column("number", String(64), nullable=False),
    Column("link_id", ForeignKey("links.id"), nullable=False, unique=True),
    Column("status", String(16), nullable=False),
    Column("recipient", Json, nullable=False),
    Column("lines", Json, nullable=False),
    Column("due_at", BigInteger),
    Column("sent_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint("status IN ('draft', 'sent', 'paid', 'cancelled')", name="status"),
    UniqueConstraint("store", "number"),
)

# -- sessions -----------------------------------------------------------------------------------------------------

checkouts = Table(  # one order: its sessions are siblings on different networks
    "checkouts",
    metadata,
    Column("id", Id, primary_key=True),
    Column("store", String(64), nullable=False),
    Column("link_id", ForeignKey("links.id"), nullable=False),
    Column("order_ref", String(128), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "store", "order_ref"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("checkout_id", ForeignKey("checkouts.id"), nullable=False),
    Column("store", String(64), nullable=False),
    Column("link_id", ForeignKey("links.id"), nullable=False),
    Column("order_ref", String(128), nullable=False),
    Column("chain", ForeignKey("chains.id"), nullable=False),
    Column("asset", String(64), nullable=False),
    Column("address_id", ForeignKey("addresses.id"), nullable=False),
    Column("status", String(16), nullable=False),
    Column("flags", String(120), nullable=False),  # sorted, separated by one blank
    Column("revision", Integer, nullable=False),
    Column("opened_by", String(80), nullable=False),  # checkout, cli, or a key: each has its own share of the amounts
    Column("price", String(100), nullable=False),
    Column("currency", String(16), nullable=False),
    Column("rate", String(100), nullable=False),  # exact text of one asset's price; empty: priced in the asset
    Column("rate_source", String(40), nullable=False),
    Column("rate_taken_at", BigInteger),
    Column("price_base", BaseAmount, nullable=False),
    Column("due_base", BaseAmount, nullable=False),
    Column("tolerance_base", BaseAmount, nullable=False),
    Column("minimum_base", BaseAmount, nullable=False),  # a smaller rest cannot be sent
    Column("received_base", BaseTotal, nullable=False),
    Column("confirmed_base", BaseTotal, nullable=False),
    Column("late_policy", String(8), nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("opened_height", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("late_until", BigInteger, nullable=False),
    Column("held_until", BigInteger, nullable=False),  # a payment seen in time may take so long to be mined
    Column("paid_at", BigInteger),  # set once, when session.paid is written; never cleared
    Column("open", Boolean, nullable=False),  # the chain can still change it by itself
    Column("code", String(9), nullable=False, unique=True),
    Column("secret_hash", String(64), nullable=False),  # SHA-256 of the browser's session secret
    Column("back_url", String(2000), nullable=False),
    Column("metadata", Json, nullable=False),
    CheckConstraint("status IN ('draft', 'pending', 'processing', 'paid', 'expired', 'cancelled')", name="status"),
    CheckConstraint("late_policy IN ('accept', 'hold')", name="late_policy"),
    Index(None, "store", "opened_at"),
    Index(None, "link_id", "status"),
    Index(None, "chain", "open", "status"),
)

customer_details = Table(  # apart, so that they can be purged without touching the money
    "customer_details",
    metadata,
    Column("session_id", ForeignKey("sessions.id"), primary_key=True),
    Column("details", Json, nullable=False),
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", SerialKey, primary_key=True),
    Column("session_id", ForeignKey("sessions.id"), nullable=False),
    Column("purpose", String(8), nullable=False),
    Column("asset", String(64), nullable=False),
    Column("address_id", ForeignKey("addresses.id"), nullable=False),
    Column("tail", BigInteger),  # None: the address is this session's own
    Column("due_base", BaseAmount, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("opened_height", BigInteger, nullable=False),
    Column("live_until", BigInteger, nullable=False),  # chain time; the end of the late window
    Column("released_at", BigInteger),
    CheckConstraint("purpose IN ('price', 'rest')", name="purpose"),
    # Truncation-safe: an amount cut or rounded to fewer decimals never equals a reservation.
    CheckConstraint("tail IS NULL OR (tail > 0 AND tail % 10 <> 0)", name="tail_truncation_safe"),
    Index(
        "uq_reservations_live_tail",
        "asset",
        "address_id",
        "tail",
        unique=True,
        sqlite_where=text("released_at IS NULL AND tail IS NOT NULL"),
        postgresql_where=text("released_at IS NULL AND tail IS NOT NULL"),
    ),
    Index(
        "uq_reservations_live_address",
        "address_id",
        unique=True,
        sqlite_where=text("released_at IS NULL AND tail IS NULL"),
        postgresql_where=text("released_at IS NULL AND tail IS NULL"),
    ),
    Index(None, "session_id"),
    Index(None, "address_id", "released_at", "asset", "tail"),  # what is live, and what rests, without the rows
    Index(None, "released_at", "live_until"),  # asked at each block
)

transfers = Table(
    "transfers",
    metadata,
    Column("id", Id, primary_key=True),
    Column("chain", ForeignKey("chains.id"), nullable=False),
    Column("tx", String(80), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("asset", String(64), nullable=False),
    Column("sender", String(128), nullable=False),
    Column("address_id", ForeignKey("addresses.id"), nullable=False),
    Column("amount_base", BaseAmount, nullable=False),
    Column("state", String(12), nullable=False),
    Column("block_height", BigInteger),
    Column("block_hash", String(80)),
    Column("block_time", BigInteger),
    Column("first_seen_at", BigInteger, nullable=False),  # Unix seconds; its block's time where earlier
    Column("first_seen_height", BigInteger, nullable=False),
    Column("standing", String(12), nullable=False),
    Column("reason", Text, nullable=False),
    Column("candidates", Json, nullable=False),  # of an unmatched one: sessions, best first, with reasons
    Column("note", Text, nullable=False, server_default=""),  # the merchant's, where a person sorted it
    UniqueConstraint("chain", "tx", "kind", "ordinal"),
    CheckConstraint("state IN ('unconfirmed', 'mined', 'orphaned', 'replaced')", name="state"),
    CheckConstraint("standing IN ('credited', 'unmatched', 'dismissed', 'own')", name="standing"),
    CheckConstraint("kind IN ('native', 'token', 'internal')", name="kind"),
    CheckConstraint("(state = 'mined') = (block_hash IS NOT NULL)", name="mined_in_a_block"),
    Index(None, "address_id", "block_height"),
    Index(None, "chain", "block_hash"),
    Index(None, "standing"),
)

credits = Table(
    "credits",
    metadata,
    Column("transfer_id", ForeignKey("transfers.id"), primary_key=True),  # a transfer is credited once
    Column("session_id", ForeignKey("sessions.id"), nullable=False),
    Column("credited_by", String(8), nullable=False),
    Column("credited_at", BigInteger, nullable=False),
    Column("live", Boolean, nullable=False),  # as last told: seen …
    Column("confirmed", Boolean, nullable=False),  # … and confirmed
    Column("turns", Integer, nullable=False),  # how often it went and came back: numbers its events
    CheckConstraint("credited_by IN ('address', 'amount', 'tail', 'payer', 'claim', 'manual')", name="credited_by"),
    Index(None, "session_id"),
)

claims = Table(
    "claims",
    metadata,
    Column("id", Id, primary_key=True),
    Column("session_id", ForeignKey("sessions.id"), nullable=False),
    Column("tx", String(80), nullable=False),
    Column("status", String(12), nullable=False),
    Column("proof", Json, nullable=False),  # the signed text, its signature and signer; empty: a bare claim
    Column("note", Text, nullable=False, server_default=""),  # why it was decided so
    Column("created_at", BigInteger, nullable=False),
    Column("decided_at", BigInteger),
    CheckConstraint("status IN ('open', 'approved', 'refused')", name="status"),
    UniqueConstraint("session_id", "tx"),
    Index(None, "tx"),  # who else claims it
    Index(None, "status", "created_at"),
)

payers = Table(  # who has proved, before paying, whose account pays a session: any amount from it is the session's
    "payers",
    metadata,
    Column("session_id", ForeignKey("sessions.id"), nullable=False),
    Column("sender", String(128), nullable=False),
    Column("proof", Json, nullable=False),  # the signed text and its signature
    Column("proved_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("session_id", "sender"),
    Index(None, "sender"),
)

fulfilments = Table(  # one per order, and one per use of a single-use link
    "fulfilments",
    metadata,
    Column("store", String(64), nullable=False),
    Column("order_key", String(160), nullable=False),
    Column("session_id", ForeignKey("sessions.id"), nullable=False),
    Column("fulfilled_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("store", "order_key"),
)

changes = Table(  # the story of each session: what `explain` prints
    "changes",
    metadata,
    Column("id", SerialKey, primary_key=True),
    Column("session_id", ForeignKey("sessions.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("cause", String(64), nullable=False),
    Column("rule", Text, nullable=False),
    Column("result", Json, nullable=False),
    UniqueConstraint("session_id", "revision"),
)

quotes = Table(
    "quotes",
    metadata,
    Column("id", SerialKey, primary_key=True),
    Column("source", String(64), nullable=False),
    Column("base", String(16), nullable=False),
    Column("quote", String(16), nullable=False),
    Column("rate", String(100), nullable=False),
    Column("observed_at", BigInteger, nullable=False),
    Index(None, "base", "quote", "observed_at"),
)

# -- events and their delivery ------------------------------------------------------------------------------------

events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Id, nullable=False, unique=True),
    Column("type", String(32), nullable=False),
    Column("store", String(64), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),  # frozen: every attempt sends these bytes
    Index(None, "subject", "sequence"),
    Index(None, "store", "sequence"),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", SerialKey, primary_key=True),
    Column("plugin", String(64), nullable=False),
    Column("target", String(64), nullable=False),
    Column("store", String(64), nullable=False),  # empty: every store
    Column("event_types", Json, nullable=False),  # empty list: every type
    Column("active", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("plugin", "target"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", SerialKey, primary_key=True),
    Column("sequence", ForeignKey("events.sequence"), nullable=False),
    Column("subscription_id", ForeignKey("subscriptions.id"), nullable=False),
    Column("subject", String(80), nullable=False),  # the event's; order is kept per subscription and subject
    Column("state", String(12), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", BigInteger, nullable=False),  # 0: at once, whatever the clock says
    Column("claimed_until", BigInteger),  # being sent by a worker, until then at the longest
    Column("forced", Boolean, nullable=False, server_default=false()),  # sent again by hand although superseded
    Column("finished_at", BigInteger),
    UniqueConstraint("sequence", "subscription_id"),  # one delivery per event and subscriber
    CheckConstraint("state IN ('pending', 'accepted', 'parked', 'superseded')", name="state"),
    Index(None, "state", "next_attempt_at"),
    Index(None, "subscription_id", "subject", "state"),
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("id", SerialKey, primary_key=True),
    Column("delivery_id", ForeignKey("deliveries.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("outcome", String(12), nullable=False),
    Column("note", Text, nullable=False),
    CheckConstraint("outcome IN ('accepted', 'retry', 'rejected')", name="outcome"),
    Index(None, "delivery_id"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Id, primary_key=True),
    Column("store", String(64), nullable=False),
    Column("url", String(2000), nullable=False),
    Column("description", String(200), nullable=False),
    Column("secrets", Json, nullable=False),  # `whsec_…`, newest first; two while they are rotated
    Column("created_at", BigInteger, nullable=False),
    Column("removed_at", BigInteger),
)

# -- who may ask --------------------------------------------------------------------------------------------------

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Id, primary_key=True),
    Column("store", String(64), nullable=False),
    Column("label", String(80), nullable=False),
    Column("key_hash", String(64), nullable=False, unique=True),  # SHA-256 of 256 random bits
    Column("scopes", Json, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("api_key_id", ForeignKey("api_keys.id"), nullable=False),
    Column("key", String(255), nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("status", Integer),  # None: still in flight
    Column("body", LargeBinary),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("api_key_id", "key"),
)
