use serde_json::{Value, json};
use sluicegate_simulator::{Model, Settings};
use sluicegate_test_support::{Connection, Gateway, eventually, get, post, request, reserved};

use super::{BIN, CHAT, MODEL, chat, pair, simulator, upstream};

const COUNT: &str = "/v1/messages/count_tokens";

#[tokio::test]
async fn models_are_merged_over_routes_and_upstreams_each_once() {
    let only = |names: &[&str]| Settings {
        models: names.iter().map(|name| Model::new(name, 1)).collect(),
        ..Settings::default()
    };
    let (first, second) =
        (simulator(only(&["a:1", "hf.co/u/m:Q4"])).await, simulator(only(&["a:1", "b:2"])).await);
    let config = format!(
        "upstreams:\n{}{}  gone: {{ url: \"http://{}\", kind: openai }}\nroutes:\n  - {{ model: assistant, targets: [{{ upstream: first, model: \"a:1\" }}] }}\n  - {{ model: 'gpt-*', targets: [{{ upstream: first, model: \"a:1\" }}] }}\n",
        upstream("first", &first, ""),
        upstream("second", &second, ""),
        reserved()
    );
    let gateway = Gateway::start(BIN, &config);
    let list = get(gateway.data, "/v1/models").await.json();
    let ids: Vec<&str> = list["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["id"].as_str().expect("an id"))
        .collect();
    assert_eq!(ids, ["assistant", "a:1", "hf.co/u/m:Q4", "b:2"]);
    assert_eq!(list["object"], "list");
    for (path, status, id) in [
        ("/v1/models/assistant", 200, "assistant"),
        ("/v1/models/hf.co/u/m:Q4", 200, "hf.co/u/m:Q4"),
        ("/v1/models/hf.co%2Fu%2Fm%3AQ4", 200, "hf.co/u/m:Q4"),
        ("/v1/models/nothing", 404, ""),
    ] {
        let answer = get(gateway.data, path).await;
        assert_eq!(answer.status, status, "{path}");
        if status == 200 {
            assert_eq!(answer.json()["id"], id);
        }
    }
    let tags = get(gateway.data, "/api/tags").await.json();
    assert_eq!(tags["models"].as_array().expect("a list").len(), 4);
    assert!(tags["models"][0]["digest"].is_string(), "entries are kept whole");
}

#[tokio::test]
async fn no_models_is_an_empty_list_never_null() {
    let (gateway, _simulator) = pair(Settings { models: vec![], ..Settings::default() }, "").await;
    assert_eq!(get(gateway.data, "/v1/models").await.json()["data"], json!([]));
    assert_eq!(get(gateway.data, "/api/tags").await.json()["models"], json!([]));
}

#[tokio::test]
async fn what_an_ollama_does_not_heed_is_told() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    let told = async |more: &str| {
        let answer = post(gateway.data, CHAT, chat(more)).await;
        assert_eq!(answer.status, 200);
        answer.header("x-sluicegate-unheeded").map(str::to_owned)
    };
    for more in ["", r#""n":1,"tool_choice":"auto""#, r#""n":null,"tool_choice":null"#] {
        assert_eq!(told(more).await, None, "{more}");
    }
    assert_eq!(told(r#""n":3"#).await.as_deref(), Some("n"));
    assert_eq!(told(r#""tool_choice":"required""#).await.as_deref(), Some("tool_choice"));
    let both = r#""n":2,"tool_choice":{"type":"function","function":{"name":"f"}}"#;
    assert_eq!(told(both).await.as_deref(), Some("tool_choice, n"));
}

#[tokio::test]
async fn models_that_nobody_could_be_asked_for_are_an_error_never_an_empty_list() {
    let never = format!("upstreams:\n  host: {{ url: \"http://{}\", kind: ollama }}\n", reserved());
    let gateway = Gateway::start(BIN, &never);
    let list = get(gateway.data, "/v1/models").await;
    assert_eq!(
        (list.status, list.json()["error"]["code"].as_str()),
        (502, Some("upstream_failed"))
    );
    assert_eq!(get(gateway.data, "/api/tags").await.status, 502);
    assert_eq!(get(gateway.data, "/v1/models/m").await.status, 502);
    // One that was there before: both say the same.
    let (gateway, mut simulator) = pair(Settings::default(), "").await;
    assert_eq!(get(gateway.data, "/v1/models").await.status, 200);
    simulator.kill().await;
    eventually("it is known to be gone", async || {
        get(gateway.data, "/v1/models").await.status == 502
    })
    .await;
    assert_eq!(get(gateway.data, "/api/tags").await.status, 502);
    // Routes need nobody to be asked.
    let routed = format!(
        "{never}routes:\n  - {{ model: assistant, targets: [{{ upstream: host, model: m }}] }}\n"
    );
    let gateway = Gateway::start(BIN, &routed);
    let list = get(gateway.data, "/v1/models").await.json();
    assert_eq!(list["data"][0]["id"], "assistant");
    let tags = get(gateway.data, "/api/tags").await.json();
    assert_eq!(tags["models"][0]["name"], "assistant");
    assert_eq!(get(gateway.data, "/api/ps").await.status, 502, "a route is not loaded");
}

#[tokio::test]
async fn ollama_clients_can_choose_routes() {
    let (first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let config = format!(
        "upstreams:\n{}{}  api: {{ url: \"http://{}\", kind: openai }}\nroutes:\n\
         \x20 - {{ model: coder, targets: [{{ upstream: api, model: x }}], fallback: [{{ upstream: b, model: \"{MODEL}\" }}] }}\n\
         \x20 - {{ model: assistant, targets: [{{ upstream: a, model: missing }}] }}\n\
         \x20 - {{ model: elsewhere, targets: [{{ upstream: api }}] }}\n\
         \x20 - {{ model: \"{MODEL}\", targets: [{{ upstream: b }}] }}\n\
         \x20 - {{ model: 'any*', targets: [{{ upstream: a }}] }}\n",
        upstream("a", &first, ""),
        upstream("b", &second, ""),
        reserved(),
    );
    let gateway = Gateway::start(BIN, &config);
    let tags = get(gateway.data, "/api/tags").await.json();
    let models = tags["models"].as_array().expect("a list");
    let names: Vec<&str> = models.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names[..3], ["assistant", "coder", MODEL], "what has no native API is left out");
    assert_eq!(names.iter().filter(|name| **name == MODEL).count(), 1);
    let (unknown, known, own) = (&models[0], &models[1], &models[2]);
    assert_eq!(known["model"], "coder");
    for key in ["digest", "size", "modified_at", "details", "capabilities"] {
        assert_eq!(known[key], own[key], "{key}");
        assert!(key == "capabilities" || unknown[key].is_null() == known[key].is_null(), "{key}");
    }
    assert_eq!(unknown["digest"].as_str().map(str::len), Some(64));
    let body = r#"{"model":"coder","messages":[{"role":"user","content":"hi"}],"stream":false}"#;
    assert_eq!(post(gateway.data, "/api/chat", body).await.status, 200);
    assert_eq!(second.recorder().started(), 1);
}

#[tokio::test]
async fn every_endpoint_passes_through() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    let cases: [(&str, Value, &str); 9] = [
        (CHAT, json!({"messages": []}), "/choices/0/message/content"),
        ("/v1/completions", json!({"prompt": "x"}), "/choices/0/text"),
        (
            "/v1/embeddings",
            json!({"input": ["a", "b"], "encoding_format": "base64"}),
            "/data/1/embedding",
        ),
        ("/v1/responses", json!({"input": "x"}), "/output/0/content/0/text"),
        ("/v1/messages", json!({"messages": [], "max_tokens": 5}), "/content/0/text"),
        (
            "/api/chat",
            json!({"messages": [{"role":"user","content":"x"}], "stream": false}),
            "/message/content",
        ),
        ("/api/generate", json!({"prompt": "x", "stream": false}), "/response"),
        ("/api/embed", json!({"input": "x"}), "/embeddings/0/0"),
        ("/api/embeddings", json!({"prompt": "x"}), "/embedding/0"),
    ];
    for (path, mut body, pointer) in cases {
        body["model"] = json!(MODEL);
        let answer = post(gateway.data, path, body.to_string()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert!(!answer.json().pointer(pointer).expect(path).is_null(), "{path}");
        assert_eq!(
            simulator.recorder().last().expect("a request").body,
            body.to_string(),
            "{path}"
        );
    }
    let shown = post(gateway.data, "/api/show", json!({"model": MODEL}).to_string()).await.json();
    assert!(shown["model_info"]["llama.context_length"].is_number());
    assert_eq!(get(gateway.data, "/api/version").await.json()["version"], "0.12.3");
    let running = get(gateway.data, "/api/ps").await.json();
    assert_eq!(running["models"][0]["name"], MODEL);
    assert_eq!(get(gateway.data, "/").await.status, 200);
    let mut connection = Connection::open(gateway.data).await;
    connection
        .send("HEAD /v1/models HTTP/1.1\r\nHost: g\r\n\r\nGET / HTTP/1.1\r\nHost: g\r\n\r\n")
        .await;
    let head = connection.head().await;
    assert!(head.status == 200 && head.header("content-length") != Some("0"));
    assert_eq!(connection.head().await.status, 200, "no body follows the head");
}

#[tokio::test]
async fn named_events_and_json_lines_keep_their_form() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    let stream = async |path: &str, more: &str| {
        let body = format!(r#"{{"model":"{MODEL}","stream":true,{more}}}"#);
        post(gateway.data, path, body).await
    };
    let responses = stream("/v1/responses", r#""input":"x""#).await.text();
    assert!(responses.starts_with("event: response.created\ndata: {"), "{responses}");
    assert!(responses.contains("event: response.completed\n") && !responses.contains("[DONE]"));
    let messages = stream("/v1/messages", r#""messages":[],"max_tokens":5"#).await.text();
    assert!(
        messages.starts_with("event: message_start\n")
            && messages.contains("event: message_stop\n")
    );
    let generate = stream("/api/generate", r#""prompt":"x""#).await;
    assert_eq!(generate.header("content-type"), Some("application/x-ndjson"));
    let text = generate.text();
    assert_eq!(text.lines().count(), 9);
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["done"], &last["eval_count"]), (&json!(true), &json!(8)));
}

#[tokio::test]
async fn a_native_request_goes_to_an_ollama_only() {
    let simulator = simulator(Settings::default()).await;
    let gateway = Gateway::start(
        BIN,
        &format!("upstreams:\n  lm: {{ url: \"{}\", kind: openai }}\n", simulator.url()),
    );
    let answer = post(gateway.data, "/api/chat", chat("")).await;
    assert_eq!(answer.status, 404);
    assert!(answer.json()["error"].as_str().expect("Ollama's shape").contains("use /v1"));
}

/// Claude Code asks this before it compacts a conversation; Ollama has no such endpoint.
#[tokio::test]
async fn tokens_are_counted_without_a_model_where_the_upstream_is_an_ollama() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    let count = async |more: &str| {
        let body = format!(r#"{{"model":"{MODEL}"{more}}}"#);
        post(gateway.data, COUNT, body).await
    };
    let few = count(r#","messages":[{"role":"user","content":"Hello there."}]"#).await;
    assert_eq!((few.status, few.header("x-sluicegate-reason")), (200, Some("estimated")));
    let tokens = few.json()["input_tokens"].as_u64().expect("a count");
    assert!((3..20).contains(&tokens), "{tokens}");
    let long = "and so on ".repeat(1_000);
    let many = count(&format!(r#","messages":[],"system":"{long}""#)).await.json();
    assert!((2_500..3_500).contains(&many["input_tokens"].as_u64().expect("a count")), "{many}");
    assert_eq!(simulator.recorder().started(), 0, "no model was run");
    let wrong = count("").await;
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.json()["error"]["type"], "invalid_request_error");
    let unknown = post(gateway.data, COUNT, r#"{"model":"nope","messages":[]}"#).await;
    assert_eq!((unknown.status, &unknown.json()["type"]), (404, &json!("error")));
}

#[tokio::test]
async fn tokens_are_counted_by_an_upstream_that_may_know_better() {
    let simulator = simulator(Settings::default()).await;
    let gateway = Gateway::start(
        BIN,
        &format!(
            "upstreams:\n{}  lm: {{ url: \"{}\", kind: openai }}\n\
             routes:\n  - {{ model: m, targets: [{{ upstream: host }}, {{ upstream: lm }}] }}\n",
            upstream("host", &simulator, ""),
            simulator.url()
        ),
    );
    let body = r#"{"model":"m","messages":[]}"#;
    let answer = post(gateway.data, COUNT, body).await;
    assert_eq!(answer.header("x-sluicegate-upstream"), Some("lm"));
    assert_eq!(answer.status, 404, "what it says is passed on: {}", answer.text());
}

#[tokio::test]
async fn every_error_has_the_callers_own_shape() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    for (path, body, status, code) in [
        (CHAT, "{\"model\": \"m\",\n  oops }", 400, "invalid_json"),
        (CHAT, "", 400, "invalid_json"),
        (CHAT, "[]", 400, "invalid_json"),
        (CHAT, "{}", 400, "invalid_request"),
        (CHAT, r#"{"model":7}"#, 400, "invalid_request"),
        (CHAT, r#"{"model":"nope","messages":[]}"#, 404, "model_not_found"),
        ("/v1/unknown", "{}", 404, "unknown_path"),
        ("/v1/models", "{}", 405, "method_not_allowed"),
    ] {
        let answer = post(gateway.data, path, body).await;
        assert_eq!(answer.status, status, "{path} {body}");
        let error = &answer.json()["error"];
        assert_eq!(error["code"], code, "{path} {body}");
        assert!(
            error["message"].is_string()
                && error["type"].is_string()
                && error.get("param").is_some()
        );
        assert!(
            answer.header("x-request-id").is_some()
                && answer.header("content-type") == Some("application/json")
        );
    }
    let place = post(gateway.data, CHAT, "{\"model\": \"m\",\n  oops }").await.json();
    assert!(
        place["error"]["message"].as_str().expect("text").contains("line 2 column 3"),
        "{place}"
    );
    let anthropic = post(gateway.data, "/v1/messages", "{}").await.json();
    assert_eq!(
        (&anthropic["type"], &anthropic["error"]["type"]),
        (&json!("error"), &json!("invalid_request_error"))
    );
    let native = post(gateway.data, "/api/chat", "{}").await.json();
    assert!(native["error"].is_string());
    let wrong = get(gateway.data, CHAT).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    let hint = post(gateway.data, "/chat/completions", "{}").await.json();
    assert!(hint["error"]["message"].as_str().expect("text").contains("/v1/chat/completions"));
}

#[tokio::test]
async fn a_connection_survives_an_error() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    let mut connection = Connection::open(gateway.data).await;
    for (path, body, status) in
        [("/nope", "{}".into(), 404), (CHAT, "{".into(), 400), (CHAT, chat(""), 200)]
    {
        connection.post(path, &body).await;
        assert_eq!(connection.response().await.status, status);
    }
}

#[tokio::test]
async fn browsers_of_allowed_pages_are_served_and_others_refused() {
    let (gateway, _simulator) =
        pair(Settings::default(), "cors: { origins: ['https://chat.example'] }").await;
    let preflight = |origin: &str| {
        format!(
            "OPTIONS {CHAT} HTTP/1.1\r\nHost: g\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization, content-type, x-stainless-os"
        )
    };
    for origin in ["http://localhost:5173", "https://chat.example", "app://x"] {
        let answer = request(gateway.data, &preflight(origin), b"").await;
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (204, Some(origin))
        );
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("authorization, content-type, x-stainless-os")
        );
        assert!(answer.header("access-control-allow-methods").expect("methods").contains("POST"));
        let body = chat("");
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nHost: g\r\nOrigin: {origin}\r\nContent-Length: {}",
            body.len()
        );
        let answer = request(gateway.data, &head, body.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (200, Some(origin))
        );
        assert!(
            answer
                .header("access-control-expose-headers")
                .expect("headers")
                .contains("x-request-id")
        );
    }
    let foreign = request(gateway.data, &preflight("https://evil.example"), b"").await;
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (403, None));
}
