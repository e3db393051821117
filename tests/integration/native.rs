//! Routes with options: served through Ollama's own API, which their clients must not notice.

// What fits in a context, and which one it is.
mod completions;
mod context;
// The model is loaded once.
mod loads;
// What else a route says.
mod options;
mod responses;
// Anthropic's Messages API.
mod messages;
// Streams and their ends.
mod streams;

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_simulator::{Fault, Settings, Simulator};
use sluicegate_test_support::{Gateway, Response, post};

use super::clients::run_suite;
use super::{BIN, CHAT, MODEL, simulator, upstream};

/// Context of the route `wide`.
const WIDE: u64 = 16_384;
const WIDE_OPTIONS: &str = "num_ctx: 16384, keep_alive: 10m";
const STREAM: &str = r#""stream":true"#;
const USAGE: &str = r#""stream":true,"stream_options":{"include_usage":true}"#;
const TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]"#;
const SCHEMA: &str = r#""response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object","properties":{"answer":{"type":"integer"}}}}}"#;

/// A configuration of the upstream `host`, with `more` of it, a route `plain` without options, and
/// `routes`: names and options of others, all to one model.
fn config(host: &Simulator, more: &str, routes: &[(&str, &str)]) -> String {
    let mut text = format!("upstreams:\n{}routes:\n", upstream("host", host, more));
    for (name, options) in [("plain", "")].iter().chain(routes) {
        writeln!(
            text,
            "  - {{ model: \"{name}\", targets: [{{ upstream: host, model: \"{MODEL}\" }}], options: {{ {options} }} }}"
        )
        .expect("a string takes all");
    }
    text
}

fn chat_of(model: &str, text: &str, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"{text}"}}]{comma}{more}}}"#
    )
}

async fn chat(gateway: &Gateway, model: &str, more: &str) -> Response {
    post(gateway.data, CHAT, chat_of(model, "hi", more)).await
}

/// A gateway with the route `wide` before a simulator that can be compared with `/v1`.
async fn wide(settings: Settings) -> (Gateway, Simulator) {
    wide_with(settings, "").await
}

async fn wide_with(settings: Settings, top: &str) -> (Gateway, Simulator) {
    let host = simulator(Settings { v1_length: true, ..settings }).await;
    let text = format!("{top}\n{}", config(&host, "", &[("wide", WIDE_OPTIONS)]));
    (Gateway::start(BIN, &text), host)
}

/// What the simulator was sent last, and where.
fn last(host: &Simulator) -> (String, Value) {
    let last = host.recorder().last().expect("a request");
    (last.path, serde_json::from_slice(&last.body).expect("JSON"))
}

/// What differs between any two answers is taken out.
fn settled(mut value: Value) -> Value {
    for name in ["id", "created"] {
        assert!(!value[name].is_null(), "{value}");
        value[name] = Value::Null;
    }
    // The simulator leaves it out of the last chunk of /v1; Ollama does not.
    value["system_fingerprint"] = Value::Null;
    value
}

/// The answer as values, but what differs between any two.
fn told(answer: &Response) -> Vec<Value> {
    let text = answer.text();
    if answer.header("content-type") != Some("text/event-stream") {
        assert_eq!(answer.header("content-type"), Some("application/json"), "{text}");
        return vec![settled(answer.json())];
    }
    let events = text.strip_suffix("data: [DONE]\n\n").unwrap_or_else(|| panic!("{text}"));
    let events = events.split_terminator("\n\n");
    let values: Vec<Value> = events
        .map(|event| event.strip_prefix("data: ").unwrap_or_else(|| panic!("{text}")))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    assert!(values.windows(2).all(|two| two[0]["id"] == two[1]["id"]), "{text}");
    values.into_iter().map(settled).collect()
}

/// A model that is loaded anew whenever it is asked for with another context.
fn slow_to_load() -> Settings {
    Settings { load_time: Duration::from_millis(50), ..Settings::default() }
}

#[tokio::test]
async fn the_upstream_is_asked_with_the_options_of_the_route() {
    let (gateway, host) = wide(Settings::default()).await;
    for more in ["", STREAM] {
        let answer = chat(&gateway, "wide", more).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let (path, sent) = last(&host);
        assert_eq!(path, "/api/chat");
        assert_eq!(sent["options"]["num_ctx"], WIDE, "{sent}");
        assert_eq!(sent["keep_alive"], "600s", "{sent}");
        assert_eq!(sent["truncate"], false, "{sent}");
        assert_eq!(sent["model"], MODEL, "{sent}");
    }
}

