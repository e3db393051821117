//! The simulator as a program, for the demo, the benches and the SDK tests.

use std::net::SocketAddr;
use std::path::PathBuf;
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
        value_delimiter = ',',
        value_parser = model
    )]
    models: Vec<Model>,
    /// GiB of VRAM.
    #[arg(long, default_value = "24", value_parser = bytes)]
    vram: u64,
    /// Directory in which to show the VRAM as an AMD GPU's, in the files of Linux.
    #[arg(long)]
    card: Option<PathBuf>,
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

fn model(text: &str) -> Result<Model, String> {
    let (name, gib) = text.split_once('=').ok_or("not of the form NAME=GIB")?;
    Ok(Model { size: bytes(gib)?, ..Model::new(name, 0) })
}

/// Bytes of so many GiB, which may be a fraction.
fn bytes(gib: &str) -> Result<u64, String> {
    let number: f64 = gib.parse().map_err(|_| format!("{gib:?} is not a number of GiB"))?;
    if !(0.0..=1e6).contains(&number) {
        return Err(format!("{gib} GiB is not a size of memory"));
    }
    Ok((number * f64::from(1 << 30)).round() as u64)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let settings = Settings {
        models: arguments.models,
        vram: arguments.vram,
        card: arguments.card,
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
            eprintln!("simulator: cannot start at {}: {cause}", arguments.listen);
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
