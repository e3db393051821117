//! Admission: whether a request may be sent to an upstream now, must wait, or is turned away.
//! Ollama's own queue is unbounded for loaded models and says nothing, so the gateway keeps one
//! that is bounded, first come first served, and gives its places back whatever happens.

pub mod slots;

pub use self::slots::{Refused, Slot, Slots};
