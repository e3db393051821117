//! The circuit breaker of one upstream: Closed passes requests, Open rejects them, HalfOpen lets a
//! few through to find out. A pure state machine on tokio time; it sends nothing itself.
//!
//! It counts what is the upstream's fault: 5xx, timeouts, broken connections, truncated streams.
//! Back-pressure (429, a full queue) and a client's own mistakes are never failures.
//!
//! It is also opened from outside, by what `conditions` makes of the GPU, the loads and the speed:
//! tripped once, or held open for as long as a condition lasts. Either way it closes as after
//! errors: an upstream that answers a probe gets a few requests, and these decide.

pub mod conditions;
mod models;
mod reason;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::models::{LeftAlone, ModelBreakers, ModelPass};
pub use self::reason::Reason;
use crate::config::raw::BreakerConfig;

/// How long to wait for one that is held open. Nobody knows when that ends; a condition must be
/// gone for seconds before it does.
const HELD_WAIT: Duration = Duration::from_secs(5);
/// So many successes to each failure are no reason to open: a busy upstream always has a few failures,
/// and one client whose requests always fail must not take it from the others.
const SUCCESSES_PER_FAILURE: u64 = 3;
/// Changes that are kept for `take_change`. They are taken several times a second, and a breaker
/// changes far less often.
const MAX_CHANGES: usize = 16;

/// What the breaker does with requests now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests pass.
    Closed,
    /// Requests are rejected.
    Open,
    /// A few requests pass, to find out.
    HalfOpen,
}

impl State {
    /// The name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        }
    }
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The state after it.
    pub state: State,
    /// Why it was Open or HalfOpen then; `None` when it closed.
    pub reason: Option<Reason>,
}

/// The breaker of one upstream.
#[derive(Debug)]
pub struct Breaker {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: BreakerConfig,
    phase: Phase,
    /// Why it was opened; `None` while Closed.
    reason: Option<Reason>,
    /// Why it is held open; the phase is Open then.
    held: Option<Reason>,
    /// Counts the changes: a probe of an earlier HalfOpen decides nothing about this one.
    epoch: u64,
    changes: VecDeque<Change>,
}

#[derive(Debug)]
enum Phase {
    Closed {
        /// Recent failures, oldest first; at most `errors` of them.
        failures: VecDeque<Failed>,
        successes: u64,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        in_flight: u32,
    },
}

#[derive(Debug)]
struct Failed {
    at: Instant,
    /// Successes before it.
    successes: u64,
}

impl Phase {
    fn closed() -> Self {
        Phase::Closed { failures: VecDeque::new(), successes: 0 }
    }

    fn state(&self) -> State {
        match self {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }
}

/// Leave to send one request. Its outcome must be reported; one that is dropped without a report
/// (the client left, the answer was back-pressure) tells nothing about the upstream.
#[derive(Debug)]
pub struct Pass {
    breaker: Arc<Breaker>,
    /// For a probe, the epoch of the HalfOpen that let it through.
    probe: Option<u64>,
    reported: bool,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        let inner = Inner {
            config,
            phase: Phase::closed(),
            reason: None,
            held: None,
            epoch: 0,
            changes: VecDeque::new(),
        };
        Self { inner: Mutex::new(inner) }
    }

    /// Takes new settings over without touching the state.
    pub fn configure(&self, config: BreakerConfig) {
        self.inner.lock().config = config;
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner.lock().phase.state()
    }

