//! What else a route says, and what the gateway does with such an answer.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate_simulator::{Fault, Settings};
use sluicegate_test_support::{Gateway, Response, eventually, guest, post};

use super::{STREAM, WIDE_OPTIONS, chat, chat_of, config, last};
use crate::{BIN, CHAT, MODEL, paced, simulator, upstream};

#[tokio::test]
async fn each_route_keeps_its_own_think_and_keep_alive() {
    let host = simulator(Settings::default()).await;
    let routes = [
        ("first", "num_ctx: 16384, keep_alive: 10m, think: false"),
        ("second", "num_ctx: 16384, keep_alive: 1h, think: high"),
    ];
    let gateway = Gateway::start(BIN, &config(&host, "", &routes));
    for (model, keep_alive, think) in
        [("first", "600s", json!(false)), ("second", "3600s", json!("high"))]
    {
        assert_eq!(chat(&gateway, model, "").await.status, 200);
        let (_, sent) = last(&host);
        assert_eq!((&sent["keep_alive"], &sent["think"]), (&json!(keep_alive), &think), "{model}");
    }
    // What one route wants of its own answers is not for those who ask for the model itself.
    assert_eq!(chat(&gateway, MODEL, "").await.status, 200);
    assert_eq!(last(&host).1["think"], Value::Null, "the model by its own name");
}

