#!/usr/bin/env bash
# Builds dist/js-example.wasm. It installs its tools into node_modules, once.
set -euo pipefail
cd "$(dirname "$0")"

if ! cmp -s package.json node_modules/made; then
    npm install --no-audit --no-fund --no-package-lock --silent
    cp package.json node_modules/made
fi

# To another name first: a host that watches the folder never sees half a file.
mkdir -p dist
node build.mjs dist/.new
mv -f dist/.new dist/js-example.wasm
echo "dist/js-example.wasm ($(wc -c <dist/js-example.wasm) bytes)"
