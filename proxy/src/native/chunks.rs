//! Native lines to the chunks of a chat completion.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::answer::{EMPTY, FINGERPRINT, Line, Logprobs, ToolCall, Usage, finish_reason, logprobs};
use super::json::{self, compact, is_string};
use super::{About, Form};

/// Writes the chunks of one completion.
#[derive(Debug)]
pub struct Chunks {
    about: About,
    /// The first chunk, the only one with a role, was written.
    begun: bool,
    /// Tool calls written so far.
    calls: u64,
}

impl Chunks {
    /// A writer at the start of a completion.
    #[must_use]
    pub fn new(about: About) -> Self {
        Self { about, begun: false, calls: 0 }
    }

    /// The chunks of what a line adds: thoughts apart from what they lead to.
    ///
    /// # Errors
    /// When it is not as Ollama's are.
    pub fn content(&mut self, line: &Line<'_>, out: &mut Vec<u8>) -> Result<(), String> {
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

    /// The chunks that end a completion.
    pub fn finish(&self, line: &Line<'_>, out: &mut Vec<u8>) {
        let reason = line.done_reason.as_deref().filter(|reason| !reason.is_empty());
        let reason = finish_reason(reason.unwrap_or("stop"), self.calls > 0);
        self.chunk(Delta::default(), Some(reason), None, out);
        if matches!(self.about.form, Form::Chat { include_usage: true, .. }) {
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
            created: self.about.form.created(),
            model: &self.about.model,
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
        };
        event(&chunk, out);
    }
}

/// The event that makes an SDK raise.
pub fn failure(error: &RawValue, out: &mut Vec<u8>) {
    event(&Failure::of(error), out);
}

/// An error as OpenAI's APIs tell it.
#[derive(Serialize)]
pub(super) struct Failure<'a> {
    error: Envelope<'a>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    message: Cow<'a, RawValue>,
    r#type: &'static str,
    param: Option<()>,
    code: Option<()>,
}

impl<'a> Failure<'a> {
    /// That of an upstream's `error`.
    pub fn of(error: &'a RawValue) -> Self {
        let message = if is_string(error) {
            Cow::Borrowed(error)
        } else {
            Cow::Owned(json::raw(&compact(error).get()))
        };
        Self { error: Envelope { message, r#type: "api_error", param: None, code: None } }
    }
}

pub(super) fn event(data: &impl Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    json::write(data, out);
    out.extend_from_slice(b"\n\n");
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
