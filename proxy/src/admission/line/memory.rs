//! What an upstream's GPU memory holds.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// What was last seen of an upstream's GPU memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Bytes that loads may take without evicting anything; the reserve is off it already.
    pub free: u64,
    /// The models that are loaded.
    pub residents: Vec<Resident>,
}

/// A loaded model.
#[derive(Clone, Debug)]
pub struct Resident {
    /// Its name, with or without `:latest`.
    pub model: Arc<str>,
    /// Bytes it takes on GPUs.
    pub vram: u64,
    /// Some of it is on the CPU.
    pub partial: bool,
    /// When it was loaded.
    pub since: Instant,
    /// Never to be evicted.
    pub pinned: bool,
    /// How long it takes to load, once learned.
    pub reload: Option<Duration>,
}

/// Bytes of GPU memory that a model could still take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headroom {
    /// Those that nothing takes.
    pub free: u64,
    /// Those of loaded models that nobody uses and that may go.
    pub idle: u64,
}

impl Headroom {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.free.saturating_add(self.idle)
    }
}

impl Memory {
    /// The resident of this name, which has no `:latest`.
    #[must_use]
    pub(super) fn resident(&self, model: &str) -> Option<&Resident> {
        self.residents.iter().find(|one| &*one.model == model)
    }

    /// Bytes that a model could take with all unpinned ones gone.
    #[must_use]
    pub(super) fn capacity(&self) -> u64 {
        let unpinned = self.residents.iter().filter(|one| !one.pinned);
        unpinned.fold(self.free, |sum, one| sum.saturating_add(one.vram))
    }

    /// Takes out what was evicted.
    pub(super) fn evicted(&mut self, models: &[Arc<str>]) {
        let Self { free, residents } = self;
        residents.retain(|one| {
            let gone = models.contains(&one.model);
            if gone {
                *free = free.saturating_add(one.vram);
            }
            !gone
        });
    }

    /// Puts in what was loaded, unless it was seen already.
    pub(super) fn loaded(&mut self, resident: Resident) {
        if self.resident(&resident.model).is_none() {
            self.free = self.free.saturating_sub(resident.vram);
            self.residents.push(resident);
        }
    }

    /// Drops the `:latest` of every name.
    #[must_use]
    pub(super) fn with_plain_names(mut self) -> Self {
        for one in &mut self.residents {
            one.model = plain_name(&one.model);
        }
        self
    }
}

/// A shared name as [`plain`](crate::ollama::plain) has it; allocates only where there is something to drop.
#[must_use]
pub(super) fn plain_name(model: &Arc<str>) -> Arc<str> {
    model.strip_suffix(":latest").map_or_else(|| Arc::clone(model), Arc::from)
}
