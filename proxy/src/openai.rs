//! OpenAI's wire types, as far as the gateway acts on them. Everything else passes as bytes.

use std::borrow::Cow;

use http::StatusCode;
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::http1::Fields;

/// What `Authorization: Bearer` presents; the scheme's case does not matter (RFC 9110, 11.1).
#[must_use]
pub fn bearer(client: &Fields) -> Option<&[u8]> {
    let (scheme, token) = client.get("authorization")?.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

/// One entry of `GET /v1/models`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Model {
    /// The name to ask for.
    pub id: String,
    /// Always `model`.
    #[serde(default = "model_object")]
    pub object: String,
    /// Unix time; 0 where unknown.
    #[serde(default)]
    pub created: i64,
    /// Who offers it.
    #[serde(default)]
    pub owned_by: String,
}

fn model_object() -> String {
    "model".into()
}

/// `GET /v1/models` as servers really answer it: Ollama sends `null` when it has none.
#[derive(Debug, Deserialize)]
pub struct ModelListIn {
    /// The models.
    pub data: Option<Vec<Model>>,
}

/// `GET /v1/models` as the gateway answers it.
#[derive(Debug, Serialize)]
pub struct ModelList {
    /// Always `list`.
    pub object: &'static str,
    /// The models; never null.
    pub data: Vec<Model>,
}

/// Token counts of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer.
    pub completion_tokens: Option<u64>,
}

impl<'de> Deserialize<'de> for Usage {
    /// Some servers give their counts under the names of both OpenAI interfaces at once.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Names {
            prompt_tokens: Option<u64>,
            completion_tokens: Option<u64>,
            input_tokens: Option<u64>,
            output_tokens: Option<u64>,
        }
        let names = Names::deserialize(deserializer)?;
        Ok(Self {
            prompt_tokens: names.prompt_tokens.or(names.input_tokens),
            completion_tokens: names.completion_tokens.or(names.output_tokens),
        })
    }
}

/// The parts of a stream chunk that tell whether anything was generated yet.
#[derive(Debug, Deserialize)]
pub struct Chunk<'a> {
    /// One entry a choice; may be empty or missing.
    #[serde(borrow, default)]
    pub choices: Option<Vec<ChunkChoice<'a>>>,
    /// Token counts; null or missing in most chunks.
    #[serde(borrow, default)]
    pub usage: Option<&'a RawValue>,
}

/// One choice of a stream chunk, of chat or of legacy completions.
#[derive(Debug, Deserialize)]
pub struct ChunkChoice<'a> {
    /// Which choice it is.
    #[serde(default)]
    pub index: Option<u64>,
    /// What chat generated.
    #[serde(borrow, default)]
    pub delta: Option<Delta<'a>>,
    /// What legacy completions generated.
    #[serde(borrow, default)]
    pub text: Option<Cow<'a, str>>,
    /// Set on the last chunk of the choice.
    #[serde(borrow, default)]
    pub finish_reason: Option<Cow<'a, str>>,
}

/// What one chunk of chat adds.
#[derive(Debug, Deserialize)]
pub struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    refusal: Option<Cow<'a, str>>,
    #[serde(default)]
    tool_calls: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    function_call: Option<IgnoredAny>,
}

impl Usage {
    /// Tokens of prompt and answer.
    #[must_use]
    pub fn total(&self) -> u64 {
        let all = [self.prompt_tokens, self.completion_tokens];
        all.into_iter().flatten().fold(0, u64::saturating_add)
    }
}

impl Chunk<'_> {
    /// Whether the chunk carries anything generated: a role alone, or empty text, is not content.
    #[must_use]
    pub fn has_content(&self) -> bool {
        self.choices.as_deref().unwrap_or_default().iter().any(|choice| {
            filled(choice.finish_reason.as_ref())
                || filled(choice.text.as_ref())
                || choice.delta.as_ref().is_some_and(Delta::has_content)
        })
    }

    /// Whether the chunk has no choice at all, as the one that only reports usage.
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.choices.as_ref().is_none_or(Vec::is_empty)
    }
}

