//! A native answer to a message of Anthropic's.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::super::About;
use super::super::answer::{EMPTY, Line};
use super::super::json;

/// Translates a whole native answer.
///
/// # Errors
/// A text saying that it is not one of Ollama's.
pub fn message(line: &Line<'_>, about: &About) -> Result<Vec<u8>, String> {
    let (said, calls) = (line.content()?, line.tool_calls(0)?);
    let mut content: Vec<Block<'_>> = Vec::new();
    if let Some(thinking) = line.thinking()? {
        content.push(Block::Thinking { thinking, signature: "" });
    }
    if said.get() != EMPTY {
        content.push(Block::Text { text: said });
    }
    let stop = stop_reason(line, !calls.is_empty());
    for call in calls {
        // Calls have arguments that are JSON.
        let input = RawValue::from_string(call.function.arguments).unwrap_or_default();
        content.push(Block::ToolUse { id: call.id, name: call.function.name, input });
    }
    let message = Message::new(about, content, stop, Usage::of(line));
    let mut out = Vec::new();
    json::write(&message, &mut out);
    out.push(b'\n');
    Ok(out)
}

/// Why it ended, as Anthropic says it.
pub(super) fn stop_reason(line: &Line<'_>, called: bool) -> Option<&'static str> {
    match (called, line.done_reason.as_deref()) {
        (true, _) => Some("tool_use"),
        (false, Some("stop")) => Some("end_turn"),
        (false, Some("length")) => Some("max_tokens"),
        (false, None | Some("")) => None,
        (false, Some(_)) => Some("stop_sequence"),
    }
}

/// A message, or the beginning of one.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<()>,
    usage: Usage,
}

impl<'a> Message<'a> {
    pub fn new(
        about: &'a About,
        content: Vec<Block<'a>>,
        stop_reason: Option<&'static str>,
        usage: Usage,
    ) -> Self {
        Self {
            id: &about.id,
            r#type: "message",
            role: "assistant",
            model: &about.model,
            content,
            stop_reason,
            stop_sequence: None,
            usage,
        }
    }
}

/// A part of a message.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Thinking { thinking: &'a RawValue, signature: &'static str },
    Text { text: Cow<'a, RawValue> },
    ToolUse { id: Cow<'a, RawValue>, name: &'a RawValue, input: Box<RawValue> },
}

/// Tokens that were counted; what was not is 0.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

impl Usage {
    pub fn of(line: &Line<'_>) -> Self {
        let (input, output) = (line.prompt_eval_count, line.eval_count);
        Self { input_tokens: input.unwrap_or(0), output_tokens: output.unwrap_or(0) }
    }
}
