//! Which models an Ollama has loaded, as it last said (`GET /api/ps`), and how fast they answer, as
//! measured.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use chrono::DateTime;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ask::Unanswered;
use super::catalogue::get_json;
use super::origin::Origin;
use super::pool::Pool;
use crate::ollama::{self, LoadedModels, plain, same_model};

/// Models whose speed is remembered.
const MAX_SPEEDS: usize = 256;
/// Measurements kept until they are taken.
const MAX_RECENT: usize = 64;
/// Weight of the newest measurement in the mean.
const NEWEST: f64 = 0.2;
/// What was last seen counts for so long while the upstream cannot be asked.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// A model that is not unloaded for longer than this is kept for good.
const FOR_GOOD: Duration = Duration::from_secs(86_400 * 365 * 10);

/// What is loaded; nothing while it is not known.
#[derive(Debug, Default)]
pub struct Residency {
    seen: ArcSwapOption<Seen>,
}

/// What was loaded when the upstream was last asked.
#[derive(Debug)]
pub struct Seen {
    /// The models.
    pub models: Vec<Loaded>,
    /// When it was asked.
    pub asked: Instant,
}

/// A model in memory.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Full name with its tag.
    pub name: Arc<str>,
    /// Digest of its weights and settings.
    pub digest: String,
    /// Bytes it takes in all.
    pub size: u64,
    /// Bytes of these that are on GPUs.
    pub size_vram: u64,
    /// Whether part of it runs on the CPU that was to run on a GPU.
    pub partial: bool,
    /// Tokens of context it was loaded with.
    pub context: Option<u64>,
    /// Time until it is unloaded unless it is used; none when it is kept for good, or that is not
    /// known.
    pub expires_in: Option<Duration>,
    /// When it was first seen, without a break since.
    pub since: Instant,
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
    /// Asks the Ollama at `origin`. One that cannot be asked has unknown models. Where it has no GPU
    /// (`on_cpu`), a model that is all on the CPU is where it belongs.
    ///
    /// # Errors
    /// Why it cannot be asked.
    pub async fn refresh(
        &self,
        origin: &Origin,
        pool: &Arc<Pool>,
        on_cpu: bool,
    ) -> Result<(), Unanswered> {
        let asked = Instant::now();
        let answer = get_json::<LoadedModels>(origin, pool, "/api/ps").await;
        let before = self.seen.load();
        let seen = answer.as_ref().ok().map(|answer| {
            let models = answer.models.iter().flatten();
            let models = models.map(|one| loaded(one, before.as_deref(), asked, on_cpu)).collect();
            Arc::new(Seen { models, asked })
        });
        // One poll that fails does not unload what was loaded.
        let fresh = before.as_ref().is_some_and(|seen| seen.asked.elapsed() < LOST_AFTER);
        if seen.is_some() || !fresh {
            self.seen.store(seen);
        }
        answer.map(drop)
    }

    /// Nothing is known any more: the upstream was stopped.
    pub fn forget(&self) {
        self.seen.store(None);
    }

    /// What was last seen.
    #[must_use]
    pub fn seen(&self) -> Option<Arc<Seen>> {
        self.seen.load_full()
    }

    /// What is known of `model`.
    #[must_use]
    pub fn of(&self, model: &str) -> Resident {
        let seen = self.seen.load();
        let Some(seen) = &*seen else { return Resident::default() };
        match seen.models.iter().find(|one| same_model(&one.name, model)) {
            None => Resident { resident: Some(false), ..Resident::default() },
            Some(one) => Resident {
                resident: Some(true),
                partial: Some(one.partial),
                context_length: one.context,
            },
        }
    }

    /// Bytes of VRAM that loaded models take.
    #[must_use]
    pub fn vram(&self) -> Option<u64> {
        Some(self.seen.load().as_ref()?.models.iter().map(|one| one.size_vram).sum())
    }
}

fn loaded(one: &ollama::Loaded, before: Option<&Seen>, now: Instant, on_cpu: bool) -> Loaded {
    let same = |known: &&Loaded| *known.name == *one.name && known.digest == one.digest;
    let known = before.and_then(|seen| seen.models.iter().find(same));
    let expires_in = DateTime::parse_from_rfc3339(&one.expires_at)
        .ok()
        .map(|at| SystemTime::from(at).duration_since(SystemTime::now()).unwrap_or_default())
        .filter(|left| *left < FOR_GOOD);
    Loaded {
        name: known.map_or_else(|| Arc::from(&*one.name), |known| Arc::clone(&known.name)),
        digest: one.digest.clone(),
        size: one.size,
        size_vram: one.size_vram,
        partial: one.size_vram < one.size && (one.size_vram > 0 || !on_cpu),
        context: one.context_length,
        expires_in,
        since: known.map_or(now, |known| known.since),
    }
}

/// How fast models answer, as moving means.
#[derive(Debug, Default)]
pub struct Speeds {
    known: Mutex<HashMap<Arc<str>, Speed, RandomState>>,
    /// Measurements that nobody took yet, oldest first.
    recent: Mutex<VecDeque<Measured>>,
}

/// How fast one answer was.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The model's name, as the request had it.
    pub model: Arc<str>,
    /// Its speed.
    pub speed: Speed,
    /// Answers that the model gave at one time, this one among them.
    pub at_once: usize,
}

/// Tokens a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// Of answers.
    pub decode: Option<f64>,
    /// Of prompts.
    pub prompt: Option<f64>,
}

impl Speeds {
    /// Takes in a measurement.
    pub fn record(&self, measured: Measured) {
        {
            let mut recent = self.recent.lock();
            if recent.len() == MAX_RECENT {
                recent.pop_front();
            }
            recent.push_back(measured.clone());
        }
        let Measured { model, speed, .. } = measured;
        let model = if plain(&model) == &*model { model } else { Arc::from(plain(&model)) };
        let mut known = self.known.lock();
        if let Some(mean) = known.get_mut(&model) {
            blend(&mut mean.decode, speed.decode);
            blend(&mut mean.prompt, speed.prompt);
        } else if known.len() < MAX_SPEEDS {
            let mut mean = Speed::default();
            blend(&mut mean.decode, speed.decode);
            blend(&mut mean.prompt, speed.prompt);
            known.insert(model, mean);
        }
    }

    /// The measurements since this was last called; the newest, if they were many.
    pub fn take_recent(&self) -> VecDeque<Measured> {
        std::mem::take(&mut *self.recent.lock())
    }

    /// The means for `model`.
    #[must_use]
    pub fn of(&self, model: &str) -> Speed {
        self.known.lock().get(plain(model)).copied().unwrap_or_default()
    }
}

fn blend(mean: &mut Option<f64>, measured: Option<f64>) {
    let Some(measured) = measured.filter(|speed| speed.is_finite() && *speed > 0.0) else { return };
    *mean = Some(mean.map_or(measured, |mean| mean + NEWEST * (measured - mean)));
}
