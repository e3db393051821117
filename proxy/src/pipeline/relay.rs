//! Sends an answer on to the client: whole, in parts, or as a stream of events.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use super::attempt::Begin;
use super::backend::Backend;
use super::ctx::{Ctx, Phase};
use super::obtain::Answer;
use super::source::{Bounds, Parts, Source};
use super::state::Snapshot;
use super::stream::followed;
use super::ticket::Ticket;
use super::{Pipeline, Stop};
use crate::config::raw::Timeouts;
use crate::error::Error;
use crate::http1::Fields;
use crate::openai::error_text;
use crate::request::headers::is_hop_by_hop;
use crate::response::downstream::Head;
use crate::response::usage;
use crate::response::watch::{Grammar, Watch};
use crate::session::Session;
use crate::upstream::Reply;

impl Pipeline {
    /// Relays `answer` to its end.
    pub(super) async fn relay(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        answer: Answer,
        ctx: &mut Ctx,
    ) -> Result<(), Stop> {
        let Answer { backend, model, timeouts, begun, pass, since, slot, cut } = answer;
        ctx.phase = Phase::Answering;
        ctx.answered_by = Some((Arc::clone(&backend), Arc::clone(&model)));
        ctx.first = Some(ctx.started.elapsed());
        ctx.cut = cut;
        let mut reply = begun.reply;
        // Only a part's length is the upstream's to say.
        let length = match &begun.body {
            // Of an answer that is in chunks as well, it says nothing (RFC 9112, 6.3).
            Begin::Partial(_) if reply.fields.has("transfer-encoding") => None,
            Begin::Partial(_) => reply.fields.text("content-length").map(str::to_owned),
            Begin::Whole(_) | Begin::Stream(_) => None,
        };
        let mut head = passed_on(reply.status, &std::mem::take(&mut reply.fields));
        let body = match begun.body {
            Begin::Whole(body) => match shaped(body, reply.status, ctx).await {
                Ok(body) => Begin::Whole(body),
                Err(error) if ctx.committed => {
                    fail_committed(session, ctx, &error).await?;
                    return Err(Stop::Cut(error.message.into_owned()));
                }
                Err(error) => return Err(error.into()),
            },
            begun @ (Begin::Partial(_) | Begin::Stream(_)) => begun,
        };
        ctx.answer_headers(&mut head);
        match body {
            Begin::Stream(stream) => {
                let heartbeat = snapshot.config.heartbeat;
                let bounds = Bounds { timeouts, heartbeat, since };
                let (origin, shaper) = ((backend, model), ctx.shaper.take());
                let parts = Parts { reply, stream, origin, pass, slot, shaper };
                // Boxed: it is handed on, and a stream lives long.
                let source = Box::new(Source::new(parts, bounds));
                Box::pin(self.relay_stream(session, snapshot, source, head, ctx)).await
            }
            Begin::Whole(body) => {
                // A client's own mistake tells nothing about the upstream.
                if reply.status.is_success() {
                    pass.success()
                } else {
                    drop(pass)
                }
                // The head went out while the client waited; an answer that is no stream comes too
                // late.
                if ctx.committed {
                    return no_stream(session, ctx, &body, reply.status).await;
                }
                let mut ticket = ctx.ticket.take().filter(|_| reply.status == StatusCode::OK);
                let (kept, took) = (body.clone(), since.elapsed());
                let mut sending = pin!(self.send_whole(session, ctx, head, body));
                let sent = tokio::select! {
                    biased;
                    sent = &mut sending => sent,
                    // This client may be slow, and others are not to wait for it.
                    () = followed(&mut ticket) => {
                        finish_whole(&mut ticket, &kept, (&backend, &model), took).await;
                        sending.await
                    }
                };
                finish_whole(&mut ticket, &kept, (&backend, &model), took).await;
                Ok(sent?)
            }
            Begin::Partial(body) if ctx.committed => {
                pass.success();
                no_stream(session, ctx, &body, reply.status).await
            }
            Begin::Partial(first) => {
                // Nobody waits for what will not be kept.
                ctx.ticket = None;
                if let Some(length) = length {
                    head.set("content-length", length);
                }
                ctx.status = head.status().as_u16();
                session.begin(head).await?;
                session.part(first).await?;
                let ended = relay_parts(session, &mut reply, &timeouts, since).await;
                match &ended {
                    Ok(()) => pass.success(),
                    Err(Stop::Cut(_) | Stop::Broken(_)) => {
                        backend.count_failure("cut");
                        pass.failure();
                    }
                    // The client's going tells nothing about the upstream.
                    Err(Stop::Gone | Stop::Refused(_)) => drop(pass),
                }
                ended
            }
        }
    }
}

