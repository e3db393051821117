//! What was learned about models: the memory they take, how long they load, how fast they answer.
//! Kept in a file over restarts, with the models that people pinned.
//!
//! A model is its digest: a name can come to mean other weights. What it takes depends on the
//! context it is loaded with and on how many requests it answers at a time.
//!
//! Every call is short and in memory, but for [`Learned::open`] and [`Learned::save`], which block
//! on the disk: call these off the request path, on a thread that may block.

mod file;
mod footprint;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use self::footprint::estimate;

/// Keys that are remembered; the one longest unseen makes room for another.
const MAX_KEYS: usize = 1024;
/// Pinned models, of all upstreams together.
const MAX_PINS: usize = 256;
/// Bytes of a digest, or of the name of a model or an upstream.
const MAX_NAME: usize = 256;
/// Bytes of a model. Larger is no measurement.
const MAX_BYTES: u64 = 1 << 46;
/// Tokens of context.
const MAX_CONTEXT: u64 = 1 << 32;
/// Requests at a time.
const MAX_PARALLEL: u32 = 1 << 16;
/// Seconds of a load, and tokens a second.
const MAX_MEASURE: f64 = 1e6;
/// Weight of the newest load in the mean. Loads are few, and differ with what the disk has cached.
const NEWEST_LOAD: f64 = 0.3;
/// Weight of the newest speed in the mean.
const NEWEST_SPEED: f64 = 0.2;
/// Answers after which the mean speed is one to measure others by.
const ENOUGH_ANSWERS: u32 = 5;
/// A sighting alone changes the file once in this many seconds: a model that is looked at every
/// second must not write the disk every second.
const SEEN_STEP: u64 = 3600;

/// What figures belong to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The model's digest.
    pub digest: String,
    /// Tokens of context it was loaded with, for each request; 0 where that is not told.
    pub context: u64,
    /// Requests that it answers at a time.
    pub parallel: u32,
}

/// What was learned about a model, loaded in one way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The name it was last seen under.
    pub name: String,
    /// Bytes of VRAM it takes when all of it is on GPUs; 0 before it was seen loaded.
    pub vram: u64,
    /// Bytes it takes in all, as last seen; 0 before that.
    pub size: u64,
    /// Seconds that a load takes.
    #[serde(default)]
    pub load_seconds: Option<f64>,
    /// Tokens a second of an answer.
    #[serde(default)]
    pub decode_per_second: Option<f64>,
    /// Tokens a second of a prompt.
    #[serde(default)]
    pub prompt_per_second: Option<f64>,
    /// Bytes by which the GPUs' memory in use grew during a load, as the probe saw it.
    #[serde(default)]
    pub probe_delta: Option<u64>,
    /// Answers whose speed is in `decode_per_second`.
    #[serde(default)]
    pub samples: u32,
    /// When it was last seen, in seconds since 1970.
    pub seen_unix: u64,
}

/// Why a model was not pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Not a name that a model or an upstream can have.
    #[error("a name must have 1 to {MAX_NAME} bytes and no control characters")]
    Name,
    /// Too many are pinned.
    #[error("no more than {MAX_PINS} models can be pinned; unpin one first")]
    TooMany,
}

/// What was learned. A figure that cannot be true (no number, beyond all bounds, under a key or
/// name that cannot be one) is dropped.
#[derive(Debug)]
pub struct Learned {
    /// Where it is kept; `None` for nowhere.
    path: Option<PathBuf>,
    inner: Mutex<Inner>,
    /// Held while the file is written.
    saving: Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    models: HashMap<Key, Facts>,
    /// Models by upstream.
    pins: BTreeMap<String, BTreeSet<String>>,
    /// Counts the changes, and how many of them the file has.
    changed: u64,
    saved: u64,
}

