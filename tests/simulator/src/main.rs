//! The simulator as a program, for the demo, the benches and the SDK tests.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sluicegate_simulator::{Model, Settings, Simulator};

/// A fake Ollama.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address and port; port 0 lets the kernel choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Models as NAME=GIB, comma-separated.
    #[arg(
        long,
        default_value = "llama3.2:3b=3,gpt-oss:20b=14,all-minilm:latest=1",
        value_delimiter = ','
    )]
    models: Vec<String>,
    /// GiB of VRAM.
    #[arg(long, default_value_t = 24)]
    vram: u64,
    /// Requests one loaded model works on at a time.
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// Tokens in an answer.
    #[arg(long, default_value_t = 24)]
    tokens: usize,
    /// Milliseconds between tokens.
    #[arg(long, default_value_t = 40)]
    interval: u64,
    /// Milliseconds to the first token.
    #[arg(long, default_value_t = 200)]
    first: u64,
    /// Milliseconds to load a model.
    #[arg(long, default_value_t = 1_500)]
    load: u64,
    /// Do not keep what was received, for benches.
    #[arg(long)]
    forget: bool,
}

fn model(text: &str) -> Option<Model> {
    let (name, gib) = text.split_once('=')?;
    Some(Model::new(name, gib.parse().ok()?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let settings = Settings {
        models: arguments.models.iter().filter_map(|text| model(text)).collect(),
        vram: arguments.vram << 30,
        num_parallel: arguments.parallel,
        tokens: arguments.tokens,
        token_interval: Duration::from_millis(arguments.interval),
        first_token: Duration::from_millis(arguments.first),
        load_time: Duration::from_millis(arguments.load),
        ..Settings::default()
    };
    let simulator = match Simulator::start_at(settings, arguments.listen).await {
        Ok(simulator) => simulator,
        Err(cause) => {
            eprintln!("simulator: cannot listen on {}: {cause}", arguments.listen);
            return ExitCode::FAILURE;
        }
    };
    simulator.recorder().keep(!arguments.forget);
    eprintln!("simulator: a fake Ollama at {}", simulator.url());
    match tokio::signal::ctrl_c().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
