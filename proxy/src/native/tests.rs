//! The goldens are answers of the same upstream in both forms: `NAME.ndjson` and
//! `NAME.native.json` as `/api/chat` gives them, the others as Ollama's own translation makes them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

struct Golden {
    name: &'static str,
    lines: &'static str,
    events: &'static str,
    events_with_usage: &'static str,
}

macro_rules! golden {
    ($name:literal) => {
        Golden {
            name: $name,
            lines: include_str!(concat!("golden/", $name, ".ndjson")),
            events: include_str!(concat!("golden/", $name, ".sse")),
            events_with_usage: include_str!(concat!("golden/", $name, ".usage.sse")),
        }
    };
}

const STREAMS: [Golden; 11] = [
    golden!("text"),
    golden!("single"),
    golden!("empty"),
    golden!("reasoning"),
    golden!("tools"),
    golden!("tools_and_thoughts"),
    golden!("schema"),
    golden!("length"),
    golden!("logprobs"),
    golden!("no_counts"),
    golden!("broken"),
];

macro_rules! pair {
    ($name:literal) => {
        (
            include_str!(concat!("golden/", $name, ".native.json")),
            include_str!(concat!("golden/", $name, ".json")),
        )
    };
}

const ANSWERS: [(&str, &str); 10] = [
    pair!("text"),
    pair!("single"),
    pair!("empty"),
    pair!("reasoning"),
    pair!("tools"),
    pair!("tools_and_thoughts"),
    pair!("schema"),
    pair!("length"),
    pair!("logprobs"),
    pair!("no_counts"),
];

fn about(include_usage: bool) -> About {
    About {
        model: "qwen3:8b".into(),
        id: "chatcmpl-7".into(),
        form: Form::Chat { created: 1_787_306_400, include_usage },
    }
}

