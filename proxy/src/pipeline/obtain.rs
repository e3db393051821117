//! The search for an answer: targets in their order, a place at each, and what to do when one fails.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::time::Instant;

use super::Pipeline;
use super::attempt::{Begun, Rejection, attempt};
use super::ctx::{Headers, Phase, Progress};
use super::state::{Backend, Snapshot};
use crate::admission::{Refused, Slot};
use crate::breaker::Pass;
use crate::error::{Error, Kind};
use crate::request::Request;
use crate::router::{Plan, Target};
use crate::telemetry::names;
use crate::upstream::Failure;

/// A request may be worked on by this many upstreams at most: SDKs retry too, and every retry of a
/// generation multiplies the load of a box that is in trouble already.
const MAX_SENT: u32 = 2;
/// When to come back to a box that is full and says nothing itself.
const FULL_RETRY: Duration = Duration::from_secs(2);

/// An answer, and what is held for as long as it lasts.
#[derive(Debug)]
pub struct Answer {
    /// Who answers.
    pub backend: Arc<Backend>,
    /// The model's name there.
    pub model: Arc<str>,
    /// The answer so far.
    pub begun: Begun,
    /// To report how it ends.
    pub pass: Pass,
    /// When the exchange began.
    pub since: Instant,
    /// Its place, held to the end.
    pub slot: Slot,
}

/// The state of one search.
struct Search<'a> {
    request: &'a Request,
    headers: &'a Headers,
    progress: &'a mut Progress,
    /// Only one target exists.
    alone: bool,
    /// Upstreams that may have worked on the request.
    sent: u32,
    /// The error to report if no other target serves: the last one met.
    last: Option<Error>,
    /// The soonest an open breaker lets anything through.
    opens_in: Option<Duration>,
}

impl Pipeline {
    /// Finds an answer at the targets of `plan`.
    pub(super) async fn obtain(
        &self,
        snapshot: &Snapshot,
        request: &Request,
        plan: &Plan,
        headers: &Headers,
        progress: &mut Progress,
    ) -> Result<Answer, Error> {
        let alone = plan.targets.len() + plan.fallback.len() == 1;
        let mut search =
            Search { request, headers, progress, alone, sent: 0, last: None, opens_in: None };
        let deadline = Instant::now() + snapshot.config.queue.max_wait.0;
        for tier in [&plan.targets, &plan.fallback] {
            let mut full = None;
            for target in tier {
                if search.sent >= MAX_SENT {
                    break;
                }
                let backend = &snapshot.backends[target.upstream];
                let Some(pass) = search.pass(backend) else { continue };
                let Some(slot) = backend.slots.try_acquire() else {
                    full = full.or(Some(target));
                    continue;
                };
                if let Some(answer) = self.one(&mut search, backend, target, pass, slot).await {
                    return Ok(answer);
                }
            }
            if let Some(target) = full.filter(|_| search.sent < MAX_SENT)
                && let Some(answer) = self.queued(&mut search, snapshot, target, deadline).await
            {
                return Ok(answer);
            }
        }
        Err(search.failure())
    }

    /// Waits for a place at `target` and tries it.
    async fn queued(
        &self,
        search: &mut Search<'_>,
        snapshot: &Snapshot,
        target: &Target,
        deadline: Instant,
    ) -> Option<Answer> {
        let backend = &snapshot.backends[target.upstream];
        let since = Instant::now();
        search.progress.phase = Phase::Queued;
        let waited = backend.slots.acquire(snapshot.config.queue.max_waiting, deadline).await;
        search.progress.queued += since.elapsed();
        let slot = match waited {
            Ok(slot) => slot,
            Err(refused) => {
                search.full(backend, refused);
                return None;
            }
        };
        // The upstream may have been tripped while this request waited for it.
        let pass = search.pass(backend)?;
        self.one(search, backend, target, pass, slot).await
    }

    async fn one(
        &self,
        search: &mut Search<'_>,
        backend: &Arc<Backend>,
        target: &Target,
        mut pass: Pass,
        slot: Slot,
    ) -> Option<Answer> {
        search.progress.phase = Phase::Waiting;
        let since = Instant::now();
        let tried = attempt(
            backend,
            &self.pool,
            search.request,
            &target.model,
            search.headers.of(backend),
            search.alone,
        )
        .await;
        search.progress.upstream_wait += since.elapsed();
        match tried {
            Ok(begun) => {
                if begun.reply.status.is_success() {
                    pass.begun();
                    backend.answered();
                }
                Some(Answer {
                    backend: Arc::clone(backend),
                    model: Arc::clone(&target.model),
                    begun,
                    pass,
                    since,
                    slot,
                })
            }
            Err(rejection) => {
                search.rejected(backend, &rejection, pass, since);
                None
            }
        }
    }
}

impl Search<'_> {
    fn pass(&mut self, backend: &Backend) -> Option<Pass> {
        match backend.breaker.try_pass() {
            Ok(pass) => Some(pass),
            Err(wait) => {
                self.opens_in = Some(self.opens_in.map_or(wait, |known| known.min(wait)));
                None
            }
        }
    }

    fn full(&mut self, backend: &Backend, refused: Refused) {
        let (reason, message) = match refused {
            Refused::QueueFull => ("queue_full", "its queue is full"),
            Refused::TimedOut => ("timed_out", "no place came free in time"),
        };
        counter!(names::REFUSED, "upstream" => backend.name().to_owned(), "reason" => reason)
            .increment(1);
        let message = format!("the upstream `{}` is busy: {message}", backend.name());
        self.last = Some(Error::new(Kind::Overloaded, message).retry_after(FULL_RETRY));
    }

    fn rejected(&mut self, backend: &Backend, rejection: &Rejection, pass: Pass, since: Instant) {
        let name = backend.name();
        let reason = rejection.as_str();
        counter!(names::FAILURES, "upstream" => name.to_owned(), "reason" => reason).increment(1);
        let error = rejection.error(name);
        tracing::debug!(upstream = name, reason, %error, "attempt failed");
        if rejection.was_sent() {
            self.sent += 1;
        }
        match rejection {
            // Its own limit, or the operator's wrong key: neither means that it is down.
            one if one.is_back_pressure() => drop(pass),
            // It answered others meanwhile: this one waited in its queue.
            Rejection::Failed(Failure::FirstByteTimeout) if backend.answered_since(since) => {
                drop(pass);
            }
            Rejection::Credentials(_) => drop(pass),
            Rejection::Failed(_) | Rejection::Status { .. } | Rejection::EmptyStream(_) => {
                pass.failure();
            }
        }
        // When to come back is worth more than what went wrong last.
        if error.retry_after.is_some() || self.last.as_ref().is_none_or(|e| e.retry_after.is_none())
        {
            self.last = Some(error);
        }
    }

    fn failure(self) -> Error {
        if let Some(error) = self.last {
            return error;
        }
        let wait = self.opens_in.unwrap_or(FULL_RETRY);
        let message = "every upstream for this model is failing and left alone for now";
        Error::new(Kind::Overloaded, message).retry_after(wait)
    }
}
