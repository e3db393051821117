//! Watches a stream unit by unit: when the first content comes, what was used, and whether it came
//! to its proper end. A stream that merely stops is an error the client must see.
//!
//! Most units cost three substring searches. A key inside generated text has its quotes escaped,
//! so `"usage":` in the bytes is a real key; only then is the unit parsed.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::{self, Finder};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::sse::Framing;
use super::usage;
use crate::error::{self, Dialect, Error};
use crate::ollama::Line;
use crate::openai::{Chunk, MaybeError, Usage};
use http::StatusCode;

/// The grammar of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// Chat and legacy completions: unnamed events, `finish_reason`, `[DONE]`.
    Chunks,
    /// `/v1/responses`: named events up to `response.completed`.
    Responses,
    /// `/v1/messages`: named events up to `message_stop`.
    Messages,
    /// Ollama's own: JSON lines up to `"done":true`.
    Native,
}

impl Grammar {
    /// The grammar of the streams of an endpoint.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path {
            "/v1/responses" => Grammar::Responses,
            "/v1/messages" => Grammar::Messages,
            native if native.starts_with("/api/") => Grammar::Native,
            _ => Grammar::Chunks,
        }
    }

    /// How the stream is framed.
    #[must_use]
    pub fn framing(self) -> Framing {
        match self {
            Grammar::Chunks | Grammar::Responses | Grammar::Messages => Framing::Sse,
            Grammar::Native => Framing::Lines,
        }
    }
}

/// What to do with a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it as it is.
    Pass,
    /// Leave it out.
    Drop,
    /// Send this instead.
    Replace(Bytes),
}

/// The watcher of one stream.
#[derive(Debug)]
pub struct Watch {
    grammar: Grammar,
    /// The gateway asked for usage and the client did not.
    hide_usage: bool,
    /// Something generated has come.
    pub content: bool,
    /// The answer is finished: every choice's `finish_reason`, or a final event.
    pub finished: bool,
    /// There are several choices: which of them are open is not kept, so only `[DONE]` ends them.
    several: bool,
    /// Nothing more is to come: `[DONE]` or a final event.
    pub done: bool,
    /// The upstream itself reported an error inside the stream.
    pub error: Option<String>,
    /// Token counts, once reported.
    pub usage: Option<Usage>,
    /// The id of the response, in a stream of one.
    response: Option<Box<str>>,
    /// Named events so far: those of a response are numbered.
    events: u64,
}

static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
static FINISH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));
static DONE_EVENT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"[DONE]"));
static DONE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"done\""));

impl Watch {
    /// A watcher at the start of a stream.
    #[must_use]
    pub fn new(grammar: Grammar, hide_usage: bool) -> Self {
        Self {
            grammar,
            hide_usage,
            content: false,
            finished: false,
            several: false,
            done: false,
            error: None,
            usage: None,
            response: None,
            events: 0,
        }
    }

