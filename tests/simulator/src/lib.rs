//! A fake Ollama that behaves as the real one does on the wire: endpoints, shapes, errors, and
//! above all scheduling, because that is what a gateway in front of it lives with:
//!
//! - response headers come with the first token, after queueing and model load;
//! - a loaded model takes `num_parallel` requests at a time and queues the rest without bound;
//! - only requests for a model that is not loaded count against `max_queue`;
//! - a model that does not fit evicts idle ones, or runs partly on the CPU;
//! - a request with another context length than the runner's reloads the model;
//! - a model may fail to load, and another process may take the VRAM;
//! - a crashed runner ends a `/v1` stream cleanly, with neither `finish_reason` nor `[DONE]`.
//!
//! Faults are scripted, one for each request; everything received is recorded. Never linked into
//! the product.

mod answer;
mod card;
mod embedding;
mod faults;
mod models;
mod native;
mod openai;
mod pace;
mod recorder;
mod scheduler;
mod server;
mod speech;

use std::sync::Arc;

pub use faults::{Fault, Faults};
pub use models::{Model, Settings};
use pace::Pace;
pub use recorder::{Received, Recorder};
pub use scheduler::Scheduler;
pub use server::Simulator;

/// What every request handler works with.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) scheduler: Scheduler,
    pub(crate) faults: Arc<Faults>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) recorder: Arc<Recorder>,
}
