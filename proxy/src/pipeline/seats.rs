//! Where conversations were answered before: the server there has their beginning in its prompt cache, and
//! another would have to read all of it again.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Conversations that are remembered, at most twice as many.
const REMEMBERED: usize = 4096;

/// The upstreams of the latest conversations.
#[derive(Debug, Default)]
pub struct Seats {
    known: Mutex<Known>,
}

/// Those of late, and those before them, which go when there are too many of late.
#[derive(Debug, Default)]
struct Known {
    late: HashMap<u64, Arc<str>>,
    before: HashMap<u64, Arc<str>>,
}

impl Seats {
    /// The upstream that answered the conversation with this opening last.
    #[must_use]
    pub fn of(&self, opening: u64) -> Option<Arc<str>> {
        let known = self.known.lock();
        known.late.get(&opening).or_else(|| known.before.get(&opening)).cloned()
    }

    /// Remembers that `upstream` answered it.
    pub fn take(&self, opening: u64, upstream: &str) {
        let mut known = self.known.lock();
        if known.late.get(&opening).is_some_and(|seat| **seat == *upstream) {
            return;
        }
        if known.late.len() >= REMEMBERED {
            known.before = std::mem::take(&mut known.late);
        }
        known.late.insert(opening, upstream.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_and_the_oldest_go() {
        let seats = Seats::default();
        seats.take(0, "a");
        seats.take(0, "b");
        assert_eq!(seats.of(0).as_deref(), Some("b"));
        for opening in 1..=REMEMBERED as u64 {
            seats.take(opening, "a");
        }
        assert_eq!(seats.of(0).as_deref(), Some("b"), "it is among those before");
        for opening in 0..2 * REMEMBERED as u64 {
            seats.take(opening + 10_000, "a");
        }
        assert_eq!(seats.of(0), None);
        let known = seats.known.lock();
        assert!(known.late.len() <= REMEMBERED && known.before.len() <= REMEMBERED);
    }
}
