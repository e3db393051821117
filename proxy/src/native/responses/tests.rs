use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::native::lines::{self, call, end, line};
use crate::native::{About, Form, whole};

fn translated(more: &Value) -> Result<Value, Refusal> {
    let mut body = json!({ "model": "m", "input": "hi" });
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    let options = Options { num_ctx: Some(4096), ..Options::default() };
    let out = request(body.to_string().as_bytes(), "real", &options)?;
    Ok(serde_json::from_slice(&out).expect("JSON"))
}

fn messages(items: &Value) -> Value {
    translated(&json!({ "input": items })).expect("a request")["messages"].clone()
}

fn tools(tools: &Value) -> Value {
    translated(&json!({ "tools": tools })).expect("a request")["tools"].clone()
}

#[test]
fn settings_become_options_and_the_gateways_own_win() {
    let out = translated(&json!({
        "instructions": "Be brief.", "temperature": 0.5, "top_p": 1, "max_output_tokens": 9, "stream": true,
        "store": true, "previous_response_id": "resp_0", "num_ctx": 1, "options": { "num_ctx": 1 },
    }));
    let expected = json!({
        "model": "real",
        "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "hi" }],
        "stream": true,
        "options": { "num_ctx": 4096, "num_predict": 9, "temperature": 0.5, "top_p": 1 },
        "truncate": false,
    });
    assert_eq!(out, Ok(expected));
    let bare = translated(&json!({})).expect("a request");
    assert_eq!(bare["options"], json!({ "num_ctx": 4096, "temperature": 1.0 }));
}

#[test]
fn a_conversation_with_tools_and_images_keeps_its_order_and_its_spelling() {
    let body = br#"{"model":"m","instructions":"a\u00e9","input":[
        {"role":"developer","content":"b"},
        {"type":"message","role":"user","content":[{"type":"input_text","text":"look"},
          {"type":"input_image","detail":"auto","image_url":"data:image/png;base64,aGk="},
          {"type":"input_image","file_id":"f"},{"type":"input_text","text":" here"}]},
        {"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"hm"},
        {"type":"function_call","call_id":"c1","name":"f","arguments":"{\"n\":10000000000000000000001}"},
        {"type":"function_call","call_id":"c2","name":"g","arguments":""},
        {"type":"message","role":"assistant","content":[{"type":"output_text","text":"I ask.","annotations":[]}]},
        {"type":"function_call_output","call_id":"c1","output":"42"},
        {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"4"},{"type":"input_text","text":"3"}]},
        {"type":"web_search_call","id":"ws_1","status":"completed"},
        {"type":"reasoning","summary":[]},
        {"role":"assistant","content":"It is."},
        {"type":"reasoning","encrypted_content":"so"}],
      "tools":[{"type":"function","name":"f","description":"d","strict":true,"parameters":{"type":"object","z":1,"a":2}}]}"#;
    let out = request(body, "real", &Options::default()).expect("a request");
    let out = String::from_utf8(out).expect("UTF-8");
    let expected = concat!(
        r#"{"model":"real","messages":["#,
        r#"{"role":"system","content":"a\u00e9"},"#,
        r#"{"role":"system","content":"b"},"#,
        r#"{"role":"user","content":"look here","images":["aGk="]},"#,
        r#"{"role":"assistant","content":"I ask.","thinking":"hm","tool_calls":["#,
        r#"{"id":"c1","function":{"name":"f","arguments":{"n":10000000000000000000001}}},"#,
        r#"{"id":"c2","function":{"name":"g","arguments":{}}}]},"#,
        r#"{"role":"tool","content":"42","tool_call_id":"c1"},"#,
        r#"{"role":"tool","content":"43","tool_call_id":"c2"},"#,
        r#"{"role":"assistant","content":"It is."},"#,
        r#"{"role":"assistant","thinking":"so"}],"#,
        r#""stream":false,"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","z":1,"a":2}}}],"#,
        r#""options":{"temperature":1.0}}"#,
    );
    assert_eq!(out, expected);
}

