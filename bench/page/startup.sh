#!/usr/bin/env bash
# Time from `souk serve` to ready and peak memory after a burst of requests, with the model in the cache.
set -euo pipefail
home=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$home"' EXIT

start=$(date +%s%N)
"$SOUK" serve --listen 127.0.0.1:0 --data-dir "$home/data" --admin-key-file "$home/key" >"$home/log" 2>&1 &
pid=$!
# The line is printed when the node has the model and the port answers.
until url=$(grep -oP '^listening on \K.*' "$home/log"); do
    kill -0 "$pid" || { cat "$home/log"; exit 1; }
    sleep 0.01
done
echo "time from start to ready: $((($(date +%s%N) - start) / 1000000)) ms"

export SOUK_URL=$url SOUK_API_KEY
SOUK_API_KEY=$(cat "$home/key")
for _ in $(seq 16); do
    "$SOUK" chat --max-tokens 64 "Tell me about the sea." >/dev/null &
    burst+=" $!"
done
# shellcheck disable=SC2086 # a list of process ids
wait $burst
model_kb=$(du -k "${XDG_CACHE_HOME:-$HOME/.cache}/souk/models/smollm2-135m-instruct/"*.gguf | cut -f1)
peak_kb=$(awk '/VmHWM/ {print $2}' "/proc/$pid/status")
echo "peak memory: $((peak_kb / 1024)) MiB after 16 concurrent answers (model file $((model_kb / 1024)) MiB, KV pool 256 MiB)"
