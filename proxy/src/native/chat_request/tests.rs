use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn translated(body: &str, options: &Options) -> String {
    let out = request(body.as_bytes(), "qwen3:8b", options).expect("a request");
    String::from_utf8(out).expect("UTF-8")
}

/// The value at `pointer` of the translation of a body with one message and `fields`.
fn field(fields: &str, pointer: &str) -> Value {
    let body = format!(r#"{{"messages":[{{"role":"user","content":"x"}}]{fields}}}"#);
    let out: Value = serde_json::from_str(&translated(&body, &Options::default())).expect("JSON");
    out.pointer(pointer).cloned().unwrap_or(Value::Null)
}

fn refusal(body: &str) -> Refusal {
    request(body.as_bytes(), "m", &Options::default()).expect_err("a refusal")
}

fn refused_field(fields: &str) -> Option<&'static str> {
    refusal(&format!(r#"{{"messages":[{{"role":"user","content":"x"}}]{fields}}}"#)).param
}

#[test]
fn developers_speak_as_the_system() {
    let body = r#"{"messages":[{"role":"developer","content":"a"},{"role":"developer","content":[{"type":"text","text":"b"}]}]}"#;
    let out: Value = serde_json::from_str(&translated(body, &Options::default())).expect("JSON");
    let said = |text: &str| json!({ "role": "system", "content": text });
    assert_eq!(out["messages"], json!([said("a"), said("b")]));
}

/// Compared with Ollama's own translation once; see `NAME.request.json`.
#[test]
fn a_request_means_what_v1_makes_of_it() {
    for (body, expected) in [
        (include_str!("../golden/agent.request.json"), include_str!("../golden/agent.chat.json")),
        (include_str!("../golden/vision.request.json"), include_str!("../golden/vision.chat.json")),
        (
            include_str!("../golden/parameters.request.json"),
            include_str!("../golden/parameters.chat.json"),
        ),
    ] {
        assert_eq!(translated(body, &Options::default()), expected.trim_end());
    }
}

#[test]
fn a_bare_request_has_the_defaults_of_v1() {
    assert_eq!(
        translated(
            r#"{"model":"x","messages":[{"role":"user","content":"x"}]}"#,
            &Options::default()
        ),
        r#"{"model":"qwen3:8b","messages":[{"role":"user","content":"x"}],"stream":false,"options":{"temperature":1.0,"top_p":1.0}}"#
    );
}

#[test]
fn a_route_forces_what_concerns_the_runner() {
    let mut others = serde_json::Map::new();
    others.insert("num_gpu".into(), 99.into());
    others.insert("num_ctx".into(), 1.into());
    let options = Options {
        num_ctx: Some(16384),
        keep_alive: Some("10m".into()),
        think: Some(Think::Bool(false)),
        others,
    };
    let message = r#""messages":[{"role":"user","content":"x"}]"#;
    assert_eq!(
        translated(&format!("{{{message}}}"), &options),
        format!(
            r#"{{"model":"qwen3:8b",{message},"stream":false,"keep_alive":"10m","options":{{"num_ctx":16384,"num_gpu":99,"temperature":1.0,"top_p":1.0}},"think":false,"truncate":false}}"#
        )
    );
    let own = r#""temperature":0,"top_p":1e-1,"max_completion_tokens":7,"reasoning_effort":"high","options":{"num_ctx":4,"num_gpu":0},"keep_alive":0"#;
    assert_eq!(
        translated(&format!("{{{message},{own}}}"), &options),
        format!(
            r#"{{"model":"qwen3:8b",{message},"stream":false,"keep_alive":"10m","options":{{"num_ctx":16384,"num_gpu":99,"num_predict":7,"temperature":0,"top_p":1e-1}},"think":"high","truncate":false}}"#
        )
    );
}

#[test]
fn keep_alive_in_bare_seconds_is_a_number() {
    for (given, sent) in [("-1", json!(-1)), ("0", json!(0)), ("90s", json!("90s"))] {
        let options = Options { keep_alive: Some(given.into()), ..Options::default() };
        let out = translated(r#"{"messages":[{"content":""}]}"#, &options);
        let out: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(out["keep_alive"], sent);
    }
}

#[test]
fn no_digit_and_no_order_is_lost() {
    let parameters =
        r#"{"type":"object","properties":{"z":{"enum":[18446744073709551617,1.50]},"a":{}}}"#;
    let body = format!(
        r#"{{"seed":9007199254740993,"temperature":0.10,"messages":[{{"role":"assistant","tool_calls":[{{"id":"c","function":{{"name":"f","arguments":"{{\"z\": 9007199254740993, \"a\": 1.50}}"}}}}]}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{parameters}}}}}],"response_format":{{"type":"json_schema","json_schema":{{"schema":{parameters}}}}}}}"#
    );
    let out = translated(&body, &Options::default());
    assert!(out.contains(r#""seed":9007199254740993,"temperature":0.10"#), "{out}");
    assert!(out.contains(r#""arguments":{"z": 9007199254740993, "a": 1.50}"#), "{out}");
    assert!(out.contains(&format!(r#""format":{parameters}"#)), "{out}");
    assert!(out.contains(&format!(r#""parameters":{parameters}"#)), "{out}");
}

#[test]
fn the_older_name_of_the_limit_wins() {
    assert_eq!(field(r#","max_completion_tokens":5"#, "/options/num_predict"), 5);
    assert_eq!(field(r#","max_tokens":null,"max_completion_tokens":5"#, "/options/num_predict"), 5);
    assert_eq!(field(r#","max_tokens":3,"max_completion_tokens":5"#, "/options/num_predict"), 3);
}

#[test]
fn reasoning_effort_is_the_nearest_of_ollamas_levels() {
    for (effort, think) in [
        ("none", json!(false)),
        ("minimal", json!("low")),
        ("medium", json!("medium")),
        ("xhigh", json!("max")),
        ("ultra", json!("max")),
        ("", json!(null)),
    ] {
        assert_eq!(field(&format!(r#","reasoning_effort":"{effort}""#), "/think"), think);
        let both = format!(r#","reasoning_effort":"max","reasoning":{{"effort":"{effort}"}}"#);
        assert_eq!(field(&both, "/think"), think);
    }
    assert_eq!(refused_field(r#","reasoning_effort":"High""#), Some("reasoning_effort"));
    assert_eq!(refused_field(r#","reasoning":{"effort":"no"}"#), Some("reasoning"));
}

#[test]
fn tool_choice_none_hides_the_tools_and_no_other_choice_matters() {
    for (choice, shown) in [(r#""none""#, false), (r#""required""#, true), ("{}", true)] {
        let tools = field(&format!(r#","tools":[{{}}],"tool_choice":{choice}"#), "/tools");
        assert_eq!(tools.is_array(), shown, "{choice}");
    }
}

#[test]
fn what_v1_refuses_is_refused() {
    for (fields, param) in [
        (r#","max_tokens":1.5"#, "max_tokens"),
        (r#","seed":"1""#, "seed"),
        (r#","seed":1e3"#, "seed"),
        (r#","temperature":"hot""#, "temperature"),
        (r#","temperature":1e999"#, "temperature"),
        (r#","stream":1"#, "stream"),
        (r#","top_logprobs":21"#, "top_logprobs"),
        (r#","tools":{}"#, "tools"),
        (r#","response_format":"json""#, "response_format"),
        (r#","messages":[]"#, "messages"),
        (r#","messages":{}"#, "messages"),
        (r#","messages":null"#, "messages"),
    ] {
        assert_eq!(refused_field(fields), Some(param), "{fields}");
    }
    for body in ["", "[]", "{", "nonsense", "{}x"] {
        assert_eq!(refusal(body).param, None, "{body}");
    }
}

#[test]
fn messages_v1_refuses_are_refused_in_its_words() {
    let part = |part: &str| format!(r#"{{"role":"user","content":[{part}]}}"#);
    let call = |arguments: &str| {
        format!(r#"{{"tool_calls":[{{"function":{{"name":"f","arguments":{arguments}}}}}]}}"#)
    };
    let url = |url: &str| part(&format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#));
    let no_urls = "image URLs are not currently supported, please use base64 encoded data instead";
    for (message, expected) in [
        (r#"{"role":"user"}"#.into(), "invalid message content type: <nil>"),
        (r#"{"role":"user","content":7}"#.into(), "invalid message content type: float64"),
        (part(r#"{"type":"file"}"#), "invalid message format"),
        (part("1"), "invalid message format"),
        (part(r#"{"type":"text"}"#), "invalid message format"),
        (url("https://x/a.png"), no_urls),
        (url("data:image/gif;base64,aGk="), "invalid image input"),
        (url("data:image/png;base64,aGk"), "invalid image input"),
        (url("data:image/png;base64,a-_="), "invalid image input"),
        (part(r#"{"type":"input_audio"}"#), "invalid input_audio format"),
        (call(r#""""#), "invalid tool call arguments"),
        (call(r#""[1]""#), "invalid tool call arguments"),
        (call("{}"), "`id`, `name` and `arguments` of a tool call must be strings"),
        (r#"{"role":7,"content":""}"#.into(), "`role` of a message must be a string"),
        ("7".into(), "a message must be an object"),
    ] {
        let refusal = refusal(&format!(r#"{{"messages":[{message}]}}"#));
        assert_eq!((refusal.message.as_str(), refusal.param), (expected, Some("messages")));
    }
}

#[test]
fn text_that_is_no_text_is_no_panic() {
    let body =
        b"{\"messages\":[{\"role\":\"\\udc00\",\"content\":\"\xff\\ud800\"}],\"stop\":\"\\ud800\"}";
    let out = request(body, "m", &Options::default()).expect("a request");
    let out = String::from_utf8(out).expect("UTF-8");
    assert!(out.contains("\"content\":\"\u{FFFD}\\ud800\""), "{out}");
}

#[test]
fn a_result_belongs_to_the_last_message_and_there_to_the_first_call_of_its_id() {
    let call = |name: &str| json!({"id": "c", "function": {"name": name, "arguments": "{}"}});
    let calls = |a: &str, b: &str| json!({"role": "assistant", "tool_calls": [call(a), call(b)]});
    let result = json!({"role": "Tool", "content": "", "tool_call_id": "c"});
    let body = json!({"messages": [calls("a", "b"), result, calls("d", "e")]}).to_string();
    let out: Value = serde_json::from_str(&translated(&body, &Options::default())).expect("JSON");
    assert_eq!(out["messages"][1]["tool_name"], "d");
}

proptest! {
    #[test]
    fn garbage_never_panics_and_what_is_accepted_becomes_json(
        garbage in proptest::collection::vec(any::<u8>(), 0..40),
        at in 0usize..4000,
        which in 0usize..3,
    ) {
        let bodies = [
            include_str!("../golden/agent.request.json"),
            include_str!("../golden/vision.request.json"),
            include_str!("../golden/parameters.request.json"),
        ];
        let mut body = bodies[which].as_bytes().to_vec();
        let at = at % (body.len() + 1);
        let end = (at + garbage.len()).min(body.len());
        body.splice(at..end, garbage);
        if let Ok(out) = request(&body, "m", &Options::default()) {
            prop_assert!(serde_json::from_slice::<&RawValue>(&out).is_ok());
        }
        prop_assert!(!super::super::least::exceeds(&body, &["messages"], body.len() as u64));
        prop_assert!(super::super::context::prompt_tokens_estimate(&body) < 10_000);
    }
}
