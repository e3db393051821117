//! Answers in this process: bounded by bytes, the least useful leaves first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::entry::Entry;
use super::key::Key;

/// What an entry usually takes, to size the tables by.
const USUAL_SIZE: usize = 4 * 1024;

/// Answers by their keys.
#[derive(Debug)]
pub struct Bounded {
    entries: Cache<Key, Arc<Entry>, Bytes, DefaultHashBuilder, Evictions>,
    evicted: Arc<AtomicU64>,
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

impl Bounded {
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
        Self { entries, evicted }
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

    /// Takes `entry` in.
    pub fn insert(&self, entry: Arc<Entry>) {
        self.entries.insert(entry.key, entry);
    }

    /// Whether this very answer is there.
    #[must_use]
    pub fn has(&self, entry: &Arc<Entry>) -> bool {
        self.entries.peek(&entry.key).is_some_and(|kept| Arc::ptr_eq(&kept, entry))
    }

    /// Drops the answer under `key`; whether there was one.
    pub fn remove(&self, key: &Key) -> bool {
        self.entries.remove(key).is_some()
    }

    /// Drops all but those that are to stay.
    pub fn retain(&self, stays: impl Fn(&Entry) -> bool) {
        self.entries.retain(|_, entry| stays(entry));
    }

    /// Drops all.
    pub fn clear(&self) {
        self.entries.clear();
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Arc<Entry>> {
        self.entries.iter().map(|(_, entry)| entry)
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

#[cfg(test)]
mod tests {
    use super::super::entry::tests::entry;
    use super::*;

    #[test]
    fn what_is_kept_is_found_until_it_is_stale() {
        let answers = Bounded::new(1 << 20);
        let kept = Arc::new(entry("a", "one"));
        answers.insert(Arc::clone(&kept));
        assert!(answers.get(&kept.key, 1_299).is_some());
        assert!(answers.get(&entry("b", "").key, 1_000).is_none());
        assert!(answers.get(&kept.key, 1_300).is_none());
        assert_eq!(answers.len(), 0);
    }

    #[test]
    fn bytes_are_bounded_and_what_leaves_is_counted() {
        let answers = Bounded::new(256 * 1024);
        for n in 0..1_000 {
            answers.insert(Arc::new(entry(&n.to_string(), &"x".repeat(1_000))));
            assert!(answers.bytes() <= 256 * 1024);
        }
        assert!(answers.len() > 20);
        assert_eq!(answers.evicted() as usize + answers.len(), 1_000);
    }
}
