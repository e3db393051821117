use serde_json::{Map, Value, json};

use super::*;

fn of(body: &str) -> Canonical {
    canonical(body.as_bytes()).expect("clear")
}

/// Everything that a key is made of.
fn identity(body: &str) -> ([u8; 32], Option<String>) {
    let canonical = of(body);
    (canonical.frame, canonical.text)
}

/// A random request with a member of every kind at random depths.
fn random(rng: &mut fastrand::Rng, depth: usize) -> Value {
    match rng.u8(..if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => Value::Bool(rng.bool()),
        2 => json!(rng.i64(-1_000_000..1_000_000)),
        3 => json!(rng.i32(-1_000..1_000) as f64 / 8.0),
        4 => Value::String((0..rng.usize(..6)).map(|_| rng.char('!'..'\u{180}')).collect()),
        5 => (0..rng.usize(..4)).map(|_| random(rng, depth - 1)).collect(),
        _ => {
            let members = (0..rng.usize(..5)).map(|n| (format!("m{n}"), random(rng, depth - 1)));
            Value::Object(members.collect())
        }
    }
}

fn random_request(rng: &mut fastrand::Rng) -> Value {
    let messages: Vec<Value> = (0..rng.usize(1..4))
        .map(|n| json!({"role": if n % 2 == 0 {"user"} else {"assistant"}, "content": format!("text {}", rng.u8(..))}))
        .collect();
    let mut request = Map::new();
    request.insert("model".into(), "m".into());
    request.insert("messages".into(), messages.into());
    for n in 0..rng.usize(1..6) {
        request.insert(format!("extra_{n}"), random(rng, 3));
    }
    Value::Object(request)
}

/// `value` written another way: members in another order, other white space, other spellings.
fn rewritten(value: &Value, rng: &mut fastrand::Rng) -> String {
    let space =
        |rng: &mut fastrand::Rng| *rng.choice(["", " ", "\n\t", "\r\n"].iter()).expect("one");
    let gap = space(rng);
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            rng.shuffle(&mut members);
            let written: Vec<String> = members
                .into_iter()
                .map(|(name, value)| {
                    let name = escaped(name, rng);
                    format!("{gap}{name}{}:{}", space(rng), rewritten(value, rng))
                })
                .collect();
            format!("{{{}{gap}}}", written.join(","))
        }
        Value::Array(items) => {
            let written: Vec<String> = items.iter().map(|item| rewritten(item, rng)).collect();
            format!("[{gap}{}{gap}]", written.join(","))
        }
        Value::Number(number) => {
            let text = number.to_string();
            match rng.u8(..4) {
                0 if text.contains('.') => format!("{text}00"),
                0 => format!("{text}.0"),
                1 if !text.contains('.') => format!("{text}0e-1"),
                2 => format!("{text}E+0"),
                _ => text,
            }
        }
        Value::String(text) => escaped(text, rng),
        Value::Null | Value::Bool(_) => value.to_string(),
    }
}

fn escaped(text: &str, rng: &mut fastrand::Rng) -> String {
    if rng.bool() {
        return Value::from(text).to_string();
    }
    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
    format!("\"{}\"", units.collect::<String>())
}

/// Changes one leaf of `value`, if it has any.
fn change(value: &mut Value, rng: &mut fastrand::Rng) -> bool {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let index = rng.usize(..members.len());
            let Some((_, value)) = members.iter_mut().nth(index) else { return false };
            change(value, rng)
        }
        Value::Array(items) if !items.is_empty() => {
            let index = rng.usize(..items.len());
            change(&mut items[index], rng)
        }
        Value::Object(_) => {
            *value = json!({"new": 1});
            true
        }
        Value::Array(_) => {
            *value = json!([0]);
            true
        }
        Value::Null => {
            *value = json!(false);
            true
        }
        Value::Bool(held) => {
            *held = !*held;
            true
        }
        Value::Number(number) => {
            let next = number.as_f64().expect("a number") + 0.5;
            *value = json!(next);
            true
        }
        Value::String(text) => {
            text.push('x');
            true
        }
    }
}

#[test]
fn how_a_request_is_written_never_changes_what_it_is() {
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..2_000 {
        let request = random_request(&mut rng);
        let plain = identity(&request.to_string());
        let other = rewritten(&request, &mut rng);
        assert_eq!(identity(&other), plain, "{request}\n{other}");
    }
}

