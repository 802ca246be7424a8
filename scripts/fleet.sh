#!/usr/bin/env bash
# Starts a fleet on this machine in the background: Redis, PostgreSQL, an S3 server, two registries, two gateways and three
# nodes of one thread each; publishes the adapters of examples/adapters, asks each one a question and says where to look.
# `fleet.sh stop` ends all of it. What was published stays from one fleet to the next.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/souk
home=${SOUK_FLEET_DIR:-$cache/fleet}
first=${SOUK_FLEET_PORT:-8090}
base=smollm2-135m-instruct
started=$SECONDS
# Each of them needs the one before it.
parts="redis postgres s3 registry-1 registry-2 gateway-1 gateway-2 node-1 node-2 node-3"

port() { # part: ten ports, from the first one on
    case $1 in
    gateway-1) echo $((first)) ;; gateway-2) echo $((first + 1)) ;;
    registry-1) echo $((first + 2)) ;; registry-2) echo $((first + 3)) ;;
    node-?) echo $((first + 3 + ${1#node-})) ;;
    redis) echo $((first + 7)) ;; postgres) echo $((first + 8)) ;; s3) echo $((first + 9)) ;;
    esac
}

url() { echo "http://127.0.0.1:$(port "$1")"; }

runs() { [ -f "$home/$1.pid" ] && kill -0 "$(cat "$home/$1.pid")" 2>/dev/null; }

stop() {
    local part any=
    for part in $(tr ' ' '\n' <<<"$parts" | tac); do
        if runs "$part"; then
            any=yes
            # PostgreSQL takes SIGINT for an end without waiting for who is connected.
            kill "-$([ "$part" = postgres ] && echo INT || echo TERM)" "$(cat "$home/$part.pid")"
            while runs "$part"; do sleep 0.1; done
        fi
        rm -f "$home/$part.pid"
    done
    if [ -n "$any" ]; then echo "The fleet has stopped."; fi
}

if [ "${1:-}" = stop ]; then
    stop
    exit 0
fi

stop
# Logs and files have keys and passwords.
umask 077
mkdir -p "$home"
for part in $parts; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$(port "$part")") 2>/dev/null; then
        echo "error: port $(port "$part") is taken, and ten from $first on are needed; set SOUK_FLEET_PORT to another" >&2
        exit 1
    fi
done

start() { # part, command: in the background, with its log and its pid in files
    local part=$1
    shift
    "$@" >"$home/$part.log" 2>&1 &
    echo $! >"$home/$part.pid"
    disown
}

await() { # part, seconds, command: until it succeeds
    local part=$1 tries=$(($2 * 10))
    shift 2
    for _ in $(seq "$tries"); do
        if "$@" >/dev/null 2>&1; then return; fi
        runs "$part" || break
        sleep 0.1
    done
    echo "error: $part did not start; its log is $home/$part.log:" >&2
    tail -n 20 "$home/$part.log" >&2
    exit 1
}

listens() { grep -qs '^listening on ' "$home/$1.log"; }
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$(port "$1")") 2>/dev/null; }

secret() { # name: made once
    if [ ! -s "$home/$1.secret" ]; then head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$home/$1.secret"; fi
    cat "$home/$1.secret"
}

# Redis: what is in it can be lost (docs/fleet.md); kept over a restart, nobody has to ask again.
mkdir -p "$home/redis"
cat >"$home/redis.conf" <<END
bind 127.0.0.1
port $(port redis)
dir $home/redis
requirepass $(secret redis)
maxmemory-policy noeviction
appendonly yes
save ""
END
start redis redis-server "$home/redis.conf"
await redis 20 answers redis

# PostgreSQL does not run as root.
programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)
if [ -z "$programs" ]; then
    echo "error: PostgreSQL is not installed; run: make setup" >&2
    exit 1
fi
unprivileged=()
database=$home/postgres
if [ "$(id -u)" = 0 ]; then
    unprivileged=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    # A folder that nobody else's way is shut to.
    database=/var/tmp/souk-fleet-postgres-$first
fi
if [ ! -f "$database/PG_VERSION" ]; then
    mkdir -p "$database"
    secret postgres >"$database.password"
    if [ "$(id -u)" = 0 ]; then chown nobody:nogroup "$database" "$database.password"; fi
    "${unprivileged[@]}" "$programs/initdb" -D "$database" -U souk --auth=scram-sha-256 --pwfile="$database.password" \
        --encoding=UTF8 --locale=C.UTF-8 >"$home/postgres.log" 2>&1
    rm "$database.password"
fi
start postgres "${unprivileged[@]}" "$programs/postgres" -D "$database" -c listen_addresses=127.0.0.1 \
    -c port="$(port postgres)" -c unix_socket_directories=
psql=(env PGPASSWORD="$(secret postgres)" "$programs/psql" -h 127.0.0.1 -p "$(port postgres)" -U souk -qtA)
await postgres 20 "${psql[@]}" postgres -c "SELECT 1"
if [ -z "$("${psql[@]}" postgres -c "SELECT 1 FROM pg_database WHERE datname = 'souk'")" ]; then
    "${psql[@]}" postgres -c "CREATE DATABASE souk ENCODING 'UTF8' TEMPLATE template0"
fi

