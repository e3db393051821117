//! Questions in other words, wrong hits, and answers that an operator wrote.

use serde_json::json;
use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::redis::Redis;
use sluicegate_test_support::{Gateway, Response, eventually, get, post, request};

use super::{ask, cached, cool, outcome};
use crate::{BIN, pair, simulator, upstream};

const STORED: &str = "What is the capital of France?";
const ASKED: &str = "Hi! Could you please tell me what the capital of France is?";

async fn lexical(more: &str) -> (Gateway, Simulator) {
    pair(Settings::default(), &format!("cache: {{ lexical: {{}}{more} }}")).await
}

async fn feedback(gateway: &Gateway, body: &str) -> Response {
    post(gateway.data, "/v1/cache/feedback", body).await
}

#[tokio::test]
async fn a_question_in_other_words_gets_the_answer_and_another_question_does_not() {
    let (gateway, host) = lexical("").await;
    ask(&gateway, &cool(STORED, "")).await;
    let hit = ask(&gateway, &cool(ASKED, "")).await;
    assert_eq!(cached(&hit), ("hit-l2", "words"));
    assert_eq!(hit.header("x-cache-similarity"), Some("1.0000"));
    for other in [
        "What is the capital of Spain?",
        "What was the capital of France?",
        "What is the population of the capital of France?",
        "What is the capital of France today?",
    ] {
        assert_eq!(outcome(&gateway, &cool(other, "")).await, "miss", "{other}");
    }
    assert_eq!(host.recorder().started(), 5);
}

#[tokio::test]
async fn words_are_compared_only_where_all_else_is_equal_and_plain() {
    let (gateway, _host) = lexical("").await;
    ask(&gateway, &cool(STORED, "")).await;
    for more in [
        r#""max_tokens":5"#,
        r#""tools":[{"type":"function","function":{"name":"f"}}]"#,
        r#""response_format":{"type":"json_object"}"#,
        r#""n":2"#,
        r#""logprobs":true"#,
    ] {
        ask(&gateway, &cool(STORED, more)).await;
        assert_eq!(
            outcome(&gateway, &cool(ASKED, more)).await,
            if more.contains("max") { "hit-l2" } else { "miss" },
            "{more}"
        );
    }
    let system = |text: &str, system: &str| {
        json!({"model": crate::MODEL, "temperature": 0, "messages": [
            {"role": "system", "content": system}, {"role": "user", "content": text}]})
        .to_string()
    };
    ask(&gateway, &system(STORED, "Be brief.")).await;
    assert_eq!(outcome(&gateway, &system(ASKED, "Be long.")).await, "miss");
    assert_eq!(outcome(&gateway, &system(STORED, "Be brief!")).await, "miss");
}

