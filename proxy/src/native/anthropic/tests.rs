use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::native::lines::{self, call, end, line};
use crate::native::{About, Form, whole};

fn translated(more: &Value) -> Result<Value, Refusal> {
    let mut body =
        json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let options = Options { num_ctx: Some(4096), ..Options::default() };
    let out = request(body.to_string().as_bytes(), "real", &options)?;
    Ok(serde_json::from_slice(&out).expect("JSON"))
}

fn messages(content: &Value) -> Value {
    let messages = json!([{ "role": "user", "content": content }]);
    translated(&json!({ "messages": messages })).expect("a request")["messages"].clone()
}

#[test]
fn settings_become_options_and_the_gateways_own_win() {
    let out = translated(&json!({
        "temperature": 0.5, "top_p": 1, "top_k": 40, "stop_sequences": ["a", "b"], "stream": true,
        "metadata": { "user_id": "x" }, "num_ctx": 1, "options": { "num_ctx": 1 },
    }));
    let expected = json!({
        "model": "real",
        "messages": [{ "role": "user", "content": "hi" }],
        "stream": true,
        "options": {
            "num_ctx": 4096, "num_predict": 9, "stop": ["a", "b"], "temperature": 0.5, "top_k": 40, "top_p": 1,
        },
        "truncate": false,
    });
    assert_eq!(out, Ok(expected));
}

#[test]
fn a_conversation_with_tools_and_images_keeps_its_order_and_its_spelling() {
    let body = br#"{"model":"m","max_tokens":9,
      "system":[{"type":"text","text":"a\u00e9"},{"type":"text","text":"b","cache_control":{}}],
      "messages":[
        {"role":"user","content":[{"type":"text","text":"look"},
          {"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGk="}}]},
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},
          {"type":"redacted_thinking","data":"x"},{"type":"text","text":"I ask."},
          {"type":"tool_use","id":"t1","name":"f","input":{"n":10000000000000000000001}}]},
        {"role":"User","content":[{"type":"text","text":"and now?"},
          {"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"4"},{"type":"text","text":"2"}]},
          {"type":"tool_result","tool_use_id":"t2","is_error":true}]}],
      "tools":[{"name":"f","description":"d","input_schema":{"type":"object","z":1,"a":2},"cache_control":{}}]}"#;
    let out = request(body, "real", &Options::default()).expect("a request");
    let out = String::from_utf8(out).expect("UTF-8");
    let expected = concat!(
        r#"{"model":"real","messages":["#,
        r#"{"role":"system","content":"a\u00e9b"},"#,
        r#"{"role":"user","content":"look","images":["aGk="]},"#,
        r#"{"role":"assistant","content":"I ask.","thinking":"hm","tool_calls":[{"id":"t1","function":{"name":"f","arguments":{"n":10000000000000000000001}}}]},"#,
        r#"{"role":"tool","content":"42","tool_call_id":"t1"},"#,
        r#"{"role":"tool","content":"","tool_call_id":"t2"},"#,
        r#"{"role":"user","content":"and now?"}],"#,
        r#""stream":false,"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","z":1,"a":2}}}],"#,
        r#""options":{"num_predict":9}}"#,
    );
    assert_eq!(out, expected);
}