#[test]
fn what_the_assistant_says_and_thinks_between_calls_stays_with_them() {
    let said = |text: &str| json!({ "role": "assistant", "content": text });
    let thought = |text: &str| json!({ "type": "reasoning", "encrypted_content": text });
    let called = |id: &str| json!({ "type": "function_call", "call_id": id, "name": "f", "arguments": "{}" });
    let result = |id: &str| json!({ "type": "function_call_output", "call_id": id, "output": id });
    let call = |id: &str| json!({ "id": id, "function": { "name": "f", "arguments": {} } });
    let told = |id: &str| json!({ "role": "tool", "content": id, "tool_call_id": id });
    let all = messages(&json!([
        { "role": "user", "content": "hi" },
        thought("a"), said("one"), thought("b"), called("c"), said("two"), thought("d"), called("e"),
        result("c"), result("e"), said("so"), said("it is"),
    ]));
    let whole = json!({
        "role": "assistant", "content": "one\ntwo", "thinking": "a\nb\nd", "tool_calls": [call("c"), call("e")],
    });
    let user = json!({ "role": "user", "content": "hi" });
    assert_eq!(all, json!([user, whole, told("c"), told("e"), said("so"), said("it is")]));
    // What others say between is theirs.
    assert_eq!(messages(&json!([called("c"), user, result("c")]))[1], user);
    assert_eq!(messages(&json!([thought("a"), thought("b")]))[0]["thinking"], "a\nb");
}

#[test]
fn tools_are_the_ones_that_the_client_runs() {
    let named = |name: &str| json!({ "type": "function", "function": { "name": name } });
    let function = |name: &str| json!({ "type": "function", "name": name });
    let hosted = [
        json!({ "type": "web_search", "external_web_access": false }),
        json!({ "type": "web_search_preview", "name": "s" }),
        json!({ "type": "file_search", "vector_store_ids": [] }),
    ];
    assert_eq!(tools(&json!(hosted)), Value::Null);
    let space = json!({ "type": "namespace", "name": "a", "tools": [function("f"), function("a.g"),
        { "type": "namespace", "name": "b", "tools": [function("h")] }, { "type": "namespace", "name": "c" }] });
    assert_eq!(
        tools(&json!([space, function("f"), hosted[0]])),
        json!([named("a.f"), named("a.g"), named("a.b.h"), named("f")])
    );
    let out = translated(&json!({ "tools": [function("f")], "tool_choice": "none" }));
    assert_eq!(out.expect("a request")["tools"], Value::Null);
    let deep =
        (0..9).fold(json!([]), |within, _| json!([{ "type": "namespace", "tools": within }]));
    let long = json!([{ "type": "namespace", "name": "n".repeat(129), "tools": [function("f")] }]);
    for tools in [deep, long] {
        let refusal = translated(&json!({ "tools": tools })).expect_err("too much");
        assert_eq!(refusal.param, Some("tools"));
    }
}

#[test]
fn the_form_and_the_effort_are_asked_for_as_the_client_says() {
    let schema = json!({ "type": "object" });
    for (more, format, think) in [
        (json!({}), Value::Null, Value::Null),
        (
            json!({ "text": { "verbosity": "low" }, "reasoning": { "summary": "auto" } }),
            Value::Null,
            Value::Null,
        ),
        (
            json!({ "text": { "format": { "type": "json_schema", "name": "n", "schema": schema } } }),
            schema.clone(),
            Value::Null,
        ),
        (json!({ "text": { "format": { "type": "json_object" } } }), json!("json"), Value::Null),
        (json!({ "text": { "format": { "type": "text" } } }), Value::Null, Value::Null),
        (json!({ "reasoning": { "effort": "minimal" } }), Value::Null, json!("low")),
        (json!({ "reasoning": { "effort": "none" } }), Value::Null, json!(false)),
    ] {
        let out = translated(&more).expect("a request");
        assert_eq!((&out["format"], &out["think"]), (&format, &think), "{more}");
    }
}

