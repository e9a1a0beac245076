"""The pebble watcher under astrapayd's contract. Run with pytest and pytest-asyncio."""

import itertools
import json
from pathlib import Path

import pytest

from astrapayd.app import assemble
from astrapayd.testing import CHECKS


class PebbleStage:
    """Writes the file that the watcher reads."""

    address = "peb-shop"
    other_address = "peb-other"

    def __init__(self, folder: Path) -> None:
        self._file = folder / "chain.json"
        self._numbers = itertools.count(1)
        self._waiting: list[dict[str, object]] = []
        self._blocks = [{"height": 0, "hash": "b0", "parent": "", "time": 1_800_000_000, "moves": []}]
        self._write()
        config = folder / "astrapayd.toml"
        config.write_text(
            f"""
            [database]
            url = "sqlite:///{folder / "unused.db"}"
            [chains.pebble]
            plugin = "pebble"
            file = "{self._file}"
            [assets.pebbles]
            chain = "pebble"
            symbol = "PEB"
            decimals = 6
            """
        )
        config.chmod(0o600)
        self.chain = assemble(config).core.registry["pebble"]

    async def pay(self, asset, address, amount_base):
        move = {"id": f"m{next(self._numbers)}", "from": "peb-ann", "to": address, "pebbles": amount_base}
        self._waiting.append(move)
        return move["id"]

    async def mine(self, blocks=1):
        self._add(self._waiting)
        self._waiting = []
        for _ in range(blocks - 1):
            self._add([])
        self._write()

    async def reorganise_away(self, tx):
        lost = self._blocks.pop()
        self._add([move for move in lost["moves"] if move["id"] != tx])
        self._add([])
        self._write()

    async def reorganise_elsewhere(self, tx):
        lost = self._blocks.pop()
        self._add([])
        self._add(lost["moves"])
        self._write()

    async def restart_node(self):
        self._file.unlink()
        self._write()

    def _add(self, moves):
        last = self._blocks[-1]
        block = {"height": last["height"] + 1, "hash": f"b{next(self._numbers)}", "parent": last["hash"]}
        self._blocks.append({**block, "time": last["time"] + 5, "moves": moves})

    def _write(self):
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps({"blocks": self._blocks}))
        draft.rename(self._file)  # a reader sees the old file or the new one, never half of it


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_watcher_contract(check, tmp_path):
    await check(PebbleStage(tmp_path))
