//! The search for an answer: targets in their order, a place at each, and what to do when one fails.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::time::{Instant, timeout_at};

use super::Pipeline;
use super::attempt::{Begun, CONTEXT_EXCEEDED, attempt};
use super::backend::{Backend, Standing};
use super::ctx::{Headers, Phase};
use super::long_prompt::{self, Cut};
use super::prepare::{check, choose_context, prepare};
use super::progress::Progress;
use super::rejection::Rejection;
use super::state::Snapshot;
use crate::admission::{Ask, Decision, QueueFull, Slot, TurnedAway};
use crate::breaker::{ModelPass, Reason, State};
use crate::config::models::RouteOptions;
use crate::config::raw::Timeouts;
use crate::error::{Error, Kind};
use crate::request::Request;
use crate::router::{Plan, Target};
use crate::telemetry::names;
use crate::upstream::Failure;

/// A request may be worked on by this many upstreams at most: SDKs retry too, and every retry of a
/// generation multiplies the load of a box that is in trouble already.
const MAX_SENT: u32 = 2;
/// A context that was chosen by need is chosen anew so often, each time twice as long: the estimate of what
/// is needed is hardly ever below half of it.
const MAX_WIDENED: u32 = 2;
/// When to come back to a box that is full and says nothing itself.
const FULL_RETRY: Duration = Duration::from_secs(2);

/// An answer, and what is held for as long as it lasts.
#[derive(Debug)]
pub struct Answer {
    /// Who answers.
    pub backend: Arc<Backend>,
    /// The model's name there.
    pub model: Arc<str>,
    /// How long each part of the exchange may take.
    pub timeouts: Timeouts,
    /// The answer so far.
    pub begun: Begun,
    /// To report how it ends.
    pub pass: ModelPass,
    /// When the exchange began.
    pub since: Instant,
    /// Its place, held to the end.
    pub slot: Slot,
    /// What was left out of its prompt.
    pub cut: Option<Cut>,
}

