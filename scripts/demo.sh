#!/usr/bin/env bash
# Starts a server in the background with the adapters of examples/adapters, asks each one a question beside the base
# model and says what to try. `demo.sh stop` ends the server. What was published stays from one demo to the next.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/souk
home=${SOUK_DEMO_DIR:-$cache/demo}
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
# The log of the first start has the admin key.
umask 077
mkdir -p "$home"

if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "error: port $port is taken; set SOUK_DEMO_PORT to a free one" >&2
    exit 1
fi
rm -f "$home/server.log"
"$SOUK" serve --listen "127.0.0.1:$port" --model "$base" --data-dir "$home/data" --admin-key-file "$home/key" \
    >>"$home/server.log" 2>&1 &
echo $! >"$home/pid"
disown

for _ in $(seq 300); do
    grep -qs '^listening on ' "$home/server.log" && break
    if ! kill -0 "$(cat "$home/pid")" 2>/dev/null; then
        echo "error: the server did not start; its log is $home/server.log:" >&2
        tail -n 20 "$home/server.log" >&2
        exit 1
    fi
    sleep 0.1
done
# The key of the first start lies beside the data. Where it was lost, or is another folder's, a new one is made.
if ! SOUK_API_KEY=$(cat "$home/key" 2>/dev/null) "$SOUK" keys list >/dev/null 2>&1; then
    "$SOUK" keys recover --data-dir "$home/data" --admin-key-file "$home/key" 2>>"$home/server.log"
fi
SOUK_API_KEY=$(cat "$home/key")
export SOUK_API_KEY

publish() { # adapter, description, name if it is another; the version may be there from an earlier demo
    local said name=${3:-$1}
    if said=$("$SOUK" push "examples/adapters/$1" "admin/$name@1.0.0" --public --description "$2" 2>&1); then
        echo "$said"
    elif grep -q 'already exists' <<<"$said"; then
        echo "admin/$name@1.0.0 is there from an earlier demo"
    else
        echo "$said" >&2
        echo "To begin anew, remove what was published: rm -r $home/data $home/key" >&2
        return 1
    fi
}

ask() { # model, prompt, tokens; the answer on one line of at most 200 characters
    "$SOUK" chat --raw --max-tokens "$3" --model "$1" "$2" | tr -s '\n ' ' ' | cut -c 1-200
}

show() { # adapter, description, prompt, tokens
    publish "$1" "$2"
    printf '\n  %s\n' "$2"
    printf '%s\n' "$3" | sed 's/^/    | /'
    printf '  base:    '
    ask "$base" "$3" "$4"
    printf '  adapter: '
    ask "admin/$1" "$3" "$4"
    echo
}

hook() { # adapter, hook, configuration: has the publisher's hook act on whoever calls the adapter, unless it does already
    for _ in $(seq 600); do
        # The operator's hooks are compiled behind the first start.
        "$SOUK" hook show "$2" 2>/dev/null | grep -q ' ready ' && break
        sleep 0.1
    done
    "$SOUK" hook pipeline --adapter "$1@1.0.0" | grep -q "$2" || "$SOUK" hook attach "$2" --adapter "$1@1.0.0" --hook-config "$3"
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

publish sst2 "The same, with a hook of its publisher: callers send a plain text and get JSON." sst2-json
hook admin/sst2-json admin/lora-land '{"task": "sst2"}'
printf '\n  The same adapter with a hook: a plain text in, JSON out.\n    | the jokes fall flat and the plot goes nowhere .\n  adapter: '
"$SOUK" chat --model admin/sst2-json "the jokes fall flat and the plot goes nowhere ."
echo

# How to call the executable from here on: by name if it is on the PATH.
if [ "$(command -v souk)" -ef "$SOUK" ] || cmp -s "$(command -v souk)" "$SOUK"; then
    path_line="souk is $(command -v souk)."
else
    path_line="  export PATH=$(dirname "$SOUK"):\$PATH    # or: make install, which copies souk to ~/.local/bin"
fi

cat <<END
Souk is running at $SOUK_URL ($((SECONDS - started)) s from start to here). Try:

$path_line
  export SOUK_URL=$SOUK_URL SOUK_API_KEY=$SOUK_API_KEY

  souk chat "Name three fruits."
  souk push path/to/adapter admin/my-task@1.0.0    # yours, trained with PEFT: docs/start.md

  curl \$SOUK_URL/v1/completions -H "Authorization: Bearer \$SOUK_API_KEY" -H "Content-Type: application/json" \\
    -d '{"model": "admin/sst2", "max_tokens": 3, "temperature": 0, "prompt": "Sentence: what a waste of two hours .\\nSentiment (positive or negative):"}'

  # pip install openai
  from openai import OpenAI
  client = OpenAI(base_url="$SOUK_URL/v1", api_key="$SOUK_API_KEY")
  stream = client.chat.completions.create(model="$base", stream=True,
      messages=[{"role": "user", "content": "Name three fruits."}])
  for chunk in stream:
      print(chunk.choices[0].delta.content or "", end="", flush=True)

  Models:         curl \$SOUK_URL/v1/models -H "Authorization: Bearer \$SOUK_API_KEY"
  Documentation:  $SOUK_URL/docs
  Published:      stays in $home/data from one demo to the next
  Stop it:        make stop
END
