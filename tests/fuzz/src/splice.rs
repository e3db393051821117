//! Whatever the scanner takes is JSON that serde takes, its fields stand where it says, and a patched
//! body is JSON again that differs only in what was to change.

use bytes::Bytes;
use serde_json::Value;
use sluicegate::request::patch::{Changes, apply};
use sluicegate::request::scan::scan;

pub(crate) const SEEDS: &[&[u8]] = &[
    br#"{"model":"llama3.2:3b","messages":[{"role":"user","content":"hi \u00fc"}],"stream":true}"#,
    br#"{ "stream_options":{"include_usage":false,"x":[1,2]}, "stream" : true, "model":"m" }"#,
    br#"{"max_tokens":null,"max_completion_tokens":5,"model":"m","seed":9007199254740993}"#,
    br#"{"model":"a","model":"a","Model":"a","m\u006fdel":"a","tools":[{"x":{}}]}"#,
    br#"{"stream":true,"stream_options":null,"model":"m"}"#,
];

pub(crate) fn check(input: &[u8], _: &mut fastrand::Rng) {
    let Ok(found) = scan(input) else { return };
    for field in &found.models {
        let _: Option<String> =
            serde_json::from_slice(&input[field.span.clone()]).expect("a string");
    }
    let body = Bytes::copy_from_slice(input);
    let changes = Changes { model: Some("re\"named"), include_usage: true, map_max_tokens: true };
    let patched = apply(&body, &found, &changes);
    // Where the text is not UTF-8, or nested beyond serde's depth, there is nothing to compare with.
    let Ok(before) = serde_json::from_slice::<Value>(input) else { return };
    let after: Value = serde_json::from_slice(&patched).expect("JSON again");
    let rest = |value: &Value| {
        let mut object = value.as_object().cloned().expect("an object");
        object.retain(|key, _| {
            let key = key.to_ascii_lowercase();
            !matches!(key.as_str(), "model" | "stream_options" | "max_tokens")
        });
        object
    };
    assert_eq!(rest(&before), rest(&after), "nothing else changed");
    let again = scan(&patched).expect("still good");
    if !found.models.is_empty() {
        assert_eq!(again.model, "re\"named");
    }
}
