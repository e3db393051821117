//! A stream on its way from its upstream: what comes of it, piece by piece, ready to be sent.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::attempt::Stream;
use super::backend::Backend;
use crate::admission::Slot;
use crate::breaker::ModelPass;
use crate::config::raw::Timeouts;
use crate::error::Error;
use crate::openai::Usage;
use crate::plugin::Shaper;
use crate::response::sse::Framing;
use crate::upstream::residency::{Measured, Speed};
use crate::upstream::{Failure, Reply};

/// A stream shorter than this tells nothing of how fast tokens are generated.
const MEASURABLE: Duration = Duration::from_millis(20);
/// How long a finished stream's connection is given to end, to be used again.
const LINGER: Duration = Duration::from_millis(50);

/// What bounds a stream in time.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The upstream's deadlines.
    pub timeouts: Timeouts,
    /// The longest pause without a sign of life.
    pub heartbeat: Duration,
    /// When the exchange began.
    pub since: Instant,
}

/// A stream and everything held for it until it ends. Dropping it drops the upstream.
#[derive(Debug)]
pub struct Source {
    reply: Reply,
    stream: Box<Stream>,
    bounds: Bounds,
    pass: Option<ModelPass>,
    /// The plugins it passes.
    pub shaper: Option<Box<Shaper>>,
    heard: Instant,
    told: Instant,
    began: Instant,
    timer: Pin<Box<Sleep>>,
    /// Who gives it.
    pub backend: Arc<Backend>,
    /// The model's name there.
    pub model: Arc<str>,
    _slot: Slot,
}

/// What happened next to a stream.
#[derive(Debug)]
pub enum Next {
    /// A part came, or the end.
    Part(Option<Result<Bytes, Failure>>),
    /// Time has passed.
    Timer,
}

/// What is to be done with it.
#[derive(Debug)]
pub enum Step {
    /// Send this on.
    Send(Bytes),
    /// Show the client that it is still alive.
    Comment,
    /// Nothing.
    Quiet,
    /// Send this on, and no more. Why, when that is not the proper end.
    End {
        /// The last bytes.
        bytes: Bytes,
        /// What went wrong.
        why: Option<String>,
    },
}

/// What a stream is made of.
#[derive(Debug)]
pub struct Parts {
    /// The exchange.
    pub reply: Reply,
    /// The stream up to its first content.
    pub stream: Box<Stream>,
    /// Where the answer comes from.
    pub origin: (Arc<Backend>, Arc<str>),
    /// To report how it ends.
    pub pass: ModelPass,
    /// Its place.
    pub slot: Slot,
    /// The plugins it passes.
    pub shaper: Option<Box<Shaper>>,
}

impl Source {
    /// A stream that has begun.
    #[must_use]
    pub fn new(parts: Parts, bounds: Bounds) -> Self {
        let Parts { reply, stream, origin: (backend, model), pass, slot, shaper } = parts;
        let now = Instant::now();
        let mut source = Self {
            reply,
            stream,
            pass: Some(pass),
            shaper,
            heard: now,
            told: now,
            began: now,
            timer: Box::pin(sleep_until(now)),
            backend,
            model,
            _slot: slot,
            bounds,
        };
        let wake = source.wake();
        source.timer.as_mut().reset(wake);
        source
    }

