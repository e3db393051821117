//! The command line.

mod cache;
mod check;
mod client;
mod key;
mod model;
mod plugin;
mod serve;
mod status;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The configuration is wrong (`EX_USAGE` of sysexits.h).
const BAD_CONFIG: u8 = 64;

/// An OpenAI-compatible gateway for the GPUs you own.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve. Without a file: Ollama at $OLLAMA_HOST or on this machine.
    Serve {
        /// Configuration file (YAML).
        #[arg(short, long)]
        config: Option<PathBuf>,
    },
    /// Show what a running gateway does.
    Status(status::Options),
    /// Load, unload or pin a model of a running gateway.
    Model {
        #[command(subcommand)]
        command: model::Command,
    },
    /// Check a configuration file and say what is wrong with it.
    Check {
        /// Configuration file (YAML).
        #[arg(required_unless_present = "config")]
        file: Option<PathBuf>,
        /// The same, as `serve` takes it.
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        config: Option<PathBuf>,
    },
    /// Make API keys.
    Key {
        #[command(subcommand)]
        command: key::Command,
    },
    /// Try the cache's comparison of questions.
    Cache {
        #[command(subcommand)]
        command: cache::Command,
    },
    /// Write and try plugins.
    Plugin {
        #[command(subcommand)]
        command: plugin::Command,
    },
    /// Print the JSON schema of the configuration file.
    Schema,
}

/// Runs the command that was asked for.
#[must_use]
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve { config } => serve::run(config),
        Command::Status(options) => status::run(&options),
        Command::Model { command } => model::run(&command),
        Command::Check { file, config } => check::run(&file.or(config).unwrap_or_default()),
        Command::Key { command } => key::run(&command),
        Command::Cache { command } => cache::run(&command),
        Command::Plugin { command } => plugin::run(&command),
        Command::Schema => match crate::config::schema() {
            Ok(text) => print(&text),
            Err(cause) => fail(1, &cause.to_string()),
        },
    }
}

/// Prints the result of a command.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Says why a command failed.
fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("sluicegate: {message}");
    ExitCode::from(code)
}
