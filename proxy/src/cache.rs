//! Answers given before, given again: to equal requests, and to those that mean the same.
//!
//! Every step can only turn a hit into a miss: policy → scope → exact → similar → single flight →
//! upstream → store. A cache in trouble is a miss.
//!
//! # Layout
//! - [`policy`]: whether the cache has to do with a request at all, and on what terms
//! - [`canonical`], [`key`]: what a request means, and the scope within which it is compared
//! - [`memory`], [`redis`]: exact answers, in this process or shared by replicas
//! - [`flight`]: equal requests at one time ask once
//! - [`similar`], [`lexical`]: questions in other words
//! - [`semantic`], [`rows`], [`store`]: questions of the same meaning, in memory and on disk
//! - [`pinned`]: answers that an operator wrote
//! - [`entry`], [`answer`]: what is kept, and how it is given again
//! - [`selection`]: which answers are listed or dropped together

pub mod answer;
pub mod canonical;
pub mod entry;
pub mod flight;
pub mod key;
pub mod lexical;
pub mod memory;
pub mod pinned;
pub mod policy;
pub mod redis;
pub mod rows;
pub mod selection;
pub mod semantic;
pub mod similar;
pub mod store;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{counter, gauge};
use tokio::sync::Semaphore;

use self::entry::{Entry, Garbage, Generation};
use self::key::{Key, Scope};
use self::memory::Memory;
use self::pinned::Pinned;
use self::redis::{Redis, Unavailable};
use self::selection::Selection;
use self::semantic::{Embedder, Embedding, Semantic};
use self::similar::{Reason, Similar};
use crate::config::CacheConfig;
use crate::config::units::Secret;
use crate::telemetry::names;

/// Answers on their way into Redis; more are not kept.
const MAX_WRITES: usize = 256;
/// The most keys looked at to list answers.
const MAX_SCANNED: usize = 100_000;

/// The response cache.
#[derive(Debug)]
pub struct Cache {
    config: CacheConfig,
    store: Arc<Store>,
    similar: Arc<Similar>,
    semantic: Option<Arc<Semantic>>,
    pinned: Option<Pinned>,
    writes: Arc<Semaphore>,
}

#[derive(Debug)]
enum Store {
    Memory(Memory),
    Redis(Redis),
}

/// What a look for an answer found.
#[derive(Debug, Default)]
pub struct Looked {
    /// The answer.
    pub entry: Option<Arc<Entry>>,
    /// The generation a new answer belongs to; `None` where it could not be kept anyway.
    pub generation: Option<Generation>,
    /// What went wrong, in a word.
    pub trouble: Option<&'static str>,
}

/// A question to which another's answer will do.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Its scope.
    pub scope: &'a Scope,
    /// Its text.
    pub text: &'a str,
    /// Its own key.
    pub key: Key,
    /// Whose it is.
    pub owner: &'a str,
    /// Who is to answer.
    pub model: &'a str,
    /// Least similarity, where it was raised.
    pub threshold: Option<f64>,
}

/// An answer to a question that asks the same.
#[derive(Clone, Debug)]
pub struct Like {
    /// The answer.
    pub entry: Arc<Entry>,
    /// How like the questions are, 1 at most.
    pub similarity: f64,
    /// Whether they have the same words.
    pub by_words: bool,
}

/// What a look for such an answer found.
#[derive(Debug)]
pub struct Similarity {
    /// The answer, or why there is none.
    pub found: Result<Like, Reason>,
    /// The question's embedding, where it was made.
    pub embedding: Option<Embedding>,
}

