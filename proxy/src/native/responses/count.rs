//! How many tokens the prompt of a response has, guessed as [`super::super::context`] does.

use serde_json::value::RawValue;

use super::super::context::{Tally, lenient};
use super::super::json::{Keys, is_string, members, text};

/// Tokens of `instructions`, `input` and `tools` of `body`; what is malformed in them is not there. What a
/// model thought earlier does not count.
#[must_use]
pub fn prompt_tokens(body: &[u8]) -> u64 {
    let body = String::from_utf8_lossy(body);
    let mut tally = Tally::default();
    let names = ["instructions", "input", "tools"];
    let [instructions, input, tools] = members(&body, Keys::AnyCase, names).unwrap_or_default();
    if let Some(tools) = tools.filter(|tools| tools.get() != "[]") {
        tally.add(tools.get());
    }
    for words in [instructions, input].into_iter().flatten().filter(|words| is_string(words)) {
        tally.message();
        said(words, &mut tally);
    }
    lenient(input, |item| {
        let names = ["content", "output", "name", "arguments"];
        let found = members(item, Keys::AnyCase, names).unwrap_or_default();
        tally.message();
        found.into_iter().flatten().for_each(|words| said(words, &mut tally));
    });
    tally.tokens()
}

/// Adds a text, or parts.
fn said(raw: &RawValue, tally: &mut Tally) {
    if let Some(words) = text(raw) {
        tally.add(&words);
        return;
    }
    lenient(Some(raw), |part| {
        let [words] = members(part, Keys::AnyCase, ["text"]).unwrap_or_default();
        match words.and_then(text) {
            Some(words) => tally.add(&words),
            None => tally.image(),
        }
    });
}
