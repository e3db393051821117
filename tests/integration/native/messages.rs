//! Anthropic's Messages API on a route with options.

use serde_json::{Value, json};
use sluicegate_simulator::{Fault, Model, Settings};
use sluicegate_test_support::{Gateway, Response, post};

use super::{WIDE, config, wide};
use crate::clients::run_suite;
use crate::{BIN, MODEL, simulator};

const MESSAGES: &str = "/v1/messages";

async fn ask(gateway: &Gateway, more: Value) -> Response {
    let mut body = json!({ "model": "wide", "max_tokens": 64 });
    body["messages"] = json!([{ "role": "user", "content": "hi" }]);
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    // As Claude Code asks.
    post(gateway.data, &format!("{MESSAGES}?beta=true"), body.to_string()).await
}

#[tokio::test]
async fn a_message_is_what_v1_would_have_answered_with_the_routes_options() {
    let (gateway, host) = wide(Settings::default()).await;
    let plain = Gateway::start(BIN, &config(&host, "", &[("wide", "")]));
    for stream in [false, true] {
        let (native, v1) = (
            ask(&gateway, json!({ "stream": stream })).await,
            ask(&plain, json!({ "stream": stream })).await,
        );
        let requests = host.recorder().requests();
        let [.., first, second] = &requests[..] else { panic!("two requests") };
        assert_eq!((&*first.path, &*second.path), ("/api/chat", "/v1/messages?beta=true"));
        let sent: Value = serde_json::from_slice(&first.body).expect("JSON");
        assert_eq!((&sent["options"]["num_ctx"], &sent["truncate"]), (&json!(WIDE), &json!(false)));
        assert_eq!(native.header("content-type"), v1.header("content-type"));
        assert_eq!(native.header("x-sluicegate-model"), Some(MODEL));
        let names = |answer: &Response| -> Vec<String> {
            let text = answer.text();
            text.lines().filter(|line| line.starts_with("event: ")).map(str::to_owned).collect()
        };
        assert_eq!(names(&native), names(&v1));
        if !stream {
            let (mut native, mut v1) = (native.json(), v1.json());
            native["id"] = Value::Null;
            v1["id"] = Value::Null;
            assert_eq!(native, v1);
        }
    }
}

#[tokio::test]
async fn a_model_that_cannot_think_just_answers() {
    let models = vec![Model { thinks: false, ..Model::new(MODEL, 3) }];
    let (gateway, host) = wide(Settings { models, ..Settings::default() }).await;
    let thinking = json!({ "type": "enabled", "budget_tokens": 1024 });
    for stream in [false, true] {
        let answer = ask(&gateway, json!({ "thinking": thinking, "stream": stream })).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let requests = host.recorder().requests();
        let [.., first, second] = &requests[..] else { panic!("two requests") };
        let sent = [first, second]
            .map(|one| -> Value { serde_json::from_slice(&one.body).expect("JSON") });
        assert_eq!([&sent[0]["think"], &sent[1]["think"]], [&json!(true), &Value::Null]);
    }
    // A chat completion is told, as by Ollama's own.
    let chat = json!({ "model": "wide", "reasoning_effort": "high", "messages": [{ "role": "user", "content": "hi" }] });
    assert_eq!(post(gateway.data, crate::CHAT, chat.to_string()).await.status, 400);
}

#[tokio::test]
async fn errors_are_anthropics_and_a_broken_stream_ends_in_one() {
    let (gateway, host) = wide(Settings::default()).await;
    let long = "word ".repeat(usize::try_from(WIDE).expect("small") + 1);
    for more in [
        json!({ "max_tokens": 0 }),
        json!({ "messages": [] }),
        json!({ "system": long }),
        json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }),
    ] {
        let answer = ask(&gateway, more.clone()).await;
        assert_eq!(answer.status, 400, "{more}: {}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["type"], "error", "{answer}");
        assert_eq!(answer["error"]["type"], "invalid_request_error", "{answer}");
    }
    assert_eq!(host.recorder().started(), 0);
    for fault in [Fault::CrashAfter(2), Fault::ErrorAfter(2)] {
        host.faults().push([fault]);
        let text = ask(&gateway, json!({ "stream": true })).await.text();
        let (_, error) =
            text.rsplit_once("event: error\ndata: ").unwrap_or_else(|| panic!("{text}"));
        let error: Value = serde_json::from_str(error.trim()).expect("JSON");
        assert_eq!(
            (&error["type"], &error["error"]["type"]),
            (&json!("error"), &json!("api_error"))
        );
    }
}

#[tokio::test]
async fn the_anthropic_sdk_is_served() {
    let host = simulator(Settings::default()).await;
    let routes = format!(
        "upstreams:\n{}routes:\n  - {{ model: \"{MODEL}\", targets: [{{ upstream: host }}], options: {{ num_ctx: {WIDE} }} }}\n",
        crate::upstream("host", &host, "")
    );
    run_suite(("SLUICEGATE_PYTHON", "python/anthropic_suite.py"), &host, &routes).await;
}
