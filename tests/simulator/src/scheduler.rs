//! Which models are loaded, who waits, who is evicted: Ollama's scheduler in small.

mod report;
mod runners;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::card::Card;
use crate::faults::Faults;
use crate::models::{Model, Settings};
pub(crate) use report::{details, rfc3339};
pub(crate) use runners::Place;
use runners::{Limits, Need, Runners};

/// `keep_alive` below zero keeps a model for ever.
const FOR_EVER: Duration = Duration::from_secs(86_400 * 365 * 100);
/// Ollama's own text, with its two spaces.
const BUSY: &str = "server busy, please try again.  maximum pending requests exceeded";

/// The loaded models.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    faults: Arc<Faults>,
    runners: Arc<Runners>,
    loading: tokio::sync::Mutex<()>,
    pending: AtomicUsize,
}

/// Why a request gets no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The queue for models that are not loaded is full.
    Busy,
    /// The model did not load.
    Failed(String),
}

impl Refusal {
    pub(crate) fn status(&self) -> u16 {
        match self {
            Refusal::Busy => 503,
            Refusal::Failed(_) => 500,
        }
    }

    pub(crate) fn message(&self) -> &str {
        match self {
            Refusal::Busy => BUSY,
            Refusal::Failed(message) => message,
        }
    }
}

struct Pending<'a>(&'a AtomicUsize);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scheduler {
    /// With nothing loaded. Fails where the card's files cannot be made.
    pub(crate) fn new(settings: Settings, faults: Arc<Faults>) -> io::Result<Self> {
        let card = settings.card.as_deref().map(|root| Card::create(root, settings.vram));
        let limits = Limits {
            vram: settings.vram,
            overhead: settings.overhead,
            max_loaded: settings.max_loaded,
        };
        let runners = Arc::new(Runners::new(limits, card.transpose()?));
        let (loading, pending) = (tokio::sync::Mutex::default(), AtomicUsize::new(0));
        Ok(Self { settings, faults, runners, loading, pending })
    }

    /// Waits for a place at `model`, loading it first where it is not loaded, or not with that
    /// context (in tokens; the model's own where none is asked for). `keep_alive` is in seconds.
    pub(crate) async fn place(
        &self,
        model: &Model,
        context: Option<u64>,
        keep_alive: Option<f64>,
    ) -> Result<Place, Refusal> {
        let keep_alive = keep_alive.map(lifetime);
        let need = Need { model, context: context.unwrap_or(model.context), keep_alive };
        let start = Instant::now();
        let (mut place, slots) = match self.runners.join(&need) {
            Some(joined) => joined,
            None => self.load(&need).await?,
        };
        place.load_time = start.elapsed();
        // As with the real one: no bound, and not a byte meanwhile.
        place.permit = Some(slots.acquire_owned().await.map_err(|_| Refusal::Busy)?);
        Ok(place)
    }

    async fn load(&self, need: &Need<'_>) -> Result<(Place, Arc<tokio::sync::Semaphore>), Refusal> {
        let waiting = self.pending.fetch_add(1, Ordering::SeqCst);
        let _pending = Pending(&self.pending);
        if waiting >= self.settings.max_queue {
            return Err(Refusal::Busy);
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(joined) = self.runners.join(need) {
            return Ok(joined);
        }
        let parallel = self.settings.num_parallel;
        let size = need.model.footprint(need.context, parallel);
        let mut swaps = false;
        let room = loop {
            let freed = self.runners.freed.notified();
            match self.runners.reserve(&need.model.name, size, &mut swaps) {
                Some(room) => break room,
                None => freed.await,
            }
        };
        tokio::time::sleep(need.model.load_time.unwrap_or(self.settings.load_time)).await;
        if let Some(message) = self.faults.next_load() {
            return Err(Refusal::Failed(message));
        }
        let keep_alive = need.keep_alive.unwrap_or(self.settings.keep_alive);
        Ok(room.fill(need, keep_alive, parallel))
    }

    /// Drops a model, as `keep_alive: 0` does: at once where it is idle, else after its requests.
    pub fn unload(&self, name: &str) {
        self.runners.change(|state| {
            for runner in state.runners.iter_mut().filter(|one| one.model.name == name) {
                runner.keep_alive = Duration::ZERO;
                runner.expires = Instant::now();
            }
        });
        self.runners.freed.notify_waiters();
    }

    /// Another process takes `bytes` of VRAM more.
    pub fn take_foreign(&self, bytes: u64) {
        self.runners.change(|state| state.foreign = state.foreign.saturating_add(bytes));
    }

    /// Other processes hold `bytes` of VRAM from now on, whatever they held before.
    pub fn set_foreign(&self, bytes: u64) {
        self.runners.change(|state| state.foreign = bytes);
        self.runners.freed.notify_waiters();
    }

    /// Bytes of VRAM used, by whomever, and in all. A model that is being loaded counts.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        self.runners.memory()
    }

    /// Times that the model of that full name was loaded.
    #[must_use]
    pub fn loads(&self, name: &str) -> usize {
        self.runners.change(|state| state.counts.loads.get(name).copied().unwrap_or(0))
    }

    /// Runners that had to go for a load: of another model, or of the same with other options.
    #[must_use]
    pub fn evictions(&self) -> usize {
        self.runners.change(|state| state.counts.evictions)
    }

    /// Loads for which another model had to go.
    #[must_use]
    pub fn swaps(&self) -> usize {
        self.runners.change(|state| state.counts.swaps)
    }

    /// `GET /api/ps`.
    #[must_use]
    pub fn ps(&self) -> Value {
        let models: Vec<Value> =
            self.runners.change(|state| state.runners.iter().map(report::loaded).collect());
        json!({ "models": models })
    }

    /// Lets expired models go, and shows what is on the card.
    pub(crate) fn refresh(&self) {
        self.runners.change(|_| ());
    }

    pub(crate) fn set_temperature(&self, celsius: f64) {
        self.runners.set_temperature(celsius);
    }
}

fn lifetime(seconds: f64) -> Duration {
    if seconds < 0.0 { FOR_EVER } else { Duration::from_secs_f64(seconds.min(1e9)) }
}
