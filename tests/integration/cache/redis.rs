//! A real Redis that replicas share, and every trouble it can be in.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::redis::{Redis, socket_url};
use sluicegate_test_support::{Gateway, eventually};

use super::{ask, cached, cool, outcome};
use crate::{BIN, simulator, upstream};

fn gateway(url: &str, host: &Simulator) -> Gateway {
    let upstreams = upstream("host", host, "");
    let config = format!("cache: {{ exact: {{ redis: \"{url}\" }} }}\nupstreams:\n{upstreams}");
    Gateway::start(BIN, &config)
}

/// Answers are written after they were sent.
async fn kept(gateway: &Gateway, body: &str) {
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
    let gateway = gateway(&redis.url(), &host);
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
