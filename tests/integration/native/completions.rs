//! Legacy completions on a route with options.

use serde_json::{Value, json};
use sluicegate_simulator::{Fault, Settings};
use sluicegate_test_support::{Canned, Gateway, Response, post};

use super::{WIDE, config, last, told, wide};
use crate::BIN;

async fn ask(gateway: &Gateway, more: Value) -> Response {
    let mut body = json!({ "model": "wide", "prompt": "fn main" });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    post(gateway.data, "/v1/completions", body.to_string()).await
}

#[tokio::test]
async fn a_completion_is_what_v1_would_have_answered_with_the_routes_options() {
    let (gateway, host) = wide(Settings::default()).await;
    let plain = Gateway::start(BIN, &config(&host, "", &[("wide", "")]));
    for more in [
        json!({ "suffix": "}" }),
        json!({ "stream": true }),
        json!({ "stream": true, "stream_options": { "include_usage": true } }),
    ] {
        let native = ask(&gateway, more.clone()).await;
        let (path, sent) = last(&host);
        assert_eq!(path, "/api/generate");
        assert_eq!((&sent["options"]["num_ctx"], &sent["truncate"]), (&json!(WIDE), &json!(false)));
        assert_eq!((&sent["prompt"], &sent["suffix"]), (&json!("fn main"), &more["suffix"]));
        let v1 = ask(&plain, more.clone()).await;
        assert_eq!(last(&host).0, "/v1/completions");
        assert_eq!(native.header("content-type"), v1.header("content-type"));
        let mut expected = told(&v1);
        // Ollama's chunks count nothing before the last, where usage is asked for, here by the gateway.
        for chunk in &mut expected {
            if chunk["usage"].is_null() || chunk["usage"]["total_tokens"] == 0 {
                chunk.as_object_mut().expect("a chunk").remove("usage");
            }
        }
        assert_eq!(told(&native), expected, "{more}");
    }
}

#[tokio::test]
async fn a_stream_stays_one_where_nothing_is_generated() {
    // What Ollama answers without a prompt: the model is loaded.
    let loaded =
        json!({ "model": "m", "response": "", "done": true, "done_reason": "load" }).to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\n";
    let upstream =
        Canned::start(format!("{head}content-length: {}\r\n\r\n{loaded}", loaded.len())).await;
    let config = format!(
        "upstreams:\n  host: {{ url: \"{}\", kind: ollama }}\nroutes:\n  - {{ model: wide, targets: [{{ upstream: host }}], options: {{ num_ctx: {WIDE} }} }}\n",
        upstream.url()
    );
    let gateway = Gateway::start(BIN, &config);
    let answer = ask(&gateway, json!({ "prompt": "", "suffix": "}", "stream": true })).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{}", answer.text());
    assert_eq!(told(&answer)[0]["choices"][0]["finish_reason"], "load");
}

#[tokio::test]
async fn a_broken_stream_ends_in_an_error() {
    let (gateway, host) = wide(Settings::default()).await;
    for fault in [Fault::CrashAfter(2), Fault::ErrorAfter(2)] {
        host.faults().push([fault]);
        let text = ask(&gateway, json!({ "stream": true })).await.text();
        let (_, error) = text.rsplit_once("data: ").unwrap_or_else(|| panic!("{text}"));
        let error: Value = serde_json::from_str(error.trim()).expect("JSON");
        assert!(error["error"]["message"].is_string(), "{error}");
    }
}
