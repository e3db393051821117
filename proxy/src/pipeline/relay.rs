//! Sends an answer on to the client: whole, in parts, or as a stream of events.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{self, HeaderValue};
use pingora_core::protocols::http::ServerSession;
use tokio::time::{Instant, sleep_until, timeout};

use super::attempt::{Begin, PART, Stream, error_text};
use super::ctx::{Ctx, Phase};
use super::obtain::Answer;
use super::state::Snapshot;
use super::{Pipeline, Stop};
use crate::breaker::Pass;
use crate::config::raw::Timeouts;
use crate::error::Error;
use crate::plugin::Shaper;
use crate::request::endpoint::Endpoint;
use crate::request::headers::is_hop_by_hop;
use crate::response::downstream::{self, Head};
use crate::response::sse::Framing;
use crate::response::usage;
use crate::response::watch::{Grammar, Watch};
use crate::upstream::{Failure, Reply};

/// Joined parts of a large answer are written at once up to this size.
const LARGE_PART: usize = 256 * 1024;
/// How long a finished stream's connection is given to end, to be used again.
const LINGER: Duration = Duration::from_millis(50);
/// Keeps a connection alive without meaning anything (WHATWG HTML, 9.2.7).
const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

impl Pipeline {
    /// Relays `answer` to its end.
    pub(super) async fn relay(
        &self,
        session: &mut ServerSession,
        snapshot: &Snapshot,
        endpoint: Endpoint,
        answer: Answer,
        ctx: &mut Ctx,
    ) -> Result<(), Stop> {
        let Answer { backend, model, begun, pass, since, slot: _slot } = answer;
        ctx.phase = Phase::Answering;
        ctx.answered_by = Some((Arc::clone(&backend), model));
        ctx.first = Some(ctx.started.elapsed());
        let timeouts = &backend.origin.config.timeouts;
        let mut reply = begun.reply;
        let mut head = Head::new(reply.status);
        for (name, value) in &reply.headers {
            if !is_hop_by_hop(name) {
                head.add(name.clone(), value.clone());
            }
        }
        ctx.answer_headers(&mut head);
        match begun.body {
            Begin::Stream(stream) => {
                let bounds = Bounds { timeouts, heartbeat: snapshot.config.heartbeat, since };
                let shaper = ctx.shaper.take();
                let relay = StreamRelay { reply, stream, bounds, pass: Some(pass), shaper };
                relay.run(session, head, ctx).await
            }
            // The head went out while the client waited; an answer that is no stream comes too late.
            Begin::Whole(body) | Begin::Partial(body) if ctx.committed => {
                pass.success();
                let message = error_text(&body, reply.status);
                fail_committed(session, endpoint, &message, "upstream_failed").await?;
                Err(Stop::Cut(message))
            }
            Begin::Whole(body) => {
                ctx.usage = usage::of_answer(&body, endpoint.dialect());
                let body = match ctx.shaper.as_mut() {
                    Some(shaper) if reply.status == StatusCode::OK => shaper.whole(body).await?,
                    Some(_) | None => body,
                };
                // A client's own mistake tells nothing about the upstream.
                if reply.status.is_success() {
                    pass.success()
                } else {
                    drop(pass)
                }
                Ok(self.send_whole(session, ctx, head, body).await?)
            }
            Begin::Partial(first) => {
                let length = reply.headers.get(header::CONTENT_LENGTH).cloned();
                if let Some(length) = length {
                    head.set(header::CONTENT_LENGTH, length);
                }
                ctx.status = head.status().as_u16();
                downstream::begin(session, head).await?;
                downstream::part(session, first).await?;
                let ended = relay_parts(session, &mut reply, timeouts, since).await;
                match &ended {
                    Ok(()) => pass.success(),
                    Err(Stop::Cut(_)) => pass.failure(),
                    // The client's going tells nothing about the upstream.
                    Err(Stop::Gone | Stop::Refused(_)) => drop(pass),
                }
                ended
            }
        }
    }
}

/// Ends a stream that was committed while waiting and for which no answer was found.
pub(super) async fn fail_committed(
    session: &mut ServerSession,
    endpoint: Endpoint,
    message: &str,
    code: &str,
) -> Result<(), Stop> {
    let watch = Watch::new(Grammar::of(endpoint.path()), false);
    downstream::part(session, watch.failure(message, code)).await?;
    Ok(downstream::end(session).await?)
}

