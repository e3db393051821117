//! What the models of one Ollama take and how long they take to load, by name, ready for the request
//! path: made anew at every poll, read without a lock.

use std::time::Duration;

use crate::ollama::ByModel;

/// What is known of every model that an Ollama has.
pub type Figures = ByModel<Figure>;

/// What is known of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Digest of its weights and settings.
    pub digest: String,
    /// Bytes of VRAM it takes, where admission is to go by them.
    pub need: Option<u64>,
    /// Whether that was learned; else it is an estimate from its size on disk.
    pub learned: bool,
    /// How long it takes to load.
    pub load: Option<Duration>,
}
