#!/bin/sh
# The demo: a gateway on 127.0.0.1:8080 (PORT) before two fake Ollamas, one of them with a fake GPU of
# 16 GB. Plays a scenario, then stays for you to try things, until Ctrl-C; with ONCE=1 it ends after
# the scenario, and fails if any request did.
set -eu
cd "$(dirname "$0")/.."
port=${PORT:-8080}
bin=${BIN:-target/release}
dir=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null || true; rm -rf "$dir"' EXIT
trap 'exit 0' INT TERM

# start NAME ARGUMENTS: a simulator on a port the kernel chooses; sets $url and $pid
start() {
    name=$1
    shift
    "$bin/sluicegate-simulator" "$@" 2>"$dir/$name" &
    pid=$!
    pids="$pids $pid"
    until url=$(grep -o 'http://[0-9.:]*' "$dir/$name"); do
        kill -0 $pid 2>/dev/null || { cat "$dir/$name" >&2; exit 1; }
        sleep 0.05
    done
}

start host --models "gpt-oss:20b=14.2,all-minilm:latest=1" --vram 16 --card "$dir/card" --tokens 8 --interval 45 --first 50
host_url=$url host_pid=$pid
start container --models "llama3.2:3b=3,all-minilm:latest=1" --tokens 8 --interval 45 --first 50

cat >"$dir/demo.yaml" <<END
listen: 127.0.0.1:$port
admin: 127.0.0.1:${ADMIN_PORT:-9464}
state_dir: $dir/state
gpus: { probe: amdgpu, amdgpu_root: "$dir/card", poll: 200ms }
upstreams:
  host: { url: "$host_url", kind: ollama, max_concurrent: 4, models: { "gpt-oss:20b": { warm: true } } }
  container: { url: "$url", kind: ollama, gpus: none }
routes:
  - model: assistant
    targets: [{ upstream: host, model: "gpt-oss:20b" }]
    fallback: [{ upstream: container, model: "llama3.2:3b" }]
admission:
  vram: { trip: percent, warn: 85%, critical: 95%, recover: 90%, poll: 200ms, recover_after: 3s }
breaker: { open_for: 1s }
END
"$bin/sluicegate" serve --config "$dir/demo.yaml" >"$dir/access" 2>"$dir/gateway" &
gateway=$!
pids="$pids $gateway"
until grep -q '^  *admin' "$dir/gateway"; do
    kill -0 $gateway 2>/dev/null || {
        cat "$dir/gateway" >&2
        echo "demo: the gateway did not start; if a port is taken: make demo PORT=8081 ADMIN_PORT=9465" >&2
        exit 1
    }
    sleep 0.05
done
data=$(grep -o 'http://[0-9.:]*/v1' "$dir/gateway" | head -1)
SLUICEGATE_ADMIN=$(sed -n 's/^  *admin  *\(http:..[0-9.:]*\).*/\1/p' "$dir/gateway")
export SLUICEGATE_ADMIN

say() { printf '\n=== %s\n\n' "$1"; }

# Asks as fast as answers come, one line for each: status and upstream.
traffic() {
    while :; do
        curl -s -o /dev/null --max-time 30 -D "$dir/head" "$data/chat/completions" \
            -d '{"model":"assistant","max_tokens":8,"messages":[{"role":"user","content":"hello"}]}' || true
        awk -v at="$(date +%T)" '/^HTTP/ { status = $2 } tolower($1) == "x-sluicegate-upstream:" { upstream = $2 }
            END { gsub("\r", "", upstream); print status, upstream, at }' "$dir/head" >>"$dir/answers"
        : >"$dir/head"
    done
}

# answered_by UPSTREAM: waits until the newest answers come from there
answered_by() {
    tries=0
    until tail -n 3 "$dir/answers" 2>/dev/null | awk -v up="$1" '$2 == up { n++ } END { exit n < 3 }'; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || { echo "demo: $1 does not take over" >&2; "$bin/sluicegate" status; exit 1; }
        sleep 0.1
    done
}

scenario() {
    say "1. Normal traffic: gpt-oss:20b takes 14.2 of the 16 GB on the host"
    : >"$dir/head"
    traffic &
    traffic=$!
    pids="$pids $traffic"
    answered_by host
    "$bin/sluicegate" status
    say "2. Another program takes GPU memory: 95 % is passed, and the container takes over"
    curl -s "$host_url/_card" -d '{"foreign_bytes": 1610612736}'
    answered_by container
    "$bin/sluicegate" status
    say "3. It gives the memory back: below 90 % for 3 s, and the host serves again"
    curl -s "$host_url/_card" -d '{"foreign_bytes": 0}'
    answered_by host
    kill $traffic
    "$bin/sluicegate" status
    say "4. What the clients saw, and what Prometheus sees"
    awk '{ all++; by[$2]++ } $1 != 200 { failed++ }
        END { for (up in by) print by[up], "answers from", up; print all, "requests,", failed + 0, "failed" }' "$dir/answers"
    curl -s "$SLUICEGATE_ADMIN/metrics" | grep -E '^sluicegate_(breaker_changes|residency_loads|residency_gpu_ratio)' | grep -v NaN
    ! awk '$1 != 200 { failed = 1 } END { exit !failed }' "$dir/answers"
}

if command -v curl >/dev/null; then
    scenario
else
    echo "demo: there is no curl, so the scenario is left out" >&2
fi
[ "${ONCE:-0}" = 0 ] || exit 0
cat <<END

The demo goes on. In another terminal, watch it:

  $bin/sluicegate status --watch --admin $SLUICEGATE_ADMIN

stream a chat, or point any OpenAI SDK at $data and ask for the model "assistant":

  curl -N $data/chat/completions -d '{"model":"assistant","stream":true,
    "messages":[{"role":"user","content":"What is the answer?"}]}'

take GPU memory away, and give it back with 0:

  curl $host_url/_card -d '{"foreign_bytes": 1610612736}'

or kill the host; the container takes over:

  kill $host_pid

Ctrl-C stops the demo.
END
wait $gateway
