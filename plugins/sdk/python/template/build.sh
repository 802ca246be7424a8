#!/bin/sh
# Builds hook.wasm. The tool comes from PyPI, into .souk.
set -eu
cd "$(dirname "$0")"
[ -x .souk/bin/python ] || python3 -m venv .souk
.souk/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
.souk/bin/componentize-py --quiet -d hooks.wit -w full-hook componentize --stub-wasi hook -o hook.wasm
