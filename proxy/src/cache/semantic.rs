//! Questions that mean the same by their embeddings, each candidate re-checked by its words.
//!
//! Vectors lie in memory, in rows by scope and embedder, unless Redis has them (`redis/vectors.rs`);
//! what lies on disk is there to be read at the next start, and by then also holds the answers. An
//! embedder that is slow or gone is a miss.
//!
//! # Layout
//! - `batch`: texts that wait together are embedded together
//! - `disk`: the thread that writes

mod batch;
mod disk;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use self::batch::Batches;
use self::disk::Disk;
use super::entry::Entry;
use super::key::{Key, Scope};
use super::lexical::{Question, guard};
use super::rows::Rows;
use super::selection::Selection;
use super::similar::Reason;
use super::store::{Limits, OpenError, Record};
use crate::config::cache::SemanticConfig;
use crate::telemetry::names;

/// Candidates that are looked at.
pub(super) const CANDIDATES: usize = 3;
/// How long an embedding may take that no request waits for.
const UNHURRIED: Duration = Duration::from_secs(10);
/// How long anything stays on disk, whatever its own time says.
const MAX_AGE: Duration = Duration::from_secs(30 * 86_400);
/// When a new file is begun, in bytes.
const SEGMENT: u64 = 64 << 20;

/// What tells embeddings of one model from those of another.
pub type EmbedderId = [u8; 16];

/// A text's place among others.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Whose it is.
    pub embedder: EmbedderId,
    /// The vector; of any length above zero.
    pub vector: Arc<[f32]>,
}

/// Makes embeddings.
#[async_trait]
pub trait Embedder: std::fmt::Debug + Send + Sync {
    /// The embeddings of `texts`, in their order.
    async fn embed(&self, texts: Vec<String>) -> Result<Vec<Embedding>, String>;
}

/// What is known of a question beside its vector.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    text: String,
    owner: Arc<str>,
    model: Arc<str>,
}

/// A candidate that passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Its key.
    pub key: Key,
    /// Its cosine.
    pub similarity: f64,
}

/// The questions of a cache.
#[derive(Debug)]
pub struct Semantic {
    config: SemanticConfig,
    batches: ArcSwap<Batches>,
    rows: Mutex<Rows<Key>>,
    known: Mutex<HashMap<Key, Known>>,
    /// Cosines at which answers were given wrongly, by their keys; outlives the answers.
    wrong: Mutex<HashMap<Key, f64>>,
    disk: OnceLock<Disk>,
    /// It was told that the embedder is too slow.
    slow: AtomicBool,
}

/// Keys of which a wrong cosine is remembered.
const MAX_WRONG: usize = 10_000;

impl Semantic {
    /// Questions as `config` wants them, with what is on disk.
    ///
    /// # Errors
    /// In words, when the directory cannot be used, or no thread started.
    pub fn new(
        config: &SemanticConfig,
        embedder: Arc<dyn Embedder>,
        now: u64,
    ) -> Result<Self, String> {
        let semantic = Self {
            config: config.clone(),
            batches: ArcSwap::from_pointee(Batches::new(embedder)?),
            rows: Mutex::new(Rows::new(config.entries)),
            known: Mutex::default(),
            wrong: Mutex::default(),
            disk: OnceLock::new(),
            slow: AtomicBool::new(false),
        };
        match semantic.open_disk(now) {
            Ok(()) => {}
            // As while the process before this one drains.
            Err(cause @ OpenError::Locked(_)) => {
                tracing::warn!(%cause, "questions are kept in memory until it lets go");
            }
            Err(cause) => return Err(format!("cache.semantic.path: {cause}")),
        }
        Ok(semantic)
    }

    /// Takes in what is on disk, and writes there from now on.
    fn open_disk(&self, now: u64) -> Result<(), OpenError> {
        let Some(path) = &self.config.path else { return Ok(()) };
        let limits = Limits {
            bytes: self.config.size,
            entries: self.config.entries,
            segment_bytes: SEGMENT,
            max_age: MAX_AGE,
        };
        let (disk, entries) = Disk::open(path, limits, now)?;
        for entry in entries {
            let Ok(known) = serde_json::from_str::<Known>(&entry.text) else { continue };
            let embedding = Embedding { embedder: entry.embedder, vector: entry.vector.into() };
            self.add(entry.scope, Key(entry.key), &embedding, known);
        }
        tracing::info!(questions = self.len(), "cached questions read from disk");
        // Only the one who looks after it opens it.
        let _ = self.disk.set(disk);
        Ok(())
    }

    /// Whether it holds what `config` wants held. Bounds of what lies on disk stay as they were when it
    /// was opened.
    #[must_use]
    pub fn holds(&self, config: &SemanticConfig) -> bool {
        let same_bounds = self.config.path.is_some() || self.config.entries == config.entries;
        self.config.path == config.path && same_bounds
    }

    /// Has another embedder make embeddings from now on. Those of the one before are kept, and not
    /// compared with its.
    ///
    /// # Errors
    /// In words, when no thread could be started.
    pub fn embed_by(&self, embedder: Arc<dyn Embedder>) -> Result<(), String> {
        self.batches.store(Arc::new(Batches::new(embedder)?));
        Ok(())
    }

