//! Key-value pairs in memory: bounded, with a time to live, the least recently used goes first.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{MAX_BYTES, MAX_ENTRIES, StoreError};

/// One plugin's store.
#[derive(Debug, Default)]
pub struct Memory {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    /// Keys by when they were used last.
    by_use: BTreeMap<u64, String>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    used: u64,
    expires: Option<Instant>,
}

impl Memory {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.inner.lock().live(key).map(|entry| entry.value.clone())
    }

    /// Sets `key`, to go after `ttl` (zero: never by age).
    pub fn set(&self, key: &str, value: Vec<u8>, ttl: Duration) {
        self.inner.lock().put(key, value, expiry(ttl));
    }

    /// Removes `key`.
    pub fn delete(&self, key: &str) {
        self.inner.lock().remove(key);
    }

    /// Adds `by` to the number at `key` in one step; gives the sum.
    ///
    /// # Errors
    /// When the value is no number.
    pub fn increment(&self, key: &str, by: i64, ttl: Duration) -> Result<i64, StoreError> {
        let mut inner = self.inner.lock();
        let (before, expires) = match inner.live(key) {
            None => (0, expiry(ttl)),
            Some(entry) => {
                let text = std::str::from_utf8(&entry.value).ok();
                let number = text.and_then(|text| text.parse().ok());
                (number.ok_or(StoreError::NotANumber)?, entry.expires)
            }
        };
        let sum = i64::saturating_add(before, by);
        inner.put(key, sum.to_string().into_bytes(), expires);
        Ok(sum)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }
}

fn expiry(ttl: Duration) -> Option<Instant> {
    if ttl.is_zero() { None } else { Instant::now().checked_add(ttl) }
}

impl Inner {
    fn live(&mut self, key: &str) -> Option<&mut Entry> {
        let expired = self.entries.get(key)?.expires.is_some_and(|at| at <= Instant::now());
        if expired {
            self.remove(key);
            return None;
        }
        let now = self.next_use();
        let entry = self.entries.get_mut(key)?;
        if let Some(name) = self.by_use.remove(&entry.used) {
            self.by_use.insert(now, name);
        }
        entry.used = now;
        Some(entry)
    }

    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn put(&mut self, key: &str, value: Vec<u8>, expires: Option<Instant>) {
        self.remove(key);
        let size = key.len() + value.len();
        while self.entries.len() >= MAX_ENTRIES || self.bytes + size > MAX_BYTES {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.remove(&oldest);
        }
        let used = self.next_use();
        self.bytes += size;
        self.by_use.insert(used, key.to_owned());
        self.entries.insert(key.to_owned(), Entry { value, used, expires });
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= key.len() + entry.value.len();
            self.by_use.remove(&entry.used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MAX_VALUE;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn values_go_after_their_time() {
        let store = Memory::default();
        store.set("a", b"1".to_vec(), Duration::from_secs(5));
        store.set("b", b"2".to_vec(), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(store.get("a"), None);
        assert_eq!(store.get("b").as_deref(), Some(&b"2"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_counter_counts_from_its_first_addition() {
        let store = Memory::default();
        assert_eq!(store.increment("n", 2, Duration::from_secs(10)), Ok(2));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(store.increment("n", 3, Duration::from_secs(10)), Ok(5));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(store.increment("n", 1, Duration::from_secs(10)), Ok(1));
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first() {
        let store = Memory::default();
        for n in 0..MAX_ENTRIES {
            store.set(&n.to_string(), Vec::new(), Duration::ZERO);
        }
        assert!(store.get("0").is_some());
        store.set("one more", Vec::new(), Duration::ZERO);
        assert!(store.get("0").is_some() && store.get("1").is_none());
        assert_eq!(store.len(), MAX_ENTRIES);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let store = Memory::default();
        let large = vec![0; MAX_VALUE];
        for n in 0..1000 {
            store.set(&n.to_string(), large.clone(), Duration::ZERO);
        }
        assert!(store.len() * MAX_VALUE <= MAX_BYTES && store.len() > 250);
        store.set("t", b"text".to_vec(), Duration::ZERO);
        assert_eq!(store.increment("t", 1, Duration::ZERO), Err(StoreError::NotANumber));
    }
}
