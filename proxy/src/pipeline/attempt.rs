//! One request to one target, up to the first content of its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use memchr::memmem;
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout_at};

use super::backend::Backend;
use super::long_prompt;
use super::prepare::Prepared;
use super::rejection::Rejection;
use crate::config::raw::Timeouts;
use crate::error::{Dialect, openai_type, render};
use crate::native::{self, About, Form};
use crate::openai::{MaybeError, error_text};
use crate::request::Request;
use crate::response::sse::{Framing, Splitter, Unit};
use crate::response::watch::{Grammar, Verdict, Watch};
use crate::upstream::exchange::{self, Call};
use crate::upstream::{Failure, Pool, Reply};

/// A whole answer up to this size is held, so that one that breaks off can still be got elsewhere.
const HOLD_WHOLE: usize = 256 * 1024;
/// A whole native answer must fit in this to be translated.
const HOLD_NATIVE: usize = 64 * 1024 * 1024;
/// The most of an upstream's error body that is kept.
const HOLD_ERROR: usize = 64 * 1024;
/// Events held back in search of the first content; a stream that says more without any content
/// is passed on as it is.
const HOLD_EVENTS: usize = 64 * 1024;
/// Ollama's words for a prompt that is too long, of several versions.
const OVERFLOW: [&str; 5] = [
    "exceeds the context length",
    "is longer than the context length",
    "exceeds the available context size",
    "exceeds the model's maximum context length",
    "prompt is too long",
];
/// OpenAI's code for a prompt that the model cannot hold.
pub(super) const CONTEXT_EXCEEDED: &str = "context_length_exceeded";
/// Pause before a refused connection is tried once more when there is no other target.
const REFUSED_AGAIN: Duration = Duration::from_millis(100);

/// An answer that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Its head, and what follows.
    pub reply: Reply,
    /// What has come of it.
    pub body: Begin,
}

/// The beginning of an answer's body.
#[derive(Debug)]
pub enum Begin {
    /// All of it.
    Whole(Bytes),
    /// A part of a large or opaque one.
    Partial(Bytes),
    /// A stream up to its first content.
    Stream(Box<Stream>),
}

/// A stream being relayed.
#[derive(Debug)]
pub struct Stream {
    /// Splits it.
    pub splitter: Splitter,
    /// Watches it.
    pub watch: Watch,
    /// What has come and was not sent yet.
    pub held: Vec<Bytes>,
    /// The event with the usage that the client did not ask for.
    pub hidden_usage: Option<Bytes>,
    /// Whether what is held is kept apart event by event.
    separate: bool,
    /// Makes events of Ollama's native lines.
    translator: Option<Box<native::Stream>>,
    /// Why what came cannot be read.
    pub unreadable: Option<String>,
}

/// Sends `request` to `backend`, whose time runs from `begun` on. With `alone`, a refused connection is
/// tried once more.
pub async fn attempt(
    backend: &Backend,
    pool: &Arc<Pool>,
    request: &Request,
    prepared: Prepared,
    (fields, timeouts, begun): (&[u8], &Timeouts, Instant),
    alone: bool,
) -> Result<Begun, Rejection> {
    let Prepared { path, body, native, .. } = prepared;
    // What the client asked of another path means nothing to this one.
    let query = if native.is_some() { "" } else { &request.query };
    let mut call = Call { method: Method::POST, path, query, fields, body };
    let total = begun + timeouts.total.0;
    // An answer that is no stream begins when it is ready, however long that takes.
    let deadline = if request.streaming { total.min(begun + timeouts.first_byte.0) } else { total };
    let mut sent = exchange::send(&backend.origin, pool, &call, deadline).await;
    if alone && matches!(sent, Err(Failure::Connect(_))) {
        tokio::time::sleep(REFUSED_AGAIN).await;
        sent = exchange::send(&backend.origin, pool, &call, deadline).await;
    }
    let reply = sent.map_err(Rejection::Failed)?;
    let deadlines = Deadlines { first: deadline, total, idle: timeouts.idle.0 };
    let begun = classify(reply, (request, native.as_ref()), deadlines, alone).await?;
    let Some(body) = unthinking(&call.body, native.as_ref(), &begun) else { return Ok(begun) };
    call.body = body;
    let sent = exchange::send(&backend.origin, pool, &call, deadline).await;
    let reply = sent.map_err(Rejection::Failed)?;
    classify(reply, (request, native.as_ref()), deadlines, alone).await
}

/// What to send to a model that refused to think: clients of Anthropic's API ask that of every model, and
/// Ollama's own `/v1/messages` has those that cannot just answer.
fn unthinking(sent: &[u8], native: Option<&About>, begun: &Begun) -> Option<Bytes> {
    let Form::Message { .. } = native?.form else { return None };
    match &begun.body {
        Begin::Whole(error) if begun.reply.status == StatusCode::BAD_REQUEST => {
            native::anthropic::without_thought(sent, error).map(Bytes::from)
        }
        Begin::Whole(_) | Begin::Partial(_) | Begin::Stream(_) => None,
    }
}

