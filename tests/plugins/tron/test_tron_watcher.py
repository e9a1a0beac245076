"""The Tron watcher on a java-tron that has a bad day: what it says then, and that no payment is lost or invented."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from astrapayd.transfers import ChainMismatch, HistoryGone, TransferKind, WatcherError
from astrapayd_tron.address import from_hex20
from astrapayd_tron.fetching import SPAN
from tests.plugins.tron import tron_blocks
from tests.plugins.tron.following import OURS, TOKEN, Following, following, watcher_on
from tests.plugins.tron.standin import StandIn
from tests.plugins.tron.tron_node import StandInNode, running


@pytest.fixture
async def node() -> AsyncIterator[StandInNode]:
    async with running(StandInNode()) as one:
        yield one


# -- wake-up ----------------------------------------------------------------------------------------------------------


async def test_an_event_wakes_at_once_and_a_dropped_one_is_made_up_for_by_looking(node: StandInNode) -> None:
    watcher = watcher_on(node, events=True, poll_secs=3.0)
    async with following(watcher) as updates:
        told = Following(updates)
        await told.to_height(node.ledger.tip.height)
        pulling = asyncio.ensure_future(told.until(lambda: told.amounts == [7]))
        await asyncio.sleep(1.5)  # the subscription has settled
        await node.pay_token(OURS, 7)
        await node.mine()
        async with asyncio.timeout(1.0):
            await pulling
        node.standin.muted = True
        await node.pay_token(OURS, 8)
        await node.mine()
        await told.until(lambda: told.amounts == [7, 8])
    await watcher.close()


async def test_a_queue_that_died_without_a_word_is_subscribed_to_again(node: StandInNode) -> None:
    watcher = watcher_on(node, events=True, poll_secs=0.2)
    async with following(watcher) as updates:
        told = Following(updates)
        await told.to_height(node.ledger.tip.height)
        node.standin.muted = True
        before = watcher._nodes[0].notifications
        assert before is not None
        for _ in range(4):
            await told.to_height(await node.mine())
        node.standin.muted = False
        pulling = asyncio.ensure_future(told.to_height(node.ledger.tip.height + 1))
        await asyncio.sleep(0.5)
        heard = before.wakeup.notifications
        await node.mine()
        await pulling
        assert before.wakeup.notifications > heard, "it hears again"
    await watcher.close()


# -- finality ---------------------------------------------------------------------------------------------------------


async def test_final_is_what_the_solidity_port_says_however_far_it_lags(node: StandInNode) -> None:
    watcher = watcher_on(node)
    async with following(watcher) as updates:
        told = Following(updates)
        await told.to_height(node.ledger.tip.height)
        assert told.final_height == node.ledger.tip.height - 19
        node.standin.solid_stuck_at = told.final_height
        stuck = told.final_height
        await told.to_height(await node.mine(40))
        assert told.final_height == stuck
        node.standin.solid_stuck_at = None
        await told.until(lambda: told.final_height == node.ledger.tip.height - 19)
        assert told.steps[-1].connected == (), "finality alone is told as well"
    await watcher.close()


async def test_a_solidity_port_of_another_fork_makes_nothing_final(node: StandInNode) -> None:
    def lies(path: str, question: Any, answer: Any) -> Any:
        return {**answer, "blockID": answer["blockID"][:-2] + "00"} if path == "walletsolidity/getnowblock" else answer

    watcher = watcher_on(node)
    async with following(watcher) as updates:
        told = Following(updates)
        await told.to_height(node.ledger.tip.height)
        final = told.final_height
        node.standin.rewrite = lies
        await node.mine(3)
        pulling = asyncio.ensure_future(told.to_height(node.ledger.tip.height))
        await _until_health(watcher, "calls another block")
        assert told.final_height == final
        node.standin.rewrite = StandIn(node.ledger).rewrite
        await pulling
    await watcher.close()


# -- reorganisation ---------------------------------------------------------------------------------------------------


async def test_a_fork_of_eighteen_blocks_is_followed_in_one_step(node: StandInNode) -> None:
    watcher = watcher_on(node)
    async with following(watcher) as updates:
        told = Following(updates)
        await told.to_height(node.ledger.tip.height)
        tx = await node.pay_coin(OURS, 5)
        await told.to_height(await node.mine(18))
        assert told.amounts == [5]
        await node.reorg_away(tx)
        await told.until(lambda: told.amounts == [])
        (step,) = (step for step in told.steps if step.disconnected)
        assert len(step.disconnected) == 18
        assert len(step.connected) >= 18
    await watcher.close()


async def test_a_fork_between_block_and_infos_mixes_nothing(node: StandInNode) -> None:
    """The transaction that pays us is replaced between both answers, at the same height."""
    once = iter([True])

    def fork(path: str, question: Any) -> None:
        if path == "wallet/gettransactioninfobyblocknum" and next(once, False):
            node.ledger.reorganise(1, [node.ledger.token([(OURS, 9)])], [])

    watcher = watcher_on(node)
    async with following(watcher) as updates:
        told = Following(updates)
        await told.to_height(node.ledger.tip.height)
        node.standin.before_answer = fork
        await node.pay_token(OURS, 8)
        await node.mine()
        await told.to_height(node.ledger.tip.height + 1)
        assert told.amounts == [9]
    await watcher.close()


async def test_a_node_behind_is_waited_for(node: StandInNode) -> None:
    watcher = watcher_on(node)
    async with following(watcher) as updates:
        told = Following(updates)
        tx = await node.pay_token(OURS, 8)
        await told.to_height(node.ledger.tip.height)
        await told.to_height(await node.mine(5))
        assert [one.tx for one in told.transfers] == [tx]
        node.standin.behind = 4
        pulling = asyncio.ensure_future(told.to_height(node.ledger.tip.height + 1))
        await _until_health(watcher, "behind block")
        assert not watcher.health.level
        node.standin.behind = 0
        await node.mine()
        await pulling
        assert not [step for step in told.steps if step.disconnected]
    await watcher.close()


# -- several nodes ----------------------------------------------------------------------------------------------------


async def test_the_second_node_takes_over_and_is_not_believed_where_it_is_behind(node: StandInNode) -> None:
    other = StandInNode()
    other.ledger = other.standin.ledger = node.ledger
    async with running(other):
        watcher = watcher_on(node, other)
        async with following(watcher) as updates:
            told = Following(updates)
            await told.to_height(await node.mine(4))
            other.standin.behind = 2
            await node.standin.stop()
            await node.pay_token(OURS, 3)
            await node.mine()
            pulling = asyncio.ensure_future(told.until(lambda: told.amounts == [3]))
            await _until_health(watcher, "behind block")
            other.standin.behind = 0
            await pulling
            assert not [step for step in told.steps if step.disconnected], "behind is no reorganisation"
        await watcher.close()


async def test_a_node_of_another_network_is_never_followed(node: StandInNode) -> None:
    watcher = watcher_on(node, genesis="00" * 8 + "ab" * 24)
    async with following(watcher) as updates:
        with pytest.raises(ChainMismatch, match="but the network begins with"):
            await anext(updates)
    (status,) = await watcher.check()
    assert status.reachable
    assert "mend chains.tron.network or nodes" in status.problems[0]
    with pytest.raises(WatcherError):
        await watcher.used([OURS])
    await watcher.close()


async def test_no_question_ever_leaves_for_another_host(node: StandInNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a redirect nor by a proxy of the environment; each connection that is made is looked at."""
    elsewhere = StandInNode()
    async with running(elsewhere):
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, elsewhere.url)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        watcher = watcher_on(node)
        async with following(watcher) as updates:
            told = Following(updates)
            await told.to_height(node.ledger.tip.height)
            await watcher.check()
            await watcher.used([OURS])
            node.standin.answer_instead = lambda method, question: web.Response(
                status=307, headers={"Location": f"{elsewhere.url}/{method}"}
            )
            await node.mine()
            pulling = asyncio.ensure_future(told.to_height(node.ledger.tip.height))
            await _until_health(watcher, "HTTP 307")
            node.standin.answer_instead = lambda method, question: None
            await pulling
        await watcher.close()
        assert elsewhere.standin.asked == [], "nothing came there"
        ours = {url.removeprefix("http://") for url in (node.url, node.solidity)}
        assert node.standin.connections == ours


