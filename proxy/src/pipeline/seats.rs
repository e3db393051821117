//! Where conversations were answered before: the server there has their beginning in its prompt cache, and
//! another would have to read all of it again.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Conversations that are remembered, at most twice as many.
const REMEMBERED: usize = 4096;

/// Who answered a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    upstream: Arc<str>,
    model: Arc<str>,
}

impl Seat {
    /// Whether it is at `upstream`, with `model`.
    #[must_use]
    pub fn is(&self, upstream: &str, model: &str) -> bool {
        *self.upstream == *upstream && *self.model == *model
    }
}

/// Those of the latest conversations.
#[derive(Debug, Default)]
pub struct Seats {
    known: Mutex<Known>,
}

/// Those of late, and those before them, which go when there are too many of late.
#[derive(Debug, Default)]
struct Known {
    late: HashMap<u64, Seat>,
    before: HashMap<u64, Seat>,
}

impl Seats {
    /// Who answered the conversation with this opening last.
    #[must_use]
    pub fn of(&self, opening: u64) -> Option<Seat> {
        let known = self.known.lock();
        known.late.get(&opening).or_else(|| known.before.get(&opening)).cloned()
    }

    /// Remembers that `model` at `upstream` answered it.
    pub fn take(&self, opening: u64, upstream: &str, model: &Arc<str>) {
        let mut known = self.known.lock();
        if known.late.get(&opening).is_some_and(|seat| seat.is(upstream, model)) {
            return;
        }
        if known.late.len() >= REMEMBERED {
            known.before = std::mem::take(&mut known.late);
        }
        let seat = Seat { upstream: upstream.into(), model: Arc::clone(model) };
        known.late.insert(opening, seat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_and_the_oldest_go() {
        let (seats, model) = (Seats::default(), "m".into());
        seats.take(0, "a", &model);
        seats.take(0, "b", &model);
        let is_b = || seats.of(0).is_some_and(|seat| seat.is("b", "m") && !seat.is("b", "n"));
        assert!(is_b());
        for opening in 1..=REMEMBERED as u64 {
            seats.take(opening, "a", &model);
        }
        assert!(is_b(), "it is among those before");
        for opening in 0..2 * REMEMBERED as u64 {
            seats.take(opening + 10_000, "a", &model);
        }
        assert_eq!(seats.of(0), None);
        let known = seats.known.lock();
        assert!(known.late.len() <= REMEMBERED && known.before.len() <= REMEMBERED);
    }
}
