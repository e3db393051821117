//! What an operator sees of a line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Line, Priority};

/// Entries of the waiting list at most.
const MAX_LISTED: usize = 256;

/// A line at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Requests that may be in flight at a time.
    pub places: usize,
    /// Requests that hold a place, by model.
    pub in_flight: BTreeMap<Arc<str>, usize>,
    /// The load that runs.
    pub loading: Option<LoadingReport>,
    /// The model that has waited too long, and for which others are being emptied.
    pub starving: Option<Arc<str>>,
    /// How many wait.
    pub waiting_total: usize,
    /// Who waits, in the order of service; the first 256.
    pub waiting: Vec<WaitingReport>,
    /// Mean time that a request holds its place, in seconds, by model.
    pub service_seconds: BTreeMap<Arc<str>, f64>,
}

/// A load that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadingReport {
    /// What is loaded.
    pub model: Arc<str>,
    /// What was evicted for it.
    pub evicted: Vec<Arc<str>>,
    /// Milliseconds since it began.
    pub since_ms: u64,
}

/// A request that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WaitingReport {
    /// On whose account.
    pub caller: Arc<str>,
    /// For which model.
    pub model: Arc<str>,
    /// How urgent it is.
    pub priority: Priority,
    /// Milliseconds so far.
    pub waited_ms: u64,
    /// 1 is the next to run.
    pub position: usize,
    /// Milliseconds to go, as far as can be told.
    pub estimate_ms: u64,
}

impl Line {
    /// The line as it stands.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        let running = self.models.iter().filter(|one| one.in_flight > 0);
        let learned = self.models.iter().filter_map(|one| {
            let service = one.service?;
            Some((Arc::clone(&one.name), service.as_secs_f64()))
        });
        let forecast = self.forecast(now);
        let waiting = forecast.iter().take(MAX_LISTED).enumerate().map(|(index, one)| {
            let waited = now.saturating_duration_since(one.waiter.since);
            WaitingReport {
                caller: Arc::clone(&one.waiter.caller),
                model: Arc::clone(&one.model.name),
                priority: one.waiter.priority,
                waited_ms: millis(waited),
                position: index + 1,
                estimate_ms: millis(one.wait),
            }
        });
        Report {
            places: self.terms.places,
            in_flight: running.map(|one| (Arc::clone(&one.name), one.in_flight)).collect(),
            loading: self.loading.as_ref().map(|one| LoadingReport {
                model: Arc::clone(&one.model),
                evicted: one.evict.clone(),
                since_ms: millis(now.saturating_duration_since(one.since)),
            }),
            starving: self.drain.as_ref().map(|drain| Arc::clone(&drain.model)),
            waiting_total: self.waiting,
            waiting: waiting.collect(),
            service_seconds: learned.collect(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
