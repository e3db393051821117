//! Answers given before, given again: to equal requests, and to those that mean the same.
//!
//! Every step can only turn a hit into a miss: policy → scope → exact → similar → single flight →
//! upstream → store. A cache in trouble is a miss.
//!
//! # Layout
//! - [`policy`]: whether the cache has to do with a request at all, and on what terms
//! - [`canonical`], [`key`]: what a request means, and the scope within which it is compared
//! - [`memory`], [`redis`]: exact answers, in this process or shared by replicas
//! - [`bounded`]: answers in a given amount of memory
//! - [`replicas`]: what replicas tell each other
//! - [`flight`]: equal requests at one time ask once
//! - [`search`]: the look for an answer to a question that asks the same
//! - [`similar`], [`lexical`]: questions in other words
//! - [`semantic`], [`rows`], [`store`]: questions of the same meaning, in memory and on disk
//! - [`vectors`]: whether theirs lie there or in Redis
//! - [`pinned`]: answers that an operator wrote
//! - [`entry`], [`answer`]: what is kept, and how it is given again
//! - [`kept`]: what is kept, looked at and listed
//! - [`selection`]: which answers are listed or dropped together

pub mod answer;
pub mod bounded;
pub mod canonical;
pub mod entry;
pub mod flight;
pub mod kept;
pub mod key;
pub mod lexical;
pub mod memory;
pub mod pinned;
pub mod policy;
pub mod redis;
pub mod replicas;
pub mod rows;
pub mod search;
pub mod selection;
pub mod semantic;
pub mod similar;
pub mod store;
mod vectors;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{counter, gauge};
use tokio::sync::Semaphore;

use self::bounded::Bounded;
use self::entry::{Entry, Garbage, Generation};
use self::key::{Key, Scope};
use self::memory::Memory;
use self::pinned::Pinned;
use self::redis::{Redis, Unavailable};
use self::replicas::News;
use self::selection::Selection;
use self::semantic::{Embedder, Embedding, Semantic};
use self::similar::Similar;
use crate::config::CacheConfig;
use crate::config::units::Secret;
use crate::telemetry::names;

