//! Prompts longer than the context their model is loaded with, which Ollama cuts without saying so.

use serde_json::{Value, json};
use sluicegate_simulator::{Model, Settings, Simulator};
use sluicegate_test_support::{Gateway, Response, eventually, get, post};

use super::{BIN, CHAT, MODEL, simulator, upstream};

const CUT: &str = "x-sluicegate-prompt";

/// A host whose model has a context of 300 tokens.
async fn narrow() -> Simulator {
    let models = vec![Model { context: 300, ..Model::new(MODEL, 3) }];
    simulator(Settings { models, ..Settings::default() }).await
}

/// A gateway that has seen its model loaded.
async fn seen(host: &Simulator, policy: &str, more: &str) -> Gateway {
    let config = format!(
        "admission: {{ long_prompts: {policy}, vram: {{ poll: 50ms }} }}\nupstreams:\n{}{more}",
        upstream("host", host, "")
    );
    let gateway = Gateway::start(BIN, &config);
    assert_eq!(chat(&gateway, 3, json!({})).await.status, 200);
    eventually("it is seen to be loaded", async || {
        known(&gateway).await.contains("\"context\":300")
    })
    .await;
    gateway
}

/// What is known of models, in one line.
async fn known(gateway: &Gateway) -> String {
    get(gateway.admin, "/api/models").await.json().to_string()
}

fn words(count: usize) -> String {
    "word ".repeat(count)
}

async fn send(gateway: &Gateway, path: &str, mut body: Value) -> Response {
    if body["model"].is_null() {
        body["model"] = json!(MODEL);
    }
    post(gateway.data, path, body.to_string()).await
}

async fn chat(gateway: &Gateway, count: usize, more: Value) -> Response {
    let mut body = json!({ "messages": [{ "role": "user", "content": words(count) }] });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    send(gateway, CHAT, body).await
}

