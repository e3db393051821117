//! The circuit breaker of one upstream: Closed passes requests, Open rejects them, HalfOpen lets a
//! few through to find out. A pure state machine on tokio time; it sends nothing itself.
//!
//! It counts what is the upstream's fault: 5xx, timeouts, broken connections, truncated streams.
//! Back-pressure (429, a full queue) and a client's own mistakes are never failures.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::raw::BreakerConfig;

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

/// The breaker of one upstream.
#[derive(Debug)]
pub struct Breaker {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: BreakerConfig,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// When each recent failure happened, oldest first; at most `errors` of them.
    Closed {
        failures: VecDeque<Instant>,
    },
    Open {
        until: Instant,
    },
    HalfOpen {
        in_flight: u32,
    },
}

/// Leave to send one request. Its outcome must be reported; one that is dropped without a report
/// (the client left, the answer was back-pressure) tells nothing about the upstream.
#[derive(Debug)]
pub struct Pass {
    breaker: Arc<Breaker>,
    probe: bool,
    reported: bool,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        let phase = Phase::Closed { failures: VecDeque::new() };
        Self { inner: Mutex::new(Inner { config, phase }) }
    }

    /// Takes new settings over without touching the state.
    pub fn configure(&self, config: BreakerConfig) {
        self.inner.lock().config = config;
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> State {
        match self.inner.lock().phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Asks to send a request; the error is how long to wait before asking again.
    pub fn try_pass(self: &Arc<Self>) -> Result<Pass, Duration> {
        let mut inner = self.inner.lock();
        let probes = inner.config.probes;
        let probe = match &mut inner.phase {
            Phase::Closed { .. } => false,
            Phase::Open { until } => {
                return Err(until.saturating_duration_since(Instant::now()));
            }
            Phase::HalfOpen { in_flight } if *in_flight < probes => {
                *in_flight += 1;
                true
            }
            Phase::HalfOpen { .. } => return Err(Duration::from_secs(1)),
        };
        Ok(Pass { breaker: Arc::clone(self), probe, reported: false })
    }

    /// When an Open breaker wants its upstream probed; `None` while it is not open.
    #[must_use]
    pub fn probe_due(&self) -> Option<Instant> {
        match self.inner.lock().phase {
            Phase::Open { until } => Some(until),
            Phase::Closed { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// Reports an active probe of an Open upstream: HalfOpen when it answered, else Open again.
    pub fn probed(&self, answered: bool) {
        let mut inner = self.inner.lock();
        if let Phase::Open { .. } = inner.phase {
            inner.phase = if answered {
                Phase::HalfOpen { in_flight: 0 }
            } else {
                Phase::Open { until: Instant::now() + inner.config.open_for.0 }
            };
        }
    }

    fn success(&self, probe: bool) {
        let mut inner = self.inner.lock();
        match &mut inner.phase {
            // Failures are not forgotten for a success: one that fails half its requests is to trip.
            Phase::Closed { .. } => {}
            // A request sent before the upstream was tripped proves nothing about it now.
            Phase::HalfOpen { .. } if probe => {
                inner.phase = Phase::Closed { failures: VecDeque::new() };
            }
            Phase::HalfOpen { .. } | Phase::Open { .. } => {}
        }
    }

    fn failure(&self, probe: bool) {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        let BreakerConfig { errors, window, open_for, .. } = inner.config;
        let open = Phase::Open { until: now + open_for.0 };
        match &mut inner.phase {
            Phase::Closed { failures } => {
                failures.retain(|at| now.duration_since(*at) < window.0);
                failures.push_back(now);
                if failures.len() >= errors as usize {
                    inner.phase = open;
                }
            }
            Phase::HalfOpen { .. } if probe => inner.phase = open,
            Phase::HalfOpen { .. } | Phase::Open { .. } => {}
        }
    }

    fn released(&self) {
        if let Phase::HalfOpen { in_flight } = &mut self.inner.lock().phase {
            *in_flight = in_flight.saturating_sub(1);
        }
    }
}

impl Pass {
    /// The answer has begun: a half-open breaker need not wait for the end of a long stream. A
    /// failure after this counts as any other.
    pub fn begun(&mut self) {
        if std::mem::take(&mut self.probe) {
            self.breaker.success(true);
        }
    }

    /// The upstream answered as it should.
    pub fn success(mut self) {
        self.reported = true;
        self.breaker.success(self.probe);
    }

    /// The upstream failed.
    pub fn failure(mut self) {
        self.reported = true;
        self.breaker.failure(self.probe);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe && !self.reported {
            self.breaker.released();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::Period;

    fn breaker() -> Arc<Breaker> {
        Arc::new(Breaker::new(BreakerConfig {
            errors: 3,
            window: Period::secs(30),
            open_for: Period::secs(10),
            probes: 1,
        }))
    }

    fn fail(breaker: &Arc<Breaker>, times: usize) {
        for _ in 0..times {
            breaker.try_pass().expect("passes").failure();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_enough_failures_within_the_window() {
        let breaker = breaker();
        fail(&breaker, 2);
        assert_eq!(breaker.state(), State::Closed);
        tokio::time::advance(Duration::from_secs(31)).await;
        fail(&breaker, 2);
        assert_eq!(breaker.state(), State::Closed, "old failures are forgotten");
        fail(&breaker, 1);
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(breaker.try_pass().expect_err("rejects"), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_half_its_requests_is_tripped() {
        let breaker = breaker();
        for _ in 0..2 {
            fail(&breaker, 1);
            breaker.try_pass().expect("passes").success();
        }
        fail(&breaker, 1);
        assert_eq!(breaker.state(), State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_begun_answer_closes_a_half_open_breaker() {
        let breaker = breaker();
        fail(&breaker, 3);
        breaker.probed(true);
        let mut probe = breaker.try_pass().expect("one probe");
        probe.begun();
        assert_eq!(breaker.state(), State::Closed);
        probe.failure();
        assert_eq!(breaker.state(), State::Closed, "one later failure is one failure");
    }

    #[tokio::test(start_paused = true)]
    async fn stays_open_until_a_probe_answers() {
        let breaker = breaker();
        fail(&breaker, 3);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(breaker.try_pass().is_err());
        breaker.probed(false);
        assert_eq!(breaker.state(), State::Open);
        breaker.probed(true);
        assert_eq!(breaker.state(), State::HalfOpen);
    }

    #[tokio::test(start_paused = true)]
    async fn half_open_lets_probes_through_and_decides_by_them() {
        let breaker = breaker();
        fail(&breaker, 3);
        breaker.probed(true);
        let first = breaker.try_pass().expect("one probe");
        assert!(breaker.try_pass().is_err(), "only one at a time");
        first.failure();
        assert_eq!(breaker.state(), State::Open);
        breaker.probed(true);
        breaker.try_pass().expect("one probe").success();
        assert_eq!(breaker.state(), State::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_probe_gives_its_place_back() {
        let breaker = breaker();
        fail(&breaker, 3);
        breaker.probed(true);
        drop(breaker.try_pass().expect("one probe"));
        assert!(breaker.try_pass().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_straggler_from_before_the_trip_changes_nothing() {
        let breaker = breaker();
        let (old_ok, old_bad) =
            (breaker.try_pass().expect("pass"), breaker.try_pass().expect("pass"));
        fail(&breaker, 3);
        old_ok.success();
        assert_eq!(breaker.state(), State::Open);
        breaker.probed(true);
        old_bad.failure();
        assert_eq!(breaker.state(), State::HalfOpen);
    }
}
