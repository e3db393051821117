//! Admission: whether a request may be sent to an upstream now, must wait, or is turned away.
//!
//! Ollama's own queue is unbounded for loaded models and says nothing, and a model that does not
//! fit goes to the CPU in silence. The gateway therefore keeps a line of its own for each upstream:
//! bounded, fair by caller, in batches by model, and with a say in what is loaded and evicted.
//!
//! # Layout
//!
//! - `decision`: what to do with a request, from what is known. Pure.
//! - `eviction`: which residents make room for a model. Pure.
//! - `line`: the queue and its rules. Synchronous, takes the time as a parameter.
//! - `gate`: the live object: a lock around the line, wake-ups, and places that give themselves back.

pub mod decision;
pub mod eviction;
pub mod gate;
pub mod line;

pub use self::decision::{Decision, Offload};
pub use self::gate::{Gate, InLine, Place, Slot, TurnedAway};
pub use self::line::memory::{Headroom, Memory, Resident};
pub use self::line::report::Report;
pub use self::line::{Ask, Load, Priority, QueueFull, Terms};
