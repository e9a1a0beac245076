"""The first schema: the tables of the whole design."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=80), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_keys_key_hash")),
    )
    op.create_table(
        "chains",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("genesis", sa.String(length=80), server_default="", nullable=False),
        sa.Column("head_height", sa.BigInteger(), nullable=True),
        sa.Column("head_hash", sa.String(length=80), nullable=True),
        sa.Column("final_height", sa.BigInteger(), nullable=False),
        sa.Column("watcher_epoch", sa.BigInteger(), nullable=False),
        sa.Column("watch_version", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Boolean(), nullable=False),
        sa.Column("looked_at", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("(head_height IS NULL) = (head_hash IS NULL)", name=op.f("ck_chains_head_whole")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chains")),
    )
    op.create_table(
        "derivations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("branch", sa.Integer(), nullable=False),
        sa.Column("next_index", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_derivations")),
        sa.UniqueConstraint("key_hash", "branch", name=op.f("uq_derivations_key_hash_branch")),
    )
    op.create_table(
        "events",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_events")),
        sa.UniqueConstraint("id", name=op.f("uq_events_id")),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_store_sequence"), ["store", "sequence"], unique=False)
        batch_op.create_index(batch_op.f("ix_events_subject_sequence"), ["subject", "sequence"], unique=False)

    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("restored_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("ck_installation_single")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
    )
    op.create_table(
        "links",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("slug", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("price", sa.String(length=100), nullable=False),
        sa.Column("currency", sa.String(length=16), nullable=False),
        sa.Column("amount_rules", sa.LargeBinary(), nullable=False),
        sa.Column("assets", sa.LargeBinary(), nullable=False),
        sa.Column("form", sa.LargeBinary(), nullable=False),
        sa.Column("max_uses", sa.Integer(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("back_url", sa.String(length=2000), nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('active', 'paused', 'archived')", name=op.f("ck_links_status")),
        sa.CheckConstraint("max_uses IS NULL OR max_uses > 0", name=op.f("ck_links_max_uses")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_links")),
        sa.UniqueConstraint("slug", name=op.f("uq_links_slug")),
    )
    with op.batch_alter_table("links", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_links_store_created_at"), ["store", "created_at"], unique=False)

    op.create_table(
        "quotes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("base", sa.String(length=16), nullable=False),
        sa.Column("quote", sa.String(length=16), nullable=False),
        sa.Column("rate", sa.String(length=100), nullable=False),
        sa.Column("observed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quotes")),
    )
    with op.batch_alter_table("quotes", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_quotes_base_quote_observed_at"), ["base", "quote", "observed_at"], unique=False
        )

    op.create_table(
        "link_signing_keys",
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("secrets", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("store", name=op.f("pk_link_signing_keys")),
    )
    op.create_table(
        "store_settings",
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("settings", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("store", name=op.f("pk_store_settings")),
    )
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("plugin", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("event_types", sa.LargeBinary(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
        sa.UniqueConstraint("plugin", "target", name=op.f("uq_subscriptions_plugin_target")),
    )
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("url", sa.String(length=2000), nullable=False),
        sa.Column("description", sa.String(length=200), nullable=False),
        sa.Column("secrets", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_table(
        "addresses",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("chain", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=128), nullable=False),
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("derivation", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("derivation_index", sa.BigInteger(), nullable=True),
        sa.Column("added_version", sa.BigInteger(), nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["chain"], ["chains.id"], name=op.f("fk_addresses_chain")),
        sa.ForeignKeyConstraint(["derivation"], ["derivations.id"], name=op.f("fk_addresses_derivation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_addresses")),
        sa.UniqueConstraint("chain", "address", name=op.f("uq_addresses_chain_address")),
        sa.UniqueConstraint("derivation", "derivation_index", name=op.f("uq_addresses_derivation_derivation_index")),
    )
    op.create_table(
        "chain_blocks",
        sa.Column("chain", sa.String(length=64), nullable=False),
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=80), nullable=False),
        sa.Column("parent", sa.String(length=80), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["chain"], ["chains.id"], name=op.f("fk_chain_blocks_chain")),
        sa.PrimaryKeyConstraint("chain", "height", name=op.f("pk_chain_blocks")),
        sa.UniqueConstraint("chain", "hash", name=op.f("uq_chain_blocks_chain_hash")),
    )
    op.create_table(
        "checkouts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("link_id", sa.String(length=40), nullable=False),
        sa.Column("order_ref", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["link_id"], ["links.id"], name=op.f("fk_checkouts_link_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkouts")),
    )
    with op.batch_alter_table("checkouts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_checkouts_store_order_ref"), ["store", "order_ref"], unique=False)

    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("subscription_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.BigInteger(), nullable=False),
        sa.Column("claimed_until", sa.BigInteger(), nullable=True),
        sa.Column("forced", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'accepted', 'parked', 'superseded')", name=op.f("ck_deliveries_state")
        ),
        sa.ForeignKeyConstraint(["sequence"], ["events.sequence"], name=op.f("fk_deliveries_sequence")),
        sa.ForeignKeyConstraint(["subscription_id"], ["subscriptions.id"], name=op.f("fk_deliveries_subscription_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("sequence", "subscription_id", name=op.f("uq_deliveries_sequence_subscription_id")),
    )
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_deliveries_state_next_attempt_at"), ["state", "next_attempt_at"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_deliveries_subscription_id_subject_state"),
            ["subscription_id", "subject", "state"],
            unique=False,
        )

    op.create_table(
        "idempotency_keys",
        sa.Column("api_key_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name=op.f("fk_idempotency_keys_api_key_id")),
        sa.PrimaryKeyConstraint("api_key_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "invoices",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("number", sa.String(length=64), nullable=False),
        sa.Column("link_id", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("recipient", sa.LargeBinary(), nullable=False),
        sa.Column("lines", sa.LargeBinary(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('draft', 'sent', 'paid', 'cancelled')", name=op.f("ck_invoices_status")),
        sa.ForeignKeyConstraint(["link_id"], ["links.id"], name=op.f("fk_invoices_link_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invoices")),
        sa.UniqueConstraint("link_id", name=op.f("uq_invoices_link_id")),
        sa.UniqueConstraint("store", "number", name=op.f("uq_invoices_store_number")),
    )
    op.create_table(
        "balances",
        sa.Column("address_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("asset", sa.String(length=64), nullable=False),
        sa.Column("height", sa.BigInteger(), nullable=False),
        sa.Column("amount_base", sa.String(length=78), nullable=False),
        sa.ForeignKeyConstraint(["address_id"], ["addresses.id"], name=op.f("fk_balances_address_id")),
        sa.PrimaryKeyConstraint("address_id", "asset", name=op.f("pk_balances")),
    )
    op.create_table(
        "delivery_attempts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("delivery_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=12), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.CheckConstraint("outcome IN ('accepted', 'retry', 'rejected')", name=op.f("ck_delivery_attempts_outcome")),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name=op.f("fk_delivery_attempts_delivery_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_attempts")),
    )
    with op.batch_alter_table("delivery_attempts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_delivery_attempts_delivery_id"), ["delivery_id"], unique=False)

    op.create_table(
        "sessions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("checkout_id", sa.String(length=40), nullable=False),
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("link_id", sa.String(length=40), nullable=False),
        sa.Column("order_ref", sa.String(length=128), nullable=False),
        sa.Column("chain", sa.String(length=64), nullable=False),
        sa.Column("asset", sa.String(length=64), nullable=False),
        sa.Column("address_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("flags", sa.String(length=120), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("opened_by", sa.String(length=80), nullable=False),
        sa.Column("price", sa.String(length=100), nullable=False),
        sa.Column("currency", sa.String(length=16), nullable=False),
        sa.Column("rate", sa.String(length=100), nullable=False),
        sa.Column("rate_source", sa.String(length=40), nullable=False),
        sa.Column("rate_taken_at", sa.BigInteger(), nullable=True),
        sa.Column("price_base", sa.String(length=78), nullable=False),
        sa.Column("due_base", sa.String(length=78), nullable=False),
        sa.Column("tolerance_base", sa.String(length=78), nullable=False),
        sa.Column("minimum_base", sa.String(length=78), nullable=False),
        sa.Column("received_base", sa.String(length=96), nullable=False),
        sa.Column("confirmed_base", sa.String(length=96), nullable=False),
        sa.Column("late_policy", sa.String(length=8), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("opened_height", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("late_until", sa.BigInteger(), nullable=False),
        sa.Column("held_until", sa.BigInteger(), nullable=False),
        sa.Column("paid_at", sa.BigInteger(), nullable=True),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("code", sa.String(length=9), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("back_url", sa.String(length=2000), nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("late_policy IN ('accept', 'hold')", name=op.f("ck_sessions_late_policy")),
        sa.CheckConstraint(
            "status IN ('draft', 'pending', 'processing', 'paid', 'expired', 'cancelled')",
            name=op.f("ck_sessions_status"),
        ),
        sa.ForeignKeyConstraint(["address_id"], ["addresses.id"], name=op.f("fk_sessions_address_id")),
        sa.ForeignKeyConstraint(["chain"], ["chains.id"], name=op.f("fk_sessions_chain")),
        sa.ForeignKeyConstraint(["checkout_id"], ["checkouts.id"], name=op.f("fk_sessions_checkout_id")),
        sa.ForeignKeyConstraint(["link_id"], ["links.id"], name=op.f("fk_sessions_link_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("code", name=op.f("uq_sessions_code")),
    )
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sessions_chain_open_status"), ["chain", "open", "status"], unique=False)
        batch_op.create_index(batch_op.f("ix_sessions_link_id_status"), ["link_id", "status"], unique=False)
        batch_op.create_index(batch_op.f("ix_sessions_store_opened_at"), ["store", "opened_at"], unique=False)

    op.create_table(
        "tail_spaces",
        sa.Column("address_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("asset", sa.String(length=64), nullable=False),
        sa.Column("price_decimals", sa.Integer(), nullable=False),
        sa.Column("tail_digits", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["address_id"], ["addresses.id"], name=op.f("fk_tail_spaces_address_id")),
        sa.PrimaryKeyConstraint("address_id", "asset", name=op.f("pk_tail_spaces")),
    )
    op.create_table(
        "transfers",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("chain", sa.String(length=64), nullable=False),
        sa.Column("tx", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("asset", sa.String(length=64), nullable=False),
        sa.Column("sender", sa.String(length=128), nullable=False),
        sa.Column("address_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("amount_base", sa.String(length=78), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("block_height", sa.BigInteger(), nullable=True),
        sa.Column("block_hash", sa.String(length=80), nullable=True),
        sa.Column("block_time", sa.BigInteger(), nullable=True),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_height", sa.BigInteger(), nullable=False),
        sa.Column("standing", sa.String(length=12), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("candidates", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint("(state = 'mined') = (block_hash IS NOT NULL)", name=op.f("ck_transfers_mined_in_a_block")),
        sa.CheckConstraint("kind IN ('native', 'token', 'internal')", name=op.f("ck_transfers_kind")),
        sa.CheckConstraint(
            "standing IN ('credited', 'unmatched', 'dismissed', 'own')", name=op.f("ck_transfers_standing")
        ),
        sa.CheckConstraint(
            "state IN ('unconfirmed', 'mined', 'orphaned', 'replaced')", name=op.f("ck_transfers_state")
        ),
        sa.ForeignKeyConstraint(["address_id"], ["addresses.id"], name=op.f("fk_transfers_address_id")),
        sa.ForeignKeyConstraint(["chain"], ["chains.id"], name=op.f("fk_transfers_chain")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfers")),
        sa.UniqueConstraint("chain", "tx", "kind", "ordinal", name=op.f("uq_transfers_chain_tx_kind_ordinal")),
    )
    with op.batch_alter_table("transfers", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_transfers_address_id_block_height"), ["address_id", "block_height"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_transfers_chain_block_hash"), ["chain", "block_hash"], unique=False)
        batch_op.create_index(batch_op.f("ix_transfers_standing"), ["standing"], unique=False)

    op.create_table(
        "changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.String(length=64), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_changes_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_changes")),
        sa.UniqueConstraint("session_id", "revision", name=op.f("uq_changes_session_id_revision")),
    )
    op.create_table(
        "claims",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("tx", sa.String(length=80), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("proof", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("status IN ('open', 'approved', 'refused')", name=op.f("ck_claims_status")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_claims_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_claims")),
        sa.UniqueConstraint("session_id", "tx", name=op.f("uq_claims_session_id_tx")),
    )
    with op.batch_alter_table("claims", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_claims_status_created_at"), ["status", "created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_claims_tx"), ["tx"], unique=False)

    op.create_table(
        "payers",
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("sender", sa.String(length=128), nullable=False),
        sa.Column("proof", sa.LargeBinary(), nullable=False),
        sa.Column("proved_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_payers_session_id")),
        sa.PrimaryKeyConstraint("session_id", "sender", name=op.f("pk_payers")),
    )
    with op.batch_alter_table("payers", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_payers_sender"), ["sender"], unique=False)

    op.create_table(
        "credits",
        sa.Column("transfer_id", sa.String(length=40), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("credited_by", sa.String(length=8), nullable=False),
        sa.Column("credited_at", sa.BigInteger(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "credited_by IN ('address', 'amount', 'tail', 'payer', 'claim', 'manual')",
            name=op.f("ck_credits_credited_by"),
        ),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_credits_session_id")),
        sa.ForeignKeyConstraint(["transfer_id"], ["transfers.id"], name=op.f("fk_credits_transfer_id")),
        sa.PrimaryKeyConstraint("transfer_id", name=op.f("pk_credits")),
    )
    with op.batch_alter_table("credits", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_credits_session_id"), ["session_id"], unique=False)

    op.create_table(
        "customer_details",
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_customer_details_session_id")),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_customer_details")),
    )
    op.create_table(
        "fulfilments",
        sa.Column("store", sa.String(length=64), nullable=False),
        sa.Column("order_key", sa.String(length=160), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("fulfilled_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_fulfilments_session_id")),
        sa.PrimaryKeyConstraint("store", "order_key", name=op.f("pk_fulfilments")),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("purpose", sa.String(length=8), nullable=False),
        sa.Column("asset", sa.String(length=64), nullable=False),
        sa.Column("address_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tail", sa.BigInteger(), nullable=True),
        sa.Column("due_base", sa.String(length=78), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("opened_height", sa.BigInteger(), nullable=False),
        sa.Column("live_until", sa.BigInteger(), nullable=False),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("purpose IN ('price', 'rest')", name=op.f("ck_reservations_purpose")),
        sa.CheckConstraint(
            "tail IS NULL OR (tail > 0 AND tail % 10 <> 0)", name=op.f("ck_reservations_tail_truncation_safe")
        ),
        sa.ForeignKeyConstraint(["address_id"], ["addresses.id"], name=op.f("fk_reservations_address_id")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_reservations_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
    )
    with op.batch_alter_table("reservations", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_reservations_address_id_released_at_asset_tail"),
            ["address_id", "released_at", "asset", "tail"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_reservations_released_at_live_until"), ["released_at", "live_until"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_reservations_session_id"), ["session_id"], unique=False)
        batch_op.create_index(
            "uq_reservations_live_address",
            ["address_id"],
            unique=True,
            sqlite_where=sa.text("released_at IS NULL AND tail IS NULL"),
            postgresql_where=sa.text("released_at IS NULL AND tail IS NULL"),
        )
        batch_op.create_index(
            "uq_reservations_live_tail",
            ["asset", "address_id", "tail"],
            unique=True,
            sqlite_where=sa.text("released_at IS NULL AND tail IS NOT NULL"),
            postgresql_where=sa.text("released_at IS NULL AND tail IS NOT NULL"),
        )


def downgrade() -> None:
    with op.batch_alter_table("reservations", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_reservations_live_tail",
            sqlite_where=sa.text("released_at IS NULL AND tail IS NOT NULL"),
            postgresql_where=sa.text("released_at IS NULL AND tail IS NOT NULL"),
        )
        batch_op.drop_index(
            "uq_reservations_live_address",
            sqlite_where=sa.text("released_at IS NULL AND tail IS NULL"),
            postgresql_where=sa.text("released_at IS NULL AND tail IS NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_reservations_session_id"))
        batch_op.drop_index(batch_op.f("ix_reservations_released_at_live_until"))
        batch_op.drop_index(batch_op.f("ix_reservations_address_id_released_at_asset_tail"))

    op.drop_table("reservations")
    op.drop_table("fulfilments")
    op.drop_table("customer_details")
    with op.batch_alter_table("credits", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_credits_session_id"))

    op.drop_table("credits")
    with op.batch_alter_table("payers", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_payers_sender"))

    op.drop_table("payers")
    with op.batch_alter_table("claims", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_claims_tx"))
        batch_op.drop_index(batch_op.f("ix_claims_status_created_at"))

    op.drop_table("claims")
    op.drop_table("changes")
    with op.batch_alter_table("transfers", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_transfers_standing"))
        batch_op.drop_index(batch_op.f("ix_transfers_chain_block_hash"))
        batch_op.drop_index(batch_op.f("ix_transfers_address_id_block_height"))

    op.drop_table("transfers")
    op.drop_table("tail_spaces")
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sessions_store_opened_at"))
        batch_op.drop_index(batch_op.f("ix_sessions_link_id_status"))
        batch_op.drop_index(batch_op.f("ix_sessions_chain_open_status"))

    op.drop_table("sessions")
    with op.batch_alter_table("delivery_attempts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_delivery_attempts_delivery_id"))

    op.drop_table("delivery_attempts")
    op.drop_table("balances")
    op.drop_table("invoices")
    op.drop_table("idempotency_keys")
    with op.batch_alter_table("deliveries", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_deliveries_subscription_id_subject_state"))
        batch_op.drop_index(batch_op.f("ix_deliveries_state_next_attempt_at"))

    op.drop_table("deliveries")
    with op.batch_alter_table("checkouts", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_checkouts_store_order_ref"))

    op.drop_table("checkouts")
    op.drop_table("chain_blocks")
    op.drop_table("addresses")
    op.drop_table("webhook_endpoints")
    op.drop_table("subscriptions")
    op.drop_table("store_settings")
    op.drop_table("link_signing_keys")
    with op.batch_alter_table("quotes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_quotes_base_quote_observed_at"))

    op.drop_table("quotes")
    with op.batch_alter_table("links", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_links_store_created_at"))

    op.drop_table("links")
    op.drop_table("installation")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_events_subject_sequence"))
        batch_op.drop_index(batch_op.f("ix_events_store_sequence"))

    op.drop_table("events")
    op.drop_table("derivations")
    op.drop_table("chains")
    op.drop_table("api_keys")