/// When an answer must have begun, and when it must have ended.
#[derive(Clone, Copy)]
struct Deadlines {
    first: Instant,
    total: Instant,
    /// The longest pause inside it.
    idle: Duration,
}

async fn classify(
    mut reply: Reply,
    (request, native): (&Request, Option<&About>),
    deadlines: Deadlines,
    alone: bool,
) -> Result<Begun, Rejection> {
    let Deadlines { idle, total, .. } = deadlines;
    let status = reply.status;
    let code = status.as_u16();
    if code == 401 || code == 407 || (code == 403 && is_empty(&reply)) {
        return Err(Rejection::Credentials(status));
    }
    // A client must not be sent elsewhere, past its key and its limits. What is neither an answer nor a
    // client's error, such as a switch of protocols that nobody asked for, is a fault as well.
    let faulty = code == 429 || !(status.is_success() || status.is_client_error());
    let absent = status == StatusCode::NOT_FOUND && !alone && request.runs_model();
    if faulty || absent {
        let (body, _) = reply.collect(HOLD_ERROR, idle, total).await.map_err(Rejection::Failed)?;
        let message = error_text(&body, status);
        if absent {
            return Err(Rejection::ModelAbsent(message));
        }
        // Some runners have no better status for what is the client's mistake.
        if status == StatusCode::INTERNAL_SERVER_ERROR && is_overflow(message.as_bytes()) {
            reply.status = StatusCode::BAD_REQUEST;
            let body = enveloped(&mut reply, body, request, native.is_some());
            return Ok(Begun { reply, body: Begin::Whole(body) });
        }
        let retry_after = reply.fields.text("retry-after").map(str::to_owned);
        return Err(Rejection::Status { status, retry_after, message });
    }
    if reply.fields.has("content-encoding") {
        if native.is_some() {
            let why = "its answer is compressed, which it was not asked for";
            return Err(Rejection::EmptyStream(why.into()));
        }
        return Ok(Begun { reply, body: Begin::Partial(Bytes::new()) });
    }
    // Where nothing is generated, Ollama's own API has no stream, whatever was asked for.
    let line = native.is_some() && status == StatusCode::OK;
    if request.streaming && (line || is_stream(&reply)) {
        let translator = native.map(|about| translated_stream(&mut reply, about.clone()));
        return first_content(reply, request, translator, deadlines.first).await;
    }
    if let (Some(about), true) = (native, status.is_success()) {
        return translated_whole(reply, about, idle, total).await;
    }
    let (body, more) = reply.collect(HOLD_WHOLE, idle, total).await.map_err(Rejection::Failed)?;
    if more {
        return Ok(Begun { reply, body: Begin::Partial(body) });
    }
    if status.is_success() && request.runs_model() {
        check_whole(&reply, &body)?;
    }
    let translated = native.is_some();
    let body = if status.is_client_error() {
        enveloped(&mut reply, body, request, translated)
    } else {
        body
    };
    Ok(Begun { reply, body: Begin::Whole(body) })
}

/// A whole answer that is none: empty, or cut where nothing but the connection's end tells its end.
fn check_whole(reply: &Reply, body: &[u8]) -> Result<(), Rejection> {
    if body.is_empty() {
        return Err(Rejection::EmptyStream("its answer is empty".into()));
    }
    let framed = ["content-length", "transfer-encoding"].iter().any(|one| reply.fields.has(one));
    if !framed && serde_json::from_slice::<IgnoredAny>(body).is_err() {
        return Err(Rejection::Failed(Failure::Broken("its answer ended before its end".into())));
    }
    Ok(())
}

/// Whether an upstream's error says that the prompt is too long.
pub(super) fn is_overflow(error: &[u8]) -> bool {
    OVERFLOW.iter().any(|words| memmem::find(error, words.as_bytes()).is_some())
}

fn is_empty(reply: &Reply) -> bool {
    reply.fields.get("content-length") == Some(b"0")
}

fn is_stream(reply: &Reply) -> bool {
    let kind = reply.fields.get("content-type").unwrap_or_default();
    reply.status == StatusCode::OK
        && (kind.starts_with(b"text/event-stream") || kind.starts_with(b"application/x-ndjson"))
}

/// A client error in the caller's own envelope: an SDK shows an empty message for anything else.
fn enveloped(reply: &mut Reply, body: Bytes, request: &Request, translated: bool) -> Bytes {
    let dialect = request.endpoint.dialect();
    let parsed = serde_json::from_slice::<MaybeError<'_>>(&body).ok();
    let is_object = |raw: &serde_json::value::RawValue| raw.get().starts_with('{');
    let fits = parsed.as_ref().and_then(|error| error.error).is_some_and(|raw| match dialect {
        Dialect::OpenAi | Dialect::Anthropic => is_object(raw),
        Dialect::Ollama => !is_object(raw),
    });
    let message = error_text(&body, reply.status);
    // Ollama gives it no code, and programs match on that.
    let overflow = is_overflow(message.as_bytes()) && dialect != Dialect::Ollama;
    if fits && !overflow {
        return body;
    }
    let message = match dialect {
        Dialect::Anthropic if overflow => long_prompt::in_anthropics_words(&message),
        _ => message,
    };
    reply.fields.set("content-type", "application/json");
    let (param, code) = match (overflow, translated) {
        (true, _) => (Some(long_prompt::param(request.endpoint)), Some(CONTEXT_EXCEEDED)),
        // As Ollama's /v1 has it.
        (false, true) => (None, None),
        (false, false) => (None, Some(openai_type(reply.status))),
    };
    render(dialect, reply.status, &message, param, code)
}

