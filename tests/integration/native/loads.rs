//! However requests come, the model is loaded once.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate_test_support::{Gateway, eventually, post};

use super::{STREAM, WIDE, WIDE_OPTIONS, chat, chat_of, config, last, slow_to_load, wide};
use crate::{BIN, CHAT, MODEL, simulator};

#[tokio::test]
async fn a_mixture_of_chats_loads_the_model_once() {
    let (gateway, host) = wide(slow_to_load()).await;
    for _ in 0..2 {
        for model in ["wide", MODEL, "plain"] {
            for more in ["", STREAM, r#""options":{"num_ctx":4096},"keep_alive":0"#] {
                let answer = chat(&gateway, model, more).await;
                assert_eq!(answer.status, 200, "{model} {more}: {}", answer.text());
                let (_, sent) = last(&host);
                assert_eq!(sent["options"]["num_ctx"], WIDE, "{model} {more}: {sent}");
                assert_eq!(host.scheduler().loads(MODEL), 1, "{model} {more}");
            }
        }
    }
}

#[tokio::test]
async fn chats_at_once_load_the_model_once() {
    let (gateway, host) = wide(slow_to_load()).await;
    let asked = (0..12).map(|index| {
        let (data, model) = (gateway.data, ["wide", MODEL, "plain"][index % 3]);
        tokio::spawn(async move { post(data, CHAT, chat_of(model, "hi", "")).await.status })
    });
    for one in asked.collect::<Vec<_>>() {
        assert_eq!(one.await.expect("answered"), 200);
    }
    assert_eq!(host.scheduler().loads(MODEL), 1);
}

/// The paths of `requests` that had the model loaded anew, for themselves or for the next chat.
async fn anew(requests: Vec<(&'static str, Value)>) -> Vec<&'static str> {
    let (gateway, host) = wide(slow_to_load()).await;
    assert_eq!(chat(&gateway, "wide", "").await.status, 200);
    let mut anew = Vec::new();
    for (path, mut body) in requests {
        let before = host.scheduler().loads(MODEL);
        body["model"] = json!("wide");
        let answer = post(gateway.data, path, body.to_string()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(chat(&gateway, "wide", "").await.status, 200);
        if host.scheduler().loads(MODEL) != before {
            anew.push(path);
        }
    }
    anew
}

#[tokio::test]
async fn other_endpoints_do_not_have_the_model_loaded_anew() {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let anew = anew(vec![
        ("/api/chat", json!({ "messages": messages })),
        ("/api/chat", json!({ "messages": messages, "options": { "num_ctx": 2048 } })),
        ("/api/generate", json!({ "prompt": "hi" })),
        ("/v1/messages", json!({ "max_tokens": 8, "messages": messages })),
        ("/v1/messages", json!({ "max_tokens": 8, "messages": messages, "stream": true })),
        ("/v1/responses", json!({ "input": "hi" })),
        ("/v1/responses", json!({ "input": messages, "stream": true })),
        ("/v1/completions", json!({ "prompt": "hi" })),
        ("/v1/completions", json!({ "prompt": "hi", "stream": true })),
    ]);
    assert_eq!(anew.await, Vec::<&str>::new());
}

#[tokio::test]
async fn where_no_target_can_hold_it_the_refusal_is_about_the_first() {
    let host = simulator(slow_to_load()).await;
    let targets = format!(
        "targets: [{{ upstream: host, model: \"{MODEL}\" }}], fallback: [{{ upstream: host, model: \"other:1b\" }}]"
    );
    let config = format!(
        "upstreams:\n{}routes:\n  - {{ model: assistant, {targets}, options: {{ num_ctx: 4096 }} }}\n",
        crate::upstream("host", &host, "")
    );
    let gateway = Gateway::start(BIN, &config);
    let body = json!({ "model": "assistant", "prompt": "word ".repeat(5000) }).to_string();
    let refused = post(gateway.data, "/v1/completions", body).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains(&format!("that `{MODEL}` is run with")), "{}", refused.text());
}

#[tokio::test]
async fn a_warm_model_is_not_loaded_a_second_time() {
    for options in [WIDE_OPTIONS, "num_ctx: auto", "runner: { num_gpu: 5 }, keep_alive: 10m"] {
        let host = simulator(slow_to_load()).await;
        let warm = format!("models: {{ \"{MODEL}\": {{ warm: true }} }}");
        let gateway = Gateway::start(BIN, &config(&host, &warm, &[("wide", options)]));
        eventually("it is warm", async || host.scheduler().loads(MODEL) == 1).await;
        // What is loaded must be known to choose a context.
        tokio::time::sleep(Duration::from_millis(300)).await;
        for model in ["wide", MODEL] {
            assert_eq!(chat(&gateway, model, "").await.status, 200);
        }
        assert_eq!(host.scheduler().loads(MODEL), 1, "{options}");
    }
}

/// What `sluicegate check` says of a route `wide` and of this one after it.
fn checked(model: &str, target: &str, options: &str) -> (Option<i32>, String) {
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = dir.path().join("config.yaml");
    let text = format!(
        "upstreams:\n  host: {{ url: \"http://127.0.0.1:1\", kind: ollama }}\nroutes:\n  \
         - {{ model: wide, targets: [{{ upstream: host, model: \"{MODEL}\" }}], options: {{ {WIDE_OPTIONS} }} }}\n  \
         - {{ model: \"{model}\", targets: [{{ upstream: host{target} }}], options: {{ {options} }} }}\n"
    );
    std::fs::write(&file, text).expect("written");
    let output = std::process::Command::new(BIN).arg("check").arg(&file).output().expect("runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn two_contexts_for_one_model_are_refused_with_both_names() {
    let same = format!(", model: \"{MODEL}\"");
    for options in ["num_ctx: 4096", "num_ctx: auto", "runner: { num_gpu: 1 }, num_ctx: 16384"] {
        let (code, said) = checked("narrow", &same, options);
        assert_eq!(code, Some(64), "{options}: {said}");
        assert!(said.contains("`wide`") && said.contains("`narrow`"), "{said}");
    }
    for (model, target, options) in [
        ("narrow", same.as_str(), "num_ctx: 16384"),
        ("narrow", same.as_str(), "temperature: 0.5"),
        ("narrow", ", model: \"all-minilm\"", "num_ctx: 4096"),
    ] {
        let (code, said) = checked(model, target, options);
        assert_eq!(code, Some(0), "{model} {options}: {said}");
    }
}

#[test]
fn two_contexts_are_refused_also_where_a_glob_has_the_model() {
    let (code, said) = checked("llama*", "", "num_ctx: 4096");
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("`wide`") && said.contains("`llama*`"), "{said}");
}

#[tokio::test]
async fn a_route_does_not_unpin_a_model() {
    let host = simulator(slow_to_load()).await;
    let pin = format!("models: {{ \"{MODEL}\": {{ pin: true }} }}");
    let routes = [("brief", "num_ctx: 16384, keep_alive: 1s")];
    let gateway = Gateway::start(BIN, &config(&host, &pin, &routes));
    eventually("it is loaded", async || host.scheduler().loads(MODEL) == 1).await;
    for _ in 0..3 {
        assert_eq!(chat(&gateway, "brief", "").await.status, 200);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(host.scheduler().loads(MODEL), 1, "it was unloaded");
}