# The S3 server of the tests: a real one, and slow.
mkdir -p "$home/bucket"
start s3 "$SOUK_S3" "$home/bucket" "127.0.0.1:$(port s3)"
await s3 20 listens s3

# What registries and gateways have to know of the base model.
[ -s "$home/base.json" ] || "$SOUK" models describe "$base" --file "$home/base.json"

registry() { # part
    SOUK_REGISTRY__DATABASE__URL="postgres://souk@127.0.0.1:$(port postgres)/souk" \
        SOUK_REGISTRY__DATABASE__PASSWORD=$(secret postgres) SOUK_REGISTRY__DATABASE__SSLMODE=disable \
        SOUK_OBJECTS__URL=s3://souk-objects/fleet SOUK_OBJECTS__ENDPOINT=$(url s3) \
        SOUK_OBJECTS__ACCESS_KEY_ID=SOUKTESTKEY SOUK_OBJECTS__SECRET_ACCESS_KEY=not-a-secret-at-all \
        start "$1" "$SOUK" registry --listen "127.0.0.1:$(port "$1")" --base "$home/base.json" \
        --data-dir "$home/registry" --admin-key-file "$home/key"
    await "$1" 60 listens "$1"
}
registry registry-1
registry registry-2

SOUK_URL=$(url registry-1)
export SOUK_URL
if ! SOUK_API_KEY=$(cat "$home/key" 2>/dev/null) "$SOUK" keys list >/dev/null 2>&1; then
    echo "error: $home/key is not the admin key of this fleet; to begin anew: rm -r $home $database" >&2
    exit 1
fi
SOUK_API_KEY=$(cat "$home/key")
export SOUK_API_KEY

service_key() { # part, kind: made once
    [ -s "$home/$1.key" ] || "$SOUK" services create "$1" --kind "$2" >"$home/$1.key" 2>/dev/null
    echo "$home/$1.key"
}
registries=$(url registry-1),$(url registry-2)
SOUK_REDIS__URL=redis://:$(secret redis)@127.0.0.1:$(port redis)/0
export SOUK_REDIS__URL

for part in gateway-1 gateway-2; do
    SOUK_GATEWAY__REGISTRIES=$registries SOUK_GATEWAY__REGISTRY_KEY_FILE=$(service_key "$part" gateway) \
        SOUK_GATEWAY__NODES=apart SOUK_GATEWAY__ADVERTISE=$(url "$part") \
        start "$part" "$SOUK" gateway --listen "127.0.0.1:$(port "$part")" --base "$home/base.json" --data-dir "$home/$part"
    await "$part" 60 listens "$part"
done
for part in node-1 node-2 node-3; do
    SOUK_NODE__REGISTRIES=$registries SOUK_NODE__REGISTRY_KEY_FILE=$(service_key "$part" node) \
        start "$part" "$SOUK" node --listen "127.0.0.1:$(port "$part")" --id "$part" --model "$base" --threads 1 \
        --data-dir "$home/$part"
done
for part in node-1 node-2 node-3; do
    await "$part" 120 curl -fsS "$(url "$part")/ready"
done
for part in gateway-1 gateway-2; do
    await "$part" 30 curl -fsS "$(url "$part")/ready"
done

publish() { # adapter, description; the version may be there from an earlier fleet
    local said
    if said=$("$SOUK" push "examples/adapters/$1" "admin/$1@1.0.0" --public --description "$2" 2>&1); then
        echo "$said"
    elif grep -q 'already exists' <<<"$said"; then
        echo "admin/$1@1.0.0 is there from an earlier fleet"
    else
        echo "$said" >&2
        return 1
    fi
}

ask() { # gateway, model, prompt, tokens; the answer on one line of at most 200 characters
    SOUK_URL=$(url "$1") "$SOUK" chat --raw --max-tokens "$4" --model "$2" "$3" | tr -s '\n ' ' ' | cut -c 1-200
}

show() { # adapter, description, prompt, tokens
    publish "$1" "$2"
    printf '\n  %s\n' "$2"
    printf '%s\n' "$3" | sed 's/^/    | /'
    local gateway
    for gateway in gateway-1 gateway-2; do
        printf '  %s: ' "$gateway"
        ask "$gateway" "admin/$1" "$3" "$4"
    done
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
A fleet is running ($((SECONDS - started)) s from start to here):

  gateways    $(url gateway-1)  $(url gateway-2)
  registries  $(url registry-1)  $(url registry-2)
  nodes       $(for part in node-1 node-2 node-3; do printf '%s/ready  ' "$(url "$part")"; done)
  Redis       127.0.0.1:$(port redis)    PostgreSQL  127.0.0.1:$(port postgres)    S3  127.0.0.1:$(port s3)

  export SOUK_URL=$(url gateway-1) SOUK_API_KEY=$SOUK_API_KEY
  $SOUK chat "Name three fruits."
  kill -9 \$(cat $home/node-1.pid)         # in the middle of it: the answer goes on

  Which node runs what:  curl -s $(url node-1)/metrics | grep souk_engine_running_sequences
  Where nodes are seen:  curl -s $(url gateway-1)/ready
  How a node started:    grep 'Ready after' $home/node-1.log
  Logs and data:         $home
  Stop it:               make fleet-stop
  What is lost when:     docs/fleet.md
END
