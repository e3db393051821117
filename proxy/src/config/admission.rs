//! Admission in the configuration: the queue, the VRAM breaker, and what a model that does not fit may
//! do.

use schemars::JsonSchema;
use serde::Deserialize;

use super::load::ConfigError;
use super::units::{ByteSize, Celsius, Percent, Period};

/// When a request may run, must wait, or goes elsewhere.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Admission {
    /// The queue in front of each upstream.
    pub queue: Queue,
    /// The memory of the GPUs behind an Ollama.
    pub vram: Vram,
    /// What to do with a model that runs partly on the CPU, or would: `warn` (default), `allow`,
    /// `fallback` or `reject`.
    pub offload: Offload,
    /// What to do with a prompt that is longer than the context its model is loaded with, of which an
    /// Ollama leaves out the oldest messages without saying so: `warn` (default), `allow` or `reject`.
    pub long_prompts: LongPrompts,
    /// The temperature of the GPUs behind an Ollama.
    pub temperature: Temperature,
}

/// The queue in front of each upstream.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Requests that may wait for one model of one upstream; beyond it, fallback or 503. Default
    /// 512.
    pub max_waiting: usize,
    /// Longest wait; beyond it, fallback or 503. Default `5m`.
    pub max_wait: Period,
    /// Who shares places fairly: `caller` (default) or `none`, first come first served.
    pub fair_by: FairBy,
    /// A model that was just loaded is not evicted for this long. Default `20s`.
    pub min_residency: Period,
    /// After waiting this long for its model, a request keeps new ones from the models in its way.
    /// Default `120s`.
    pub max_starvation: Period,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_waiting: 512,
            max_wait: Period::secs(300),
            fair_by: FairBy::default(),
            min_residency: Period::secs(20),
            max_starvation: Period::secs(120),
        }
    }
}

/// Among whom places are shared.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum FairBy {
    /// Owners of API keys, by their `weight`.
    #[default]
    Caller,
    /// Nobody: first come, first served.
    None,
}

/// The memory of the GPUs behind an Ollama.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Vram {
    /// What opens an upstream's breaker: `headroom` (default), memory at `critical` that its own
    /// models do not explain; or `percent`, memory at `critical` whoever takes it.
    pub trip: Trip,
    /// Share of the memory taken that is worth a warning. Default `85%`.
    pub warn: Percent,
    /// Share of the memory taken at which the breaker may open. Default `95%`.
    pub critical: Percent,
    /// Share below which it may close again. Default `90%`.
    pub recover: Percent,
    /// Memory that no model is loaded into. Default `512MiB`.
    pub reserve: ByteSize,
    /// How often Ollamas are asked what they have loaded. Default `500ms`.
    pub poll: Period,
    /// How long a condition must last before the breaker opens. Default `1s`.
    pub trip_after: Period,
    /// How long it must be over before the breaker lets requests try again. Default `5s`.
    pub recover_after: Period,
}

impl Default for Vram {
    fn default() -> Self {
        Self {
            trip: Trip::default(),
            warn: Percent::of(85),
            critical: Percent::of(95),
            recover: Percent::of(90),
            reserve: ByteSize::mib(512),
            poll: Period(std::time::Duration::from_millis(500)),
            trip_after: Period::secs(1),
            recover_after: Period::secs(5),
        }
    }
}

/// What opens an upstream's breaker.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Trip {
    /// Memory taken by others.
    #[default]
    Headroom,
    /// Memory taken at all.
    Percent,
}

/// What to do with a model that runs partly on the CPU.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Offload {
    /// Use it.
    Allow,
    /// Use it, and say so in the log, the metrics and `x-sluicegate-offload`.
    #[default]
    Warn,
    /// Go to another target where there is one, else use it.
    Fallback,
    /// Answer 503 where there is no other target.
    Reject,
}

/// What to do with a prompt that is longer than the context its model is loaded with.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LongPrompts {
    /// Send it.
    Allow,
    /// Send it, and say so in the events, the metrics and `x-sluicegate-prompt`.
    #[default]
    Warn,
    /// Go to another target where there is one, else answer 400 `context_length_exceeded`.
    Reject,
}

/// The temperature of the GPUs behind an Ollama.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Temperature {
    /// Worth a warning. Default `75C`.
    pub warn: Celsius,
    /// Opens the breaker of the upstream. Default `90C`.
    pub critical: Celsius,
}

impl Default for Temperature {
    fn default() -> Self {
        Self { warn: Celsius(75.0), critical: Celsius(90.0) }
    }
}

/// Checks what was given.
pub(super) fn check(admission: &Admission) -> Result<(), ConfigError> {
    let Admission { queue, vram, temperature, .. } = admission;
    let fail = |message: &str| Err(ConfigError::general(message));
    if vram.recover >= vram.critical {
        return fail("`admission.vram.recover` must be below `critical`");
    }
    if vram.poll.0 < std::time::Duration::from_millis(50) {
        return fail("`admission.vram.poll` must be 50ms or more");
    }
    if queue.max_wait.0.is_zero() {
        return fail("`admission.queue.max_wait` must be more than zero");
    }
    if temperature.warn > temperature.critical {
        return fail("`admission.temperature.warn` must not be above `critical`");
    }
    Ok(())
}