impl Learned {
    /// Nothing learned, and none of it kept.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { path: None, inner: Mutex::default(), saving: Mutex::default() }
    }

    /// Reads what a file has, and keeps what is learned there. Blocks.
    ///
    /// No file is the normal beginning. One that cannot be read or understood is renamed to
    /// `PATH.bad`, in the place of an earlier one, and nothing is known; the text is a warning that
    /// says so. If it cannot be renamed either, nothing is kept, so that it is not overwritten.
    #[must_use]
    pub fn open(path: PathBuf) -> (Self, Option<String>) {
        let (inner, keeps, warning) = file::open(&path);
        let path = keeps.then_some(path);
        (Self { path, inner: Mutex::new(inner), saving: Mutex::default() }, warning)
    }

    /// Takes in a sighting of a loaded model, in bytes as `/api/ps` tells them. Of one that is
    /// partly on the CPU it is not known what it would take on GPUs but for its whole size, which
    /// never lowers what is known.
    pub fn resident(&self, key: &Key, name: &str, size: u64, size_vram: u64) {
        if size.max(size_vram) == 0 || size.max(size_vram) > MAX_BYTES {
            return;
        }
        self.learn(key, name, |facts| {
            facts.size = size;
            facts.vram = if size_vram < size { facts.vram.max(size) } else { size_vram };
        });
    }

    /// Takes in a load: how long it took, and by how many bytes the memory in use grew, if a probe
    /// saw that.
    pub fn loaded(&self, key: &Key, name: &str, took: Duration, probe_delta: Option<u64>) {
        let took = measure(Some(took.as_secs_f64()));
        let delta = probe_delta.filter(|bytes| (1..=MAX_BYTES).contains(bytes));
        if took.is_none() && delta.is_none() {
            return;
        }
        self.learn(key, name, |facts| {
            mix(&mut facts.load_seconds, took, NEWEST_LOAD);
            let mut mean = facts.probe_delta.map(|bytes| bytes as f64);
            mix(&mut mean, delta.map(|bytes| bytes as f64), NEWEST_LOAD);
            facts.probe_delta = mean.map(|bytes| bytes.round() as u64);
        });
    }

    /// Takes in an answer's speeds, in tokens a second.
    pub fn speed(&self, key: &Key, name: &str, decode: Option<f64>, prompt: Option<f64>) {
        let (decode, prompt) = (measure(decode), measure(prompt));
        if decode.is_none() && prompt.is_none() {
            return;
        }
        self.learn(key, name, |facts| {
            mix(&mut facts.decode_per_second, decode, NEWEST_SPEED);
            mix(&mut facts.prompt_per_second, prompt, NEWEST_SPEED);
            facts.samples = facts.samples.saturating_add(u32::from(decode.is_some()));
        });
    }

    /// Tokens a second that an answer usually has; `None` until enough were measured to judge
    /// others by.
    #[must_use]
    pub fn usual_speed(&self, key: &Key) -> Option<f64> {
        let inner = self.inner.lock();
        let facts = inner.models.get(key).filter(|facts| facts.samples >= ENOUGH_ANSWERS)?;
        facts.decode_per_second
    }

    /// Bytes of VRAM that a model is expected to take; `None` if it was never seen loaded. Without
    /// a context, what it took when it was last seen.
    ///
    /// A context that was never seen is worked out from those that were, of `context × parallel`
    /// tokens each: on a line between the next smaller and the next larger. With only larger ones
    /// it is the next larger's figure, unscaled, for most of it are weights. With only smaller ones
    /// an eighth of the figure, taken to be what grows with the tokens, is scaled up. That is too
    /// little for some models; but too little is put right by the first load, and too much would
    /// keep the model from ever being loaded.
    #[must_use]
    pub fn footprint(&self, digest: &str, context: Option<u64>, parallel: u32) -> Option<u64> {
        footprint::of(&self.inner.lock().models, digest, context, parallel)
    }

    /// All that is known of a digest, in the order of the keys.
    #[must_use]
    pub fn facts(&self, digest: &str) -> Vec<(Key, Facts)> {
        sorted(self.inner.lock().models.iter().filter(|(key, _)| key.digest == digest))
    }

    /// How long a load takes, by the figures of the key that was seen last.
    #[must_use]
    pub fn load_time(&self, digest: &str) -> Option<Duration> {
        let inner = self.inner.lock();
        let of_digest = inner.models.iter().filter(|(key, _)| key.digest == digest);
        let timed = of_digest.filter(|(_, facts)| facts.load_seconds.is_some());
        let (_, facts) = timed.max_by_key(|(key, facts)| (facts.seen_unix, *key))?;
        facts.load_seconds.map(Duration::from_secs_f64)
    }

    /// Everything that is known, in the order of the keys.
    #[must_use]
    pub fn all(&self) -> Vec<(Key, Facts)> {
        sorted(self.inner.lock().models.iter())
    }

    /// The models that people pinned at an upstream, in alphabetical order.
    #[must_use]
    pub fn pins(&self, upstream: &str) -> Vec<String> {
        let inner = self.inner.lock();
        inner.pins.get(upstream).into_iter().flatten().cloned().collect()
    }

    /// Pins a model at an upstream, or unpins it. To unpin one that is not pinned is no error.
    pub fn pin(&self, upstream: &str, model: &str, pinned: bool) -> Result<(), PinError> {
        let mut inner = self.inner.lock();
        let is_pinned = inner.pins.get(upstream).is_some_and(|models| models.contains(model));
        if is_pinned == pinned {
            return Ok(());
        }
        if !pinned {
            if let Some(models) = inner.pins.get_mut(upstream) {
                models.remove(model);
            }
            inner.pins.retain(|_, models| !models.is_empty());
        } else if !is_name(upstream) || !is_name(model) {
            return Err(PinError::Name);
        } else if inner.pins.values().map(BTreeSet::len).sum::<usize>() >= MAX_PINS {
            return Err(PinError::TooMany);
        } else {
            inner.pins.entry(upstream.to_owned()).or_default().insert(model.to_owned());
        }
        inner.changed += 1;
        Ok(())
    }

    /// Writes the file if anything changed since it was last written; says whether it did. Blocks.
    ///
    /// Killed at any moment, the old file is there or the new one. After an error the next call
    /// tries again. Of two processes that share a file the last to save wins.
    pub fn save(&self) -> io::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        let _one_saves = self.saving.lock();
        let (changed, models, pins) = {
            let inner = self.inner.lock();
            if inner.changed == inner.saved {
                return Ok(false);
            }
            (inner.changed, sorted(inner.models.iter()), inner.pins.clone())
        };
        file::write(path, models, pins)?;
        self.inner.lock().saved = changed;
        Ok(true)
    }

    fn learn(&self, key: &Key, name: &str, change: impl FnOnce(&mut Facts)) {
        if !is_key(key) || !is_name(name) {
            return;
        }
        let now = unix_now();
        let mut inner = self.inner.lock();
        let known = inner.models.get(key).cloned();
        let mut facts = known.clone().unwrap_or_default();
        change(&mut facts);
        name.clone_into(&mut facts.name);
        let seen = facts.seen_unix;
        let is_news =
            known.is_none_or(|known| known != facts) || now / SEEN_STEP > seen / SEEN_STEP;
        facts.seen_unix = seen.max(now);
        inner.changed += u64::from(is_news);
        inner.put(key.clone(), facts);
    }
}

