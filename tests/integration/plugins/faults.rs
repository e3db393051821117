use std::time::Duration;

use sluicegate_simulator::{Fault, Recorder, Settings};
use sluicegate_test_support::{Connection, Gateway, eventually, get, post};

use super::{config, house, plugin, with_plugin};
use crate::{BIN, CHAT, chat, simulator};

/// Each fault, the configuration that provokes it, and the kind it is counted as.
const FAULTS: [(&str, &str); 11] = [
    ("do: trap", "trap"),
    ("do: overflow", "trap"),
    ("do: exit", "trap"),
    ("do: spin", "deadline"),
    ("do: sleep", "deadline"),
    ("do: grow", "memory"),
    ("do: unknown-target", "decision"),
    ("do: nan", "decision"),
    ("do: no-target", "decision"),
    ("do: forge-header", "decision"),
    ("do: bad-status", "decision"),
];

#[tokio::test]
async fn what_a_plugin_adds_to_a_body_counts_against_the_memory_for_bodies() {
    let text = "x".repeat(10_000);
    let insert = format!("config: {{ in: rewriter, do: insert, text: {text} }}");
    let limits = "limits: { body: 1KiB, bodies_in_flight: 16KiB }\n";
    let house = house(&plugin("p", &insert), "p", limits).await;
    house.first.faults().push([Fault::SlowFirst(60_000)]);
    let mut first = Connection::open(house.gateway.data).await;
    first.post(CHAT, chat("")).await;
    let held = "sluicegate_request_body_bytes";
    eventually("it is counted", async || house.gateway.metric(held).await > 10_000.0).await;
    // A load of the model may come before it.
    let arrived = |recorder: &Recorder| recorder.last().is_some_and(|last| last.path == CHAT);
    house.first.recorder().until(arrived).await;
    // For its own bytes there is room, not for what it becomes.
    let refused = house.chat("").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("as many request bytes as it may"), "{}", refused.text());
    drop(first);
    eventually("all is given back", async || house.gateway.metric(held).await == 0.0).await;
    assert_eq!(house.chat("").await.status, 200);
}

#[tokio::test]
async fn a_fault_costs_its_call_and_is_counted_by_kind() {
    for (fault, kind) in FAULTS {
        for isolation in ["request", "reuse"] {
            let house = with_plugin(&format!(
                "isolation: {isolation}, deadline: 200ms, config: {{ {fault} }}"
            ))
            .await;
            let answer = house.chat("").await;
            assert_eq!(answer.status, 200, "{fault}: {}", answer.text());
            assert_eq!(answer.header("x-sluicegate-upstream"), Some("first"), "{fault}");
            assert_eq!(answer.header("x-forged"), None);
            assert_eq!(house.failures(kind).await, 1.0, "{fault}, {isolation}");
        }
    }
}

#[tokio::test]
async fn a_plugin_that_must_not_fail_rejects_with_its_name() {
    let house = with_plugin("on_error: reject, config: { do: trap }").await;
    let answer = house.chat("").await;
    assert_eq!(answer.status, 503);
    let message = answer.json()["error"]["message"].as_str().expect("text").to_owned();
    assert!(message.contains("`p`") && message.contains("trap"), "{message}");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(house.first.recorder().started(), 0);
}

#[tokio::test]
async fn bad_edits_change_nothing() {
    for fault in ["missing-message", "nan", "set-stream"] {
        let house = with_plugin(&format!("config: {{ in: rewriter, do: {fault} }}")).await;
        assert_eq!(house.chat("").await.status, 200, "{fault}");
        assert_eq!(house.failures("decision").await, 1.0, "{fault}");
        let sent = house.first.recorder().last().expect("sent").body;
        assert_eq!(sent, chat("").as_bytes(), "{fault}");
    }
}

#[tokio::test]
async fn a_bad_cache_policy_is_no_policy() {
    let house = with_plugin("config: { in: cache-policy, do: nan }").await;
    assert_eq!(house.chat("").await.status, 200);
    assert_eq!(house.failures("decision").await, 1.0);
}

#[tokio::test]
async fn one_that_fails_again_and_again_is_left_alone() {
    let house = with_plugin("deadline: 50ms, config: { do: spin }").await;
    for _ in 0..30 {
        assert_eq!(house.chat("").await.status, 200);
    }
    let failures = house.failures("deadline").await;
    assert!((10.0..15.0).contains(&failures), "one call a second finds out: {failures}");
    let skipped = house.gateway.metric("sluicegate_plugin_skipped_total{plugin=\"p\"}").await;
    assert!(skipped >= 15.0, "{skipped}");
    // One that must decide is asked each time.
    let strict = with_plugin("deadline: 5ms, on_error: reject, config: { do: spin }").await;
    for _ in 0..20 {
        assert_eq!(strict.chat("").await.status, 503);
    }
    assert_eq!(strict.failures("deadline").await, 20.0);
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_cannot_forge_others() {
    let house = with_plugin("deadline: 1s, log_lines_per_second: 5, config: { do: flood }").await;
    assert_eq!(house.chat("").await.status, 200);
    let log = house.gateway.stderr();
    assert!(log.lines().filter(|line| line.contains("flood")).count() <= 10, "{log}");
    assert!(!log.lines().any(|line| line.starts_with("ERROR forged")), "{log}");
    let dropped = house.gateway.metric("sluicegate_plugin_log_dropped_total{plugin=\"p\"}").await;
    assert!(dropped > 9_000.0, "{dropped}");
}

#[tokio::test]
async fn nothing_is_in_reach_that_was_not_granted() {
    let house = with_plugin("deadline: 1s, config: { do: secrets }").await;
    assert_eq!(house.chat("").await.status, 200);
    assert_eq!(house.failures("trap").await, 0.0, "{}", house.gateway.stderr());
    let granted =
        with_plugin("deadline: 1s, allow: { env: [PATH] }, config: { do: secrets }").await;
    assert_eq!(granted.chat("").await.status, 200);
    assert_eq!(granted.failures("trap").await, 1.0, "it sees the variable");
}

#[tokio::test]
async fn requests_of_other_routes_pass_while_one_loops_for_ever() {
    let (first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let spin = plugin("p", "deadline: 5s, config: { do: spin }");
    let calm = format!(
        "  - {{ model: calm, targets: [{{ upstream: second, model: \"{}\" }}] }}\n",
        crate::MODEL
    );
    let gateway = Gateway::start(BIN, &config(&first, &second, &spin, "p", &calm));
    let looping: Vec<_> = (0..50).map(|_| tokio::spawn(post_chat(gateway.data))).collect();
    let body = chat("").replace(crate::MODEL, "calm");
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..5 {
        assert_eq!(post(gateway.data, CHAT, &body).await.status, 200);
    }
    assert!(looping.iter().all(|task| !task.is_finished()), "they were to loop meanwhile");
    for _ in 0..50 {
        assert_eq!(post(gateway.data, CHAT, &body).await.status, 200);
    }
    assert_eq!(get(gateway.admin, "/healthz").await.status, 200);
    for task in looping {
        assert_eq!(task.await.expect("ended").status, 200);
    }
}

#[tokio::test]
async fn a_failed_plugin_of_a_chain_does_not_stop_the_others() {
    let plugins = plugin("p", "config: { do: trap }") + &plugin("q", "config: { do: last-first }");
    let house = house(&plugins, "p, q", "").await;
    let answer = house.chat("").await;
    assert_eq!(answer.header("x-sluicegate-upstream"), Some("second"));
}

async fn post_chat(to: std::net::SocketAddr) -> sluicegate_test_support::Response {
    post(to, CHAT, chat("")).await
}
