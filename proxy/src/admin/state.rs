//! What the admin listener shows of the gateway's state; `sluicegate status` reads it back.

use serde::{Deserialize, Serialize};

use crate::admission;
use crate::gpu;
use crate::telemetry::events::Event;

/// `/api/status`: everything that one screen shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The gateway's version.
    pub version: String,
    /// Why the configuration file, as it was last read, is not in force, or not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_problem: Option<String>,
    /// See [`UpstreamStatus`].
    pub upstreams: Vec<UpstreamStatus>,
    /// The GPUs of its machine.
    pub gpus: gpu::Report,
    /// See [`ModelStatus`].
    pub models: Vec<ModelStatus>,
    /// See [`QueueStatus`].
    pub queues: Vec<QueueStatus>,
    /// What admission did lately, newest first.
    pub events: Vec<Event>,
}

/// One upstream as shown by `/api/upstreams`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `ollama` or `openai`.
    pub kind: String,
    /// Where it is.
    pub url: String,
    /// Ollama's version.
    pub version: Option<String>,
    /// Whether it answered when last asked; null when it was not asked yet.
    pub reachable: Option<bool>,
    /// Why it did not.
    pub problem: Option<String>,
    /// `closed`, `open` or `half_open`.
    pub breaker: String,
    /// Why it is not closed.
    pub breaker_reason: Option<String>,
    /// Models that are left alone though the upstream is not, with why.
    #[serde(default)]
    pub left_alone: Vec<LeftAlone>,
    /// Requests sent to it now.
    pub in_flight: usize,
    /// Requests waiting for it.
    pub waiting: usize,
    /// Requests sent to it at one time at most.
    pub max_concurrent: usize,
    /// Bytes of VRAM behind it; null where that is not known.
    pub vram_total: Option<u64>,
    /// Bytes of these that are taken, by whomever.
    pub vram_used: Option<u64>,
    /// Bytes that models could be loaded into, idle ones evicted.
    pub headroom: Option<u64>,
    /// Bytes of these that idle models take now.
    pub idle: Option<u64>,
    /// The container it runs in: `absent`, `starting`, `running`, `stopped`, `failed` or `unknown`.
    pub container: Option<String>,
    /// The models it has.
    pub models: Option<Vec<String>>,
}

/// A model that is left alone for a while, because it failed where others did not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftAlone {
    /// The model.
    pub model: String,
    /// Why.
    pub why: String,
}

/// One model of one Ollama as shown by `/api/models`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelStatus {
    /// The upstream.
    pub upstream: String,
    /// Full name with tag.
    pub model: String,
    /// Digest of its weights and settings.
    pub digest: String,
    /// Whether it is loaded.
    pub resident: bool,
    /// Whether part of it runs on the CPU.
    pub partial: bool,
    /// Whether it is kept loaded.
    pub pinned: bool,
    /// Bytes it takes in all, while loaded.
    pub size: Option<u64>,
    /// Bytes of these on GPUs.
    pub size_vram: Option<u64>,
    /// Tokens of context it was loaded with.
    pub context: Option<u64>,
    /// Seconds until it is unloaded unless it is used; null while it is not loaded or stays.
    pub expires_in: Option<u64>,
    /// Bytes of VRAM that it is expected to take.
    pub need: Option<u64>,
    /// Whether that was learned; else it is estimated from its size on disk.
    pub learned: bool,
    /// Seconds it takes to load.
    pub load_seconds: Option<f64>,
    /// Tokens a second of its answers.
    pub decode_per_second: Option<f64>,
    /// Tokens a second of its prompts.
    pub prompt_per_second: Option<f64>,
    /// Requests it works on.
    pub in_flight: usize,
}

/// Who waits for one upstream, as shown by `/api/queue`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueueStatus {
    /// The upstream.
    pub upstream: String,
    /// Its line.
    #[serde(flatten)]
    pub line: admission::Report,
}
