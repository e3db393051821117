//! What plugins decided about the last requests, for people who ask why. Summaries only: no text of
//! a prompt or an answer.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::ids::RequestId;

/// Requests remembered.
const KEPT: usize = 1_000;
/// Those that are listed.
const LISTED: usize = 50;

/// One plugin's part in a request.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The plugin.
    pub plugin: Arc<str>,
    /// `router`, `rewriter`, `cache-policy` or `responder`.
    pub interface: &'static str,
    /// What it decided.
    pub decision: Cow<'static, str>,
    /// Whether it was only recorded.
    pub shadow: bool,
    /// Time of its call, or of all calls for an answer.
    pub microseconds: u64,
}

/// What is remembered of a request.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// The request's id.
    pub id: RequestId,
    /// Its caller.
    pub caller: Arc<str>,
    /// The model asked for.
    pub model: String,
    /// What plugins did, in order.
    pub steps: Vec<Step>,
    /// Whether they changed its body.
    pub changed: bool,
    /// Why its targets were chosen.
    pub reason: Cow<'static, str>,
    /// Who answered.
    pub upstream: Option<Arc<str>>,
    /// With which model.
    pub upstream_model: Option<Arc<str>>,
    /// The status sent.
    pub status: u16,
}

/// The last requests that met plugins.
#[derive(Debug, Default)]
pub struct Decisions {
    last: Mutex<VecDeque<Arc<Decision>>>,
}

impl Decisions {
    /// Remembers a request.
    pub fn add(&self, decision: Decision) {
        let mut last = self.last.lock();
        if last.len() >= KEPT {
            last.pop_front();
        }
        last.push_back(Arc::new(decision));
    }

    /// The last requests, newest first.
    #[must_use]
    pub fn last(&self) -> Vec<Arc<Decision>> {
        self.last.lock().iter().rev().take(LISTED).cloned().collect()
    }

    /// The request called `id`, the latest of that name.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Decision>> {
        self.last.lock().iter().rev().find(|one| one.id.as_str() == id).cloned()
    }
}

/// What is noted while a request passes its chain.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// Steps so far.
    pub steps: Vec<Step>,
    /// Time spent in plugins.
    pub spent: Duration,
    /// Whether the body was changed.
    pub changed: bool,
}

impl Trail {
    /// Notes a call.
    pub fn note(
        &mut self,
        (plugin, shadow): (&Arc<str>, bool),
        interface: &'static str,
        took: Duration,
        decision: Cow<'static, str>,
    ) {
        self.spent += took;
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let plugin = Arc::clone(plugin);
        self.steps.push(Step { plugin, interface, decision, shadow, microseconds });
    }
}
