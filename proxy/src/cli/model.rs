//! `sluicegate model`: what people do about models of a running gateway.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::Where;
use super::{fail, print};

/// A large model loads from a slow disk.
const WAIT: Duration = Duration::from_secs(900);

/// What to do about a model.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Have it loaded; idle models that are not pinned make room.
    Load(Which),
    /// Have it unloaded once it is idle.
    Unload(Which),
    /// Have it loaded and keep it so, over restarts.
    Pin(Which),
    /// Keep it loaded no more.
    Unpin(Which),
}

/// Which model.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Its name at the upstream.
    model: String,
    /// The upstream, where several have it.
    #[arg(long)]
    upstream: Option<String>,
    #[command(flatten)]
    gateway: Where,
}

pub(super) fn run(command: &Command) -> ExitCode {
    let (path, which, done) = match command {
        Command::Load(which) => ("/api/models/load", which, "is loaded"),
        Command::Unload(which) => ("/api/models/unload", which, "goes once it is idle"),
        Command::Pin(which) => ("/api/models/pin", which, "is loaded and stays"),
        Command::Unpin(which) => ("/api/models/unpin", which, "stays no longer than others"),
    };
    let body = json!({ "model": which.model, "upstream": which.upstream });
    let asked = which.gateway.client().and_then(|client| client.post(path, &body, WAIT));
    match asked {
        Ok(()) => print(&format!("{} {done}\n", which.model)),
        Err(why) => fail(1, &why),
    }
}
