//! `sluicegate key`.

use std::process::ExitCode;

use clap::Subcommand;

use super::{fail, print};
use crate::request::auth::{hash_key, new_key};

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
            "key (shown once): {key}\n\nkeys:\n  - {{ name: {name}, hash: \"{}\" }}\n",
            hash_key(&key)
        )),
        Err(cause) => fail(1, &format!("no randomness from the system: {cause}")),
    }
}
