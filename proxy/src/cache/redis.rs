//! Answers in a Redis that replicas share. One that is gone, slow, stopped or full costs a request a
//! short wait at most, and nothing at all while its breaker is open.
//!
//! # Layout
//! - `link`: a connection that outlives its own end
//! - `near`: copies of what it gave lately
//! - `watch`, `resp`: the connection on which it tells of changes to them, and what it says there
//! - `news`: what replicas tell each other
//! - [`vectors`]: those of questions, where it has vector sets

mod link;
mod near;
mod news;
mod resp;
pub mod vectors;
mod watch;

use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ErrorKind, Pipeline, RedisError, RedisResult};
use tokio::time::{Instant, timeout};

use self::link::Link;
use self::near::Near;
use self::news::Hearing;
use self::vectors::Support;
use super::bounded::Bounded;
use super::entry::{Entry, Garbage, Generation};
use super::key::Key;
use super::now;
use super::selection::Selection;
use crate::breaker::{Breaker, Pass, State};
use crate::config::raw::BreakerConfig;
use crate::config::units::{Period, Secret};

/// Opening a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// An answer, and with it whatever a request waits for here.
const RESPONSE: Duration = Duration::from_millis(100);
/// An answer that no request waits for.
const UNHURRIED: Duration = Duration::from_secs(2);
/// When it is left alone, and for how long.
const BREAKER: BreakerConfig =
    BreakerConfig { errors: 5, window: Period::secs(30), open_for: Period::secs(2), probes: 1 };

/// Stands before the key of every answer. A slot tag would put all on one node of a cluster.
const PREFIX: &str = "sluicegate:cache:1:";
/// The hash that holds the generations.
const GENERATIONS: &str = "sluicegate:cache:generations";

/// Answers in Redis.
pub struct Redis {
    client: Client,
    near: Option<Near>,
    /// A connection for each thread that asks: its driver runs there, so that no request wakes
    /// another thread.
    links: Mutex<Vec<(ThreadId, Link)>>,
    breaker: Arc<Breaker>,
    /// Tells this process from the others.
    instance: String,
    /// How far it has heard what they told.
    hearing: Mutex<Hearing>,
    /// Whether it has vector sets.
    support: Mutex<Support>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("state", &self.breaker.state()).finish_non_exhaustive()
    }
}

/// Redis gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// What was found under a key.
#[derive(Debug)]
pub struct Found {
    /// The answer, unless there is none, it is not readable, or it was dropped.
    pub entry: Option<Result<Arc<Entry>, Garbage>>,
    /// The generation that new answers belong to.
    pub generation: Generation,
}

impl Redis {
    /// The Redis at `url`, which is not asked yet; `memory` is for copies of what it gives, in bytes, and 0 for
    /// none.
    ///
    /// # Errors
    /// In words that do not repeat the URL, which may hold a password.
    pub fn new(url: &Secret, memory: usize) -> Result<Self, String> {
        let client = Client::open(url.reveal())
            .map_err(|cause| format!("not the URL of a Redis: {}", cause.category()))?;
        Ok(Self {
            client,
            near: (memory > 0).then(|| Near::new(memory)),
            links: Mutex::default(),
            breaker: Arc::new(Breaker::new(BREAKER)),
            instance: format!("{:016x}", fastrand::u64(..)),
            hearing: Mutex::default(),
            support: Mutex::default(),
        })
    }

