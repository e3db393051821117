//! A container behind an upstream in the configuration.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::ConfigError;
use super::units::Period;

/// A container that the gateway starts through the Docker Engine when its upstream is first needed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Its image; it is never pulled.
    pub image: String,
    /// Its name.
    pub name: String,
    /// `none` (default): CPU; `all`, or a list of devices. A GPU that the host's Ollama has not
    /// released is not given to it.
    #[serde(default)]
    pub gpus: ContainerGpus,
    /// `on_demand` (default): when a request needs it; `always`: with the gateway; `never`: only one
    /// that runs already is used.
    #[serde(default)]
    pub start: Start,
    /// After so long without a request it is stopped. Default: never.
    #[serde(default)]
    pub stop_after_idle: Option<Period>,
    /// Longest time from its start to its first healthy answer. Default `60s`.
    #[serde(default = "start_timeout")]
    pub start_timeout: Period,
    /// Port inside it that the upstream's port leads to. Default 11434.
    #[serde(default = "port")]
    pub port: u16,
    /// Docker network; `host` publishes no port. Default: Docker's bridge.
    #[serde(default)]
    pub network: Option<String>,
    /// Volumes and binds, as `docker run --volume` has them.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Environment, `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Command instead of the image's.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// The engine's socket. Default `$DOCKER_HOST`, else `/var/run/docker.sock`.
    #[serde(default)]
    pub socket: Option<PathBuf>,
}

fn start_timeout() -> Period {
    Period::secs(60)
}

fn port() -> u16 {
    11_434
}

/// GPUs of a container.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged, expecting = "expected none, all, or a list of devices")]
pub enum ContainerGpus {
    /// `none` or `all`.
    Word(ContainerGpuWord),
    /// These devices.
    Devices(Vec<String>),
}

impl Default for ContainerGpus {
    fn default() -> Self {
        Self::Word(ContainerGpuWord::None)
    }
}

/// GPUs of a container in a word.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ContainerGpuWord {
    /// None.
    None,
    /// All.
    All,
}

/// When a container is started.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// When a request needs it.
    #[default]
    OnDemand,
    /// With the gateway.
    Always,
    /// Not by the gateway.
    Never,
}

/// Whether it never has a GPU.
pub(super) fn is_on_cpu(container: &Container) -> bool {
    container.gpus == ContainerGpus::default()
}

/// Checks the container of the upstream `upstream`.
pub(super) fn check(container: &Container, upstream: &str) -> Result<(), ConfigError> {
    let fail =
        |what: &str| Err(ConfigError::general(format!("upstream `{upstream}`: `container.{what}")));
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let name = &container.name;
    if name.len() < 2
        || name.len() > 128
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !name.chars().all(allowed)
    {
        return fail("name` is no name for a container: letters, digits, `_`, `.` and `-`");
    }
    if container.image.is_empty() {
        return fail("image` is empty");
    }
    if container.start_timeout.0.is_zero() {
        return fail("start_timeout` must be more than zero");
    }
    Ok(())
}
