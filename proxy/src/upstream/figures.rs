//! What the models of one Ollama take and how long they take to load, by name, ready for the request
//! path: made anew at every poll, read without a lock.

use std::collections::HashMap;
use std::time::Duration;

/// What is known of every model that an Ollama has.
#[derive(Debug, Default)]
pub struct Figures {
    by_name: HashMap<String, Figure>,
}

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

impl Figures {
    /// Figures by full name with tag.
    #[must_use]
    pub fn new(all: impl IntoIterator<Item = (String, Figure)>) -> Self {
        Self { by_name: all.into_iter().collect() }
    }

    /// What is known of `model`; a missing tag is `:latest`.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<&Figure> {
        self.by_name.get(model).or_else(|| {
            let bare = !model.contains(':');
            bare.then(|| self.by_name.get(&format!("{model}:latest"))).flatten()
        })
    }

    /// Every model, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Figure)> {
        self.by_name.iter()
    }
}
