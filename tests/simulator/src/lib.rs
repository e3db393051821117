//! A fake Ollama that behaves as the real one does on the wire: endpoints, shapes, errors, and
//! above all scheduling, because that is what a gateway in front of it lives with:
//!
//! - response headers come with the first token, after queueing and model load;
//! - a loaded model takes `num_parallel` requests at a time and queues the rest without bound;
//! - only requests for a model that is not loaded count against `max_queue`;
//! - a model that does not fit evicts idle ones, or runs partly on the CPU;
//! - a crashed runner ends a `/v1` stream cleanly, with neither `finish_reason` nor `[DONE]`.
//!
//! Faults are scripted, one for each request; everything received is recorded. Never linked into
//! the product.

mod answer;
mod faults;
mod models;
mod native;
mod openai;
mod recorder;
mod scheduler;
mod server;

use std::sync::Arc;

pub use faults::{Fault, Faults};
pub use models::{Model, Settings};
pub use recorder::{Received, Recorder};
pub use scheduler::Scheduler;
pub use server::Simulator;

/// What every request handler works with.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) scheduler: Scheduler,
    pub(crate) faults: Faults,
    pub(crate) recorder: Arc<Recorder>,
    /// Times that new weights came.
    pub(crate) pulled: std::sync::atomic::AtomicUsize,
}
