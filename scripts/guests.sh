#!/usr/bin/env bash
# Builds the hooks of plugins/examples from the package registries alone: guests.sh [LANGUAGE...], of rust, c, js and python (all of them).
# Tools come by package name into the cache; nothing else on the machine changes. Components go to guests/built in the cache. RECORD=1
# also copies them to plugins/tests/guests, which the tests use, with a line each in RECORDED; Python's, of 18 MB, stay in the cache.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
cache=${XDG_CACHE_HOME:-$HOME/.cache}/souk/guests
built=${BUILT:-$cache/built}
recorded=$root/plugins/tests/guests
wit=$root/plugins/wit/since-v0.1.0
mkdir -p "$cache" "$built"

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
    local host bin target flags
    host=$(rustc -vV | sed -n 's/^host: //p')
    # The linker that makes components comes with rustup's compiler.
    bin=$(rustc --print sysroot)/lib/rustlib/$host/bin
    target=${GUESTS_TARGET_DIR:-$cache/target}
    # The order of what is in a component depends on where its sources lie, so they always lie here; and they are young, for what cargo
    # built here last may have been of another checkout.
    rm -rf "$cache/source"
    mkdir -p "$cache/source"
    cp -r plugins/sdk plugins/examples "$cache/source"
    flags="-C link-arg=--wasm-ld-path=$bin/gcc-ld/wasm-ld --remap-path-prefix=$cache/source=plugins"
    flags+=" --remap-path-prefix=$("$cache/debian/rustc" --print sysroot)/lib/rustlib/src/rust=rust"
    flags+=" --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=registry"
    (
        cd "$cache/source/examples"
        RUSTC=$cache/debian/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target \
            CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$bin/wasm-component-ld \
            CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS=$flags \
            cargo build --locked --release --target wasm32-unknown-unknown -Zbuild-std=std,panic_abort
    )
    local manifest name compiler
    compiler="$("$cache/debian/rustc" --version), linked by that of $(rustc --version), in $cache"
    for manifest in plugins/examples/*/Cargo.toml; do
        name=$(basename "$(dirname "$manifest")")
        keep "$name" "$target/wasm32-unknown-unknown/release/${name//-/_}.wasm" bytes "$compiler"
    done
}

# A component that was built: keep NAME FILE WHAT-A-REBUILD-HAS-IN-COMMON COMPILER.
keep() {
    local name=$1 file=$2 same=$3 compiler=$4
    [ "$file" -ef "$built/$name.wasm" ] || cp "$file" "$built/$name.wasm"
    # The conformance tests compare with the bytes that were recorded only where this is the compiler that was, too.
    echo "$compiler" > "$built/$name.compiler"
    [ -n "${RECORD:-}" ] || return 0
    local line
    line="$name.wasm | $(sha256sum "$built/$name.wasm" | cut -d' ' -f1) | $same | $compiler"
    [ "$(stat -c %s "$built/$name.wasm")" -gt $((4 << 20)) ] || cp "$built/$name.wasm" "$recorded/$name.wasm"
    touch "$recorded/RECORDED"
    { grep -v "^$name.wasm |" "$recorded/RECORDED" || true; echo "$line"; } | LC_ALL=C sort > "$built/RECORDED"
    cp "$built/RECORDED" "$recorded/RECORDED"
}

# npm_tools PACKAGE@VERSION...: into a folder of their own.
npm_tools() {
    local want="$*"
    [ "$(cat "$cache/npm/.ready" 2>/dev/null)" = "$want" ] && return
    rm -rf "$cache/npm"
    mkdir -p "$cache/npm"
    (cd "$cache/npm" && npm install --no-audit --no-fund --loglevel=error "$@" >&2)
    echo "$want" > "$cache/npm/.ready"
}

# pip_tools PACKAGE==VERSION: into an environment that all share.
pip_tools() {
    [ -x "$cache/venv/bin/python" ] || python3 -m venv "$cache/venv"
    "$cache/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$1"
}

build_js() {
    npm_tools "componentize-qjs@$componentize_qjs" "@bytecodealliance/jco-transpile@$jco_transpile"
    local folder name work
    for folder in plugins/examples/*-js; do
        name=$(basename "$folder")
        work=$(mktemp -d)
        cp plugins/sdk/js/souk-hook.js "$folder"/*.js "$work"
        "$cache/npm/node_modules/.bin/componentize-qjs" --wit "$wit" -n full-hook --js "$work/hook.js" --module-root "$work" \
            --stub-wasi --sync --minify --opt-size -o "$built/$name.wasm" >&2
        rm -r "$work"
        # It is a picture of a memory, and that is never twice the same.
        keep "$name" "$built/$name.wasm" behaviour "componentize-qjs $componentize_qjs"
    done
}

build_c() {
    npm_tools "componentize-qjs@$componentize_qjs" "@bytecodealliance/jco-transpile@$jco_transpile"
    pip_tools "ziglang==$ziglang"
    local folder name bindings=plugins/sdk/c/bindings/full-hook
    for folder in plugins/examples/*-c; do
        name=$(basename "$folder")
        "$cache/venv/bin/python" -m ziglang cc --target=wasm32-wasi -mexec-model=reactor -Os -s -I plugins/sdk/c -I $bindings \
            "$folder"/*.c plugins/sdk/c/souk_hook.c $bindings/full_hook.c $bindings/full_hook_component_type.o -o "$built/$name.core"
        (cd "$cache/npm" && node "$root/plugins/sdk/c/component.mjs" "$built/$name.core" "$built/$name.wasm")
        rm "$built/$name.core"
        keep "$name" "$built/$name.wasm" bytes "ziglang $ziglang"
    done
}

build_python() {
    pip_tools "componentize-py==$componentize_py"
    local folder name work
    for folder in plugins/examples/*-python; do
        name=$(basename "$folder")
        work=$(mktemp -d)
        cp plugins/sdk/python/souk_hook.py "$folder"/*.py "$work"
        (cd "$work" && "$cache/venv/bin/componentize-py" --quiet -d "$wit" -w full-hook componentize --stub-wasi hook -o "$built/$name.wasm")
        rm -r "$work"
        keep "$name" "$built/$name.wasm" behaviour "componentize-py $componentize_py"
    done
}

[ $# -gt 0 ] || set -- rust c js python
for language in "$@"; do
    case $language in
        rust | c | js | python) "build_$language" ;;
        *) echo "guests: no language $language; there are rust, c, js and python" >&2; exit 2 ;;
    esac
done
# Whether they are there is asked when these files change.
touch Cargo.toml plugins/Cargo.toml