/// A whole answer as its responders leave it. It is shaped before its head is written, which tells how
/// long that took.
async fn shaped(body: Bytes, status: StatusCode, ctx: &mut Ctx) -> Result<Bytes, Error> {
    ctx.usage = usage::of_answer(&body, ctx.dialect);
    let Some(shaper) = ctx.shaper.as_mut().filter(|_| status == StatusCode::OK) else {
        return Ok(body);
    };
    let since = Instant::now();
    let body = Box::pin(shaper.whole(body)).await?;
    if let Some(trail) = &mut ctx.trail {
        trail.spent += since.elapsed();
    }
    Ok(body)
}

/// The head of an answer, with those of an upstream's `fields` that are for the client.
fn passed_on(status: StatusCode, fields: &Fields) -> Head {
    let mut head = Head::new(status);
    for (name, value) in fields.iter() {
        if !is_hop_by_hop(name) && !fields.lists("connection", name) {
            head.add(name, value);
        }
    }
    head
}

async fn finish_whole(
    ticket: &mut Option<Box<Ticket>>,
    body: &Bytes,
    (backend, model): (&Arc<Backend>, &Arc<str>),
    took: Duration,
) {
    if let Some(ticket) = ticket.take() {
        let origin = (Arc::clone(backend), Arc::clone(model));
        // Boxed, as keeping an answer takes more room than giving it, and few are kept.
        Box::pin(ticket.finish_whole(body.clone(), origin, took)).await;
    }
}

/// Ends a stream that was committed while waiting, and for which no stream came but this answer: the
/// client's own mistake is told as it would have been without the wait.
async fn no_stream(
    session: &mut Session,
    ctx: &Ctx,
    body: &[u8],
    status: StatusCode,
) -> Result<(), Stop> {
    let watch = Watch::new(Grammar::of(ctx.endpoint), false);
    let (message, unit) = if status.is_client_error() {
        (error_text(body, status), watch.repeated(body))
    } else {
        ("the upstream answered without a stream".to_owned(), None)
    };
    let unit = unit.unwrap_or_else(|| watch.failure(&message, "upstream_failed"));
    session.end(unit).await?;
    Err(Stop::Cut(message))
}

/// Ends a stream that was committed while waiting and for which no answer was found.
pub(super) async fn fail_committed(
    session: &mut Session,
    ctx: &Ctx,
    error: &Error,
) -> Result<(), Stop> {
    let watch = Watch::new(Grammar::of(ctx.endpoint), false);
    Ok(session.end(watch.refusal(error)).await?)
}

/// Passes a large answer on as it comes. A client cannot be told of a failure in the middle but by
/// the broken end of its body, so the connection is dropped then.
async fn relay_parts(
    session: &mut Session,
    reply: &mut Reply,
    timeouts: &Timeouts,
    since: Instant,
) -> Result<(), Stop> {
    let total = since + timeouts.total.0;
    loop {
        let part = tokio::select! {
            biased;
            part = reply.data_in_time(timeouts.idle.0, total) => part,
            () = session.client_left() => return Err(Stop::Gone),
        };
        match part {
            Some(Ok(bytes)) => session.part(bytes).await?,
            Some(Err(failure)) => return Err(Stop::Broken(failure.to_string())),
            None => return Ok(session.end(Bytes::new()).await?),
        }
    }
}
