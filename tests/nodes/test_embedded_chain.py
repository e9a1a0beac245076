"""What a watcher and web3.py ask a node, asked of every real node: shapes, edges, logs, subscriptions."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import pytest
from websockets.asyncio.client import connect

from astrapayd_evm.demo.accounts import CUSTOMERS, OWNER
from astrapayd_evm.demo.token import TRANSFER_TOPIC
from astrapayd_evm.demo.wallet import NodeRefused
from tests.nodes.harness import CONTRACTS, CUSTOMER_BASE, IN_TURN, TestNode

SHOP = "0x" + "42" * 20
OTHER_SHOP = "0x" + "43" * 20

KINDS = {
    "quantity": r"0x(0|[1-9a-f][0-9a-f]*)",
    "hash": r"0x[0-9a-f]{64}",
    "address": r"0x[0-9a-f]{40}",
    "bloom": r"0x[0-9a-f]{512}",
    "nonce8": r"0x[0-9a-f]{16}",
    "bytes": r"0x([0-9a-f]{2})*",
}
HEADER = {
    **dict.fromkeys(("number", "timestamp", "gasLimit", "gasUsed", "difficulty", "baseFeePerGas"), "quantity"),
    **dict.fromkeys(("blobGasUsed", "excessBlobGas"), "quantity"),
    **dict.fromkeys(("hash", "parentHash", "sha3Uncles", "stateRoot", "transactionsRoot", "receiptsRoot"), "hash"),
    **dict.fromkeys(("mixHash", "withdrawalsRoot", "parentBeaconBlockRoot", "requestsHash"), "hash"),
    "miner": "address",
    "logsBloom": "bloom",
    "extraData": "bytes",
    "nonce": "nonce8",
}
BLOCK = {**HEADER, "size": "quantity", "transactions": "list", "uncles": "list", "withdrawals": "list"}
TRANSACTION = {
    **dict.fromkeys(("blockNumber", "transactionIndex", "gas", "gasPrice", "nonce", "value", "type"), "quantity"),
    **dict.fromkeys(("chainId", "maxFeePerGas", "maxPriorityFeePerGas", "v", "yParity", "r", "s"), "quantity"),
    **dict.fromkeys(("hash", "blockHash"), "hash"),
    **dict.fromkeys(("from", "to"), "address"),
    "input": "bytes",
    "accessList": "list",
}
RECEIPT = {
    **dict.fromkeys(("blockNumber", "transactionIndex", "gasUsed", "cumulativeGasUsed"), "quantity"),
    **dict.fromkeys(("effectiveGasPrice", "status", "type"), "quantity"),
    **dict.fromkeys(("blockHash", "transactionHash"), "hash"),
    **dict.fromkeys(("from", "to"), "address"),
    "contractAddress": "null",
    "logsBloom": "bloom",
    "logs": "list",
}
LOG = {
    **dict.fromkeys(("blockNumber", "transactionIndex", "logIndex", "blockTimestamp"), "quantity"),
    **dict.fromkeys(("blockHash", "transactionHash"), "hash"),
    "address": "address",
    "data": "bytes",
    "topics": "list",
    "removed": "bool",
}


def assert_shape(value: dict[str, Any], shape: dict[str, str], exactly: bool) -> None:
    for field, kind in shape.items():
        found = value[field]
        match kind:
            case "list":
                assert isinstance(found, list), field
            case "bool":
                assert isinstance(found, bool), field
            case "null":
                assert found is None, field
            case _:
                assert isinstance(found, str), field
                assert re.fullmatch(KINDS[kind], found), f"{field}: {found} is not {kind}"
    if exactly:
        assert set(value) == set(shape)


def as_geth(node: TestNode) -> bool:
    """Whether it has geth's shapes and errors to the letter: geth itself, and the embedded chain, which follows it."""
    return not node.name.startswith("anvil")


async def refused(node: TestNode, method: str, *params: Any) -> int:
    with pytest.raises(NodeRefused) as caught:
        await node.wallet.request(method, *params)
    return caught.value.code


