use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_simulator::{Fault, Settings};
use sluicegate_test_support::{Canned, Connection, Gateway, Response, eventually, get, post};

use super::{config, plugin, with_plugin};
use crate::{BIN, CHAT, MODEL, chat, paced, simulator};

/// The texts of a chat's stream, one for each event.
fn texts(stream: &str) -> Vec<String> {
    let events = stream.split("\n\n").filter_map(|event| event.strip_prefix("data: {"));
    events
        .filter_map(|rest| serde_json::from_str::<serde_json::Value>(&format!("{{{rest}")).ok())
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .filter(|text| !text.is_empty())
        .collect()
}

#[tokio::test]
async fn each_delta_is_changed_as_it_comes() {
    let plain = with_plugin("config: { do: none }").await;
    let shaped = with_plugin("config: { in: responder, do: upper }").await;
    let streamed = r#""stream":true"#;
    let before = texts(&plain.chat(streamed).await.text());
    let after = shaped.chat(streamed).await.text();
    assert!(before.len() > 3);
    assert_eq!(texts(&after), before.iter().map(|t| t.to_uppercase()).collect::<Vec<_>>());
    assert!(after.ends_with("data: [DONE]\n\n"));
    let whole = shaped.chat("").await.json();
    let text = whole["choices"][0]["message"]["content"].as_str().expect("text").to_owned();
    assert_eq!(text, text.to_uppercase());
    let native = post(shaped.gateway.data, "/api/chat", chat("")).await.text();
    assert!(native.lines().count() > 3 && !native.contains("\"hello\""), "{native}");
}

/// Milliseconds in plugins, as an answer tells them.
fn in_plugins(answer: &Response) -> f64 {
    let times = answer.header("server-timing").expect("times");
    let time = times.split(", ").find_map(|one| one.strip_prefix("plugins;dur="));
    time.unwrap_or_else(|| panic!("{times}")).parse().expect("a number")
}

#[tokio::test]
async fn the_time_to_shape_a_whole_answer_is_told_with_that_of_the_chain() {
    let slow = with_plugin("deadline: 300ms, config: { in: responder, do: spin }").await;
    let whole = slow.chat("").await;
    assert_eq!(whole.status, 200, "{}", whole.text());
    assert!(in_plugins(&whole) >= 290.0, "{:?}", whole.header("server-timing"));
}

#[tokio::test]
async fn what_was_done_to_an_answer_is_told_with_the_decisions_about_its_request() {
    let shaped = with_plugin("config: { in: responder, do: upper }").await;
    for streamed in [r#""stream":true"#, ""] {
        let answer = shaped.chat(streamed).await;
        assert_eq!(answer.status, 200);
        let id = answer.header("x-request-id").expect("an id");
        let path = format!("/api/decisions/{id}");
        let mut steps = Value::Null;
        // It is written down when the request has ended, and the last byte comes before.
        eventually("it is told", async || {
            steps = get(shaped.gateway.admin, &path).await.json()["steps"].clone();
            steps.is_array()
        })
        .await;
        let last = steps.as_array().and_then(|steps| steps.last()).expect("a step").clone();
        assert_eq!((&last["plugin"], &last["interface"]), (&json!("p"), &json!("responder")));
        let told = last["decision"].as_str().expect("text");
        let words: Vec<&str> = told.split(' ').collect();
        let [changed, "of", pieces, "pieces", "changed"] = words[..] else { panic!("{told}") };
        let (changed, pieces): (u32, u32) = (changed.parse().unwrap(), pieces.parse().unwrap());
        assert!(changed >= 1 && changed <= pieces, "{told}");
        assert!((pieces > 3) != streamed.is_empty(), "{told}");
    }
}