/// Passes a large answer on as it comes. A client cannot be told of a failure in the middle but by
/// the broken end of its body, so the connection is dropped then.
async fn relay_parts(
    session: &mut ServerSession,
    reply: &mut Reply,
    timeouts: &Timeouts,
    since: Instant,
) -> Result<(), Stop> {
    let total = since + timeouts.total.0;
    loop {
        let part = tokio::select! {
            biased;
            part = reply.data_in_time(LARGE_PART, timeouts.idle.0, total) => part,
            () = downstream::client_left(session) => return Err(Stop::Gone),
        };
        match part {
            Some(Ok(bytes)) => downstream::part(session, bytes).await?,
            Some(Err(failure)) => return Err(Stop::Cut(failure.to_string())),
            None => return Ok(downstream::end(session).await?),
        }
    }
}

/// What bounds a stream in time.
struct Bounds<'a> {
    timeouts: &'a Timeouts,
    heartbeat: Duration,
    since: Instant,
}

/// A stream on its way to the client.
struct StreamRelay<'a> {
    reply: Reply,
    stream: Stream,
    bounds: Bounds<'a>,
    pass: Option<Pass>,
    shaper: Option<Box<Shaper>>,
}

/// What happened next to a stream.
enum Next {
    Part(Option<Result<Bytes, Failure>>),
    ClientGone,
    Timer,
}

