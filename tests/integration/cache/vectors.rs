//! Vectors of questions in the vector sets of a real Redis 8, and what happens without.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::redis::{Redis, version};
use sluicegate_test_support::{Gateway, eventually, post, request};

use super::controls::with;
use super::{ask, cached, cool, outcome};
use crate::{BIN, simulator, upstream};

const STORED: &str = "Who invented the steam engine?";
const ASKED: &str = "Who is the inventor of the steam engine?";
const SHARED: &str = "sluicegate_cache_vectors_shared";
const WARNING: &str = "this Redis has no vector sets (needs Redis 8); vectors are kept in memory";

fn replica(redis: &Redis, host: &Simulator, semantic: &str) -> Gateway {
    let config = format!(
        "cache:\n  exact: {{ redis: \"{}\" }}\n  semantic: {{ embedder: {{ upstream: host, \
         model: all-minilm }}, threshold: 0.5, deadline: 5s, {semantic} }}\nupstreams:\n{}",
        redis.url(),
        upstream("host", host, "")
    );
    Gateway::start(BIN, &config)
}

fn sharing(redis: &Redis, host: &Simulator) -> Gateway {
    replica(redis, host, "vectors: redis")
}

/// What the cache says to `text` when nothing is to be kept.
async fn look(gateway: &Gateway, text: &str) -> (String, String) {
    let answer = with(gateway, "cache-control: no-store", &cool(text, "")).await;
    let (outcome, reason) = cached(&answer);
    (outcome.to_owned(), reason.to_owned())
}

fn said(outcome: &str, reason: &str) -> (String, String) {
    (outcome.to_owned(), reason.to_owned())
}

/// The names of the vector sets.
fn sets(redis: &Redis) -> Vec<String> {
    let answer = String::from_utf8(redis.ask(&[b"KEYS", b"sluicegate:cache:vectors:*"]));
    let answer = answer.expect("text");
    answer.lines().filter(|line| line.starts_with("sluicegate")).map(str::to_owned).collect()
}

fn number(redis: &Redis, parts: &[&[u8]]) -> i64 {
    let answer = String::from_utf8(redis.ask(parts)).expect("text");
    answer.trim().trim_start_matches(':').parse().unwrap_or_else(|_| panic!("{answer}"))
}

/// Vectors in all sets.
fn vectors(redis: &Redis) -> i64 {
    sets(redis).iter().map(|set| number(redis, &[b"VCARD", set.as_bytes()])).sum()
}

/// Asks `text`, and waits until there are `count` vectors in all.
async fn learn(gateway: &Gateway, redis: &Redis, text: &str, count: i64) {
    ask(gateway, &cool(text, "")).await;
    eventually("its vector is kept", async || vectors(redis) == count).await;
}

#[tokio::test]
async fn a_replica_gives_the_answer_to_a_question_it_never_saw() {
    let Some(redis) = Redis::start_8() else { return };
    let host = simulator(Settings::default()).await;
    let (first, second) = (sharing(&redis, &host), sharing(&redis, &host));
    learn(&first, &redis, STORED, 1).await;
    let asked = host.recorder().started();
    let hit = ask(&second, &cool(ASKED, "")).await;
    assert_eq!(cached(&hit), ("hit-l3", "meaning"));
    let similarity: f64 = hit.header("x-cache-similarity").expect("one").parse().expect("a number");
    assert!((0.5..1.0).contains(&similarity), "{similarity}");
    assert_eq!(host.recorder().started(), asked + 1, "only its embedding");
    // Neither holds any, nothing was told, and what lies in Redis goes by itself.
    for gateway in [&first, &second] {
        let own = "sluicegate_cache_questions{level=\"semantic\"}";
        eventually("it says where", async || gateway.metric(SHARED).await == 1.0).await;
        assert_eq!(gateway.metric(own).await, 0.0);
    }
    assert_eq!(number(&redis, &[b"XLEN", b"sluicegate:cache:news"]), 0);
    assert!(number(&redis, &[b"TTL", sets(&redis)[0].as_bytes()]) > 250);
    // One that was killed and starts anew has them at once.
    first.signal(Signal::KILL);
    let third = sharing(&redis, &host);
    assert_eq!(outcome(&third, &cool(ASKED, "")).await, "hit-l3");
    let listed = sluicegate_test_support::get(third.admin, "/api/cache/entries").await.json();
    assert_eq!(listed["entries"].as_array().map(Vec::len), Some(1), "a set is no entry");
}