impl Inner {
    fn put(&mut self, key: Key, facts: Facts) {
        if self.models.len() >= MAX_KEYS && !self.models.contains_key(&key) {
            let oldest = self.models.iter().min_by_key(|(key, facts)| (facts.seen_unix, *key));
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.models.remove(&oldest);
            }
        }
        self.models.insert(key, facts);
    }
}

fn sorted<'a>(models: impl Iterator<Item = (&'a Key, &'a Facts)>) -> Vec<(Key, Facts)> {
    let mut models: Vec<_> = models.map(|(key, facts)| (key.clone(), facts.clone())).collect();
    models.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    models
}

/// Moves a mean towards a new value.
fn mix(mean: &mut Option<f64>, newest: Option<f64>, weight: f64) {
    let Some(newest) = newest else { return };
    *mean = Some(mean.map_or(newest, |mean| mean + weight * (newest - mean)));
}

/// The value if it can be one of a load's seconds, or of tokens a second.
fn measure(value: Option<f64>) -> Option<f64> {
    value.filter(|value| *value > 0.0 && *value <= MAX_MEASURE)
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.contains(char::is_control)
}

fn is_key(key: &Key) -> bool {
    is_name(&key.digest) && key.context <= MAX_CONTEXT && (1..=MAX_PARALLEL).contains(&key.parallel)
}

/// Seconds since 1970; 0 on a machine whose clock is before that.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
