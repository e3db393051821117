//! Which models are loaded, who waits, who is evicted: Ollama's scheduler in small.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::models::{Model, Settings};

/// `keep_alive` below zero keeps a model for ever.
const FOR_EVER: Duration = Duration::from_secs(86_400 * 365 * 100);

/// The loaded models.
#[derive(Debug)]
pub struct Scheduler {
    settings: Settings,
    runners: Mutex<Vec<Runner>>,
    loading: tokio::sync::Mutex<()>,
    pending: AtomicUsize,
    freed: Arc<Notify>,
}

#[derive(Clone, Debug)]
struct Runner {
    model: Model,
    size_vram: u64,
    slots: Arc<Semaphore>,
    users: Arc<AtomicUsize>,
    keep_alive: Duration,
    expires: Instant,
}

/// A place at a loaded model.
#[derive(Debug)]
pub struct Place {
    users: Arc<AtomicUsize>,
    freed: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.users.fetch_sub(1, Ordering::SeqCst);
        self.freed.notify_waiters();
    }
}

/// The queue for models that are not loaded is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

struct Pending<'a>(&'a AtomicUsize);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scheduler {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            runners: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
            pending: AtomicUsize::new(0),
            freed: Arc::default(),
        }
    }

    /// Waits for a place at `model`, loading it first where needed.
    pub async fn place(&self, model: &Model, keep_alive: Option<f64>) -> Result<Place, Busy> {
        let runner = match self.find(model, keep_alive) {
            Some(runner) => runner,
            None => self.load(model, keep_alive).await?,
        };
        // As with the real one: no bound, and not a byte meanwhile.
        let permit = Arc::clone(&runner.slots).acquire_owned().await.map_err(|_| Busy)?;
        Ok(Place { users: runner.users, freed: Arc::clone(&self.freed), _permit: permit })
    }

    /// Finds a loaded model and counts one more user.
    fn find(&self, model: &Model, keep_alive: Option<f64>) -> Option<Runner> {
        let mut runners = self.runners.lock();
        Self::expire(&mut runners);
        let runner = runners.iter_mut().find(|one| one.model.name == model.name)?;
        if let Some(seconds) = keep_alive {
            runner.keep_alive = lifetime(seconds);
        }
        runner.expires = Instant::now() + runner.keep_alive;
        runner.users.fetch_add(1, Ordering::SeqCst);
        Some(runner.clone())
    }

    async fn load(&self, model: &Model, keep_alive: Option<f64>) -> Result<Runner, Busy> {
        if self.pending.fetch_add(1, Ordering::SeqCst) >= self.settings.max_queue {
            self.pending.fetch_sub(1, Ordering::SeqCst);
            return Err(Busy);
        }
        let _pending = Pending(&self.pending);
        let _one_at_a_time = self.loading.lock().await;
        if let Some(runner) = self.find(model, keep_alive) {
            return Ok(runner);
        }
        let size_vram = self.make_room(model.size).await;
        tokio::time::sleep(self.settings.load_time).await;
        let keep_alive = keep_alive.map_or(self.settings.keep_alive, lifetime);
        let runner = Runner {
            model: model.clone(),
            size_vram,
            slots: Arc::new(Semaphore::new(self.settings.num_parallel)),
            users: Arc::new(AtomicUsize::new(1)),
            keep_alive,
            expires: Instant::now() + keep_alive,
        };
        self.runners.lock().push(runner.clone());
        Ok(runner)
    }

    /// Evicts idle models, longest unused first, until `size` fits or nothing idle is left to wait
    /// for; returns the bytes that go to the GPU.
    async fn make_room(&self, size: u64) -> u64 {
        loop {
            let freed = self.freed.notified();
            {
                let mut runners = self.runners.lock();
                Self::expire(&mut runners);
                let used: u64 = runners.iter().map(|one| one.size_vram).sum();
                let free = self.settings.vram.saturating_sub(used);
                if runners.len() < self.settings.max_loaded && (free >= size || runners.is_empty())
                {
                    return free.min(size);
                }
                let idle = runners
                    .iter()
                    .enumerate()
                    .filter(|(_, one)| one.users.load(Ordering::SeqCst) == 0)
                    .min_by_key(|(_, one)| one.expires)
                    .map(|(index, _)| index);
                if let Some(index) = idle {
                    runners.remove(index);
                    continue;
                }
            }
            freed.await;
        }
    }

    fn expire(runners: &mut Vec<Runner>) {
        let now = Instant::now();
        runners.retain(|one| one.users.load(Ordering::SeqCst) > 0 || one.expires > now);
    }

    /// Drops an idle model, as `keep_alive: 0` does.
    pub fn unload(&self, name: &str) {
        self.runners
            .lock()
            .retain(|one| one.model.name != name || one.users.load(Ordering::SeqCst) > 0);
    }

    /// `GET /api/ps`.
    #[must_use]
    pub fn ps(&self) -> Value {
        let mut runners = self.runners.lock();
        Self::expire(&mut runners);
        let models: Vec<Value> = runners
            .iter()
            .map(|one| {
                let left = one.expires.saturating_duration_since(Instant::now());
                json!({
                    "name": one.model.name,
                    "model": one.model.name,
                    "size": one.model.size,
                    "digest": one.model.digest(),
                    "details": details(),
                    "expires_at": rfc3339(SystemTime::now() + left.min(FOR_EVER)),
                    "size_vram": one.size_vram,
                    "context_length": one.model.context,
                })
            })
            .collect();
        json!({ "models": models })
    }
}

