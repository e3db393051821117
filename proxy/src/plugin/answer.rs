//! Where the generated text stands in an answer or in one event of a stream, so that it can be
//! replaced and everything else keeps its bytes.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A place for text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Which of several answers.
    pub choice: u32,
    /// The text that is there.
    pub text: String,
    /// Why the answer ends here, if it does.
    pub finish: Option<String>,
    at: At,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// In place of this value.
    Value(Range<usize>),
    /// As a new member called `content`, right after this opening brace; whether others follow.
    Member { brace: usize, others: bool },
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(default)]
    done: bool,
    #[serde(borrow, default)]
    done_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Holder<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

/// The places in `json`: an answer of chat or completions, or an event of one, in OpenAI's or
/// Ollama's form. None in anything else.
#[must_use]
pub fn slots(json: &str) -> Vec<Slot> {
    let Ok(body) = serde_json::from_str::<Body<'_>>(json) else { return Vec::new() };
    let whole = body.choices.iter().filter_map(|choice| {
        let finish = choice.finish_reason.as_deref().map(str::to_owned);
        slot(json, choice.delta.or(choice.message), choice.text, choice.index, finish)
    });
    let mut found: Vec<Slot> = whole.collect();
    if found.is_empty() {
        let finish =
            body.done.then(|| body.done_reason.map_or_else(|| "stop".into(), String::from));
        found.extend(slot(json, body.message, body.response, 0, finish));
    }
    found
}

fn slot(
    json: &str,
    holder: Option<&RawValue>,
    direct: Option<&RawValue>,
    choice: u32,
    finish: Option<String>,
) -> Option<Slot> {
    let span = |raw: &RawValue| {
        let start = raw.get().as_ptr() as usize - json.as_ptr() as usize;
        start..start + raw.get().len()
    };
    let text_at = |raw: &RawValue| {
        let text = serde_json::from_str::<Option<String>>(raw.get()).ok()?;
        Some((text.unwrap_or_default(), At::Value(span(raw))))
    };
    let (text, at) = match (direct, holder) {
        (Some(raw), _) => text_at(raw)?,
        (None, Some(raw)) => match serde_json::from_str::<Holder<'_>>(raw.get()).ok()?.content {
            Some(content) => text_at(content)?,
            None => {
                let others = raw.get()[1..].trim_start().starts_with('"');
                (String::new(), At::Member { brace: span(raw).start + 1, others })
            }
        },
        (None, None) => return None,
    };
    Some(Slot { choice, text, finish, at })
}

/// `json` with other texts in its places, one for each; the same when none differs.
#[must_use]
pub fn fill<'a>(json: &'a str, slots: &[Slot], texts: &[String]) -> Cow<'a, str> {
    if slots.iter().zip(texts).all(|(slot, text)| slot.text == *text) {
        return Cow::Borrowed(json);
    }
    let mut changes: Vec<(Range<usize>, String)> = Vec::with_capacity(slots.len());
    for (slot, text) in slots.iter().zip(texts).filter(|(slot, text)| slot.text != **text) {
        let quoted = serde_json::Value::from(text.as_str()).to_string();
        changes.push(match &slot.at {
            At::Value(span) => (span.clone(), quoted),
            At::Member { brace, others } => {
                let comma = if *others { "," } else { "" };
                (*brace..*brace, format!(r#""content":{quoted}{comma}"#))
            }
        });
    }
    changes.sort_by_key(|(span, _)| span.start);
    let mut filled = String::with_capacity(json.len() + 64);
    let mut from = 0;
    for (span, text) in changes {
        filled.push_str(&json[from..span.start]);
        filled.push_str(&text);
        from = span.end;
    }
    filled.push_str(&json[from..]);
    Cow::Owned(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(json: &str, with: &str) -> String {
        let slots = slots(json);
        let texts = vec![with.to_owned(); slots.len()];
        fill(json, &slots, &texts).into_owned()
    }

    #[test]
    fn text_is_replaced_and_the_rest_keeps_its_bytes() {
        let event = r#"{"id":"x", "choices":[{"index":1,"delta":{"content":"a\u00e4"},"n":1e400,"finish_reason":null}]}"#;
        let found = slots(event);
        assert_eq!((found[0].choice, found[0].text.as_str()), (1, "aä"));
        assert_eq!(filled(event, "q\"q"), event.replace(r#""a\u00e4""#, r#""q\"q""#));
        assert_eq!(filled(event, "aä"), event);
    }

    #[test]
    fn text_can_be_added_where_an_answer_ends() {
        let event = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#;
        assert_eq!(slots(event)[0].finish.as_deref(), Some("length"));
        assert!(filled(event, "!").contains(r#""delta":{"content":"!"}"#));
        let role = r#"{"choices":[{"delta":{"role":"assistant"}}]}"#;
        assert!(filled(role, "!").contains(r#"{"content":"!","role":"assistant"}"#));
    }

    #[test]
    fn every_form_of_an_answer_has_its_place() {
        for (json, text) in [
            (r#"{"choices":[{"message":{"role":"assistant","content":"t"}}]}"#, "t"),
            (r#"{"choices":[{"message":{"content":null,"tool_calls":[]}}]}"#, ""),
            (r#"{"choices":[{"text":"t","index":0}]}"#, "t"),
            (r#"{"message":{"role":"assistant","content":"t"},"done":false}"#, "t"),
            (r#"{"response":"t","done":true}"#, "t"),
        ] {
            assert_eq!(slots(json)[0].text, text, "{json}");
            assert!(serde_json::from_str::<serde_json::Value>(&filled(json, "new")).is_ok());
        }
        for none in ["[DONE]", "{}", r#"{"error":{"message":"x"}}"#, r#"{"choices":[]}"#, "[]"] {
            assert!(slots(none).is_empty(), "{none}");
        }
    }
}
