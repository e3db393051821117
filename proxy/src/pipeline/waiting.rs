//! A request that waits for its answer: its client is watched, and a stream kept alive where the
//! route wants that.

use std::pin::{Pin, pin};
use std::time::Duration;

use http::StatusCode;
use metrics::counter;
use tokio::time::{Instant, sleep_until};

use super::cache::Origin;
use super::ctx::{Ctx, Headers};
use super::obtain::Answer;
use super::state::Snapshot;
use super::{Pipeline, Stop, relay};
use crate::cache::flight::Leader;
use crate::error::Error;
use crate::request::Request;
use crate::response::downstream::Head;
use crate::response::sse::Framing;
use crate::response::watch::Grammar;
use crate::router::Plan;
use crate::session::Session;
use crate::telemetry::names;

/// A time that never comes, for a timer that is not armed.
const FAR: Duration = Duration::from_secs(86_400);

impl Pipeline {
    /// Finds an answer at the targets of `plan`.
    pub(super) async fn await_answer(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        request: &Request,
        plan: &Plan,
        ctx: &mut Ctx,
    ) -> Result<Answer, Stop> {
        let targets = plan.targets.iter().chain(&plan.fallback);
        let openai = targets.into_iter().any(|one| !snapshot.backends[one.upstream].is_ollama());
        let headers = Headers::new(&session.head.fields, &ctx.id, openai);
        if plan.wait_comments.is_some() {
            ctx.progress.show_place();
        }
        let observer = ctx.progress.observer();
        let mut progress = std::mem::replace(&mut ctx.progress, observer);
        let standing = ctx.standing.clone();
        let mut ticket = ctx.ticket.take();
        let leader = ticket.as_mut().and_then(|ticket| ticket.leader.as_mut());
        let result = {
            let target = (request, plan);
            let work = pin!(self.obtain(snapshot, target, &headers, &standing, &mut progress));
            self.while_watched(session, target, ctx, leader, work).await
        };
        if let Ok(answer) = &result {
            let to = answer.backend.name();
            // A fallback is no place to come back to.
            let mut equals = plan.targets.iter().map(|one| snapshot.backends[one.upstream].name());
            if let Some(opening) = ctx.opening
                && answer.begun.reply.status.is_success()
                && equals.any(|one| one == to)
            {
                self.shared.seats.take(opening, to, &answer.model);
            }
            for (upstream, why) in progress.upstreams_passed().filter(|(one, _)| *one != to) {
                self.shared.events.went_elsewhere(upstream, to, why);
            }
        }
        if let Ok(Answer { backend, model, cut: Some(cut), .. }) = &result {
            self.shared.events.prompts_cut(backend.name(), model, cut.context);
            counter!(names::PROMPTS_CUT, "upstream" => backend.name().to_owned()).increment(1);
            // It would be given again to those who ask when the context is longer.
            ticket.iter_mut().for_each(|ticket| ticket.forgo("prompt_cut"));
        }
        ctx.ticket = ticket;
        ctx.progress = progress;
        ctx.phase = ctx.progress.phase;
        result
    }

    /// Does `work` while its client is there; with a `leader`, also while others follow it. It is
    /// pinned by the caller: a future taken by value lies in the state twice.
    pub(super) async fn while_watched<T>(
        &self,
        session: &mut Session,
        (request, plan): (&Request, &Plan),
        ctx: &mut Ctx,
        leader: Option<&mut Leader<Origin>>,
        mut work: Pin<&mut impl Future<Output = Result<T, Error>>>,
    ) -> Result<T, Stop> {
        let ended = {
            let watch = self.with_comments(session, (request, plan), ctx);
            tokio::select! {
                biased;
                done = &mut work => Ok(done),
                gone = watch => Err(gone),
            }
        };
        let done = match (ended, leader) {
            (Ok(done), _) => done,
            (Err(_), Some(leader)) if leader.is_followed() => {
                ctx.client_gone = true;
                tokio::select! {
                    biased;
                    done = &mut work => done,
                    () = leader.abandoned() => return Err(Stop::Gone),
                }
            }
            (Err(_), Some(_) | None) => return Err(Stop::Gone),
        };
        match done {
            Err(_) if ctx.client_gone => Err(Stop::Gone),
            Err(error) if ctx.committed => {
                relay::fail_committed(session, ctx, &error).await?;
                Err(Stop::Cut(error.message.into_owned()))
            }
            other => Ok(other?),
        }
    }

    /// Keeps a client that waits company until it leaves.
    async fn with_comments(
        &self,
        session: &mut Session,
        (request, plan): (&Request, &Plan),
        ctx: &mut Ctx,
    ) {
        let sse = Grammar::of(request.endpoint.path()).framing() == Framing::Sse;
        let comments = plan.wait_comments.filter(|_| request.streaming && sse);
        let mut next = comments.map(|wait| ctx.started + wait);
        loop {
            let wake = next.unwrap_or_else(|| ctx.started + FAR);
            tokio::select! {
                biased;
                () = session.client_left() => return,
                () = sleep_until(wake), if next.is_some() => {
                    // Boxed: it may ask a plugin, whose call is large, and few requests get here.
                    if Box::pin(self.comment(session, (request, plan), ctx)).await.is_err() {
                        return;
                    }
                    next = comments.map(|wait| Instant::now() + wait);
                }
            }
        }
    }

    async fn comment(
        &self,
        session: &mut Session,
        (request, plan): (&Request, &Plan),
        ctx: &mut Ctx,
    ) -> Result<(), Stop> {
        if !ctx.committed {
            let mut head = Head::new(StatusCode::OK);
            head.set("content-type", "text/event-stream");
            head.set("cache-control", "no-cache");
            ctx.common_headers(&mut head);
            ctx.status = StatusCode::OK.as_u16();
            session.begin(head).await?;
            ctx.committed = true;
        }
        let text = self.waiting_text(plan, request, ctx).await;
        Ok(session.part(text).await?)
    }
}