/// Answers on their way into Redis; more are not kept.
const MAX_WRITES: usize = 256;

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
    Redis(Box<Redis>),
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
            (None, Some(url)) => Arc::new(Store::Redis(Box::new(Redis::new(url, config.memory)?))),
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
                Some(match known.filter(|known| known.holds(wanted)) {
                    Some(known) => {
                        known.embed_by(embedder)?;
                        Arc::clone(known)
                    }
                    None => Arc::new(Semantic::new(wanted, embedder, now())?),
                })
            }
            _ => None,
        };
        let pinned = Pinned::new(&config.pinned);
        let writes = Arc::new(Semaphore::new(MAX_WRITES));
        Ok(Arc::new(Self { config: config.clone(), store, similar, semantic, pinned, writes }))
    }

    /// Whether a question may get the answer to another that asks the same.
    #[must_use]
    pub fn compares_questions(&self) -> bool {
        self.semantic.is_some() || self.config.lexical.is_some()
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
                entry: memory.answers.get(key, now()),
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
                            Looked { entry: Some(entry), generation, trouble: None }
                        }
                        Some(Ok(_)) | None => Looked { generation, ..Looked::default() },
                    }
                }
            },
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
        let (asked, similarity) = self.similar.blame(*key);
        if let Some(semantic) = self.semantic.as_ref().filter(|_| !asked.is_empty()) {
            semantic.raise(*key, similarity);
        }
        self.delete(key).await?;
        self.announce(News::Wrong { key: *key, asked, similarity }).await;
        Ok(())
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
        if let Store::Memory(memory) = &*self.store {
            if !memory.put(Arc::clone(&entry)) {
                return;
            }
            self.remember_words(&entry, scope);
            if self.semantic.is_none() || entry.facts.question.is_none() {
                return;
            }
        }
        let Ok(permit) = Arc::clone(&self.writes).try_acquire_owned() else {
            return failed_write("busy");
        };
        let cache = Arc::clone(self);
        tokio::spawn(async move {
            if let Store::Redis(redis) = &*cache.store {
                let ttl = Duration::from_secs(entry.facts.ttl);
                if redis.put(&entry, ttl).await.is_err() {
                    return failed_write("redis");
                }
                cache.remember_words(&entry, scope);
            }
            // An embedder that is slow is not to keep answers from being written.
            drop(permit);
            cache.remember_meaning(&entry, scope, embedding).await;
        });
    }

    fn remember_words(&self, entry: &Entry, scope: Scope) {
        if let Some(text) = &entry.facts.question {
            self.similar.remember(scope, text, entry.key);
        }
    }

    async fn remember_meaning(
        &self,
        entry: &Arc<Entry>,
        scope: Scope,
        embedding: Option<Embedding>,
    ) {
        let Some(text) = &entry.facts.question else { return };
        let embedding = match (&self.semantic, embedding) {
            (None, _) => None,
            (Some(_), Some(embedding)) => Some(embedding),
            // It was late for the question; it is early enough for the next one.
            (Some(semantic), None) => match semantic.embed(text, None).await {
                Ok(embedding) => Some(embedding),
                Err(reason) => return failed_write(reason),
            },
        };
        // It may have been dropped meanwhile.
        if !self.still_has(entry).await {
            return;
        }
        let told = match embedding {
            Some(embedding) => self.remember_vector(scope, entry, embedding).await,
            None => None,
        };
        self.announce(News::Put(entry.key, told)).await;
    }

    async fn still_has(&self, entry: &Arc<Entry>) -> bool {
        match &*self.store {
            Store::Memory(memory) => memory.answers.has(entry),
            Store::Redis(redis) => redis.find(&entry.key).await.is_ok_and(|found| found.is_some()),
        }
    }

    async fn announce(&self, news: News) {
        if let Store::Redis(redis) = &*self.store
            && self.learns_from(&news)
            && redis.announce(&news).await.is_err()
        {
            failed_write("redis");
        }
    }

    /// Takes in what other replicas learnt.
    async fn listen(&self, redis: &Redis) {
        if !self.compares_questions() {
            return;
        }
        // One that does not answer is asked again the next time.
        let Ok(all) = redis.news().await else { return };
        for (id, news) in all {
            if let Some(news) = news
                && self.learn(redis, news).await.is_err()
            {
                return;
            }
            redis.heard(&id);
        }
    }

    /// Whether a replica like this one has a use for `news`. Without a vector, which Redis may have, an
    /// answer is found by its words only.
    fn learns_from(&self, news: &News) -> bool {
        match news {
            News::Put(_, None) => self.config.lexical.is_some(),
            News::Put(_, Some(_)) | News::Wrong { .. } => self.compares_questions(),
        }
    }

    async fn learn(&self, redis: &Redis, news: News) -> Result<(), Unavailable> {
        if !self.learns_from(&news) {
            return Ok(());
        }
        match news {
            News::Put(key, embedding) => {
                let Some(entry) = redis.find(&key).await? else { return Ok(()) };
                let scope = entry.facts.scope;
                self.remember_words(&entry, scope);
                if let Some(embedding) = embedding {
                    self.remember_vector(scope, &entry, embedding).await;
                }
            }
            News::Wrong { key, asked, similarity } => {
                self.similar.blame_for(key, &asked, similarity);
                if let Some(semantic) = &self.semantic {
                    semantic.raise(key, similarity);
                }
                self.unlearn(&key);
            }
        }
        Ok(())
    }

    /// Forgets the question under `key`; whether it was known by its meaning.
    fn unlearn(&self, key: &Key) -> bool {
        self.similar.forget(key);
        self.semantic.as_ref().is_some_and(|semantic| semantic.forget(key))
    }

    /// Drops the answer under `key`; whether there was one.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn delete(&self, key: &Key) -> Result<bool, Unavailable> {
        let known = self.unlearn(key);
        match &*self.store {
            Store::Memory(memory) => Ok(memory.answers.remove(key) || known),
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

    /// Looks after what needs it, a few times a second.
    pub async fn keep(&self) {
        let of = |level| gauge!(names::CACHE_QUESTIONS, "level" => level);
        of("lexical").set(self.similar.len() as f64);
        if let Some(semantic) = &self.semantic {
            semantic.keep();
            of("semantic").set(semantic.len() as f64);
            let shared = matches!(self.vectors().await, Ok(Some(_)));
            gauge!(names::CACHE_VECTORS_SHARED).set(f64::from(u8::from(shared)));
        }
        let answers = match &*self.store {
            Store::Memory(memory) => Some(&memory.answers),
            Store::Redis(redis) => {
                redis.probe().await;
                self.listen(redis).await;
                gauge!(names::CACHE_UP).set(f64::from(u8::from(redis.is_up())));
                redis.copies()
            }
        };
        gauge!(names::CACHE_ENTRIES).set(answers.map_or(0, Bounded::len) as f64);
        gauge!(names::CACHE_BYTES).set(answers.map_or(0, Bounded::bytes) as f64);
        counter!(names::CACHE_EVICTED).absolute(answers.map_or(0, Bounded::evicted));
    }

    /// Looks after the copies of what Redis gave; to be called more than once a second.
    pub async fn keep_copies(&self) {
        if let Store::Redis(redis) = &*self.store {
            redis.keep_copies().await;
        }
    }
}

fn failed_write(reason: &'static str) {
    counter!(names::CACHE_WRITE_FAILURES, "reason" => reason).increment(1);
}