#[tokio::test]
async fn what_redis_finds_is_judged_as_ever() {
    let Some(redis) = Redis::start_8() else { return };
    let host = simulator(Settings::default()).await;
    let (first, second) = (sharing(&redis, &host), sharing(&redis, &host));
    learn(&first, &redis, STORED, 1).await;
    for near in ["Who invented the petrol engine?", "Who never invented the steam engine?"] {
        let (outcome, reason) = look(&second, near).await;
        assert_eq!(outcome, "miss", "{near}");
        assert!(!["absent", "unlike", "redis"].contains(&reason.as_str()), "a veto, not {reason}");
    }
    let strict = "x-cache-threshold: 0.9999\r\ncache-control: no-store";
    let answer = with(&second, strict, &cool(ASKED, "")).await;
    assert_eq!(cached(&answer), ("miss", "unlike"));
    // What belongs to another scope is in another set.
    let other = cool(ASKED, r#""max_tokens":5"#);
    assert_eq!(cached(&ask(&second, &other).await), ("miss", "absent"));
    eventually("it has its own", async || sets(&redis).len() == 2).await;
}

#[tokio::test]
async fn what_is_dropped_by_one_is_given_by_none() {
    let Some(redis) = Redis::start_8() else { return };
    let host = simulator(Settings::default()).await;
    let (first, second) = (sharing(&redis, &host), sharing(&redis, &host));
    let drop = async |which: &str| {
        let head = format!("DELETE /api/cache/entries{which} HTTP/1.1\r\nHost: x");
        assert_eq!(request(second.admin, &head, b"").await.status, 200);
    };
    for which in ["/", "?owner=anonymous", "?model=llama3.2:3b", "?all=true"] {
        learn(&first, &redis, STORED, 1).await;
        let hit = ask(&first, &cool(ASKED, "")).await;
        assert_eq!(cached(&hit).0, "hit-l3", "{which}");
        let id = hit.header("x-cache-entry").expect("an entry");
        drop(&if which == "/" { format!("/{id}") } else { which.to_owned() }).await;
        assert_eq!(look(&first, ASKED).await, said("miss", "absent"), "{which}");
        eventually("its vector is gone", async || vectors(&redis) == 0).await;
    }
}

#[tokio::test]
async fn a_wrong_hit_is_given_by_none_again() {
    let Some(redis) = Redis::start_8() else { return };
    let host = simulator(Settings::default()).await;
    let (first, second) = (sharing(&redis, &host), sharing(&redis, &host));
    learn(&first, &redis, STORED, 1).await;
    let hit = ask(&second, &cool(ASKED, "")).await;
    let id = hit.header("x-cache-entry").expect("an entry");
    let wrong = format!(r#"{{"entry":"{id}","verdict":"wrong"}}"#);
    let told = post(second.data, "/v1/cache/feedback", wrong).await;
    assert_eq!(told.status, 200, "{}", told.text());
    assert_eq!(look(&first, ASKED).await.0, "miss");
    // Answered anew, it takes a greater likeness, wherever it is asked.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    learn(&first, &redis, STORED, 1).await;
    let third = sharing(&redis, &host);
    for gateway in [&first, &second] {
        assert_eq!(look(gateway, ASKED).await, said("miss", "unlike"));
    }
    eventually("one that came later hears of it", async || {
        look(&third, ASKED).await == said("miss", "unlike")
    })
    .await;
}

#[tokio::test]
async fn vectors_of_another_embedder_are_never_compared() {
    let Some(redis) = Redis::start_8() else { return };
    let host = simulator(Settings::default()).await;
    let first = sharing(&redis, &host);
    learn(&first, &redis, STORED, 1).await;
    let text = std::fs::read_to_string(first.config_path()).expect("read");
    let other = Gateway::start(BIN, &text.replace("model: all-minilm", "model: \"llama3.2:3b\""));
    assert_eq!(look(&other, ASKED).await, said("miss", "absent"));
    learn(&other, &redis, "Who invented the telephone?", 2).await;
    assert_eq!(sets(&redis).len(), 2);
    // Those of another length under the same name are no trouble of Redis's.
    let name = sets(&redis).concat();
    for set in sets(&redis) {
        redis.ask(&[b"DEL", set.as_bytes()]);
        redis.ask(&[b"VADD", set.as_bytes(), b"VALUES", b"2", b"1", b"0", b"x"]);
    }
    for _ in 0..8 {
        assert_eq!(look(&first, ASKED).await, said("miss", "redis"), "{name}");
    }
    assert_eq!(outcome(&first, &cool(STORED, "")).await, "hit-l1");
    assert_eq!(first.metric("sluicegate_cache_backend_up").await, 1.0);
}

#[tokio::test]
async fn sets_are_bounded_and_lose_what_expired() {
    let Some(redis) = Redis::start_8() else { return };
    let host = simulator(Settings::default()).await;
    let gateway = replica(&redis, &host, "vectors: redis, entries: 3");
    let question = |number: usize| format!("Who invented the engine of train number {number}?");
    let brief = |number| cool(&question(number), "");
    for number in 0..4 {
        let answer = with(&gateway, "x-cache-ttl: 1", &brief(number)).await;
        assert_eq!(answer.status, 200);
    }
    eventually("they are kept", async || (1..=3).contains(&vectors(&redis))).await;
    assert!((1..=2).contains(&number(&redis, &[b"TTL", sets(&redis)[0].as_bytes()])));
    // While one lives the set lives, and those that expired go from it.
    ask(&gateway, &brief(10)).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(look(&gateway, &question(0)).await.0, "miss");
    eventually("only one is left", async || {
        look(&gateway, &question(1)).await;
        vectors(&redis) == 1
    })
    .await;
    for number in 11..20 {
        ask(&gateway, &brief(number)).await;
    }
    eventually("they are kept", async || outcome(&gateway, &brief(19)).await == "hit-l1").await;
    eventually("no more than wanted", async || vectors(&redis) == 3).await;
}

#[tokio::test]
async fn an_insert_removes_what_no_search_meets() {
    let Some(redis) = Redis::start_8() else { return };
    let host = simulator(Settings::default()).await;
    let gateway = sharing(&redis, &host);
    let ask = async |number: i64, header: &str| {
        let body = cool(&format!("Who invented the engine of train number {number}?"), "");
        // Nothing is like it enough for its answer to be looked for.
        with(&gateway, &format!("x-cache-threshold: 1{header}"), &body).await
    };
    for number in 0..4 {
        ask(number, "\r\nx-cache-ttl: 1").await;
    }
    let mut living = 1;
    ask(10, "").await;
    eventually("all are kept", async || vectors(&redis) == 5).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    eventually("those that expired are gone", async || {
        ask(10 + living, "").await;
        living += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
        vectors(&redis) <= living
    })
    .await;
}

#[tokio::test]
async fn words_are_told_where_vectors_need_not_be() {
    let Some(redis) = Redis::start_8() else { return };
    let host = simulator(Settings::default()).await;
    let by_words = || {
        let text = std::fs::read_to_string(sharing(&redis, &host).config_path()).expect("read");
        Gateway::start(BIN, &text.replace("cache:\n", "cache:\n  lexical: {}\n"))
    };
    let (first, second) = (by_words(), by_words());
    learn(&first, &redis, STORED, 1).await;
    let words = "Tell me who invented the steam engine";
    eventually("it hears", async || look(&second, words).await == said("hit-l2", "words")).await;
    assert_eq!(look(&second, ASKED).await.0, "hit-l3");
    let told = redis.ask(&[b"XRANGE", b"sluicegate:cache:news", b"-", b"+"]);
    assert!(!told.windows(6).any(|part| part == b"vector"), "no vector was told");
}

#[tokio::test]
async fn a_redis_that_stops_stops_no_request() {
    let Some(mut redis) = Redis::start_8() else { return };
    let host = simulator(Settings::default()).await;
    let gateway = sharing(&redis, &host);
    learn(&gateway, &redis, STORED, 1).await;
    redis.signal(Signal::STOP);
    for _ in 0..8 {
        let since = Instant::now();
        assert_eq!(look(&gateway, ASKED).await, said("miss", "redis"));
        assert!(since.elapsed() < Duration::from_secs(5));
    }
    redis.signal(Signal::CONT);
    eventually("it is found again", async || look(&gateway, ASKED).await.0 == "hit-l3").await;
    redis.kill();
    assert_eq!(look(&gateway, ASKED).await, said("miss", "redis"));
    redis.revive();
    eventually("it learns again", async || {
        ask(&gateway, &cool(STORED, "")).await;
        look(&gateway, ASKED).await.0 == "hit-l3"
    })
    .await;
    eventually("it says where", async || gateway.metric(SHARED).await == 1.0).await;
}

#[tokio::test]
async fn replicas_with_vectors_of_their_own_get_along_with_those_that_share() {
    let Some(redis) = Redis::start_8() else { return };
    let host = simulator(Settings::default()).await;
    let (own, shared) = (replica(&redis, &host, "vectors: memory"), sharing(&redis, &host));
    // What one tells, the other puts where all of its kind have it.
    learn(&own, &redis, STORED, 1).await;
    assert_eq!(look(&own, ASKED).await.0, "hit-l3");
    assert_eq!(look(&shared, ASKED).await.0, "hit-l3");
    // What is not told is found by its own words.
    let (other, again) = ("How hot must water be to boil?", "How hot must be the water to boil?");
    learn(&shared, &redis, other, 2).await;
    assert_eq!(look(&shared, again).await.0, "hit-l3");
    assert_eq!(look(&own, again).await.0, "miss");
    assert_eq!(outcome(&own, &cool(other, "")).await, "hit-l1");
}

#[tokio::test]
async fn a_redis_without_vector_sets_leaves_them_in_memory() {
    // A newer one can be told to have none.
    let without = ["--user", "default", "on", "nopass", "~*", "&*", "+@all", "-vsim", "-vadd"];
    let more = if version().is_some_and(|version| version >= 8) { &without[..] } else { &[] };
    let Some(mut redis) = Redis::start_with(more) else { return };
    let host = simulator(Settings::default()).await;
    let (first, second) = (sharing(&redis, &host), sharing(&redis, &host));
    eventually("it says so", async || first.stderr().contains(WARNING)).await;
    assert_eq!(first.metric(SHARED).await, 0.0);
    ask(&first, &cool(STORED, "")).await;
    for gateway in [&first, &second] {
        eventually("it is known", async || look(gateway, ASKED).await.0 == "hit-l3").await;
        let own = "sluicegate_cache_questions{level=\"semantic\"}";
        eventually("it is counted", async || gateway.metric(own).await == 1.0).await;
    }
    assert_eq!(first.stderr().matches(WARNING).count(), 1);
    // One that can comes in its place.
    if !redis.upgrade() {
        return sluicegate_test_support::skipped("the rest, without a redis-server of version 8");
    }
    eventually("it is used", async || {
        ask(&first, &cool(STORED, "")).await;
        look(&first, ASKED).await.0 == "hit-l3" && first.metric(SHARED).await == 1.0
    })
    .await;
    assert_eq!(vectors(&redis), 1);
}