fn lifetime(seconds: f64) -> Duration {
    if seconds < 0.0 { FOR_EVER } else { Duration::from_secs_f64(seconds.min(1e9)) }
}

pub(crate) fn details() -> Value {
    json!({
        "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
        "parameter_size": "3.2B", "quantization_level": "Q4_K_M"
    })
}

/// Whole seconds of UTC; Ollama's own has nanoseconds and an offset.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date (Howard Hinnant, chrono-compatible low-level date algorithms).
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            models: vec![Model::new("a:1", 10), Model::new("b:1", 10), Model::new("big:1", 40)],
            vram: 16 << 30,
            num_parallel: 1,
            max_queue: 1,
            ..Settings::default()
        }
    }

    fn loaded(scheduler: &Scheduler) -> Vec<(String, u64)> {
        let runners = scheduler.runners.lock();
        runners.iter().map(|one| (one.model.name.clone(), one.size_vram >> 30)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_model_makes_room_and_a_big_one_spills() {
        let settings = settings();
        let scheduler = Scheduler::new(settings.clone());
        drop(scheduler.place(&settings.models[0], None).await.expect("loads"));
        drop(scheduler.place(&settings.models[1], None).await.expect("loads"));
        assert_eq!(loaded(&scheduler), [("b:1".into(), 10)]);
        drop(scheduler.place(&settings.models[2], None).await.expect("loads"));
        assert_eq!(loaded(&scheduler), [("big:1".into(), 16)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_only_for_models_that_are_not_loaded() {
        let settings = settings();
        let scheduler = Arc::new(Scheduler::new(settings.clone()));
        let held = scheduler.place(&settings.models[0], None).await.expect("loads");
        for _ in 0..10 {
            let (scheduler, model) = (Arc::clone(&scheduler), settings.models[0].clone());
            tokio::spawn(async move { scheduler.place(&model, None).await.map(drop) });
        }
        let waiting = {
            let (scheduler, model) = (Arc::clone(&scheduler), settings.models[1].clone());
            tokio::spawn(async move { scheduler.place(&model, None).await.map(drop) })
        };
        tokio::task::yield_now().await;
        assert_eq!(scheduler.place(&settings.models[2], None).await.err(), Some(Busy));
        drop(held);
        assert!(waiting.await.expect("no panic").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_model_expires() {
        let settings = settings();
        let scheduler = Scheduler::new(settings.clone());
        drop(scheduler.place(&settings.models[0], Some(10.0)).await.expect("loads"));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(scheduler.ps()["models"], json!([]));
    }

    #[test]
    fn times_are_civil() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_132_799);
        assert_eq!(rfc3339(at), "2026-11-19T23:59:59Z");
    }
}