#[test]
fn empty_parts_are_left_out() {
    let texts =
        json!([{ "type": "text", "text": "" }, { "type": "text", "text": "a" }, { "type": "new" }]);
    assert_eq!(messages(&texts), json!([{ "role": "user", "content": "a" }]));
    let system = translated(&json!({ "system": "" })).expect("a request");
    assert_eq!(system["messages"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_was_found_in_the_web_stays_in_the_conversation() {
    let hit =
        json!({ "type": "web_search_result", "title": "T", "url": "u", "encrypted_content": "x" });
    let error =
        json!({ "type": "web_search_tool_result_error", "error_code": "max_uses_exceeded" });
    let code = "web_search_tool_result_error: max_uses_exceeded";
    for (content, expected) in
        [(json!([hit, hit]), "- T: u\n- T: u\n"), (error, code), (json!("said"), "said")]
    {
        let blocks = json!([
            { "type": "server_tool_use", "id": "s", "name": "web_search", "input": { "query": "q" } },
            { "type": "web_search_tool_result", "tool_use_id": "s", "content": content },
        ]);
        let messages =
            translated(&json!({ "messages": [{ "role": "assistant", "content": blocks }] }));
        let messages = messages.expect("a request")["messages"].clone();
        assert_eq!(
            messages[1],
            json!({ "role": "tool", "content": expected, "tool_call_id": "s" })
        );
    }
}

#[test]
fn what_ollama_passes_over_is_passed_over() {
    let result = json!({ "type": "tool_result", "tool_use_id": "t", "content": ["s", { "type": "text", "text": 7 }, { "type": "text", "text": "a" }] });
    assert_eq!(messages(&json!([result]))[0]["content"], "a");
    let system = translated(&json!({ "system": ["s", { "type": "text", "text": "a" }] }));
    assert_eq!(system.expect("a request")["messages"][0]["content"], "a");
}

#[test]
fn thinking_is_asked_for_as_the_client_says() {
    for (more, expected) in [
        (json!({}), Value::Null),
        (json!({ "thinking": { "type": "enabled", "budget_tokens": 1024 } }), json!(true)),
        (
            json!({ "thinking": { "type": "disabled" }, "output_config": { "effort": "low" } }),
            json!(false),
        ),
        (
            json!({ "thinking": { "type": "adaptive" }, "output_config": { "effort": "XHigh " } }),
            json!("high"),
        ),
        (json!({ "output_config": { "effort": "max" } }), json!("max")),
        (json!({ "output_config": { "effort": "huge" } }), Value::Null),
    ] {
        let out = translated(&more).expect("a request");
        assert_eq!(out["think"], expected, "{more}");
        let error = br#"{"error":"\"real\" does not support thinking"}"#;
        let again = without_thought(out.to_string().as_bytes(), error);
        let again = again.map(|body| serde_json::from_slice::<Value>(&body).expect("JSON"));
        let mut thoughtless = out;
        thoughtless.as_object_mut().expect("an object").remove("think");
        assert_eq!(again, (!expected.is_null()).then_some(thoughtless), "{more}");
    }
    let said =
        json!([{ "role": "user", "content": r#","think":true, does not support thinking"# }]);
    let body = translated(&json!({ "messages": said })).expect("a request").to_string();
    assert_eq!(without_thought(body.as_bytes(), b"does not support thinking"), None);
    assert_eq!(without_thought(br#"{"a":1,"think":true}"#, b"some other error"), None);
}

#[test]
fn tools_are_left_out_where_none_is_to_be_called() {
    let tools = json!([{ "name": "f" }]);
    let out = translated(&json!({ "tools": tools, "tool_choice": { "type": "none" } }));
    assert_eq!(out.expect("a request")["tools"], Value::Null);
    let out = translated(&json!({ "tools": tools, "tool_choice": { "type": "any" } }));
    let parameters = &out.expect("a request")["tools"][0]["function"]["parameters"];
    assert_eq!(parameters, &json!({ "type": "object", "properties": {} }));
}

#[test]
fn what_cannot_be_carried_is_refused_and_named() {
    for (more, param) in [
        (json!({ "max_tokens": 0 }), "max_tokens"),
        (json!({ "max_tokens": null }), "max_tokens"),
        (json!({ "max_tokens": 1.5 }), "max_tokens"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": null }), "messages"),
        (json!({ "messages": [7] }), "messages"),
        (json!({ "messages": [{ "role": "user", "content": 7 }] }), "messages"),
        (json!({ "messages": [{ "role": "user", "content": [7] }] }), "messages"),
        (json!({ "messages": [{ "content": [{ "type": "text", "text": 7 }] }] }), "messages"),
        (json!({ "messages": [{ "content": [{ "type": "image" }] }] }), "messages"),
        (
            json!({ "messages": [{ "content": [{ "type": "image", "source": { "type": "url" } }] }] }),
            "messages",
        ),
        (json!({ "messages": [{ "content": [{ "type": "tool_use", "id": "a" }] }] }), "messages"),
        (json!({ "messages": [{ "role": "user", "content": [] }] }), "messages"),
        (json!({ "messages": [{ "role": "user" }] }), "messages"),
        (json!({ "system": 7 }), "system"),
        (json!({ "stop_sequences": "a" }), "stop_sequences"),
        (json!({ "stop_sequences": [7] }), "stop_sequences"),
        (json!({ "temperature": "hot" }), "temperature"),
        (json!({ "tools": 7 }), "tools"),
        (json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }), "tools"),
        (json!({ "thinking": 7 }), "thinking"),
    ] {
        assert_eq!(translated(&more).expect_err("refused").param, Some(param), "{more}");
    }
}

fn about() -> About {
    About { model: "asked".into(), id: "msg_1".into(), form: Form::Message { prompt_tokens: 7 } }
}

#[test]
fn a_whole_answer_is_a_message() {
    let said = json!({ "content": "yes", "thinking": "hm", "tool_calls": [call("f")] });
    let out = whole(line(said, end("stop")).as_bytes(), &about()).expect("an answer");
    let out: Value = serde_json::from_slice(&out).expect("JSON");
    let expected = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "asked",
        "content": [
            { "type": "thinking", "thinking": "hm", "signature": "" },
            { "type": "text", "text": "yes" },
            { "type": "tool_use", "id": "call_f", "name": "f", "input": { "a": [1] } },
        ],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": { "input_tokens": 26, "output_tokens": 5 },
    });
    assert_eq!(out, expected);
    for (reason, expected) in
        [("stop", "end_turn"), ("length", "max_tokens"), ("other", "stop_sequence")]
    {
        let out = whole(line(json!({ "content": "a" }), end(reason)).as_bytes(), &about());
        let out: Value = serde_json::from_slice(&out.expect("an answer")).expect("JSON");
        assert_eq!(out["stop_reason"], expected);
    }
    assert!(whole(br#"{"error":"out of memory"}"#, &about()).is_err());
}

fn events(lines: &str, parts: usize) -> Vec<(String, Value)> {
    lines::events(about(), lines, parts)
}

#[test]
fn a_stream_is_one_of_blocks_however_it_is_cut() {
    let lines = [
        line(json!({ "content": "", "thinking": "h" }), json!({})),
        line(json!({ "content": "", "thinking": "m" }), json!({})),
        line(json!({ "content": "y\"es" }), json!({})),
        line(json!({ "content": "", "thinking": "but" }), json!({})),
        line(json!({ "content": "", "tool_calls": [call("f"), call("g")] }), json!({})),
        line(json!({ "content": "" }), end("stop")),
    ]
    .concat();
    let start = |index: u64, block: Value| {
        ("content_block_start", json!({ "index": index, "content_block": block }))
    };
    let delta = |index: u64, delta: Value| {
        ("content_block_delta", json!({ "index": index, "delta": delta }))
    };
    let stop = |index: u64| ("content_block_stop", json!({ "index": index }));
    let thinking = json!({ "type": "thinking", "thinking": "", "signature": "" });
    let thought = |text: &str| json!({ "type": "thinking_delta", "thinking": text });
    let used = |name: &str| json!({ "type": "tool_use", "id": format!("call_{name}"), "name": name, "input": {} });
    let input = json!({ "type": "input_json_delta", "partial_json": "{\"a\":[1]}" });
    let expected = [
        (
            "message_start",
            json!({ "message": {
                "id": "msg_1", "type": "message", "role": "assistant", "model": "asked", "content": [],
                "stop_reason": null, "stop_sequence": null,
                "usage": { "input_tokens": 7, "output_tokens": 0 },
            }}),
        ),
        start(0, thinking.clone()),
        delta(0, thought("h")),
        delta(0, thought("m")),
        stop(0),
        start(1, json!({ "type": "text", "text": "" })),
        delta(1, json!({ "type": "text_delta", "text": "y\"es" })),
        stop(1),
        start(2, thinking),
        delta(2, thought("but")),
        stop(2),
        start(3, used("f")),
        delta(3, input.clone()),
        stop(3),
        start(4, used("g")),
        delta(4, input),
        stop(4),
        (
            "message_delta",
            json!({
                "delta": { "stop_reason": "tool_use", "stop_sequence": null },
                "usage": { "input_tokens": 26, "output_tokens": 5 },
            }),
        ),
        ("message_stop", json!({})),
    ];
    let expected = expected.map(|(name, data)| (name.to_owned(), data));
    for parts in [1, 2, 7, lines.len()] {
        assert_eq!(events(&lines, parts), expected, "in {parts} parts");
    }
}

#[test]
fn a_stream_that_breaks_off_has_no_end_and_one_that_fails_says_why() {
    let lines = line(json!({ "content": "a" }), json!({}));
    let names =
        |lines: &str| events(lines, 1).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let begun = ["message_start", "content_block_start", "content_block_delta"];
    assert_eq!(names(&lines), begun);
    let failed = events(&format!("{lines}{}\n", json!({ "error": "out of \"memory\"" })), 1);
    let error = json!({ "error": { "type": "api_error", "message": "out of \"memory\"" } });
    assert_eq!(failed.last(), Some(&("error".to_owned(), error)));
    let nothing = names(&line(json!({ "content": "" }), end("stop")));
    assert_eq!(nothing, ["message_start", "message_delta", "message_stop"]);
}

proptest! {
    #[test]
    fn garbage_never_panics_and_what_is_accepted_becomes_json(
        garbage in proptest::collection::vec(any::<u8>(), 0..40),
        at in 0usize..800,
    ) {
        let mut body = json!({
            "max_tokens": 9, "system": [{ "type": "text", "text": "a" }],
            "messages": [{ "role": "user", "content": [
                { "type": "text", "text": "look \u{e9}" },
                { "type": "image", "source": { "type": "base64", "data": "aGk=" } },
                { "type": "tool_use", "id": "a", "name": "b", "input": {} },
                { "type": "tool_result", "tool_use_id": "t1", "content": [{ "type": "text", "text": "4" }] },
            ]}],
            "tools": [{ "name": "f", "input_schema": { "type": "object" } }],
        }).to_string().into_bytes();
        let at = at % (body.len() + 1);
        let end = (at + garbage.len()).min(body.len());
        body.splice(at..end, garbage);
        if let Ok(out) = request(&body, "m", &Options::default()) {
            prop_assert!(serde_json::from_slice::<&RawValue>(&out).is_ok());
        }
    }
}