    /// What is under `key`, of `owner` by `model`. One round trip, or none where there is a copy.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn get(&self, key: &Key, owner: &str, model: &str) -> Result<Found, Unavailable> {
        if let Some(copy) = self.near.as_ref().and_then(|near| near.get(key)) {
            return Ok(Found { generation: copy.facts.generation, entry: Some(Ok(copy)) });
        }
        let mut both = Pipeline::with_capacity(2);
        both.get(name(key));
        both.add_command(generations(owner, model));
        let (bytes, numbers): (Option<Vec<u8>>, [Option<u64>; 3]) =
            self.ask(RESPONSE, async |link| both.query_async(link).await).await?;
        let generation = numbers.map(Option::unwrap_or_default);
        let length = bytes.as_ref().map_or(0, Vec::len);
        let entry = bytes.map(|bytes| Entry::decode(*key, &bytes).map(Arc::new));
        let entry = entry.filter(|entry| match entry {
            Ok(entry) => entry.facts.generation == generation,
            Err(Garbage) => true,
        });
        if let (Some(near), Some(Ok(entry))) = (&self.near, &entry)
            && entry.is_fresh(now())
        {
            near.want(entry, length);
        }
        Ok(Found { entry, generation })
    }

    /// The answer under `key`, if it was not dropped. Two round trips.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn find(&self, key: &Key) -> Result<Option<Entry>, Unavailable> {
        let command = Cmd::get(name(key));
        let bytes: Option<Vec<u8>> = self
            .ask(UNHURRIED, async |link| match command.query_async(link).await {
                // No answer of ours; whoever looks at one after the other goes on.
                Err(cause) if cause.code() == Some("WRONGTYPE") => Ok(None),
                found => found,
            })
            .await?;
        let Some(Ok(entry)) = bytes.map(|bytes| Entry::decode(*key, &bytes)) else {
            return Ok(None);
        };
        let current = self.generation(&entry.facts.owner, &entry.facts.model).await?;
        Ok(Some(entry).filter(|entry| entry.facts.generation == current))
    }

    /// The generation that new answers of `owner` by `model` belong to.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn generation(&self, owner: &str, model: &str) -> Result<Generation, Unavailable> {
        let command = generations(owner, model);
        let numbers: [Option<u64>; 3] =
            self.ask(RESPONSE, async |link| command.query_async(link).await).await?;
        Ok(numbers.map(Option::unwrap_or_default))
    }

    /// Keeps `entry` for `ttl`.
    ///
    /// # Errors
    /// When Redis did not take it in time: it may be gone, or full.
    pub async fn put(&self, entry: &Entry, ttl: Duration) -> Result<(), Unavailable> {
        let command = Cmd::set_ex(name(&entry.key), entry.encode(), ttl.as_secs().max(1));
        let put = self.ask(UNHURRIED, async |link| command.query_async(link).await).await;
        self.near.iter().for_each(|near| near.forget(&entry.key));
        put
    }

    /// Drops the answer under `key`; whether there was one.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn delete(&self, key: &Key) -> Result<bool, Unavailable> {
        let command = Cmd::del(name(key));
        let deleted = self.ask(UNHURRIED, async |link| command.query_async(link).await).await;
        self.near.iter().for_each(|near| near.forget(key));
        deleted
    }

    /// Drops what `selection` says, for every replica at once.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn forget(&self, selection: &Selection) -> Result<(), Unavailable> {
        let command = Cmd::hincr(GENERATIONS, selection.field(), 1);
        let forgotten = self.ask(UNHURRIED, async |link| command.query_async(link).await).await;
        self.near.iter().for_each(Near::clear);
        forgotten
    }

    /// The copies of what it gave lately.
    #[must_use]
    pub fn copies(&self) -> Option<&Bounded> {
        self.near.as_ref().map(|near| &near.copies)
    }

    /// Hears whether Redis tells of changes to the copies; to be called more than once a second.
    pub async fn keep_copies(&self) {
        if let Some(near) = self.near.as_ref().filter(|_| self.is_up()) {
            near.keep(self.client.get_connection_info()).await;
        }
    }

    /// Keys from `cursor` on, some at a time, with the next cursor; 0 begins and ends.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn scan(&self, cursor: u64) -> Result<(u64, Vec<Key>), Unavailable> {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(format!("{PREFIX}*")).arg("COUNT").arg(500);
        let (cursor, names): (u64, Vec<Vec<u8>>) =
            self.ask(UNHURRIED, async |link| command.query_async(link).await).await?;
        let names = names.iter().filter_map(|name| std::str::from_utf8(name).ok());
        let keys = names.filter_map(|name| Key::parse(name.strip_prefix(PREFIX)?));
        Ok((cursor, keys.collect()))
    }

    /// Whether it is asked at all now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.breaker.state() == State::Closed
    }

    /// Looks whether one that was left alone is back, when it is time.
    pub async fn probe(&self) {
        if self.breaker.probe_due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        let command = Cmd::ping();
        let answer = self.run(RESPONSE, async |link| {
            let answer: RedisResult<()> = command.query_async(link).await;
            answer
        });
        let answered = answer.await.is_ok_and(|answer| answer.is_ok());
        self.breaker.probed(answered);
        // The probe was a success of its own: nobody has to be the first to try.
        if answered && let Ok(pass) = self.breaker.try_pass() {
            pass.success();
        }
        self.tell_changes("");
    }

    /// One line for each change, however many requests it was that failed.
    fn tell_changes(&self, cause: &str) {
        while let Some(change) = self.breaker.take_change() {
            match change.state {
                State::Open => tracing::warn!(cause, "the cache's Redis is left alone for now"),
                State::HalfOpen => {}
                State::Closed => tracing::info!("the cache's Redis is back"),
            }
        }
    }

    async fn ask<T>(
        &self,
        limit: Duration,
        run: impl AsyncFnOnce(&mut Link) -> RedisResult<T>,
    ) -> Result<T, Unavailable> {
        let Ok(pass) = self.breaker.try_pass() else { return Err(Unavailable) };
        match self.run(limit, run).await {
            Ok(Ok(value)) => {
                pass.success();
                Ok(value)
            }
            // It refuses, as when it is full, but it is there.
            Ok(Err(cause)) if is_refusal(&cause) => {
                pass.success();
                self.doubt_vectors(&cause);
                tracing::debug!(%cause, "the cache's Redis refused");
                Err(Unavailable)
            }
            // With all that Redis said, which is no business of the log's.
            Ok(Err(cause)) if cause.kind() == ErrorKind::Parse => {
                Err(self.failed(pass, "an answer that makes no sense"))
            }
            Ok(Err(cause)) => Err(self.failed(pass, &cause.to_string())),
            Err(cause) => Err(self.failed(pass, cause)),
        }
    }

    fn failed(&self, pass: Pass, cause: &str) -> Unavailable {
        tracing::debug!(cause, "the cache's Redis failed");
        pass.failure();
        // It may be another when it is back.
        self.support.lock().known = None;
        self.tell_changes(cause);
        Unavailable
    }

    /// The outer error is a wait in vain.
    async fn run<T>(
        &self,
        limit: Duration,
        run: impl AsyncFnOnce(&mut Link) -> RedisResult<T>,
    ) -> Result<RedisResult<T>, &'static str> {
        let mut link = match self.link() {
            Ok(link) => link,
            Err(cause) => return Ok(Err(cause)),
        };
        timeout(limit, run(&mut link)).await.map_err(|_| "no answer in time")
    }

    /// This thread's connection, opened when first used.
    fn link(&self) -> Result<Link, RedisError> {
        let thread = std::thread::current().id();
        let mut links = self.links.lock();
        if let Some((_, link)) = links.iter().find(|(owner, _)| *owner == thread) {
            return Ok(link.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(UNHURRIED))
            .set_number_of_retries(0);
        let link = Link(ConnectionManager::new_lazy_with_config(self.client.clone(), config)?);
        links.push((thread, link.clone()));
        Ok(link)
    }
}

fn is_refusal(cause: &RedisError) -> bool {
    matches!(cause.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

fn name(key: &Key) -> String {
    format!("{PREFIX}{key}")
}

fn generations(owner: &str, model: &str) -> Cmd {
    let mut command = redis::cmd("HMGET");
    command.arg(GENERATIONS);
    for selection in Selection::of(owner, model) {
        command.arg(selection.field());
    }
    command
}
