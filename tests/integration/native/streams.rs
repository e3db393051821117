//! Streams: made as they come, and how they end.

use std::time::{Duration, Instant};

use sluicegate_simulator::{Fault, Settings};
use sluicegate_test_support::{Connection, Gateway, eventually};

use super::{STREAM, USAGE, WIDE, WIDE_OPTIONS, chat, chat_of, config, last, told, wide};
use crate::{BIN, CHAT, MODEL, paced, simulator, upstream};

#[tokio::test]
async fn whether_to_stream_is_read_once() {
    let (gateway, _host) = wide(Settings::default()).await;
    // Ollama reads names in any case; the gateway must not be of two minds.
    for more in [r#""Stream":true"#, r#""stream":false,"STREAM":true"#] {
        let answer = chat(&gateway, "wide", more).await;
        assert_eq!(answer.status, 200, "{more}: {}", answer.text());
        told(&answer);
    }
}

/// A stream that fails must end in an error event, without `[DONE]`.
async fn is_cut(fault: Fault) -> String {
    let (gateway, host) = wide(Settings::default()).await;
    host.faults().push([fault]);
    let answer = chat(&gateway, "wide", STREAM).await;
    let text = answer.text();
    assert_eq!(answer.status, 200, "{text}");
    assert!(!text.contains("[DONE]"), "{text}");
    assert_eq!(text.matches("\"error\"").count(), 1, "{text}");
    assert_eq!(text.matches("chat.completion.chunk").count(), 3, "{text}");
    let last = text.trim_end().rsplit("\n\n").next().expect("an event").to_owned();
    assert!(last.starts_with("data: {\"error\":{\"message\":\""), "{text}");
    last
}

#[tokio::test]
async fn an_error_in_the_middle_is_an_error_event() {
    assert!(is_cut(Fault::ErrorAfter(3)).await.contains("out of memory"));
    assert!(is_cut(Fault::CrashAfter(3)).await.contains("llama runner process has terminated"));
}

#[tokio::test]
async fn a_cut_native_stream_is_an_error_event() {
    assert!(is_cut(Fault::CutAfter(3)).await.contains("upstream_truncated"));
    assert!(is_cut(Fault::EndAfter(3)).await.contains("upstream_truncated"));
}

#[tokio::test]
async fn what_fails_before_the_first_content_is_got_elsewhere() {
    let (first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let text = format!(
        "breaker: {{ errors: 1000 }}\nupstreams:\n{}{}routes:\n  - {{ model: wide, targets: [{{ upstream: first, model: \"{MODEL}\" }}], \
         fallback: [{{ upstream: second, model: \"{MODEL}\" }}], options: {{ {WIDE_OPTIONS} }} }}\n",
        upstream("first", &first, "timeouts: { first_byte: 400ms }"),
        upstream("second", &second, "")
    );
    let gateway = Gateway::start(BIN, &text);
    for (fault, more) in [
        (Fault::Close, ""),
        (Fault::Garbage, ""),
        (Fault::Garbage, STREAM),
        (Fault::Status(500, "{}".into()), ""),
        (Fault::EndAfter(0), STREAM),
        (Fault::CutAfter(0), STREAM),
        (Fault::CrashAfter(0), STREAM),
        (Fault::ErrorAfter(0), STREAM),
        (Fault::StallAfter(0), STREAM),
        (Fault::Canned("data: nonsense\n\n".into()), STREAM),
    ] {
        first.faults().push([fault.clone()]);
        let answer = chat(&gateway, "wide", more).await;
        assert_eq!(answer.status, 200, "{fault:?} {more}: {}", answer.text());
        assert_eq!(answer.header("x-sluicegate-upstream"), Some("second"), "{fault:?} {more}");
        assert_eq!(last(&second).1["options"]["num_ctx"], WIDE);
        told(&answer);
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_upstream_with_it() {
    let (gateway, host) = wide(paced(1000, Duration::from_millis(50))).await;
    for (count, more) in [(1, STREAM), (2, "")] {
        let mut connection = Connection::open(gateway.data).await;
        connection.post(CHAT, chat_of("wide", "hi", more)).await;
        host.recorder().until(|recorder| recorder.started() == count).await;
        if more == STREAM {
            connection.head().await;
            connection.part().await.expect("whole").expect("an event");
        }
        drop(connection);
        let since = Instant::now();
        host.recorder().until(|recorder| recorder.aborted() == count).await;
        assert!(since.elapsed() < Duration::from_secs(1), "{more}: {:?}", since.elapsed());
    }
}

#[tokio::test]
async fn a_quiet_stream_is_kept_alive_and_one_that_stalls_is_ended() {
    let host = simulator(Settings::default()).await;
    let idle = config(&host, "timeouts: { idle: 900ms }", &[("wide", WIDE_OPTIONS)]);
    let gateway = Gateway::start(BIN, &format!("heartbeat: 100ms\n{idle}"));
    host.faults().push([Fault::PauseAfterFirst(450), Fault::StallAfter(3)]);
    let text = chat(&gateway, "wide", STREAM).await.text();
    let comments = text.matches(": keep-alive\n\n").count();
    assert!((2..=5).contains(&comments) && text.ends_with("data: [DONE]\n\n"), "{text}");
    let text = chat(&gateway, "wide", STREAM).await.text();
    assert!(text.contains("stalled") && !text.contains("[DONE]"), "{text}");
}

#[tokio::test]
async fn events_come_as_they_are_made_and_usage_only_where_asked_for() {
    let (gateway, _host) = wide(paced(5, Duration::from_millis(150))).await;
    let mut connection = Connection::open(gateway.data).await;
    connection.post(CHAT, chat_of("wide", "hi", STREAM)).await;
    connection.head().await;
    let first = connection.part().await.expect("whole").expect("an event");
    let since = Instant::now();
    assert!(first.starts_with(b"data: {") && first.ends_with(b"\n\n"));
    let rest = String::from_utf8(connection.body().await.expect("whole")).expect("text");
    assert!(since.elapsed() > Duration::from_millis(400), "the first event was not held back");
    assert!(!rest.contains("\"usage\"") && !rest.contains("\"choices\":[]"), "{rest}");
    let shown = chat(&gateway, "wide", USAGE).await.text();
    assert!(
        shown.contains("\"choices\":[]") && shown.contains("\"completion_tokens\":5"),
        "{shown}"
    );
    let tokens = "gen_ai_client_token_usage_sum{gen_ai_request_model=\"llama3.2:3b\",upstream=\"host\",endpoint=\"/v1/chat/completions\",gen_ai_token_type=\"output\"}";
    eventually("tokens are counted", async || gateway.metric(tokens).await == 10.0).await;
}

#[tokio::test]
async fn a_line_of_eight_megabytes_passes() {
    let (gateway, host) = wide(Settings::default()).await;
    host.faults().push([Fault::HugeToken(8 << 20)]);
    let text = chat(&gateway, "wide", STREAM).await.text();
    assert!(text.len() > 8 << 20 && text.ends_with("data: [DONE]\n\n"));
    assert!(text.contains(&"x".repeat(8 << 20)));
}
