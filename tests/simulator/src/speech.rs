//! What the model says to a conversation: one decision for both dialects.

use serde_json::{Value, json};

use crate::faults::Fault;
use crate::models::Settings;

/// Tokens of every prompt, as counted in every answer.
pub(crate) const PROMPT_TOKENS: usize = 11;
/// Id of every tool call.
pub(crate) const CALL_ID: &str = "call_ab12cd34";
/// What a model that thinks says first.
const THOUGHTS: [&str; 2] = ["Let me ", "think. "];
/// What is said where JSON is asked for.
const ANSWER_IN_JSON: &str = "{\"answer\":42}";
/// Most tokens that a request may ask for, where the settings have no more.
const MOST_TOKENS: usize = 1_000_000;
/// Other tokens that may be told of beside one.
const MOST_LOGPROBS: usize = 20;

/// What a request asks for, in whatever words.
struct Asked<'a> {
    tool: Option<&'a Value>,
    json: bool,
    thinks: bool,
    limit: Option<&'a Value>,
    logprobs: bool,
}

/// What the model says.
#[derive(Debug)]
pub(crate) struct Speech {
    /// Thinking, in the pieces of a stream.
    pub(crate) thoughts: &'static [&'static str],
    /// The answer, in the pieces of a stream; none beside a tool call.
    pub(crate) pieces: Vec<String>,
    /// Name of the tool that is called.
    pub(crate) call: Option<Value>,
    /// Tokens said, as counted.
    pub(crate) tokens: usize,
    /// Whether the request's limit cut it.
    pub(crate) cut: bool,
    /// How many other tokens each one's probability comes with, where that is asked for.
    logprobs: Option<usize>,
}

impl Speech {
    /// To `/v1/chat/completions`.
    pub(crate) fn v1(settings: &Settings, request: &Value) -> Self {
        let effort = request["reasoning"]["effort"].as_str();
        let effort = effort.or(request["reasoning_effort"].as_str());
        let format = request["response_format"]["type"].as_str();
        let asked = Asked {
            tool: request["tools"].get(0),
            json: format.is_some_and(|kind| kind != "text"),
            thinks: effort.is_some_and(|effort| effort != "none"),
            limit: request.get("max_tokens"),
            logprobs: request["logprobs"] == json!(true),
        };
        Self::new(settings, &asked, &request["top_logprobs"])
    }

    /// To `/api/chat` and `/api/generate`.
    pub(crate) fn native(settings: &Settings, request: &Value) -> Self {
        let asked = Asked {
            tool: request["tools"].get(0),
            json: request["format"] == json!("json") || request["format"].is_object(),
            thinks: request["think"] == json!(true) || request["think"].is_string(),
            limit: request["options"].get("num_predict"),
            logprobs: request["logprobs"] == json!(true),
        };
        Self::new(settings, &asked, &request["top_logprobs"])
    }

    fn new(settings: &Settings, asked: &Asked, top: &Value) -> Self {
        let tokens = count(settings, asked.limit);
        let call = asked.tool.map(|tool| tool["function"]["name"].clone());
        let spoken = call.is_none() && !asked.json;
        let pieces = match &call {
            Some(_) => Vec::new(),
            None if asked.json => vec![ANSWER_IN_JSON.to_owned()],
            None => (0..tokens).map(word).collect(),
        };
        let top = top.as_u64().and_then(|top| usize::try_from(top).ok()).unwrap_or(0);
        Self {
            thoughts: if asked.thinks { &THOUGHTS } else { &[] },
            pieces,
            call,
            tokens,
            cut: spoken && tokens < settings.tokens,
            logprobs: asked.logprobs.then_some(top.min(MOST_LOGPROBS)),
        }
    }

    /// Does to a stream what its fault says of a token.
    pub(crate) fn swell(&mut self, fault: &Fault) {
        if let (Fault::HugeToken(length), Some(first)) = (fault, self.pieces.first_mut()) {
            *first = "x".repeat(*length);
        }
    }

    /// The whole answer.
    pub(crate) fn text(&self) -> String {
        self.pieces.concat()
    }

