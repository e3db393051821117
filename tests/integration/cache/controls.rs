//! What the caller can say about the cache, and what the operator can.

use std::time::Duration;

use sluicegate_simulator::Settings;
use sluicegate_test_support::{Gateway, Response, eventually, request};

use super::{ask, cached, cool, outcome, plain};
use crate::{CHAT, chat, pair};

pub(super) async fn with(gateway: &Gateway, headers: &str, body: &str) -> Response {
    let length = body.len();
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}");
    request(gateway.data, &head, body.as_bytes()).await
}

#[tokio::test]
async fn a_caller_says_how_fresh_its_answer_is_to_be() {
    let (gateway, host) = plain().await;
    let body = cool("hi", "");
    let only = with(&gateway, "cache-control: only-if-cached", &body).await;
    assert_eq!((only.status, only.json()["error"]["code"].as_str()), (504, Some("not_cached")));
    assert_eq!(only.header("x-should-retry"), Some("false"));
    assert_eq!(host.recorder().started(), 0);
    let kept_out = with(&gateway, "cache-control: no-store", &body).await;
    assert_eq!(cached(&kept_out), ("miss", "absent"));
    assert_eq!(outcome(&gateway, &body).await, "miss");
    assert_eq!(
        cached(&with(&gateway, "cache-control: no-cache", &body).await),
        ("miss", "no-cache")
    );
    assert_eq!(outcome(&gateway, &body).await, "hit-l1");
    let only = with(&gateway, "cache-control: only-if-cached", &body).await;
    assert_eq!((only.status, cached(&only).0), (200, "hit-l1"));
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let fresh = with(&gateway, "cache-control: max-age=1", &body).await;
    assert_eq!(cached(&fresh), ("miss", "age"));
    let hit = with(&gateway, "cache-control: max-age=60", &body).await;
    assert_eq!(cached(&hit).0, "hit-l1");
    assert!(hit.header("age").is_some_and(|age| age.parse::<u64>().is_ok()));
    assert!(hit.header("x-cache-entry").is_some_and(|entry| entry.len() == 64));
}

#[tokio::test]
async fn a_caller_opts_out_and_in() {
    let (gateway, host) = plain().await;
    ask(&gateway, &cool("hi", "")).await;
    let off = cool("hi", r#""enable_cache":false"#);
    assert_eq!(cached(&ask(&gateway, &off).await), ("bypass", "caller"));
    let sent = host.recorder().last().expect("sent").body;
    assert!(
        !String::from_utf8_lossy(&sent).contains("enable_cache"),
        "not the upstream's business"
    );
    let answer = with(&gateway, "x-cache-mode: off", &cool("hi", "")).await;
    assert_eq!(cached(&answer), ("bypass", "caller"));
    for expected in ["miss", "hit-l1"] {
        let answer = with(&gateway, "x-cache-mode: exact", &chat(r#""temperature":1"#)).await;
        assert_eq!(cached(&answer).0, expected);
    }
    let wrong = with(&gateway, "x-cache-mode: sometimes", &cool("hi", "")).await;
    assert_eq!(
        (wrong.status, wrong.json()["error"]["param"].as_str()),
        (400, Some("x-cache-mode"))
    );
}

#[tokio::test]
async fn answers_grow_stale() {
    let (gateway, _host) = pair(Settings::default(), "cache: { ttl: 1s }").await;
    ask(&gateway, &cool("hi", "")).await;
    assert_eq!(outcome(&gateway, &cool("hi", "")).await, "hit-l1");
    eventually("it is stale", async || outcome(&gateway, &cool("hi", "")).await == "miss").await;
}

#[tokio::test]
async fn the_operator_chooses_what_is_kept() {
    let (gateway, _host) = pair(Settings::default(), "cache: { policy: off }").await;
    let answer = ask(&gateway, &cool("hi", "")).await;
    assert_eq!(answer.header("x-cache"), None);
    gateway.write_config(
        &std::fs::read_to_string(gateway.config_path())
            .expect("read")
            .replace("policy: off", "policy: unless_hot"),
    );
    eventually("it is in force", async || outcome(&gateway, &chat("")).await == "hit-l1").await;
}

#[tokio::test]
async fn in_shadow_answers_are_compared_and_not_given() {
    let (gateway, host) = pair(Settings::default(), "cache: { shadow: true }").await;
    for _ in 0..3 {
        assert_eq!(outcome(&gateway, &cool("hi", "")).await, "miss");
    }
    assert_eq!(host.recorder().started(), 3);
    let same = "sluicegate_cache_shadow_total{level=\"hit-l1\",outcome=\"same\"}";
    eventually("both are compared", async || gateway.metric(same).await == 2.0).await;
}

#[tokio::test]
async fn a_fresh_stream_takes_the_place_of_what_was_kept() {
    let (gateway, host) = plain().await;
    let body = cool("hi", r#""stream":true"#);
    let first = ask(&gateway, &body).await;
    let entry = async || {
        let listed = sluicegate_test_support::get(gateway.admin, "/api/cache/entries").await.json();
        listed["entries"][0]["age_seconds"].as_u64().expect("an age")
    };
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(entry().await >= 1);
    assert_eq!(cached(&with(&gateway, "cache-control: no-cache", &body).await).0, "miss");
    eventually("it is a fresh one", async || entry().await == 0).await;
    assert_eq!(host.recorder().started(), 2);
    assert_eq!(cached(&first).0, "miss");
}

#[tokio::test]
async fn what_the_cache_does_not_understand_it_leaves_alone() {
    let (gateway, host) = plain().await;
    let doubled = cool("hi", r#""seed":1,"seed":2"#);
    let large = cool(&"x".repeat(1 << 20), "");
    for (body, reason) in [(&doubled, "unclear"), (&large, "too_large")] {
        assert_eq!(cached(&ask(&gateway, body).await), ("bypass", reason));
        let only = with(&gateway, "cache-control: only-if-cached", body).await;
        assert_eq!(only.status, 504, "{reason}");
    }
    let path = format!("{CHAT}?api-version=1");
    let answer = sluicegate_test_support::post(gateway.data, &path, cool("hi", "")).await;
    assert_eq!(cached(&answer), ("bypass", "query"));
    assert_eq!(host.recorder().started(), 3);
}
