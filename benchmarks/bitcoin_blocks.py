"""A full Bitcoin block searched for 100,000 watched scripts, beside parsing the same block's ``getblock 2`` JSON."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from astrapayd_bitcoin.blocks import payments_in_block
from benchmarks.figures import Figure, median
from tests.plugins.bitcoin.raw_bytes import Tx, block, coinbase

TRANSACTIONS = 4_000
SCRIPTS = 100_000
PAID = 40
ROUNDS = 9


def measure() -> list[Figure]:
    """From raw bytes to payments; the JSON is only parsed, with amounts as Decimal, and searched by nobody."""
    rng = random.Random(8)
    scripts = {_script(rng) for _ in range(SCRIPTS)}
    txs = _transactions(rng, list(scripts))
    raw = block("ab" * 32, 1_800_000_000, txs)
    assert len(payments_in_block(raw, scripts)) == PAID
    text = json.dumps(_verbose(txs))
    ours = _millis(partial(payments_in_block, raw, scripts))
    theirs = _millis(partial(json.loads, text, parse_float=Decimal))
    name = f"Bitcoin block of {TRANSACTIONS:,} searched for {SCRIPTS:,} scripts"
    return [Figure(name, ours, "ms", theirs, f"parsing its getblock 2 ({len(text) / 2**20:.0f} MiB of JSON)")]


def _millis(work: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return median(seconds) * 1000


def _script(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.6:
        return b"\x00\x14" + rng.randbytes(20)
    if kind < 0.8:
        return b"\x51\x20" + rng.randbytes(32)
    return b"\x76\xa9\x14" + rng.randbytes(20) + b"\x88\xac"


def _transactions(rng: random.Random, watched: list[bytes]) -> list[Tx]:
    """Of mainnet's shape: one or two inputs mostly, two outputs, now and then a batch."""
    txs = [coinbase(900_000)]
    paying = set(rng.sample(range(1, TRANSACTIONS), PAID))
    for number in range(1, TRANSACTIONS):
        inputs = rng.choice((1, 1, 1, 2, 2, 5))
        outputs = rng.choice((1, 2, 2, 2, 2, 3, 12))
        paid = [(_script(rng), rng.randrange(1, 10**9)) for _ in range(outputs)]
        if number in paying:
            paid[rng.randrange(outputs)] = (rng.choice(watched), rng.randrange(1, 10**9))
        spent = tuple((rng.randbytes(32).hex(), rng.randrange(4)) for _ in range(inputs))
        txs.append(Tx(spent, tuple(paid), segwit=rng.random() < 0.9))
    return txs


def _verbose(txs: list[Tx]) -> dict[str, Any]:
    """What a node answers to ``getblock HASH 2``, as far as its parser can tell."""
    return {
        "hash": "cd" * 32,
        "previousblockhash": "ab" * 32,
        "time": 1_800_000_000,
        "tx": [
            {
                "txid": tx.txid,
                "hash": tx.txid,
                "version": 2,
                "size": len(tx.raw),
                "vsize": len(tx.raw),
                "weight": 4 * len(tx.raw),
                "locktime": 0,
                "vin": [
                    {
                        "txid": txid,
                        "vout": index,
                        "scriptSig": {"asm": "", "hex": ""},
                        "txinwitness": ["00" * 71, "00" * 33],
                        "sequence": 4294967293,
                    }
                    for txid, index in tx.inputs
                ],
                "vout": [
                    {
                        "value": amount / 10**8,
                        "n": n,
                        "scriptPubKey": {
                            "asm": f"0 {script[2:].hex()}",
                            "desc": f"addr(bc1q{script[:19].hex()})#abcdefgh",
                            "hex": script.hex(),
                            "address": f"bc1q{script[:19].hex()}",
                            "type": "witness_v0_keyhash",
                        },
                    }
                    for n, (script, amount) in enumerate(tx.outputs)
                ],
                "hex": tx.raw.hex(),
            }
            for tx in txs
        ],
    }
