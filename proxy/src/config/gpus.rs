//! The GPUs of this machine in the configuration.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::ConfigError;
use super::units::Period;

/// The GPUs of this machine: shown at `/api/gpu` and in the metrics, and to routing plugins as the
/// headroom of Ollamas that run here.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Gpus {
    /// `auto` (default): NVIDIA's through NVML, else AMD's through sysfs, else none; or `none`.
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
    /// None.
    None,
}

/// Checks what was given.
pub(super) fn check(gpus: &Gpus) -> Result<(), ConfigError> {
    if gpus.poll.0 < Duration::from_millis(50) {
        return Err(ConfigError::general("`gpus.poll` must be 50ms or more"));
    }
    Ok(())
}
