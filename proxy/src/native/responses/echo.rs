//! What a response repeats of its request.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::super::json::{self, Keys, compact, members};
use super::no_tools;

/// The longest value repeated, in bytes: each is in the first events and the last, and is held until then.
const MAX_REPEATED: usize = 64 * 1024;
/// What is repeated as the client said it, and what stands there where it said nothing.
const REPEATED: [(&str, &str); 9] = [
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("reasoning", "null"),
    ("temperature", "1"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tools", "[]"),
    ("top_p", "1"),
];
/// What is the same in every response: what a client says of it does not hold.
const CONSTANT: &str = concat!(
    r#""frequency_penalty":0,"max_tool_calls":null,"parallel_tool_calls":true,"presence_penalty":0,"#,
    r#""previous_response_id":null,"prompt_cache_key":null,"safety_identifier":null,"#,
    r#""service_tier":"default","store":false,"top_logprobs":0,"truncation":"disabled","#,
);

/// What the response to `body` repeats of it, a JSON object. Of what is too long, the default stands.
#[must_use]
pub fn echo(body: &[u8]) -> Arc<str> {
    let body = String::from_utf8_lossy(body);
    let found = members(&body, Keys::AnyCase, REPEATED.map(|(name, _)| name)).unwrap_or_default();
    let [choice] = members(&body, Keys::AnyCase, ["tool_choice"]).unwrap_or_default();
    let mut out = String::from("{");
    for ((name, default), given) in REPEATED.iter().zip(found) {
        let given = given.filter(|given| given.get().len() <= MAX_REPEATED).map(compact);
        let value = given.as_ref().map_or(*default, |given| given.get());
        out.extend(["\"", name, "\":", value, ","]);
    }
    out.push_str(CONSTANT);
    // No other choice is heeded.
    let choice = if no_tools(choice) { "none" } else { "auto" };
    out.extend(["\"tool_choice\":\"", choice, "\"}"]);
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
