//! The GPUs of this machine in the configuration.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use schemars::JsonSchema;
use serde::Deserialize;

use super::load::ConfigError;
use super::raw::UpstreamKind;
use super::units::{Period, Secret, SecretSource};
use super::url;

/// The GPUs of this machine: shown at `/api/gpu` and in the metrics, and behind the Ollamas that run
/// here, for admission and the breaker.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Gpus {
    /// `auto` (default): NVIDIA's through NVML and AMD's through sysfs; `nvml` or `amdgpu` alone, or
    /// `none`.
    pub probe: ProbeChoice,
    /// How often they are read. Default `500ms`.
    pub poll: Period,
    /// NVIDIA's library, where it is not found by its name.
    pub nvml_library: Option<PathBuf>,
    /// Where AMD's cards are, as a container may have it elsewhere. Default `/sys/class/drm`.
    pub amdgpu_root: Option<PathBuf>,
}

impl Default for Gpus {
    fn default() -> Self {
        Self {
            probe: ProbeChoice::default(),
            poll: Period(Duration::from_millis(500)),
            nvml_library: None,
            amdgpu_root: None,
        }
    }
}

/// Whether GPUs are looked for.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ProbeChoice {
    /// Whatever is there.
    #[default]
    Auto,
    /// NVIDIA's.
    Nvml,
    /// AMD's.
    Amdgpu,
    /// None.
    None,
}

/// The GPUs behind an upstream.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged, expecting = "expected auto, none, a list such as [nvml:0], or { remote: URL }")]
pub enum UpstreamGpus {
    /// `auto` or `none`.
    Word(GpuWord),
    /// Those of this machine with these ids, as `/api/gpu` shows them.
    Ids(Vec<String>),
    /// Those of another machine.
    Remote(RemoteGpus),
}

impl Default for UpstreamGpus {
    fn default() -> Self {
        Self::Word(GpuWord::Auto)
    }
}

/// The GPUs behind an upstream in a word.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum GpuWord {
    /// All of this machine, if the upstream runs on it.
    Auto,
    /// None.
    None,
}

/// The GPUs of another machine.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RemoteGpus {
    /// Admin listener of the Sluicegate on that machine.
    pub remote: String,
    /// Its admin token.
    #[serde(default)]
    pub token: Option<SecretSource>,
}

/// The GPUs behind an upstream, validated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GpusBehind {
    /// All of this machine, if the upstream runs on it.
    #[default]
    Auto,
    /// None.
    None,
    /// Those of this machine with these ids.
    Ids(Vec<String>),
    /// Those that another Sluicegate's admin listener shows.
    Remote {
        /// Where it is.
        origin: Uri,
        /// Its admin token.
        token: Option<Secret>,
    },
}

/// Checks the GPUs of one upstream. The error is for the file's author.
pub(super) fn behind(given: &UpstreamGpus) -> Result<GpusBehind, String> {
    Ok(match given {
        UpstreamGpus::Word(GpuWord::Auto) => GpusBehind::Auto,
        UpstreamGpus::Word(GpuWord::None) => GpusBehind::None,
        UpstreamGpus::Ids(ids) => GpusBehind::Ids(ids.clone()),
        UpstreamGpus::Remote(other) => GpusBehind::Remote {
            origin: url::origin(&other.remote, UpstreamKind::Ollama)
                .map_err(|why| format!("`gpus.remote`: {why}"))?
                .0,
            token: other.token.as_ref().map(SecretSource::read).transpose()?,
        },
    })
}

/// Checks what was given.
pub(super) fn check(gpus: &Gpus) -> Result<(), ConfigError> {
    if !(Duration::from_millis(50)..=Duration::from_secs(4)).contains(&gpus.poll.0) {
        return Err(ConfigError::general("`gpus.poll` is out of range; expected 50ms to 4s"));
    }
    Ok(())
}
