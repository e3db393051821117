#!/bin/sh
# Every test, in the order in which a failure is cheapest to find.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/target/clients/bin:$PATH:/usr/sbin:/sbin

SLUICEGATE_PYTHON=$PWD/target/clients/python/bin/python
SLUICEGATE_NODE=$(command -v node)
MODULES=$PWD/target/clients/node
SLUICEGATE_COMPONENTIZE_PY=$PWD/target/clients/componentize-py/bin/componentize-py
SLUICEGATE_COMPONENTIZE_JS=$PWD/target/clients/componentize-js
export SLUICEGATE_PYTHON SLUICEGATE_NODE MODULES SLUICEGATE_COMPONENTIZE_PY SLUICEGATE_COMPONENTIZE_JS

cargo fmt --all --check
# With every feature; what `make run` builds has none, and is run at the end.
ALL="--workspace --features sluicegate/local-embedder"
cargo clippy $ALL --all-targets -- -D warnings
(cd plugins && cargo fmt --all --check)
# Plugins are a workspace of their own, tested natively: they need no gateway for that.
PLUGINS="--manifest-path plugins/Cargo.toml --target-dir target/plugins"
cargo clippy $PLUGINS --all-targets -- -D warnings
cargo test --quiet $PLUGINS
# Guests first: their compilers would compete with tests that watch the clock.
cargo test $ALL --test integration -- plugins::languages plugins::new
cargo test $ALL
# The demo's scenario, with what `make run` builds: it fails if any request does.
cargo build --workspace --bin sluicegate --bin sluicegate-simulator
ONCE=1 PORT=0 ADMIN_PORT=0 BIN=target/debug sh tests/demo.sh
# A while of fuzzing; longer by hand: cargo run -p sluicegate-fuzz -- 600
cargo run --quiet --package sluicegate-fuzz -- 5
