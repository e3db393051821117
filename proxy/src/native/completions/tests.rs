use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::native::lines::end;
use crate::native::{Stream, Think, whole};

fn translated(more: &Value) -> Result<Value, Refusal> {
    let mut body = json!({ "model": "m", "prompt": "fn main" });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let options = Options { num_ctx: Some(4096), ..Options::default() };
    let out = request(body.to_string().as_bytes(), "real", &options)?;
    Ok(serde_json::from_slice(&out).expect("JSON"))
}

#[test]
fn settings_become_options_and_the_gateways_own_win() {
    let out = translated(&json!({
        "suffix": "}", "max_tokens": 9, "temperature": 0.5, "seed": 7, "stop": ["a", "b"], "logprobs": 2,
        "frequency_penalty": 0.1, "stream": true, "echo": true, "num_ctx": 1, "options": { "num_ctx": 1 },
    }));
    let expected = json!({
        "model": "real", "prompt": "fn main", "suffix": "}", "stream": true, "truncate": false,
        "options": {
            "frequency_penalty": 0.1, "num_ctx": 4096, "num_predict": 9, "presence_penalty": 0, "seed": 7,
            "stop": ["a", "b"], "temperature": 0.5, "top_p": 1.0,
        },
    });
    assert_eq!(out, Ok(expected));
    let options = Options {
        keep_alive: Some("10m".into()),
        think: Some(Think::Bool(false)),
        ..Options::default()
    };
    let out =
        request(br#"{"prompt":"a\u00e9\n","stop":"x"}"#, "real", &options).expect("a request");
    let expected = concat!(
        r#"{"model":"real","prompt":"a\u00e9\n","stream":false,"keep_alive":"10m","#,
        r#""options":{"frequency_penalty":0,"presence_penalty":0,"stop":["x"],"temperature":1.0,"top_p":1.0},"#,
        r#""think":false}"#
    );
    assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    let options = |more: Value| translated(&more).expect("a request")["options"].clone();
    assert_eq!(options(json!({ "top_p": 0 }))["top_p"], 1.0, "as Ollama takes it");
    assert_eq!(options(json!({ "max_completion_tokens": 5 }))["num_predict"], 5);
}

#[test]
fn what_cannot_be_carried_is_refused_and_named() {
    for (more, param) in [
        (json!({ "prompt": ["a", "b"] }), "prompt"),
        (json!({ "suffix": 7 }), "suffix"),
        (json!({ "max_tokens": 1.5 }), "max_tokens"),
        (json!({ "stop": 7 }), "stop"),
        (json!({ "stop": ["a", 7] }), "stop"),
        (json!({ "logprobs": true }), "logprobs"),
        (json!({ "stream": 1 }), "stream"),
    ] {
        assert_eq!(translated(&more).expect_err("refused").param, Some(param), "{more}");
    }
    // Without a prompt, Ollama loads the model.
    assert_eq!(translated(&json!({ "prompt": null })).expect("a request")["prompt"], "");
}

#[test]
fn the_estimate_counts_what_is_before_and_after() {
    let of = |body: &str| prompt_tokens(body.as_bytes());
    assert_eq!(of(r#"{"prompt":"one two three"}"#), 3);
    assert_eq!(of(r#"{"prompt":"one two three","suffix":"four"}"#), 4);
    assert_eq!(of("["), 0);
}

fn about(include_usage: bool) -> About {
    let form = Form::Completion { created: 1_700_000_000, include_usage };
    About { model: "asked".into(), id: "cmpl-1".into(), form }
}

fn line(text: &str, more: &Value) -> String {
    let mut line = json!({ "model": "real", "response": text, "done": false });
    for (name, value) in more.as_object().into_iter().flatten() {
        line[name] = value.clone();
    }
    format!("{line}\n")
}

fn completion_of(choices: &Value, usage: Option<Value>) -> Value {
    let mut completion = json!({
        "id": "cmpl-1", "object": "text_completion", "created": 1_700_000_000, "model": "asked",
        "system_fingerprint": "fp_ollama", "choices": choices,
    });
    if let Some(usage) = usage {
        completion["usage"] = usage;
    }
    completion
}

fn choice(text: &str, finish_reason: Option<&str>) -> Value {
    json!([{ "text": text, "index": 0, "finish_reason": finish_reason }])
}

fn used() -> Option<Value> {
    Some(json!({ "prompt_tokens": 26, "completion_tokens": 5, "total_tokens": 31 }))
}

#[test]
fn a_whole_answer_is_a_completion() {
    let answered = |native: &str| -> Value {
        let out = whole(native.as_bytes(), &about(false)).expect("an answer");
        serde_json::from_slice(&out).expect("JSON")
    };
    let out = answered(&line("() {\n", &end("stop")));
    assert_eq!(out, completion_of(&choice("() {\n", Some("stop")), used()));
    let out = answered(&line("(", &end("length")));
    assert_eq!(out, completion_of(&choice("(", Some("length")), used()));
    assert!(whole(br#"{"error":"out of memory"}"#, &about(false)).is_err());
    assert!(whole(br#"{"done":true}"#, &about(false)).is_err());
}

#[test]
fn a_stream_is_one_of_chunks_however_it_is_cut() {
    let none = json!({});
    let lines = [line("() ", &none), line("{\"\n", &none), line("", &end("stop"))].concat();
    for include_usage in [false, true] {
        let mut expected = vec![
            completion_of(&choice("() ", None), None),
            completion_of(&choice("{\"\n", None), None),
            completion_of(&choice("", Some("stop")), None),
        ];
        if include_usage {
            expected.push(completion_of(&json!([]), used()));
        }
        for parts in [1, 2, 7, lines.len()] {
            let (mut stream, mut out) = (Stream::new(about(include_usage)), Vec::new());
            for part in lines.as_bytes().chunks(lines.len().div_ceil(parts)) {
                stream.push(part, &mut out).expect("lines");
            }
            stream.end(&mut out);
            let out = String::from_utf8(out).expect("UTF-8");
            let events = out.strip_suffix("data: [DONE]\n\n").expect("an end");
            let data = |event: &str| -> Value {
                serde_json::from_str(event.strip_prefix("data: ").expect("data")).expect("JSON")
            };
            let events: Vec<Value> = events.split_terminator("\n\n").map(data).collect();
            assert_eq!(events, expected, "in {parts} parts");
        }
    }
}

#[test]
fn a_stream_that_breaks_off_has_no_end_and_one_that_fails_says_why() {
    let ends = |more: &str| {
        let (mut stream, mut out) = (Stream::new(about(false)), Vec::new());
        let lines = line("a", &json!({})) + more;
        stream.push(lines.as_bytes(), &mut out).expect("lines");
        stream.end(&mut out);
        let out = String::from_utf8(out).expect("UTF-8");
        out.split_terminator("\n\n").last().expect("an event").to_owned()
    };
    assert!(ends("").contains("\"text\":\"a\""));
    assert!(ends("{\"error\":\"out of memory\"}\n").contains("\"message\":\"out of memory\""));
}

proptest! {
    #[test]
    fn garbage_never_panics_and_what_is_accepted_becomes_json(
        garbage in proptest::collection::vec(any::<u8>(), 0..20),
        at in 0usize..200,
    ) {
        let body = json!({ "prompt": "a\u{e9}", "suffix": "b", "max_tokens": 9, "stop": ["c"], "logprobs": 1 });
        let mut body = body.to_string().into_bytes();
        let at = at % (body.len() + 1);
        let end = (at + garbage.len()).min(body.len());
        body.splice(at..end, garbage);
        if let Ok(out) = request(&body, "m", &Options::default()) {
            prop_assert!(serde_json::from_slice::<&RawValue>(&out).is_ok());
        }
    }
}
