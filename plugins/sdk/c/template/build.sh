#!/bin/sh
# Builds hook.wasm. The tools come from PyPI and npm, into .souk.
set -eu
cd "$(dirname "$0")"
[ -x .souk/bin/python ] || python3 -m venv .souk
.souk/bin/python -m pip install --quiet --disable-pip-version-check ziglang==0.17.1
[ -d .souk/node_modules ] || npm install --silent --no-audit --no-fund --prefix .souk @bytecodealliance/jco-transpile@0.15.0
.souk/bin/python -m ziglang cc --target=wasm32-wasi -mexec-model=reactor -Os -s -I . \
    ./*.c full_hook_component_type.o -o .souk/core.wasm
(cd .souk && node ../component.mjs core.wasm ../hook.wasm)