#[tokio::test]
async fn the_client_sees_what_v1_would_have_answered() {
    let (gateway, host) = wide(Settings::default()).await;
    let plain = Gateway::start(BIN, &config(&host, "", &[("wide", "")]));
    let mut asked = Vec::new();
    for what in [
        "",
        r#""temperature":0.2,"seed":7,"stop":["x"]"#,
        TOOLS,
        &format!(r#"{TOOLS},"reasoning_effort":"high""#),
        r#""reasoning_effort":"low""#,
        r#""reasoning":{"effort":"high"}"#,
        SCHEMA,
        r#""response_format":{"type":"json_object"}"#,
        r#""max_tokens":3"#,
        r#""max_completion_tokens":3"#,
        r#""logprobs":true"#,
        r#""logprobs":true,"top_logprobs":2"#,
    ] {
        for how in ["", STREAM, USAGE] {
            let comma = if what.is_empty() || how.is_empty() { "" } else { "," };
            asked.push(format!("{what}{comma}{how}"));
        }
    }
    for more in asked {
        let (native, v1) = (chat(&gateway, "wide", &more).await, chat(&plain, "wide", &more).await);
        assert_eq!((native.status, v1.status), (200, 200), "{more}: {}", native.text());
        assert_eq!(told(&native), told(&v1), "{more}");
        let paths: Vec<_> = host.recorder().requests().into_iter().rev().take(2).collect();
        assert_eq!((&*paths[1].path, &*paths[0].path), ("/api/chat", CHAT), "{more}");
    }
}

#[tokio::test]
async fn a_conversation_with_calls_and_images_is_what_it_was() {
    let (gateway, host) = wide(Settings::default()).await;
    let body = json!({
        "model": "wide",
        "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": [
                { "type": "text", "text": "what is it?" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,aGk=" } },
            ] },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "call_1", "type": "function",
                  "function": { "name": "weather", "arguments": "{\"city\":\"Paris\"}" } },
            ] },
            { "role": "tool", "tool_call_id": "call_1", "content": "sunny" },
        ],
    });
    let answer = post(gateway.data, CHAT, body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let messages = &last(&host).1["messages"];
    assert_eq!(messages[2]["images"], json!(["aGk="]), "{messages}");
    assert_eq!(messages[3]["tool_calls"][0]["function"]["arguments"], json!({ "city": "Paris" }));
    assert_eq!(messages[4]["tool_name"], "weather", "{messages}");
}

#[tokio::test]
async fn a_request_that_v1_refuses_is_refused_alike() {
    let (gateway, host) = wide(Settings::default()).await;
    for (body, param) in [
        (r#"{"model":"wide"}"#.to_owned(), "messages"),
        (chat_of("wide", "hi", r#""reasoning_effort":"huge""#), "reasoning_effort"),
        (chat_of("wide", "hi", r#""top_logprobs":99"#), "top_logprobs"),
    ] {
        let answer = post(gateway.data, CHAT, &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        let error = &answer.json()["error"];
        assert_eq!(
            (&error["type"], &error["param"]),
            (&json!("invalid_request_error"), &json!(param))
        );
    }
    assert_eq!(host.recorder().started(), 0);
}

#[tokio::test]
async fn an_upstreams_refusal_looks_as_on_v1() {
    let (gateway, host) = wide_with(Settings::default(), "breaker: { errors: 1000 }").await;
    let text = config(&host, "", &[("wide", "")]);
    let plain = Gateway::start(BIN, &format!("breaker: {{ errors: 1000 }}\n{text}"));
    let mut differ = Vec::new();
    for (status, kind) in [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (500, "api_error"),
        (503, "api_error"),
    ] {
        for more in ["", STREAM] {
            let error = json!({ "error": "not today" });
            host.faults().push([Fault::Status(status, error.to_string())]);
            let native = chat(&gateway, "wide", more).await;
            let error =
                json!({ "message": "not today", "type": kind, "param": null, "code": null });
            host.faults().push([Fault::Status(status, json!({ "error": error }).to_string())]);
            let v1 = chat(&plain, "wide", more).await;
            assert_eq!(native.status, v1.status, "{status} {more}");
            if native.json() != v1.json() {
                differ.push(format!("{status} {more}: {} not {}", native.text(), v1.text()));
            }
        }
    }
    assert_eq!(differ, Vec::<String>::new());
}

/// An SDK's suite where every chat is served natively.
async fn suite(program: &str, script: &str) {
    let host = simulator(Settings::default()).await;
    // With a context of its own, the model would be kept from the endpoints that cannot carry it.
    let kept = "keep_alive: 10m";
    let routes = config(&host, "", &[("assistant", kept), (MODEL, kept)]);
    if !run_suite((program, script), &host, &routes).await {
        return;
    }
    let paths = host.recorder().requests().into_iter().map(|request| request.path);
    assert!(paths.filter(|path| path == CHAT).count() == 0, "a chat went to /v1");
}

#[tokio::test]
async fn the_python_sdk_is_served() {
    suite("SLUICEGATE_PYTHON", "python/suite.py").await;
}

#[tokio::test]
async fn the_node_sdk_is_served() {
    suite("SLUICEGATE_NODE", "node/suite.mjs").await;
}
