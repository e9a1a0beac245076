"""Our side of JSON-RPC: credentials, restarts, and answers that are none. Errors as recorded from a node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web

from astrapayd.node_faults import GarbageAnswer, MalformedAnswer, NodeFault, NodeSilent, NodeUnreachable
from astrapayd_bitcoin.faults import NodeRefuses, NodeStarting, RpcError
from astrapayd_bitcoin.node import CoreNode
from astrapayd_bitcoin.rpc import Credentials, NodeRpc
from tests.plugins.bitcoin.following import core_watcher
from tests.plugins.bitcoin.regtest import Regtest
from tests.plugins.bitcoin.standin import PASSWORD, USER, as_json, error


@pytest.fixture
async def regtest() -> AsyncIterator[Regtest]:
    regtest = Regtest()
    await regtest.node.start()
    yield regtest
    await regtest.node.stop()


@pytest.fixture
async def rpc(regtest: Regtest) -> AsyncIterator[NodeRpc]:
    rpc = NodeRpc(regtest.node.url, Credentials(USER, PASSWORD), request_secs=2)
    yield rpc
    await rpc.close()


async def test_a_password_may_have_any_letters(rpc: NodeRpc, regtest: Regtest) -> None:
    assert await rpc.call("getbestblockhash") == regtest.tip.hash


async def test_numbers_with_a_point_are_decimals(rpc: NodeRpc, regtest: Regtest) -> None:
    answer = await rpc.call("getblockheader", regtest.tip.hash)
    assert answer["difficulty"] == Decimal("4.656542373906925E-10")
    assert isinstance(answer["difficulty"], Decimal)


async def test_questions_at_once_are_asked_one_after_the_other(rpc: NodeRpc, regtest: Regtest) -> None:
    answers = await asyncio.gather(*(rpc.call("getblockhash", height) for height in range(1, 11)))
    assert answers == [(await rpc.call("getblockhash", height)) for height in range(1, 11)]
    assert len(set(answers)) == 10


async def test_a_restarted_node_is_asked_again_on_a_new_connection(rpc: NodeRpc, regtest: Regtest) -> None:
    await rpc.call("getbestblockhash")
    await regtest.restart()
    assert await rpc.call("getbestblockhash") == regtest.tip.hash


async def test_a_cookie_is_read_anew_when_the_node_has_written_another(regtest: Regtest, tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    rpc = NodeRpc(regtest.node.url, Credentials(cookie_file=cookie), request_secs=2)
    with pytest.raises(NodeRefuses, match="no cookie file"):
        await rpc.call("getbestblockhash")
    for secret in ("__cookie__:1a2b", "__cookie__:3c4d"):
        regtest.node.credentials = secret
        cookie.write_text(secret)
        assert await rpc.call("getbestblockhash") == regtest.tip.hash
        await regtest.restart()
    cookie.write_text("__cookie__:old")
    with pytest.raises(NodeRefuses, match="does not take the cookie"):
        await rpc.call("getbestblockhash")
    await rpc.close()


async def test_a_wrong_password_is_told_by_the_check_without_repeating_it(regtest: Regtest) -> None:
    regtest.node.credentials = "alice:another"
    watcher = core_watcher(regtest.node)
    (status,) = await watcher.check()
    assert status.reachable
    assert status.problems == (
        "does not take user and password: correct them (rpcuser and rpcpassword, rpcauth, or its cookie)",
    )
    assert PASSWORD not in repr(watcher._settings)


@pytest.mark.parametrize(
    ("answer", "fault", "words"),
    [
        (error(-28, "Loading block index…"), NodeStarting, "is starting"),
        (error(-5, "Block not found"), RpcError, "error -5: Block not found"),
        (error(-32601, "Method not found", 404), RpcError, "error -32601"),
        (web.Response(status=503, text="Work queue depth exceeded"), NodeUnreachable, "too busy"),
        (web.Response(status=503), NodeUnreachable, "too busy, or stopping"),
        (web.Response(status=403), NodeRefuses, "rpcallowip"),
        (web.Response(text="<html>", content_type="text/html"), GarbageAnswer, "HTTP 200 and no JSON"),
        (web.Response(status=429, text="slow down"), GarbageAnswer, "HTTP 429"),
        (web.Response(body=b"{", headers={"Content-Type": "application/json"}), GarbageAnswer, "no answer"),
        (web.Response(body=b"\xff\xfe", headers={"Content-Type": "application/json"}), GarbageAnswer, "no answer"),
        (as_json([1, 2]), GarbageAnswer, "no answer"),
        (as_json({"error": "broken"}), GarbageAnswer, "without code"),
        (as_json({"error": {"code": "x"}}), GarbageAnswer, "without code"),
        (as_json({"id": 1, "error": None}), GarbageAnswer, "no answer"),
    ],
)
async def test_what_is_no_good_answer_is_named(
    rpc: NodeRpc, regtest: Regtest, answer: web.Response, fault: type[NodeFault], words: str
) -> None:
    regtest.node.answer_instead = lambda method: answer
    with pytest.raises(fault, match=words):
        await rpc.call("getblockcount")
    regtest.node.answer_instead = lambda method: None
    assert await rpc.call("getbestblockhash") == regtest.tip.hash, "and the next question is answered"


async def test_nobody_there(rpc: NodeRpc, regtest: Regtest) -> None:
    await regtest.node.stop()
    with pytest.raises(NodeUnreachable, match="Connection refused"):
        await rpc.call("getbestblockhash")


async def test_a_hanging_node_is_left_and_asked_again() -> None:
    """It accepts, reads, and says nothing; a question that is given up does not block the next one."""
    taken: list[asyncio.StreamWriter] = []

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(writer)
        await reader.read()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    rpc = NodeRpc(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", Credentials("a", "b"), request_secs=0.2)
    for _ in range(2):
        with pytest.raises(NodeSilent, match=r"getblockcount within 0\.2 s"):
            await rpc.call("getblockcount")
    slow = NodeRpc(rpc_url(rpc), Credentials("a", "b"), request_secs=30)
    asking = asyncio.create_task(slow.call("getblockcount"))
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await slow.close()
    await rpc.close()
    for writer in taken:
        writer.close()
    server.close()


def rpc_url(rpc: NodeRpc) -> str:
    return f"http://{rpc.label}"


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("getblockchaininfo", None),
        ("getblockchaininfo", {"chain": "regtest", "blocks": "1", "bestblockhash": "ab" * 32}),
        ("getblockchaininfo", {"chain": "regtest", "blocks": 1, "bestblockhash": "AB" * 32}),
        ("getbestblockhash", 5),
        ("getrawmempool", {"a": 1}),
        ("getblockheader", {"hash": "cd" * 32, "height": 1, "time": 1, "previousblockhash": "ab" * 32}),
        ("getblock", "zz"),
        ("getblock", "00" * 79),
        ("getblock", "00" * 80),
        ("getrawtransaction", 7),
        ("getzmqnotifications", {}),
    ],
)
async def test_answers_of_another_shape_are_refused(
    rpc: NodeRpc, regtest: Regtest, method: str, result: object
) -> None:
    node = CoreNode(rpc)
    regtest.node.answer_instead = lambda asked: as_json({"id": 1, "error": None, "result": result})
    questions = {
        "getblockchaininfo": node.info,
        "getbestblockhash": node.best,
        "getrawmempool": node.mempool,
        "getblockheader": lambda: node.block("ab" * 32),
        "getblock": lambda: node.raw_block("ab" * 32),
        "getrawtransaction": lambda: node.raw_transaction("ab" * 32),
        "getzmqnotifications": node.published,
    }
    with pytest.raises(MalformedAnswer):
        await questions[method]()


async def test_a_node_without_zeromq_is_told(regtest: Regtest) -> None:
    regtest.node.topics = ("hashblock",)
    (status,) = await core_watcher(regtest.node).check()
    assert "does not publish rawtx, sequence by ZeroMQ for chains.bitcoin.nodes: start it with" in status.problems[0]
    regtest.node.answer_instead = lambda method: (
        error(-32601, "Method not found", 404) if method == "getzmqnotifications" else None
    )
    (status,) = await core_watcher(regtest.node).check()
    assert "built without ZeroMQ" in status.problems[0]
