//! What one plugin call costs: `sluicegate-bench-plugins FILE.wasm [CALLS]` prints, for a fresh and
//! for a reused instance, CPU microseconds per call and the median and 99th percentile of its time.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sluicegate_plugin_host::{Engine, Isolation, Plugin, Settings, router, types};
use tokio::time::Instant;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(file) = arguments.next() else {
        eprintln!("usage: sluicegate-bench-plugins FILE.wasm [CALLS]");
        return ExitCode::from(2);
    };
    let calls = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let outcome = runtime
        .map_err(|cause| cause.to_string())
        .and_then(|runtime| runtime.block_on(run(&file, calls)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("{cause}");
            ExitCode::FAILURE
        }
    }
}

async fn run(file: &str, calls: usize) -> Result<(), String> {
    let wasm = std::fs::read(file).map_err(|cause| format!("{file}: {cause}"))?;
    let engine = Engine::new(None, 1)?;
    for (name, isolation) in [("fresh", Isolation::Request), ("reused", Isolation::Reuse)] {
        let settings = Settings {
            isolation,
            max_calls_per_instance: u32::MAX,
            deadline: Duration::from_secs(1),
            memory: 256 << 20,
            ..Settings::new("bench")
        };
        let plugin = Plugin::load(&engine, &wasm, settings, Arc::default())
            .await
            .map_err(|cause| cause.to_string())?;
        let request = request();
        let targets = [target("host"), target("container")];
        for _ in 0..calls / 10 {
            plugin.route(&request, &targets).await.map_err(|cause| cause.to_string())?;
        }
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let began = Instant::now();
            plugin.route(&request, &targets).await.map_err(|cause| cause.to_string())?;
            times.push(began.elapsed());
        }
        times.sort();
        let micros = |share: usize| times[(calls - 1) * share / 100].as_nanos() as f64 / 1000.0;
        eprintln!("{name}: median {:.2} µs, p99 {:.2} µs", micros(50), micros(99));
    }
    Ok(())
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