/// The state of one search.
struct Search<'a> {
    request: &'a Request,
    headers: &'a Headers,
    standing: &'a Standing,
    /// What its route says of how it is run.
    route: Option<&'a RouteOptions>,
    progress: &'a mut Progress,
    /// Whether it runs a model, for which that must be loaded.
    runs_model: bool,
    /// Only one target exists.
    alone: bool,
    /// Until when it may wait.
    deadline: Instant,
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
        (request, plan): (&Request, &Plan),
        headers: &Headers,
        standing: &Standing,
        progress: &mut Progress,
    ) -> Result<Answer, Error> {
        let alone = plan.targets.len() + plan.fallback.len() == 1;
        let deadline = Instant::now() + snapshot.config.admission.queue.max_wait.0;
        let route = plan.route.and_then(|index| snapshot.config.routes.get(index));
        let route = route.map(|route| &route.options);
        let mut search = Search {
            request,
            headers,
            standing,
            route,
            progress,
            runs_model: request.runs_model(),
            alone,
            deadline,
            sent: 0,
            last: None,
            opens_in: None,
        };
        // A target of which no memory can be had now, or that is too slow, is better than none.
        let mut last_resort = None;
        for tier in [&plan.targets, &plan.fallback] {
            let mut full = None;
            for (index, target) in tier.iter().enumerate() {
                if search.sent >= MAX_SENT {
                    break;
                }
                let backend = &snapshot.backends[target.upstream];
                if let Err(error) = check(backend, request, &target.model) {
                    search.cannot_carry(backend, error);
                    continue;
                }
                let Some(pass) = search.pass(backend, target) else { continue };
                let entered = backend.gate.try_enter(&search.ask(backend, target));
                if let Err(decision) = entered {
                    count_decision(backend, decision);
                }
                let answer = match entered {
                    Ok(slot) => self.one(&mut search, backend, target, pass, slot).await,
                    Err(Decision::Load)
                        if plan.ranked
                            || !runs_elsewhere(&search, snapshot, &tier[index + 1..], target) =>
                    {
                        drop(pass);
                        self.queued(&mut search, snapshot, target).await
                    }
                    Err(Decision::Run | Decision::Wait | Decision::Load) => {
                        full = full.or(Some(target));
                        None
                    }
                    Err(Decision::NoRoom) => {
                        search.skip(backend, &target.model, "its GPU has no room");
                        last_resort = last_resort.or(Some(target));
                        None
                    }
                    Err(Decision::Partial) => {
                        search.skip(backend, &target.model, "it runs partly on the CPU");
                        last_resort = last_resort.or(Some(target));
                        None
                    }
                    Err(Decision::Refuse) => {
                        search.refuse(backend, &target.model);
                        None
                    }
                };
                if let Some(answer) = answer {
                    return Ok(answer);
                }
            }
            if let Some(target) = full.filter(|_| search.sent < MAX_SENT)
                && let Some(answer) = self.queued(&mut search, snapshot, target).await
            {
                return Ok(answer);
            }
        }
        if let Some(target) = last_resort.filter(|_| search.sent < MAX_SENT)
            && let Some(answer) = self.queued(&mut search, snapshot, target).await
        {
            return Ok(answer);
        }
        Err(search.failure())
    }

    /// Waits for a place at `target` and tries it.
    async fn queued(
        &self,
        search: &mut Search<'_>,
        snapshot: &Snapshot,
        target: &Target,
    ) -> Option<Answer> {
        let backend = &snapshot.backends[target.upstream];
        let since = Instant::now();
        search.progress.phase = Phase::Queued;
        let waited = search.wait(backend, target).await;
        search.progress.queued += since.elapsed();
        search.progress.stands(None);
        let slot = match waited {
            Ok(slot) => slot,
            Err(refused) => {
                search.full(backend, target, refused);
                return None;
            }
        };
        // The upstream may have been tripped while this request waited for it.
        let pass = search.pass(backend, target)?;
        self.one(search, backend, target, pass, slot).await
    }

    async fn one(
        &self,
        search: &mut Search<'_>,
        backend: &Arc<Backend>,
        target: &Target,
        mut pass: ModelPass,
        slot: Slot,
    ) -> Option<Answer> {
        search.progress.phase = Phase::Waiting;
        let since = Instant::now();
        if let Err(error) = self.start_container(backend).await {
            search.progress.upstream_wait += since.elapsed();
            search.not_started(backend, error);
            return None;
        }
        let mut timeouts = backend.origin.config.timeouts.clone();
        if let Some(longest) = search.route.and_then(|route| route.timeout) {
            timeouts.total = longest;
        }
        let mut begun = since;
        let mut hangs = backend.hangs.subscribe();
        let (request, alone) = (search.request, search.alone);
        let open = long_prompt::is_open(backend, request, &target.model);
        let here = (&self.shared.gpus, &self.pool);
        let mut widened = 0;
        let (tried, cut) = loop {
            let prepared = match prepare(backend, request, search.route, &target.model) {
                Ok(prepared) => prepared,
                Err(error) => {
                    search.cannot_carry(backend, error);
                    return None;
                }
            };
            let cut = prepared.cut;
            let how = (search.headers.of(backend), &timeouts, begun);
            let mut trying = pin!(attempt(backend, &self.pool, request, prepared, how, alone));
            let tried = tokio::select! {
                biased;
                tried = &mut trying => tried,
                // Nobody need wait for it as long as for a model that loads.
                _ = hangs.wait_for(|hangs| *hangs) => Err(Rejection::Failed(Failure::FirstByteTimeout)),
            };
            if widened == MAX_WIDENED || !long_prompt::widen(backend, &target.model, &tried) {
                break (tried, cut);
            }
            widened += 1;
            begun = Instant::now();
        };
        let cut = match &tried {
            Ok(_) if open => {
                match long_prompt::judge(backend, request, &target.model, here).await {
                    Ok(cut) => cut,
                    Err(error) => {
                        search.cannot_carry(backend, error);
                        return None;
                    }
                }
            }
            _ => cut,
        };
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
                    timeouts,
                    begun,
                    pass,
                    since,
                    slot,
                    cut,
                })
            }
            Err(rejection) => {
                search.rejected(backend, &rejection, pass, since);
                None
            }
        }
    }
}