async def test_blocks_transactions_receipts_and_logs_have_geths_shapes(node: TestNode) -> None:
    exactly = as_geth(node)
    ask = node.wallet.request
    paid = await node.pay_token(SHOP, 25_003417)
    number = hex(await node.mine())
    block = await ask("eth_getBlockByNumber", number, True)
    assert_shape(block, BLOCK, exactly)
    assert block == await ask("eth_getBlockByHash", block["hash"], True)
    assert (await ask("eth_getBlockByNumber", number, False))["transactions"] == [paid]
    transaction = await ask("eth_getTransactionByHash", paid)
    assert_shape(transaction, TRANSACTION, exactly)
    assert block["transactions"] == [transaction]
    receipt = await ask("eth_getTransactionReceipt", paid)
    assert_shape(receipt, RECEIPT, exactly)
    assert [receipt] == await ask("eth_getBlockReceipts", number) == await ask("eth_getBlockReceipts", block["hash"])
    (log,) = receipt["logs"]
    assert_shape(log, LOG, exactly)
    parties = ["0x" + party[2:].lower().rjust(64, "0") for party in (CUSTOMERS[0].address, SHOP)]
    assert log["topics"] == [TRANSFER_TOPIC, *parties]
    assert int(log["data"], 16) == 25_003417
    assert await ask("eth_getLogs", {"fromBlock": number, "toBlock": number}) == [log]


async def test_identity_and_accounts(node: TestNode) -> None:
    ask = node.wallet.request
    assert int(await ask("eth_chainId"), 16) == node.chain_id
    assert await ask("net_version") == str(node.chain_id)
    assert await ask("eth_syncing") is False
    assert await ask("eth_getCode", node.usdt, "latest") != "0x"
    assert await ask("eth_getCode", SHOP, "latest") == "0x"
    assert await ask("eth_call", {"to": node.usdt, "data": "0x313ce567"}, "latest") == "0x" + "6".rjust(64, "0")
    assert await node.wallet.token_balance(CUSTOMERS[1].address) == CUSTOMER_BASE
    assert int(await ask("eth_getTransactionCount", OWNER.address, "latest"), 16) == 2
    assert await ask("eth_getBlockByNumber", "0xffffff", False) is None
    assert await ask("eth_getBlockByHash", "0x" + "12" * 32, False) is None
    assert await ask("eth_getTransactionReceipt", "0x" + "12" * 32) is None
    assert await ask("eth_getTransactionByHash", "0x" + "12" * 32) is None
    for fee in ("eth_gasPrice", "eth_maxPriorityFeePerGas"):
        assert int(await ask(fee), 16) > 0
    transfer = {"from": CUSTOMERS[0].address, "to": SHOP, "value": "0x1"}
    assert int(await ask("eth_estimateGas", transfer), 16) >= 21000
    history = await ask("eth_feeHistory", "0x2", "latest", [50])
    assert len(history["baseFeePerGas"]) == 3
    assert len(history["gasUsedRatio"]) == 2


async def test_a_reverting_call_says_so(node: TestNode) -> None:
    too_much = "0xa9059cbb" + SHOP[2:].rjust(64, "0") + "f" * 64
    call = {"from": CUSTOMERS[0].address, "to": node.usdt, "data": too_much}
    assert await refused(node, "eth_call", call, "latest") == 3
    assert await refused(node, "eth_estimateGas", call) == 3


async def test_errors_have_the_codes_of_json_rpc(node: TestNode) -> None:
    # anvil cannot tell an unknown method from bad parameters.
    unknown = -32601 if as_geth(node) else -32602
    assert await refused(node, "eth_noSuchMethod") == unknown
    assert await refused(node, "eth_getBlockByHash", "0x12", False) == -32602
    assert await refused(node, "eth_sendRawTransaction", "0x1234") in (-32000, -32602)


# anvil has answers of its own.
@pytest.mark.parametrize("node", [name for name in IN_TURN if name != "anvil"], indirect=True)
async def test_malformed_messages_and_batches(node: TestNode) -> None:
    async with connect(node.url) as websocket:

        async def say(text: str) -> Any:
            await websocket.send(text)
            return json.loads(await websocket.recv())

        assert (await say('{"jsonrpc":"2.0","id":7}')) == {
            "jsonrpc": "2.0",
            "id": 7,
            "error": {"code": -32600, "message": "invalid request"},
        }
        assert (await say("[]"))["error"]["code"] == -32600
        request = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}
        notification = {"jsonrpc": "2.0", "method": "eth_chainId"}
        unknown = {"jsonrpc": "2.0", "id": 2, "method": "nope", "params": []}
        first, second = await say(json.dumps([request, notification, unknown]))
        assert first == {"jsonrpc": "2.0", "id": 1, "result": "0x539"}
        assert (second["id"], second["error"]["code"]) == (2, -32601)
        # Last, because geth then closes the connection (and says nothing at all to JSON that only breaks off).
        assert (await say("[{]"))["error"]["code"] == -32700
    for params in ([], ["0x1"], ["0x1", False, 1], ["0x01", False], ["1", False], [1, False]):
        assert await refused(node, "eth_getBlockByNumber", *params) == -32602