    /// Why it is Open or HalfOpen: what holds it open now, else what opened it last. `None` while
    /// Closed.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.inner.lock().why()
    }

    /// The oldest change of state that was not taken yet, so that each is logged and counted once.
    /// The oldest are dropped if nobody takes them.
    pub fn take_change(&self) -> Option<Change> {
        self.inner.lock().changes.pop_front()
    }

    /// Asks to send a request; the error is how long to wait before asking again.
    pub fn try_pass(self: &Arc<Self>) -> Result<Pass, Duration> {
        let mut inner = self.inner.lock();
        let (probes, epoch) = (inner.config.probes, inner.epoch);
        let held = inner.held.is_some();
        let probe = match &mut inner.phase {
            Phase::Closed { .. } => None,
            Phase::Open { until } => {
                let left = until.saturating_duration_since(Instant::now());
                return Err(if held { left.max(HELD_WAIT) } else { left });
            }
            Phase::HalfOpen { in_flight } if *in_flight < probes => {
                *in_flight += 1;
                Some(epoch)
            }
            Phase::HalfOpen { .. } => return Err(Duration::from_secs(1)),
        };
        Ok(Pass { breaker: Arc::clone(self), probe, reported: false })
    }

    /// Opens it for `open_for`, after which it is probed. One that is Open already stays as it is.
    pub fn trip(&self, reason: Reason) {
        self.inner.lock().open(reason);
    }

    /// Holds it open for as long as there is a reason, whatever probes say. Without one it is let
    /// go: the upstream is probed at once, or when an earlier trip ends if that is later.
    ///
    /// Idempotent: call it at every reading. Later figures of the reason replace the earlier.
    pub fn hold(&self, reason: Option<Reason>) {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        let Some(reason) = reason else {
            if let Some(last) = inner.held.take()
                && let Phase::Open { until } = &mut inner.phase
                && *until <= now
            {
                *until = now;
                inner.reason = Some(last);
            }
            return;
        };
        inner.held = Some(reason.clone());
        if inner.phase.state() != State::Open {
            inner.reason = Some(reason);
            inner.enter(Phase::Open { until: now });
        }
    }

    /// When an Open breaker wants its upstream probed; `None` while it is not open, or held so.
    #[must_use]
    pub fn probe_due(&self) -> Option<Instant> {
        let inner = self.inner.lock();
        match inner.phase {
            Phase::Open { until } if inner.held.is_none() => Some(until),
            Phase::Open { .. } | Phase::Closed { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// Reports an active probe of an Open upstream: HalfOpen when it answered, else Open again.
    pub fn probed(&self, answered: bool) {
        let mut inner = self.inner.lock();
        if inner.held.is_some() {
            return;
        }
        let until = Instant::now() + inner.config.open_for.0;
        if let Phase::Open { .. } = inner.phase {
            inner.enter(if answered {
                Phase::HalfOpen { in_flight: 0 }
            } else {
                Phase::Open { until }
            });
        }
    }

    /// The upstream, which could not be reached, can be again: it is probed at once where errors opened the
    /// breaker.
    pub fn back(&self) {
        let mut inner = self.inner.lock();
        let by_errors = inner.held.is_none() && inner.reason == Some(Reason::Errors);
        if let (Phase::Open { until }, true) = (&mut inner.phase, by_errors) {
            *until = Instant::now();
        }
    }

    fn success(&self, probe: Option<u64>, work: u64) {
        let mut inner = self.inner.lock();
        // While Closed no failure is forgotten for a success: one that fails half its requests is to
        // trip.
        if let Phase::Closed { successes, .. } = &mut inner.phase {
            *successes += work;
        }
        // A request sent before the upstream was tripped proves nothing about it now.
        if inner.decides(probe) {
            inner.reason = None;
            inner.enter(Phase::closed());
        }
    }

    fn failure(&self, probe: Option<u64>) {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        let BreakerConfig { errors, window, .. } = inner.config;
        let trips = match &mut inner.phase {
            Phase::Closed { failures, successes } => {
                let errors = errors.max(1) as usize;
                failures.push_back(Failed { at: now, successes: *successes });
                while failures.len() > errors {
                    failures.pop_front();
                }
                failures.retain(|failed| now.duration_since(failed.at) < window.0);
                let between = failures.front().map_or(0, |oldest| *successes - oldest.successes);
                let many = failures.len() as u64 * SUCCESSES_PER_FAILURE;
                failures.len() == errors && between < many
            }
            Phase::HalfOpen { .. } | Phase::Open { .. } => inner.decides(probe),
        };
        if trips {
            inner.open(Reason::Errors);
        }
    }

    fn released(&self, probe: Option<u64>) {
        let mut inner = self.inner.lock();
        if inner.decides(probe)
            && let Phase::HalfOpen { in_flight } = &mut inner.phase
        {
            *in_flight = in_flight.saturating_sub(1);
        }
    }
}

impl Inner {
    fn why(&self) -> Option<Reason> {
        self.held.as_ref().or(self.reason.as_ref()).cloned()
    }

    /// Whether it is HalfOpen and this is one of the requests to decide it.
    fn decides(&self, probe: Option<u64>) -> bool {
        matches!(self.phase, Phase::HalfOpen { .. }) && probe == Some(self.epoch)
    }

    fn open(&mut self, reason: Reason) {
        if self.phase.state() != State::Open {
            self.reason = Some(reason);
            self.enter(Phase::Open { until: Instant::now() + self.config.open_for.0 });
        }
    }

    fn enter(&mut self, phase: Phase) {
        let changed = phase.state() != self.phase.state();
        self.phase = phase;
        if changed {
            self.epoch += 1;
            if self.changes.len() >= MAX_CHANGES {
                self.changes.pop_front();
            }
            self.changes.push_back(Change { state: self.phase.state(), reason: self.why() });
        }
    }
}

impl Pass {
    /// The answer has begun: a half-open breaker need not wait for the end of a long stream. A
    /// failure after this counts as any other.
    pub fn begun(&mut self) {
        if let Some(epoch) = self.probe.take() {
            self.breaker.success(Some(epoch), 0);
        }
    }

    /// The upstream answered as it should.
    pub fn success(mut self) {
        self.reported = true;
        self.breaker.success(self.probe, 1);
    }

    /// The upstream answered, but what it answered was no work, and makes up for no failure.
    pub fn answered(mut self) {
        self.reported = true;
        self.breaker.success(self.probe, 0);
    }

    /// The upstream failed.
    pub fn failure(mut self) {
        self.reported = true;
        self.breaker.failure(self.probe);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe.is_some() && !self.reported {
            self.breaker.released(self.probe);
        }
    }
}
