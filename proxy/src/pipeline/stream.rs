//! A stream's way to its client, and to those who follow the same answer.
//!
//! As long as nobody follows, the request that asked sends on what comes. From the moment somebody
//! does, the stream is read by a task of its own, and all of them, the first one too, follow it each
//! at its own pace: nobody waits for another's client, and the upstream is dropped when the last has
//! left.

use std::pin::pin;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::timeout;

use super::cache::Origin;
use super::ctx::Ctx;
use super::source::{Next, Source, Step};
use super::state::Snapshot;
use super::ticket::Ticket;
use super::{Pipeline, Stop};
use crate::cache::flight::{End, Follower, News};
use crate::error::{Error, Kind};
use crate::response::downstream::Head;
use crate::session::Session;

/// Bytes of a stream taken before others have their turn.
const TURN: usize = 64 * 1024;
/// Keeps a connection alive without meaning anything (WHATWG HTML, 9.2.7).
const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// A place in another request's stream.
pub(super) struct Following {
    /// The place.
    pub(super) follower: Follower<Origin>,
    /// Whether what was sent so far ends where an event ends.
    pub(super) between_events: bool,
}

impl Pipeline {
    /// Relays `source` to its end.
    pub(super) async fn relay_stream(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        mut source: Box<Source>,
        head: Head,
        ctx: &mut Ctx,
    ) -> Result<(), Stop> {
        let mut ticket = ctx.ticket.take();
        if let Some(leader) = ticket.as_mut().and_then(|ticket| ticket.leader.as_mut()) {
            leader.begun((source.backend.clone(), source.model.clone()));
        }
        if ctx.client_gone || begin_stream(session, head, ctx).await.is_err() {
            return leave(source, ticket);
        }
        // Plugins may take their time.
        if source.shaper.is_some() && session.flush().await.is_err() {
            return leave(source, ticket);
        }
        let mut step = source.first().await;
        let mut between_events = true;
        let mut unyielded = 0;
        let follower = loop {
            let bytes = match step {
                Step::Send(bytes) => {
                    push(&mut ticket, &bytes);
                    if let Some(guess) = &mut ctx.guess {
                        guess.count(&bytes);
                    }
                    bytes
                }
                Step::Comment => COMMENT,
                Step::Quiet => Bytes::new(),
                Step::End { bytes, why } => {
                    push(&mut ticket, &bytes);
                    return last(session, source, ticket, (bytes, why), ctx).await;
                }
            };
            if bytes.is_empty() {
                // A client may wait for the head alone.
                if session.flush().await.is_err() {
                    return leave(source, ticket);
                }
            } else {
                between_events = bytes.ends_with(b"\n\n");
                let mut sending = pin!(session.part(bytes));
                let sent = tokio::select! {
                    biased;
                    sent = &mut sending => sent,
                    // This client may be slow, and others are not to wait for it.
                    () = followed(&mut ticket) => {
                        let follower = hand_over(source, ticket);
                        sending.await?;
                        break follower;
                    }
                };
                if sent.is_err() {
                    return leave(source, ticket);
                }
            }
            let next = tokio::select! {
                biased;
                next = source.wait() => next,
                () = session.client_left() => return leave(source, ticket),
                () = followed(&mut ticket) => break hand_over(source, ticket),
            };
            if let Next::Part(Some(Ok(part))) = &next {
                unyielded += part.len();
            }
            step = source.take(next).await;
            // A flood of tiny events must not keep the worker from its other requests.
            if unyielded >= TURN {
                unyielded = 0;
                tokio::task::yield_now().await;
            }
        };
        let Some(follower) = follower else { return Ok(()) };
        let following = Following { follower, between_events };
        self.follow_stream(session, snapshot, following, ctx).await
    }

    /// Sends on what another request's stream brings, after its own beginning.
    pub(super) async fn follow_stream(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        Following { mut follower, mut between_events }: Following,
        ctx: &mut Ctx,
    ) -> Result<(), Stop> {
        session.flush().await?;
        loop {
            let news = tokio::select! {
                biased;
                news = timeout(snapshot.config.heartbeat, follower.next()) => news,
                () = session.client_left() => return Err(Stop::Gone),
            };
            match news {
                Err(_) if between_events => session.part(COMMENT).await?,
                Err(_) => {}
                Ok(News::Parts(parts)) => {
                    for part in parts {
                        between_events = part.ends_with(b"\n\n");
                        if let Some(guess) = &mut ctx.guess {
                            guess.count(&part);
                        }
                        session.part(part).await?;
                    }
                }
                Ok(News::End(End::Whole { .. })) => return Ok(session.end(Bytes::new()).await?),
                // What was sent says so.
                Ok(News::End(End::Cut(why))) => {
                    session.end(Bytes::new()).await?;
                    return Err(Stop::Cut(why));
                }
                Ok(News::End(End::Nothing)) => {
                    let why = "the answer was cut off: whoever asked for it has failed";
                    super::relay::fail_committed(session, ctx, &Error::new(Kind::Internal, why))
                        .await?;
                    return Err(Stop::Cut(why.into()));
                }
            }
        }
    }
}