/// Whether one of `others` has the same model as `target` loaded and could run it now: such replicas
/// come before those that would have to load it.
fn runs_elsewhere(
    search: &Search<'_>,
    snapshot: &Snapshot,
    others: &[Target],
    target: &Target,
) -> bool {
    others.iter().filter(|other| other.model == target.model).any(|other| {
        let backend = &snapshot.backends[other.upstream];
        // What is not known to be loaded may be: that is no reason to go past an earlier target.
        let loaded = backend.residency.of(&other.model).resident == Some(true);
        let runs = backend.gate.consider(&search.ask(backend, other)) == Decision::Run;
        loaded && runs && backend.breakers.state(&other.model) == State::Closed
    })
}

/// Why no place was given.
enum Refused {
    /// The queue is at its bound.
    QueueFull,
    /// The wait was too long.
    TimedOut,
    /// The model could not be loaded.
    Unloaded(TurnedAway),
    /// The upstream answers nothing any more.
    Hangs,
}

impl Search<'_> {
    /// What it asks of a target's gate.
    fn ask(&self, backend: &Backend, target: &Target) -> Ask {
        backend.ask(&target.model, self.standing, self.runs_model)
    }

    fn pass(&mut self, backend: &Backend, target: &Target) -> Option<ModelPass> {
        match backend.breakers.try_pass(&target.model, self.runs_model) {
            Ok(pass) => Some(pass),
            Err(wait) => {
                self.opens_in = Some(self.opens_in.map_or(wait, |known| known.min(wait)));
                let why = match backend.breakers.reason(&target.model) {
                    None => "left alone".to_owned(),
                    // Most of them say that it cannot be reached, while that is so.
                    Some(Reason::Errors) => {
                        let lost = backend.catalogue.unreachable();
                        lost.unwrap_or_else(|| Reason::Errors.to_string())
                    }
                    Some(why) => why.to_string(),
                };
                self.progress.skipped(backend.name(), &why);
                None
            }
        }
    }

    /// Notes that a target could not be sent what the request says. It is told in the answer also where
    /// another target serves it: that one may not be in the house.
    fn cannot_carry(&mut self, backend: &Backend, error: Error) {
        let why = match error.code() {
            CONTEXT_EXCEEDED => "its context is too small",
            _ => "it cannot be sent this request",
        };
        self.progress.skipped(backend.name(), why);
        count_refused(backend, "unsuitable");
        // The first target's is about the model that was meant.
        self.last.get_or_insert(error);
    }

    /// Waits in line for a place.
    async fn wait(&self, backend: &Backend, target: &Target) -> Result<Slot, Refused> {
        // A load by the queue goes by it.
        choose_context(backend, self.request, &target.model);
        let ask = self.ask(backend, target);
        let mut place = backend.gate.wait(ask).map_err(|QueueFull| Refused::QueueFull)?;
        self.progress.stands(Some(place.in_line()));
        let mut hangs = backend.hangs.subscribe();
        let called = tokio::select! {
            biased;
            called = timeout_at(self.deadline, place.called()) => called,
            _ = hangs.wait_for(|hangs| *hangs) => return Err(Refused::Hangs),
        };
        match called {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(turned_away)) => Err(Refused::Unloaded(turned_away)),
            Err(_) => Err(Refused::TimedOut),
        }
    }

    /// Notes why a target was left out.
    fn skip(&mut self, backend: &Backend, model: &str, why: &str) {
        tracing::debug!(upstream = backend.name(), model, why, "target left out");
        self.progress.skipped(backend.name(), why);
    }

    fn refuse(&mut self, backend: &Backend, model: &str) {
        self.skip(backend, model, "it runs partly on the CPU");
        count_refused(backend, "offload");
        let message = format!(
            "`{model}` would run partly on the CPU of the upstream `{}`, which `admission.offload` \
             forbids",
            backend.name()
        );
        let after = backend.gate.retry_after(model);
        self.last = Some(Error::new(Kind::Overloaded, message).retry_after(after));
    }

    fn full(&mut self, backend: &Backend, target: &Target, refused: Refused) {
        let unloaded = |why: String| format!("could not load `{}`: {why}", target.model);
        let (reason, message) = match refused {
            Refused::QueueFull => ("queue_full", "is busy: its queue is full".to_owned()),
            Refused::TimedOut => ("timed_out", "is busy: no place came free in time".to_owned()),
            Refused::Hangs => ("hangs", "hangs".to_owned()),
            Refused::Unloaded(TurnedAway::Blocked(why)) => ("load_blocked", unloaded(why)),
            Refused::Unloaded(TurnedAway::LoadFailed(why)) => ("load_failed", unloaded(why)),
        };
        count_refused(backend, reason);
        let message = format!("the upstream `{}` {message}", backend.name());
        self.progress.failed(backend.name(), reason, &message);
        self.last = Some(if reason == "load_failed" {
            // To try again is to evict others again, for the same end.
            Error::new(Kind::BadGateway, message).hopeless()
        } else {
            let after = backend.gate.retry_after(&target.model);
            Error::new(Kind::Overloaded, message).retry_after(after)
        });
    }

    fn not_started(&mut self, backend: &Backend, error: Error) {
        count_refused(backend, "container");
        self.progress.failed(backend.name(), "container", &error.message);
        self.last = Some(error);
    }

    fn rejected(
        &mut self,
        backend: &Backend,
        rejection: &Rejection,
        pass: ModelPass,
        since: Instant,
    ) {
        if let (Some(container), Rejection::Failed(_)) = (&backend.container, rejection) {
            container.suspect();
        }
        let name = backend.name();
        let reason = rejection.as_str();
        backend.count_failure(reason);
        let error = rejection.error(name);
        tracing::debug!(upstream = name, reason, %error, "attempt failed");
        let (why, sentence) = rejection.told(name, &error);
        self.progress.failed(name, why, &sentence);
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
            Rejection::Credentials(_) | Rejection::ModelAbsent(_) => drop(pass),
            Rejection::Failed(Failure::Connect(_) | Failure::ConnectTimeout) => pass.unreachable(),
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
        let failures = self.progress.failures();
        match (self.last, failures) {
            // A 500, 503 or 429 is an upstream's own answer, and is passed on in its own words.
            (Some(error), Some(all))
                if matches!(error.kind, Kind::BadGateway | Kind::GatewayTimeout) =>
            {
                let message = format!("no upstream could serve this: {all}");
                return Error { message: message.into(), ..error };
            }
            (Some(error), _) => return error,
            (None, _) => {}
        }
        let wait = self.opens_in.unwrap_or(FULL_RETRY);
        let message = format!(
            "every upstream for this model is left alone for now: {}",
            self.progress.passed_over(true).unwrap_or_default()
        );
        Error::new(Kind::Overloaded, message).retry_after(wait)
    }
}

fn count_decision(backend: &Backend, decision: Decision) {
    counter!(names::DECISIONS, "upstream" => backend.name().to_owned(),
        "decision" => decision.as_str())
    .increment(1);
}

fn count_refused(backend: &Backend, reason: &'static str) {
    counter!(names::REFUSED, "upstream" => backend.name().to_owned(), "reason" => reason)
        .increment(1);
}
