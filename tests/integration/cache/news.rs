//! What replicas tell each other, where the stream in Redis is not as they left it.

use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::redis::Redis;
use sluicegate_test_support::{Gateway, eventually};

use super::redis::{ASKED, STORED, kept, replica};
use super::{controls, cool, outcome};
use crate::simulator;

const STREAM: &[u8] = b"sluicegate:cache:news";
const GARBAGE: &str = "sluicegate_cache_news_failures_total{reason=\"garbage\"}";
const REFUSED: &str = "sluicegate_cache_news_failures_total{reason=\"refused\"}";

async fn two(redis: &Redis) -> (Gateway, Gateway, Simulator) {
    let host = simulator(Settings::default()).await;
    (replica(redis, &host), replica(redis, &host), host)
}

/// Whether `gateway` has heard from another what was asked there.
async fn heard(gateway: &Gateway) -> bool {
    let only = controls::with(gateway, "cache-control: only-if-cached", &cool(ASKED, "")).await;
    only.header("x-cache") == Some("hit-l2")
}

#[tokio::test]
async fn garbage_among_the_news_is_passed_over_and_counted() {
    let Some(redis) = Redis::start() else { return };
    let (first, second, _host) = two(&redis).await;
    let entry = "ab".repeat(32);
    redis.ask(&[b"LPUSH", format!("sluicegate:cache:1:{entry}").as_bytes(), b"no answer"]);
    for fields in [
        &[&b"x"[..], b"y"][..],
        &[&[0xff, 0xfe], &[0xff]],
        &[b"from", b"one", b"put", b"no key"],
        &[b"from", b"one", b"put", entry.as_bytes()],
    ] {
        redis.ask(&[&[b"XADD", STREAM, b"*"], fields].concat());
    }
    kept(&first, &cool(STORED, "")).await;
    eventually("it is heard", async || heard(&second).await).await;
    assert_eq!(second.metric(GARBAGE).await, 3.0);
    assert_eq!(second.metric("sluicegate_cache_backend_up").await, 1.0);
    assert_eq!(second.stderr().matches("not a replica's").count(), 1, "{}", second.stderr());
}

#[tokio::test]
async fn news_are_heard_again_once_their_key_is_a_stream_again() {
    let Some(redis) = Redis::start() else { return };
    redis.ask(&[b"SET", STREAM, b"x"]);
    let (first, second, _host) = two(&redis).await;
    eventually("it is tried again", async || second.metric(REFUSED).await >= 3.0).await;
    assert_eq!(second.stderr().matches("are not heard").count(), 1, "{}", second.stderr());
    assert_eq!(outcome(&second, &cool("hi", "")).await, "miss");
    redis.ask(&[b"DEL", STREAM]);
    kept(&first, &cool(STORED, "")).await;
    eventually("it is heard", async || heard(&second).await).await;
}

#[tokio::test]
async fn a_stream_that_begins_anew_with_lower_numbers_is_heard() {
    let Some(redis) = Redis::start() else { return };
    let (first, second, _host) = two(&redis).await;
    redis.ask(&[b"XADD", STREAM, b"99999999999999-1", b"x", b"y"]);
    eventually("it is heard", async || second.metric(GARBAGE).await == 1.0).await;
    redis.ask(&[b"DEL", STREAM]);
    kept(&first, &cool(STORED, "")).await;
    eventually("it is heard", async || heard(&second).await).await;
}
