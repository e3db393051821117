//! A request whose like is being answered already follows that answer.

use std::pin::pin;

use http::StatusCode;
use metrics::counter;
use tokio::time::Instant;

use super::cache::{Origin, Outcome, content_type, fill, shape};
use super::ctx::{Cached, Ctx, Phase};
use super::state::Snapshot;
use super::stream::{Following, begin_stream};
use super::ticket::Ticket;
use super::{Pipeline, Stop};
use crate::cache::entry::Shape;
use crate::cache::flight::{End, Follower, News, Role};
use crate::request::Request;
use crate::response::downstream::Head;
use crate::router::Plan;
use crate::session::Session;
use crate::telemetry::names;

/// Times that a request may follow others before it asks for itself.
const MAX_FOLLOWS: usize = 2;

/// What came of following another request.
enum Followed {
    Answered,
    Again,
}

impl Pipeline {
    /// Follows whoever asks for the same now, or goes ahead.
    pub(super) async fn join(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        going: (&Request, &Plan),
        mut ticket: Box<Ticket>,
        ctx: &mut Ctx,
    ) -> Result<Outcome, Stop> {
        for _ in 0..MAX_FOLLOWS {
            match self.shared.flights.join(ticket.key, shape(going.0)) {
                Role::Leader(leader) => {
                    ticket.leader = Some(leader);
                    break;
                }
                Role::Alone => break,
                Role::Follower(follower) => {
                    counter!(names::CACHE_FOLLOWERS).increment(1);
                    let before = ctx.cached.replace(Cached::without("miss", "coalesced"));
                    match Box::pin(self.follow(session, snapshot, going, follower, ctx)).await? {
                        Followed::Answered => return Ok(Outcome::Answered),
                        Followed::Again => ctx.cached = before,
                    }
                }
            }
        }
        if ticket.leader.is_none() {
            ticket.leader = Some(self.shared.flights.solo(ticket.key, shape(going.0)));
        }
        Ok(Outcome::Ask(ticket))
    }

    /// Waits for another's answer, and gives what comes of it.
    async fn follow(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        (request, plan): (&Request, &Plan),
        mut follower: Follower<Origin>,
        ctx: &mut Ctx,
    ) -> Result<Followed, Stop> {
        let wanted = shape(request);
        let live = wanted == follower.shape() && wanted != Shape::Whole;
        ctx.phase = Phase::Waiting;
        let since = Instant::now();
        let news = {
            let news = pin!(async {
                if live { Ok(follower.next().await) } else { Ok(News::End(follower.end().await)) }
            });
            self.while_watched(session, (request, plan), ctx, None, news).await
        };
        ctx.progress.upstream_wait += since.elapsed();
        let news = news?;
        ctx.phase = Phase::Answering;
        if let Some(origin) = follower.origin() {
            ctx.answered_by = Some(origin);
            ctx.first = Some(ctx.started.elapsed());
        }
        match news {
            News::Parts(parts) => {
                let mut head = Head::new(StatusCode::OK);
                head.set("content-type", content_type(wanted));
                ctx.answer_headers(&mut head);
                begin_stream(session, head, ctx).await?;
                let between_events = parts.last().is_none_or(|part| part.ends_with(b"\n\n"));
                for part in parts {
                    session.part(part).await?;
                }
                let following = Following { follower, between_events };
                self.follow_stream(session, snapshot, following, ctx).await?;
                Ok(Followed::Answered)
            }
            News::End(End::Whole { entry: Some(entry), .. }) => {
                let body = fill(&entry, wanted);
                self.give_body(session, wanted, body, ctx).await?;
                Ok(Followed::Answered)
            }
            News::End(End::Whole { body: Some(body), .. }) if wanted == follower.shape() => {
                self.give_body(session, wanted, body, ctx).await?;
                Ok(Followed::Answered)
            }
            News::End(End::Whole { .. } | End::Cut(_) | End::Nothing) => {
                ctx.answered_by = None;
                Ok(Followed::Again)
            }
        }
    }
}
