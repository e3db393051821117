//! How a plugin is run.

use std::path::PathBuf;
use std::time::Duration;

/// For how long an instance lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// A fresh one for each call: nothing is left behind.
    Request,
    /// One for many calls, one after the other: globals may persist or vanish.
    Reuse,
}

/// What a plugin may reach beyond its own memory. Nothing, unless it is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Real random numbers; else `wasi:random` gives the same numbers to every instance.
    pub random: bool,
    /// Environment variables by name, passed on with the gateway's values.
    pub env: Vec<String>,
    /// Directories it may read, at the same path.
    pub read: Vec<PathBuf>,
}

/// One plugin's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Its name in the configuration; names logs and metrics.
    pub name: String,
    /// Its `config`, a JSON object.
    pub config: serde_json::Value,
    /// Longest time for one call: processor time, and time it waits for something.
    pub deadline: Duration,
    /// Most memory of one instance, in bytes.
    pub memory: usize,
    /// For how long an instance lives.
    pub isolation: Isolation,
    /// Calls after which a reused instance is dropped.
    pub max_calls_per_instance: u32,
    /// Calls at one time; more wait, a second at most.
    pub max_concurrent: usize,
    /// Log lines a second.
    pub log_lines_per_second: u32,
    /// What it may reach.
    pub allow: Allow,
}

impl Settings {
    /// The defaults for a plugin called `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            config: serde_json::Value::Object(serde_json::Map::new()),
            deadline: Duration::from_millis(10),
            memory: 32 << 20,
            isolation: Isolation::Request,
            max_calls_per_instance: 10_000,
            max_concurrent: 32,
            log_lines_per_second: 10,
            allow: Allow::default(),
        }
    }
}