/// Begins a stream, unless that was done while the client waited.
pub(super) async fn begin_stream(
    session: &mut Session,
    mut head: Head,
    ctx: &mut Ctx,
) -> Result<(), Stop> {
    ctx.streamed = true;
    if !ctx.committed {
        ctx.status = StatusCode::OK.as_u16();
        // Middleboxes that buffer or transform would hold events back.
        head.set("cache-control", "no-cache");
        session.begin(head).await?;
    }
    Ok(())
}

fn push(ticket: &mut Option<Box<Ticket>>, bytes: &Bytes) {
    if let Some(leader) = ticket.as_mut().and_then(|ticket| ticket.leader.as_mut()) {
        leader.push(bytes.clone());
    }
}

/// Waits until somebody follows; for ever where nobody can.
pub(super) async fn followed(ticket: &mut Option<Box<Ticket>>) {
    match ticket.as_mut().and_then(|ticket| ticket.leader.as_mut()) {
        Some(leader) if leader.is_open() => leader.followed().await,
        Some(_) | None => std::future::pending().await,
    }
}

/// The client is gone: the stream goes on for those who follow it.
fn leave(source: Box<Source>, ticket: Option<Box<Ticket>>) -> Result<(), Stop> {
    let leader = ticket.as_ref().and_then(|ticket| ticket.leader.as_ref());
    if leader.is_some_and(|leader| leader.is_followed()) {
        // What it follows itself is let go at once.
        drop(hand_over(source, ticket));
    }
    Err(Stop::Gone)
}

/// Has `source` read by a task of its own; gives a place from which to follow it.
fn hand_over(source: Box<Source>, ticket: Option<Box<Ticket>>) -> Option<Follower<Origin>> {
    let ticket = ticket?;
    let leader = ticket.leader.as_ref()?;
    let follower = leader.follow(leader.parts());
    tokio::spawn(drive(source, ticket));
    Some(follower)
}

/// Reads `source` to its end for those who follow, or until none does.
async fn drive(mut source: Box<Source>, mut ticket: Box<Ticket>) {
    // What was held until the first content was sent before, or is still held.
    let mut step = source.first().await;
    loop {
        let Some(leader) = &mut ticket.leader else { return };
        match step {
            Step::Send(bytes) => leader.push(bytes),
            Step::Comment | Step::Quiet => {}
            Step::End { bytes, why } => {
                leader.push(bytes);
                source.settle(why.as_deref());
                Box::pin(ticket.finish_stream(&source, why.as_deref())).await;
                return source.linger().await;
            }
        }
        if !leader.is_open() {
            return;
        }
        let next = tokio::select! {
            biased;
            next = source.wait() => next,
            () = leader.abandoned() => return,
        };
        step = source.take(next).await;
    }
}

/// The end of a stream that its own request sent on.
async fn last(
    session: &mut Session,
    mut source: Box<Source>,
    mut ticket: Option<Box<Ticket>>,
    (bytes, why): (Bytes, Option<String>),
    ctx: &mut Ctx,
) -> Result<(), Stop> {
    source.settle(why.as_deref());
    ctx.usage = source.usage();
    ctx.shaper = source.shaper.take();
    let mut sending = pin!(session.end(bytes));
    let sent = tokio::select! {
        biased;
        sent = &mut sending => sent,
        () = followed(&mut ticket) => {
            finish(&mut ticket, &source, why.as_deref()).await;
            sending.await
        }
    };
    finish(&mut ticket, &source, why.as_deref()).await;
    source.linger().await;
    match (why, sent) {
        (Some(why), Ok(())) => Err(Stop::Cut(why)),
        (Some(why), Err(_)) => Err(Stop::Broken(why)),
        (None, Err(gone)) => Err(gone.into()),
        (None, Ok(())) => Ok(()),
    }
}

async fn finish(ticket: &mut Option<Box<Ticket>>, source: &Source, why: Option<&str>) {
    if let Some(ticket) = ticket.take() {
        Box::pin(ticket.finish_stream(source, why)).await;
    }
}
