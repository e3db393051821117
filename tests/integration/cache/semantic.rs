//! Questions of the same meaning, with an upstream as the embedder, in memory and on disk.

use std::path::Path;

use rustix::process::Signal;
use sluicegate_simulator::{Fault, Settings, Simulator};
use sluicegate_test_support::{Gateway, eventually, get, request};

use super::similar::{delete, entries};
use super::{ask, cached, cool, outcome};
use crate::{BIN, simulator, upstream};

const STORED: &str = "Who invented the steam engine?";
const ASKED: &str = "Who is the inventor of the steam engine?";

fn gateway(host: &Simulator, path: Option<&Path>, more: &str) -> Gateway {
    let path = path.map_or_else(String::new, |path| format!(", path: \"{}\"", path.display()));
    let config = format!(
        "cache:\n  semantic: {{ embedder: {{ upstream: host, model: all-minilm }}, threshold: 0.5, \
         deadline: 5s{path} }}\n{more}\nupstreams:\n{}",
        upstream("host", host, "")
    );
    Gateway::start(BIN, &config)
}

async fn remembered(gateway: &Gateway, count: f64) {
    let series = "sluicegate_cache_questions{level=\"semantic\"}";
    eventually("it is remembered", async || gateway.metric(series).await == count).await;
}

#[tokio::test]
async fn a_question_of_the_same_meaning_gets_the_answer_and_a_near_miss_does_not() {
    let host = simulator(Settings::default()).await;
    let gateway = gateway(&host, None, "");
    ask(&gateway, &cool(STORED, "")).await;
    remembered(&gateway, 1.0).await;
    let hit = ask(&gateway, &cool(ASKED, "")).await;
    assert_eq!(cached(&hit), ("hit-l3", "meaning"));
    let similarity: f64 = hit.header("x-cache-similarity").expect("one").parse().expect("a number");
    assert!((0.5..1.0).contains(&similarity), "{similarity}");
    let strict = request_with(&gateway, "x-cache-threshold: 0.9999", ASKED).await;
    assert_eq!(strict, ("miss".to_owned(), "unlike".to_owned()));
    for near in ["Who invented the petrol engine?", "Who never invented the steam engine?"] {
        assert_eq!(outcome(&gateway, &cool(near, "")).await, "miss", "{near}");
    }
}

