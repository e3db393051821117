//! Admission by what the GPU's memory holds, before a simulated Ollama whose card the gateway reads.

// What is loaded, evicted, waited for.
mod residency;
// When an upstream is left alone.
mod breaker;
// Who waits, how long, in which order.
mod queue;
// Models larger than the card.
mod offload;
// Models that are kept loaded, and what outlives the process.
mod kept;
// What people see and do.
mod operate;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use sluicegate_simulator::{Model, Settings, Simulator};
use sluicegate_test_support::{Connection, Gateway, Response, eventually, get, post, request};
use tempfile::TempDir;

use super::{BIN, CHAT, upstream};

const GIB: u64 = 1 << 30;
const A: &str = "a:1";
const B: &str = "b:1";
/// Periods short enough to wait for.
const QUICK_VRAM: &str = "poll: 50ms, trip_after: 100ms, recover_after: 300ms";
const QUICK_QUEUE: &str = "min_residency: 200ms, max_starvation: 1s";

/// A simulated Ollama with a card.
struct Host {
    simulator: Simulator,
    dir: TempDir,
}

/// Models of so many GiB on a card of `vram` GiB.
fn card(vram: u64, models: &[(&str, u64)]) -> Settings {
    let models = models.iter().map(|(name, gib)| Model::new(name, *gib)).collect();
    Settings { models, vram: vram << 30, ..Settings::default() }
}

impl Host {
    async fn start(settings: Settings) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let card = Some(dir.path().to_owned());
        Self { simulator: super::simulator(Settings { card, ..settings }).await, dir }
    }

    /// Has the gateway read the card.
    fn gpus(&self) -> String {
        let root = self.dir.path().display();
        format!("gpus: {{ probe: amdgpu, amdgpu_root: \"{root}\", poll: 50ms }}\n")
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn loads(&self, model: &str) -> usize {
        self.simulator.scheduler().loads(model)
    }

    /// Unloads a model behind the gateway's back.
    async fn unload(&self, model: &str) {
        let body = format!(r#"{{"model":"{model}","keep_alive":0}}"#);
        self.told("/api/generate", &body).await;
    }

    /// Uses a model behind the gateway's back.
    async fn direct(&self, model: &str) {
        self.told(CHAT, &ask(model, "")).await;
    }

    async fn told(&self, path: &str, body: &str) {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}");
        let answer = request(self.simulator.address(), &head, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// What a test sets beside the quick periods.
#[derive(Default)]
struct Terms<'a> {
    queue: &'a str,
    vram: &'a str,
    /// Further keys of `admission`.
    admission: &'a str,
    /// Further keys of the upstream `host`.
    host: &'a str,
    /// Further top-level keys, by line.
    more: &'a str,
}

fn comma(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(", {text}") }
}

impl Terms<'_> {
    fn config(&self, host: &Host) -> String {
        let Self { queue, vram, admission, host: keys, more } = self;
        format!(
            "{gpus}{more}\nadmission: {{ queue: {{ {QUICK_QUEUE}{queue} }}, vram: {{ {QUICK_VRAM}{vram} }}{admission} }}\nbreaker: {{ open_for: 200ms, errors: 2 }}\nupstreams:\n{host}",
            gpus = host.gpus(),
            queue = comma(queue),
            vram = comma(vram),
            admission = comma(admission),
            host = upstream("host", &host.simulator, keys),
        )
    }

    /// A gateway before `host` alone.
    async fn alone(&self, host: &Host) -> Gateway {
        let gateway = Gateway::start(BIN, &self.config(host));
        measured(&gateway, "host").await;
        gateway
    }

    /// A gateway before `host`, and before `spare` for what `host` cannot serve.
    async fn with_spare(&self, host: &Host, spare: &Simulator) -> Gateway {
        let config = format!(
            "{}{}routes:\n  - model: \"*\"\n    targets: [{{ upstream: host }}]\n    fallback: [{{ upstream: spare }}]\n",
            self.config(host),
            upstream("spare", spare, "gpus: none"),
        );
        let gateway = Gateway::start(BIN, &config);
        measured(&gateway, "host").await;
        gateway
    }
}

