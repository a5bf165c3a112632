#!/usr/bin/env bash
# Builds dist/js-example.wasm. It installs its tools into node_modules, once;
# LOCKGATE_NODE_MODULES names another folder for them.
set -euo pipefail
cd "$(dirname "$0")"

modules=${LOCKGATE_NODE_MODULES:-node_modules}
if ! cmp -s package.json "$modules/made"; then
    mkdir -p "$modules"
    # npm installs beside a package.json: into the folder's parent.
    parent=$(cd "$modules/.." && pwd)
    [ "$parent" = "$PWD" ] || cp package.json "$parent/"
    npm install --prefix "$parent" --no-audit --no-fund --no-package-lock --silent
    cp package.json "$modules/made"
fi

# To another name first: a host that watches the folder never sees half a file. `--sync`:
# Lockgate's contract is synchronous, and its engine takes no asynchronous components.
mkdir -p dist
"$modules/.bin/componentize-qjs" --sync --wit wit --world service --js app.js -o dist/.new >/dev/null
mv -f dist/.new dist/js-example.wasm
echo "dist/js-example.wasm ($(wc -c <dist/js-example.wasm) bytes)"
