//! How many tokens a prompt has at the very least.
//!
//! No vocabulary in use has a token with letters or digits on both sides of white space, so each word
//! with one is a token of its own. A longer word has as many as the longest tokens known need, where a
//! character repeated counts once, and each repetition as many as theirs. Only texts count: how a
//! template writes tools, calls and images is its own affair, and what a model thought is left out of
//! most. English prose comes out at about three quarters of its tokens.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::context::THOUGHT_END;

/// The longest token of the vocabularies in use, leaving out repetitions, in bytes.
const LONGEST: usize = 48;
/// The longest repetition of one character that is a token.
const REPEATED: usize = 256;
/// Where messages, items and blocks have what is said.
const WITHIN: &[&str] = &["content", "text", "output"];
/// The types of those, as JSON; a message need not say one. What else there is may not be read.
const READ: [&str; 6] = [
    r#""text""#,
    r#""input_text""#,
    r#""output_text""#,
    r#""message""#,
    r#""tool_result""#,
    r#""function_call_output""#,
];

/// Whether the prompt of `body`, which is in its `members`, has more than `limit` tokens for certain. What
/// is no request has none.
///
/// Members are texts, or arrays of messages, items or blocks, in OpenAI's, Anthropic's or Ollama's form.
/// The body is gone through once.
#[must_use]
pub fn exceeds(body: &[u8], members: &[&str], limit: u64) -> bool {
    let mut least = Least { tokens: 0, limit, unclear: false };
    let mut json = serde_json::Deserializer::from_slice(body);
    // What is no JSON, others complain of.
    let read = Object { names: members, whole: true, least: &mut least }.deserialize(&mut json);
    read.is_ok() && !least.unclear && least.tokens > limit
}

/// Tokens so far.
struct Least {
    tokens: u64,
    /// More need not be counted.
    limit: u64,
    /// A member is there twice: servers differ in which of them they take.
    unclear: bool,
}

impl Least {
    fn add(&mut self, text: &str) {
        let said = text.rfind(THOUGHT_END).map_or(text, |at| &text[at + THOUGHT_END.len()..]);
        for word in said.split_whitespace() {
            if self.tokens > self.limit {
                break;
            }
            self.tokens += of_word(word);
        }
    }
}

fn of_word(word: &str) -> u64 {
    if !word.chars().any(char::is_alphanumeric) {
        return 0;
    }
    let (mut distinct, mut repeated, mut before) = (0, 0, None);
    for c in word.chars() {
        if before == Some(c) {
            repeated += 1;
        } else {
            distinct += c.len_utf8();
        }
        before = Some(c);
    }
    (distinct.div_ceil(LONGEST) + repeated / REPEATED) as u64
}

/// An object in which the values of `names` are said.
struct Object<'a> {
    names: &'a [&'a str],
    /// Whether it is the whole body.
    whole: bool,
    least: &'a mut Least,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let before = self.least.tokens;
        let (mut seen, mut is_read) = (0_u32, true);
        while let Some(Name(name)) = map.next_key()? {
            // As Go fills a struct.
            let index = self.names.iter().position(|one| one.eq_ignore_ascii_case(&name));
            if let Some(index) = index {
                self.least.unclear |= seen & (1 << index) != 0;
                seen |= 1 << index;
                map.next_value_seed(Said(self.least))?;
            } else if !self.whole && name.eq_ignore_ascii_case("type") {
                let kind: &RawValue = map.next_value()?;
                is_read = READ.contains(&kind.get());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if !is_read {
            self.least.tokens = before;
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// What is said: a text, or parts of it.
struct Said<'a>(&'a mut Least);

impl<'de> DeserializeSeed<'de> for Said<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Said<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or parts of one")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.add(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Said(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Object { names: WITHIN, whole: false, least: self.0 }.visit_map(map)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    const MESSAGES: [&str; 2] = ["messages", "system"];

    /// The most tokens that the messages of `body` have for certain.
    pub fn least(body: &Value) -> u64 {
        count(body, &MESSAGES)
    }

    fn count(body: &Value, members: &[&str]) -> u64 {
        let body = body.to_string();
        let (mut low, mut high) = (0, 1 << 20);
        while low < high {
            let middle = u64::midpoint(low, high);
            match exceeds(body.as_bytes(), members, middle) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    fn said(content: &str) -> u64 {
        least(&json!({"messages": [{"role": "user", "content": content}]}))
    }

    #[test]
    fn english_has_at_least_its_words() {
        assert_eq!(said("one two, three -- four\n\n"), 4);
        assert_eq!(said(&"ab".repeat(100)), 5);
        assert_eq!(said(""), 0);
        assert_eq!(said("<think>one two three</think>four"), 1);
    }

    #[test]
    fn a_text_counts_wherever_each_dialect_has_it_and_nothing_else_does() {
        let words = "one two three";
        let image = json!({"type": "image_url", "image_url": {"url": "a b"}});
        for (body, members, expected) in [
            (
                json!({"messages": [{"role": "a b", "content": words}, {"content": words}]}),
                &MESSAGES[..],
                6,
            ),
            (
                json!({"messages": [{"content": [{"type": "text", "text": words}, image]}]}),
                &MESSAGES,
                3,
            ),
            (json!({"system": [{"type": "text", "text": words}], "messages": []}), &MESSAGES, 3),
            (
                json!({"messages": [{"content": [
                    {"type": "tool_result", "content": [{"type": "text", "text": words}]},
                    {"type": "tool_use", "name": words, "input": {"text": words}},
                    {"type": "thinking", "thinking": words},
                ]}]}),
                &MESSAGES,
                3,
            ),
            (
                json!({"Messages": [{"Content": words, "tool_calls": [words]}], "tools": [words]}),
                &MESSAGES,
                3,
            ),
            (json!({"messages": null, "prompt": words}), &MESSAGES, 0),
            (
                json!({"messages": [{"content": [
                    {"type": "tool_result", "content": [{"type": "search_result", "content": [{"type": "text", "text": words}]}]},
                    {"type": "new", "text": words, "content": words},
                ]}]}),
                &MESSAGES,
                0,
            ),
            (
                json!({"input": [
                    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": words}]},
                    {"type": "message", "content": words},
                ]}),
                &["input"],
                3,
            ),
            (json!({"messages": [7, null, true, 1.5, -1, {"content": null}]}), &MESSAGES, 0),
            (json!({"prompt": words, "system": "four"}), &["prompt", "system"], 4),
            (json!({"input": words, "instructions": "four"}), &["input", "instructions"], 4),
            (
                json!({"input": [
                    {"role": "user", "content": [{"type": "input_text", "text": words}]},
                    {"type": "function_call_output", "output": words},
                ]}),
                &["input"],
                6,
            ),
        ] {
            assert_eq!(count(&body, members), expected, "{body}");
        }
    }

    #[test]
    fn of_what_is_there_twice_nothing_is_certain() {
        let twice = r#"{"messages":[{"content":"a b c d"}],"Messages":[{"content":"a"}]}"#;
        let within = r#"{"messages":[{"content":"a b c d","content":"a"}]}"#;
        for body in [twice, within] {
            assert!(!exceeds(body.as_bytes(), &MESSAGES, 3), "{body}");
        }
    }

    #[test]
    fn what_is_no_request_has_nothing_for_certain() {
        for body in ["", "{", "[]", "7", r#"{"messages":["#, r#"{"messages":["a b c" 7"#] {
            assert!(!exceeds(body.as_bytes(), &MESSAGES, 3), "{body}");
        }
    }
}