#[tokio::test]
async fn a_wrong_hit_is_cured() {
    let (gateway, host) = lexical("").await;
    ask(&gateway, &cool(STORED, "")).await;
    let hit = ask(&gateway, &cool(ASKED, "")).await;
    let entry = hit.header("x-cache-entry").expect("an entry");
    let told = feedback(&gateway, &format!(r#"{{"entry":"{entry}","verdict":"wrong"}}"#)).await;
    assert_eq!((told.status, told.json()["deleted"].as_bool()), (200, Some(true)));
    let again = feedback(&gateway, &format!(r#"{{"entry":"{entry}","verdict":"wrong"}}"#)).await;
    assert_eq!(again.status, 404);
    // The answer is asked for anew, and the pair is not mistaken for one question again.
    assert_eq!(outcome(&gateway, &cool(STORED, "")).await, "miss");
    assert_eq!(outcome(&gateway, &cool(ASKED, "")).await, "miss");
    assert_eq!(outcome(&gateway, &cool(ASKED, "")).await, "hit-l1");
    assert_eq!(host.recorder().started(), 3);
    for wrong in [
        "{",
        r#"{"entry":"x","verdict":"wrong"}"#,
        r#"{"entry":"x"}"#,
        r#"{"entry":"x","verdict":"meh"}"#,
    ] {
        assert_eq!(feedback(&gateway, wrong).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn nobody_drops_anothers_answer() {
    let host = simulator(Settings::default()).await;
    let key = |name: &str| {
        format!("  - {{ name: {name}, hash: \"blake3:{}\" }}\n", blake3::hash(name.as_bytes()))
    };
    let config =
        format!("keys:\n{}{}upstreams:\n{}", key("ann"), key("ben"), upstream("host", &host, ""));
    let gateway = Gateway::start(BIN, &config);
    let as_caller = async |name: &str, path: &str, body: &str| {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nAuthorization: Bearer {name}"
        );
        request(gateway.data, &head, body.as_bytes()).await
    };
    as_caller("ann", crate::CHAT, &cool("hi", "")).await;
    let hit = as_caller("ann", crate::CHAT, &cool("hi", "")).await;
    let entry = hit.header("x-cache-entry").expect("an entry");
    let wrong = format!(r#"{{"entry":"{entry}","verdict":"wrong"}}"#);
    assert_eq!(as_caller("ben", "/v1/cache/feedback", &wrong).await.status, 404);
    assert_eq!(cached(&as_caller("ann", crate::CHAT, &cool("hi", "")).await).0, "hit-l1");
    assert_eq!(as_caller("ann", "/v1/cache/feedback", &wrong).await.status, 200);
    assert_eq!(cached(&as_caller("ann", crate::CHAT, &cool("hi", "")).await).0, "miss");
    assert_eq!(as_caller("eve", "/v1/cache/feedback", &wrong).await.status, 401);
}

#[tokio::test]
async fn an_operators_answer_is_given_at_once() {
    let pinned = ", pinned: [{ questions: ['How do I reset my password?'], answer: 'Ask Ann.' }]";
    let (gateway, host) = lexical(pinned).await;
    // Whatever the temperature: nobody wrote it twice.
    let body = json!({"model": crate::MODEL, "messages": [{"role": "user", "content": "how can I reset my password"}]});
    let answer = ask(&gateway, &body.to_string()).await;
    assert_eq!(cached(&answer), ("hit-l2", "pinned"));
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "Ask Ann.");
    let mut stream = body.clone();
    stream["stream"] = json!(true);
    let text = ask(&gateway, &stream.to_string()).await.text();
    assert!(text.contains("Ask Ann.") && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(host.recorder().started(), 0);
    let mut later = body.clone();
    later["messages"] = json!([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, body["messages"][0]]);
    ask(&gateway, &later.to_string()).await;
    assert_eq!(host.recorder().started(), 1, "what was said before may matter");
}

pub(super) async fn entries(gateway: &Gateway, query: &str) -> Vec<serde_json::Value> {
    let listed = get(gateway.admin, &format!("/api/cache/entries{query}")).await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    listed.json()["entries"].as_array().expect("a list").clone()
}

pub(super) async fn delete(gateway: &Gateway, path: &str) -> Response {
    request(gateway.admin, &format!("DELETE /api/cache/entries{path} HTTP/1.1\r\nHost: x"), b"")
        .await
}

/// The operator sees and drops entries; `gateway` has a cache of its own or a Redis.
async fn operates(gateway: &Gateway) {
    for text in ["one question", "two questions"] {
        ask(gateway, &cool(text, "")).await;
    }
    eventually("both are kept", async || entries(gateway, "").await.len() == 2).await;
    assert_eq!(entries(gateway, "?limit=1").await.len(), 1);
    assert_eq!(entries(gateway, "?owner=anonymous").await.len(), 2);
    assert_eq!(entries(gateway, "?owner=nobody").await.len(), 0);
    let listed = &entries(gateway, &format!("?model={}", crate::MODEL)).await[0];
    assert_eq!((listed["upstream"].as_str(), listed["ttl"].as_u64()), (Some("host"), Some(300)));
    let id = listed["id"].as_str().expect("an id");
    let shown = get(gateway.admin, &format!("/api/cache/entries/{id}")).await.json();
    assert!(shown["answer"].as_str().is_some_and(|answer| !answer.is_empty()));
    assert_eq!(delete(gateway, &format!("/{id}")).await.status, 200);
    assert_eq!(delete(gateway, &format!("/{id}")).await.status, 404);
    assert_eq!(entries(gateway, "").await.len(), 1);
    assert_eq!(delete(gateway, "").await.status, 400);
    assert_eq!(delete(gateway, "?model=another").await.status, 200);
    assert_eq!(entries(gateway, "").await.len(), 1);
    assert_eq!(delete(gateway, &format!("?model={}", crate::MODEL)).await.status, 200);
    assert_eq!(entries(gateway, "").await.len(), 0);
    assert_eq!(outcome(gateway, &cool("one question", "")).await, "miss");
    eventually("it is kept", async || {
        outcome(gateway, &cool("one question", "")).await == "hit-l1"
    })
    .await;
    assert_eq!(delete(gateway, "?all=true").await.status, 200);
    assert_eq!(outcome(gateway, &cool("one question", "")).await, "miss");
}

#[tokio::test]
async fn an_operator_sees_and_drops_what_is_kept() {
    let (gateway, _host) = pair(Settings::default(), "").await;
    operates(&gateway).await;
}

#[tokio::test]
async fn what_one_replica_drops_no_other_gives() {
    let Some(redis) = Redis::start() else { return };
    let host = simulator(Settings::default()).await;
    let config = format!(
        "cache: {{ lexical: {{}}, exact: {{ redis: \"{}\" }} }}\nupstreams:\n{}",
        redis.url(),
        upstream("host", &host, "")
    );
    let (first, second) = (Gateway::start(BIN, &config), Gateway::start(BIN, &config));
    operates(&first).await;
    eventually("it is kept", async || outcome(&first, &cool(STORED, "")).await == "hit-l1").await;
    assert_eq!(outcome(&second, &cool(STORED, "")).await, "hit-l1");
    assert_eq!(outcome(&first, &cool(ASKED, "")).await, "hit-l2");
    assert_eq!(delete(&second, "?owner=anonymous").await.status, 200);
    assert_eq!(outcome(&first, &cool(STORED, "")).await, "miss");
}
