//! What one plugin call costs, and that it leaves nothing behind.
//!
//! - `sluicegate-bench-plugins FILE.wasm [CALLS]`: median and 99th percentile of a call's time, with
//!   a fresh instance and with a reused one.
//! - `sluicegate-bench-plugins --soak FAULTY.wasm [CALLS]`: resident memory while the test guest is
//!   called, every second call a trap.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_plugin_host::{Engine, Isolation, Plugin, Settings, router, types};
use tokio::time::Instant;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let soak = arguments.first().is_some_and(|first| first == "--soak");
    arguments.drain(..usize::from(soak));
    let Some(file) = arguments.first() else {
        eprintln!("usage: sluicegate-bench-plugins [--soak] FILE.wasm [CALLS]");
        return ExitCode::from(2);
    };
    let calls = arguments.get(1).and_then(|text| text.parse().ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let outcome = runtime.map_err(|cause| cause.to_string()).and_then(|runtime| {
        if soak {
            runtime.block_on(leaves_nothing(file, calls.unwrap_or(1_000_000)))
        } else {
            runtime.block_on(time(file, calls.unwrap_or(20_000)))
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("{cause}");
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{line}").map_err(|cause| cause.to_string())
}

async fn load(engine: &Engine, file: &str, settings: Settings) -> Result<Plugin, String> {
    let wasm = std::fs::read(file).map_err(|cause| format!("{file}: {cause}"))?;
    let loaded = Plugin::load(engine, &wasm, settings, Arc::default()).await;
    loaded.map_err(|cause| cause.to_string())
}

async fn time(file: &str, calls: usize) -> Result<(), String> {
    let engine = Engine::new(None, 1)?;
    for (name, isolation) in [("fresh", Isolation::Request), ("reused", Isolation::Reuse)] {
        let settings = Settings {
            isolation,
            max_calls_per_instance: u32::MAX,
            deadline: Duration::from_secs(1),
            memory: 256 << 20,
            ..Settings::new("bench")
        };
        let plugin = load(&engine, file, settings).await?;
        let request = request();
        let targets = [target("host"), target("container")];
        let mut times = Vec::with_capacity(calls);
        for call in 0..calls + calls / 10 {
            let began = Instant::now();
            plugin.route(&request, &targets).await.map_err(|cause| cause.to_string())?;
            // The first tenth is warm-up.
            if call >= calls / 10 {
                times.push(began.elapsed());
            }
        }
        times.sort();
        let micros = |share: usize| times[(calls - 1) * share / 100].as_nanos() as f64 / 1000.0;
        say(&format!("{name}: median {:.2} µs, p99 {:.2} µs", micros(50), micros(99)))?;
    }
    Ok(())
}

async fn leaves_nothing(file: &str, calls: usize) -> Result<(), String> {
    let engine = Engine::new(None, 1)?;
    let config = |task: &str| [("do".to_owned(), task.into())].into_iter().collect();
    let settings = |task: &str, isolation| Settings {
        config: serde_json::Value::Object(config(task)),
        isolation,
        log_lines_per_second: 0,
        ..Settings::new(task)
    };
    let good = load(&engine, file, settings("none", Isolation::Reuse)).await?;
    let bad = load(&engine, file, settings("trap", Isolation::Request)).await?;
    let (request, targets) = (request(), [target("host")]);
    let mut traps = 0;
    for call in 0..calls {
        if call % (calls / 10).max(1) == 0 {
            say(&format!("{call} calls, {traps} traps: {} KiB resident", resident()?))?;
        }
        let plugin = if call % 2 == 0 { &good } else { &bad };
        traps += usize::from(plugin.route(&request, &targets).await.is_err());
    }
    say(&format!("{calls} calls, {traps} traps: {} KiB resident", resident()?))
}

/// Kilobytes, as Linux counts them.
fn resident() -> Result<String, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|cause| cause.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.unwrap_or("?").trim().trim_end_matches(" kB").to_owned())
}

/// About 1 KB: a system prompt and a question.
fn request() -> types::Request {
    let message = |role, text: String| types::Message {
        role,
        text,
        attachments: 0,
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    types::Request {
        id: "0123456789abcdef".into(),
        caller: "anonymous".into(),
        route: Some("assistant".into()),
        model: "assistant".into(),
        upstream: None,
        endpoint: types::Endpoint::ChatCompletions,
        streaming: true,
        body_bytes: 1024,
        parameters: types::Parameters {
            temperature: None,
            top_p: None,
            max_tokens: Some(256),
            seed: None,
            n: None,
        },
        shape: types::Shape {
            messages: 2,
            text_chars: 800,
            prompt_tokens: 200,
            attachments: 0,
            tools: 0,
            structured: false,
            logprobs: false,
        },
        conversation: 42,
        messages: vec![
            message(types::Role::System, "You are a helpful assistant. ".repeat(14)),
            message(types::Role::User, "Why is the sky blue, and the sea? ".repeat(12)),
        ],
        headers: (0..8).map(|_| header("x-some-header", "some value or other")).collect(),
        labels: Vec::new(),
    }
}

fn target(upstream: &str) -> router::Target {
    router::Target {
        upstream: upstream.into(),
        model: "llama3.2:3b".into(),
        fallback: false,
        weight: 1,
        resident: Some(true),
        partial: Some(false),
        headroom: Some(8 << 30),
        in_flight: 1,
        waiting: 0,
        tokens_per_second: Some(80.0),
        load_ms: Some(2500),
        breaker: router::Breaker::Closed,
        context_length: Some(8192),
    }
}
