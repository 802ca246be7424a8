#!/usr/bin/env bash
# Makes the virtual environment of the tests: setup.sh FOLDER. Safe to run again; an interrupted run starts over.
set -euo pipefail
venv=$1
cd "$(dirname "$0")/.."

as_root=$([ "$(id -u)" = 0 ] || echo sudo)
if ! command -v openssl >/dev/null; then
    # Tests make a certificate with it.
    echo "setup: installing openssl" >&2
    $as_root apt-get update -q
    $as_root apt-get install -y -q --no-install-recommends openssl
fi
if ! ls /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1; then
    # A test sets a server's clock with it; tests/clocks.rs is ignored where it is missing.
    echo "setup: installing faketime" >&2
    $as_root apt-get update -q
    $as_root apt-get install -y -q --no-install-recommends faketime
    # Whether it is there is asked when this file changes.
    touch Cargo.toml
fi
if ! command -v sqlite3 >/dev/null; then
    # A test takes a backup with it, as docs/operate.md says.
    echo "setup: installing sqlite3" >&2
    $as_root apt-get update -q
    $as_root apt-get install -y -q --no-install-recommends sqlite3
fi
if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    # The registry's tests run on it too; registry/tests/api_postgres is ignored where it is missing.
    echo "setup: installing postgresql" >&2
    $as_root apt-get update -q
    $as_root apt-get install -y -q --no-install-recommends postgresql
    # Whether it is there is asked when these files change.
    touch Cargo.toml registry/Cargo.toml migrations/Cargo.toml
fi
if ! command -v redis-server >/dev/null; then
    # Limits and the queue are tested on it too, each test with a server of its own; those tests are ignored where it is missing.
    echo "setup: installing redis-server" >&2
    $as_root apt-get update -q
    # The package would start a server that nobody needs.
    $as_root env RUNLEVEL=1 apt-get install -y -q --no-install-recommends redis-server
    # Whether it is there is asked when this file changes.
    touch limits/Cargo.toml queue/Cargo.toml redis/Cargo.toml
fi

rm -rf "$venv"
if ! python3 -m venv "$venv" 2>/dev/null; then
    # Debian ships the venv module apart from Python.
    echo "setup: installing python3-venv" >&2
    rm -rf "$venv"
    $as_root apt-get update -q
    $as_root apt-get install -y -q --no-install-recommends python3-venv
    python3 -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
touch "$venv/.ready"
