#!/bin/sh
# The demo: a gateway on 127.0.0.1:8080 (PORT) before two fake Ollamas. Stops all on Ctrl-C.
set -eu
cd "$(dirname "$0")/.."
port=${PORT:-8080}
dir=$(mktemp -d)
pids=
trap 'kill $pids 2>/dev/null || true; rm -rf "$dir"' EXIT
trap 'exit 0' INT TERM

# start NAME: a simulator on a port the kernel chooses; sets $url and $pid
start() {
    target/release/sluicegate-simulator --models "$2" 2>"$dir/$1" &
    pid=$!
    pids="$pids $pid"
    until url=$(grep -o 'http://[0-9.:]*' "$dir/$1"); do
        kill -0 $pid 2>/dev/null || { cat "$dir/$1" >&2; exit 1; }
        sleep 0.05
    done
}

start first "llama3.2:3b=3,gpt-oss:20b=14,all-minilm:latest=1"
first_url=$url first_pid=$pid
start second "llama3.2:3b=3,all-minilm:latest=1"
second_url=$url

cat >"$dir/demo.yaml" <<EOF
listen: 127.0.0.1:$port
admin: 127.0.0.1:0
upstreams:
  first: { url: "$first_url", kind: ollama }
  second: { url: "$second_url", kind: ollama }
routes:
  - model: assistant
    targets: [{ upstream: first, model: "llama3.2:3b" }]
    fallback: [{ upstream: second, model: "llama3.2:3b" }]
EOF

cat <<EOF

Two fake Ollamas are running. In another terminal, stream a chat:

  curl -N http://127.0.0.1:$port/v1/chat/completions -d '{"model":"assistant","stream":true,
    "messages":[{"role":"user","content":"What is the answer?"}]}'

or point any OpenAI SDK at http://127.0.0.1:$port/v1 and ask for the model "assistant".
Then kill the first upstream and ask again; the second takes over:

  kill $first_pid

Ctrl-C stops the demo. The gateway says:

EOF
target/release/sluicegate serve --config "$dir/demo.yaml" &
gateway=$!
pids="$pids $gateway"
wait $gateway || { echo "demo: the gateway did not start; if port $port is taken: make demo PORT=8081" >&2; exit 1; }
