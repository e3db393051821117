//! Native lines to the events of a message of Anthropic's
//! (<https://docs.anthropic.com/en/docs/build-with-claude/streaming>).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::answer::{EMPTY, Line, ToolCall};
use super::super::events;
use super::super::json;
use super::super::{About, Form};
use super::answer::{Block, Message, Usage, stop_reason};

/// Writes the events of one message.
#[derive(Debug)]
pub struct Events {
    about: About,
    /// The message was begun.
    begun: bool,
    /// The block that is open.
    open: Option<Kind>,
    /// Its number, or that of the next.
    index: u64,
    /// A tool was called.
    called: bool,
}

/// What a block is made of, but for calls, which come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Thinking,
    Text,
}

impl Events {
    /// A writer at the start of a message.
    #[must_use]
    pub fn new(about: About) -> Self {
        Self { about, begun: false, open: None, index: 0, called: false }
    }

    /// Appends to `out` the events of what a line adds.
    ///
    /// # Errors
    /// When it is not as Ollama's are.
    pub fn content(&mut self, line: &Line<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let (said, thought, calls) = (line.content()?, line.thinking()?, line.tool_calls(0)?);
        self.begin(out);
        if let Some(thought) = thought {
            self.delta(Kind::Thinking, thought, out);
        }
        if said.get() != EMPTY {
            self.delta(Kind::Text, &said, out);
        }
        calls.iter().for_each(|call| self.call(call, out));
        Ok(())
    }

    /// The events that end a message.
    pub fn finish(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        self.close(out);
        let stop = stop_reason(line, self.called);
        let delta = json!({ "stop_reason": stop, "stop_sequence": null });
        event("message_delta", &Delta { delta, usage: Usage::of(line) }, out);
        event("message_stop", &json!({}), out);
    }

    /// The event that tells of an error.
    pub fn failure(error: &RawValue, out: &mut Vec<u8>) {
        let message = json::text(error).unwrap_or_else(|| Cow::Borrowed(error.get()));
        event("error", &json!({ "error": { "type": "api_error", "message": message } }), out);
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let input_tokens = match self.about.form {
            Form::Message { prompt_tokens } => prompt_tokens,
            Form::Chat { .. } | Form::Completion { .. } | Form::Response { .. } => 0,
        };
        let usage = Usage { input_tokens, output_tokens: 0 };
        #[derive(Serialize)]
        struct Start<'a> {
            message: Message<'a>,
        }
        let message = Message::new(&self.about, Vec::new(), None, usage);
        event("message_start", &Start { message }, out);
    }

    fn delta(&mut self, kind: Kind, words: &RawValue, out: &mut Vec<u8>) {
        if self.open != Some(kind) {
            self.close(out);
            self.open = Some(kind);
            let empty = json::raw(&"");
            let block = match kind {
                Kind::Thinking => Block::Thinking { thinking: &empty, signature: "" },
                Kind::Text => Block::Text { text: Cow::Borrowed(&empty) },
            };
            self.start(block, out);
        }
        let delta = match kind {
            Kind::Thinking => Part::Thinking { thinking: words },
            Kind::Text => Part::Text { text: words },
        };
        event("content_block_delta", &Of { index: self.index, delta }, out);
    }

    fn call(&mut self, call: &ToolCall<'_>, out: &mut Vec<u8>) {
        self.close(out);
        self.called = true;
        // What it is called with follows.
        let (id, name) = (Cow::Borrowed(&*call.id), call.function.name);
        self.start(Block::ToolUse { id, name, input: json::raw(&json!({})) }, out);
        let delta = Part::Input { partial_json: &call.function.arguments };
        event("content_block_delta", &Of { index: self.index, delta }, out);
        self.stop(out);
    }

    fn start(&self, content_block: Block<'_>, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Start<'a> {
            index: u64,
            content_block: Block<'a>,
        }
        event("content_block_start", &Start { index: self.index, content_block }, out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            self.stop(out);
        }
    }

    fn stop(&mut self, out: &mut Vec<u8>) {
        event("content_block_stop", &json!({ "index": self.index }), out);
        self.index += 1;
    }
}

#[derive(Serialize)]
struct Of<T> {
    index: u64,
    delta: T,
}

#[derive(Serialize)]
struct Delta {
    delta: Value,
    usage: Usage,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Part<'a> {
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a RawValue },
    #[serde(rename = "text_delta")]
    Text { text: &'a RawValue },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: &'a str },
}

fn event(name: &'static str, data: &impl Serialize, out: &mut Vec<u8>) {
    events::event(name, None, data, out);
}
