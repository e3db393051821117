//! What plugins decide about the cache.

use serde_json::json;
use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::{Gateway, eventually};

use super::{ask, cached, outcome};
use crate::{BIN, MODEL, simulator, upstream};

async fn with(plugins: &str, chain: &str, cache: &str) -> (Gateway, Simulator) {
    let host = simulator(Settings::default()).await;
    let config = format!(
        "{cache}\nplugins:\n{plugins}routes:\n  - {{ model: assistant, targets: [{{ upstream: host, \
         model: \"{MODEL}\" }}], plugins: [{chain}] }}\nupstreams:\n{}",
        upstream("host", &host, "")
    );
    (Gateway::start(BIN, &config), host)
}

fn asks(text: &str) -> String {
    json!({"model": "assistant", "messages": [{"role": "user", "content": text}]}).to_string()
}

fn policy(config: &str) -> String {
    format!(
        "  - {{ name: semantic-cache, source: builtin, deadline: 1s, config: {{ {config} }} }}\n"
    )
}

#[tokio::test]
async fn a_plugin_says_what_is_kept_and_for_how_long() {
    let (gateway, _host) = with(&policy("policy: always, ttl: 1"), "semantic-cache", "").await;
    assert_eq!(outcome(&gateway, &asks("hi")).await, "miss");
    assert_eq!(outcome(&gateway, &asks("hi")).await, "hit-l1");
    eventually("it is stale", async || outcome(&gateway, &asks("hi")).await == "miss").await;
    let (gateway, _host) =
        with(&policy("policy: deterministic"), "semantic-cache", "cache: { policy: always }").await;
    for _ in 0..2 {
        assert_eq!(cached(&ask(&gateway, &asks("hi")).await), ("bypass", "plugin"));
    }
}

#[tokio::test]
async fn a_plugin_says_which_questions_may_be_asked_in_other_words() {
    let lexical = "cache: { lexical: {} }";
    let (stored, asked) =
        ("What is the capital of France?", "What's the capital of France, please?");
    for (similar, expected) in [("true", "hit-l2"), ("false", "miss")] {
        let plugin = policy(&format!("policy: always, similar: {similar}"));
        let (gateway, _host) = with(&plugin, "semantic-cache", lexical).await;
        ask(&gateway, &asks(stored)).await;
        assert_eq!(outcome(&gateway, &asks(asked)).await, expected, "similar: {similar}");
    }
}

#[tokio::test]
async fn answers_are_kept_apart_by_what_plugins_do_to_the_request() {
    let rewriter = |prompt: &str| {
        format!(
            "  - {{ name: prompt-rewriter, source: builtin, deadline: 1s, config: {{ system: [{{ text: \"{prompt}\" }}] }} }}\n{}",
            policy("policy: always")
        )
    };
    let chain = "prompt-rewriter, semantic-cache";
    let (gateway, host) = with(&rewriter("Be brief."), chain, "").await;
    ask(&gateway, &asks("hi")).await;
    let sent = host.recorder().last().expect("sent").body;
    let changed = String::from_utf8_lossy(&sent).contains("Be brief.");
    assert_eq!(outcome(&gateway, &asks("hi")).await, "hit-l1");
    let text = std::fs::read_to_string(gateway.config_path()).expect("read");
    gateway.write_config(&text.replace("Be brief.", "Be long."));
    eventually("the new prompt is in force", async || {
        outcome(&gateway, &asks("hi")).await == "miss"
    })
    .await;
    assert!(changed, "the plugin did its work");
}

/// Two routes to one model; the plugin of the first moves its requests to the second.
#[tokio::test]
async fn a_request_that_was_moved_shares_no_answer_with_one_that_came_straight() {
    let host = simulator(Settings::default()).await;
    let target = format!("targets: [{{ upstream: host, model: \"{MODEL}\" }}]");
    let shaper = "  - { name: response-shaper, source: builtin, deadline: 1s, config: { openings: { strip: [\"The answer\"] } } }\n";
    let mover = format!(
        "  - {{ name: mover, source: \"{}\", deadline: 5s, config: {{ do: model, text: straight }} }}\n",
        sluicegate_test_support::guest::faulty().display()
    );
    let config = format!(
        "cache: {{ policy: always }}\nplugins:\n{mover}{shaper}routes:\n  - {{ model: moved, {target}, plugins: [mover, \
         response-shaper] }}\n  - {{ model: straight, {target} }}\nupstreams:\n{}",
        upstream("host", &host, "")
    );
    let gateway = Gateway::start(BIN, &config);
    let to = |model: &str| asks("hi").replace("assistant", model);
    let text = async |model: &str| {
        let answer = ask(&gateway, &to(model)).await;
        let said = answer.json()["choices"][0]["message"]["content"].to_string();
        (cached(&answer).0.to_owned(), said)
    };
    let moved = text("moved").await;
    let straight = text("straight").await;
    assert_eq!((moved.0.as_str(), straight.0.as_str()), ("miss", "miss"));
    assert_eq!(text("moved").await, ("hit-l1".to_owned(), moved.1));
    assert_eq!(text("straight").await, ("hit-l1".to_owned(), straight.1));
}

#[tokio::test]
async fn what_a_failing_plugin_let_through_is_not_kept() {
    let faulty = sluicegate_test_support::guest::faulty().display();
    let plugin = format!("  - {{ name: p, source: \"{faulty}\", config: {{ do: trap }} }}\n");
    let (gateway, host) = with(&plugin, "p", "cache: { policy: always }").await;
    for _ in 0..3 {
        assert_eq!(cached(&ask(&gateway, &asks("hi")).await), ("bypass", "plugin_failed"));
    }
    assert_eq!(host.recorder().started(), 3);
}