impl StreamRelay<'_> {
    async fn run(
        mut self,
        session: &mut ServerSession,
        mut head: Head,
        ctx: &mut Ctx,
    ) -> Result<(), Stop> {
        ctx.streamed = true;
        if !ctx.committed {
            ctx.status = StatusCode::OK.as_u16();
            // Middleboxes that buffer or transform would hold events back.
            head.set(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            downstream::begin(session, head).await?;
        }
        let began = Instant::now();
        let ended = self.pump(session).await;
        self.measure(began, ctx);
        ctx.shaper = self.shaper.take();
        ctx.usage = self.stream.watch.usage;
        if let Some(pass) = self.pass.take() {
            match &ended {
                Ok(None) => pass.success(),
                Ok(Some(_)) => pass.failure(),
                // The client's going tells nothing about the upstream.
                Err(_) => drop(pass),
            }
        }
        match ended? {
            None => Ok(()),
            Some(why) => Err(Stop::Cut(why)),
        }
    }

    /// Relays to the end; says why, when that was not the proper one.
    async fn pump(&mut self, session: &mut ServerSession) -> Result<Option<String>, Stop> {
        let mut heard = Instant::now();
        let mut told = heard;
        let mut timer = pin!(sleep_until(self.wake(heard, told)));
        if let Err(error) = self.shape().await {
            return self.shaper_failed(session, &error).await;
        }
        self.send_held(session).await?;
        while !self.stream.watch.done {
            let next = tokio::select! {
                biased;
                part = self.reply.data(PART) => Next::Part(part),
                () = downstream::client_left(session) => Next::ClientGone,
                () = &mut timer => Next::Timer,
            };
            match next {
                Next::Part(Some(Ok(part))) => {
                    heard = Instant::now();
                    // The timer is not looked at while data is always there.
                    if let Some(failure) = self.overdue(heard, heard) {
                        return self.broke_off(session, &failure.to_string()).await;
                    }
                    self.stream.take_in(part);
                    if let Err(error) = self.shape().await {
                        return self.shaper_failed(session, &error).await;
                    }
                    if !self.stream.held.is_empty() {
                        told = heard;
                        self.send_held(session).await?;
                    }
                }
                Next::Part(Some(Err(failure))) => {
                    return self.broke_off(session, &failure.to_string()).await;
                }
                Next::Part(None) => {
                    return self.broke_off(session, "the stream ended before its end").await;
                }
                Next::ClientGone => return Err(Stop::Gone),
                Next::Timer => {
                    let now = Instant::now();
                    if let Some(failure) = self.overdue(now, heard) {
                        return self.broke_off(session, &failure.to_string()).await;
                    }
                    if self.wants_comment() && now >= told + self.bounds.heartbeat {
                        told = now;
                        downstream::part(session, COMMENT).await?;
                    }
                    let wake = self.wake(heard, told);
                    timer.as_mut().reset(wake);
                }
            }
        }
        downstream::end(session).await?;
        // Nothing follows but the end of the connection's framing.
        let _ = timeout(LINGER, self.reply.data(PART)).await;
        Ok(self.stream.watch.error.take())
    }

    /// When the timer is to look again. It is not reset with every event: it fires once a period
    /// at most, and then looks at what came since.
    fn wake(&self, heard: Instant, told: Instant) -> Instant {
        let bounds = &self.bounds;
        let stalled = heard + bounds.timeouts.idle.0;
        let total = bounds.since + bounds.timeouts.total.0;
        let comment = told + bounds.heartbeat;
        let limit = stalled.min(total);
        if self.wants_comment() { limit.min(comment) } else { limit }
    }

    /// Lines of JSON have no comments, and inside an event there is no room for one.
    fn wants_comment(&self) -> bool {
        self.stream.splitter.framing() == Framing::Sse && !self.stream.splitter.inside_pieces()
    }

    fn overdue(&self, now: Instant, heard: Instant) -> Option<Failure> {
        if now >= self.bounds.since + self.bounds.timeouts.total.0 {
            return Some(Failure::TotalTimeout);
        }
        (now >= heard + self.bounds.timeouts.idle.0).then_some(Failure::Stalled)
    }

    /// Learns how fast the upstream generates, from what it says it generated.
    fn measure(&self, began: Instant, ctx: &Ctx) {
        let tokens = self.stream.watch.usage.and_then(|usage| usage.completion_tokens).unwrap_or(0);
        let took = began.elapsed().as_secs_f64();
        if let Some((backend, model)) = ctx.answered_by.as_ref().filter(|_| tokens > 1)
            && took > 0.0
        {
            backend.speeds.record(model, (tokens - 1) as f64 / took);
        }
    }

    /// Takes what is to be sent through the plugins that want to see it.
    async fn shape(&mut self) -> Result<(), Error> {
        let Some(shaper) = &mut self.shaper else { return Ok(()) };
        for event in &mut self.stream.held {
            *event = shaper.event(std::mem::take(event)).await?;
        }
        Ok(())
    }

    /// A plugin that must not fail did; the upstream is not to blame.
    async fn shaper_failed(
        &mut self,
        session: &mut ServerSession,
        error: &Error,
    ) -> Result<Option<String>, Stop> {
        self.pass = None;
        let failure = self.stream.watch.failure(&error.message, "plugin_failed");
        downstream::part(session, failure).await?;
        downstream::end(session).await?;
        Ok(Some(error.message.to_string()))
    }

    async fn send_held(&mut self, session: &mut ServerSession) -> Result<(), Stop> {
        let held = std::mem::take(&mut self.stream.held);
        let bytes = match <[Bytes; 1]>::try_from(held) {
            Ok([single]) => single,
            Err(several) => {
                let length = several.iter().map(Bytes::len).sum();
                let mut joined = BytesMut::with_capacity(length);
                several.iter().for_each(|bytes| joined.extend_from_slice(bytes));
                joined.freeze()
            }
        };
        Ok(downstream::part(session, bytes).await?)
    }

    /// The upstream sends no more. That is an end only if the answer was finished; else the client
    /// is told, in a form its SDK raises on.
    async fn broke_off(
        &mut self,
        session: &mut ServerSession,
        why: &str,
    ) -> Result<Option<String>, Stop> {
        let rest = self.stream.splitter.rest();
        let watch = &mut self.stream.watch;
        let inside = self.stream.splitter.inside_pieces();
        if (watch.is_complete() && !inside) || watch.error.is_some() {
            downstream::part(session, rest).await?;
            downstream::end(session).await?;
            return Ok(watch.error.take());
        }
        // A fragment is dropped where it was held; what went out of it in pieces is closed off.
        let close = match (inside, self.stream.splitter.framing()) {
            (false, _) => "",
            (true, Framing::Sse) => "\n\n",
            (true, Framing::Lines) => "\n",
        };
        let failure =
            watch.failure(&format!("the answer was cut off: {why}"), "upstream_truncated");
        let told = [close.as_bytes(), &failure].concat();
        downstream::part(session, Bytes::from(told)).await?;
        downstream::end(session).await?;
        Ok(Some(why.to_owned()))
    }
}