    /// Whether the stream may end here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.done || (self.finished && !self.several)
    }

    /// Looks at a whole unit.
    pub fn inspect(&mut self, unit: &[u8]) -> Verdict {
        if self.grammar == Grammar::Native {
            self.native(unit);
            return Verdict::Pass;
        }
        let Some(event) = Event::parse(unit) else { return Verdict::Pass };
        match self.grammar {
            Grammar::Chunks => self.chunk(&event),
            Grammar::Responses | Grammar::Messages | Grammar::Native => {
                self.named(&event);
                Verdict::Pass
            }
        }
    }

    /// How many bytes of `events` are whole events that can be passed on together without a look at
    /// each: nothing in them but more of the answer. One search over many events costs little more
    /// than one over one.
    #[must_use]
    pub fn plain_prefix(&self, events: &[u8]) -> usize {
        if self.grammar != Grammar::Chunks || !self.content || self.finished {
            return 0;
        }
        let special = [&USAGE, &ERROR, &DONE_EVENT].into_iter().filter_map(|key| key.find(events));
        let finish = FINISH.find_iter(events).find(|at| is_set(&events[at + 15..]));
        let end = special.chain(finish).min().unwrap_or(events.len());
        memmem::rfind(&events[..end], b"\n\n").map_or(0, |at| at + 2)
    }

    /// Looks at a piece of a unit too large to be held: it is content, and it may be the last unit
    /// (a final event with the whole answer in it, a last line with its context).
    pub fn piece(&mut self, piece: &[u8], first: bool) {
        self.content = true;
        let ends = match self.grammar {
            Grammar::Native => DONE.find_iter(piece).any(|at| is_true(&piece[at + 6..])),
            Grammar::Responses => {
                first
                    && (piece.starts_with(b"event: response.completed")
                        || piece.starts_with(b"event: response.incomplete"))
            }
            Grammar::Chunks | Grammar::Messages => false,
        };
        self.finished |= ends;
    }

    fn chunk(&mut self, event: &Event<'_>) -> Verdict {
        let data = &*event.data;
        if data.starts_with(b"[DONE]") {
            self.done = true;
            return Verdict::Pass;
        }
        if ERROR.find(data).is_some() && self.saw_error(data) {
            return Verdict::Pass;
        }
        // Of several choices, one may go on after another has finished.
        let mut reasons = FINISH.find_iter(data).map(|at| is_set(&data[at + 15..])).peekable();
        if reasons.peek().is_some() {
            self.finished = reasons.any(|set| set);
            self.several |= self.finished && is_of_several(data);
        }
        let with_usage = USAGE.find(data).is_some();
        if self.content && !with_usage {
            return Verdict::Pass;
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
            // Not the shape expected: the client's own parser is to judge it.
            self.content = true;
            return Verdict::Pass;
        };
        self.content |= chunk.has_content();
        let Some(raw) = chunk.usage else { return Verdict::Pass };
        self.usage = serde_json::from_str(raw.get()).ok().or(self.usage);
        match (self.hide_usage, chunk.is_bare()) {
            (false, _) => Verdict::Pass,
            (true, true) => Verdict::Drop,
            (true, false) => without_usage(event),
        }
    }

    fn named(&mut self, event: &Event<'_>) {
        #[derive(Deserialize)]
        struct Typed<'a> {
            #[serde(borrow, default)]
            r#type: Cow<'a, str>,
        }
        self.events += 1;
        let data = &*event.data;
        let kind = match event.name {
            Some(name) => Cow::Borrowed(name),
            None => match serde_json::from_slice::<Typed<'_>>(data) {
                Ok(typed) => Cow::Owned(typed.r#type.into_owned().into_bytes()),
                Err(_) => return,
            },
        };
        match &*kind {
            b"response.created" => self.response = response_id(data),
            b"response.in_progress" | b"response.queued" | b"ping" => {}
            // The prompt is counted here, and the answer at its end.
            b"message_start" => self.read_nested_usage(data),
            // What it had is over; an event for those that raise on `error` may follow.
            b"response.failed" => self.error = Some(why_failed(data)),
            b"response.completed" | b"response.incomplete" => {
                self.end();
                self.read_nested_usage(data);
            }
            b"message_stop" => self.end(),
            b"message_delta" => self.read_nested_usage(data),
            b"error" => {
                self.saw_error(data);
                self.error.get_or_insert_with(|| "the upstream reported an error".into());
            }
            _ => self.content = true,
        }
    }

    fn end(&mut self) {
        self.content = true;
        self.finished = true;
        self.done = true;
    }

    fn read_nested_usage(&mut self, data: &[u8]) {
        #[derive(Deserialize)]
        struct Nested {
            #[serde(default)]
            usage: Option<Usage>,
            #[serde(default)]
            response: Option<Inner>,
            #[serde(default)]
            message: Option<Inner>,
        }
        #[derive(Deserialize)]
        struct Inner {
            #[serde(default)]
            usage: Option<Usage>,
        }
        let Ok(nested) = serde_json::from_slice::<Nested>(data) else { return };
        let usage = |inner: Option<Inner>| inner.and_then(|inner| inner.usage);
        let begun = usage(nested.message).map(|usage| Usage { completion_tokens: None, ..usage });
        if let Some(new) = nested.usage.or(usage(nested.response)).or(begun) {
            let known = self.usage.unwrap_or_default();
            self.usage = Some(Usage {
                prompt_tokens: new.prompt_tokens.or(known.prompt_tokens),
                completion_tokens: new.completion_tokens.or(known.completion_tokens),
            });
        }
    }

    fn native(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        if ERROR.find(line).is_some() && self.saw_error(line) {
            return;
        }
        self.content = true;
        if DONE.find_iter(line).any(|at| is_true(&line[at + 6..]))
            && let Ok(parsed) = serde_json::from_slice::<Line>(line)
            && parsed.done
        {
            self.finished = true;
            self.done = true;
            self.usage = usage::of_line(&parsed);
        }
    }

    /// Notes a top-level error; false when the key meant something else.
    fn saw_error(&mut self, json: &[u8]) -> bool {
        let Ok(parsed) = serde_json::from_slice::<MaybeError<'_>>(json) else { return false };
        if parsed.is_error() {
            let message = parsed.message();
            self.error = Some(message.unwrap_or_else(|| "the upstream reported an error".into()));
        }
        self.error.is_some()
    }

    /// The unit that tells a client, in a form its SDK raises on, that the stream has failed.
    #[must_use]
    pub fn failure(&self, message: &str, code: &str) -> Bytes {
        let body =
            error::render(self.dialect(), StatusCode::BAD_GATEWAY, message, None, Some(code));
        self.unit(&body)
    }

    /// The same for an error of the gateway's own, which may be the client's mistake.
    #[must_use]
    pub fn refusal(&self, error: &Error) -> Bytes {
        let (status, code) = (error.status(), Some(error.code()));
        self.unit(&error::render(self.dialect(), status, &error.message, error.param, code))
    }

    /// The same for the error that is a whole answer of the caller's protocol; `None` where `body` is
    /// not a JSON object.
    #[must_use]
    pub fn repeated(&self, body: &[u8]) -> Option<Bytes> {
        // On one line, as an event is to have it.
        let body = serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(body).ok()?;
        Some(self.unit(&serde_json::to_vec(&body).ok()?))
    }

    fn dialect(&self) -> Dialect {
        match self.grammar {
            Grammar::Chunks | Grammar::Responses => Dialect::OpenAi,
            Grammar::Messages => Dialect::Anthropic,
            Grammar::Native => Dialect::Ollama,
        }
    }

    fn unit(&self, body: &[u8]) -> Bytes {
        let body = String::from_utf8_lossy(body);
        Bytes::from(match self.grammar {
            Grammar::Chunks => format!("data: {body}\n\n"),
            // OpenAI's SDKs raise on `error`; Codex knows only the event before it.
            Grammar::Responses => {
                let failed = self.failed_response(body.as_bytes()).unwrap_or_default();
                let number = self.events + u64::from(!failed.is_empty());
                let head = format!("\"type\":\"error\",\"sequence_number\":{number}");
                format!("{failed}event: error\ndata: {{{head},{}\n\n", &body[1..])
            }
            Grammar::Messages => format!("event: error\ndata: {body}\n\n"),
            Grammar::Native => format!("{body}\n"),
        })
    }

    /// The event of OpenAI's Responses API for the error in `body`, once there is a response to fail; it says
    /// no more of that.
    fn failed_response(&self, body: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Enveloped<'a> {
            #[serde(borrow)]
            error: Envelope<'a>,
        }
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(borrow)]
            message: Cow<'a, str>,
            #[serde(borrow, default)]
            code: Option<Cow<'a, str>>,
        }
        let id = self.response.as_deref()?;
        let Enveloped { error } = serde_json::from_slice(body).ok()?;
        let code = error.code.as_deref().unwrap_or("server_error");
        let error = json!({ "code": code, "message": error.message });
        let response = json!({
            "id": id, "object": "response", "status": "failed", "error": error, "output": [],
        });
        let data = json!({
            "type": "response.failed", "sequence_number": self.events, "response": response,
        });
        Some(format!("event: response.failed\ndata: {data}\n\n"))
    }
}