    /// What is passed to the tool.
    pub(crate) fn arguments() -> Value {
        json!({ "city": "Paris" })
    }

    /// Probabilities of some pieces, where they are asked for.
    pub(crate) fn logprobs(&self, pieces: &[String]) -> Option<Value> {
        let others = self.logprobs?;
        let told = |token: &str, logprob: f64| json!({ "token": token, "logprob": logprob, "bytes": token.as_bytes() });
        let each = pieces.iter().map(|piece| {
            let mut one = told(piece, -0.1);
            let top = (0..others).map(|other| match other {
                0 => told(piece, -0.1),
                _ => told(&format!(" {other}"), -3.0 - other as f64),
            });
            let top: Vec<Value> = top.collect();
            if !top.is_empty() {
                one["top_logprobs"] = json!(top);
            }
            one
        });
        (!pieces.is_empty()).then(|| each.collect())
    }
}

/// One token of the answer every prompt gets.
pub(crate) fn word(index: usize) -> String {
    const WORDS: [&str; 8] = ["The", " answer", " is", " forty", "-two", ",", " naturally", "."];
    WORDS[index % WORDS.len()].to_owned()
}

/// Tokens of an answer under a request's limit.
pub(crate) fn count(settings: &Settings, limit: Option<&Value>) -> usize {
    let limit = limit.and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(settings.tokens, |limit| limit.min(settings.tokens.max(MOST_TOKENS)))
}

/// Words of a prompt, in whatever request: the simulator's measure of what a context holds.
pub(crate) fn words(request: &Value) -> u64 {
    let count = |text: &Value| {
        let words = text.as_str().map_or(0, |text| text.split_whitespace().count());
        words as u64
    };
    let content = |content: &Value| match content {
        Value::Array(parts) => parts.iter().map(|part| count(&part["text"])).sum(),
        text => count(text),
    };
    let messages = request["messages"].as_array().into_iter().chain(request["input"].as_array());
    let messages: u64 = messages.flatten().map(|message| content(&message["content"])).sum();
    let rest = ["prompt", "system", "input", "instructions"];
    messages + rest.iter().map(|name| count(&request[*name])).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_dialects_get_the_same_answer() {
        let settings = Settings::default();
        let tools = json!([{ "type": "function", "function": { "name": "weather" } }]);
        for (v1, native) in [
            (json!({}), json!({})),
            (json!({ "tools": tools }), json!({ "tools": tools })),
            (json!({ "reasoning_effort": "high" }), json!({ "think": "high" })),
            (json!({ "reasoning_effort": "none" }), json!({ "think": false })),
            (json!({ "response_format": { "type": "json_object" } }), json!({ "format": "json" })),
            (
                json!({ "response_format": { "type": "json_schema", "json_schema": {} } }),
                json!({ "format": { "type": "object" } }),
            ),
            (json!({ "max_tokens": 3 }), json!({ "options": { "num_predict": 3 } })),
            (
                json!({ "logprobs": true, "top_logprobs": 2 }),
                json!({ "logprobs": true, "top_logprobs": 2 }),
            ),
        ] {
            let (ours, theirs) = (Speech::v1(&settings, &v1), Speech::native(&settings, &native));
            assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{v1}");
        }
    }

    #[test]
    fn only_a_limit_below_the_answers_length_cuts_it() {
        let settings = Settings::default();
        let cut = |limit: u64| {
            Speech::native(&settings, &json!({ "options": { "num_predict": limit } })).cut
        };
        assert!(cut(7) && !cut(8) && !cut(9));
    }

    #[test]
    fn the_words_of_a_prompt_are_those_of_its_texts() {
        let request = json!({
            "model": "not counted", "system": "one two",
            "messages": [
                { "role": "user", "content": "three four" },
                { "role": "user", "content": [
                    { "type": "text", "text": "five" },
                    { "type": "image_url", "image_url": { "url": "data:a b c" } },
                ] },
            ],
        });
        assert_eq!(words(&request), 5);
    }
}
