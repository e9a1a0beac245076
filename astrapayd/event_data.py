"""The ``data`` of events about sessions, transfers and balances, as ``docs/events.md`` shows it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from astrapayd.balances import Rise
from astrapayd.chains import Chain
from astrapayd.db.claims import ClaimRow
from astrapayd.db.sessions import SessionRow
from astrapayd.db.transfers import CreditRow, TransferRow
from astrapayd.events import iso_time
from astrapayd.money import Asset, format_amount
from astrapayd.rates import Quote
from astrapayd.transfers import BlockRef


def session_data(
    row: SessionRow, credit_rows: Sequence[CreditRow], chain: Chain, head_height: int, paid_at: int | None
) -> dict[str, Any]:
    """A session with all its payments, as it is after the change that the event tells of."""
    state, asset = row.state, row.asset
    return {
        "session": {
            "id": row.id,
            "revision": state.revision,
            "status": state.status,
            "flags": sorted(state.flags),
            "link": row.link_id,
            "checkout": row.checkout_id,
            "order": row.order_ref,
            "code": row.code,
            "price": {"amount": row.price, "currency": row.currency},
            "quote": quote_data(row.quote),
            "asset": asset_data(asset),
            "address": chain.display_address(row.address),
            "due": amount_text(state.due_base, asset),
            "received": amount_text(state.received_base, asset),
            "confirmed": amount_text(state.confirmed_base, asset),
            "opened_at": iso_time(row.opened_at),
            "expires_at": iso_time(state.expires_at),
            "paid_at": iso_time(paid_at) if paid_at is not None else None,
            "customer": dict(row.customer),
            "metadata": dict(row.metadata),
        },
        "payments": [payment_data(credit, asset, chain, head_height) for credit in credit_rows],
    }


def quote_data(quote: Quote | None) -> dict[str, Any] | None:
    """What the price was converted with; ``rate`` is what one whole unit of the asset costs in its currency."""
    if quote is None:
        return None
    return {"rate": quote.text, "source": quote.source, "taken_at": iso_time(quote.taken_at)}


def payment_data(credit: CreditRow, asset: Asset, chain: Chain, head_height: int) -> dict[str, Any]:
    """A credited transfer. ``confirmations`` is 0 while it is in no block."""
    transfer = credit.transfer
    return {
        "id": transfer.id,
        "amount": amount_text(transfer.amount_base, asset),
        "tx": transfer.tx,
        "kind": transfer.kind,
        "ordinal": transfer.ordinal,
        "from": chain.display_address(transfer.sender),
        "state": transfer.state,
        "block": block_data(transfer),
        "confirmations": confirmations(transfer, head_height),
        "credited_by": credit.credited_by,
    }


def unmatched_data(transfer: TransferRow, asset: Asset, chain: Chain, address: str) -> dict[str, Any]:
    """A transfer that no rule covers, with the reason and the likeliest sessions."""
    return {
        "transfer": {
            "id": transfer.id,
            "amount": amount_text(transfer.amount_base, asset),
            "asset": asset_data(asset),
            "address": chain.display_address(address),
            "tx": transfer.tx,
            "kind": transfer.kind,
            "ordinal": transfer.ordinal,
            "from": chain.display_address(transfer.sender),
            "block": block_data(transfer),
            "reason": transfer.reason,
            "candidates": [{"session": c.session_id, "reason": c.reason} for c in transfer.candidates],
        }
    }


def claim_data(
    claim: ClaimRow,
    row: SessionRow,
    transfers: Sequence[TransferRow],
    rivals: Sequence[ClaimRow],
    chain: Chain,
) -> dict[str, Any]:
    """A claim that waits for the merchant, with what it could be given and who else claims the same transaction."""
    asset = row.asset
    return {
        "claim": {
            "id": claim.id,
            "status": claim.status,
            "tx": claim.tx,
            "created_at": iso_time(claim.created_at),
            "session": {
                "id": row.id,
                "status": row.state.status,
                "order": row.order_ref,
                "code": row.code,
                "due": amount_text(row.state.due_base, asset),
                "received": amount_text(row.state.received_base, asset),
            },
            "asset": asset_data(asset),
            "payments": [
                {
                    "id": transfer.id,
                    "amount": amount_text(transfer.amount_base, asset),
                    "from": chain.display_address(transfer.sender),
                    "block": block_data(transfer),
                }
                for transfer in transfers
            ],
            "contested": bool(rivals),
            "rivals": [rival.id for rival in rivals],
        }
    }


def unexplained_data(rise: Rise, coin: Asset, chain: Chain, sessions: Sequence[str], block: BlockRef) -> dict[str, Any]:
    """Coin that arrived without a transfer, and the open sessions that expect just this amount there."""
    return {
        "balance": {
            "address": chain.display_address(rise.address.address),
            "asset": asset_data(coin),
            "rose_by": amount_text(rise.amount_base, coin),
            "above_height": rise.from_height,
            "block": {"height": block.height, "hash": block.hash, "time": iso_time(block.time)},
            "sessions": list(sessions),
        }
    }


def asset_data(asset: Asset) -> dict[str, Any]:
    """What an asset is called, here and everywhere (CAIP-19)."""
    return {"id": asset.id, "symbol": asset.symbol, "chain": asset.chain, "caip19": asset.caip19}


def block_data(transfer: TransferRow) -> dict[str, Any] | None:
    """The block that a transfer is in, or None."""
    if transfer.block_height is None or transfer.block_time is None:
        return None
    return {"height": transfer.block_height, "hash": transfer.block_hash, "time": iso_time(transfer.block_time)}


def amount_text(base: int, asset: Asset) -> str:
    """An amount of an asset as decimal text, with at least its price decimals."""
    return format_amount(base, asset.decimals, at_least=asset.price_decimals)


def confirmations(transfer: TransferRow, head_height: int) -> int:
    """How many blocks stand on the transfer, its own included; 0 while it is in none."""
    return max(head_height - transfer.block_height + 1, 0) if transfer.block_height is not None else 0