#[test]
fn what_cannot_be_carried_is_refused_and_named() {
    let item = |item: Value| json!({ "input": [item] });
    let part = |part: Value| item(json!({ "role": "user", "content": [part] }));
    for (more, param) in [
        (json!({ "input": null }), "input"),
        (json!({ "input": "" }), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": 7 }), "input"),
        (item(json!(7)), "input"),
        (item(json!({})), "input"),
        (item(json!({ "type": "new" })), "input"),
        (item(json!({ "type": "item_reference", "id": "msg_1" })), "input"),
        (item(json!({ "type": "message", "content": "a" })), "input"),
        (item(json!({ "role": 7, "content": "a" })), "input"),
        (item(json!({ "role": "user", "content": 7 })), "input"),
        (item(json!({ "type": "function_call", "name": "f", "arguments": "{" })), "input"),
        (item(json!({ "type": "function_call", "name": "f", "arguments": "[]" })), "input"),
        (item(json!({ "type": "function_call", "name": "f", "arguments": {} })), "input"),
        (item(json!({ "type": "function_call", "name": 7 })), "input"),
        (item(json!({ "type": "function_call_output", "call_id": 7, "output": "" })), "input"),
        (part(json!(7)), "input"),
        (part(json!({ "type": "new" })), "input"),
        (part(json!({ "type": "input_text", "text": 7 })), "input"),
        (part(json!({ "type": "input_file", "file_id": "f" })), "input"),
        (part(json!({ "type": "input_image", "image_url": "https://h/i.png" })), "input"),
        (part(json!({ "type": "input_image", "image_url": "data:image/png;base64,%" })), "input"),
        (json!({ "instructions": 7 }), "instructions"),
        (json!({ "max_output_tokens": 1.5 }), "max_output_tokens"),
        (json!({ "temperature": "hot" }), "temperature"),
        (json!({ "stream": 1 }), "stream"),
        (json!({ "tools": 7 }), "tools"),
        (json!({ "tools": [7] }), "tools"),
        (json!({ "text": 7 }), "text"),
        (json!({ "text": { "format": 7 } }), "text"),
        (json!({ "reasoning": { "effort": "huge" } }), "reasoning"),
        (json!({ "reasoning": 7 }), "reasoning"),
    ] {
        assert_eq!(translated(&more).expect_err("refused").param, Some(param), "{more}");
    }
}

#[test]
fn the_estimate_counts_what_is_said_called_and_offered() {
    let of = |more: Value| prompt_tokens(more.to_string().as_bytes());
    let plain = of(json!({ "input": "one two three" }));
    assert_eq!(plain, of(json!({ "input": [{ "role": "user", "content": "one two three" }] })));
    assert!(plain >= 3);
    for more in [
        json!({ "input": "one two three", "instructions": "four" }),
        json!({ "input": "one two three", "tools": [{ "name": "f" }] }),
        json!({ "input": [{ "content": [{ "type": "input_text", "text": "one two three" }, { "type": "input_image" }] }] }),
        json!({ "input": [{ "content": "one two three" }, { "arguments": "{\"a\":1}", "name": "f" }] }),
        json!({ "input": [{ "content": "one two three" }, { "output": [{ "text": "four" }] }] }),
    ] {
        assert!(of(more.clone()) > plain, "{more}");
    }
    for none in ["", "{", "[]", "{\"input\":7}"] {
        assert_eq!(prompt_tokens(none.as_bytes()), 0, "{none}");
    }
}

fn about(request: &Value) -> About {
    let echo = echo(request.to_string().as_bytes());
    let form = Form::Response { created: 1_700_000_000, echo };
    About { model: "asked".into(), id: "resp_a1".into(), form }
}

/// A response without what is the same in each.
fn response(more: Value) -> Value {
    let mut all = json!({
        "id": "resp_a1", "object": "response", "created_at": 1_700_000_000, "completed_at": null,
        "status": "completed", "incomplete_details": null, "model": "asked", "error": null,
        "usage": {
            "input_tokens": 26, "output_tokens": 5, "total_tokens": 31,
            "input_tokens_details": { "cached_tokens": 0 }, "output_tokens_details": { "reasoning_tokens": 0 },
        },
        "background": false, "instructions": null, "max_output_tokens": null, "metadata": {},
        "parallel_tool_calls": true, "reasoning": null, "temperature": 1, "text": { "format": { "type": "text" } },
        "tool_choice": "auto", "tools": [], "top_p": 1, "truncation": "disabled", "frequency_penalty": 0,
        "max_tool_calls": null, "presence_penalty": 0, "previous_response_id": null, "prompt_cache_key": null,
        "safety_identifier": null, "service_tier": "default", "store": false, "top_logprobs": 0,
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    all
}

fn message(index: u64, text: &str, status: &str) -> Value {
    let part = json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] });
    json!({ "id": format!("msg_a1_{index}"), "type": "message", "status": status, "role": "assistant", "content": [part] })
}

