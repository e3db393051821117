//! A real Redis that replicas share, and every trouble it can be in.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::redis::{Redis, socket_url};
use sluicegate_test_support::{Gateway, eventually, post};

use super::{ask, cached, cool, outcome};
use crate::{BIN, CHAT, simulator, upstream};

pub(super) fn gateway(url: &str, host: &Simulator) -> Gateway {
    with_memory("64MiB", url, host)
}

/// One that keeps no copies: Redis is asked for every answer.
fn without_copies(url: &str, host: &Simulator) -> Gateway {
    with_memory("0B", url, host)
}

fn with_memory(memory: &str, url: &str, host: &Simulator) -> Gateway {
    let upstreams = upstream("host", host, "");
    let exact = format!("{{ redis: \"{url}\", memory: {memory} }}");
    Gateway::start(BIN, &format!("cache: {{ exact: {exact} }}\nupstreams:\n{upstreams}"))
}

/// Answers are written after they were sent.
pub(super) async fn kept(gateway: &Gateway, body: &str) {
    eventually("it is kept", async || outcome(gateway, body).await == "hit-l1").await;
}

#[tokio::test]
async fn gateways_on_one_redis_share_answers() {
    let Some(redis) = Redis::start() else { return };
    let host = simulator(Settings::default()).await;
    let (first, second) = (gateway(&redis.url(), &host), gateway(&redis.url(), &host));
    kept(&first, &cool("hi", "")).await;
    let asked = host.recorder().started();
    assert_eq!(outcome(&second, &cool("hi", "")).await, "hit-l1");
    assert_eq!(outcome(&second, &cool("hi", r#""stream":true"#)).await, "hit-l1");
    assert_eq!(host.recorder().started(), asked);
    assert!(redis.ask(&[b"DBSIZE"]).starts_with(b":1\r\n"));
    let key = first_key(&redis);
    assert!(ttl(&redis, &key) > 250, "it expires by itself");
}

fn first_key(redis: &Redis) -> Vec<u8> {
    let answer = redis.ask(&[b"RANDOMKEY"]);
    let end = answer.windows(2).position(|pair| pair == b"\r\n").expect("a length") + 2;
    answer[end..answer.len() - 2].to_vec()
}

fn ttl(redis: &Redis, key: &[u8]) -> i64 {
    let answer = String::from_utf8(redis.ask(&[b"TTL", key])).expect("a number");
    answer.trim().trim_start_matches(':').parse().expect("a number")
}

#[tokio::test]
async fn a_stopped_redis_costs_one_short_wait_and_then_nothing() {
    let Some(redis) = Redis::start() else { return };
    let host = simulator(Settings::default()).await;
    let gateway = without_copies(&redis.url(), &host);
    kept(&gateway, &cool("hi", "")).await;
    redis.signal(Signal::STOP);
    for _ in 0..8 {
        let since = Instant::now();
        assert_eq!(cached(&ask(&gateway, &cool("hi", "")).await), ("miss", "redis"));
        assert!(since.elapsed() < Duration::from_secs(5));
    }
    let up = "sluicegate_cache_backend_up";
    eventually("it is left alone", async || gateway.metric(up).await == 0.0).await;
    redis.signal(Signal::CONT);
    kept(&gateway, &cool("hi", "")).await;
    eventually("it is up", async || gateway.metric(up).await == 1.0).await;
}

#[tokio::test]
async fn a_redis_that_is_left_alone_is_told_once_whoever_waited_for_it() {
    let Some(redis) = Redis::start() else { return };
    let host = simulator(Settings::default()).await;
    let gateway = gateway(&redis.url(), &host);
    kept(&gateway, &cool("hi", "")).await;
    redis.signal(Signal::STOP);
    let asked = |n: usize| {
        let (data, body) = (gateway.data, cool(&format!("hi {n}"), ""));
        tokio::spawn(async move { post(data, CHAT, body).await.status })
    };
    for answer in (0..20).map(asked).collect::<Vec<_>>() {
        assert_eq!(answer.await.expect("an answer"), 200);
    }
    redis.signal(Signal::CONT);
    eventually("it is told", async || gateway.stderr().contains("Redis is back")).await;
    assert_eq!(gateway.stderr().matches("Redis is left alone").count(), 1);
}

#[tokio::test]
async fn a_redis_that_is_killed_and_comes_back_is_used_again() {
    let Some(mut redis) = Redis::start() else { return };
    let host = simulator(Settings::default()).await;
    let gateway = gateway(&redis.url(), &host);
    kept(&gateway, &cool("hi", "")).await;
    redis.kill();
    for _ in 0..8 {
        assert_eq!(outcome(&gateway, &cool("hi", "")).await, "miss");
    }
    redis.revive();
    kept(&gateway, &cool("hi", "")).await;
}

#[tokio::test]
async fn connections_that_redis_closed_are_opened_anew_without_a_failure() {
    let Some(redis) = Redis::start() else { return };
    let host = simulator(Settings::default()).await;
    let gateway = without_copies(&redis.url(), &host);
    for round in 0..3 {
        kept(&gateway, &cool("hi", "")).await;
        redis.ask(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]);
        assert_eq!(outcome(&gateway, &cool("hi", "")).await, "hit-l1", "round {round}");
        redis.ask(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]);
        let delete = "DELETE /api/cache/entries?all=true HTTP/1.1\r\nHost: x";
        let dropped = sluicegate_test_support::request(gateway.admin, delete, b"").await;
        assert_eq!(dropped.status, 200, "round {round}: {}", dropped.text());
    }
}

#[tokio::test]
async fn a_redis_that_never_was_is_no_reason_not_to_serve() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = simulator(Settings::default()).await;
    let gateway = gateway(&socket_url(&dir.path().join("none")), &host);
    for _ in 0..8 {
        assert_eq!(cached(&ask(&gateway, &cool("hi", "")).await), ("miss", "redis"));
    }
}

