#!/usr/bin/env bash
# Builds dist/rust-example.wasm: with rustup's standard library for wasm32-wasip2, or, where
# that cannot be fetched, with Debian's compiler, which builds the library itself.
#   PLUGIN_WAY=usual|debian   takes that way only
#   CARGO_TARGET_DIR          cargo's target folder (default target)
set -euo pipefail
cd "$(dirname "$0")"

name=rust-example
triple=wasm32-wasip2
target=${CARGO_TARGET_DIR:-target}
packages=(rustc-web cargo-web rust-web-src wasi-libc)

# Fetching has a time limit: a closed network may not refuse, but hang.
usual_ready() {
    command -v rustup >/dev/null || return 1
    rustup target list --installed 2>/dev/null | grep -qx "$triple" ||
        timeout 90 rustup target add "$triple" >/dev/null 2>&1
}

debian_ready() {
    command -v dpkg >/dev/null && dpkg -s "${packages[@]}" >/dev/null 2>&1
}

# The linker for components comes with rustup's toolchain also where Debian's compiler
# does the work.
build_debian() {
    local tools
    tools=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
    env -u CARGO -u RUSTUP_TOOLCHAIN \
        PATH="$tools:$tools/gcc-ld:$PATH" RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc \
        RUSTFLAGS="-L native=/usr/lib/wasm32-wasi -Clink-self-contained=no" \
        /usr/bin/cargo "$@" -Z build-std=std,panic_abort
}

build_usual() { cargo "$@"; }

way=${PLUGIN_WAY:-}
if [ -z "$way" ]; then
    if usual_ready; then
        way=usual
    elif debian_ready; then
        way=debian
    else
        echo "no way to compile for $triple: rustup cannot fetch it, and Debian's packages are not there: apt-get install ${packages[*]}" >&2
        exit 1
    fi
fi
case $way in usual | debian) ;; *) echo "PLUGIN_WAY is usual or debian, not $way" >&2; exit 2 ;; esac
"build_$way" build --lib --release --target "$triple" --target-dir "$target"

# To another name first: a host that watches the folder never sees half a file.
mkdir -p dist
cp "$target/$triple/release/plugin.wasm" dist/.new
mv -f dist/.new "dist/$name.wasm"
echo "dist/$name.wasm ($(wc -c <"dist/$name.wasm") bytes), built the $way way"
