//! What a response repeats of its request.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::super::json::{self, Keys, compact, members};

/// What is repeated as the client said it, and what stands there where it said nothing.
const REPEATED: [(&str, &str); 12] = [
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("reasoning", "null"),
    ("temperature", "1"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_p", "1"),
    ("truncation", r#""disabled""#),
];
/// What is the same in every response.
const CONSTANT: &str = concat!(
    r#""frequency_penalty":0,"max_tool_calls":null,"presence_penalty":0,"previous_response_id":null,"#,
    r#""prompt_cache_key":null,"safety_identifier":null,"service_tier":"default","store":false,"#,
    r#""top_logprobs":0}"#,
);

/// What the response to `body` repeats of it, a JSON object.
#[must_use]
pub fn echo(body: &[u8]) -> Arc<str> {
    let body = String::from_utf8_lossy(body);
    let found = members(&body, Keys::AnyCase, REPEATED.map(|(name, _)| name)).unwrap_or_default();
    let mut out = String::from("{");
    for ((name, default), given) in REPEATED.iter().zip(found) {
        let given = given.map(compact);
        let value = given.as_ref().map_or(*default, |given| given.get());
        out.extend(["\"", name, "\":", value, ","]);
    }
    out.push_str(CONSTANT);
    out.into()
}

/// The JSON object `head` with the members of `echo` after its own.
pub fn with_echo(head: &impl serde::Serialize, echo: &str) -> Box<RawValue> {
    let mut out = Vec::new();
    json::write(head, &mut out);
    // The head's own brace: the echo goes on where it ended.
    out.pop();
    out.push(b',');
    out.extend_from_slice(&echo.as_bytes()[1..]);
    let joined = String::from_utf8(out).unwrap_or_default();
    RawValue::from_string(joined).unwrap_or_default()
}
