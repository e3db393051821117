//! `sluicegate key`.

use std::process::ExitCode;

use clap::Subcommand;

use super::{fail, print};
use crate::config::environment::quoted;
use crate::request::auth::{hash_key, new_key};

/// A text as YAML takes it in one piece, in quotes where it must.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(plain);
    if is_plain { text.to_owned() } else { quoted(text) }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key: give the key to its owner, put the entry into the configuration.
    New {
        /// The owner's name.
        #[arg(default_value = "alice")]
        name: String,
    },
}

pub(super) fn run(command: &Command) -> ExitCode {
    let Command::New { name } = command;
    match new_key() {
        Ok(key) => print(&format!(
            "key (shown once): {key}\n\nkeys:\n  - {{ name: {}, hash: \"{}\" }}\n",
            scalar(name),
            hash_key(&key)
        )),
        Err(cause) => fail(1, &format!("no randomness from the system: {cause}")),
    }
}