# -- answers ----------------------------------------------------------------------------------------------------------

TX_INFOS = "wallet/gettransactioninfobyblocknum"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: web.Response(status=429), "too busy"),
        (lambda: web.Response(status=500, text="boom"), "HTTP 500"),
        (lambda: web.Response(text="<html>login</html>", content_type="text/html"), "no JSON"),
        (lambda: web.Response(text='{"blockID": "0000'), "no JSON"),
        (lambda: web.Response(text=""), "no JSON"),
        (lambda: web.json_response({"Error": "class java.lang.NullPointerException : null"}), "NullPointer"),
        (lambda: web.json_response([1, 2, 3]), "another form"),
        (lambda: web.json_response({}), "another form"),
        (lambda: web.json_response(None), "another form"),
    ],
    ids=["429", "500", "html", "half", "nothing", "error", "list", "empty", "null"],
)
async def test_garbage_is_said_and_survived(node: StandInNode, make: Any, said: str) -> None:
    watcher = watcher_on(node)
    async with following(watcher) as updates:
        told = Following(updates)
        await told.to_height(node.ledger.tip.height)
        node.standin.answer_instead = lambda method, question: make() if method == "wallet/getnowblock" else None
        await node.pay_token(OURS, 8)
        await node.mine()
        pulling = asyncio.ensure_future(told.until(lambda: told.amounts == [8]))
        await _until_health(watcher, said)
        assert told.amounts == []
        node.standin.answer_instead = lambda method, question: None
        await pulling
    await watcher.close()