fn response_id(created: &[u8]) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Created {
        response: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        id: Box<str>,
    }
    serde_json::from_slice::<Created>(created).ok().map(|created| created.response.id)
}

/// What such an event says.
fn why_failed(data: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Failed<'a> {
        #[serde(borrow)]
        response: MaybeError<'a>,
    }
    let failed = serde_json::from_slice::<Failed<'_>>(data).ok();
    let message = failed.and_then(|failed| failed.response.message());
    message.unwrap_or_else(|| "the upstream reported that the response failed".into())
}

/// Whether a chunk shows that its stream has more than one choice.
fn is_of_several(data: &[u8]) -> bool {
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return false };
    let choices = chunk.choices.unwrap_or_default();
    choices.len() > 1 || choices.iter().any(|choice| choice.index.unwrap_or(0) > 0)
}

/// After a key: whether its value is a string with something in it.
fn is_set(after_key: &[u8]) -> bool {
    value_after(after_key)
        .is_some_and(|value| value.starts_with(b"\"") && !value.starts_with(b"\"\""))
}

fn is_true(after_key: &[u8]) -> bool {
    value_after(after_key).is_some_and(|value| value.starts_with(b"true"))
}

fn value_after(after_key: &[u8]) -> Option<&[u8]> {
    Some(after_key.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start())
}

