#!/usr/bin/env bash
# Builds the hooks of plugins/examples from the package registries alone: guests.sh [LANGUAGE...], of rust, c, js and python (all of them).
# Tools come by package name into the cache, nothing is installed beside it. Components go to plugins/tests/guests, but for Python's,
# which is too large to be committed and stays in the cache. OUT=FOLDER puts them elsewhere. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
cache=${XDG_CACHE_HOME:-$HOME/.cache}/souk/guests
out=${OUT:-$root/plugins/tests/guests}
wit=$root/plugins/wit/since-v0.1.0
mkdir -p "$cache" "$out"

# Versions that npm and pip are asked for. Debian keeps one version of its compiler, so none is named.
componentize_qjs=0.4.5
jco_transpile=0.15.0
componentize_py=0.25.1
ziglang=0.17.1

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Debian's rustc-web, unpacked: a compiler with the source of its own standard library, which rustup's stable channel lacks here.
rust_tools() {
    local folder=$cache/debian
    [ -e "$folder/.ready" ] && return
    rm -rf "$folder" "$folder.packages"
    mkdir -p "$folder" "$folder.packages"
    (
        cd "$folder.packages"
        apt-cache show rustc-web >/dev/null 2>&1 || as_root apt-get update -q >&2
        # Its libraries have its version in their names.
        std=$(apt-cache depends rustc-web | grep -o 'libstd-rust-web-[0-9][0-9.]*' | head -1)
        llvm=$(apt-cache depends "$std" | grep -o 'libllvm[0-9]*' | head -1)
        apt-get download -q rustc-web rust-web-src libstd-rust-web-dev "$std" "$llvm" >&2
        for package in *.deb; do dpkg -x "$package" "$folder"; done
    )
    rm -rf "$folder.packages"
    cat > "$folder/rustc" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH=$folder/usr/lib/$(uname -m)-linux-gnu exec $folder/usr/bin/rustc "\$@"
WRAPPER
    chmod +x "$folder/rustc"
    touch "$folder/.ready"
}

build_rust() {
    rust_tools
    local host sysroot bin target
    host=$(rustc -vV | sed -n 's/^host: //p')
    # The linker that makes components comes with rustup's compiler.
    bin=$(rustc --print sysroot)/lib/rustlib/$host/bin
    sysroot=$("$cache/debian/rustc" --print sysroot)
    target=${GUESTS_TARGET_DIR:-$cache/target}
    # Where the sources lie must not show in the bytes.
    local flags="-C link-arg=--wasm-ld-path=$bin/gcc-ld/wasm-ld --remap-path-prefix=$root/plugins=plugins"
    flags+=" --remap-path-prefix=$(readlink -f "$sysroot/lib/rustlib/src/rust")=rust"
    flags+=" --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=registry"
    (
        cd plugins/examples
        RUSTC=$cache/debian/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target \
            CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$bin/wasm-component-ld \
            CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS=$flags \
            cargo build --locked --release --target wasm32-unknown-unknown -Zbuild-std=std,panic_abort
    )
    local folder name
    for folder in plugins/examples/*/Cargo.toml; do
        name=$(basename "$(dirname "$folder")")
        cp "$target/wasm32-unknown-unknown/release/${name//-/_}.wasm" "$out/$name.wasm"
    done
}

for language in "${@:-rust}"; do "build_$language"; done
