//! Answers from the cache: to whom, when, in which form, and what happens when it is in trouble.

// Which requests share an answer.
mod exact;
// Equal requests at one time.
mod flights;
// What the caller and the operator can say.
mod controls;
// What plugins decide.
mod plugins;
// A real Redis: shared, stopped, killed, full, with garbage in it.
mod redis;
// What replicas tell each other through it.
mod news;
// Copies of what it gave.
mod near;
// A hit is what a miss was.
mod replay;
// Questions of the same meaning.
mod semantic;
// Their embeddings made by the gateway itself.
#[cfg(feature = "local-embedder")]
mod local;
// Questions in other words; what is dropped.
mod similar;
// Their vectors in a real Redis 8.
mod vectors;

use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::{Gateway, Response, post};

use crate::{CHAT, chat, pair};

/// A request whose answer is kept by default.
fn cool(text: &str, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    let model = crate::MODEL;
    format!(
        r#"{{"model":"{model}","temperature":0,"messages":[{{"role":"user","content":"{text}"}}]{comma}{more}}}"#
    )
}

async fn ask(gateway: &Gateway, body: &str) -> Response {
    let answer = post(gateway.data, CHAT, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// What the cache had to do with an answer: outcome and reason.
fn cached(answer: &Response) -> (&str, &str) {
    let header = |name| answer.header(name).unwrap_or("none");
    (header("x-cache"), header("x-cache-reason"))
}

async fn outcome(gateway: &Gateway, body: &str) -> String {
    cached(&ask(gateway, body).await).0.to_owned()
}

async fn plain() -> (Gateway, Simulator) {
    pair(Settings::default(), "").await
}

#[tokio::test]
async fn without_configuration_only_answers_that_are_to_be_the_same_are_given_again() {
    let (gateway, host) = plain().await;
    for _ in 0..2 {
        assert_eq!(cached(&ask(&gateway, &chat("")).await), ("bypass", "temperature"));
        let hot = chat(r#""temperature":1"#);
        assert_eq!(cached(&ask(&gateway, &hot).await), ("bypass", "temperature"));
    }
    assert_eq!(host.recorder().started(), 4);
    for body in [cool("hi", ""), chat(r#""seed":7"#), chat(r#""temperature":0.3"#)] {
        assert_eq!(cached(&ask(&gateway, &body).await), ("miss", "absent"));
        assert_eq!(cached(&ask(&gateway, &body).await), ("hit-l1", "equal"));
    }
    assert_eq!(host.recorder().started(), 7);
}
