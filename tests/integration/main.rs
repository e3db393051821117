//! The gateway over real sockets: each test starts it as a process, with simulated upstreams.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test that cannot set up its world has failed, and its clock is the real one"
)]

// What is sent upstream is what the client sent.
mod forward;
// Streams: relayed as they come, watched to their end.
mod streams;
// One upstream fails, another serves.
mod failover;
// Several can serve.
mod replicas;
// The client leaves, in every phase.
mod leaving;
// Everything that is bounded.
mod limits;
// Requests that mean two things at once.
mod framing;
// What becomes of connections, on either side.
mod connections;
// Each endpoint, each error, browsers.
mod endpoints;
// API keys.
mod keys;
// The official SDKs.
mod clients;
// The configuration file: checked, reloaded.
mod config;
// TLS, metrics, logs, signals.
mod operations;
// What is shipped for Prometheus and Grafana.
mod monitoring;
// WASM plugins.
mod plugins;
// Answers given again.
mod cache;
// The GPUs of the machine.
mod gpus;
// An upstream in a container.
mod container;
// Routes with options: Ollama's own API.
mod native;
// Prompts longer than their model's context.
mod long_prompts;
// Admission by what the memory of the GPUs holds.
mod vram;
// All of it at once.
mod chaos;

use std::time::Duration;

use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::Gateway;

const BIN: &str = env!("CARGO_BIN_EXE_sluicegate");
const CHAT: &str = "/v1/chat/completions";
const MODEL: &str = "llama3.2:3b";

/// A chat request, with further members.
fn chat(more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}]{comma}{more}}}"#)
}

async fn simulator(settings: Settings) -> Simulator {
    Simulator::start(settings).await.expect("a simulator")
}

/// Settings with a pause between tokens.
fn paced(tokens: usize, interval: Duration) -> Settings {
    Settings { tokens, token_interval: interval, ..Settings::default() }
}

fn upstream(name: &str, simulator: &Simulator, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    format!("  {name}: {{ url: \"{}\", kind: ollama{comma}{more} }}\n", simulator.url())
}

/// One gateway before one simulator.
async fn pair(settings: Settings, more: &str) -> (Gateway, Simulator) {
    let simulator = simulator(settings).await;
    let config = format!("{more}\nupstreams:\n{}", upstream("host", &simulator, ""));
    (Gateway::start(BIN, &config), simulator)
}
