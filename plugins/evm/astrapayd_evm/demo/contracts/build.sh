#!/bin/sh
# Compiles MockUSDT.sol into MockUSDT.json (ABI, bytecode and everything needed to get the same bytes again).
#   sh plugins/evm/astrapayd_evm/demo/contracts/build.sh [OUTPUT.json]
# Needs node and npm. The pinned compiler goes into build/solc of the repository; nothing is installed globally.
set -eu
SOLC=0.8.28
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../../../.." && pwd)
tool="$root/build/solc"
if [ ! -f "$tool/node_modules/solc/package.json" ]; then
    mkdir -p "$tool"
    npm install --prefix "$tool" --no-save --no-audit --no-fund --ignore-scripts "solc@$SOLC" >&2
fi
NODE_PATH="$tool/node_modules" exec node "$here/compile.js" "$SOLC" "$here/MockUSDT.sol" "${1:-$here/MockUSDT.json}"
