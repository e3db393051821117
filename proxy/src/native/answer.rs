//! A native answer, or one line of it; whole, to OpenAI's form.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::{self, compact, is_string};
use super::{About, Form, anthropic, completions, responses};

/// Translates a whole native answer (status 200).
///
/// # Errors
/// The answer's own error, or a text saying that it is not one of Ollama's.
pub fn whole(native: &[u8], about: &About) -> Result<Vec<u8>, String> {
    let native = String::from_utf8_lossy(native);
    let line = Line::parse(&native)?;
    if let Some(error) = line.error {
        let text = json::text(error);
        return Err(text.map_or_else(|| error.get().to_owned(), Cow::into_owned));
    }
    match about.form {
        Form::Chat { .. } => completion(&line, about),
        Form::Message { .. } => anthropic::answer::message(&line, about),
        Form::Response { .. } => responses::answer::response(&line, about),
        Form::Completion { .. } => completions::completion(&line, about),
    }
}

fn completion(line: &Line<'_>, about: &About) -> Result<Vec<u8>, String> {
    let tool_calls = line.tool_calls(0)?;
    let message = Message {
        role: line.role(),
        content: line.content()?,
        reasoning: line.thinking()?,
        tool_calls,
    };
    let reason = line.done_reason.as_deref().filter(|reason| !reason.is_empty());
    let finish_reason = reason.map(|reason| finish_reason(reason, !message.tool_calls.is_empty()));
    let logprobs = logprobs(line.logprobs);
    let completion = Completion {
        id: &about.id,
        object: "chat.completion",
        created: about.form.created(),
        model: &about.model,
        system_fingerprint: FINGERPRINT,
        choices: [Choice { index: 0, message, finish_reason, logprobs }],
        usage: Usage::of(line.prompt_eval_count, line.eval_count),
        _debug_info: line._debug_info,
    };
    let mut out = Vec::new();
    json::write(&completion, &mut out);
    out.push(b'\n');
    Ok(out)
}

/// What Ollama's `/v1` says of itself.
pub(super) const FINGERPRINT: &str = "fp_ollama";

/// An empty JSON string.
pub(super) const EMPTY: &str = r#""""#;

/// A line of a native stream, or a whole native answer.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<NativeMessage<'a>>,
    /// What `/api/generate` has in place of a message.
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(default)]
    pub done: bool,
    #[serde(borrow, default)]
    pub done_reason: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub logprobs: Option<&'a RawValue>,
    #[serde(default)]
    pub prompt_eval_count: Option<u64>,
    #[serde(default)]
    pub eval_count: Option<u64>,
    #[serde(borrow, default)]
    pub _debug_info: Option<&'a RawValue>,
}

/// The message, or what a line adds to it.
#[derive(Deserialize)]
struct NativeMessage<'a> {
    #[serde(borrow, default)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<NativeCall<'a>>>,
}

#[derive(Deserialize)]
struct NativeCall<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    function: NativeFunction<'a>,
}

#[derive(Deserialize)]
struct NativeFunction<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

impl<'a> Line<'a> {
    /// Reads a line; one that is no error has a message or a response.
    pub fn parse(line: &'a str) -> Result<Self, String> {
        let wrong = |why: &str| format!("the upstream sent no answer of Ollama's: {why}");
        if !line.trim_start().starts_with('{') {
            return Err(wrong("not an object"));
        }
        let found: Self = serde_json::from_str(line).map_err(|cause| wrong(&cause.to_string()))?;
        if found.error.is_none() && found.message.is_none() && found.response.is_none() {
            return Err(wrong("no message and no response"));
        }
        Ok(found)
    }

