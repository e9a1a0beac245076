#!/bin/sh
# Puts anvil into build/nodes. Quick when it is already there.
set -eu
ANVIL=1.7.1
root=$(cd "$(dirname "$0")/../.." && pwd)
into="$root/build/nodes"
have=$(node -p "require('$into/node_modules/@foundry-rs/anvil/package.json').version" 2>/dev/null || true)
if [ "$have" = "$ANVIL" ]; then
    exit 0
fi
mkdir -p "$into"
npm install --prefix "$into" --no-save --no-audit --no-fund "@foundry-rs/anvil@$ANVIL"
