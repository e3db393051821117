//! Which models an Ollama has loaded, as it last said (`GET /api/ps`), and how fast they answer, as
//! measured.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::catalogue::get_json;
use super::origin::Origin;
use super::pool::Pool;
use crate::config::raw::UpstreamKind;
use crate::ollama::{Loaded, LoadedModels, same_model};

/// Models whose speed is remembered.
const MAX_SPEEDS: usize = 256;
/// Weight of the newest measurement in the mean.
const NEWEST: f64 = 0.2;

/// What is loaded; `None` while it is not known.
#[derive(Debug, Default)]
pub struct Residency {
    loaded: Mutex<Option<Arc<Vec<Loaded>>>>,
}

/// What is known of one model's place in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Whether it is loaded.
    pub resident: Option<bool>,
    /// Whether part of it runs on the CPU.
    pub partial: Option<bool>,
    /// Tokens of context it was loaded with.
    pub context_length: Option<u64>,
}

impl Residency {
    /// Asks the upstream; one that cannot be asked is not known.
    pub async fn refresh(&self, origin: &Origin, pool: &Arc<Pool>) {
        if origin.config.kind != UpstreamKind::Ollama {
            return;
        }
        let answer = get_json::<LoadedModels>(origin, pool, "/api/ps").await;
        let loaded = answer.ok().map(|answer| Arc::new(answer.models.unwrap_or_default()));
        *self.loaded.lock() = loaded;
    }

    /// What is known of `model`.
    #[must_use]
    pub fn of(&self, model: &str) -> Resident {
        let Some(loaded) = self.loaded.lock().clone() else { return Resident::default() };
        match loaded.iter().find(|one| same_model(&one.name, model)) {
            None => Resident { resident: Some(false), ..Resident::default() },
            Some(one) => Resident {
                resident: Some(true),
                partial: Some(one.size_vram < one.size),
                context_length: one.context_length,
            },
        }
    }

    /// Bytes of VRAM that loaded models take.
    #[must_use]
    pub fn vram(&self) -> Option<u64> {
        let loaded = self.loaded.lock().clone()?;
        Some(loaded.iter().map(|one| one.size_vram).sum())
    }
}

/// Tokens a second by model, as a moving mean.
#[derive(Debug, Default)]
pub struct Speeds {
    known: Mutex<HashMap<Arc<str>, f64>>,
}

impl Speeds {
    /// Takes in a measurement.
    pub fn record(&self, model: &Arc<str>, tokens_per_second: f64) {
        if !tokens_per_second.is_finite() {
            return;
        }
        let mut known = self.known.lock();
        if let Some(mean) = known.get_mut(model) {
            *mean += NEWEST * (tokens_per_second - *mean);
        } else if known.len() < MAX_SPEEDS {
            known.insert(Arc::clone(model), tokens_per_second);
        }
    }

    /// The mean for `model`.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<f64> {
        self.known.lock().get(model).copied()
    }
}
