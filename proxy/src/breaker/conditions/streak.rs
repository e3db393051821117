//! Bad things in a row: answers far too slow, loads that failed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use crate::breaker::Reason;

/// Slow answers in a row that are no accident.
const SLOW: u32 = 3;
/// Further apart than this, two bad things have nothing to do with each other.
const APART: Duration = Duration::from_secs(600);
/// Models whose slow answers are counted at one time; more than an upstream has loaded.
const MAX_MODELS: usize = 64;

/// Slow answers in a row of each model that had one lately.
#[derive(Debug, Default)]
pub(super) struct Speeds {
    slow: HashMap<Arc<str>, Slow, RandomState>,
}

#[derive(Debug)]
struct Slow {
    answers: u32,
    last: Instant,
    /// The usual speed before the first.
    usual: f64,
}

impl Speeds {
    /// `collapse` is the fraction of the usual speed below which an answer is slow.
    pub(super) fn decoded(
        &mut self,
        model: &Arc<str>,
        speed: f64,
        usual: f64,
        collapse: f64,
        now: Instant,
    ) -> Option<Reason> {
        if !speed.is_finite() || !usual.is_finite() || usual <= 0.0 {
            return None;
        }
        self.slow.retain(|_, slow| now.duration_since(slow.last) < APART);
        let known = self.slow.get_mut(model);
        let usual = known.as_ref().map_or(usual, |slow| slow.usual);
        if speed >= usual * collapse {
            self.slow.remove(model);
            return None;
        }
        let Some(slow) = known else {
            if self.slow.len() < MAX_MODELS {
                self.slow.insert(Arc::clone(model), Slow { answers: 1, last: now, usual });
            }
            return None;
        };
        slow.answers += 1;
        slow.last = now;
        if slow.answers < SLOW {
            return None;
        }
        self.slow.remove(model);
        let percent = (speed / usual * 100.0) as u8;
        Some(Reason::Decode { model: Arc::clone(model), percent })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slow.len()
    }
}

/// Failed loads in a row.
#[derive(Debug, Default)]
pub(super) struct Loads {
    failed: u32,
    last: Option<Instant>,
}

impl Loads {
    /// `limit` is the number that trips.
    pub(super) fn ended(&mut self, ok: bool, limit: u32, now: Instant) -> Option<Reason> {
        let is_apart = self.last.is_some_and(|at| now.duration_since(at) >= APART);
        if ok || is_apart {
            self.failed = 0;
        }
        if ok || limit == 0 {
            return None;
        }
        self.failed += 1;
        self.last = Some(now);
        let failed = self.failed;
        (failed >= limit).then(|| {
            self.failed = 0;
            Reason::Loads { failed }
        })
    }
}