#[tokio::test]
async fn a_route_says_what_the_client_left_open() {
    for native in [", num_ctx: 16384", ""] {
        let host = simulator(Settings::default()).await;
        let options = format!("temperature: 0.1, top_p: 0.9, max_tokens: 5{native}");
        let gateway = Gateway::start(BIN, &config(&host, "", &[("modest", &options)]));
        let sent = async |more: &str| {
            assert_eq!(chat(&gateway, "modest", more).await.status, 200, "{more}");
            let (path, sent) = last(&host);
            assert_eq!(path == "/api/chat", !native.is_empty());
            let limit = if native.is_empty() { "max_tokens" } else { "num_predict" };
            let options = if native.is_empty() { &sent } else { &sent["options"] };
            [&options["temperature"], &options["top_p"], &options[limit]].map(Value::to_string)
        };
        assert_eq!(sent("").await, ["0.1", "0.9", "5"]);
        assert_eq!(sent(STREAM).await, ["0.1", "0.9", "5"]);
        assert_eq!(sent(r#""temperature":0,"top_p":0.5,"max_tokens":7"#).await, ["0", "0.5", "7"]);
        assert_eq!(sent(r#""max_completion_tokens":7"#).await, ["0.1", "0.9", "7"]);
        assert_eq!(sent(r#""temperature":null"#).await[1..], ["0.9", "5"]);
        // They are the route's, not the model's.
        assert_eq!(chat(&gateway, MODEL, "").await.status, 200);
        assert_ne!(last(&host).1["options"]["num_predict"], 5);
        assert_ne!(last(&host).1["max_tokens"], 5);
    }
}

#[tokio::test]
async fn other_endpoints_get_what_their_clients_left_open_too() {
    let host = simulator(Settings::default()).await;
    let options = "temperature: 0.1, top_p: 0.9, max_tokens: 5";
    let gateway = Gateway::start(BIN, &config(&host, "", &[("modest", options)]));
    let messages = json!([{ "role": "user", "content": "hi" }]);
    for (path, mut body, limit, expected) in [
        ("/v1/completions", json!({ "prompt": "hi" }), "max_tokens", [0.1, 0.9, 5.0]),
        ("/v1/responses", json!({ "input": "hi" }), "max_output_tokens", [0.1, 0.9, 5.0]),
        (
            "/v1/responses",
            json!({ "input": "hi", "top_p": 1 }),
            "max_output_tokens",
            [0.1, 1.0, 5.0],
        ),
        (
            "/v1/messages",
            json!({ "messages": messages, "max_tokens": 7 }),
            "max_tokens",
            [0.1, 0.9, 7.0],
        ),
    ] {
        body["model"] = json!("modest");
        let answer = post(gateway.data, path, body.to_string()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let (_, sent) = last(&host);
        let found = ["temperature", "top_p", limit].map(|name| sent[name].as_f64());
        assert_eq!(found, expected.map(Some), "{path}: {sent}");
    }
}

#[tokio::test]
async fn the_time_of_a_route_is_its_own() {
    let mut late = Vec::new();
    for options in ["timeout: 600ms, num_ctx: 16384", "timeout: 600ms"] {
        let host = simulator(paced(40, Duration::from_millis(100))).await;
        let gateway = Gateway::start(BIN, &config(&host, "", &[("hasty", options)]));
        for more in ["", STREAM] {
            let since = Instant::now();
            let answer = chat(&gateway, "hasty", more).await;
            let text = answer.text();
            if since.elapsed() > Duration::from_secs(2) {
                late.push(format!("{options} {more}"));
            } else if more.is_empty() {
                assert_eq!(answer.status, 504, "{text}");
            } else {
                assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
            }
        }
    }
    assert_eq!(late, Vec::<String>::new());
}

/// What the cache had to do with an answer.
fn cached(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-cache").unwrap_or("none").to_owned()
}

#[tokio::test]
async fn answers_are_kept_for_the_context_they_were_given_with() {
    let host = simulator(Settings::default()).await;
    let text = |options: &str| {
        format!("cache: {{ policy: unless_hot }}\n{}", config(&host, "", &[("wide", options)]))
    };
    let gateway = Gateway::start(BIN, &text(WIDE_OPTIONS));
    let (whole, streamed) = (chat_of("wide", "one", ""), chat_of("wide", "two", STREAM));
    let ask = async |body: &str| post(gateway.data, CHAT, body).await;
    assert_eq!(cached(&ask(&whole).await), "miss");
    assert_eq!(cached(&ask(&whole).await), "hit-l1");
    let again = ask(&chat_of("wide", "one", STREAM)).await;
    assert_eq!(cached(&again), "hit-l1");
    assert!(again.text().ends_with("data: [DONE]\n\n"), "{}", again.text());
    let first = ask(&streamed).await;
    assert_eq!(cached(&first), "miss");
    let again = ask(&chat_of("wide", "two", "")).await;
    assert_eq!(cached(&again), "hit-l1");
    let said = "The answer is forty-two, naturally.";
    assert_eq!(again.json()["choices"][0]["message"]["content"], said);
    assert_eq!(again.json()["usage"]["completion_tokens"], 8, "{}", again.text());
    assert_eq!(host.recorder().started(), 2);

    gateway.write_config(&text("num_ctx: 4096"));
    gateway.signal(rustix::process::Signal::HUP);
    eventually("another context is another answer", async || cached(&ask(&whole).await) == "miss")
        .await;
    assert_eq!(last(&host).1["options"]["num_ctx"], 4096);
    gateway.write_config(&text("num_ctx: 4096, temperature: 0.2"));
    gateway.signal(rustix::process::Signal::HUP);
    eventually("so is another temperature", async || cached(&ask(&whole).await) == "miss").await;
}

#[tokio::test]
async fn an_error_in_a_native_stream_is_not_kept() {
    let host = simulator(Settings::default()).await;
    let text =
        format!("cache: {{ policy: always }}\n{}", config(&host, "", &[("wide", WIDE_OPTIONS)]));
    let gateway = Gateway::start(BIN, &text);
    for fault in [Fault::ErrorAfter(3), Fault::CutAfter(3), Fault::EndAfter(3)] {
        host.faults().push([fault]);
        assert!(chat(&gateway, "wide", STREAM).await.text().contains("\"error\""));
    }
    assert_eq!(cached(&chat(&gateway, "wide", STREAM).await), "miss");
    assert_eq!(cached(&chat(&gateway, "wide", STREAM).await), "hit-l1");
}

#[tokio::test]
async fn a_responder_and_comments_work_on_such_a_route() {
    let host = simulator(Settings::default()).await;
    let text = format!(
        "upstreams:\n{}plugins:\n  - {{ name: p, source: \"{}\", config: {{ in: responder, do: upper }} }}\nroutes:\n  \
         - {{ model: wide, targets: [{{ upstream: host, model: \"{MODEL}\" }}], plugins: [p], wait_comments: 100ms, \
         options: {{ {WIDE_OPTIONS} }} }}\n",
        upstream("host", &host, ""),
        guest::faulty().display()
    );
    let gateway = Gateway::start(BIN, &text);
    let whole = chat(&gateway, "wide", "").await.json();
    let said = "THE ANSWER IS FORTY-TWO, NATURALLY.";
    assert_eq!(whole["choices"][0]["message"]["content"], said);
    host.faults().push([Fault::SlowFirst(450)]);
    let text = chat(&gateway, "wide", STREAM).await.text();
    assert!(text.starts_with(": waiting\n\n: waiting\n\n"), "{text}");
    assert!(text.contains("\"THE\"") && text.ends_with("data: [DONE]\n\n"), "{text}");
}
