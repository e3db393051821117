//! Leaves alone for a moment what failed again and again, a plugin or its Redis: each failure costs a
//! request its deadline. Any success ends a streak, so that one caller's odd requests do not switch a
//! plugin off for the others.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Failures without a success in between.
const MOST: u32 = 10;
/// How long it is left alone; then one call in each such while finds out.
const PAUSE: Duration = Duration::from_secs(1);

/// Failures in a row.
#[derive(Debug, Default)]
pub struct Streak {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    failures: u32,
    until: Option<Instant>,
}

impl Streak {
    /// Whether a call may be made now.
    #[must_use]
    pub fn may_call(&self) -> bool {
        let mut inner = self.inner.lock();
        let Some(until) = inner.until else { return true };
        let now = Instant::now();
        let over = now >= until;
        if over {
            // The others wait for what this one finds.
            inner.until = Some(now + PAUSE);
        }
        over
    }

    /// A call succeeded.
    pub fn succeeded(&self) {
        *self.inner.lock() = Inner::default();
    }

    /// A call failed.
    pub fn failed(&self) {
        let mut inner = self.inner.lock();
        inner.failures = inner.failures.saturating_add(1);
        if inner.failures >= MOST {
            inner.until = Some(Instant::now() + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_streak_pauses_and_one_call_a_pause_finds_out() {
        let streak = Streak::default();
        (1..MOST).for_each(|_| streak.failed());
        assert!(streak.may_call());
        streak.failed();
        assert!(!streak.may_call());
        tokio::time::advance(PAUSE).await;
        assert_eq!((streak.may_call(), streak.may_call()), (true, false));
        streak.succeeded();
        assert!(streak.may_call());
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_ends_a_streak() {
        let streak = Streak::default();
        for _ in 0..100 {
            (1..MOST).for_each(|_| streak.failed());
            streak.succeeded();
        }
        assert!(streak.may_call());
    }
}
