#!/bin/sh
# Puts anvil (by npm), geth and btcd (by Go) into build/nodes. Quick when they are already there. Ends with an error when one
# of them is still missing afterwards, but has tried all.
set -eu
ANVIL=1.7.1
GETH=1.16.7
BTCD=0.26.2
root=$(cd "$(dirname "$0")/../.." && pwd)
into="$root/build/nodes"
mkdir -p "$into"
missing=0

anvil() {
    if [ "$(node -p "require('$into/node_modules/@foundry-rs/anvil/package.json').version" 2>/dev/null)" = "$ANVIL" ]; then
        return
    fi
    if ! command -v npm >/dev/null; then
        echo "npm was not found: anvil is not fetched, its tests do not run" >&2
        return 1
    fi
    npm install --prefix "$into" --no-save --no-audit --no-fund "@foundry-rs/anvil@$ANVIL"
}

geth() {
    if "$into/bin/geth" version 2>/dev/null | grep -q "^Version: $GETH-"; then
        return
    fi
    if ! command -v go >/dev/null; then
        echo "Go was not found: geth is not built, its tests do not run" >&2
        return 1
    fi
    echo "building geth $GETH, which takes some minutes" >&2
    # Without cgo it needs no C compiler.
    CGO_ENABLED=0 GOBIN="$into/bin" go install "github.com/ethereum/go-ethereum/cmd/geth@v$GETH"
}

btcd() {
    if "$into/bin/btcd" --version 2>/dev/null | grep -q "^btcd version $BTCD-"; then
        return
    fi
    if ! command -v go >/dev/null; then
        echo "Go was not found: btcd is not built, its tests do not run" >&2
        return 1
    fi
    CGO_ENABLED=0 GOBIN="$into/bin" go install "github.com/btcsuite/btcd@v$BTCD"
}

anvil || missing=1
geth || missing=1
btcd || missing=1
exit $missing
