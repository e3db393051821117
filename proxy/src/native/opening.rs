//! How a conversation begins: the same in each of its turns, so that they can be told to belong together.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::value::RawValue;

use super::json::{Keys, each, is_string, members, text};
use super::texts::inner;

/// Bytes of each end of a message that are looked at.
const ENDS: usize = 2048;

/// The beginning of the conversation in `body`, in any of the dialects: what the model is told to be and the
/// first that its user says, as they are spelt. `None` where it is no conversation.
#[must_use]
pub fn opening(body: &[u8]) -> Option<u64> {
    let body = std::str::from_utf8(body).ok()?;
    let names = ["model", "system", "instructions", "messages", "input"];
    let [model, system, instructions, messages, input] =
        members(body, Keys::AnyCase, names).ok()?;
    let mut hash = DefaultHasher::new();
    for piece in [model, system, instructions].into_iter().flatten() {
        add(piece, &mut hash);
    }
    let mut spoke = false;
    // It ends with what the user says, and so does the search.
    let ended: Result<(), ()> = each(
        messages.or(input)?,
        || (),
        |message| {
            let names = ["role", "content"];
            let [role, content] = members(message.get(), Keys::AnyCase, names).unwrap_or_default();
            for piece in [role, content].into_iter().flatten() {
                add(piece, &mut hash);
            }
            spoke = role.and_then(text).is_some_and(|role| role == "user");
            if spoke { Err(()) } else { Ok(()) }
        },
    );
    (spoke && ended.is_err()).then(|| hash.finish())
}

/// Adds a text, or the texts of parts: what else a part says, such as where a client wants its prompt cached,
/// may change from turn to turn.
fn add(piece: &RawValue, hash: &mut DefaultHasher) {
    if is_string(piece) {
        add_text(inner(piece), hash);
        return;
    }
    let parts: Result<(), ()> = each(
        piece,
        || (),
        |part| {
            let [words] = members(part.get(), Keys::AnyCase, ["text"]).unwrap_or_default();
            if let Some(words) = words.filter(|words| is_string(words)) {
                add_text(inner(words), hash);
            }
            Ok(())
        },
    );
    // What is neither says nothing.
    parts.unwrap_or_default();
}

/// A long text differs from others at one of its ends, or in length.
fn add_text(text: &str, hash: &mut DefaultHasher) {
    let bytes = text.as_bytes();
    bytes.len().hash(hash);
    bytes[..bytes.len().min(ENDS)].hash(hash);
    bytes[bytes.len().saturating_sub(ENDS)..].hash(hash);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(body: &Value) -> Option<u64> {
        opening(body.to_string().as_bytes())
    }

    #[test]
    fn turns_of_one_conversation_begin_alike_and_those_of_others_do_not() {
        let said = |role: &str, text: &str| json!({ "role": role, "content": text });
        let (system, first) = (said("system", "Be brief."), said("user", "hi"));
        let later = [said("assistant", "yes?"), said("user", "so")];
        for name in ["messages", "input"] {
            let of = |messages: &[&Value]| of(&json!({ "model": "m", name: messages }));
            let begun = of(&[&system, &first]);
            assert!(begun.is_some(), "{name}");
            assert_eq!(begun, of(&[&system, &first, &later[0], &later[1]]));
            assert_ne!(begun, of(&[&first]));
            assert_ne!(begun, of(&[&system, &later[1]]));
            assert_eq!(of(&[&system]), None, "nobody said anything");
        }
        let body = |system: &str| json!({ "model": "m", "system": system, "messages": [first] });
        assert_ne!(of(&body("a")), of(&body("b")));
        let long = |middle: &str| "x".repeat(3000) + middle + &"y".repeat(3000);
        let ends = |middle: &str| of(&json!({ "messages": [said("user", &long(middle))] }));
        assert_ne!(ends("a"), ends("bb"));
        let parts = |more: Value| {
            let mut part = json!({ "type": "text", "text": "hi" });
            part["cache_control"] = more;
            of(&json!({ "system": [part], "messages": [{ "role": "user", "content": [part] }] }))
        };
        let plain = of(&json!({ "system": "hi", "messages": [first] }));
        assert_eq!([parts(Value::Null), parts(json!({ "type": "ephemeral" }))], [plain, plain]);
    }

    #[test]
    fn what_is_no_conversation_has_no_beginning() {
        for body in ["", "[]", "{}", r#"{"prompt":"a"}"#, r#"{"input":"a"}"#, r#"{"messages":7}"#] {
            assert_eq!(opening(body.as_bytes()), None, "{body}");
        }
    }
}
