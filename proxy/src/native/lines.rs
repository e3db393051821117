//! Native answers, and the events made of them, for the tests.

#![allow(clippy::expect_used, reason = "a test that cannot read an answer has failed")]

use serde_json::{Value, json};

use super::{About, Stream};

/// A line with `message`, and the members of `last`.
pub fn line(message: Value, last: Value) -> String {
    let mut line = json!({ "model": "real", "message": message, "done": false });
    for (name, value) in last.as_object().into_iter().flatten() {
        line[name] = value.clone();
    }
    format!("{line}\n")
}

/// The members of a last line.
pub fn end(reason: &str) -> Value {
    json!({ "done": true, "done_reason": reason, "prompt_eval_count": 26, "eval_count": 5 })
}

/// A call of `name`.
pub fn call(name: &str) -> Value {
    json!({ "id": format!("call_{name}"), "function": { "name": name, "arguments": { "a": [1] } } })
}

/// The events of `lines`, given in `parts` pieces: names, and data without the name in it.
pub fn events(about: About, lines: &str, parts: usize) -> Vec<(String, Value)> {
    let (mut stream, mut out) = (Stream::new(about), Vec::new());
    for part in lines.as_bytes().chunks(lines.len().div_ceil(parts).max(1)) {
        stream.push(part, &mut out).expect("lines");
    }
    stream.end(&mut out);
    let out = String::from_utf8(out).expect("UTF-8");
    let event = |event: &str| {
        let (name, data) = event.split_once('\n').expect("two lines");
        let name = name.strip_prefix("event: ").expect("a name").to_owned();
        let data = data.strip_prefix("data: ").expect("data");
        assert!(data.starts_with(&format!("{{\"type\":\"{name}\"")), "{data}");
        let mut data: Value = serde_json::from_str(data).expect("JSON");
        data.as_object_mut().expect("an object").remove("type");
        (name, data)
    };
    out.split_terminator("\n\n").map(event).collect()
}
