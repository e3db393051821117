//! The last things that admission did, for people: loads, evictions, trips, requests sent elsewhere.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Events kept.
const KEPT: usize = 256;

/// One thing that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// The upstream it happened at.
    pub upstream: String,
    /// The model it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What happened, in a sentence.
    pub what: String,
}

/// The last events; older ones are forgotten.
#[derive(Debug, Default)]
pub struct Events {
    last: Mutex<VecDeque<Arc<Event>>>,
}

impl Events {
    /// Notes that something happened, here and in the program log.
    pub fn note(&self, upstream: &str, model: Option<&str>, what: String) {
        tracing::info!(upstream, model, "{what}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let (upstream, model) = (upstream.to_owned(), model.map(str::to_owned));
        let event = Arc::new(Event { at_unix_ms, upstream, model, what });
        let mut last = self.last.lock();
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(event);
    }

    /// The last events, newest first.
    #[must_use]
    pub fn last(&self) -> Vec<Arc<Event>> {
        self.last.lock().iter().rev().cloned().collect()
    }
}
