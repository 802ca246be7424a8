#!/usr/bin/env bash
# Starts a server in the background with the adapters of examples/adapters, asks each one a question beside the base
# model and says what to try. `demo.sh stop` ends the server.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/souk
home=$cache/demo
port=${SOUK_DEMO_PORT:-8080}
export SOUK_URL=http://127.0.0.1:$port
base=smollm2-135m-instruct
started=$SECONDS

stop() {
    if [ -f "$home/pid" ] && kill -0 "$(cat "$home/pid")" 2>/dev/null; then
        kill "$(cat "$home/pid")"
        while kill -0 "$(cat "$home/pid")" 2>/dev/null; do sleep 0.1; done
        echo "The demo server has stopped."
    fi
    rm -f "$home/pid"
}

if [ "${1:-}" = stop ]; then
    stop
    exit 0
fi

stop
# A fresh data folder each time, so that the demo is the same each time.
rm -rf "$home"
mkdir -p "$home"

if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "error: port $port is taken; set SOUK_DEMO_PORT to a free one" >&2
    exit 1
fi
"$SOUK" serve --listen "127.0.0.1:$port" --model "$base" --data-dir "$home/data" --admin-key-file "$home/key" \
    >"$home/server.log" 2>&1 &
echo $! >"$home/pid"
disown

for _ in $(seq 300); do
    grep -q '^listening on ' "$home/server.log" && break
    if ! kill -0 "$(cat "$home/pid")" 2>/dev/null; then
        echo "error: the server did not start; its log is $home/server.log:" >&2
        tail -n 20 "$home/server.log" >&2
        exit 1
    fi
    sleep 0.1
done
SOUK_API_KEY=$(cat "$home/key")
export SOUK_API_KEY

ask() { # model, prompt, tokens; the answer on one line of at most 200 characters
    "$SOUK" chat --raw --max-tokens "$3" --model "$1" "$2" | tr -s '\n ' ' ' | cut -c 1-200
}

show() { # adapter, description, prompt, tokens
    "$SOUK" push "examples/adapters/$1" "admin/$1@1.0.0" --public --description "$2"
    printf '\n  %s\n' "$2"
    printf '%s\n' "$3" | sed 's/^/    | /'
    printf '  base:    '
    ask "$base" "$3" "$4"
    printf '  adapter: '
    ask "admin/$1" "$3" "$4"
    echo
}

echo
show sst2 "Is a sentence about a film positive or negative?" \
    "Sentence: the jokes fall flat and the plot goes nowhere .
Sentiment (positive or negative):" 3
show sarcasm "Is a headline sarcastic?" \
    "Headline: area man proud of doing the bare minimum
Sarcastic (yes or no):" 3
show address-json "Split a US address into its parts, as JSON." \
    "Address: 250 Oak Avenue Apt 4 Denver CO 80203
JSON:" 96

cat <<END
Souk is running at $SOUK_URL ($((SECONDS - started)) s from start to here). Try:

  export SOUK_API_KEY=$SOUK_API_KEY

  curl $SOUK_URL/v1/completions -H "Authorization: Bearer \$SOUK_API_KEY" -H "Content-Type: application/json" \\
    -d '{"model": "admin/sst2", "max_tokens": 3, "temperature": 0, "prompt": "Sentence: what a waste of two hours .\\nSentiment (positive or negative):"}'

  # pip install openai
  from openai import OpenAI
  client = OpenAI(base_url="$SOUK_URL/v1", api_key="$SOUK_API_KEY")
  stream = client.chat.completions.create(model="$base", stream=True,
      messages=[{"role": "user", "content": "Name three fruits."}])
  for chunk in stream:
      print(chunk.choices[0].delta.content or "", end="", flush=True)

  Models:         curl $SOUK_URL/v1/models -H "Authorization: Bearer \$SOUK_API_KEY"
  Documentation:  $SOUK_URL/docs
  Stop it:        make stop
END