@pytest.mark.parametrize(
    "lie",
    [
        lambda infos: infos[:-1],
        lambda infos: [],
        lambda infos: [{**info, "blockNumber": info["blockNumber"] + 1} for info in infos],
        lambda infos: [{**info, "id": tron_blocks.txid(1)} for info in infos],
        lambda infos: {"infos": infos},
    ],
    ids=["cut short", "none", "of another block", "of another transaction", "another form"],
)
async def test_infos_that_are_not_the_block_s_are_never_used_in_part(node: StandInNode, lie: Any) -> None:
    watcher = watcher_on(node)
    async with following(watcher) as updates:
        told = Following(updates)
        await told.to_height(node.ledger.tip.height)
        node.standin.rewrite = lambda path, question, answer: lie(answer) if path == TX_INFOS and answer else answer
        await node.pay_token(OURS, 8)
        await node.pay_token(OURS, 9)
        await node.mine()
        pulling = asyncio.ensure_future(told.until(lambda: sorted(told.amounts) == [8, 9]))
        await _until_health(watcher, "sent")
        assert told.amounts == []
        node.standin.rewrite = StandIn(node.ledger).rewrite
        await pulling
    await watcher.close()


async def test_an_answer_that_never_comes(node: StandInNode) -> None:
    watcher = watcher_on(node, request_secs=0.3)
    async with following(watcher) as updates:
        told = Following(updates)
        await told.to_height(node.ledger.tip.height)
        node.standin.delay_secs = 1.0
        await node.mine()
        pulling = asyncio.ensure_future(told.to_height(node.ledger.tip.height))
        await _until_health(watcher, "has not answered")
        node.standin.delay_secs = 0.0
        await pulling
    await watcher.close()


async def test_a_lite_node_that_has_not_the_gap(node: StandInNode) -> None:
    watcher = watcher_on(node)
    async with following(watcher) as updates:
        told = Following(updates)
        await told.to_height(node.ledger.tip.height)
    recent = tuple(reversed(told.branch))
    gone = node.ledger.tip.height + 3
    await node.mine(20)

    def lite(path: str, question: Any, answer: Any) -> Any:
        if path == "wallet/getblockbynum" and recent[0].height < question["num"] <= gone:
            return {}
        if path == "wallet/getblockbylimitnext":
            return {"block": [b for b in answer["block"] if b["block_header"]["raw_data"]["number"] > gone]}
        return answer

    node.standin.rewrite = lite
    async with following(watcher, recent) as updates:
        with pytest.raises(HistoryGone, match="no longer has block"):
            await anext(updates)
    await watcher.close()