#[test]
fn any_change_of_meaning_makes_another_request() {
    let mut rng = fastrand::Rng::with_seed(12);
    for _ in 0..2_000 {
        let request = random_request(&mut rng);
        let mut other = request.clone();
        let members = other.as_object_mut().expect("an object");
        members.remove("model");
        if change(&mut other, &mut rng) {
            let (before, after) = (request.to_string(), other.to_string());
            assert_ne!(identity(&before), identity(&after), "{before}\n{after}");
        }
        // The order of items means something.
        let mut turned = request.clone();
        turned["messages"].as_array_mut().expect("a list").reverse();
        if turned != request {
            assert_ne!(identity(&request.to_string()), identity(&turned.to_string()));
        }
    }
}

#[test]
fn members_that_change_nothing_are_not_looked_at() {
    let plain = identity(r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#);
    for same in [
        r#"{"model":"other","stream":true,"stream_options":{"include_usage":true},"user":"u","metadata":{"a":"b"},"store":true,"keep_alive":"5m","enable_cache":true,"messages":[{"role":"user","content":"hi"}]}"#,
        r#"{"n":1.0,"messages":[{"role":"user","content":"hi"}]}"#,
    ] {
        assert_eq!(identity(same), plain, "{same}");
    }
    for other in [
        r#"{"n":2,"messages":[{"role":"user","content":"hi"}]}"#,
        r#"{"n":null,"messages":[{"role":"user","content":"hi"}]}"#,
        r#"{"presence_penalty":0,"messages":[{"role":"user","content":"hi"}]}"#,
        r#"{"messages":[{"role":"user","content":"Hi"}]}"#,
        r#"{"messages":[{"role":"system","content":"hi"}]}"#,
        r#"{"messages":[{"role":"user","content":["hi"]}]}"#,
        r#"{"messages":[{"role":"user","content":null}]}"#,
        r#"{"messages":[{"role":"user","name":"a","content":"hi"}]}"#,
    ] {
        assert_ne!(identity(other), plain, "{other}");
    }
}

#[test]
fn what_servers_read_differently_has_no_key() {
    for unclear in [
        r#"{"messages":[],"messages":[1]}"#,
        r#"{"a":{"b":1,"b":1}}"#,
        r#"{"a":{"e\u0301":1,"\u00e9":2}}"#,
        r#"{"Temperature":1}"#,
        "[]",
        "{",
    ] {
        assert_eq!(canonical(unclear.as_bytes()), Err(Unclear), "{unclear}");
    }
}

#[test]
fn text_has_one_form() {
    let text =
        |text: &str| of(&json!({"messages": [{"role": "user", "content": text}]}).to_string());
    assert_eq!(text("caf\u{e9}\r\nx"), text("cafe\u{301}\nx"));
    assert_ne!(text("a\rb"), text("a\nb"));
    assert_ne!(text("A"), text("a"));
}

#[test]
fn only_plain_questions_may_be_asked_in_other_words() {
    let user = json!({"role": "user", "content": "why?"});
    let plain = |body: Value| of(&body.to_string()).plain;
    assert!(plain(json!({"messages": [user]})));
    assert!(plain(
        json!({"messages": [{"role": "system", "content": "s"}, user], "temperature": 0})
    ));
    assert!(plain(
        json!({"messages": [user], "tools": [], "response_format": {"type": "text"}, "logprobs": false})
    ));
    assert!(plain(
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "why?"}]}]})
    ));
    let image = json!({"type": "image_url", "image_url": {"url": "data:"}});
    for body in [
        json!({"messages": [user, {"role": "assistant", "content": "a"}, user, user]}),
        json!({"messages": [user], "tools": [{"type": "function"}]}),
        json!({"messages": [user], "response_format": {"type": "json_object"}}),
        json!({"messages": [user], "logprobs": true}),
        json!({"messages": [user], "n": 2}),
        json!({"messages": [{"role": "user", "content": [image]}]}),
        json!({"messages": [{"role": "user", "content": [image]}, user]}),
        json!({"messages": [{"role": "tool", "tool_call_id": "c", "content": "a"}, user]}),
        json!({"messages": [{"role": "assistant", "tool_calls": [], "content": "a"}, user]}),
        json!({"messages": [{"role": "assistant", "content": "why?"}]}),
        json!({"prompt": "why?"}),
    ] {
        assert!(!plain(body.clone()), "{body}");
    }
}
