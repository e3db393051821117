//! What fits in the context, and which context it is.

use std::time::Duration;

use serde_json::json;
use sluicegate_simulator::{Fault, Model, Settings};
use sluicegate_test_support::{Gateway, Response, eventually, post};

use super::{STREAM, WIDE, chat_of, config, last, slow_to_load, wide};
use crate::{BIN, CHAT, MODEL, simulator};

/// So many words.
fn words(count: usize) -> String {
    "word ".repeat(count)
}

fn is_exceeded(answer: &Response) {
    is_exceeded_in(answer, "messages");
}

fn is_exceeded_in(answer: &Response, param: &str) {
    assert_eq!(answer.status, 400, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["code"], "context_length_exceeded", "{error}");
    assert_eq!(error["type"], "invalid_request_error", "{error}");
    assert_eq!(error["param"], param, "{error}");
    assert!(!error["message"].to_string().contains('{'), "{error}");
}

#[tokio::test]
async fn a_prompt_that_cannot_fit_is_refused_before_it_is_sent() {
    let (gateway, host) = wide(Settings::default()).await;
    let too_long = words(usize::try_from(WIDE).expect("small") + 1);
    for more in ["", STREAM] {
        is_exceeded(&post(gateway.data, CHAT, chat_of("wide", &too_long, more)).await);
        assert_eq!(host.recorder().started(), 0);
    }
    let fits = words(usize::try_from(WIDE).expect("small"));
    assert_eq!(post(gateway.data, CHAT, chat_of("wide", &fits, "")).await.status, 200);
}

#[tokio::test]
async fn a_prompt_that_the_upstream_finds_too_long_has_the_same_code() {
    let host = simulator(Settings::default()).await;
    let gateway = Gateway::start(BIN, &config(&host, "", &[("narrow", "num_ctx: 256")]));
    // Signs are no tokens of the lower bound, and words to the simulator.
    let text = "- ".repeat(300);
    for more in ["", STREAM] {
        is_exceeded(&post(gateway.data, CHAT, chat_of("narrow", &text, more)).await);
        assert_eq!(last(&host).0, "/api/chat");
    }
    for (path, param) in [("/v1/responses", "input"), ("/v1/completions", "prompt")] {
        let mut body = json!({ "model": "narrow", "stream": true });
        body[param] = json!(text);
        is_exceeded_in(&post(gateway.data, path, body.to_string()).await, param);
    }
}

#[tokio::test]
async fn claude_code_is_told_in_the_words_it_knows() {
    let host = simulator(Settings::default()).await;
    let gateway = Gateway::start(BIN, &config(&host, "", &[("narrow", "num_ctx: 256")]));
    for text in ["- ".repeat(300), words(300)] {
        let body = json!({
            "model": "narrow", "max_tokens": 9, "messages": [{ "role": "user", "content": text }]
        });
        let answer = post(gateway.data, "/v1/messages", body.to_string()).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        let message = answer.json()["error"]["message"].to_string();
        let counts = message.strip_prefix("\"prompt is too long: ").expect("known words");
        assert!(counts.contains(" tokens > ") && counts.ends_with(" maximum\""), "{message}");
    }
}

