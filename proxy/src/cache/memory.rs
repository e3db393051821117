//! The answers of a process that shares none, and what of them was dropped.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::bounded::Bounded;
use super::entry::{Entry, Generation};
use super::selection::Selection;

/// Answers in memory.
#[derive(Debug)]
pub struct Memory {
    /// Where they are found; [`Memory::put`] takes them in.
    pub answers: Bounded,
    /// Raised by [`Memory::forget`], by what it was told to forget.
    generations: Mutex<HashMap<Selection, u64>>,
}

impl Memory {
    /// Room for answers of `bytes` in all.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { answers: Bounded::new(bytes), generations: Mutex::default() }
    }

    /// Keeps `entry`, unless what it belongs to was dropped since it was asked for; whether it did.
    pub fn put(&self, entry: Arc<Entry>) -> bool {
        let facts = &entry.facts;
        // Held until it is in, so that what is dropped in between does not stay.
        let generations = self.generations.lock();
        let current = current(&generations, &facts.owner, &facts.model) == facts.generation;
        if current {
            self.answers.insert(entry);
        }
        current
    }

    /// The generation that answers of `owner` by `model` belong to now.
    #[must_use]
    pub fn generation(&self, owner: &str, model: &str) -> Generation {
        current(&self.generations.lock(), owner, model)
    }

    /// Drops what `selection` says, and what of it is on its way; gives how many there were.
    pub fn forget(&self, selection: &Selection) -> usize {
        let mut generations = self.generations.lock();
        *generations.entry(selection.clone()).or_default() += 1;
        let before = self.answers.len();
        self.answers.retain(|entry| !selection.has(&entry.facts));
        before.saturating_sub(self.answers.len())
    }

    /// The answers that may be given at `now` and belong to `selection`, `limit` at most.
    #[must_use]
    pub fn list(&self, selection: &Selection, now: u64, limit: usize) -> Vec<Arc<Entry>> {
        let fits = |entry: &Arc<Entry>| entry.is_fresh(now) && selection.has(&entry.facts);
        self.answers.iter().filter(fits).take(limit).collect()
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
    fn what_is_dropped_does_not_come_back_with_an_answer_on_its_way() {
        for selection in
            [Selection::All, Selection::Owner("alice".into()), Selection::Model("m".into())]
        {
            let memory = Memory::new(1 << 20);
            memory.put(Arc::new(entry("a", "one")));
            assert_eq!(memory.forget(&Selection::Owner("bob".into())), 0);
            assert_eq!(memory.forget(&selection), 1, "{selection:?}");
            memory.put(Arc::new(entry("a", "one")));
            assert!(memory.answers.is_empty());
            let mut later = entry("a", "one");
            later.facts.generation = memory.generation("alice", "m");
            memory.put(Arc::new(later));
            assert_eq!(memory.answers.len(), 1);
        }
    }
}