/// The same event with `"usage":null`, as OpenAI's chunks have it. Its other lines stay; each line of
/// data has its own `data:` (WHATWG HTML, 9.2.6).
fn without_usage(event: &Event<'_>) -> Verdict {
    #[derive(Deserialize)]
    struct RawUsage<'a> {
        #[serde(borrow)]
        usage: &'a RawValue,
    }
    let data = &*event.data;
    let Ok(raw) = serde_json::from_slice::<RawUsage<'_>>(data) else { return Verdict::Pass };
    let start = raw.usage.get().as_ptr() as usize - data.as_ptr() as usize;
    let end = start + raw.usage.get().len();
    let data = [&data[..start], b"null", &data[end..]].concat();
    let mut out = Vec::with_capacity(event.unit.len() + 16);
    let lines = event.unit.split(|byte| matches!(byte, b'\n' | b'\r'));
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with(b"data:")) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    for line in data.split(|byte| *byte == b'\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
    Verdict::Replace(Bytes::from(out))
}

/// An SSE event's name and data.
struct Event<'a> {
    /// All of it as it came.
    unit: &'a [u8],
    name: Option<&'a [u8]>,
    data: Cow<'a, [u8]>,
}

impl<'a> Event<'a> {
    /// `None` for comments and events without data.
    fn parse(unit: &'a [u8]) -> Option<Self> {
        let (mut name, mut data): (_, Option<Cow<'a, [u8]>>) = (None, None);
        let mut rest = unit;
        while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if let Some(value) = line.strip_prefix(b"data:") {
                let value = value.strip_prefix(b" ").unwrap_or(value);
                data = Some(match data {
                    None => Cow::Borrowed(value),
                    Some(before) => Cow::Owned([&*before, b"\n", value].concat()),
                });
            } else if let Some(value) = line.strip_prefix(b"event:") {
                name = Some(value.trim_ascii());
            }
        }
        data.map(|data| Self { unit, name, data })
    }
}

#[cfg(test)]
mod tests;
