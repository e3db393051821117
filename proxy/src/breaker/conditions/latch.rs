//! A condition with hysteresis in level and in time.

use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::Reason;

/// Nothing heard for this long, a condition is taken to be over. Long against a slow probe, short
/// against a person who looks for why nothing is served.
const STALE: Duration = Duration::from_secs(30);

/// Where a figure lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// At or above the upper threshold.
    Over(Reason),
    /// Between the two.
    Between(Reason),
    /// At or below the lower.
    Under,
}

/// How long a level must last, and what time it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub trip_after: Duration,
    pub recover_after: Duration,
    pub now: Instant,
}

/// One condition.
#[derive(Debug, Default)]
pub(super) struct Latch {
    /// Since when it lasts, and why.
    on: Option<(Instant, Reason)>,
    /// Since when the level would begin it, or end it.
    turning: Option<Instant>,
    /// When a level was last known.
    known: Option<Instant>,
}

impl Latch {
    pub(super) fn update(&mut self, level: Option<Level>, timing: Timing) {
        let now = timing.now;
        let is_stale = self.known.is_some_and(|at| now.duration_since(at) >= STALE);
        if is_stale {
            // Two levels so far apart say nothing about the time between.
            self.turning = None;
        }
        let Some(level) = level else {
            if is_stale {
                self.on = None;
            }
            return;
        };
        self.known = Some(now);
        match (&mut self.on, level) {
            (None, Level::Over(reason)) => {
                let since = *self.turning.get_or_insert(now);
                if now.duration_since(since) >= timing.trip_after {
                    self.on = Some((now, reason));
                    self.turning = None;
                }
            }
            (Some(_), Level::Under) => {
                let since = *self.turning.get_or_insert(now);
                if now.duration_since(since) >= timing.recover_after {
                    self.on = None;
                    self.turning = None;
                }
            }
            (Some((_, why)), Level::Over(reason) | Level::Between(reason)) => {
                *why = reason;
                self.turning = None;
            }
            (None, Level::Between(_) | Level::Under) => self.turning = None,
        }
    }
}

/// Why the one that began first lasts; the first named of two that began together.
pub(super) fn first(one: &Latch, other: &Latch) -> Option<Reason> {
    [one, other]
        .into_iter()
        .filter_map(|latch| latch.on.as_ref())
        .min_by_key(|(since, _)| *since)
        .map(|(_, reason)| reason.clone())
}
