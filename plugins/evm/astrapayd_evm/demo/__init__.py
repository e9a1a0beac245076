"""An embedded EVM chain for `astrapayd demo` and for tests: real execution (py-evm), a real
JSON-RPC websocket, worthless money.

- `server`: the chain as a process, `python -m astrapayd_evm.demo.server`;
- `wallet`: what a customer's wallet does, over the same websocket;
- `chain`, `evm`, `pool`, `blocks`: the chain itself;
- `methods`, `shapes`, `filters`, `rpc_errors`: what a node answers, in geth's words.

Nothing here is imported by the daemon on its normal path: py-evm costs more than half a second.
"""