impl Delta<'_> {
    fn has_content(&self) -> bool {
        [&self.content, &self.reasoning, &self.reasoning_content, &self.refusal]
            .into_iter()
            .any(|text| filled(text.as_ref()))
            || self.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty())
            || self.function_call.is_some()
    }
}

fn filled(text: Option<&Cow<'_, str>>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

/// Any body that may be an error: OpenAI's envelope, or `{"error":"text"}` as some servers send.
#[derive(Debug, Deserialize)]
pub struct MaybeError<'a> {
    /// Object, string, null or missing.
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

impl MaybeError<'_> {
    /// Whether an SDK would raise on it: present and not null, false, zero or empty.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.error.is_some_and(|raw| !matches!(raw.get(), "null" | "false" | "0" | "\"\"" | "{}"))
    }

    /// The text for a person, from whichever shape the error has.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Object {
            message: Option<String>,
        }
        let raw = self.error?.get();
        let text = serde_json::from_str::<String>(raw)
            .ok()
            .or_else(|| serde_json::from_str::<Object>(raw).ok()?.message)?;
        // Ollama passes on what its runner says as the text it is, an envelope of its own.
        let within = serde_json::from_str::<MaybeError<'_>>(&text).ok();
        Some(within.and_then(|error| error.message()).unwrap_or(text))
    }
}

/// A person's text for an error answer, in whatever shape it is.
#[must_use]
pub fn error_text(body: &[u8], status: StatusCode) -> String {
    let parsed = serde_json::from_slice::<MaybeError<'_>>(body).ok();
    parsed.and_then(|error| error.message()).filter(|text| !text.is_empty()).unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        let text: String = text.trim().chars().take(300).collect();
        if text.is_empty() || text.starts_with('<') {
            format!("the upstream answered with status {}", status.as_u16())
        } else {
            text
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_within_an_errors_text_is_read() {
        let told = |body: &str| error_text(body.as_bytes(), StatusCode::BAD_REQUEST);
        assert_eq!(
            told(r#"{"error":"{\"error\":{\"code\":400,\"message\":\"too long\"}}"}"#),
            "too long"
        );
        assert_eq!(told(r#"{"error":{"message":"{\"error\":\"a\"}"}}"#), "a");
        assert_eq!(told(r#"{"error":"{\"a\":1}"}"#), r#"{"a":1}"#);
    }

    fn content(json: &str) -> bool {
        serde_json::from_str::<Chunk<'_>>(json).expect("chunk").has_content()
    }

    #[test]
    fn a_role_or_empty_text_is_not_content() {
        assert!(!content(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#));
        assert!(!content(r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#));
        assert!(!content(r#"{"choices":[]}"#));
        assert!(!content(r#"{"choices":null}"#));
        assert!(content(r#"{"choices":[{"delta":{"content":"x"}}]}"#));
        assert!(content(r#"{"choices":[{"delta":{"content":"","reasoning":"x"}}]}"#));
        assert!(content(r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#));
        assert!(content(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#));
        assert!(content(r#"{"choices":[{"text":"x"}]}"#));
    }

    #[test]
    fn errors_of_every_shape_are_seen() {
        let parse =
            |json: &'static str| serde_json::from_str::<MaybeError<'_>>(json).expect("JSON");
        assert_eq!(parse(r#"{"error":"boom"}"#).message().as_deref(), Some("boom"));
        let object = parse(r#"{"error":{"message":"boom","code":500}}"#);
        assert!(object.is_error());
        assert_eq!(object.message().as_deref(), Some("boom"));
        assert!(!parse(r#"{"error":null}"#).is_error());
        assert!(!parse(r#"{"choices":[]}"#).is_error());
    }
}
