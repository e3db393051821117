//! What is kept, looked at by its key and listed: in memory and on disk, or in Redis.

use std::sync::Arc;

use super::entry::{Entry, Facts};
use super::key::Key;
use super::memory::Memory;
use super::redis::{Redis, Unavailable};
use super::selection::Selection;
use super::semantic::Semantic;
use super::{Cache, Store, now};

/// The most keys looked at to list answers.
const MAX_SCANNED: usize = 100_000;

/// An answer as it is listed: without its text, of which many would take much memory.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What is known about it.
    pub facts: Facts,
    /// The bytes of its text.
    pub bytes: usize,
}

impl Kept {
    fn new(entry: &Entry) -> Self {
        Self { facts: entry.facts.clone(), bytes: entry.answer.size() }
    }
}

impl Cache {
    /// The answer under `key`, if it may still be given.
    ///
    /// # Errors
    /// When Redis gave no answer in time.
    pub async fn find(&self, key: &Key) -> Result<Option<Arc<Entry>>, Unavailable> {
        let memory = match &*self.store {
            Store::Redis(redis) => return Ok(redis.find(key).await?.map(Arc::new)),
            Store::Memory(memory) => memory,
        };
        match (memory.answers.get(key, now()), &self.semantic) {
            (Some(entry), _) => Ok(Some(entry)),
            (None, Some(semantic)) => Ok(on_disk(semantic, memory, key).await.map(Arc::new)),
            (None, None) => Ok(None),
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
    ) -> Result<Vec<Kept>, Unavailable> {
        let memory = match &*self.store {
            Store::Redis(redis) => return list_redis(redis, selection, limit).await,
            Store::Memory(memory) => memory,
        };
        let listed = memory.list(selection, now(), limit);
        let mut listed: Vec<Kept> = listed.iter().map(|entry| Kept::new(entry)).collect();
        let Some(semantic) = &self.semantic else { return Ok(listed) };
        for key in semantic.keys(selection) {
            if listed.len() >= limit {
                break;
            }
            if memory.answers.get(&key, now()).is_some() {
                continue;
            }
            // One at a time: requests wait for the same disk.
            let found = on_disk(semantic, memory, &key).await;
            listed.extend(found.as_ref().map(Kept::new));
        }
        Ok(listed)
    }
}

/// The answer under `key` that lies on disk only, as after a restart, if it may still be given. Where
/// there is a Redis, what that does not have was dropped, whatever lies on disk.
pub(super) async fn on_disk(semantic: &Semantic, memory: &Memory, key: &Key) -> Option<Entry> {
    let mut entry = semantic.read(key).await.filter(|entry| entry.is_fresh(now()))?;
    // What was dropped is gone from disk too, and generations begin anew with the process.
    entry.facts.generation = memory.generation(&entry.facts.owner, &entry.facts.model);
    Some(entry)
}

async fn list_redis(
    redis: &Redis,
    selection: &Selection,
    limit: usize,
) -> Result<Vec<Kept>, Unavailable> {
    let (mut listed, mut scanned, mut cursor) = (Vec::new(), 0, 0);
    loop {
        let (next, keys) = redis.scan(cursor).await?;
        scanned += keys.len();
        for key in keys {
            if listed.len() >= limit {
                return Ok(listed);
            }
            let found = redis.find(&key).await?.filter(|one| selection.has(&one.facts));
            listed.extend(found.as_ref().map(Kept::new));
        }
        cursor = next;
        if cursor == 0 || scanned >= MAX_SCANNED {
            return Ok(listed);
        }
    }
}