#[tokio::test]
async fn a_runner_that_calls_its_clients_mistake_its_own_is_not_blamed() {
    let host = simulator(Settings::default()).await;
    let text =
        format!("breaker: {{ errors: 1 }}\n{}", config(&host, "", &[("elastic", "num_ctx: auto")]));
    let gateway = Gateway::start(BIN, &text);
    let told =
        "input length (9000 tokens) exceeds the model's maximum context length (2048 tokens)";
    host.faults().push([Fault::Status(500, json!({ "error": told }).to_string())]);
    let answer = post(gateway.data, CHAT, chat_of("elastic", "hi", "")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(last(&host).1["options"]["num_ctx"], 4096);
}

#[tokio::test]
async fn a_prompt_too_long_for_plain_v1_has_the_same_code() {
    let models = vec![Model { shifts: false, ..Model::new(MODEL, 3) }];
    let host = simulator(Settings { models, ..Settings::default() }).await;
    let gateway = Gateway::start(BIN, &config(&host, "", &[]));
    for more in ["", STREAM] {
        is_exceeded(&post(gateway.data, CHAT, chat_of("plain", &words(9000), more)).await);
        assert_eq!(last(&host).0, CHAT);
    }
}

#[tokio::test]
async fn an_automatic_context_grows_and_stays() {
    let host = simulator(slow_to_load()).await;
    let gateway = Gateway::start(BIN, &config(&host, "", &[("elastic", "num_ctx: auto")]));
    let ask = async |count: usize| {
        let answer = post(gateway.data, CHAT, chat_of("elastic", &words(count), "")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        last(&host).1["options"]["num_ctx"].as_u64().expect("a context")
    };
    assert_eq!(ask(3).await, 2048);
    assert_eq!(ask(3).await, 2048);
    assert_eq!(ask(4000).await, 8192);
    assert_eq!(host.scheduler().loads(MODEL), 2);
    // At once, and when the gateway has seen what is loaded.
    for pause in [0, 1500] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        assert_eq!(ask(3).await, 8192, "after {pause} ms");
    }
    assert_eq!(host.scheduler().loads(MODEL), 2);
}

#[tokio::test]
async fn a_context_that_was_chosen_too_small_is_chosen_anew() {
    let host = simulator(slow_to_load()).await;
    let gateway = Gateway::start(BIN, &config(&host, "", &[("elastic", "num_ctx: auto")]));
    // Two of three such characters are a token to the estimate, and each is a word to the simulator.
    let text = "中 ".repeat(18_000);
    for more in ["", STREAM] {
        let answer = post(gateway.data, CHAT, chat_of("elastic", &text, more)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(last(&host).1["options"]["num_ctx"], 32_768);
    }
    assert_eq!(host.scheduler().loads(MODEL), 2);
}

#[tokio::test]
async fn short_and_long_prompts_at_once_do_not_take_turns_at_loading() {
    let host = simulator(slow_to_load()).await;
    let gateway = Gateway::start(BIN, &config(&host, "", &[("elastic", "num_ctx: auto")]));
    for _ in 0..4 {
        let asked = (0..4).map(|index| {
            let body = chat_of("elastic", &words([3, 4000][index % 2]), "");
            let data = gateway.data;
            tokio::spawn(async move { post(data, CHAT, body).await.status })
        });
        for one in asked.collect::<Vec<_>>() {
            assert_eq!(one.await.expect("answered"), 200);
        }
    }
    // The small context, then the large one, and no way back.
    assert!(host.scheduler().loads(MODEL) <= 2, "{} loads", host.scheduler().loads(MODEL));
}

#[tokio::test]
async fn a_pinned_model_keeps_the_context_it_grew_to() {
    let host = simulator(slow_to_load()).await;
    let pin = format!("models: {{ \"{MODEL}\": {{ pin: true }} }}");
    let routes = [("elastic", "num_ctx: auto")];
    let text =
        format!("admission: {{ vram: {{ poll: 100ms }} }}\n{}", config(&host, &pin, &routes));
    let gateway = Gateway::start(BIN, &text);
    eventually("it is loaded", async || host.scheduler().loads(MODEL) == 1).await;
    let long = chat_of("elastic", &words(9000), "");
    assert_eq!(post(gateway.data, CHAT, &long).await.status, 200);
    assert_eq!(host.scheduler().loads(MODEL), 2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(host.scheduler().loads(MODEL), 2, "it was loaded anew to be kept");
    assert_eq!(host.scheduler().ps()["models"][0]["context_length"], 16_384);
}

#[tokio::test]
async fn where_admission_loads_a_model_it_has_the_context_of_the_request() {
    let host = simulator(slow_to_load()).await;
    let text = config(&host, "vram: 24GiB", &[("elastic", "num_ctx: auto")]);
    let gateway = Gateway::start(BIN, &text);
    // Until the gateway knows that nothing is loaded, it leaves the load to the upstream.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let long = chat_of("elastic", &words(9000), "");
    assert_eq!(post(gateway.data, CHAT, &long).await.status, 200);
    assert_eq!(host.scheduler().loads(MODEL), 1);
}