fn reasoning(index: u64, text: &str) -> Value {
    let summary = [json!({ "type": "summary_text", "text": text })];
    json!({ "id": format!("rs_a1_{index}"), "type": "reasoning", "summary": summary, "encrypted_content": text })
}

fn function_call(index: u64, name: &str) -> Value {
    json!({
        "id": format!("fc_a1_{index}"), "type": "function_call", "status": "completed",
        "call_id": format!("call_{name}"), "name": name, "arguments": "{\"a\":[1]}",
    })
}

/// What a whole answer becomes; when it was completed is left out.
fn answered(native: &str, request: &Value) -> Value {
    let out = whole(native.as_bytes(), &about(request)).expect("an answer");
    let mut out: Value = serde_json::from_slice(&out).expect("JSON");
    let completed = out["completed_at"].take().as_u64();
    assert_eq!(completed >= Some(1_700_000_000), out["status"] == "completed");
    out
}

#[test]
fn a_whole_answer_is_a_response() {
    let said = json!({ "content": "yes", "thinking": "hm", "tool_calls": [call("f")] });
    let output = [reasoning(0, "hm"), message(1, "yes", "completed"), function_call(2, "f")];
    let asked = json!({ "tools": [{ "type": "web_search" }], "temperature": 0.5, "instructions": "Be\nbrief." });
    let expected = json!({
        "output": output, "tools": [{ "type": "web_search" }], "temperature": 0.5, "instructions": "Be\nbrief.",
    });
    assert_eq!(answered(&line(said, end("stop")), &asked), response(expected));
    // One that only calls says nothing; one that does neither says so.
    let called = line(json!({ "content": "", "tool_calls": [call("f")] }), end("stop"));
    assert_eq!(answered(&called, &json!({}))["output"], json!([function_call(0, "f")]));
    let nothing = line(json!({ "content": "" }), end("stop"));
    assert_eq!(answered(&nothing, &json!({}))["output"], json!([message(0, "", "completed")]));
    assert!(whole(br#"{"error":"out of memory"}"#, &about(&json!({}))).is_err());
}

#[test]
fn an_answer_that_was_cut_says_so() {
    let cut = line(json!({ "content": "a" }), end("length"));
    let out = answered(&cut, &json!({}));
    let expected = json!({
        "status": "incomplete", "incomplete_details": { "reason": "max_output_tokens" },
        "output": [message(0, "a", "incomplete")],
    });
    assert_eq!(out, response(expected));
    let (name, data) = events(&cut, 1).pop().expect("an event");
    assert_eq!((&*name, &data["response"]), ("response.incomplete", &out));
}

/// The events of `lines`, given in `parts` pieces; their numbers and the time of completion are left out.
fn events(lines: &str, parts: usize) -> Vec<(String, Value)> {
    let all = lines::events(about(&json!({})), lines, parts).into_iter().zip(0..);
    all.map(|((name, mut data), number)| {
        let events = data.as_object_mut().expect("an object");
        assert_eq!(events.remove("sequence_number"), Some(json!(number)));
        if let Some(response) = events.get_mut("response") {
            let over = response["status"] == "completed";
            assert_eq!(response["completed_at"].take().is_u64(), over);
        }
        (name, data)
    })
    .collect()
}

fn at(id: &str, index: u64, more: Value) -> Value {
    let mut all = json!({ "item_id": format!("{id}_a1_{index}"), "output_index": index });
    for (name, value) in more.as_object().into_iter().flatten() {
        all[name] = value.clone();
    }
    all
}

fn item(name: &str, index: u64, item: Value) -> (String, Value) {
    (format!("response.output_item.{name}"), json!({ "output_index": index, "item": item }))
}

fn event(name: &str, data: Value) -> (String, Value) {
    (format!("response.{name}"), data)
}

#[test]
fn a_stream_is_one_of_items_however_it_is_cut() {
    let lines = [
        line(json!({ "content": "", "thinking": "h" }), json!({})),
        line(json!({ "content": "", "thinking": "m" }), json!({})),
        line(json!({ "content": "y\"e" }), json!({})),
        line(json!({ "content": "s" }), json!({})),
        line(json!({ "content": "", "tool_calls": [call("f"), call("g")] }), json!({})),
        line(json!({ "content": "so" }), json!({})),
        line(json!({ "content": "" }), end("stop")),
    ]
    .concat();
    let begun = json!({ "response": response(json!({ "status": "in_progress", "usage": null, "output": [] })) });
    let thought = |text: &str| {
        let data = at("rs", 0, json!({ "summary_index": 0, "delta": text }));
        event("reasoning_summary_text.delta", data)
    };
    let said = |index: u64, text: &str| {
        let data = at("msg", index, json!({ "content_index": 0, "delta": text, "logprobs": [] }));
        event("output_text.delta", data)
    };
    let opened = |index: u64| {
        let mut opened = message(index, "", "in_progress");
        opened["content"] = json!([]);
        let part = message(index, "", "")["content"][0].clone();
        [
            item("added", index, opened),
            event(
                "content_part.added",
                at("msg", index, json!({ "content_index": 0, "part": part })),
            ),
        ]
    };
    let closed = |index: u64, text: &str| {
        let whole = message(index, text, "completed");
        let part = whole["content"][0].clone();
        let done = json!({ "content_index": 0, "text": text, "logprobs": [] });
        [
            event("output_text.done", at("msg", index, done)),
            event(
                "content_part.done",
                at("msg", index, json!({ "content_index": 0, "part": part })),
            ),
            item("done", index, whole),
        ]
    };
    let called = |index: u64, name: &str| {
        let whole = function_call(index, name);
        let mut opened = whole.clone();
        (opened["status"], opened["arguments"]) = (json!("in_progress"), json!(""));
        let arguments = whole["arguments"].clone();
        [
            item("added", index, opened),
            event("function_call_arguments.delta", at("fc", index, json!({ "delta": arguments }))),
            event(
                "function_call_arguments.done",
                at("fc", index, json!({ "arguments": arguments })),
            ),
            item("done", index, whole),
        ]
    };
    let output = [
        reasoning(0, "hm"),
        message(1, "y\"es", "completed"),
        function_call(2, "f"),
        function_call(3, "g"),
        message(4, "so", "completed"),
    ];
    let mut expected = vec![event("created", begun.clone()), event("in_progress", begun)];
    let opened_thought = json!({ "id": "rs_a1_0", "type": "reasoning", "summary": [] });
    let of_part = |text: &str| {
        let part = json!({ "type": "summary_text", "text": text });
        at("rs", 0, json!({ "summary_index": 0, "part": part }))
    };
    expected.push(item("added", 0, opened_thought));
    expected.push(event("reasoning_summary_part.added", of_part("")));
    expected.extend([thought("h"), thought("m")]);
    let all = at("rs", 0, json!({ "summary_index": 0, "text": "hm" }));
    expected.extend([
        event("reasoning_summary_text.done", all),
        event("reasoning_summary_part.done", of_part("hm")),
        item("done", 0, reasoning(0, "hm")),
    ]);
    expected.extend(opened(1));
    expected.extend([said(1, "y\"e"), said(1, "s")]);
    expected.extend(closed(1, "y\"es"));
    expected.extend(called(2, "f"));
    expected.extend(called(3, "g"));
    expected.extend(opened(4));
    expected.push(said(4, "so"));
    expected.extend(closed(4, "so"));
    let whole = response(json!({ "output": output }));
    expected.push(event("completed", json!({ "response": whole })));
    for parts in [1, 2, 7, lines.len()] {
        assert_eq!(events(&lines, parts), expected, "in {parts} parts");
    }
}

#[test]
fn a_stream_that_breaks_off_has_no_end_and_one_that_fails_says_why() {
    let lines = line(json!({ "content": "a" }), json!({}));
    let names =
        |lines: &str| events(lines, 1).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&lines).last().map(String::as_str), Some("response.output_text.delta"));
    let failed = events(&format!("{lines}{}\n", json!({ "error": "out of \"memory\"" })), 1);
    let error =
        json!({ "type": "api_error", "message": "out of \"memory\"", "param": null, "code": null });
    let [.., (name, data), last] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(last, &("error".to_owned(), json!({ "error": error })));
    let fault = json!({ "code": "server_error", "message": "out of \"memory\"" });
    let response =
        response(json!({ "status": "failed", "error": fault, "usage": null, "output": [] }));
    assert_eq!((&**name, &data["response"]), ("response.failed", &response));
    let nothing = names(&line(json!({ "content": "" }), end("stop")));
    assert_eq!(nothing, ["response.created", "response.in_progress", "response.completed"]);
}

