use serde_json::json;
use sluicegate_simulator::{Model, Settings};
use sluicegate_test_support::{Gateway, Response, post};

use crate::operations::satisfies_promtool;
use crate::{BIN, CHAT, simulator, upstream};

/// A route over a small and a big model on one upstream, with the shipped plugins in `chain`.
async fn gateway(plugins: &str, chain: &str) -> (Gateway, sluicegate_simulator::Simulator) {
    let settings = Settings {
        models: vec![Model::new("small", 2), Model::new("big", 8)],
        ..Settings::default()
    };
    let host = simulator(settings).await;
    let config = format!(
        "upstreams:\n{}plugins:\n{plugins}routes:\n  - model: assistant\n    targets: [{{ upstream: host, model: small }}, {{ upstream: host, model: big }}]\n    plugins: [{chain}]\n",
        upstream("host", &host, ""),
    );
    (Gateway::start(BIN, &config), host)
}

async fn ask(gateway: &Gateway, text: &str, more: &serde_json::Value) -> Response {
    let mut body = json!({"model": "assistant", "messages": [{"role": "user", "content": text}]});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    post(gateway.data, CHAT, body.to_string()).await
}

const ROUTER: &str = "  - { name: complexity-router, source: builtin, deadline: 1s, config: { levels: { simple: small, medium: small, complex: big }, classes: { code: { target: big } } } }\n";

#[tokio::test]
async fn a_greeting_goes_to_the_small_model_and_a_program_to_the_big_one() {
    let (gateway, host) = gateway(ROUTER, "complexity-router").await;
    let simple = ask(&gateway, "Hello!", &json!({})).await;
    assert_eq!(simple.header("x-sluicegate-model"), Some("small"), "{}", simple.text());
    let code = "Refactor this function and explain step by step why it deadlocks:\n```rust\nfn f() { let a = m.lock(); let b = m.lock(); }\n```\nThen prove that your version cannot, compare alternatives, and design tests.";
    let hard =
        ask(&gateway, code, &json!({"tools": [{"type": "function", "function": {"name": "f"}}]}))
            .await;
    assert_eq!(hard.header("x-sluicegate-model"), Some("big"), "{}", hard.text());
    assert!(hard.header("x-sluicegate-reason").expect("a reason").contains("code"));
    let sent: serde_json::Value =
        serde_json::from_slice(&host.recorder().last().expect("sent").body).expect("JSON");
    assert_eq!(sent["temperature"], 0.2, "code is cool by default");
    ask(&gateway, code, &json!({"temperature": 1.0})).await;
    let sent: serde_json::Value =
        serde_json::from_slice(&host.recorder().last().expect("sent").body).expect("JSON");
    assert_eq!(sent["temperature"], 1.0, "the client's own stays");
    let page = gateway.metrics().await;
    assert!(page.contains(
        "sluicegate_plugin_events_total{plugin=\"complexity-router\",name=\"decisions\""
    ));
}

#[tokio::test]
async fn prompts_are_rewritten_limited_and_blocked() {
    let rewriter = "  - { name: prompt-rewriter, source: builtin, deadline: 1s, config: { system: [{ text: 'You serve {caller}.' }], max_tokens: { max: 50 }, block: [{ pattern: 'hunter2' }] } }\n";
    let (gateway, host) = gateway(rewriter, "prompt-rewriter").await;
    assert_eq!(ask(&gateway, "hi", &json!({"max_completion_tokens": 900})).await.status, 200);
    let sent: serde_json::Value =
        serde_json::from_slice(&host.recorder().last().expect("sent").body).expect("JSON");
    assert_eq!(sent["messages"][0], json!({"role": "system", "content": "You serve anonymous."}));
    assert_eq!((&sent["max_tokens"], sent.get("max_completion_tokens")), (&json!(50), None));
    let blocked = ask(&gateway, "my password is hunter2", &json!({})).await;
    assert_eq!(
        (blocked.status, &blocked.json()["error"]["code"]),
        (400, &json!("blocked_pattern"))
    );
    assert!(!blocked.text().contains("hunter2"));
}

#[tokio::test]
async fn a_whole_chain_of_shipped_plugins_serves_streams() {
    let plugins = format!(
        "{ROUTER}  - {{ name: prompt-rewriter, source: builtin, deadline: 1s }}\n  - {{ name: semantic-cache, source: builtin, deadline: 1s }}\n  - {{ name: response-shaper, source: builtin, deadline: 1s, config: {{ openings: {{ strip: [\"Hello\"] }} }} }}\n"
    );
    let chain = "complexity-router, prompt-rewriter, semantic-cache, response-shaper";
    let (gateway, _host) = gateway(&plugins, chain).await;
    for _ in 0..20 {
        let stream = ask(&gateway, "Hello!", &json!({"stream": true})).await.text();
        assert!(stream.ends_with("data: [DONE]\n\n"), "{stream}");
    }
    let page = gateway.metrics().await;
    satisfies_promtool(&page);
    let failures = page.lines().filter(|line| {
        line.starts_with("sluicegate_plugin_failures_total") && !line.ends_with(" 0")
    });
    assert_eq!(failures.count(), 0, "{page}");
}
