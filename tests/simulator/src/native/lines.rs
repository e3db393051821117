//! The lines of `/api/chat` and `/api/generate`.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::World;
use crate::scheduler::{Place, rfc3339};
use crate::speech::{CALL_ID, PROMPT_TOKENS, Speech};

/// Shortest time told of any step; no step takes none.
const SHORTEST: Duration = Duration::from_millis(1);

/// Who answers, and in which of the two shapes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape<'a> {
    pub(super) model: &'a str,
    pub(super) chat: bool,
}

/// What a line carries.
#[derive(Debug, Default)]
struct Words<'a> {
    text: &'a str,
    thinking: &'a str,
    calls: Option<Value>,
    logprobs: Option<Value>,
}

impl Shape<'_> {
    fn line(self, words: Words) -> Value {
        let mut said = serde_json::Map::new();
        if !words.thinking.is_empty() {
            said.insert("thinking".into(), json!(words.thinking));
        }
        if let Some(calls) = words.calls {
            said.insert("tool_calls".into(), calls);
        }
        let mut line = if self.chat {
            said.insert("role".into(), json!("assistant"));
            said.insert("content".into(), json!(words.text));
            json!({ "message": said })
        } else {
            said.insert("response".into(), json!(words.text));
            Value::Object(said)
        };
        line["model"] = json!(self.model);
        line["created_at"] = json!(rfc3339(SystemTime::now()));
        line["done"] = json!(false);
        if let Some(logprobs) = words.logprobs {
            line["logprobs"] = logprobs;
        }
        line
    }

    /// The answer to a request that only loads or unloads.
    pub(super) fn empty(self, reason: &str) -> Value {
        let mut line = self.line(Words::default());
        line["done"] = json!(true);
        line["done_reason"] = json!(reason);
        line
    }

    /// The lines of a stream before its last.
    pub(super) fn stream(self, speech: &Speech) -> Vec<Value> {
        let thinking = speech.thoughts.iter();
        let thinking =
            thinking.map(|thought| self.line(Words { thinking: thought, ..Words::default() }));
        let calls =
            calls(speech).map(|calls| self.line(Words { calls: Some(calls), ..Words::default() }));
        let pieces = speech.pieces.iter().map(|piece| {
            let logprobs = speech.logprobs(std::slice::from_ref(piece));
            self.line(Words { text: piece, logprobs, ..Words::default() })
        });
        thinking.chain(calls).chain(pieces).collect()
    }

    /// The last line of a stream.
    pub(super) fn last(self, speech: &Speech, figures: &Figures) -> Value {
        self.ended(Words::default(), speech, figures)
    }

    /// The whole answer in one line.
    pub(super) fn whole(self, speech: &Speech, figures: &Figures) -> Value {
        let (text, thinking) = (speech.text(), speech.thoughts.concat());
        let (calls, logprobs) = (calls(speech), speech.logprobs(&speech.pieces));
        let words = Words { text: &text, thinking: &thinking, calls, logprobs };
        self.ended(words, speech, figures)
    }

    fn ended(self, words: Words, speech: &Speech, figures: &Figures) -> Value {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut line = self.line(words);
        line["done"] = json!(true);
        line["done_reason"] = json!(if speech.cut { "length" } else { "stop" });
        line["total_duration"] = json!(nanoseconds(figures.load + figures.prompt + figures.eval));
        line["load_duration"] = json!(nanoseconds(figures.load));
        line["prompt_eval_count"] = json!(PROMPT_TOKENS);
        line["prompt_eval_duration"] = json!(nanoseconds(figures.prompt));
        line["eval_count"] = json!(speech.tokens);
        line["eval_duration"] = json!(nanoseconds(figures.eval));
        line
    }
}

/// How long the steps of a request take, at the pace of its beginning.
#[derive(Debug)]
pub(super) struct Figures {
    load: Duration,
    prompt: Duration,
    eval: Duration,
}

impl Figures {
    pub(super) fn of(world: &World, place: &Place, speech: &Speech) -> Self {
        let tokens = u32::try_from(speech.tokens).unwrap_or(u32::MAX);
        Self {
            load: place.load_time.max(SHORTEST),
            prompt: world.settings.first_token.max(SHORTEST),
            eval: world.pace.interval().saturating_mul(tokens).max(SHORTEST * 3),
        }
    }
}

/// A tool call, whose arguments are no text here.
fn calls(speech: &Speech) -> Option<Value> {
    let name = speech.call.as_ref()?;
    let function = json!({ "index": 0, "name": name, "arguments": Speech::arguments() });
    Some(json!([{ "id": CALL_ID, "function": function }]))
}