/// Now, in seconds of Unix time.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Cache {
    /// The cache that `config` wants; what `previous` holds stays, where it is held in the same way.
    ///
    /// # Errors
    /// In words, when the Redis cannot be one.
    pub fn new(
        config: &CacheConfig,
        embedder: Option<Arc<dyn Embedder>>,
        previous: Option<&Arc<Cache>>,
    ) -> Result<Arc<Self>, String> {
        let of_same = |same: fn(&CacheConfig) -> (&Option<Secret>, usize)| {
            previous.filter(|known| same(&known.config) == same(config))
        };
        let store = match (of_same(|one| (&one.redis, one.memory)), &config.redis) {
            (Some(known), _) => Arc::clone(&known.store),
            (None, Some(url)) => Arc::new(Store::Redis(Redis::new(url)?)),
            (None, None) => Arc::new(Store::Memory(Memory::new(config.memory))),
        };
        let known = previous.filter(|known| known.config.lexical == config.lexical);
        let similar = known.map_or_else(
            || Arc::new(Similar::new(config.lexical.map_or(0, |lexical| lexical.entries))),
            |known| Arc::clone(&known.similar),
        );
        let semantic = match (&config.semantic, embedder) {
            (Some(wanted), Some(embedder)) => {
                let known = previous.and_then(|known| known.semantic.as_ref());
                let name = embedder.name();
                Some(match known.filter(|known| known.is(wanted, &name)) {
                    Some(known) => Arc::clone(known),
                    None => Arc::new(Semantic::new(wanted, embedder, now())?),
                })
            }
            _ => None,
        };
        let pinned = Pinned::new(&config.pinned);
        let writes = Arc::new(Semaphore::new(MAX_WRITES));
        Ok(Arc::new(Self { config: config.clone(), store, similar, semantic, pinned, writes }))
    }

    /// How it is configured.
    #[must_use]
    pub fn config(&self) -> &CacheConfig {
        &self.config
    }

    /// Looks for the answer under `key`, of `owner` by `model`.
    pub async fn get(&self, key: &Key, owner: &str, model: &str) -> Looked {
        match &*self.store {
            Store::Memory(memory) => Looked {
                entry: memory.get(key, now()),
                generation: Some(memory.generation(owner, model)),
                trouble: None,
            },
            Store::Redis(redis) => match redis.get(key, owner, model).await {
                Err(Unavailable) => Looked { trouble: Some("redis"), ..Looked::default() },
                Ok(found) => {
                    let generation = Some(found.generation);
                    match found.entry {
                        Some(Err(Garbage)) => {
                            Looked { entry: None, generation, trouble: Some("unreadable") }
                        }
                        Some(Ok(entry)) if entry.is_fresh(now()) => {
                            Looked { entry: Some(Arc::new(entry)), generation, trouble: None }
                        }
                        Some(Ok(_)) | None => Looked { generation, ..Looked::default() },
                    }
                }
            },
        }
    }

    /// The answer to a question that asks the same as `question`.
    pub async fn similar(&self, question: &Asking<'_>) -> Similarity {
        let by_words = match self.config.lexical {
            Some(_) => self.by_words(question).await,
            None => Err("absent"),
        };
        match (by_words, &self.semantic, &self.config.semantic) {
            (Ok(entry), _, _) => {
                let like = Like { entry, similarity: 1.0, by_words: true };
                Similarity { found: Ok(like), embedding: None }
            }
            (Err(_), Some(semantic), Some(config)) => {
                let deadline = Some(config.deadline);
                match semantic.embed(question.text, deadline).await {
                    Ok(embedding) => {
                        let least = question
                            .threshold
                            .map_or(config.threshold, |least| least.max(config.threshold));
                        let found = self.by_meaning(semantic, question, &embedding, least).await;
                        Similarity { found, embedding: Some(embedding) }
                    }
                    Err(reason) => Similarity { found: Err(reason), embedding: None },
                }
            }
            (Err(reason), _, _) => Similarity { found: Err(reason), embedding: None },
        }
    }

    async fn by_words(&self, question: &Asking<'_>) -> Result<Arc<Entry>, Reason> {
        let key = self.similar.find(question.scope, question.text, question.key)?;
        let looked = self.get(&key, question.owner, question.model).await;
        match (looked.entry, looked.trouble) {
            (Some(entry), _) => {
                self.similar.given(question.key, key, 1.0);
                Ok(entry)
            }
            (None, Some(trouble)) => Err(trouble),
            (None, None) => {
                self.similar.forget(&key);
                Err("absent")
            }
        }
    }

    async fn by_meaning(
        &self,
        semantic: &Semantic,
        question: &Asking<'_>,
        embedding: &Embedding,
        least: f64,
    ) -> Result<Like, Reason> {
        for near in semantic.find(question.scope, question.text, embedding, least)? {
            if self.similar.is_blamed(question.key, near.key) {
                continue;
            }
            let looked = self.get(&near.key, question.owner, question.model).await;
            let entry = match looked.entry {
                Some(entry) => Some(entry),
                None => self.from_disk(semantic, question, &near.key).await,
            };
            if let Some(entry) = entry {
                self.similar.given(question.key, near.key, near.similarity);
                return Ok(Like { entry, similarity: near.similarity, by_words: false });
            }
            // One that was dropped is not looked at again; one that Redis keeps from us may be.
            if looked.trouble.is_none() {
                semantic.forget(&near.key);
            }
        }
        Err("absent")
    }

    /// An answer that lies on disk only, as after a restart.
    async fn from_disk(
        &self,
        semantic: &Semantic,
        question: &Asking<'_>,
        key: &Key,
    ) -> Option<Arc<Entry>> {
        let mut entry = semantic.read(key).await.filter(|entry| entry.is_fresh(now()))?;
        let generation = self.generation(question.owner, question.model).await?;
        match &*self.store {
            // What was dropped is gone from disk too, and generations begin anew with the process.
            Store::Memory(_) => entry.facts.generation = generation,
            Store::Redis(_) if entry.facts.generation != generation => return None,
            Store::Redis(_) => {}
        }
        let entry = Arc::new(entry);
        if let Store::Memory(memory) = &*self.store {
            memory.put(Arc::clone(&entry));
        }
        Some(entry)
    }

    /// The answers that an operator wrote, where there are any.
    #[must_use]
    pub fn pinned(&self) -> Option<&Pinned> {
        self.pinned.as_ref()
    }

    /// The answer under `key` was wrong: it is dropped, and not given again where it was given.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn blame(&self, key: &Key) -> Result<(), Unavailable> {
        if let (Some(similarity), Some(semantic)) = (self.similar.blame(*key), &self.semantic) {
            semantic.raise(*key, similarity);
        }
        self.delete(key).await.map(|_| ())
    }

    /// The generation that new answers of `owner` by `model` belong to; `None` where they could not
    /// be kept.
    pub async fn generation(&self, owner: &str, model: &str) -> Option<Generation> {
        match &*self.store {
            Store::Memory(memory) => Some(memory.generation(owner, model)),
            Store::Redis(redis) => redis.generation(owner, model).await.ok(),
        }
    }

    /// Keeps `entry`, without anybody waiting for it.
    pub fn put(self: &Arc<Self>, entry: Arc<Entry>, scope: Scope, embedding: Option<Embedding>) {
        if let Some(text) = &entry.facts.question {
            self.similar.remember(scope, text, entry.key);
            self.remember_meaning(&entry, scope, embedding);
        }
        match &*self.store {
            Store::Memory(memory) => memory.put(entry),
            Store::Redis(_) => {
                let Ok(permit) = Arc::clone(&self.writes).try_acquire_owned() else {
                    return failed_write("busy");
                };
                let cache = Arc::clone(self);
                tokio::spawn(async move {
                    let ttl = Duration::from_secs(entry.facts.ttl);
                    if let Store::Redis(redis) = &*cache.store
                        && redis.put(&entry, ttl).await.is_err()
                    {
                        failed_write("redis");
                    }
                    drop(permit);
                });
            }
        }
    }

    fn remember_meaning(&self, entry: &Arc<Entry>, scope: Scope, embedding: Option<Embedding>) {
        let Some(semantic) = &self.semantic else { return };
        if let Some(embedding) = embedding {
            return semantic.remember(scope, entry, &embedding);
        }
        // It was late for the question; it is early enough for the next one.
        let (semantic, entry) = (Arc::clone(semantic), Arc::clone(entry));
        let Ok(permit) = Arc::clone(&self.writes).try_acquire_owned() else {
            return failed_write("busy");
        };
        tokio::spawn(async move {
            let Some(text) = &entry.facts.question else { return };
            match semantic.embed(text, None).await {
                Ok(embedding) => semantic.remember(scope, &entry, &embedding),
                Err(reason) => failed_write(reason),
            }
            drop(permit);
        });
    }

    /// Drops the answer under `key`; whether there was one.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn delete(&self, key: &Key) -> Result<bool, Unavailable> {
        self.similar.forget(key);
        if let Some(semantic) = &self.semantic {
            semantic.forget(key);
        }
        match &*self.store {
            Store::Memory(memory) => Ok(memory.delete(key)),
            Store::Redis(redis) => redis.delete(key).await,
        }
    }

    /// Drops what `selection` says.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn forget(&self, selection: &Selection) -> Result<(), Unavailable> {
        if let Some(semantic) = &self.semantic {
            semantic.forget_all(selection);
        }
        match &*self.store {
            Store::Memory(memory) => {
                memory.forget(selection);
                Ok(())
            }
            Store::Redis(redis) => redis.forget(selection).await,
        }
    }

    /// The answer under `key`, if it may still be given.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn find(&self, key: &Key) -> Result<Option<Arc<Entry>>, Unavailable> {
        match &*self.store {
            Store::Memory(memory) => Ok(memory.get(key, now())),
            Store::Redis(redis) => redis.find(key).await.map(|found| found.map(Arc::new)),
        }
    }

    /// Answers in `selection`, `limit` at most.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn list(
        &self,
        selection: &Selection,
        limit: usize,
    ) -> Result<Vec<Arc<Entry>>, Unavailable> {
        let redis = match &*self.store {
            Store::Memory(memory) => return Ok(memory.list(selection, now(), limit)),
            Store::Redis(redis) => redis,
        };
        let (mut found, mut scanned, mut cursor) = (Vec::new(), 0, 0);
        loop {
            let (next, keys) = redis.scan(cursor).await?;
            scanned += keys.len();
            for key in keys {
                if let Some(entry) = redis.find(&key).await?.filter(|one| selection.has(&one.facts))
                {
                    found.push(Arc::new(entry));
                }
                if found.len() >= limit {
                    return Ok(found);
                }
            }
            cursor = next;
            if cursor == 0 || scanned >= MAX_SCANNED {
                return Ok(found);
            }
        }
    }

    /// Looks after what needs it, a few times a second.
    pub async fn keep(&self) {
        let of = |level| gauge!(names::CACHE_QUESTIONS, "level" => level);
        of("lexical").set(self.similar.len() as f64);
        if let Some(semantic) = &self.semantic {
            semantic.keep();
            of("semantic").set(semantic.len() as f64);
        }
        match &*self.store {
            Store::Memory(memory) => {
                gauge!(names::CACHE_ENTRIES).set(memory.len() as f64);
                gauge!(names::CACHE_BYTES).set(memory.bytes() as f64);
                counter!(names::CACHE_EVICTED).absolute(memory.evicted());
            }
            Store::Redis(redis) => {
                redis.probe().await;
                gauge!(names::CACHE_UP).set(f64::from(u8::from(redis.is_up())));
            }
        }
    }
}

fn failed_write(reason: &'static str) {
    counter!(names::CACHE_WRITE_FAILURES, "reason" => reason).increment(1);
}