# geth --dev has nothing waiting: it mines what arrives.
@pytest.mark.parametrize("node", ["embedded", "anvil"], indirect=True)
async def test_a_payment_waits_in_the_pool_until_it_is_mined(node: TestNode) -> None:
    ask = node.wallet.request
    first, second = await node.pay_token(SHOP, 1), await node.pay_token(SHOP, 2)
    assert await node.mined_at(first) is None
    pending = await ask("eth_getTransactionByHash", second)
    assert (pending["blockHash"], pending["blockNumber"], pending["transactionIndex"]) == (None, None, None)
    counts = [int(await ask("eth_getTransactionCount", CUSTOMERS[0].address, tag), 16) for tag in ("latest", "pending")]
    assert counts == [0, 2]
    number = await node.mine()
    places = [await node.mined_at(first), await node.mined_at(second)]
    assert [(place.block_number, place.log_index) for place in places if place] == [(number, 0), (number, 1)]


async def test_logs_are_numbered_over_the_block(node: TestNode) -> None:
    await node.pay_batch([(SHOP, 1), (OTHER_SHOP, 2), (SHOP, 3)])
    await node.pay_native(SHOP, 10**15)
    await node.pay_token(SHOP, 4, CUSTOMERS[1].address)
    number = hex(await node.mine())
    logs = await node.wallet.request("eth_getLogs", {"fromBlock": number, "toBlock": number})
    assert [int(log["logIndex"], 16) for log in logs] == [0, 1, 2, 3]
    assert [int(log["transactionIndex"], 16) for log in logs] == [0, 0, 0, 2]
    receipts = await node.wallet.request("eth_getBlockReceipts", number)
    assert [log for receipt in receipts for log in receipt["logs"]] == logs


async def test_log_filters(node: TestNode) -> None:
    await node.pay_batch([(SHOP, 1), (OTHER_SHOP, 2)])
    first = await node.mine()
    await node.pay_token(SHOP, 3)
    last = await node.mine()
    to_shop, to_other = (account[2:].rjust(64, "0") for account in (SHOP, OTHER_SHOP))
    block_hash = (await node.wallet.request("eth_getBlockByNumber", hex(first), False))["hash"]

    async def amounts(**criteria: Any) -> list[int]:
        where = {} if "blockHash" in criteria else {"fromBlock": hex(first), "toBlock": hex(last)}
        return [int(log["data"], 16) for log in await node.wallet.request("eth_getLogs", {**where, **criteria})]

    assert await amounts() == [1, 2, 3]
    assert await amounts(address=node.usdt) == [1, 2, 3]
    assert await amounts(address=[SHOP, node.usdt]) == [1, 2, 3]
    assert await amounts(address=SHOP) == []
    assert await amounts(topics=[TRANSFER_TOPIC, None, "0x" + to_shop]) == [1, 3]
    assert await amounts(topics=[None, None, ["0x" + to_shop, "0x" + to_other]]) == [1, 2, 3]
    assert await amounts(topics=[["0x" + "11" * 32]]) == []
    assert await amounts(blockHash=block_hash) == [1, 2]
    assert await amounts(blockHash=block_hash, topics=[None, None, "0x" + to_other]) == [2]
    assert await refused(node, "eth_getLogs", {"blockHash": "0x" + "12" * 32}) in (-32000, -32602, -32603)


async def test_finalized_lags_and_block_times_do_not_run_ahead(node: TestNode) -> None:
    head = await node.mine(node.finality_depth + 5)
    finalized = await node.wallet.request("eth_getBlockByNumber", "finalized", False)
    assert int(finalized["number"], 16) == node.finalized_at(head)
    assert 0 < node.finalized_at(head) <= head
    latest = await node.wallet.request("eth_getBlockByNumber", "latest", False)
    assert int(latest["number"], 16) == head
    # geth's own blocks are a second apart at least.
    assert int(latest["timestamp"], 16) <= time.time() + (head if node.name.startswith("geth") else 1)