/// A second Ollama that has the same models, and memory for all of them.
async fn spare(settings: &Settings) -> Simulator {
    super::simulator(Settings { vram: 1 << 40, ..settings.clone() }).await
}

/// Waits until the gateway knows what the models of `upstream` need.
async fn measured(gateway: &Gateway, upstream: &str) {
    eventually("the gateway has seen models and memory", async || {
        let models = models(gateway).await;
        let mut its = models.iter().filter(|one| one["upstream"] == upstream).peekable();
        its.peek().is_some() && its.all(|one| one["need"].is_u64())
    })
    .await;
}

fn ask(model: &str, more: &str) -> String {
    let more = comma(more);
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]{more}}}"#)
}

async fn chat(gateway: &Gateway, model: &str) -> Response {
    post(gateway.data, CHAT, ask(model, "")).await
}

/// Who served, where it was served.
async fn served(gateway: &Gateway, model: &str) -> String {
    let answer = chat(gateway, model).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    by(&answer).to_owned()
}

fn by(answer: &Response) -> &str {
    answer.header("x-sluicegate-upstream").unwrap_or("none")
}

fn reason(answer: &Response) -> &str {
    answer.header("x-sluicegate-reason").unwrap_or("none")
}

/// A stream that has begun.
async fn stream(gateway: &Gateway, model: &str, tokens: usize) -> Connection {
    let mut connection = Connection::open(gateway.data).await;
    connection.post(CHAT, ask(model, &format!(r#""stream":true,"max_tokens":{tokens}"#))).await;
    assert_eq!(connection.head().await.status, 200);
    connection
}

async fn admin(gateway: &Gateway, path: &str) -> Value {
    let answer = get(gateway.admin, path).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn models(gateway: &Gateway) -> Vec<Value> {
    admin(gateway, "/api/models").await.as_array().expect("a list").clone()
}

/// One model of `host` as the gateway sees it.
async fn model(gateway: &Gateway, name: &str) -> Value {
    let all = models(gateway).await;
    let one = all.into_iter().find(|one| one["model"] == name && one["upstream"] == "host");
    one.unwrap_or(Value::Null)
}

/// The upstream `host` as the gateway sees it.
async fn host_status(gateway: &Gateway) -> Value {
    admin(gateway, "/api/upstreams").await[0].clone()
}

/// Waits until the breaker of `host` is in that state.
async fn breaker_is(gateway: &Gateway, state: &str) -> Value {
    eventually(&format!("the breaker is {state}"), async || {
        host_status(gateway).await["breaker"] == state
    })
    .await;
    host_status(gateway).await
}

async fn waiting(gateway: &Gateway) -> u64 {
    admin(gateway, "/api/queue").await[0]["waiting_total"].as_u64().expect("a number")
}

/// Waits until so many requests wait for `host`.
async fn wait_for(gateway: &Gateway, count: u64) {
    eventually(&format!("{count} wait"), async || waiting(gateway).await == count).await;
}

/// Time in which something does not happen: several polls.
async fn several_polls() {
    tokio::time::sleep(Duration::from_millis(400)).await;
}

/// A key made by the program itself, and its entry with `more` members.
fn key(name: &str, more: &str) -> (String, String) {
    let output = std::process::Command::new(BIN).args(["key", "new", name]).output().expect("runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let key = text.lines().next().expect("a line").rsplit(' ').next().expect("a key").to_owned();
    let hash = text.split('"').nth(1).expect("a hash");
    (key, format!("  - {{ name: {name}, hash: \"{hash}\"{} }}\n", comma(more)))
}

/// Times the breaker of `host` came into `state` for `reason`.
async fn changes(gateway: &Gateway, state: &str, reason: &str) -> f64 {
    let series = format!(
        "sluicegate_breaker_changes_total{{upstream=\"host\",state=\"{state}\",reason=\"{reason}\"}}"
    );
    gateway.metric(&series).await
}
