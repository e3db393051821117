//! What the GPUs of this machine are doing: memory, load, heat, power and who holds the memory.
//!
//! A probe reads one kind of GPU and may block; the sampler calls the probes from a thread of its
//! own and publishes what they say. Readers take the newest sample without a lock, and see by its
//! age when the probes have stopped answering. A value that a GPU does not tell is `None`, never 0.
//!
//! # Layout
//!
//! * `nvml`: NVIDIA, through the driver's own library, loaded at run time.
//! * `amdgpu`: AMD, through sysfs.
//! * `remote`: what another gateway's `/api/gpu` said.
//! * `sampler`: the thread, the newest sample, the history.

pub mod amdgpu;
mod history;
pub mod nvml;
mod presence;
pub mod remote;
pub mod sampler;
#[cfg(test)]
mod test_data;

use serde::{Deserialize, Serialize};

pub use history::Point;
pub use sampler::{Options, Sampler, Status};

/// GPUs of one machine that are looked at; those after are left out.
pub const MAX_GPUS: usize = 64;
/// Processes of one GPU that are listed; those after are left out.
pub const MAX_PROCESSES: usize = 256;

/// One GPU, or one MIG device of it, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// The name in the configuration: `nvml:0`, `nvml:0/mig:1`, `amdgpu:card0`,
    /// `remote:HOST/nvml:0`.
    pub id: String,
    /// The product, in the driver's words.
    pub name: String,
    /// The vendor's own identifier, which survives a reordering of the GPUs.
    #[serde(default)]
    pub uuid: Option<String>,
    /// Bytes of memory.
    pub memory_total: u64,
    /// Bytes that cannot be allocated now: in use, or reserved by the driver.
    pub memory_used: u64,
    /// Part of the recent past in which the GPU worked, 0 to 1.
    #[serde(default)]
    pub utilization: Option<f64>,
    /// Degrees Celsius.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Watts drawn.
    #[serde(default)]
    pub power: Option<f64>,
    /// Watts it may draw.
    #[serde(default)]
    pub power_limit: Option<f64>,
    /// Who uses it; empty where that cannot be read.
    #[serde(default)]
    pub processes: Vec<Process>,
}

impl Gpu {
    /// Bytes that can still be allocated.
    #[must_use]
    pub fn memory_free(&self) -> u64 {
        self.memory_total.saturating_sub(self.memory_used)
    }
}

/// A process that uses a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id as the driver sees it, which is the host's even inside a container.
    pub pid: u32,
    /// Bytes of GPU memory it holds.
    #[serde(default)]
    pub memory_used: Option<u64>,
}

/// All GPUs at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was taken, in milliseconds since 1970; 0 before the first.
    pub taken_unix_ms: u64,
    /// The GPUs that answered.
    pub gpus: Vec<Gpu>,
    /// What did not answer, and why.
    #[serde(default)]
    pub problem: Option<String>,
}

/// The body of `/api/gpu`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Milliseconds since the sample was published, by this machine's clock: clocks of two machines
    /// differ, so a reader elsewhere cannot work it out. Null where no GPU is looked at.
    #[serde(default)]
    pub age_ms: Option<u64>,
    /// The newest sample.
    #[serde(flatten)]
    pub sample: Sample,
}

/// Reads one kind of GPU. Calls may block: only the sampler's thread makes them.
pub trait Probe: Send {
    /// The kind, in logs.
    fn name(&self) -> &'static str;

    /// Reads all GPUs of the kind. No GPU is an error only if none can be read for now; see
    /// [`ProbeError`].
    fn sample(&mut self) -> Result<Vec<Gpu>, ProbeError>;

    /// Which GPUs the last sample left out, and why. The text must not change while the reason does
    /// not: each change is logged.
    fn left_out(&self) -> Option<String> {
        None
    }
}

/// Why a probe gave no GPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// There is no such GPU, driver or library here: normal, and silent.
    #[error("absent: {0}")]
    Absent(String),
    /// It was there before and is gone for now.
    #[error("lost: {0}")]
    Lost(String),
    /// It is there and does not answer as it should.
    #[error("failed: {0}")]
    Failed(String),
}