#[tokio::test]
async fn an_answer_tells_that_its_prompt_was_cut_on_every_endpoint() {
    let host = narrow().await;
    let gateway = seen(&host, "warn", "").await;
    let messages = |count: usize| json!([{ "role": "user", "content": words(count) }]);
    type Body<'a> = &'a dyn Fn(usize) -> Value;
    let bodies: [(&str, Body<'_>); 7] = [
        (CHAT, &|count| json!({ "messages": messages(count) })),
        (CHAT, &|count| json!({ "messages": messages(count), "stream": true })),
        (
            "/v1/messages",
            &|count| json!({ "messages": messages(1), "system": words(count), "max_tokens": 9 }),
        ),
        ("/v1/responses", &|count| json!({ "input": words(count) })),
        ("/v1/completions", &|count| json!({ "prompt": words(count) })),
        ("/api/chat", &|count| json!({ "messages": messages(count) })),
        ("/api/generate", &|count| json!({ "prompt": words(count) })),
    ];
    for (path, body) in bodies {
        let answer = send(&gateway, path, body(301)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.header(CUT), Some("cut; context=300"), "{path}");
        let answer = send(&gateway, path, body(290)).await;
        assert_eq!((answer.status, answer.header(CUT)), (200, None), "{path}");
    }
    assert_eq!(gateway.metric("sluicegate_prompts_cut_total{upstream=\"host\"}").await, 7.0);
    let events = get(gateway.admin, "/api/events").await.text();
    let told = events.matches("prompts are cut to its context").count();
    assert_eq!(told, 1, "{events}");
}

#[tokio::test]
async fn a_native_client_that_says_how_it_is_to_be_is_not_warned() {
    let host = narrow().await;
    let gateway = seen(&host, "reject", "").await;
    let messages = json!([{ "role": "user", "content": words(400) }]);
    let own = json!({ "messages": messages, "options": { "num_ctx": 500 } });
    let answer = send(&gateway, "/api/chat", own).await;
    assert_eq!((answer.status, answer.header(CUT)), (200, None));
    let strict = json!({ "messages": messages, "options": { "num_ctx": 300 }, "truncate": false });
    let answer = send(&gateway, "/api/chat", strict).await;
    assert!(answer.text().contains("exceeds the available context size"), "{}", answer.text());
}

#[tokio::test]
async fn a_cut_prompts_answer_is_not_kept() {
    let host = narrow().await;
    let gateway = seen(&host, "warn", "").await;
    for (count, second) in [(400, "miss"), (200, "hit-l1")] {
        for expected in ["miss", second] {
            let answer = chat(&gateway, count, json!({ "temperature": 0 })).await;
            assert_eq!(answer.header("x-cache"), Some(expected), "{count} words");
        }
    }
    let series = "sluicegate_cache_unfit_total{reason=\"prompt_cut\"}";
    assert_eq!(gateway.metric(series).await, 2.0);
}

#[tokio::test]
async fn a_long_prompt_can_be_refused_or_sent_to_where_it_fits() {
    let (host, wide) = (narrow().await, simulator(Settings::default()).await);
    let gateway = seen(&host, "reject", &upstream("wide", &wide, "")).await;
    let only = Gateway::start(
        BIN,
        &format!(
            "admission: {{ long_prompts: reject, vram: {{ poll: 50ms }} }}\nupstreams:\n{}",
            upstream("host", &host, "")
        ),
    );
    eventually("refused", async || chat(&only, 301, json!({})).await.status == 400).await;
    let refused = chat(&only, 301, json!({ "stream": true })).await;
    let error = &refused.json()["error"];
    assert_eq!((refused.status, &error["code"]), (400, &json!("context_length_exceeded")));
    assert_eq!(chat(&only, 300, json!({})).await.status, 200);

    let served = chat(&gateway, 301, json!({})).await;
    assert_eq!((served.status, served.header("x-sluicegate-upstream")), (200, Some("wide")));
    let reason = served.header("x-sluicegate-reason").unwrap_or_default();
    assert!(reason.contains("host: its context is too small"), "{reason}");
}

#[tokio::test]
async fn a_model_that_is_loaded_for_the_request_is_judged_as_it_was_loaded() {
    let host = narrow().await;
    let config = format!(
        "admission: {{ long_prompts: reject, vram: {{ poll: 50ms }} }}\nupstreams:\n{}",
        upstream("host", &host, "vram: 24GiB")
    );
    let gateway = Gateway::start(BIN, &config);
    eventually("admission is the gateway's", async || {
        get(gateway.admin, "/api/models").await.text().contains(MODEL)
    })
    .await;
    let refused = chat(&gateway, 301, json!({})).await;
    assert_eq!(refused.json()["error"]["code"], "context_length_exceeded", "{}", refused.text());
}

#[tokio::test]
async fn what_is_allowed_is_not_looked_at() {
    let host = narrow().await;
    let gateway = seen(&host, "allow", "").await;
    let answer = chat(&gateway, 400, json!({})).await;
    assert_eq!((answer.status, answer.header(CUT)), (200, None));
}

/// A gateway whose route `mine` has `options`, before a host that has its model loaded with 300 tokens.
async fn routed(host: &Simulator, policy: &str, options: &str) -> Gateway {
    let route = format!(
        "routes:\n  - {{ model: mine, targets: [{{ upstream: host, model: \"{MODEL}\" }}], options: {{ {options} }} }}\n  - {{ model: \"*\", targets: [{{ upstream: host }}] }}\n"
    );
    seen(host, policy, &route).await
}

#[tokio::test]
async fn options_that_leave_the_context_alone_leave_the_warning_too() {
    for options in ["think: false", "keep_alive: 10m"] {
        let host = narrow().await;
        let gateway = routed(&host, "warn", options).await;
        let messages = json!([{ "role": "user", "content": words(400) }]);
        for (path, body) in [
            (CHAT, json!({ "messages": messages })),
            ("/v1/messages", json!({ "messages": messages, "max_tokens": 9 })),
        ] {
            let mut body = body;
            body["model"] = json!("mine");
            let answer = send(&gateway, path, body).await;
            assert_eq!(host.recorder().last().expect("a request").path, "/api/chat");
            assert_eq!(answer.header(CUT), Some("cut; context=300"), "{options} {path}");
        }
        let rejecting = routed(&host, "reject", options).await;
        let refused = chat(&rejecting, 400, json!({ "model": "mine" })).await;
        assert_eq!(refused.status, 400, "{options}: {}", refused.text());
    }
}

#[tokio::test]
async fn a_native_request_is_judged_by_the_context_it_is_going_to_have() {
    for (options, long) in [("num_ctx: 600", 601), ("num_ctx: auto", 5000)] {
        let host = narrow().await;
        for policy in ["warn", "reject"] {
            // The model is loaded with 300 tokens at first.
            let gateway = Gateway::start(
                BIN,
                &format!(
                    "admission: {{ long_prompts: {policy}, vram: {{ poll: 50ms }} }}\nupstreams:\n{}routes:\n  - {{ model: \"*\", targets: [{{ upstream: host }}], options: {{ {options} }} }}\n",
                    upstream("host", &host, "")
                ),
            );
            let ask = async |count: usize| {
                let messages = json!([{ "role": "user", "content": words(count) }]);
                send(&gateway, "/api/chat", json!({ "messages": messages })).await
            };
            let answer = ask(500).await;
            assert_eq!((answer.status, answer.header(CUT)), (200, None), "{options} {policy}");
            let fixed = options != "num_ctx: auto";
            let answer = ask(long).await;
            let expected = if fixed && policy == "reject" { 400 } else { 200 };
            assert_eq!(answer.status, expected, "{options} {policy}: {}", answer.text());
            let cut = (fixed && policy == "warn").then_some("cut; context=600");
            assert_eq!(answer.header(CUT), cut, "{options} {policy}");
        }
    }
}

/// A host whose model has a context of 3000 tokens, not loaded, and a gateway that knows that.
async fn cold(policy: &str) -> (Simulator, Gateway) {
    let models = vec![Model { context: 3000, ..Model::new(MODEL, 3) }];
    let host = simulator(Settings { models, ..Settings::default() }).await;
    let config = format!(
        "admission: {{ long_prompts: {policy}, vram: {{ poll: 10m }} }}\nupstreams:\n{}",
        upstream("host", &host, "")
    );
    let gateway = Gateway::start(BIN, &config);
    eventually("it is seen not to be loaded", async || {
        known(&gateway).await.contains("\"resident\":false")
    })
    .await;
    (host, gateway)
}

#[tokio::test]
async fn a_model_that_was_cold_is_judged_when_it_has_answered() {
    for more in [json!({ "temperature": 0 }), json!({ "stream": true, "temperature": 0 })] {
        let (_host, gateway) = cold("warn").await;
        let answer = chat(&gateway, 4000, more.clone()).await;
        assert_eq!((answer.status, answer.header(CUT)), (200, Some("cut; context=3000")), "{more}");
        let again = chat(&gateway, 4000, more.clone()).await;
        assert_eq!(again.header("x-cache"), Some("miss"), "{more}");
        let (_host, gateway) = cold("reject").await;
        let refused = chat(&gateway, 4000, more.clone()).await;
        assert_eq!(refused.json()["error"]["code"], "context_length_exceeded", "{more}");
        let (_host, gateway) = cold("reject").await;
        assert_eq!(chat(&gateway, 2900, more.clone()).await.status, 200, "{more}");
    }
}

#[tokio::test]
async fn a_context_that_another_client_chose_says_nothing() {
    let models = vec![Model { context: 3000, ..Model::new(MODEL, 3) }];
    let host = simulator(Settings { models, ..Settings::default() }).await;
    let gateway = Gateway::start(
        BIN,
        &format!(
            "admission: {{ long_prompts: reject, vram: {{ poll: 50ms }} }}\nupstreams:\n{}",
            upstream("host", &host, "")
        ),
    );
    let own =
        json!({ "messages": [{ "role": "user", "content": "hi" }], "options": { "num_ctx": 500 } });
    assert_eq!(send(&gateway, "/api/chat", own).await.status, 200);
    eventually("it is seen to be loaded so", async || {
        known(&gateway).await.contains("\"context\":500")
    })
    .await;
    // It is loaded anew for this one.
    assert_eq!(chat(&gateway, 1000, json!({})).await.status, 200);
    eventually("with what Ollama has", async || known(&gateway).await.contains("\"context\":3000"))
        .await;
    assert_eq!(chat(&gateway, 3001, json!({})).await.status, 400);
}
