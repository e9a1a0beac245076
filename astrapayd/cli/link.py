"""`astrapayd link`."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from astrapayd.cli.common import emit_facts, emit_json, emit_table, fail, leaf, local_time, the_store, with_core

if TYPE_CHECKING:
    from astrapayd.links import Link
    from astrapayd.services.core import Core

_LONGEST_SECS = 3650 * 86400
_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@click.group()
def link() -> None:
    """Make and manage payment links."""


@link.command(
    epilog="""\b
Examples:
  astrapayd link create --title "One kilo of coffee" --amount 25 --currency USDT
  astrapayd link create --title "Ticket" --amount 0.015 --currency ETH --max-uses 100 --expires-in 7d
  astrapayd link create --title "Coffee" --amount 25 --currency EUR --asset usdt-eth
  astrapayd link create --title "A donation" --currency USDT --least 1 --preset 5 --preset 20
"""
)
@click.option("--title", required=True, help="What is paid for; the customer reads it.")
@click.option("--amount", help="The price, such as 25.00. Without it the customer chooses the amount.")
@click.option("--least", default="", help="Of an open amount: the least that may be paid.")
@click.option("--most", default="", help="Of an open amount: the most that may be paid.")
@click.option("--preset", "presets", multiple=True, help="Of an open amount: one to be offered (may be given again).")
@click.option("--currency", required=True, help="What the price is in: a symbol such as USDT, or, with a rate, EUR.")
@click.option("--store", help="Which store is paid. Not needed when there is one.")
@click.option("--asset", "assets", multiple=True, help="Accept only this asset (may be given again). Default: all.")
@click.option("--description", default="", help="A line or two below the title.")
@click.option("--slug", default="", help="The end of the link's address. Default: made from the title.")
@click.option("--max-uses", type=int, help="How often it can be paid. Default: no limit.")
@click.option("--expires-in", help="For how long it can be opened, such as 30m, 12h, 7d. Default: for ever.")
@click.option("--back-url", default="", help="Where the customer goes after paying.")
@click.option(
    "--meta", multiple=True, metavar="NAME=VALUE", help="Kept with it and sent in events (may be given again)."
)
@leaf
def create(
    config_path: Path,
    as_json: bool,
    title: str,
    amount: str | None,
    least: str,
    most: str,
    presets: tuple[str, ...],
    currency: str,
    store: str | None,
    assets: tuple[str, ...],
    description: str,
    slug: str,
    max_uses: int | None,
    expires_in: str | None,
    back_url: str,
    meta: tuple[str, ...],
) -> None:
    """Make a link and print its address."""
    from astrapayd.links import AmountRules, LinkDraft
    from astrapayd.services import links

    if amount == "":
        fail("--amount", "is empty: write the price, or leave it out for an amount that the customer chooses")
    expires_at = int(time.time()) + _duration_secs(expires_in) if expires_in is not None else None
    metadata = dict(_pair(one) for one in meta)

    async def work(core: Core) -> Link:
        draft = LinkDraft(
            store=the_store(core, store),
            title=title,
            price=amount or "",
            amount_rules=AmountRules(least, most, presets),
            currency=currency,
            assets=assets,
            description=description,
            slug=slug,
            max_uses=max_uses,
            expires_at=expires_at,
            back_url=back_url,
            metadata=metadata,
        )
        made = await links.create_link(core, draft, source="cli")
        if as_json:
            emit_json(links.link_data(core, made))
        else:
            click.echo(links.link_url(core, made))
        return made

    with_core(config_path, work)


@link.command(
    "list",
    epilog="""\b
Examples:
  astrapayd link list
  astrapayd link list --store shop --limit 200 --json
""",
)
@click.option("--store", help="Only this store's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@leaf
def list_(config_path: Path, as_json: bool, store: str | None, limit: int) -> None:
    """List the links, the newest first."""
    from astrapayd.services import links

    async def work(core: Core) -> None:
        if store is not None:
            core.store(store)
        found = await links.list_links(core, store, limit)
        if as_json:
            emit_json([links.link_data(core, one) for one in found])
            return
        emit_table(
            ("created", "status", "price", "title", "link"),
            ((local_time(o.created_at), o.status, _price(o), o.title, links.link_url(core, o)) for o in found),
            nothing="there is no link yet: astrapayd link create makes one",
        )

    with_core(config_path, work)


@link.command(
    epilog="""\b
Examples:
  astrapayd link show coffee-x7k2mq
"""
)
@click.argument("link_key", metavar="LINK")
@leaf
def show(config_path: Path, as_json: bool, link_key: str) -> None:
    """Show one link (by its id or the end of its address)."""
    from astrapayd.services import links

    async def work(core: Core) -> None:
        found, why = await links.find_link(core, link_key)
        if as_json:
            emit_json({**links.link_data(core, found), "unavailable": why})
        else:
            _show(core, found, f"no: {why}" if why else "yes", await _rates(core, found))

    with_core(config_path, work)


@link.command(
    epilog="""\b
Examples:
  astrapayd link sign donation-x7k2mq --amount 25 --order 1042
  astrapayd link sign coffee-x7k2mq --order 1042 --expires-in 1h
