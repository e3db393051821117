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
pub mod selection;
pub mod similar;

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
    similar: Option<Arc<Similar>>,
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
    pub fn new(config: &CacheConfig, previous: Option<&Arc<Cache>>) -> Result<Arc<Self>, String> {
        if let Some(known) = previous.filter(|known| known.config == *config) {
            return Ok(Arc::clone(known));
        }
        let of_same = |same: fn(&CacheConfig) -> (&Option<Secret>, usize)| {
            previous.filter(|known| same(&known.config) == same(config))
        };
        let store = match (of_same(|one| (&one.redis, one.memory)), &config.redis) {
            (Some(known), _) => Arc::clone(&known.store),
            (None, Some(url)) => Arc::new(Store::Redis(Redis::new(url)?)),
            (None, None) => Arc::new(Store::Memory(Memory::new(config.memory))),
        };
        let known = previous.filter(|known| known.config.lexical == config.lexical);
        let similar = match (known, config.lexical) {
            (Some(known), _) => known.similar.clone(),
            (None, Some(lexical)) => Some(Arc::new(Similar::new(lexical.entries))),
            (None, None) => None,
        };
        let pinned = Pinned::new(&config.pinned);
        let writes = Arc::new(Semaphore::new(MAX_WRITES));
        Ok(Arc::new(Self { config: config.clone(), store, similar, pinned, writes }))
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

    /// The answer to a question of `scope` that asks the same as `text`, whose own key is `asked`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn similar(
        &self,
        (scope, text, asked): (&Scope, &str, Key),
        owner: &str,
        model: &str,
    ) -> Result<Arc<Entry>, Reason> {
        let Some(similar) = &self.similar else { return Err("absent") };
        let key = similar.find(scope, text, asked)?;
        let looked = self.get(&key, owner, model).await;
        match (looked.entry, looked.trouble) {
            (Some(entry), _) => {
                similar.given(asked, key);
                Ok(entry)
            }
            (None, Some(trouble)) => Err(trouble),
            (None, None) => {
                similar.forget(&key);
                Err("absent")
            }
        }
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
        if let Some(similar) = &self.similar {
            similar.blame(*key);
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
    pub fn put(self: &Arc<Self>, entry: Arc<Entry>, scope: Scope) {
        if let (Some(similar), Some(text)) = (&self.similar, &entry.facts.question) {
            similar.remember(scope, text, entry.key);
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

    /// Drops the answer under `key`; whether there was one.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn delete(&self, key: &Key) -> Result<bool, Unavailable> {
        if let Some(similar) = &self.similar {
            similar.forget(key);
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
        if let Some(similar) = &self.similar {
            gauge!(names::CACHE_QUESTIONS).set(similar.len() as f64);
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
