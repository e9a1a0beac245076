"""A stand-in for java-tron: HTTP on two ports (full node, solidity) and events over ZeroMQ, from a chain in memory.

Built from the shapes of the project's notes on java-tron and from its HTTP documentation. Assumptions, which a real
node has yet to confirm:

- ``{}`` is the answer for a block or an account that is not there, and ``[]`` for a block without transaction infos;
- ``getblockbylimitnext`` sends blocks in order, its end exclusive, and an error for a span above 100;
- an error of a method is HTTP 200 with ``{"Error": "class …"}``;
- the solidity port answers ``walletsolidity/getblockbynum`` with ``{}`` above the solidified height;
- ``triggerconstantcontract`` answers ``result.result`` true and 32 bytes in ``constant_result``; for an address without
  a contract ``result.code`` CONTRACT_VALIDATE_ERROR and no ``constant_result``;
- ``getnodeinfo`` has its version at ``configNodeInfo.codeVersion``;
- event frames are two, the trigger's name and JSON, sent once the block can be had over HTTP;
- a block is solidified 19 blocks later (here: ``solid_lag``, which a test may set).

What a node may do on a bad day is switched on by the attributes of :class:`StandIn`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import zmq
import zmq.asyncio
from aiohttp import web

from astrapayd_tron.address import from_hex20
from tests.plugins.tron.ledger import Block, Ledger

HIGH_WATER_MARK = 1000


class StandIn:
    """Serves a :class:`~tests.plugins.tron.ledger.Ledger`; its ports stay the same over a restart."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.solid_lag = 19
        self.solid_stuck_at: int | None = None
        """The solidity port stays at this height."""
        self.behind = 0
        """Blocks by which the whole node lags behind the chain."""
        self.muted = False
        """Drop every frame, without a word."""
        self.delay_secs = 0.0
        self.answer_instead: Callable[[str, Any], web.StreamResponse | None] = lambda method, question: None
        """What a broken node says to a method; None: the right answer."""
        self.rewrite: Callable[[str, Any, Any], Any] = lambda method, question, answer: answer
        """How a lying node changes its answer."""
        self.before_answer: Callable[[str, Any], None] = lambda method, question: None
        """Something happens while the node is asked."""
        self.asked: list[str] = []
        """The paths asked so far."""
        self.connections: set[str] = set()
        """The ``Host`` of each request."""
        self._ports = [0, 0]
        self._endpoint = "tcp://127.0.0.1:*"
        self._runners: list[web.AppRunner] = []
        self._publisher: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def solidity(self) -> str:
        return f"http://127.0.0.1:{self._ports[1]}"

    @property
    def events(self) -> str:
        return self._endpoint

    async def start(self) -> None:
        for index, prefix in enumerate(("wallet", "walletsolidity")):
            app = web.Application()
            app.router.add_post(f"/{prefix}/{{method}}", self._answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", self._ports[index], reuse_address=True)
            await site.start()
            assert site._server is not None
            self._ports[index] = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
            self._runners.append(runner)
        self._publisher = zmq.asyncio.Context.instance().socket(zmq.PUB)
        self._publisher.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        await self._bind()
        self._endpoint = self._publisher.getsockopt_string(zmq.LAST_ENDPOINT)

    async def stop(self) -> None:
        runners, self._runners = self._runners, []
        for runner in runners:
            await runner.cleanup()
        if self._publisher is not None:
            self._publisher.close(linger=0)
            self._publisher = None

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def announce(self, block: Block) -> None:
        """The frames of a block that has become part of the chain."""
        solid = self._solid_height()
        await self._publish(
            "blockTrigger",
            {
                "timeStamp": block.time_ms,
                "triggerName": "blockTrigger",
                "blockNumber": block.height,
                "blockHash": block.hash,
                "transactionSize": len(block.transactions),
                "latestSolidifiedBlockNumber": solid,
                "transactionList": [tx["txID"] for tx in block.transactions],
            },
        )
        for tx in block.transactions:
            await self._publish("transactionTrigger", _transaction_trigger(tx, block, solid))
        await self._publish(
            "solidityTrigger",
            {"timeStamp": block.time_ms, "triggerName": "solidityTrigger", "latestSolidifiedBlockNumber": solid},
        )

    async def _publish(self, topic: str, body: dict[str, Any]) -> None:
        if self._publisher is not None and not self.muted:
            await self._publisher.send_multipart([topic.encode(), json.dumps(body).encode()])

    async def _bind(self) -> None:
        """A port is let go in the background, a moment after its socket was closed."""
        for _ in range(100):
            try:
                self._publisher.bind(self._endpoint)
            except zmq.ZMQError:
                await asyncio.sleep(0.02)
            else:
                return
        raise AssertionError(f"{self._endpoint} is not let go")

    def _head_height(self) -> int:
        return max(0, self.ledger.tip.height - self.behind)

    def _solid_height(self) -> int:
        if self.solid_stuck_at is not None:
            return self.solid_stuck_at
        return max(0, self._head_height() - self.solid_lag)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/")
        self.asked.append(path)
        self.connections.add(request.host)
        question = json.loads(await request.read() or b"{}")
        if self.delay_secs:
            await asyncio.sleep(self.delay_secs)
        self.before_answer(path, question)
        instead = self.answer_instead(path, question)
        if instead is not None:
            return instead
        prefix, method = path.split("/", 1)
        top = self._solid_height() if prefix == "walletsolidity" else self._head_height()
        answer = self.rewrite(path, question, self._right_answer(method, question, top))
        return web.Response(body=json.dumps(answer).encode(), content_type="application/json")

    def _right_answer(self, method: str, question: Any, top: int) -> Any:
        ledger = self.ledger
        match method:
            case "getnowblock":
                return ledger.at(top).as_json()
            case "getblockbynum":
                return ledger.at(question["num"]).as_json() if question["num"] <= top else {}
            case "getblockbyid":
                found = ledger.blocks.get(question["value"])
                return found.as_json() if found is not None else {}
            case "getblockbylimitnext":
                start, end = question["startNum"], question["endNum"]
                if not 0 < end - start <= 100:
                    return {"Error": "class org.tron.core.exception.BadItemException : limit"}
                return {"block": [ledger.at(height).as_json() for height in range(start, min(end, top + 1))]}
            case "gettransactioninfobyblocknum":
                return list(ledger.at(question["num"]).infos) if question["num"] <= top else []
            case "getaccount":
                address = from_hex20(question["address"][2:])
                sun = ledger.coin_of(address, top)
                return {"address": question["address"], "balance": sun} if sun else {}
            case "triggerconstantcontract":
                contract = from_hex20(question["contract_address"][2:])
                return self._call(contract, question["function_selector"], question["parameter"], top)
            case "getnodeinfo":
                return {"configNodeInfo": {"codeVersion": "4.7.7"}, "solidityBlock": "", "block": ""}
            case _:
                return {"Error": f"class java.lang.IllegalArgumentException : {method}"}

    def _call(self, contract: str, selector: str, parameter: str, top: int) -> Any:
        if contract not in self.ledger.tokens:
            return {"result": {"code": "CONTRACT_VALIDATE_ERROR", "message": "536d61727420636f6e7472616374"}}
        if selector == "decimals()":
            value = self.ledger.tokens[contract]
        else:
            value = self.ledger.token_of(contract, from_hex20(parameter[24:]), top)
        return {"result": {"result": True}, "energy_used": 935, "constant_result": [f"{value:064x}"]}


def _transaction_trigger(tx: dict[str, Any], block: Block, solid: int) -> dict[str, Any]:
    """With the trap of a real one: an amount of "trx" stands there for delegation and freezing as well."""
    contract = tx["raw_data"]["contract"][0]
    value = contract["parameter"]["value"]
    return {
        "timeStamp": block.time_ms,
        "triggerName": "transactionTrigger",
        "transactionId": tx["txID"],
        "blockHash": block.hash,
        "blockNumber": block.height,
        "latestSolidifiedBlockNumber": solid,
        "result": tx["ret"][0].get("contractRet", ""),
        "contractType": contract["type"],
        "fromAddress": from_hex20(value["owner_address"][2:]),
        "toAddress": from_hex20(value.get("to_address", value["owner_address"])[2:]),
        "assetName": "trx",
        "assetAmount": value.get("amount", value.get("balance", 0)),
    }
