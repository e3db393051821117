//! `sluicegate plugin`: start one, try one.

mod new;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a new plugin into a directory of its name: sources, tests, and what they need.
    New {
        /// Its name: lower-case letters, digits and `-`.
        name: String,
        /// The language to write it in.
        #[arg(long, value_enum, default_value = "rust")]
        language: Language,
    },
    /// Ask a plugin about requests, and print what it decides, in which time and memory.
    Test(test::Arguments),
    /// Write the interface (WIT files) into a directory.
    Wit {
        /// The directory.
        #[arg(default_value = "wit")]
        dir: PathBuf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Language {
    Rust,
    Python,
    Javascript,
}

pub(super) fn run(command: &Command) -> ExitCode {
    match command {
        Command::New { name, language } => new::run(name, *language),
        Command::Test(arguments) => test::run(arguments),
        Command::Wit { dir } => new::wit(dir),
    }
}
