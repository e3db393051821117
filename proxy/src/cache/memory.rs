//! Answers in this process: bounded by bytes, the least useful leaves first.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::entry::{Entry, Generation};
use super::key::Key;
use super::selection::Selection;

/// What an entry usually takes, to size the tables by.
const USUAL_SIZE: usize = 4 * 1024;

/// Answers in memory.
#[derive(Debug)]
pub struct Memory {
    entries: Cache<Key, Arc<Entry>, Bytes, DefaultHashBuilder, Evictions>,
    evicted: Arc<AtomicU64>,
    /// Raised by [`Memory::forget`], by what it was told to forget.
    generations: Mutex<HashMap<Selection, u64>>,
}

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<Key, Arc<Entry>> for Bytes {
    fn weight(&self, _: &Key, entry: &Arc<Entry>) -> u64 {
        entry.size() as u64
    }
}

#[derive(Clone, Debug)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<Key, Arc<Entry>> for Evictions {
    type RequestState =
        <DefaultLifecycle<Key, Arc<Entry>> as Lifecycle<Key, Arc<Entry>>>::RequestState;

    fn on_evict(&self, _: &mut Self::RequestState, _: Key, _: Arc<Entry>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Memory {
    /// Room for answers of `bytes` in all.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let evicted: Arc<AtomicU64> = Arc::default();
        // One shard: an entry may be as large as a part of many, and would find no room there.
        let options = OptionsBuilder::new()
            .estimated_items_capacity(bytes / USUAL_SIZE + 1)
            .weight_capacity(bytes as u64)
            .shards(1)
            .build();
        let lifecycle = Evictions(Arc::clone(&evicted));
        let entries = match options {
            Ok(options) => {
                Cache::with_options(options, Bytes, DefaultHashBuilder::default(), lifecycle)
            }
            Err(_) => Cache::with(
                bytes / USUAL_SIZE + 1,
                bytes as u64,
                Bytes,
                DefaultHashBuilder::default(),
                lifecycle,
            ),
        };
        Self { entries, evicted, generations: Mutex::default() }
    }

    /// The answer under `key` that may be given at `now`.
    #[must_use]
    pub fn get(&self, key: &Key, now: u64) -> Option<Arc<Entry>> {
        let entry = self.entries.get(key)?;
        if entry.is_fresh(now) {
            return Some(entry);
        }
        self.entries.remove(key);
        None
    }

    /// Keeps `entry`, unless what it belongs to was dropped since it was asked for; whether it did.
    pub fn put(&self, entry: Arc<Entry>) -> bool {
        let facts = &entry.facts;
        // Held until it is in, so that what is dropped in between does not stay.
        let generations = self.generations.lock();
        let current = current(&generations, &facts.owner, &facts.model) == facts.generation;
        if current {
            self.entries.insert(entry.key, entry);
        }
        current
    }

    /// Whether this very answer is still kept.
    #[must_use]
    pub fn has(&self, entry: &Arc<Entry>) -> bool {
        self.entries.peek(&entry.key).is_some_and(|kept| Arc::ptr_eq(&kept, entry))
    }

    /// The generation that answers of `owner` by `model` belong to now.
    #[must_use]
    pub fn generation(&self, owner: &str, model: &str) -> Generation {
        current(&self.generations.lock(), owner, model)
    }

    /// Drops the answer under `key`; whether there was one.
    pub fn delete(&self, key: &Key) -> bool {
        self.entries.remove(key).is_some()
    }

    /// Drops what `selection` says, and what of it is on its way; gives how many there were.
    pub fn forget(&self, selection: &Selection) -> usize {
        let mut generations = self.generations.lock();
        *generations.entry(selection.clone()).or_default() += 1;
        let before = self.entries.len();
        self.entries.retain(|_, entry| !selection.has(&entry.facts));
        before.saturating_sub(self.entries.len())
    }

    /// The answers that may be given at `now` and belong to `selection`, `limit` at most.
    #[must_use]
    pub fn list(&self, selection: &Selection, now: u64, limit: usize) -> Vec<Arc<Entry>> {
        let fits = |entry: &Arc<Entry>| entry.is_fresh(now) && selection.has(&entry.facts);
        self.entries.iter().map(|(_, entry)| entry).filter(fits).take(limit).collect()
    }

    /// How many answers there are, stale ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes they take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    /// Answers that had to make room so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }
}

fn current(generations: &HashMap<Selection, u64>, owner: &str, model: &str) -> Generation {
    if generations.is_empty() {
        return [0; 3];
    }
    Selection::of(owner, model).map(|one| generations.get(&one).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::entry;
    use super::*;

    #[test]
    fn what_is_kept_is_found_until_it_is_stale() {
        let memory = Memory::new(1 << 20);
        let kept = Arc::new(entry("a", "one"));
        memory.put(Arc::clone(&kept));
        assert!(memory.get(&kept.key, 1_299).is_some());
        assert!(memory.get(&entry("b", "").key, 1_000).is_none());
        assert!(memory.get(&kept.key, 1_300).is_none());
        assert_eq!(memory.len(), 0);
    }

    #[test]
    fn bytes_are_bounded_and_what_leaves_is_counted() {
        let memory = Memory::new(256 * 1024);
        for n in 0..1_000 {
            memory.put(Arc::new(entry(&n.to_string(), &"x".repeat(1_000))));
            assert!(memory.bytes() <= 256 * 1024);
        }
        assert!(memory.len() > 20);
        assert_eq!(memory.evicted() as usize + memory.len(), 1_000);
    }

    #[test]
    fn what_is_dropped_does_not_come_back_with_an_answer_on_its_way() {
        for selection in
            [Selection::All, Selection::Owner("alice".into()), Selection::Model("m".into())]
        {
            let memory = Memory::new(1 << 20);
            memory.put(Arc::new(entry("a", "one")));
            assert_eq!(memory.forget(&Selection::Owner("bob".into())), 0);
            assert_eq!(memory.forget(&selection), 1, "{selection:?}");
            memory.put(Arc::new(entry("a", "one")));
            assert!(memory.is_empty());
            let mut later = entry("a", "one");
            later.facts.generation = memory.generation("alice", "m");
            memory.put(Arc::new(later));
            assert_eq!(memory.len(), 1);
        }
    }
}