async fn request_with(gateway: &Gateway, header: &str, text: &str) -> (String, String) {
    let body = cool(text, "");
    let length = body.len();
    let head =
        format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{header}", crate::CHAT);
    let answer = request(gateway.data, &head, body.as_bytes()).await;
    let (outcome, reason) = cached(&answer);
    (outcome.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn what_was_learnt_outlives_a_kill_and_what_was_dropped_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let host = simulator(Settings::default()).await;
    {
        let gateway = gateway(&host, Some(&path), "");
        ask(&gateway, &cool(STORED, "")).await;
        remembered(&gateway, 1.0).await;
        // A second process serves without it until the first is gone.
        let other = self::gateway(&host, Some(&path), "");
        assert_eq!(outcome(&other, &cool(ASKED, "")).await, "miss");
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        gateway.signal(Signal::KILL);
        eventually("it takes over", async || {
            other.metric("sluicegate_cache_questions{level=\"semantic\"}").await == 1.0
        })
        .await;
        other.signal(Signal::KILL);
    }
    {
        let gateway = gateway(&host, Some(&path), "");
        assert_eq!(outcome(&gateway, &cool(ASKED, "")).await, "hit-l3");
        // By now it is in memory too.
        assert_eq!(outcome(&gateway, &cool(STORED, "")).await, "hit-l1");
        let head = "DELETE /api/cache/entries?owner=anonymous HTTP/1.1\r\nHost: x";
        assert_eq!(request(gateway.admin, head, b"").await.status, 200);
        remembered(&gateway, 0.0).await;
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        gateway.signal(Signal::KILL);
    }
    let gateway = gateway(&host, Some(&path), "");
    assert_eq!(outcome(&gateway, &cool(ASKED, "")).await, "miss");
}

#[tokio::test]
async fn an_operator_sees_and_drops_what_lies_on_disk_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache");
    let host = simulator(Settings::default()).await;
    {
        let gateway = gateway(&host, Some(&path), "");
        ask(&gateway, &cool(STORED, "")).await;
        ask(&gateway, &cool("Why is the sky blue?", "")).await;
        remembered(&gateway, 2.0).await;
        // Listed once each, though they lie in both.
        assert_eq!(entries(&gateway, "").await.len(), 2);
        // One that is asked to end writes what waits.
        gateway.signal(Signal::TERM);
        let mut gateway = gateway;
        gateway.wait();
    }
    let gateway = gateway(&host, Some(&path), "");
    assert_eq!(entries(&gateway, "?owner=anonymous").await.len(), 2);
    assert_eq!(entries(&gateway, "?owner=nobody").await.len(), 0);
    assert_eq!(entries(&gateway, "?limit=1").await.len(), 1);
    let listed = entries(&gateway, "").await;
    let stored = listed.iter().find(|one| one["question"] == STORED).expect("the first");
    let id = stored["id"].as_str().expect("an id");
    let shown = get(gateway.admin, &format!("/api/cache/entries/{id}")).await.json();
    assert!(shown["answer"].as_str().is_some_and(|answer| !answer.is_empty()), "{shown}");
    assert_eq!(delete(&gateway, &format!("/{id}")).await.status, 200);
    assert_eq!(delete(&gateway, &format!("/{id}")).await.status, 404);
    assert_eq!(entries(&gateway, "").await.len(), 1);
    assert_eq!(get(gateway.admin, &format!("/api/cache/entries/{id}")).await.status, 404);
    assert_eq!(outcome(&gateway, &cool(STORED, "")).await, "miss");
}

#[tokio::test]
async fn a_wrong_hit_is_not_given_again() {
    let host = simulator(Settings::default()).await;
    let gateway = gateway(&host, None, "");
    ask(&gateway, &cool(STORED, "")).await;
    remembered(&gateway, 1.0).await;
    let hit = ask(&gateway, &cool(ASKED, "")).await;
    let wrong = format!(
        r#"{{"entry":"{}","verdict":"wrong"}}"#,
        hit.header("x-cache-entry").expect("an entry")
    );
    let told = sluicegate_test_support::post(gateway.data, "/v1/cache/feedback", wrong).await;
    assert_eq!(told.status, 200, "{}", told.text());
    ask(&gateway, &cool(STORED, "")).await;
    remembered(&gateway, 1.0).await;
    assert_eq!(outcome(&gateway, &cool(ASKED, "")).await, "miss");
}

#[tokio::test]
async fn an_operator_measures_an_embedder() {
    let host = simulator(Settings::default()).await;
    let gateway = gateway(&host, None, "");
    let pairs = gateway.dir().join("pairs.jsonl");
    let pair = |a: &str, b: &str, label: u8| {
        format!("{{\"cat\":\"x\",\"a\":\"{a}\",\"b\":\"{b}\",\"label\":{label}}}\n")
    };
    let other = "Who invented the petrol engine?";
    std::fs::write(&pairs, pair(STORED, ASKED, 1) + &pair(STORED, other, 0)).expect("written");
    let run = tokio::process::Command::new(BIN)
        .args(["cache", "eval"])
        .arg(&pairs)
        .arg("--config")
        .arg(gateway.config_path())
        .output()
        .await
        .expect("ran");
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(text.contains("by words (cache.lexical)\nrecall     0.000"), "{text}");
    let row = "0.80 | embedding and guard (cache.semantic) | 1.000";
    assert!(text.contains(row), "{text}");
}

