"""How fresh each chain is, as committed by its watcher, and what the nodes say when asked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from astrapayd.chains import Chain
from astrapayd.db.chains import ChainRow, load_chain
from astrapayd.services.core import Core
from astrapayd.services.sessions import LOOK_MAX_AGE_SECS
from astrapayd.transfers import NodeStatus


@dataclass(frozen=True, slots=True)
class ChainNodes:
    """A chain's nodes, asked just now."""

    chain: Chain
    nodes: tuple[NodeStatus, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that any of its nodes found wrong, as whole sentences."""
        return tuple(f"{n.node}: {p}" for n in self.nodes for p in n.problems)


async def chain_states(core: Core) -> list[ChainRow]:
    """Every configured chain that was started before."""
    async with core.database.read() as connection:
        rows = [await load_chain(connection, chain.id) for chain in core.registry]
    return [row for row in rows if row is not None]


async def levels(core: Core) -> dict[str, bool]:
    """By chain id, whether sessions can be opened: its watcher is live and level with its node."""
    now = core.now()
    return {c.id: c.level and now - c.looked_at <= LOOK_MAX_AGE_SECS for c in await chain_states(core)}


async def ask_nodes(core: Core) -> list[ChainNodes]:
    """Ask every node of every chain who it is; takes as long as the slowest."""

    async def ask(chain: Chain) -> ChainNodes:
        watcher = chain.watcher()
        try:
            return ChainNodes(chain, await watcher.check())
        finally:
            await watcher.close()

    return list(await asyncio.gather(*(ask(chain) for chain in core.registry)))
