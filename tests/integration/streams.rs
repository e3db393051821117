use std::time::{Duration, Instant};

use sluicegate_simulator::{Fault, Settings};
use sluicegate_test_support::{Canned, Connection, Gateway, post};

use super::{BIN, CHAT, MODEL, chat, paced, pair, simulator, upstream};

const STREAM: &str = r#""stream":true"#;

/// The text of a stream's whole body.
async fn stream(gateway: &Gateway, body: &str) -> String {
    let answer = post(gateway.data, CHAT, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    answer.text()
}

#[tokio::test]
async fn events_arrive_as_they_are_made() {
    let (gateway, _simulator) = pair(paced(5, Duration::from_millis(150)), "").await;
    let mut connection = Connection::open(gateway.data).await;
    connection.post(CHAT, chat(STREAM)).await;
    connection.head().await;
    let first = connection.part().await.expect("whole").expect("an event");
    let since = Instant::now();
    assert!(first.starts_with(b"data: {") && first.ends_with(b"\n\n"));
    let rest = connection.body().await.expect("whole");
    assert!(since.elapsed() > Duration::from_millis(400), "the first event was not held back");
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
}

#[tokio::test]
async fn usage_is_asked_for_and_hidden_from_whoever_did_not_ask() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    let hidden = stream(&gateway, &chat(STREAM)).await;
    assert!(!hidden.contains("\"usage\"") && !hidden.contains("\"choices\":[]"), "{hidden}");
    let sent = simulator.recorder().last().expect("a request").body;
    assert!(
        String::from_utf8_lossy(&sent)
            .contains(r#""stream":true,"stream_options":{"include_usage":true}"#)
    );
    let tokens = "gen_ai_client_token_usage_sum{gen_ai_request_model=\"llama3.2:3b\",upstream=\"host\",endpoint=\"/v1/chat/completions\",gen_ai_token_type=\"output\"}";
    sluicegate_test_support::eventually("tokens are counted", async || {
        gateway.metric(tokens).await == 8.0
    })
    .await;

    let asked = chat(r#""stream":true,"stream_options":{"include_usage":true}"#);
    let shown = stream(&gateway, &asked).await;
    assert!(
        shown.contains("\"choices\":[]") && shown.contains("\"completion_tokens\":8"),
        "{shown}"
    );
    assert_eq!(simulator.recorder().last().expect("a request").body, asked);
}

#[tokio::test]
async fn zero_usage_in_legacy_completions_is_hidden_too() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    let body = format!(r#"{{"model":"{MODEL}","prompt":"hi","stream":true}}"#);
    let answer = post(gateway.data, "/v1/completions", body).await.text();
    assert!(!answer.contains("prompt_tokens") && answer.ends_with("data: [DONE]\n\n"), "{answer}");
}

#[tokio::test]
async fn a_line_of_eight_megabytes_passes() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    simulator.faults().push([Fault::HugeToken(8 << 20)]);
    let text = stream(&gateway, &chat(STREAM)).await;
    assert!(text.len() > 8 << 20 && text.ends_with("data: [DONE]\n\n"));
    assert!(text.contains(&"x".repeat(8 << 20)));
}

#[tokio::test]
async fn a_last_line_too_large_to_be_held_is_still_the_end() {
    let (gateway, simulator) = pair(Settings { tokens: 1, ..Settings::default() }, "").await;
    simulator.faults().push([Fault::HugeContext(400_000)]);
    let body = format!(r#"{{"model":"{MODEL}","prompt":"hi"}}"#);
    let text = post(gateway.data, "/api/generate", body).await.text();
    assert!(text.len() > 2 << 20 && !text.contains("\"error\""), "{}", &text[text.len() - 200..]);
}

/// A stream that fails must end in an error event, without `[DONE]`.
async fn is_cut(fault: Fault, config: &str) -> String {
    let (gateway, simulator) = pair(Settings::default(), config).await;
    simulator.faults().push([fault]);
    let text = stream(&gateway, &chat(STREAM)).await;
    assert!(!text.contains("[DONE]"), "{text}");
    let last = text.trim_end().rsplit("\n\n").next().expect("an event").to_owned();
    assert!(last.starts_with("data: {\"error\":{\"message\":\""), "{text}");
    assert!(gateway.metric("sluicegate_breaker_state{upstream=\"host\"}").await < 2.0);
    last
}

#[tokio::test]
async fn a_connection_outlives_a_cut_answer_that_has_its_end() {
    let (gateway, simulator) = pair(Settings::default(), "breaker: { errors: 1000 }").await;
    let mut connection = Connection::open(gateway.data).await;
    for fault in
        [Fault::CutAfter(3), Fault::CrashAfter(3), Fault::EndAfter(3), Fault::ErrorAfter(3)]
    {
        simulator.faults().push([fault]);
        connection.post(CHAT, chat(STREAM)).await;
        let cut = connection.response().await.text();
        assert!(cut.contains("\"error\""), "{cut}");
    }
    connection.post(CHAT, chat(STREAM)).await;
    assert!(connection.response().await.text().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_broken_connection_ends_in_an_error() {
    assert!(is_cut(Fault::CutAfter(3), "").await.contains("upstream_truncated"));
}

#[tokio::test]
async fn a_crashed_runner_ends_in_an_error() {
    assert!(is_cut(Fault::CrashAfter(3), "").await.contains("ended before its end"));
}

#[tokio::test]
async fn an_early_clean_end_ends_in_an_error() {
    is_cut(Fault::EndAfter(3), "").await;
}

#[tokio::test]
async fn a_stall_ends_in_an_error() {
    let simulator = simulator(Settings::default()).await;
    let timeouts = "timeouts: { idle: 300ms }";
    let gateway =
        Gateway::start(BIN, &format!("upstreams:\n{}", upstream("host", &simulator, timeouts)));
    simulator.faults().push([Fault::StallAfter(3)]);
    let text = stream(&gateway, &chat(STREAM)).await;
    assert!(text.contains("stalled") && !text.contains("[DONE]"), "{text}");
    simulator.recorder().until(|recorder| recorder.aborted() == 1).await;
}

#[tokio::test]
async fn an_upstreams_own_error_event_passes_once() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    simulator.faults().push([Fault::ErrorAfter(3)]);
    let text = stream(&gateway, &chat(STREAM)).await;
    assert_eq!(text.matches("\"error\"").count(), 1, "{text}");
    assert!(text.contains("out of memory") && !text.contains("[DONE]"));
}

#[tokio::test]
async fn a_native_stream_that_is_cut_ends_in_an_error_line() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    simulator.faults().push([Fault::CutAfter(2)]);
    let body = format!(r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    let answer = post(gateway.data, "/api/chat", body).await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let text = answer.text();
    let last = text.lines().last().expect("a line");
    assert!(last.starts_with("{\"error\":\"the answer was cut off"), "{text}");
}

/// What a client of `/api/chat` gets of `lines`, sent as one whole body.
async fn native(lines: &str) -> (Gateway, String) {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close";
    let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{lines}", lines.len());
    let host = Canned::start(answer).await;
    let config = format!(
        "upstreams: {{ host: {{ url: \"{}\", kind: ollama, gpus: none }} }}\n\
         routes: [{{ model: \"*\", targets: [{{ upstream: host }}] }}]\n",
        host.url()
    );
    let gateway = Gateway::start(BIN, &config);
    let text = post(gateway.data, "/api/chat", chat("")).await.text();
    (gateway, text)
}

#[tokio::test]
async fn a_clients_own_mistake_is_told_as_such_also_after_comments() {
    let own = r#"{"error":{"message":"no such tool","type":"invalid_request_error","param":"tools","code":"bad_tool"}}"#;
    for (status, expected) in [
        ("400 Bad Request", ["invalid_request_error", "bad_tool"]),
        ("429 Too Many Requests", ["rate_limit_error", "rate_limit_exceeded"]),
        ("200 OK", ["server_error", "upstream_failed"]),
    ] {
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{own}",
            own.len()
        );
        let host = Canned::start_slow(Duration::from_millis(300), answer).await;
        let config = format!(
            "upstreams:\n  host: {{ url: \"{}\", kind: openai }}\nroutes:\n  - {{ model: \"{MODEL}\", targets: [{{ upstream: host }}], wait_comments: 50ms }}\n",
            host.url()
        );
        let gateway = Gateway::start(BIN, &config);
        let text = stream(&gateway, &chat(STREAM)).await;
        assert!(text.starts_with(": waiting\n\n") && !text.contains("[DONE]"), "{text}");
        let event = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event");
        let error: serde_json::Value = serde_json::from_str(event).expect("JSON");
        let told = [&error["error"]["type"], &error["error"]["code"]];
        assert_eq!(told, expected.map(serde_json::Value::from).each_ref(), "{text}");
    }
}

#[tokio::test]
async fn a_native_stream_whose_last_line_lacks_its_end_is_whole() {
    let line = r#"{"message":{"role":"assistant","content":"a"},"done":false}"#;
    let last = r#"{"message":{"role":"assistant","content":""},"done":true,"eval_count":1}"#;
    for lines in [format!("{line}\n{last}"), last.to_owned()] {
        let (gateway, text) = native(&lines).await;
        assert_eq!(text, format!("{lines}\n"));
        let metrics = gateway.metrics().await;
        assert!(!metrics.contains("sluicegate_upstream_failures_total{"), "{metrics}");
    }
    let (_gateway, text) = native(&format!("{line}\n{}", &last[..last.len() - 9])).await;
    let (kept, error) = text.trim_end().split_once('\n').expect("two lines");
    assert_eq!(kept, line, "a fragment is dropped");
    assert!(error.starts_with("{\"error\":\"the answer was cut off"), "{text}");
}

#[tokio::test]
async fn a_quiet_stream_is_kept_alive_by_comments() {
    let (gateway, simulator) = pair(Settings::default(), "heartbeat: 100ms").await;
    simulator.faults().push([Fault::PauseAfterFirst(450)]);
    let text = stream(&gateway, &chat(STREAM)).await;
    let comments = text.matches(": keep-alive\n\n").count();
    assert!((2..=5).contains(&comments), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_waiting_stream_gets_comments_where_the_route_says_so() {
    let simulator = simulator(Settings::default()).await;
    let config = format!(
        "upstreams:\n{}routes:\n  - model: \"{MODEL}\"\n    targets: [{{ upstream: host }}]\n    wait_comments: 100ms\n",
        upstream("host", &simulator, "")
    );
    let gateway = Gateway::start(BIN, &config);
    simulator.faults().push([Fault::SlowFirst(450)]);
    let text = stream(&gateway, &chat(STREAM)).await;
    assert!(
        text.starts_with(": waiting\n\n: waiting\n\n") && text.ends_with("data: [DONE]\n\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_failure_after_waiting_comments_is_an_error_inside_the_stream() {
    let settings = Settings { first_token: Duration::from_millis(300), ..Settings::default() };
    let simulator = simulator(settings).await;
    let config = format!(
        "upstreams:\n{}routes:\n  - model: \"{MODEL}\"\n    targets: [{{ upstream: host }}]\n    wait_comments: 100ms\n",
        upstream("host", &simulator, "")
    );
    let gateway = Gateway::start(BIN, &config);
    simulator.faults().push([Fault::EndAfter(0)]);
    let text = stream(&gateway, &chat(STREAM)).await;
    assert!(text.starts_with(": waiting\n\n") && text.contains("data: {\"error\":{"), "{text}");
    assert!(!text.contains("[DONE]"));
}

#[tokio::test]
async fn back_pressure_reaches_the_upstream() {
    // Some 40 MiB of events, to a client that does not read.
    let (gateway, simulator) = pair(Settings { tokens: 200_000, ..Settings::default() }, "").await;
    let mut connection = Connection::open(gateway.data).await;
    connection.post(CHAT, chat(STREAM)).await;
    connection.head().await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(simulator.recorder().finished(), 0, "the upstream is held back");
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("status");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("RSS");
    let kib: u64 = rss.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 120_000, "{kib} KiB are held");
    assert!(connection.body().await.expect("whole").ends_with(b"data: [DONE]\n\n"));
}