# -- what is paid -----------------------------------------------------------------------------------------------------


async def test_what_poses_as_a_payment_is_none(node: StandInNode) -> None:
    ledger = node.ledger
    look_alike = from_hex20("99" * 20)
    ledger.tokens[look_alike] = 6
    watcher = watcher_on(node)
    async with following(watcher) as updates:
        told = Following(updates)
        await told.to_height(ledger.tip.height)
        for kind in ("TransferAssetContract", "DelegateResourceContract", "FreezeBalanceV2Contract"):
            node.send(ledger.posing(kind, OURS, 1_000_000))
        node.send(ledger.trx(OURS, 5, result="OUT_OF_ENERGY"))
        node.send(ledger.token([(OURS, 5)], result="REVERT"))
        node.send(ledger.token([(OURS, 5)], contract=look_alike))
        node.send(ledger.token([(OURS, 0)]))
        node.send(ledger.contract_payer(OURS, 5, rejected=True))
        real = node.send(ledger.trx_and_token(OURS, 11, 12))
        await told.to_height(await node.mine())
        assert [(one.tx, one.kind, one.amount_base) for one in told.transfers] == [
            (real, TransferKind.TOKEN, 12),
            (real, TransferKind.INTERNAL, 11),
        ]
    await watcher.close()


async def test_a_gap_of_a_thousand_blocks_is_filled_by_ranges(node: StandInNode) -> None:
    watcher = watcher_on(node)
    async with following(watcher) as updates:
        told = Following(updates)
        await told.to_height(node.ledger.tip.height)
    node.standin.asked.clear()
    for number in range(10):
        await node.pay_token(OURS, 100 + number)
        node.ledger.mine(100)
    async with following(watcher, tuple(reversed(told.branch))) as updates:
        again = Following(updates, branch=list(told.branch))
        await again.to_height(node.ledger.tip.height)
    assert again.amounts == [100 + number for number in range(10)]
    assert node.standin.asked.count("wallet/getblockbylimitnext") == 1000 // SPAN
    assert node.standin.asked.count(TX_INFOS) == 1000
    await watcher.close()


# -- checks -----------------------------------------------------------------------------------------------------------


async def test_check_says_what_to_mend(node: StandInNode) -> None:
    (status,) = await watcher_on(node, token=replace(TOKEN, decimals=18)).check()
    assert status.problems == ("says that the token has 6 decimals, but assets.usdt.decimals says 18",)
    (status,) = await watcher_on(node, token=replace(TOKEN, contract=from_hex20("98" * 20))).check()
    assert "answers decimals(): it is no TRC-20 token" in status.problems[0]
    await node.pay_coin(OURS, 1)
    await node.mine()
    node.standin.rewrite = lambda path, question, answer: [] if path == TX_INFOS else answer
    (status,) = await watcher_on(node).check()
    assert "storage.transHistory.switch" in status.problems[0]
    node.standin.rewrite = StandIn(node.ledger).rewrite
    (status,) = await watcher_on(node, events=True).check()
    assert (status.problems, status.client, status.syncing) == ((), "java-tron/4.7.7", False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        node.standin._endpoint = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        (status,) = await watcher_on(node, events=True).check()
    assert "switch on its event queue" in status.problems[0]
    await node.standin.stop()
    (status,) = await watcher_on(node).check()
    assert not status.reachable


async def test_used_is_who_has_an_account_or_a_token(node: StandInNode) -> None:
    with_token, with_coin, unused = (from_hex20(digits * 20) for digits in ("a1", "a2", "a3"))
    await node.pay_token(with_token, 1)
    await node.pay_coin(with_coin, 1)
    await node.mine()
    watcher = watcher_on(node)
    assert await watcher.used([with_token, with_coin, unused]) == {with_token, with_coin}
    await watcher.close()


async def _until_health(watcher: Any, words: str) -> None:
    async with asyncio.timeout(8):
        while words not in watcher.health.problem:
            await asyncio.sleep(0.02)