#[tokio::test]
async fn events_come_one_by_one_through_a_plugin() {
    let (first, second) = (
        simulator(paced(5, Duration::from_millis(300))).await,
        simulator(Settings::default()).await,
    );
    let upper = plugin("p", "config: { in: responder, do: upper }");
    let gateway = Gateway::start(BIN, &config(&first, &second, &upper, "p", ""));
    let mut client = Connection::open(gateway.data).await;
    client.post(CHAT, chat(r#""stream":true"#)).await;
    assert_eq!(client.head().await.status, 200);
    let mut parts = 0;
    while let Some(part) = client.part().await.expect("whole") {
        parts += usize::from(!texts(&String::from_utf8_lossy(&part)).is_empty());
    }
    assert!(parts >= 4, "{parts} parts had text");
}

#[tokio::test]
async fn held_back_text_comes_at_the_end() {
    let plain = with_plugin("config: { do: none }").await;
    let held = with_plugin("config: { in: responder, do: hold }").await;
    let streamed = r#""stream":true"#;
    let all = texts(&plain.chat(streamed).await.text()).concat();
    assert_eq!(texts(&held.chat(streamed).await.text()), [all]);
}

#[tokio::test]
async fn a_fault_in_a_responder_leaves_the_text_or_ends_the_stream_as_configured() {
    let plain = with_plugin("config: { do: none }").await;
    let streamed = r#""stream":true"#;
    let before = texts(&plain.chat(streamed).await.text());
    for (fault, kind) in [("trap", "trap"), ("huge-state", "decision"), ("spin", "deadline")] {
        let lenient = with_plugin(&format!("config: {{ in: responder, do: {fault} }}")).await;
        let stream = lenient.chat(streamed).await.text();
        assert_eq!(texts(&stream), before, "{fault}");
        assert!(lenient.failures(kind).await >= 1.0, "{fault}");
    }
    let strict = with_plugin("on_error: reject, config: { in: responder, do: trap }").await;
    let stream = strict.chat(streamed).await.text();
    assert!(stream.contains("\"error\"") && !stream.contains("[DONE]"), "{stream}");
    assert_eq!(strict.chat("").await.status, 503);
}

#[tokio::test]
async fn a_truncated_stream_is_still_an_error_behind_a_plugin() {
    let house = with_plugin("config: { in: responder, do: hold }").await;
    house.first.faults().push([Fault::CutAfter(2)]);
    let stream = house.chat(r#""stream":true"#).await.text();
    assert!(stream.contains("\"error\"") && !stream.contains("[DONE]"), "{stream}");
}

#[tokio::test]
async fn a_waiting_client_gets_text_only_where_the_route_allows_it() {
    for (allowed, expected) in [("true", true), ("false", false)] {
        let (first, second) =
            (simulator(Settings::default()).await, simulator(Settings::default()).await);
        first.faults().push([Fault::SlowFirst(500)]);
        let waiting = plugin("p", "config: { in: responder, do: waiting }");
        let more = format!("    wait_comments: 100ms\n    waiting_text: {allowed}\n");
        let gateway = Gateway::start(BIN, &config(&first, &second, &waiting, "p", &more));
        let stream = post(gateway.data, CHAT, chat(r#""stream":true"#)).await.text();
        assert_eq!(stream.contains("[0 s] "), expected, "{stream}");
        assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
    }
}

/// The head is out already: nothing but the stream can tell it.
#[tokio::test]
async fn a_fault_after_comments_is_told_in_the_stream() {
    let body = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close", body.len());
    let slow = Duration::from_millis(500);
    let whole = Canned::start_slow(slow, format!("{head}\r\n\r\n{body}")).await;
    let strict = plugin("p", "on_error: reject, config: { in: responder, do: trap }");
    let text = format!(
        "upstreams: {{ cloud: {{ url: \"{}\", kind: openai }} }}\nplugins:\n{strict}routes:\n  - model: \"{MODEL}\"\n    targets: [{{ upstream: cloud }}]\n    plugins: [p]\n    wait_comments: 100ms\n",
        whole.url()
    );
    let gateway = Gateway::start(BIN, &text);
    let mut connection = Connection::open(gateway.data).await;
    connection.post(CHAT, chat(r#""stream":true"#)).await;
    let answer = connection.response().await.text();
    assert!(answer.contains("\"error\"") && !answer.contains("HTTP/1.1"), "{answer}");
    connection.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(connection.response().await.status, 200, "the stream had an end");
}

#[tokio::test]
async fn text_that_a_failed_plugin_held_back_is_not_lost() {
    let plain = with_plugin("config: { do: none }").await;
    let streamed = r#""stream":true"#;
    let all = texts(&plain.chat(streamed).await.text()).concat();
    let failing = with_plugin("config: { in: responder, do: hold-then-trap }").await;
    assert_eq!(texts(&failing.chat(streamed).await.text()).concat(), all);
    assert!(failing.failures("trap").await >= 1.0);
}