async def test_subscriptions_tell_heads_and_logs(node: TestNode) -> None:
    async with connect(node.url) as websocket:
        wanted = {"address": node.usdt, "topics": [TRANSFER_TOPIC, None, "0x" + SHOP[2:].rjust(64, "0")]}
        subscriptions = {}
        asked: list[list[Any]] = [["newHeads"], ["logs", wanted]]
        for number, params in enumerate(asked):
            request = {"jsonrpc": "2.0", "id": number, "method": "eth_subscribe", "params": params}
            await websocket.send(json.dumps(request))
            subscriptions[json.loads(await websocket.recv())["result"]] = params[0]
        await node.pay_batch([(OTHER_SHOP, 1), (SHOP, 2)])
        await node.mine()
        heard: dict[str, Any] = {}
        async with asyncio.timeout(5):
            while set(heard) != {"newHeads", "logs"}:
                message = json.loads(await websocket.recv())
                assert message["method"] == "eth_subscription"
                heard[subscriptions[message["params"]["subscription"]]] = message["params"]["result"]
        latest = await node.wallet.request("eth_getBlockByNumber", "latest", False)
        assert heard["newHeads"]["hash"] == latest["hash"]
        assert_shape(heard["newHeads"], HEADER, exactly=as_geth(node))
        assert_shape(heard["logs"], LOG, exactly=as_geth(node))
        assert (int(heard["logs"]["data"], 16), heard["logs"]["logIndex"]) == (2, "0x1")


async def test_a_reorganisation_removes_logs_and_announces_only_the_final_head(embedded: TestNode) -> None:
    paid = await embedded.pay_token(SHOP, 7)
    old = await embedded.mine(3) - 2
    async with connect(embedded.url) as websocket:
        for params in (["newHeads"], ["logs", {}]):
            await websocket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": params}))
            await websocket.recv()
        old_place = await embedded.mined_at(paid)
        new_place = await embedded.reorg_move(paid)
        assert old_place
        told = [json.loads(await websocket.recv())["params"]["result"] for _ in range(4)]
        logs = [(log["blockHash"], log["removed"], log["logIndex"]) for log in told[:3]]
        assert logs == [
            (old_place.block_hash, True, "0x0"),
            (new_place.block_hash, False, "0x0"),
            (new_place.block_hash, False, "0x1"),
        ]
        assert int(told[3]["number"], 16) == old + 3
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await websocket.recv()


async def test_web3_reads_the_chain(node: TestNode) -> None:
    from web3 import AsyncWeb3, WebSocketProvider

    paid = await node.pay_token(SHOP, 25_003417)
    await node.mine()
    async with AsyncWeb3(WebSocketProvider(node.url)) as web3:
        assert await web3.eth.chain_id == node.chain_id
        block = await web3.eth.get_block("latest", full_transactions=True)
        (transaction,) = block["transactions"]
        assert not isinstance(transaction, bytes)
        assert transaction["hash"].to_0x_hex() == paid
        receipt = await web3.eth.get_transaction_receipt(paid)
        abi = json.loads((CONTRACTS / "MockUSDT.json").read_text())["abi"]
        token = web3.eth.contract(web3.to_checksum_address(node.usdt), abi=abi)
        (event,) = token.events.Transfer().process_receipt(receipt)
        assert event["args"]["value"] == 25_003417
        assert len(await web3.eth.get_logs({"blockHash": block["hash"]})) == 1
        await web3.eth.subscribe("newHeads")
        await node.mine()
        async with asyncio.timeout(5):
            async for message in web3.socket.process_subscriptions():
                head: Any = message["result"]
                assert head["number"] == block["number"] + 1
                break
        # web3 fills in gas, fees, nonce and chain id by itself, with what the node tells.
        signer = web3.eth.account.from_key(CUSTOMERS[2].private_key)
        fields = {"from": signer.address, "to": web3.to_checksum_address(SHOP), "value": 5}
        fields["nonce"] = await web3.eth.get_transaction_count(signer.address)
        fields["gas"] = await web3.eth.estimate_gas(fields)
        fields["maxPriorityFeePerGas"] = await web3.eth.max_priority_fee
        fields["maxFeePerGas"] = 2 * await web3.eth.gas_price
        fields["chainId"] = node.chain_id
        sent = await web3.eth.send_raw_transaction(signer.sign_transaction(fields).raw_transaction)
        await node.mine()
        assert (await web3.eth.get_transaction_receipt(sent))["status"] == 1
        assert await web3.eth.get_balance(web3.to_checksum_address(SHOP)) == 5
