#!/usr/bin/env bash
# Builds dist/python-example.wasm. It installs its tools into .venv, once;
# LOCKGATE_PYTHON_ENV names another folder for them.
set -euo pipefail
cd "$(dirname "$0")"

env=${LOCKGATE_PYTHON_ENV:-.venv}
if ! cmp -s requirements.txt "$env/made"; then
    python3 -m venv --clear "$env"
    "$env/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt "$env/made"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$env/bin/componentize-py" --quiet -d wit -w service componentize app -o "$work/app.wasm"
# What names sockets is joined with a component that has none: see no-sockets.wit.
"$env/bin/wasm-tools" component wit "$work/app.wasm" --out-dir "$work/wit" >/dev/null 2>&1
mv "$work/wit/component.wit" "$work/component.wit"
cp no-sockets.wit "$work/wit/"
"$env/bin/wasm-tools" component embed --dummy "$work/wit" -w no-sockets -o "$work/core.wasm"
"$env/bin/wasm-tools" component new "$work/core.wasm" -o "$work/none.wasm"
"$env/bin/wasm-tools" compose -d "$work/none.wasm" "$work/app.wasm" -o "$work/whole.wasm" \
    >/dev/null 2>&1

# To another name first: a host that watches the folder never sees half a file.
mkdir -p dist
cp "$work/whole.wasm" dist/.new
mv -f dist/.new dist/python-example.wasm
echo "dist/python-example.wasm ($(wc -c <dist/python-example.wasm) bytes)"