/// Has a native stream go on as the events that the caller expects.
fn translated_stream(reply: &mut Reply, about: About) -> Box<native::Stream> {
    reply.fields.set("content-type", "text/event-stream");
    Box::new(native::Stream::new(about))
}

/// Makes the answer that the caller expects of a native one.
async fn translated_whole(
    mut reply: Reply,
    about: &About,
    idle: Duration,
    total: Instant,
) -> Result<Begun, Rejection> {
    let (body, more) = reply.collect(HOLD_NATIVE, idle, total).await.map_err(Rejection::Failed)?;
    let unreadable =
        |why: String| Rejection::EmptyStream(format!("its answer is not as expected: {why}"));
    if more {
        return Err(unreadable("it is too large".into()));
    }
    let answer = native::whole(&body, about).map_err(unreadable)?;
    reply.fields.set("content-type", "application/json");
    Ok(Begun { reply, body: Begin::Whole(answer.into()) })
}

/// Holds a stream back until something generated has come.
async fn first_content(
    mut reply: Reply,
    request: &Request,
    translator: Option<Box<native::Stream>>,
    deadline: Instant,
) -> Result<Begun, Rejection> {
    let grammar = Grammar::of(request.endpoint.path());
    let mut stream = Box::new(Stream {
        splitter: Splitter::new(grammar.framing()),
        watch: Watch::new(grammar, request.asks_usage()),
        held: Vec::new(),
        hidden_usage: None,
        separate: request.separate_events,
        translator,
        unreadable: None,
    });
    let mut held = 0;
    loop {
        let part = timeout_at(deadline, reply.data())
            .await
            .map_err(|_| Rejection::Failed(Failure::FirstByteTimeout))?;
        let Some(part) = part else {
            stream.finish();
            if stream.watch.content || stream.watch.done {
                return Ok(Begun { reply, body: Begin::Stream(stream) });
            }
            let why = stream.watch.error.take();
            let why = why.unwrap_or_else(|| "the stream ended before any content".into());
            return Err(Rejection::EmptyStream(why));
        };
        let part = part.map_err(Rejection::Failed)?;
        held += part.len();
        stream.take_in(part);
        if let Some(why) = stream.unreadable.take() {
            return Err(Rejection::EmptyStream(why));
        }
        if !stream.watch.content
            && let Some(error) = stream.watch.error.take()
        {
            return Err(Rejection::EmptyStream(error));
        }
        if stream.watch.content || stream.watch.done || held > HOLD_EVENTS {
            return Ok(Begun { reply, body: Begin::Stream(stream) });
        }
    }
}

impl Stream {
    /// Splits and watches `part`; what is to be sent of it is added to `held`.
    pub fn take_in(&mut self, part: Bytes) {
        let mut part = match &mut self.translator {
            None => part,
            Some(translator) => {
                let mut events = Vec::with_capacity(part.len() * 2);
                self.unreadable = translator.push(&part, &mut events).err();
                events.into()
            }
        };
        if !self.separate && self.splitter.at_boundary() {
            if !self.watch.content
                && let Some(end) = memmem::find(&part, b"\n\n")
            {
                self.inspect(part.split_to(end + 2));
            }
            let plain = self.watch.plain_prefix(&part);
            if plain > 0 {
                self.held.push(part.split_to(plain));
            }
        }
        if !part.is_empty() {
            self.inspect(part);
        }
    }

    /// No more comes: what a translator still holds is taken in, and so is a last line that lacks only
    /// its end, which it is given. Of a fragment nothing can be known.
    pub fn finish(&mut self) {
        if let Some(mut translator) = self.translator.take() {
            let mut events = Vec::new();
            translator.end(&mut events);
            self.take_in(events.into());
        }
        let is_whole = |line| serde_json::from_slice::<IgnoredAny>(line).is_ok();
        if self.splitter.framing() == Framing::Lines && is_whole(self.splitter.unread()) {
            self.inspect(Bytes::from_static(b"\n"));
        }
    }

    /// Looks at every unit of `part`.
    fn inspect(&mut self, part: Bytes) {
        let mut inside = self.splitter.inside_pieces();
        self.splitter.push(part);
        for unit in self.splitter.by_ref() {
            match unit {
                Unit::Piece(bytes) => {
                    self.watch.piece(&bytes, !std::mem::replace(&mut inside, true));
                    self.held.push(bytes);
                }
                Unit::Whole(bytes) => match self.watch.inspect(&bytes) {
                    Verdict::Pass => self.held.push(bytes),
                    Verdict::Drop => self.hidden_usage = Some(bytes),
                    Verdict::Replace(other) => {
                        self.held.push(other);
                        self.hidden_usage = Some(bytes);
                    }
                },
            }
        }
    }
}
