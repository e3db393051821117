//! OpenAI's Responses API on a route with options.

use serde_json::{Value, json};
use sluicegate_simulator::{Fault, Settings};
use sluicegate_test_support::{Canned, Gateway, Response, post};

use super::{WIDE, config, last, wide};
use crate::clients::run_suite;
use crate::{BIN, MODEL};

const RESPONSES: &str = "/v1/responses";

async fn ask(gateway: &Gateway, more: Value) -> Response {
    let mut body = json!({ "model": "wide", "input": "hi" });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    post(gateway.data, RESPONSES, body.to_string()).await
}

/// What is no chance: ids and times are left out.
fn steady(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let chance = ["id", "item_id", "created_at", "completed_at"];
            members.retain(|name, _| !chance.contains(&&**name));
            members.values_mut().for_each(steady);
        }
        Value::Array(values) => values.iter_mut().for_each(steady),
        _ => {}
    }
}

/// An answer's events, or all of it.
fn events(answer: &Response) -> Vec<Value> {
    let text = answer.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let mut all: Vec<Value> = data.map(|data| serde_json::from_str(data).expect("JSON")).collect();
    if all.is_empty() {
        all.push(answer.json());
    }
    all.iter_mut().for_each(steady);
    all
}

#[tokio::test]
async fn a_response_is_what_v1_would_have_answered_with_the_routes_options() {
    let (gateway, host) = wide(Settings::default()).await;
    let plain = Gateway::start(BIN, &config(&host, "", &[("wide", "")]));
    for more in [
        json!({}),
        json!({ "stream": true }),
        json!({ "instructions": "Be brief.", "temperature": 0.5, "reasoning": { "effort": "none" }, "stream": true }),
    ] {
        let (native, v1) = (ask(&gateway, more.clone()).await, ask(&plain, more.clone()).await);
        let requests = host.recorder().requests();
        let [.., first, second] = &requests[..] else { panic!("two requests") };
        assert_eq!((&*first.path, &*second.path), ("/api/chat", RESPONSES));
        let sent: Value = serde_json::from_slice(&first.body).expect("JSON");
        assert_eq!((&sent["options"]["num_ctx"], &sent["truncate"]), (&json!(WIDE), &json!(false)));
        assert_eq!(native.header("content-type"), v1.header("content-type"));
        assert_eq!(events(&native), events(&v1), "{more}");
    }
}

#[tokio::test]
async fn an_agent_has_its_tools_called_and_its_search_left_out() {
    let (gateway, host) = wide(Settings::default()).await;
    let tools =
        json!([{ "type": "web_search" }, { "type": "function", "name": "f", "parameters": {} }]);
    for stream in [false, true] {
        let answer = ask(&gateway, json!({ "tools": tools, "stream": stream })).await;
        let (_, sent) = last(&host);
        assert_eq!(sent["tools"].as_array().map(Vec::len), Some(1), "{sent}");
        let all = events(&answer);
        let whole = all.last().expect("the last event");
        let whole = if stream { &whole["response"] } else { whole };
        let call = &whole["output"][0];
        assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("f")));
        assert_eq!(whole["tools"], tools, "as the client has them");
        // The call and its result go back.
        let result =
            json!({ "type": "function_call_output", "call_id": call["call_id"], "output": "42" });
        let answer =
            ask(&gateway, json!({ "input": [{ "role": "user", "content": "hi" }, call, result] }));
        assert_eq!(answer.await.status, 200);
        let (_, sent) = last(&host);
        let (called, result) = (&sent["messages"][1], &sent["messages"][2]);
        assert_eq!(called["tool_calls"][0]["function"]["name"], "f", "{sent}");
        assert_eq!((&result["role"], &result["tool_call_id"]), (&json!("tool"), &call["call_id"]));
    }
}

#[tokio::test]
async fn a_context_of_need_grows_with_the_input() {
    let host = crate::simulator(Settings::default()).await;
    let gateway = Gateway::start(BIN, &config(&host, "", &[("wide", "num_ctx: auto")]));
    for (words, context) in [(10, 2048), (9_000, 16_384)] {
        let input = json!([{ "role": "user", "content": "word ".repeat(words) }]);
        assert_eq!(ask(&gateway, json!({ "input": input })).await.status, 200);
        assert_eq!(last(&host).1["options"]["num_ctx"], context);
    }
    // With room for the answer that may come.
    let long = json!({ "input": "word ".repeat(9_000), "max_output_tokens": 8_000 });
    assert_eq!(ask(&gateway, long).await.status, 200);
    assert_eq!(last(&host).1["options"]["num_ctx"], 32_768);
}

#[tokio::test]
async fn a_compressed_answer_is_no_answer() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n";
    let upstream = Canned::start(format!("{head}content-length: 2\r\n\r\n{{}}")).await;
    let config = format!(
        "upstreams:\n  host: {{ url: \"{}\", kind: ollama }}\nroutes:\n  - {{ model: wide, targets: [{{ upstream: host }}], options: {{ num_ctx: {WIDE} }} }}\n",
        upstream.url()
    );
    let gateway = Gateway::start(BIN, &config);
    for stream in [false, true] {
        let answer = ask(&gateway, json!({ "stream": stream })).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
    }
}

#[tokio::test]
async fn errors_are_openais_and_a_broken_stream_ends_in_one() {
    let (gateway, host) = wide(Settings::default()).await;
    let long = "word ".repeat(usize::try_from(WIDE).expect("small") + 1);
    for (more, param) in [
        (json!({ "input": [] }), "input"),
        (json!({ "input": long }), "input"),
        (json!({ "input": [{ "type": "item_reference", "id": "msg_1" }] }), "input"),
        (json!({ "max_output_tokens": "9" }), "max_output_tokens"),
    ] {
        let answer = ask(&gateway, more.clone()).await;
        assert_eq!(answer.status, 400, "{more}: {}", answer.text());
        let error = &answer.json()["error"];
        assert_eq!(error["type"], "invalid_request_error", "{error}");
        assert_eq!(error["param"], param, "{error}");
    }
    assert_eq!(host.recorder().started(), 0);
    for fault in [Fault::CrashAfter(2), Fault::ErrorAfter(2)] {
        host.faults().push([fault]);
        let text = ask(&gateway, json!({ "stream": true })).await.text();
        let (_, failed) =
            text.rsplit_once("event: response.failed\ndata: ").unwrap_or_else(|| panic!("{text}"));
        let (failed, _) = failed.split_once("\n\n").expect("an event");
        let failed: Value = serde_json::from_str(failed).expect("JSON");
        let created = text.split_once("\"id\":\"").expect("an id").1;
        assert!(created.starts_with(failed["response"]["id"].as_str().expect("an id")), "{text}");
        let (_, error) =
            text.rsplit_once("event: error\ndata: ").unwrap_or_else(|| panic!("{text}"));
        let error: Value = serde_json::from_str(error.trim()).expect("JSON");
        assert_eq!(error["type"], "error", "{error}");
        assert!(error["error"]["message"].is_string(), "{error}");
    }
}

#[tokio::test]
async fn vercels_ai_sdk_is_served() {
    let host = crate::simulator(Settings::default()).await;
    let routes = format!(
        "upstreams:\n{}routes:\n  - {{ model: \"{MODEL}\", targets: [{{ upstream: host }}], options: {{ num_ctx: {WIDE} }} }}\n",
        crate::upstream("host", &host, "")
    );
    run_suite(("SLUICEGATE_NODE", "node/ai_suite.mjs"), &host, &routes).await;
}
