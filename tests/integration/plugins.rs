//! WASM plugins: what they can do, and what a bad one cannot.

mod decisions;
mod faults;
mod languages;
mod new;
mod reload;
mod responses;
mod shipped;
mod store;

use std::path::Path;

use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::{Gateway, Response, guest, post};

use super::{BIN, CHAT, MODEL, chat, simulator, upstream};

/// A route `MODEL` over simulators `first` and `second`, with plugins as `plugins` lists them.
struct House {
    gateway: Gateway,
    first: Simulator,
    second: Simulator,
}

/// The faulty guest as a plugin called `name`, with more keys.
fn plugin(name: &str, more: &str) -> String {
    at(guest::faulty(), name, more)
}

fn at(file: &Path, name: &str, more: &str) -> String {
    format!("  - {{ name: {name}, source: \"{}\", {more} }}\n", file.display())
}

/// A configuration of two upstreams, `plugins`, and a route that runs those named in `chain`.
fn config(first: &Simulator, second: &Simulator, plugins: &str, chain: &str, more: &str) -> String {
    format!(
        "upstreams:\n{}{}plugins:\n{plugins}routes:\n  - model: \"{MODEL}\"\n    targets: [{{ upstream: first }}]\n    fallback: [{{ upstream: second }}]\n    plugins: [{chain}]\n{more}",
        upstream("first", first, "vram: 8GiB"),
        upstream("second", second, "vram: 80GiB"),
    )
}

async fn house(plugins: &str, chain: &str, more: &str) -> House {
    let (first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let text = config(&first, &second, plugins, chain, more);
    House { gateway: Gateway::start(BIN, &text), first, second }
}

/// A house of the one plugin `p`.
async fn with_plugin(more: &str) -> House {
    house(&plugin("p", more), "p", "").await
}

impl House {
    async fn chat(&self, more: &str) -> Response {
        post(self.gateway.data, CHAT, chat(more)).await
    }

    async fn failures(&self, kind: &str) -> f64 {
        let series = format!("sluicegate_plugin_failures_total{{plugin=\"p\",kind=\"{kind}\"}}");
        self.gateway.metric(&series).await
    }

    /// What the upstreams were sent last.
    fn last_body(&self) -> serde_json::Value {
        let last = self.second.recorder().last().or(self.first.recorder().last());
        serde_json::from_slice(&last.expect("a request was sent").body).expect("JSON")
    }
}