#[test]
fn what_is_repeated_is_one_line_whatever_the_client_wrote() {
    let repeated =
        echo(b"{\"tools\": [\r\n {\"type\": \"web_search\"}\r\n], \"metadata\": {\"a\": \"b c\"}}");
    assert!(!repeated.contains(['\r', '\n']), "{repeated}");
    let repeated: Value = serde_json::from_str(&repeated).expect("JSON");
    assert_eq!(repeated["tools"], json!([{ "type": "web_search" }]));
    assert_eq!(repeated["metadata"], json!({ "a": "b c" }));
    assert!(serde_json::from_str::<Value>(&echo(b"no JSON")).is_ok());
    let repeated = |body: &Value| -> Value {
        serde_json::from_str(&echo(body.to_string().as_bytes())).expect("JSON")
    };
    let long = "a".repeat(64 * 1024);
    let asked = json!({ "instructions": long, "tool_choice": "required", "truncation": "auto" });
    let repeats = repeated(&asked);
    assert_eq!(
        [&repeats["instructions"], &repeats["tool_choice"], &repeats["truncation"]],
        [&Value::Null, &json!("auto"), &json!("disabled")]
    );
    assert_eq!(repeated(&json!({ "tool_choice": "none" }))["tool_choice"], "none");
}

proptest! {
    #[test]
    fn garbage_never_panics_and_what_is_accepted_becomes_json(
        garbage in proptest::collection::vec(any::<u8>(), 0..40),
        at in 0usize..900,
    ) {
        let mut body = json!({
            "instructions": "a", "input": [
                { "role": "user", "content": [
                    { "type": "input_text", "text": "look \u{e9}" },
                    { "type": "input_image", "image_url": "data:image/png;base64,aGk=" },
                ]},
                { "type": "reasoning", "encrypted_content": "hm" },
                { "type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":1}" },
                { "role": "assistant", "content": "I ask" },
                { "type": "function_call_output", "call_id": "c", "output": "4" },
            ],
            "tools": [{ "type": "namespace", "name": "a", "tools": [{ "name": "f", "parameters": {} }] }],
            "text": { "format": { "type": "json_schema", "schema": {} } },
        }).to_string().into_bytes();
        let at = at % (body.len() + 1);
        let end = (at + garbage.len()).min(body.len());
        body.splice(at..end, garbage);
        prop_assert!(serde_json::from_str::<&RawValue>(&echo(&body)).is_ok());
        let _ = prompt_tokens(&body);
        if let Ok(out) = request(&body, "m", &Options::default()) {
            prop_assert!(serde_json::from_slice::<&RawValue>(&out).is_ok());
        }
    }
}
