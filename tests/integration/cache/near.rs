//! Copies of what Redis gave, and how they go when it changes.

use rustix::process::Signal;
use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::redis::Redis;
use sluicegate_test_support::{Gateway, eventually, request};

use super::controls::with;
use super::redis::{gateway, kept};
use super::{ask, cool, outcome};
use crate::simulator;

/// Commands that read a text from Redis, so far.
fn gets(redis: &Redis) -> u64 {
    let stats = String::from_utf8(redis.ask(&[b"INFO", b"commandstats"])).expect("text");
    let calls = stats.split("cmdstat_get:calls=").nth(1).and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().expect("a number"))
}

/// Asks until the answer is given without Redis being asked.
async fn copied(redis: &Redis, gateway: &Gateway, body: &str) {
    kept(gateway, body).await;
    eventually("there is a copy", async || {
        let before = gets(redis);
        outcome(gateway, body).await == "hit-l1" && gets(redis) == before
    })
    .await;
}

/// Whether the answer is given, were no upstream to be asked.
async fn is_known(gateway: &Gateway, body: &str) -> bool {
    match with(gateway, "cache-control: only-if-cached", body).await.status {
        200 => true,
        504 => false,
        other => panic!("{other}"),
    }
}

async fn drop_from(gateway: &Gateway, path: &str) {
    let delete = format!("DELETE /api/cache/entries{path} HTTP/1.1\r\nHost: x");
    assert_eq!(request(gateway.admin, &delete, b"").await.status, 200, "{path}");
}

async fn two_on(redis: &Redis) -> (Simulator, Gateway, Gateway) {
    let host = simulator(Settings::default()).await;
    let (first, second) = (gateway(&redis.url(), &host), gateway(&redis.url(), &host));
    (host, first, second)
}

#[tokio::test]
async fn what_is_asked_often_is_not_asked_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let (host, first, second) = two_on(&redis).await;
    copied(&redis, &first, &cool("hi", "")).await;
    copied(&redis, &second, &cool("hi", "")).await;
    let (before, asked) = (gets(&redis), host.recorder().started());
    for gateway in [&first, &second].repeat(10) {
        assert_eq!(outcome(gateway, &cool("hi", "")).await, "hit-l1");
        assert_eq!(outcome(gateway, &cool("hi", r#""stream":true"#)).await, "hit-l1");
    }
    assert_eq!((gets(&redis), host.recorder().started()), (before, asked));
    eventually("it is counted", async || {
        first.metric("sluicegate_cache_entries").await == 1.0
            && first.metric("sluicegate_cache_bytes").await > 100.0
    })
    .await;
}

#[tokio::test]
async fn what_one_replica_drops_no_other_gives() {
    let Some(redis) = Redis::start() else { return };
    let (_host, first, second) = two_on(&redis).await;
    let body = cool("hi", "");
    let drops = ["/ENTRY", "?all=true", "?owner=anonymous", "?model=MODEL"];
    for (round, drop) in drops.iter().cycle().take(20).enumerate() {
        copied(&redis, &first, &body).await;
        copied(&redis, &second, &body).await;
        let entry = ask(&first, &body).await.header("x-cache-entry").expect("an entry").to_owned();
        let path = drop.replace("/ENTRY", &format!("/{entry}")).replace("MODEL", crate::MODEL);
        drop_from(&second, &path).await;
        assert!(!is_known(&first, &body).await, "round {round}: {path}");
        assert!(!is_known(&second, &body).await, "round {round}: {path}");
    }
}

#[tokio::test]
async fn what_is_changed_in_redis_is_changed_here() {
    let Some(redis) = Redis::start() else { return };
    let (_host, first, _) = two_on(&redis).await;
    for change in [&[&b"FLUSHALL"[..]][..], &[b"FLUSHDB", b"ASYNC"]] {
        copied(&redis, &first, &cool("hi", "")).await;
        redis.ask(change);
        assert!(!is_known(&first, &cool("hi", "")).await);
    }
    copied(&redis, &first, &cool("hi", "")).await;
    let entry = ask(&first, &cool("hi", "")).await;
    let key = format!("sluicegate:cache:1:{}", entry.header("x-cache-entry").expect("an entry"));
    redis.ask(&[b"PEXPIRE", key.as_bytes(), b"1"]);
    eventually("it expires", async || !is_known(&first, &cool("hi", "")).await).await;
}

#[tokio::test]
async fn a_redis_that_is_gone_takes_the_copies_with_it() {
    let Some(mut redis) = Redis::start() else { return };
    let (_host, first, _) = two_on(&redis).await;
    copied(&redis, &first, &cool("hi", "")).await;
    redis.kill();
    assert_eq!(outcome(&first, &cool("hi", "")).await, "miss");
    redis.revive();
    copied(&redis, &first, &cool("hi", "")).await;
    // One that only says nothing is relied on for a second.
    redis.signal(Signal::STOP);
    let body = cool("hi", "");
    eventually("it is not relied on", async || outcome(&first, &body).await == "miss").await;
    redis.signal(Signal::CONT);
    copied(&redis, &first, &cool("hi", "")).await;
}

#[tokio::test]
async fn a_redis_that_tells_nothing_is_asked_for_every_answer() {
    let Some(redis) = Redis::start() else { return };
    redis.ask(&[b"ACL", b"SETUSER", b"default", b"-client|tracking"]);
    let (_host, first, _) = two_on(&redis).await;
    kept(&first, &cool("hi", "")).await;
    eventually("it is told", async || first.stderr().contains("tells of no changes")).await;
    let before = gets(&redis);
    for _ in 0..10 {
        assert_eq!(outcome(&first, &cool("hi", "")).await, "hit-l1");
    }
    assert_eq!(gets(&redis), before + 10);
}

#[tokio::test]
async fn a_password_opens_that_connection_too() {
    let Some(redis) = Redis::start() else { return };
    redis.ask(&[b"ACL", b"SETUSER", b"gate", b"on", b">secret", b"~*", b"+@all"]);
    redis.ask(&[b"CONFIG", b"SET", b"requirepass", b"other"]);
    let host = simulator(Settings::default()).await;
    for (user, password) in [("gate", "secret"), ("", "other")] {
        let url = redis.url();
        let joined = if url.contains('?') { '&' } else { '?' };
        let named = if user.is_empty() { String::new() } else { format!("user={user}&") };
        let gateway = gateway(&format!("{url}{joined}{named}pass={password}&db=3"), &host);
        kept(&gateway, &cool("hi", "")).await;
        eventually("there is a copy", async || {
            outcome(&gateway, &cool("hi", "")).await;
            gateway.metric("sluicegate_cache_entries").await == 1.0
        })
        .await;
    }
}

#[tokio::test]
async fn nothing_that_was_dropped_under_load_stays() {
    let Some(redis) = Redis::start() else { return };
    let (_host, first, second) = two_on(&redis).await;
    let bodies: Vec<String> = (0..8).map(|n| cool(&format!("hi {n}"), "")).collect();
    for round in 0..10 {
        let ask_all = async |gateway: &Gateway| {
            for body in bodies.iter().cycle().take(40) {
                outcome(gateway, body).await;
            }
        };
        let drop_all = async || {
            for path in ["?all=true", "?owner=anonymous"].repeat(10) {
                drop_from(&second, path).await;
            }
        };
        tokio::join!(ask_all(&first), ask_all(&second), ask_all(&first), drop_all());
        drop_from(&first, "?all=true").await;
        for body in &bodies {
            assert!(!is_known(&first, body).await, "round {round}");
            assert!(!is_known(&second, body).await, "round {round}");
        }
    }
}