"""
)
@click.argument("link_key", metavar="LINK")
@click.option("--amount", default="", help="What is to be paid, such as 25.00; for a link with an open amount.")
@click.option("--order", default="", help="Your shop's own reference; each is fulfilled once.")
@click.option("--email", default="", help="The customer's e-mail address, for a field that asks for it.")
@click.option("--expires-in", help="For how long it can be opened, such as 30m, 12h, 7d. Default: for ever.")
@leaf
def sign(
    config_path: Path, as_json: bool, link_key: str, amount: str, order: str, email: str, expires_in: str | None
) -> None:
    """Print a link's address with an amount and an order that the customer cannot change."""
    from astrapayd.prefill import Terms
    from astrapayd.services.prefill import signed_url

    lasts_secs = _duration_secs(expires_in) if expires_in is not None else None

    async def work(core: Core) -> None:
        until = core.now() + lasts_secs if lasts_secs is not None else None
        url = await signed_url(core, link_key, Terms(amount, order, email, until))
        emit_json({"url": url, "until": until}) if as_json else click.echo(url)

    with_core(config_path, work)


@link.command(
    "signing-key",
    epilog="""\b
Examples:
  astrapayd link signing-key
  astrapayd link signing-key --rotate    a new secret; from now on signatures by both count
  astrapayd link signing-key --end       the shop has the new one: the old one counts no more
""",
)
@click.option("--store", help="Whose. Not needed when there is one.")
@click.option("--rotate", is_flag=True, help="Make a new secret; signatures by the old one count until --end.")
@click.option("--end", is_flag=True, help="End the rotation: only the new secret's signatures count.")
@leaf
def signing_key(config_path: Path, as_json: bool, store: str | None, rotate: bool, end: bool) -> None:
    """Print the secret with which a shop's own code signs a link's address; it is made when first asked for."""
    from astrapayd.services import prefill

    if rotate and end:
        fail("--end", "ends what --rotate begins: give one of them")

    async def work(core: Core) -> None:
        name = the_store(core, store)
        if rotate:
            found = await prefill.rotate_signing_secret(core, name)
        elif end:
            await prefill.end_signing_rotation(core, name)
            found = await prefill.signing_secrets(core, name)
        else:
            found = await prefill.signing_secrets(core, name)
        if as_json:
            emit_json({"store": name, "secret": found[0], "rotating": len(found) > 1})
            return
        old = "counts until --end" if len(found) > 1 else None
        emit_facts([("store", name), ("secret", found[0]), ("the old one", old)])

    with_core(config_path, work)


def _switch(name: str, status: str, doc: str) -> None:
    """A command that changes a link's status."""

    @link.command(name, help=doc, epilog=f"\b\nExamples:\n  astrapayd link {name} coffee-x7k2mq\n")
    @click.argument("link_key", metavar="LINK")
    @leaf
    def command(config_path: Path, as_json: bool, link_key: str) -> None:
        from astrapayd.links import LinkStatus
        from astrapayd.services import links

        async def work(core: Core) -> None:
            changed = await links.set_status(core, link_key, LinkStatus(status))
            if as_json:
                emit_json(links.link_data(core, changed))
            else:
                click.echo(f"{links.link_url(core, changed)} is {changed.status}")

        with_core(config_path, work)


_switch("pause", "paused", "Stop offering a link for a while. Open sessions go on.")
_switch("resume", "active", "Offer a paused or archived link again.")
_switch("archive", "archived", "Stop offering a link for good. Open sessions go on.")


async def _rates(core: Core, found: Link) -> list[str]:
    """What the price would be converted with now, or why it cannot be, for each asset of another currency."""
    from astrapayd.links import is_direct
    from astrapayd.rates import NoQuote

    told = []
    for asset in core.assets_of(found.store):
        if asset.id in found.assets and not is_direct(asset, found.currency):
            try:
                told.append((await core.quotes.quote(found.currency, asset)).sentence(found.currency, asset))
            except NoQuote as none:
                told.append(str(none))
    return told


def _show(core: Core, found: Link, payable: str, rates: list[str]) -> None:
    from astrapayd.services.links import link_url

    emit_facts(
        [
            ("link", link_url(core, found)),
            ("id", found.id),
            ("store", found.store),
            ("title", found.title),
            ("description", found.description),
            ("price", _price(found)),
            *(("rate", rate) for rate in rates),
            ("assets", " ".join(found.assets)),
            ("status", found.status),
            ("can be paid", payable),
            ("max uses", found.max_uses),
            ("expires", local_time(found.expires_at) if found.expires_at else None),
            ("back to", found.back_url),
            ("made by", found.source),
            ("created", local_time(found.created_at)),
            *found.metadata.items(),
        ]
    )


def _price(found: Link) -> str:
    if found.price:
        return f"{found.price} {found.currency}"
    rules = found.amount_rules
    bounds = [f"{word} {text}" for word, text in (("from", rules.least), ("to", rules.most)) if text]
    return " ".join(["open", *bounds, found.currency])


def _duration_secs(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,6})([mhdw])", text, re.ASCII)
    if found is None or not 0 < int(found[1]) * _UNITS[found[2]] <= _LONGEST_SECS:
        fail("--expires-in", f"{text!r} is no duration: write a number and m, h, d or w, such as 7d, ten years at most")
    return int(found[1]) * _UNITS[found[2]]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        fail("--meta", f"{text!r} is no pair: write NAME=VALUE")
    return name, value
