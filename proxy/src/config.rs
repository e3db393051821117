//! Configuration: the file as written ([`raw`]), its units, and the validated [`Config`] that the
//! rest of the program is built from. A value of [`Config`] is consistent: every name it refers to
//! exists, every secret was read, every address may be served.

pub mod admission;
pub mod cache;
pub mod container;
pub mod environment;
pub mod glob;
pub mod gpus;
pub mod load;
pub mod models;
pub mod plugins;
pub mod raw;
mod redis;
pub mod units;
mod url;
mod validate;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;

pub use self::cache::CacheConfig;
pub use self::load::ConfigError;
use self::load::Source;
pub use self::plugins::PluginConfig;
use self::raw::{BreakerConfig, Limits, LogFormat, Priority, Raw, Timeouts, Tls, UpstreamKind};
use self::units::Secret;
pub use self::validate::DEFAULT_MAX_CONCURRENT;

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Data listener.
    pub listen: SocketAddr,
    /// Admin listener.
    pub admin: SocketAddr,
    /// Callers without a key are welcome from everywhere.
    pub anonymous: bool,
    /// Bearer token of the admin listener.
    pub admin_token: Option<Secret>,
    /// Threads that serve requests.
    pub workers: usize,
    /// TLS of the data listener.
    pub tls: Option<Tls>,
    /// HTTP/2 without TLS.
    pub h2c: bool,
    /// Grace period after SIGTERM.
    pub drain: Duration,
    /// Pause after which a committed stream gets a comment.
    pub heartbeat: Duration,
    /// Bounds on what clients may take.
    pub limits: Limits,
    /// Origins allowed beside the defaults.
    pub cors_origins: Vec<String>,
    /// Access log format.
    pub log_format: LogFormat,
    /// See [`Source::hash`].
    pub hash: u32,
    /// Upstreams in order of preference; never empty.
    pub upstreams: Vec<UpstreamConfig>,
    /// The GPUs of this machine.
    pub gpus: gpus::Gpus,
    /// Routes in file order.
    pub routes: Vec<RouteConfig>,
    /// The queue, and the memory of GPUs.
    pub admission: admission::Admission,
    /// Breaker settings.
    pub breaker: BreakerConfig,
    /// The response cache.
    pub cache: CacheConfig,
    /// WASM plugins.
    pub plugins: Vec<PluginConfig>,
    /// URL of the Redis that holds what plugins store; none keeps it in memory.
    pub plugin_store: Option<Secret>,
    /// Where compiled plugins are kept; none takes the user's cache directory.
    pub plugin_cache: Option<PathBuf>,
    /// Where what was learned is kept; none keeps it in memory.
    pub state_dir: Option<PathBuf>,
    /// API keys; empty means open to all.
    pub keys: Vec<KeyConfig>,
}

/// A validated upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Its name in the configuration.
    pub name: String,
    /// Scheme and authority.
    pub origin: Uri,
    /// Path in front of every endpoint, without a trailing slash: `/v1` for OpenAI, `` for Ollama.
    pub base_path: String,
    /// The protocol it speaks.
    pub kind: UpstreamKind,
    /// Key sent as a bearer token.
    pub api_key: Option<Secret>,
    /// Requests sent to it at one time.
    pub max_concurrent: usize,
    /// VRAM that models may take there, in bytes, as declared.
    pub vram: Option<u64>,
    /// The GPUs behind it.
    pub gpus: gpus::GpusBehind,
    /// Models that are kept in memory.
    pub models: Vec<(String, models::Keep)>,
    /// The container it runs in.
    pub container: Option<container::Container>,
    /// Deadlines.
    pub timeouts: Timeouts,
}

/// A validated route; targets refer to upstreams by index into [`Config::upstreams`].
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Name or glob asked for.
    pub model: String,
    /// Weighted targets.
    pub targets: Vec<TargetConfig>,
    /// Ordered fallbacks.
    pub fallback: Vec<TargetConfig>,
    /// See [`raw::RawRoute::wait_comments`].
    pub wait_comments: Option<Duration>,
    /// Its plugins: indexes into [`Config::plugins`].
    pub plugins: Vec<usize>,
    /// Whether plugins may send text to a stream that waits.
    pub waiting_text: bool,
    /// Options for its requests.
    pub options: models::RouteOptions,
}

/// A validated target.
#[derive(Clone, Debug)]
pub struct TargetConfig {
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
    /// Model name there; none keeps the name asked for.
    pub model: Option<String>,
    /// Relative share.
    pub weight: u32,
}

/// A validated API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    /// The owner.
    pub name: String,
    /// BLAKE3 of the key.
    pub hash: [u8; 32],
    /// Model globs the key may ask for; none allows all.
    pub models: Option<Vec<String>>,
    /// Whom answers may be shared with.
    pub tenant: Option<String>,
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers in a minute.
    pub tokens_per_minute: Option<u32>,
    /// Requests at one time.
    pub max_concurrent: Option<u32>,
    /// Share relative to other callers.
    pub weight: u32,
    /// Who goes first.
    pub priority: Priority,
}

impl Config {
    /// Reads and validates `file`, or the defaults when there is none.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let environment: HashMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        match file {
            Some(path) => Self::from_source(&Source::read(path)?, environment),
            None => Self::defaults(&environment),
        }
    }

    /// The configuration without a file.
    pub fn defaults(environment: &HashMap<String, String>) -> Result<Self, ConfigError> {
        let source = Source { file: "(defaults)".into(), text: String::new() };
        let ollama_host = environment.get("OLLAMA_HOST");
        validate::validate(Raw::default(), &source, ollama_host.map(String::as_str))
    }

    /// Whoever can reach the gateway can use the GPUs, so an open door must be asked for by name.
    /// The addresses are those really listened on, which a reload does not change.
    pub fn check_exposure(&self, listen: SocketAddr, admin: SocketAddr) -> Result<(), ConfigError> {
        if !listen.ip().is_loopback() && self.keys.is_empty() && !self.anonymous {
            return Err(ConfigError::general(format!(
                "`listen` ({listen}) is reachable from other machines: configure `keys`, or say \
                 `anonymous: true`"
            )));
        }
        if !admin.ip().is_loopback() && self.admin_token.is_none() {
            return Err(ConfigError::general(format!(
                "`admin` ({admin}) is reachable from other machines: configure `admin_token`"
            )));
        }
        Ok(())
    }

    /// Parses and validates a text.
    pub fn from_source(
        source: &Source,
        environment: HashMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let ollama_host = environment.get("OLLAMA_HOST").cloned();
        validate::validate(source.parse(environment)?, source, ollama_host.as_deref())
    }
}

/// The JSON schema of the configuration file, pretty-printed.
pub fn schema() -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&schemars::schema_for!(Raw))?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests;