    /// The calls; those without an index are counted from `before`.
    pub fn tool_calls(&self, before: u64) -> Result<Vec<ToolCall<'a>>, String> {
        let message = self.message.as_ref();
        let calls = message.and_then(|message| message.tool_calls.as_deref()).unwrap_or_default();
        calls.iter().zip(before..).map(|(call, index)| ToolCall::of(call, index)).collect()
    }

    fn role(&self) -> Cow<'a, str> {
        let role = self.message.as_ref().and_then(|message| message.role.clone());
        role.unwrap_or("assistant".into())
    }

    /// The text, empty when there is none.
    pub fn content(&self) -> Result<Cow<'a, RawValue>, String> {
        let content = self.message.as_ref().and_then(|message| message.content);
        match content.or(self.response) {
            None => Ok(Cow::Owned(json::raw(&""))),
            Some(content) => string("content", content).map(Cow::Borrowed),
        }
    }

    /// What the model thought, unless that is nothing.
    pub fn thinking(&self) -> Result<Option<&'a RawValue>, String> {
        let thinking = self.message.as_ref().and_then(|message| message.thinking);
        let thinking = thinking.filter(|text| text.get() != EMPTY);
        thinking.map(|text| string("thinking", text)).transpose()
    }
}

fn string<'a>(field: &str, raw: &'a RawValue) -> Result<&'a RawValue, String> {
    if is_string(raw) { Ok(raw) } else { Err(format!("the upstream's `{field}` is no string")) }
}

/// Tokens that were counted; what was not is 0.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

impl Usage {
    pub fn of(prompt: Option<u64>, completion: Option<u64>) -> Self {
        let (prompt_tokens, completion_tokens) = (prompt.unwrap_or(0), completion.unwrap_or(0));
        let total_tokens = prompt_tokens.saturating_add(completion_tokens);
        Self { prompt_tokens, completion_tokens, total_tokens }
    }
}

/// A call in OpenAI's form.
#[derive(Serialize)]
pub(super) struct ToolCall<'a> {
    pub id: Cow<'a, RawValue>,
    index: u64,
    r#type: &'static str,
    pub function: Function<'a>,
}

#[derive(Serialize)]
pub(super) struct Function<'a> {
    pub name: &'a RawValue,
    /// JSON.
    pub arguments: String,
}

impl<'a> ToolCall<'a> {
    fn of(call: &NativeCall<'a>, index: u64) -> Result<Self, String> {
        let id = call.id.filter(|id| is_string(id) && id.get() != EMPTY);
        let name = string("name", call.function.name)?;
        let arguments = call.function.arguments.map(compact);
        let arguments = arguments.as_ref().map_or("{}", |json| json.get()).to_owned();
        Ok(Self {
            // Older versions of Ollama keep the ids of native answers to themselves.
            id: id.map_or_else(|| Cow::Owned(json::raw(&fresh_id())), Cow::Borrowed),
            index: call.function.index.unwrap_or(index),
            r#type: "function",
            function: Function { name, arguments },
        })
    }
}

/// An id for a call, of the form Ollama gives.
fn fresh_id() -> String {
    const KINDS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let letter = |_| char::from(KINDS[fastrand::usize(..KINDS.len())]);
    "call_".chars().chain((0..8).map(letter)).collect()
}

/// Probabilities of the tokens generated.
#[derive(Clone, Serialize)]
pub(super) struct Logprobs<'a> {
    content: Cow<'a, RawValue>,
}

/// The probabilities, unless there are none.
pub(super) fn logprobs(raw: Option<&RawValue>) -> Option<Logprobs<'_>> {
    let content = compact(raw?);
    (content.get().len() > "[]".len()).then_some(Logprobs { content })
}

/// OpenAI's reason; only an ordinary end is put down to the calls.
pub(super) fn finish_reason(reason: &str, called: bool) -> &str {
    if reason == "stop" && called { "tool_calls" } else { reason }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: [Choice<'a>; 1],
    usage: Usage,
    #[serde(skip_serializing_if = "Option::is_none")]
    _debug_info: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u64,
    message: Message<'a>,
    finish_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Logprobs<'a>>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: Cow<'a, str>,
    content: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
}