#[tokio::test]
async fn a_full_redis_is_a_cache_that_keeps_nothing_new() {
    let full = ["--maxmemory", "1", "--maxmemory-policy", "noeviction"];
    let Some(redis) = Redis::start_with(&full) else { return };
    let host = simulator(Settings::default()).await;
    let gateway = gateway(&redis.url(), &host);
    for _ in 0..3 {
        assert_eq!(outcome(&gateway, &cool("hi", "")).await, "miss");
    }
    let refused = "sluicegate_cache_write_failures_total{reason=\"redis\"}";
    eventually("it is counted", async || gateway.metric(refused).await >= 1.0).await;
}

#[tokio::test]
async fn garbage_under_a_key_is_a_miss_and_is_written_over() {
    let Some(redis) = Redis::start() else { return };
    let host = simulator(Settings::default()).await;
    let gateway = gateway(&redis.url(), &host);
    kept(&gateway, &cool("hi", "")).await;
    let key = first_key(&redis);
    for garbage in [&b"garbage"[..], b"", b"SGC1", &[0xff; 5_000]] {
        redis.ask(&[b"SET", &key, garbage]);
        assert_eq!(cached(&ask(&gateway, &cool("hi", "")).await), ("miss", "unreadable"));
        kept(&gateway, &cool("hi", "")).await;
    }
    // Another type than a text is an error of Redis's.
    redis.ask(&[b"DEL", &key]);
    redis.ask(&[b"LPUSH", &key, b"x"]);
    assert_eq!(cached(&ask(&gateway, &cool("hi", "")).await), ("miss", "redis"));
}

/// One of several gateways that also compare questions by their words.
pub(super) fn replica(redis: &Redis, host: &Simulator) -> Gateway {
    let config = format!(
        "cache: {{ lexical: {{}}, exact: {{ redis: \"{}\" }} }}\nupstreams:\n{}",
        redis.url(),
        upstream("host", host, "")
    );
    Gateway::start(BIN, &config)
}

pub(super) const STORED: &str = "What is the capital of France?";
pub(super) const ASKED: &str = "Tell me what the capital of France is";

#[tokio::test]
async fn what_one_replica_learns_the_others_know_and_what_one_unlearns_too() {
    let Some(redis) = Redis::start() else { return };
    let host = simulator(Settings::default()).await;
    let (first, second) = (replica(&redis, &host), replica(&redis, &host));
    kept(&first, &cool(STORED, "")).await;
    let found = async |gateway: &Gateway| {
        let body = cool(ASKED, "");
        let only = super::controls::with(gateway, "cache-control: only-if-cached", &body).await;
        only.header("x-cache").map(str::to_owned)
    };
    eventually("it is known", async || found(&second).await.as_deref() == Some("hit-l2")).await;
    // One that starts later learns what was told before.
    let third = replica(&redis, &host);
    eventually("it is known", async || found(&third).await.as_deref() == Some("hit-l2")).await;
    let hit = ask(&second, &cool(ASKED, "")).await;
    let entry = hit.header("x-cache-entry").expect("an entry");
    let wrong = format!(r#"{{"entry":"{entry}","verdict":"wrong"}}"#);
    let told = sluicegate_test_support::post(second.data, "/v1/cache/feedback", wrong).await;
    assert_eq!(told.status, 200, "{}", told.text());
    // Asked anew, it is found by its own words and not by those it was wrong for.
    kept(&third, &cool(STORED, "")).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    for gateway in [&first, &second, &third] {
        assert_eq!(found(gateway).await, None);
        assert_eq!(outcome(gateway, &cool(STORED, "")).await, "hit-l1");
    }
}

#[tokio::test]
async fn after_a_partition_nothing_that_was_dropped_is_given() {
    let Some(redis) = Redis::start() else { return };
    let host = simulator(Settings::default()).await;
    let (first, second) = (replica(&redis, &host), replica(&redis, &host));
    kept(&first, &cool(STORED, "")).await;
    assert_eq!(outcome(&second, &cool(STORED, "")).await, "hit-l1");
    // The first hears nothing while an entry is dropped.
    first.signal(Signal::STOP);
    let drop = "DELETE /api/cache/entries?all=true HTTP/1.1\r\nHost: x";
    let dropped = sluicegate_test_support::request(second.admin, drop, b"").await;
    assert_eq!(dropped.status, 200);
    first.signal(Signal::CONT);
    assert_eq!(outcome(&first, &cool(ASKED, "")).await, "miss");
}