fn streamed(parts: &[&[u8]], include_usage: bool) -> String {
    let (mut stream, mut out) = (Stream::new(about(include_usage)), Vec::new());
    for part in parts {
        stream.push(part, &mut out).expect("lines");
    }
    stream.end(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

fn answered(native: &str) -> Value {
    let out = whole(native.as_bytes(), &about(false)).expect("an answer");
    serde_json::from_slice(&out).expect("JSON")
}

#[test]
fn a_whole_answer_is_that_of_v1_to_the_byte() {
    for (native, expected) in ANSWERS {
        let out = whole(native.as_bytes(), &about(false)).expect("an answer");
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    }
}

#[test]
fn a_stream_is_that_of_v1_to_the_byte_wherever_it_is_cut() {
    for golden in STREAMS {
        let lines = golden.lines.as_bytes();
        for cut in 0..=lines.len() {
            let (head, tail) = lines.split_at(cut);
            let name = golden.name;
            assert_eq!(streamed(&[head, tail], false), golden.events, "{name} cut at {cut}");
            assert_eq!(streamed(&[head, tail], true), golden.events_with_usage, "{name}");
        }
        let bytes: Vec<&[u8]> = lines.chunks(1).collect();
        assert_eq!(streamed(&bytes, false), golden.events);
    }
}

#[test]
fn a_stream_cut_short_has_no_end() {
    for golden in STREAMS {
        let lines = golden.lines.trim_end();
        // Up to the last byte of the last line there is no last line.
        for cut in 0..lines.len() {
            let out = streamed(&[&lines.as_bytes()[..cut]], true);
            assert!(golden.events_with_usage.starts_with(&out), "{} cut at {cut}", golden.name);
            assert!(!out.contains("[DONE]") && !out.contains(r#""finish_reason":""#), "{out}");
        }
        // A last line needs no line end.
        assert_eq!(streamed(&[lines.as_bytes()], false), golden.events);
    }
}

#[test]
fn nothing_follows_the_last_line_or_an_error() {
    for golden in STREAMS {
        let more = b"{\"message\":{\"content\":\"late\"}}\nnonsense\n";
        assert_eq!(streamed(&[golden.lines.as_bytes(), more], false), golden.events);
    }
}

#[test]
fn an_error_of_any_shape_becomes_an_event() {
    for (error, message) in [
        (r#"{"error":"a \"b\""}"#, json!("a \"b\"")),
        (r#"{"error":{"x": 1}}"#, json!("{\"x\":1}")),
        (r#"{"error":"\ud800","status":500}"#, json!(null)),
    ] {
        let out = streamed(&[error.as_bytes()], true);
        let data = out.strip_prefix("data: ").and_then(|out| out.strip_suffix("\n\n"));
        let data = data.expect("one event");
        if !message.is_null() {
            let event: Value = serde_json::from_str(data).expect("JSON");
            let error =
                json!({"message": message, "type": "api_error", "param": null, "code": null});
            assert_eq!(event, json!({ "error": error }));
        }
    }
    assert_eq!(whole(br#"{"error":"boom"}"#, &about(false)), Err("boom".into()));
}

#[test]
fn what_is_no_answer_of_ollamas_is_an_error() {
    for bad in ["", "x", "[]", "{}", "{\"message\":1}", "{\"message\":{\"content\":7}}", "{"] {
        assert!(whole(bad.as_bytes(), &about(false)).is_err(), "{bad}");
    }
    let mut out = Vec::new();
    assert!(Stream::new(about(false)).push(b"<html>\n", &mut out).is_err());
    assert_eq!(out, b"");
}

#[test]
fn a_line_without_end_is_an_error() {
    let (mut stream, mut out) = (Stream::new(about(false)), Vec::new());
    let part = vec![b' '; 16 * 1024 * 1024];
    for _ in 0..4 {
        stream.push(&part, &mut out).expect("within the bound");
    }
    assert!(stream.push(b" ", &mut out).is_err());
    stream.end(&mut out);
    assert_eq!(out, b"");
}

#[test]
fn calls_without_ids_get_one_and_those_without_an_index_are_counted() {
    let call = r#"{"function":{"name":"f","arguments":{ "b" : 9007199254740993, "a":[1.50] }}}"#;
    let native = format!(r#"{{"message":{{"tool_calls":[{call},{call}]}},"done_reason":"stop"}}"#);
    let answer = answered(&native);
    let calls = &answer["choices"][0]["message"]["tool_calls"];
    for at in 0..2 {
        let id = calls[at]["id"].as_str().expect("an id");
        let random = id.strip_prefix("call_").expect("Ollama's form");
        assert!(random.len() == 8 && random.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9')));
        assert_eq!(calls[at]["index"], at);
        assert_eq!(calls[at]["function"]["arguments"], r#"{"b":9007199254740993,"a":[1.50]}"#);
    }
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn a_carriage_return_between_tokens_does_not_end_an_event() {
    let line = "{\"message\":{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\r}}}]},\
                \"logprobs\":[\r{}]}\n";
    assert!(!streamed(&[line.as_bytes()], false).contains('\r'));
}

#[test]
fn broken_utf_8_and_lone_surrogates_pass_as_replacements_or_as_they_are() {
    let line = b"{\"message\":{\"content\":\"a\xff\\ud800\"}}\n";
    let out = streamed(&[line], false);
    assert!(out.contains("\"content\":\"a\u{FFFD}\\ud800\""), "{out}");
}

proptest! {
    #[test]
    fn cuts_anywhere_change_nothing(
        which in 0..STREAMS.len(),
        cuts in proptest::collection::vec(0usize..4000, 0..12),
    ) {
        let golden = &STREAMS[which];
        let lines = golden.lines.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (lines.len() + 1)).collect();
        cuts.sort_unstable();
        let (mut parts, mut from) = (Vec::new(), 0);
        for cut in cuts {
            parts.push(&lines[from..cut]);
            from = cut;
        }
        parts.push(&lines[from..]);
        prop_assert_eq!(streamed(&parts, false), golden.events);
    }

    #[test]
    fn garbage_never_panics(
        garbage in proptest::collection::vec(any::<u8>(), 0..200),
        which in 0..STREAMS.len(),
        at in 0usize..4000,
    ) {
        let mut lines = STREAMS[which].lines.as_bytes().to_vec();
        let at = at % (lines.len() + 1);
        let end = (at + garbage.len()).min(lines.len());
        lines.splice(at..end, garbage);
        let (mut stream, mut out) = (Stream::new(about(true)), Vec::new());
        let pushed = stream.push(&lines, &mut out);
        stream.end(&mut out);
        prop_assert!(pushed.is_ok() || !out.ends_with(b"[DONE]\n\n"));
        prop_assert!(String::from_utf8(out).is_ok());
        let _ = whole(&lines, &about(true));
    }

    #[test]
    fn arguments_come_back_as_they_went(
        arguments in proptest::collection::btree_map(".*", ".*", 0..5),
        big in any::<u64>(),
    ) {
        let mut object = serde_json::to_value(&arguments).expect("JSON");
        object["big"] = big.into();
        let sent = object.to_string();
        let body = json!({"messages": [{
            "role": "assistant",
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": sent}}],
        }]});
        let native = request(body.to_string().as_bytes(), "m", &Options::default());
        let native: Value = serde_json::from_slice(&native.expect("a request")).expect("JSON");
        let message = &native["messages"][0];
        prop_assert_eq!(&message["tool_calls"][0]["function"]["arguments"], &object);
        let answer = answered(&json!({ "message": message }).to_string());
        let back = &answer["choices"][0]["message"]["tool_calls"][0];
        prop_assert_eq!(back["function"]["arguments"].as_str(), Some(sent.as_str()));
    }
}