    /// Token counts, once reported.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.stream.watch.usage
    }

    /// The event with the usage that the client did not ask for, if there was one.
    #[must_use]
    pub fn hidden_usage(&self) -> Option<&Bytes> {
        self.stream.hidden_usage.as_ref()
    }

    /// How long it took so far, from the request on.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.bounds.since.elapsed()
    }

    /// What was held back until the first content came.
    pub async fn first(&mut self) -> Step {
        self.held().await
    }

    /// What comes next. Dropping this loses nothing.
    pub async fn wait(&mut self) -> Next {
        tokio::select! {
            biased;
            part = self.reply.data() => Next::Part(part),
            () = &mut self.timer => Next::Timer,
        }
    }

    /// What it means.
    pub async fn take(&mut self, next: Next) -> Step {
        let now = Instant::now();
        match next {
            Next::Part(Some(Ok(part))) => {
                self.heard = now;
                // The timer is not looked at while data is always there.
                if let Some(failure) = self.overdue(now) {
                    return self.broke_off(&failure.to_string());
                }
                self.stream.take_in(part);
                match self.stream.unreadable.take() {
                    Some(why) => self.broke_off(&why),
                    None => self.held().await,
                }
            }
            Next::Part(Some(Err(failure))) => self.broke_off(&failure.to_string()),
            Next::Part(None) => {
                self.stream.finish();
                if self.stream.watch.done {
                    return self.held().await;
                }
                self.broke_off("the stream ended before its end")
            }
            Next::Timer => {
                if let Some(failure) = self.overdue(now) {
                    return self.broke_off(&failure.to_string());
                }
                let due = self.wants_comment() && now >= self.told + self.bounds.heartbeat;
                if due {
                    self.told = now;
                }
                let wake = self.wake();
                self.timer.as_mut().reset(wake);
                if due { Step::Comment } else { Step::Quiet }
            }
        }
    }

    /// Reports how it ended to those who judge the upstream.
    pub fn settle(&mut self, why: Option<&str>) {
        self.measure();
        if let Some(pass) = self.pass.take() {
            match why {
                None => pass.success(),
                Some(_) => {
                    self.backend.count_failure("cut");
                    pass.failure();
                }
            }
        }
    }

    /// Lets the connection come to its end, so that it can be used again.
    pub async fn linger(mut self: Box<Self>) {
        // Nothing follows but the end of the connection's framing.
        let _ = timeout(LINGER, self.reply.data()).await;
    }

    /// When the timer is to look again. It is not reset with every event: it fires once a period
    /// at most, and then looks at what came since.
    fn wake(&self) -> Instant {
        let bounds = &self.bounds;
        let stalled = self.heard + bounds.timeouts.idle.0;
        let limit = stalled.min(bounds.since + bounds.timeouts.total.0);
        if self.wants_comment() { limit.min(self.told + bounds.heartbeat) } else { limit }
    }

    /// Lines of JSON have no comments, and inside an event there is no room for one.
    fn wants_comment(&self) -> bool {
        self.stream.splitter.framing() == Framing::Sse && !self.stream.splitter.inside_pieces()
    }

    fn overdue(&self, now: Instant) -> Option<Failure> {
        if now >= self.bounds.since + self.bounds.timeouts.total.0 {
            return Some(Failure::TotalTimeout);
        }
        (now >= self.heard + self.bounds.timeouts.idle.0).then_some(Failure::Stalled)
    }

    /// Learns how fast the upstream generates, from what it says it generated.
    fn measure(&self) {
        let Some(usage) = self.usage() else { return };
        let tokens = usage.completion_tokens.unwrap_or(0);
        // A tool call comes whole at its end: its time is not that of its tokens.
        if tokens < 2 || self.began.elapsed() < MEASURABLE {
            return;
        }
        let decode = (tokens - 1) as f64 / self.began.elapsed().as_secs_f64();
        // With the model loaded and a place free, the time to the first token is the prompt's.
        let first = self.began.duration_since(self.bounds.since).as_secs_f64();
        let prompt = usage.prompt_tokens.map(|tokens| tokens as f64 / first);
        let speed = Speed { decode: Some(decode), prompt };
        let at_once = self.backend.gate.in_flight_of(&self.model);
        self.backend.speeds.record(Measured { model: Arc::clone(&self.model), speed, at_once });
    }

    async fn held(&mut self) -> Step {
        if let Err(error) = self.shape().await {
            return self.shaper_failed(&error);
        }
        let bytes = self.joined();
        if self.stream.watch.done {
            return Step::End { bytes, why: self.stream.watch.error.take() };
        }
        if bytes.is_empty() {
            return Step::Quiet;
        }
        self.told = self.heard;
        Step::Send(bytes)
    }

    fn joined(&mut self) -> Bytes {
        match <[Bytes; 1]>::try_from(std::mem::take(&mut self.stream.held)) {
            Ok([single]) => single,
            Err(several) => {
                let length = several.iter().map(Bytes::len).sum();
                let mut joined = BytesMut::with_capacity(length);
                several.iter().for_each(|bytes| joined.extend_from_slice(bytes));
                joined.freeze()
            }
        }
    }

    /// Takes what is to be sent through the plugins that want to see it.
    async fn shape(&mut self) -> Result<(), Error> {
        let Some(shaper) = &mut self.shaper else { return Ok(()) };
        for event in &mut self.stream.held {
            // Boxed: a plugin's call is large, and most streams have none.
            *event = Box::pin(shaper.event(std::mem::take(event))).await?;
        }
        Ok(())
    }

    /// A plugin that must not fail did; the upstream is not to blame.
    fn shaper_failed(&mut self, error: &Error) -> Step {
        self.pass = None;
        let bytes = self.stream.watch.failure(&error.message, "plugin_failed");
        Step::End { bytes, why: Some(error.message.to_string()) }
    }

    /// The upstream sends no more. That is an end only if the answer was finished; else the client
    /// is told, in a form its SDK raises on.
    fn broke_off(&mut self, why: &str) -> Step {
        // Of a part that cannot be read to its end, the beginning could.
        let held = self.joined();
        let rest = Bytes::from([&held[..], &self.stream.splitter.rest()[..]].concat());
        let watch = &mut self.stream.watch;
        let inside = self.stream.splitter.inside_pieces();
        if (watch.is_complete() && !inside) || watch.error.is_some() {
            return Step::End { bytes: rest, why: watch.error.take() };
        }
        // A fragment is dropped where it was held; what went out of it in pieces is closed off.
        let close = match (inside, self.stream.splitter.framing()) {
            (false, _) => "",
            (true, Framing::Sse) => "\n\n",
            (true, Framing::Lines) => "\n",
        };
        let failure =
            watch.failure(&format!("the answer was cut off: {why}"), "upstream_truncated");
        let bytes = Bytes::from([&held[..], close.as_bytes(), &failure].concat());
        Step::End { bytes, why: Some(why.to_owned()) }
    }
}