#[tokio::test]
async fn without_its_embedder_the_gateway_serves_as_before() {
    let host = simulator(Settings::default()).await;
    let embedder = simulator(Settings { models: Vec::new(), ..Settings::default() }).await;
    let config = format!(
        "cache:\n  semantic: {{ embedder: {{ upstream: small, model: none }} }}\nupstreams:\n{}{}",
        upstream("host", &host, ""),
        upstream("small", &embedder, "")
    );
    let gateway = Gateway::start(BIN, &config);
    host.faults().always(Some(Fault::None));
    for _ in 0..6 {
        let answer = request_with(&gateway, "cache-control: no-store", STORED).await;
        assert_eq!(answer.0, "miss");
        assert!(["embedder_failed", "embedder_slow"].contains(&answer.1.as_str()), "{answer:?}");
    }
    assert_eq!(get(gateway.admin, "/healthz").await.status, 200);
    assert_eq!(outcome(&gateway, &cool("hi", "")).await, "miss");
    assert_eq!(outcome(&gateway, &cool("hi", "")).await, "hit-l1");
}

#[tokio::test]
async fn an_answer_dropped_while_it_came_is_not_kept_anywhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings =
        Settings { first_token: std::time::Duration::from_millis(400), ..Settings::default() };
    let host = simulator(settings).await;
    let gateway = gateway(&host, Some(&dir.path().join("cache")), "");
    let to = gateway.data;
    let asking = tokio::spawn(async move {
        sluicegate_test_support::post(to, crate::CHAT, cool(STORED, "")).await
    });
    // The first is the embedder's own request.
    eventually("it is asked", async || host.recorder().started() >= 2).await;
    let drop = "DELETE /api/cache/entries?all=true HTTP/1.1\r\nHost: x";
    assert_eq!(request(gateway.admin, drop, b"").await.status, 200);
    assert_eq!(asking.await.expect("an answer").status, 200);
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(outcome(&gateway, &cool(STORED, "")).await, "miss");
}

#[tokio::test]
async fn another_embedder_takes_over_at_a_reload() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = simulator(Settings::default()).await;
    let gateway = gateway(&host, Some(&dir.path().join("cache")), "");
    ask(&gateway, &cool(STORED, "")).await;
    remembered(&gateway, 1.0).await;
    let text = std::fs::read_to_string(gateway.config_path()).expect("read");
    gateway.write_config(&text.replace("model: all-minilm", "model: \"llama3.2:3b\""));
    let reloads = "sluicegate_config_reloads_total{result=\"ok\"}";
    eventually("it is in force", async || gateway.metric(reloads).await == 1.0).await;
    // Vectors of one are not compared with those of the other.
    assert_eq!(outcome(&gateway, &cool(ASKED, "")).await, "miss");
    assert_eq!(outcome(&gateway, &cool(STORED, "")).await, "hit-l1");
}

#[tokio::test]
async fn what_one_replica_drops_is_not_given_from_anothers_disk() {
    let Some(redis) = sluicegate_test_support::redis::Redis::start() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let host = simulator(Settings::default()).await;
    let replica = |name: &str| {
        let config = format!(
            "cache:\n  exact: {{ redis: \"{}\" }}\n  semantic: {{ embedder: {{ upstream: host, model: all-minilm }}, \
             threshold: 0.5, deadline: 5s, path: \"{}\" }}\nupstreams:\n{}",
            redis.url(),
            dir.path().join(name).display(),
            upstream("host", &host, "")
        );
        Gateway::start(BIN, &config)
    };
    let (first, second) = (replica("first"), replica("second"));
    ask(&first, &cool(STORED, "")).await;
    remembered(&second, 1.0).await;
    let hit = ask(&first, &cool(ASKED, "")).await;
    assert_eq!(cached(&hit).0, "hit-l3");
    let id = hit.header("x-cache-entry").expect("an entry");
    let drop = format!("DELETE /api/cache/entries/{id} HTTP/1.1\r\nHost: x");
    assert_eq!(request(second.admin, &drop, b"").await.status, 200);
    assert_eq!(outcome(&first, &cool(ASKED, "")).await, "miss");
}
