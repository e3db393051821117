//! A native answer to a response of OpenAI's.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::value::RawValue;

use super::super::answer::{EMPTY, Line, ToolCall};
use super::super::json;
use super::super::{About, Form};
use super::echo::with_echo;

/// Translates a whole native answer.
///
/// # Errors
/// A text saying that it is not one of Ollama's.
pub fn response(line: &Line<'_>, about: &About) -> Result<Vec<u8>, String> {
    let (said, calls) = (line.content()?, line.tool_calls(0)?);
    let ids = Ids::of(about);
    let end = End::of(line);
    let mut output: Vec<Box<RawValue>> = Vec::new();
    if let Some(thought) = line.thinking()? {
        output.push(json::raw(&Item::reasoning(&ids.of_item("rs", 0), Some(thought))));
    }
    if said.get() != EMPTY || calls.is_empty() {
        let id = ids.of_item("msg", output.len());
        output.push(json::raw(&Item::message(&id, end.status(), Some(&said))));
    }
    for call in &calls {
        let id = ids.of_item("fc", output.len());
        output.push(json::raw(&Item::call(&id, "completed", call, &call.function.arguments)));
    }
    let mut out = whole(about, &output, Some(&end)).get().as_bytes().to_vec();
    out.push(b'\n');
    Ok(out)
}

/// A response with the items of `output`; without an `end`, it has only begun.
pub(super) fn whole(about: &About, output: &[Box<RawValue>], end: Option<&End>) -> Box<RawValue> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let completed = end.filter(|end| !end.cut);
    let reason = end.filter(|end| end.cut).map(|_| Reason { reason: "max_output_tokens" });
    Head {
        completed_at: completed.map(|_| now.max(about.form.created())),
        status: end.map_or("in_progress", End::status),
        incomplete_details: reason,
        usage: end.map(|end| end.usage),
        ..Head::new(about, output)
    }
    .with_echo(about)
}

/// A response that failed with `error`, an upstream's.
pub(super) fn failed(about: &About, output: &[Box<RawValue>], error: &RawValue) -> Box<RawValue> {
    let message = json::text(error).unwrap_or_else(|| Cow::Borrowed(error.get()));
    let error = Some(Fault { code: "server_error", message });
    Head { status: "failed", error, ..Head::new(about, output) }.with_echo(about)
}

/// Names of items, unlike those of other responses.
pub(super) struct Ids<'a>(&'a str);

impl<'a> Ids<'a> {
    pub fn of(about: &'a About) -> Self {
        Self(about.id.rsplit_once('_').map_or(&*about.id, |(_, id)| id))
    }

    /// That of the item at `index`.
    pub fn of_item(&self, kind: &str, index: usize) -> String {
        format!("{kind}_{}_{index}", self.0)
    }
}

/// How an answer ended.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// It has as many tokens as it may have.
    cut: bool,
    usage: Usage,
}

impl End {
    pub fn of(line: &Line<'_>) -> Self {
        let (input, output) = (line.prompt_eval_count, line.eval_count);
        let (input_tokens, output_tokens) = (input.unwrap_or(0), output.unwrap_or(0));
        let usage = Usage {
            input_tokens,
            output_tokens,
            total_tokens: input_tokens.saturating_add(output_tokens),
            input_tokens_details: Cached { cached_tokens: 0 },
            output_tokens_details: Reasoned { reasoning_tokens: 0 },
        };
        Self { cut: line.done_reason.as_deref() == Some("length"), usage }
    }

    /// What it leaves the response in, and the item that was being written.
    pub fn status(&self) -> &'static str {
        if self.cut { "incomplete" } else { "completed" }
    }
}

#[derive(Serialize)]
struct Head<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    completed_at: Option<u64>,
    status: &'static str,
    incomplete_details: Option<Reason>,
    model: &'a str,
    output: &'a [Box<RawValue>],
    error: Option<Fault<'a>>,
    usage: Option<Usage>,
}

impl<'a> Head<'a> {
    fn new(about: &'a About, output: &'a [Box<RawValue>]) -> Self {
        Self {
            id: &about.id,
            object: "response",
            created_at: about.form.created(),
            completed_at: None,
            status: "in_progress",
            incomplete_details: None,
            model: &about.model,
            output,
            error: None,
            usage: None,
        }
    }

    fn with_echo(&self, about: &About) -> Box<RawValue> {
        match &about.form {
            Form::Response { echo, .. } => with_echo(self, echo),
            Form::Chat { .. } | Form::Completion { .. } | Form::Message { .. } => json::raw(self),
        }
    }
}

/// Why a response failed.
#[derive(Serialize)]
struct Fault<'a> {
    code: &'static str,
    message: Cow<'a, str>,
}

#[derive(Serialize)]
struct Reason {
    reason: &'static str,
}

/// Tokens that were counted; what was not is 0.
#[derive(Clone, Copy, Serialize)]
struct Usage {
    input_tokens: u64,
    output_tokens: u64,
    total_tokens: u64,
    input_tokens_details: Cached,
    output_tokens_details: Reasoned,
}

#[derive(Clone, Copy, Serialize)]
struct Cached {
    cached_tokens: u64,
}

#[derive(Clone, Copy, Serialize)]
struct Reasoned {
    reasoning_tokens: u64,
}

/// An item of an answer.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Item<'a> {
    Reasoning {
        id: &'a str,
        summary: Vec<Part<'a>>,
        /// For the client to send again: Ollama takes what was thought from there.
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<&'a RawValue>,
    },
    Message {
        id: &'a str,
        status: &'static str,
        role: &'static str,
        content: Vec<Part<'a>>,
    },
    FunctionCall {
        id: &'a str,
        status: &'static str,
        call_id: &'a RawValue,
        name: &'a RawValue,
        arguments: &'a str,
    },
}

impl<'a> Item<'a> {
    /// Thoughts, unless they are yet to come.
    pub fn reasoning(id: &'a str, thought: Option<&'a RawValue>) -> Self {
        let summary = thought.map(|text| Part::SummaryText { text }).into_iter().collect();
        Item::Reasoning { id, summary, encrypted_content: thought }
    }

    /// Words, unless they are yet to come.
    pub fn message(id: &'a str, status: &'static str, words: Option<&'a RawValue>) -> Self {
        let content = words.map(Part::words).into_iter().collect();
        Item::Message { id, status, role: "assistant", content }
    }

    /// A call with as many of its arguments as have come.
    pub fn call(
        id: &'a str,
        status: &'static str,
        call: &'a ToolCall<'_>,
        arguments: &'a str,
    ) -> Self {
        let name = call.function.name;
        Item::FunctionCall { id, status, call_id: &call.id, name, arguments }
    }
}

/// A part of an item.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part<'a> {
    SummaryText { text: &'a RawValue },
    OutputText { text: &'a RawValue, annotations: [(); 0], logprobs: [(); 0] },
}

impl<'a> Part<'a> {
    pub fn words(text: &'a RawValue) -> Self {
        Part::OutputText { text, annotations: [], logprobs: [] }
    }
}
