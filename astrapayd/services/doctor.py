"""Looks at everything that can be wrong with a shop and says it in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import func, select

from astrapayd.db.engine import DatabaseError
from astrapayd.db.integrity import check_integrity
from astrapayd.db.tables import deliveries, events, transfers
from astrapayd.events import EventType
from astrapayd.plugins import PluginHost
from astrapayd.services.capacity import spaces
from astrapayd.services.chains import ChainNodes, ask_nodes, chain_states
from astrapayd.services.core import Core
from astrapayd.services.sessions import LOOK_MAX_AGE_SECS

_NEARLY_FULL_PERCENT = 80
_LATELY_SECS = 7 * 86_400


class Verdict(StrEnum):
    """How a finding is to be taken."""

    FINE = "fine"
    LOOK = "look"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """``place`` is what was looked at; ``sentence`` says how it is, and what to do where something is to be done."""

    verdict: Verdict
    place: str
    sentence: str


async def examine(core: Core, host: PluginHost) -> list[Finding]:
    """Everything, in the order in which one would mend it."""
    found = [Finding(Verdict.LOOK, "configuration", note) for note in core.config.notes]
    found += [Finding(Verdict.WRONG, f"plugin {p.plugin}", f"cannot be used: {p.reason}") for p in host.problems]
    database = await _database(core)
    found += database.findings
    for asked in await ask_nodes(core):
        found += _nodes(asked)
    if not database.readable:
        return found
    return [*found, *await _watching(core), *await _amount_space(core), *await _waiting(core)]


@dataclass(frozen=True, slots=True)
class _DatabaseLook:
    readable: bool
    findings: list[Finding]


async def _database(core: Core) -> _DatabaseLook:
    try:
        whole = await check_integrity(core.database)
    except DatabaseError as error:
        # The nodes are asked all the same: this is what one looks at before the first start.
        return _DatabaseLook(readable=False, findings=[Finding(Verdict.WRONG, "database", str(error))])
    found = [Finding(Verdict.WRONG, "database", problem) for problem in whole["problems"]]
    if not whole["problems"]:
        found.append(Finding(Verdict.FINE, "database", f"is whole, at schema {whole['schema']}"))
    return _DatabaseLook(readable=True, findings=found)


def _nodes(asked: ChainNodes) -> list[Finding]:
    found = []
    for node in asked.nodes:
        place = f"node {node.node} ({asked.chain.id})"
        found += [Finding(Verdict.WRONG, place, problem) for problem in node.problems]
        if node.syncing:
            found.append(Finding(Verdict.LOOK, place, "is still syncing: no session is opened until it is done"))
        elif node.head is not None and not node.problems:
            found.append(Finding(Verdict.FINE, place, f"{node.client or 'answers'}, at block {node.head.height}"))
    heads = [node.head.height for node in asked.nodes if node.head is not None]
    if len(heads) > 1 and max(heads) - min(heads) > 3:
        behind = next(n for n in asked.nodes if n.head is not None and n.head.height == min(heads))
        sentence = f"is {max(heads) - min(heads)} blocks behind another node of the chain: is it syncing?"
        found.append(Finding(Verdict.LOOK, f"node {behind.node} ({asked.chain.id})", sentence))
    return found


async def _watching(core: Core) -> list[Finding]:
    found = []
    for chain in await chain_states(core):
        place, age_secs = f"chain {chain.id}", core.now() - chain.looked_at
        if chain.problem:
            found.append(Finding(Verdict.WRONG, place, chain.problem))
        elif chain.level and age_secs <= LOOK_MAX_AGE_SECS:
            found.append(Finding(Verdict.FINE, place, f"is followed up to block {chain.head_height}"))
        else:
            found.append(Finding(Verdict.LOOK, place, "is not followed at the moment: is the daemon running?"))
    return found


async def _amount_space(core: Core) -> list[Finding]:
    """How full each store's shared addresses are with unique amounts, and whether that goes on for long."""
    found = []
    for space in await spaces(core):
        place = f"unique amounts of {space.asset.id} (store {space.store})"
        sentence = f"{space.taken} of {space.size} are taken"
        if space.full_in_secs is not None:
            hours = space.full_in_secs // 3600
            when = f"in about {hours} hours" if hours else "within the hour"
            sentence += f"; at the pace of the last day ({space.opened_lately} openings) the last is gone {when}"
        if space.full_in_secs is not None or space.taken * 100 >= space.size * _NEARLY_FULL_PERCENT:
            found.append(Finding(Verdict.LOOK, place, f"{sentence}: give the store one more address, or an xpub"))
        else:
            found.append(
                Finding(Verdict.FINE, place, f"{sentence}; about {space.expected} at the pace of the last day")
            )
    return found


async def _waiting(core: Core) -> list[Finding]:
    """What waits for a person."""
    async with core.database.read() as connection:
        unmatched = await connection.scalar(select(func.count()).where(transfers.c.standing == "unmatched")) or 0
        parked = await connection.scalar(select(func.count()).where(deliveries.c.state == "parked")) or 0
        unexplained = await connection.scalar(
            select(func.count()).where(
                events.c.type == EventType.BALANCE_UNEXPLAINED, events.c.created_at > core.now() - _LATELY_SECS
            )
        )
    found = []
    if unexplained:
        sentence = (
            f"{unexplained} times in the last week coin came without a transfer that the node shows: see "
            '"coin came without a transfer" in the log, and settle by hand what was a payment'
        )
        found.append(Finding(Verdict.LOOK, "balances", sentence))
    if unmatched:
        sentence = f"{unmatched} transfers belong to no session: see astrapayd payment list --unmatched"
        found.append(Finding(Verdict.LOOK, "payments", sentence))
    if parked:
        sentence = f"{parked} deliveries were given up: see astrapayd webhook deliveries ENDPOINT"
        found.append(Finding(Verdict.LOOK, "webhooks", sentence))
    return found
