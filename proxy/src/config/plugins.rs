//! WASM plugins in the configuration: as written, and validated.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::load::{ConfigError, Source};
use super::units::{ByteSize, Period};

/// Upper bound of a deadline: a client waits for it.
const MAX_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);
/// Upper bound of a plugin's memory.
const MAX_MEMORY: ByteSize = ByteSize::mib(1024);

/// One WASM plugin.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPlugin {
    /// Its name in routes, logs and metrics.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// `builtin` for a shipped plugin of that name, else the path of a WASM component, relative to
    /// the directory of this file. It is loaded anew when the file changes.
    #[schemars(with = "String")]
    pub source: Spanned<String>,
    /// What the plugin reads as its configuration: any keys it knows.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
    /// Longest time for one call: processor time, and time it waits for something. On a busy machine
    /// it may take up to two seconds more to get its turns. Default `10ms`.
    pub deadline: Option<Period>,
    /// Most memory of one instance. Default `32MiB`.
    pub memory: Option<ByteSize>,
    /// `request`: a fresh instance for each call, the default for files; `reuse`: one for many
    /// calls, one after the other, the default for builtins and a need of Python and JavaScript.
    pub isolation: Option<Isolation>,
    /// Calls after which a reused instance is replaced. Default 10000.
    pub max_calls_per_instance: Option<u32>,
    /// Calls at one time; more wait, a second at most. Default 32.
    pub max_concurrent: Option<usize>,
    /// What becomes of a request when a call fails: `continue` (default) as if the plugin were not
    /// there, or `reject` it with status 503.
    #[serde(default)]
    pub on_error: OnError,
    /// Run it and record what it would do, but change nothing. Default false.
    #[serde(default)]
    pub shadow: bool,
    /// SHA-256 of the file in hexadecimal; another file is refused.
    pub sha256: Option<String>,
    /// Log lines it may write in a second; more are dropped. Default 10.
    pub log_lines_per_second: Option<u32>,
    /// What it may reach beyond its own memory. Nothing by default.
    #[serde(default)]
    pub allow: Allow,
}

/// For how long an instance of a plugin lives.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// One call.
    Request,
    /// Many calls.
    Reuse,
}

/// What becomes of a request when a plugin's call fails.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It goes on as if the plugin were not there.
    #[default]
    Continue,
    /// It is refused with status 503.
    Reject,
}

/// What a plugin may reach beyond its own memory.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// Real random numbers; else every instance gets the same. Default false.
    pub random: bool,
    /// Environment variables of the gateway, by name.
    pub env: Vec<String>,
    /// Directories it may read, by absolute path.
    pub read: Vec<String>,
}

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// Shipped with the gateway.
    Builtin,
    /// A file.
    File(PathBuf),
}

/// A validated plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConfig {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub source: PluginSource,
    /// Its own configuration.
    pub config: serde_json::Value,
    /// Longest time for one call.
    pub deadline: std::time::Duration,
    /// Most memory of one instance, in bytes.
    pub memory: usize,
    /// For how long an instance lives.
    pub isolation: Isolation,
    /// Calls after which a reused instance is replaced.
    pub max_calls_per_instance: u32,
    /// Calls at one time.
    pub max_concurrent: usize,
    /// What becomes of a request when a call fails.
    pub on_error: OnError,
    /// It changes nothing.
    pub shadow: bool,
    /// SHA-256 of the file.
    pub sha256: Option<String>,
    /// Log lines in a second.
    pub log_lines_per_second: u32,
    /// What it may reach.
    pub allow: Allow,
}

/// Validates `given`, in the order of the file.
pub(super) fn validate(
    given: &[RawPlugin],
    source: &Source,
) -> Result<Vec<PluginConfig>, ConfigError> {
    let mut known: Vec<PluginConfig> = Vec::with_capacity(given.len());
    for raw in given {
        let one = plugin(raw, source)?;
        if known.iter().any(|other| other.name == one.name) {
            let message = format!("two plugins are named `{}`", one.name);
            return Err(source.error_at(raw.name.defined, message));
        }
        known.push(one);
    }
    Ok(known)
}

fn plugin(raw: &RawPlugin, source: &Source) -> Result<PluginConfig, ConfigError> {
    let name = raw.name.value.clone();
    let fail = |message: String| source.error_at(raw.name.defined, message);
    if !super::validate::is_label(&name) {
        return Err(fail(format!(
            "plugin name `{name}` may have letters, digits, `.`, `_` and `-` only, 64 at most"
        )));
    }
    let from = match raw.source.value.as_str() {
        "" => return Err(source.error_at(raw.source.defined, "`source` is empty")),
        "builtin" => PluginSource::Builtin,
        path => {
            let base = Path::new(&source.file).parent().unwrap_or(Path::new(""));
            PluginSource::File(base.join(path))
        }
    };
    let default = if from == PluginSource::Builtin { Isolation::Reuse } else { Isolation::Request };
    let deadline = raw.deadline.map_or(std::time::Duration::from_millis(10), |period| period.0);
    if deadline.is_zero() || deadline > MAX_DEADLINE {
        return Err(fail(format!(
            "`deadline` must be more than zero and {MAX_DEADLINE:?} at most"
        )));
    }
    let memory = raw.memory.unwrap_or(ByteSize::mib(32));
    if memory.is_empty() || memory > MAX_MEMORY {
        return Err(fail("`memory` must be more than zero and 1GiB at most".into()));
    }
    if let Some(path) = raw.allow.read.iter().find(|path| !Path::new(path).is_absolute()) {
        return Err(fail(format!("`allow.read`: `{path}` is no absolute path")));
    }
    let at_least_one = [
        ("max_calls_per_instance", raw.max_calls_per_instance == Some(0)),
        ("max_concurrent", raw.max_concurrent == Some(0)),
    ];
    if let Some((key, _)) = at_least_one.into_iter().find(|(_, zero)| *zero) {
        return Err(fail(format!("`{key}` must be more than zero")));
    }
    let sha256 = raw.sha256.as_ref().map(|hex| hex.to_ascii_lowercase());
    if sha256
        .as_ref()
        .is_some_and(|hex| hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return Err(fail("`sha256` is not 64 hexadecimal digits".into()));
    }
    Ok(PluginConfig {
        name,
        source: from,
        config: serde_json::Value::Object(raw.config.clone().unwrap_or_default()),
        deadline,
        memory: memory.len(),
        isolation: raw.isolation.unwrap_or(default),
        max_calls_per_instance: raw.max_calls_per_instance.unwrap_or(10_000),
        max_concurrent: raw.max_concurrent.unwrap_or(32),
        on_error: raw.on_error,
        shadow: raw.shadow,
        sha256,
        log_lines_per_second: raw.log_lines_per_second.unwrap_or(10),
        allow: raw.allow.clone(),
    })
}
