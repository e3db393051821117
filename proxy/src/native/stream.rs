//! Native lines to the server-sent events of a chat completion.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::About;
use super::answer::{EMPTY, FINGERPRINT, Line, Logprobs, ToolCall, Usage, finish_reason, logprobs};
use super::json::{self, compact, is_string};

/// The longest line taken, in bytes; a tool call's arguments come in one.
const MAX_LINE: usize = 64 * 1024 * 1024;

/// The translator of one stream.
#[derive(Debug)]
pub struct Stream {
    about: About,
    /// The beginning of a line whose end has not come.
    pending: Vec<u8>,
    /// The first chunk, the only one with a role, was written.
    begun: bool,
    /// Tool calls written so far.
    calls: u64,
    /// The last line or an error has come: nothing after it counts.
    over: bool,
}

impl Stream {
    /// A translator at the start of a stream.
    #[must_use]
    pub fn new(about: About) -> Self {
        Self { about, pending: Vec::new(), begun: false, calls: 0, over: false }
    }

    /// Appends to `out` the events of the lines that `part` completes.
    ///
    /// An error the upstream reports becomes an event, and nothing follows it.
    ///
    /// # Errors
    /// When a line is not one of Ollama's, or too long: the stream is of no more use.
    pub fn push(&mut self, mut part: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        while let Some(end) = part.iter().position(|&b| b == b'\n') {
            let (line, rest) = part.split_at(end);
            part = &rest[1..];
            self.hold(line)?;
            let line = std::mem::take(&mut self.pending);
            self.line(&line, out)?;
        }
        self.hold(part)
    }

    /// Ends the stream. Without a last line there is no finish and no `[DONE]`: whoever reads `out`
    /// must see that it was cut off.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.pending);
        let start = out.len();
        // A line that ended with the stream may be whole; if it is not, it was cut off.
        if self.line(&line, out).is_err() {
            out.truncate(start);
        }
        self.over = true;
    }

    fn hold(&mut self, part: &[u8]) -> Result<(), String> {
        if self.over {
            return Ok(());
        }
        if self.pending.len() + part.len() > MAX_LINE {
            self.over = true;
            self.pending = Vec::new();
            return Err("a line of the upstream's stream is too long".into());
        }
        self.pending.extend_from_slice(part);
        Ok(())
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if self.over || line.trim_ascii().is_empty() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(line);
        let line = Line::parse(&text).inspect_err(|_| self.over = true)?;
        if let Some(error) = line.error {
            self.over = true;
            failure(error, out);
            return Ok(());
        }
        self.content(&line, out)?;
        if line.done {
            self.over = true;
            self.finish(&line, out);
        }
        Ok(())
    }

    /// The chunks of what a line adds: thoughts apart from what they lead to.
    fn content(&mut self, line: &Line<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let content = line.content()?;
        let reasoning = line.thinking()?;
        let tool_calls = line.tool_calls(self.calls)?;
        let mut logprobs = logprobs(line.logprobs);
        let says = content.get() != EMPTY || !tool_calls.is_empty();
        if line.done && self.begun && !says && reasoning.is_none() && logprobs.is_none() {
            return Ok(());
        }
        self.calls += tool_calls.len() as u64;
        let mut role = (!std::mem::replace(&mut self.begun, true)).then_some("assistant");
        let mut delta = Delta { role, content: Some(content), reasoning, tool_calls };
        if says && reasoning.is_some() {
            let thought = Delta { role: role.take(), reasoning, ..Delta::default() };
            self.chunk(thought, None, logprobs.take(), out);
            (delta.role, delta.reasoning) = (None, None);
        }
        self.chunk(delta, None, logprobs, out);
        Ok(())
    }

    fn finish(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        let reason = line.done_reason.as_deref().filter(|reason| !reason.is_empty());
        let reason = finish_reason(reason.unwrap_or("stop"), self.calls > 0);
        self.chunk(Delta::default(), Some(reason), None, out);
        if self.about.include_usage {
            let usage = Usage::of(line.prompt_eval_count, line.eval_count);
            self.event(Vec::new(), Some(usage), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn chunk(
        &self,
        delta: Delta<'_>,
        finish_reason: Option<&str>,
        logprobs: Option<Logprobs<'_>>,
        out: &mut Vec<u8>,
    ) {
        self.event(vec![Choice { index: 0, delta, finish_reason, logprobs }], None, out);
    }

    fn event(&self, choices: Vec<Choice<'_>>, usage: Option<Usage>, out: &mut Vec<u8>) {
        let chunk = Chunk {
            id: &self.about.id,
            object: "chat.completion.chunk",
            created: self.about.created,
            model: &self.about.model,
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
        };
        event(&chunk, out);
    }
}

fn event(data: &impl Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    json::write(data, out);
    out.extend_from_slice(b"\n\n");
}

/// The event that makes an SDK raise.
fn failure(error: &RawValue, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Failure<'a> {
        error: Envelope<'a>,
    }
    #[derive(Serialize)]
    struct Envelope<'a> {
        message: Cow<'a, RawValue>,
        r#type: &'static str,
        param: Option<()>,
        code: Option<()>,
    }
    let message = if is_string(error) {
        Cow::Borrowed(error)
    } else {
        Cow::Owned(json::raw(&compact(error).get()))
    };
    event(
        &Failure { error: Envelope { message, r#type: "api_error", param: None, code: None } },
        out,
    );
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u64,
    delta: Delta<'a>,
    finish_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Logprobs<'a>>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
}