    /// The embedding of `text`, if it comes in time.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn embed(&self, text: &str, deadline: Option<Duration>) -> Result<Embedding, Reason> {
        let since = Instant::now();
        let embedding =
            timeout(deadline.unwrap_or(UNHURRIED), self.batches.load_full().embed(text.to_owned()))
                .await;
        metrics::histogram!(names::CACHE_EMBED_SECONDS).record(since.elapsed().as_secs_f64());
        embedding.unwrap_or_else(|_| {
            if !self.slow.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the cache's embedder did not answer within `deadline` ({deadline:?}): where it \
                     does not, questions are not compared by meaning, and wait in vain"
                );
            }
            Err("embedder_slow")
        })
    }

    /// Questions of `scope` that ask the same as `text`, the likeliest first, with a cosine of `least`.
    ///
    /// # Errors
    /// Why there is none.
    pub fn find(
        &self,
        scope: &Scope,
        text: &str,
        embedding: &Embedding,
        least: f64,
    ) -> Result<Vec<Near>, Reason> {
        let Embedding { embedder, vector } = embedding;
        let rows = self.rows.lock().nearest(*scope, *embedder, vector, CANDIDATES);
        let rows = rows.map_err(|_| "embedder_failed")?;
        let known = self.known.lock();
        let texts = rows.iter().filter_map(|(key, cosine)| {
            let near = Near { key: *key, similarity: f64::from(*cosine) };
            known.get(key).map(|known| (near, known.text.as_str()))
        });
        self.judge(text, least, texts)
    }

    /// Those of `candidates`, questions with their texts, that ask the same as `text`: alike enough, and
    /// without a veto. Whoever found them, nothing is given past this.
    ///
    /// # Errors
    /// Why there is none.
    pub fn judge<'t>(
        &self,
        text: &str,
        least: f64,
        candidates: impl Iterator<Item = (Near, &'t str)>,
    ) -> Result<Vec<Near>, Reason> {
        let asked = Question::analyse(text).map_err(|unfit| unfit.as_str())?;
        let (mut same, mut reason) = (Vec::new(), "absent");
        for (near, text) in candidates {
            if !self.is_like(near, least) {
                reason = "unlike";
                continue;
            }
            let Ok(stored) = Question::analyse(text) else { continue };
            match guard(&asked, &stored) {
                Ok(()) => same.push(near),
                Err(veto) => reason = veto.as_str(),
            }
        }
        if same.is_empty() { Err(reason) } else { Ok(same) }
    }

    /// Whether a cosine is `least` or more, and more than one that was wrong.
    #[must_use]
    pub fn is_like(&self, near: Near, least: f64) -> bool {
        let above = self.wrong.lock().get(&near.key).copied().unwrap_or(0.0);
        near.similarity >= least && near.similarity > above
    }

    /// Remembers the question of `entry`.
    pub fn remember(&self, scope: Scope, entry: &Entry, embedding: &Embedding) {
        let facts = &entry.facts;
        let Some(text) = facts.question.clone() else { return };
        let known = Known { text, owner: facts.owner.clone(), model: facts.model.clone() };
        let Ok(written) = serde_json::to_string(&known) else { return };
        if !self.add(scope, entry.key, embedding, known) {
            return;
        }
        if let Some(disk) = self.disk.get() {
            disk.put(Record {
                key: entry.key.0,
                scope,
                expires: facts.stored.saturating_add(facts.ttl),
                embedder: embedding.embedder,
                vector: embedding.vector.to_vec(),
                text: written,
                answer: Bytes::from(entry.encode()),
            });
        }
    }

    fn add(&self, scope: Scope, key: Key, embedding: &Embedding, known: Known) -> bool {
        let Embedding { embedder, vector } = embedding;
        let added = self.rows.lock().insert(scope, *embedder, vector, key);
        let Ok(evicted) = added else { return false };
        let mut all = self.known.lock();
        if let Some(evicted) = evicted {
            all.remove(&evicted);
            // What is not known any more could not be dropped any more.
            if let Some(disk) = self.disk.get() {
                disk.delete([evicted]);
            }
        }
        all.insert(key, known);
        true
    }

    /// The answer under `key` as it was written to disk.
    pub async fn read(&self, key: &Key) -> Option<Entry> {
        let bytes = self.disk.get()?.read(*key).await?;
        Entry::decode(*key, &bytes).ok()
    }

    /// Forgets the question under `key`, on disk too; whether it was known.
    pub fn forget(&self, key: &Key) -> bool {
        let known = self.rows.lock().remove(key);
        self.known.lock().remove(key);
        if let Some(disk) = self.disk.get() {
            disk.delete([*key]);
        }
        known
    }

    /// Keys of the questions whose answers are in `selection`.
    #[must_use]
    pub fn keys(&self, selection: &Selection) -> Vec<Key> {
        let wanted = |known: &Known| selection.has_answers_of(&known.owner, &known.model);
        let known = self.known.lock();
        known.iter().filter(|(_, known)| wanted(known)).map(|(key, _)| *key).collect()
    }

    /// Forgets all of `selection`.
    pub fn forget_all(&self, selection: &Selection) {
        let keys = self.keys(selection);
        for key in &keys {
            self.rows.lock().remove(key);
            self.known.lock().remove(key);
        }
        if let Some(disk) = self.disk.get() {
            disk.delete(keys);
        }
    }

    /// The answer under `key` was given wrongly at a cosine of `similarity`.
    pub fn raise(&self, key: Key, similarity: f64) {
        let mut wrong = self.wrong.lock();
        if wrong.len() >= MAX_WRONG
            && let Some(any) = wrong.keys().next().copied()
        {
            wrong.remove(&any);
        }
        let above = wrong.entry(key).or_insert(similarity);
        *above = above.max(similarity);
    }

    /// Forgets questions that disk had no room for; opens it where another process had it.
    pub fn keep(&self) {
        let Some(disk) = self.disk.get() else {
            // Another process may have let go of it.
            if let Err(cause) = self.open_disk(super::now()) {
                tracing::debug!(%cause, "the cache's files are not opened yet");
            }
            return;
        };
        for key in disk.evicted() {
            self.rows.lock().remove(&key);
            self.known.lock().remove(&key);
        }
    }

    /// Questions remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.lock().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests;
