use std::process::Command;
use std::time::Duration;

use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::{Connection, Gateway, Response, eventually, get, request};

use super::{BIN, CHAT, MODEL, chat, paced, pair};

const STREAM: &str = r#""stream":true"#;

/// A key made by the program itself, and its entry.
fn made(name: &str) -> (String, String) {
    let output = Command::new(BIN).args(["key", "new", name]).output().expect("runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let key = text.lines().next().expect("a line").rsplit(' ').next().expect("a key").to_owned();
    let hash = text.split('"').nth(1).expect("a hash").to_owned();
    assert!(text.contains(&format!("name: {name}")));
    (key, hash)
}

async fn with_key(gateway: &Gateway, header: &str) -> Response {
    send(gateway, CHAT, header, &chat("")).await
}

async fn send(gateway: &Gateway, path: &str, header: &str, body: &str) -> Response {
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    let head = format!("POST {path} HTTP/1.1\r\nHost: g\r\n{header}Content-Length: {}", body.len());
    request(gateway.data, &head, body.as_bytes()).await
}

/// A gateway with one key, and the header that presents it.
async fn limited(limits: &str) -> (Gateway, Simulator, String) {
    let (key, hash) = made("carol");
    let config = format!("keys: [{{ name: carol, hash: \"{hash}\", {limits} }}]");
    let (gateway, simulator) = pair(Settings::default(), &config).await;
    (gateway, simulator, format!("Authorization: Bearer {key}"))
}

#[tokio::test]
async fn every_data_endpoint_needs_a_key_once_there_are_any() {
    let (key, hash) = made("alice");
    let (gateway, _simulator) =
        pair(Settings::default(), &format!("keys: [{{ name: alice, hash: \"{hash}\" }}]")).await;
    for header in [
        format!("Authorization: Bearer {key}"),
        format!("authorization: bearer {key}"),
        format!("x-api-key: {key}"),
    ] {
        assert_eq!(with_key(&gateway, &header).await.status, 200, "{header}");
    }
    for header in [
        String::new(),
        "Authorization: Bearer wrong".into(),
        format!("Authorization: Basic {key}"),
        format!("Authorization: Bearer {key}x"),
    ] {
        let answer = with_key(&gateway, &header).await;
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some("Bearer")),
            "{header}"
        );
        assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
    }
    for path in ["/v1/models", "/v1/models/x", "/api/tags", "/api/ps", "/api/version", "/"] {
        assert_eq!(get(gateway.data, path).await.status, 401, "{path}");
    }
    let seen = gateway.stdout() + &gateway.stderr() + &gateway.metrics().await;
    assert!(!seen.contains(&key) && seen.contains("keys      1"));
}

#[tokio::test]
async fn without_keys_it_is_open_and_says_so() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    assert_eq!(with_key(&gateway, "Authorization: Bearer anything").await.status, 200);
    assert!(gateway.stderr().contains("keys      none"));
}

#[tokio::test]
async fn a_key_has_its_models_its_rate_and_its_places() {
    let (key, hash) = made("bob");
    let limits = "models: ['llama3.2*'], requests_per_minute: 2, max_concurrent: 1";
    let config = format!("keys: [{{ name: bob, hash: \"{hash}\", {limits} }}]");
    let settings =
        Settings { first_token: std::time::Duration::from_millis(400), ..Settings::default() };
    let (gateway, simulator) = pair(settings, &config).await;
    let header = format!("Authorization: Bearer {key}");

    let body = r#"{"model":"all-minilm:latest","input":"x"}"#;
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nHost: g\r\n{header}\r\nContent-Length: {}",
        body.len()
    );
    let forbidden = request(gateway.data, &head, body.as_bytes()).await;
    assert_eq!(forbidden.status, 403);
    let list =
        request(gateway.data, &format!("GET /v1/models HTTP/1.1\r\nHost: g\r\n{header}"), b"")
            .await
            .json();
    assert_eq!(list["data"].as_array().expect("a list").len(), 1);
    assert_eq!(list["data"][0]["id"], MODEL);

    let mut first = Connection::open(gateway.data).await;
    let chat = chat("");
    first
        .send(format!(
            "POST {CHAT} HTTP/1.1\r\nHost: g\r\n{header}\r\nContent-Length: {}\r\n\r\n{chat}",
            chat.len()
        ))
        .await;
    simulator.recorder().until(|recorder| recorder.started() == 1).await;
    let busy = with_key(&gateway, &header).await;
    assert_eq!(busy.status, 429);
    assert!(busy.text().contains("at one time") && busy.header("retry-after").is_some());
    assert_eq!(first.response().await.status, 200);
    let over = with_key(&gateway, &header).await;
    assert_eq!(over.status, 429, "the refused model and the first request were this minute's two");
    let wait: u64 = over.header("retry-after").expect("a wait").parse().expect("seconds");
    assert!((1..=30).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_used_up_budget_of_tokens_is_a_429_in_every_protocol() {
    let (gateway, simulator, header) = limited("tokens_per_minute: 2").await;
    let streamed = send(&gateway, CHAT, &header, &chat(r#""stream":true"#)).await;
    assert_eq!(streamed.status, 200, "what it takes is known only at its end");
    assert_eq!(streamed.header("x-ratelimit-limit-tokens"), Some("2"));
    assert_eq!(streamed.header("x-ratelimit-remaining-tokens"), Some("2"));
    assert_eq!(streamed.header("x-ratelimit-reset-tokens"), Some("0s"));
    assert_eq!(streamed.header("x-ratelimit-limit-requests"), None);
    eventually("it is paid", async || with_key(&gateway, &header).await.status == 429).await;
    let started = simulator.recorder().started();
    let message = "over this API key's limit of 2 tokens a minute";
    for (path, at) in [
        (CHAT, "/error/message"),
        ("/v1/embeddings", "/error/message"),
        ("/v1/messages", "/error/message"),
        ("/api/chat", "/error"),
    ] {
        let refused = send(&gateway, path, &header, &chat("")).await;
        assert_eq!(refused.status, 429, "{path}");
        let told = refused.json();
        assert_eq!(told.pointer(at).and_then(|text| text.as_str()), Some(message), "{told}");
        let wait: u64 = refused.header("retry-after").expect("a wait").parse().expect("seconds");
        // Two tokens come back in a minute, and more than two were owed.
        assert!(wait > 60, "{wait}");
        assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some("0"));
        assert!(refused.header("x-ratelimit-reset-tokens").is_some_and(|text| text.contains('m')));
    }
    assert_eq!(simulator.recorder().started(), started, "nothing went on");
}

#[tokio::test]
async fn a_stream_that_its_client_left_is_paid_for_as_far_as_it_came() {
    for (path, body) in [
        (CHAT, chat(STREAM)),
        ("/api/chat", chat(STREAM)),
        ("/v1/messages", chat(STREAM).replace("\"stream\"", "\"max_tokens\":500,\"stream\"")),
    ] {
        let (key, hash) = made("carol");
        let config = format!("keys: [{{ name: carol, hash: \"{hash}\", tokens_per_minute: 100 }}]");
        let (gateway, _simulator) = pair(paced(500, Duration::from_millis(2)), &config).await;
        let mut connection = Connection::open(gateway.data).await;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: g\r\nx-api-key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.send(head).await;
        assert_eq!(connection.head().await.status, 200, "{path}");
        let mut read = 0;
        while read < 6_000 {
            read += connection.part().await.expect("a part").expect("more").len();
        }
        drop(connection);
        let list = format!("GET /v1/models HTTP/1.1\r\nHost: g\r\nx-api-key: {key}");
        let left = async || -> u64 {
            let list = request(gateway.data, &list, b"").await;
            let left = list.header("x-ratelimit-remaining-tokens").expect("a limit");
            left.parse().expect("a number")
        };
        eventually("it is paid", async || left().await < 85).await;
    }
}

#[tokio::test]
async fn a_stream_that_others_follow_is_paid_for() {
    let (key, hash) = made("carol");
    let config = format!("keys: [{{ name: carol, hash: \"{hash}\", tokens_per_minute: 100 }}]");
    let (gateway, simulator) = pair(paced(30, Duration::from_millis(20)), &config).await;
    let body = chat(r#""seed":1,"stream":true"#);
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: g\r\nx-api-key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut both = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::open(gateway.data).await;
        connection.send(&head).await;
        assert_eq!(connection.head().await.status, 200);
        both.push(connection);
    }
    for connection in &mut both {
        connection.body().await.expect("its end");
    }
    assert_eq!(simulator.recorder().started(), 1, "one follows the other");
    let left = async || -> u64 {
        let list = format!("GET /v1/models HTTP/1.1\r\nHost: g\r\nx-api-key: {key}");
        let list = request(gateway.data, &list, b"").await;
        list.header("x-ratelimit-remaining-tokens").expect("a limit").parse().expect("a number")
    };
    eventually("it is paid", async || left().await < 85).await;
    assert!(left().await > 40, "once");
}

#[tokio::test]
async fn an_answer_from_the_cache_takes_no_tokens() {
    // One more than an answer of the simulator takes.
    let (gateway, simulator, header) = limited("tokens_per_minute: 20").await;
    let body = chat(r#""seed":1"#);
    let first = send(&gateway, CHAT, &header, &body).await;
    assert_eq!(first.json()["usage"]["total_tokens"], 19);
    for _ in 0..3 {
        let again = send(&gateway, CHAT, &header, &body).await;
        assert_eq!((again.status, again.header("x-cache")), (200, Some("hit-l1")));
    }
    assert_eq!(simulator.recorder().started(), 1);
    assert_eq!(with_key(&gateway, &header).await.status, 200, "a token was left");
    eventually("none is now", async || send(&gateway, CHAT, &header, &body).await.status == 429)
        .await;
}

#[tokio::test]
async fn what_chat_windows_poll_takes_no_request_of_the_minute() {
    let (gateway, _simulator, header) =
        limited("requests_per_minute: 1, tokens_per_minute: 1").await;
    let model = format!("/v1/models/{MODEL}");
    for path in ["/v1/models", &model, "/api/tags", "/api/version", "/api/ps", "/", "/v1/models"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: g\r\n{header}");
        let answer = request(gateway.data, &head, b"").await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("1"), "{path}");
    }
    assert_eq!(with_key(&gateway, &header).await.status, 200);
    let over = with_key(&gateway, &header).await;
    assert_eq!((over.status, over.header("x-ratelimit-remaining-requests")), (429, Some("0")));
    let head = format!("GET /v1/models HTTP/1.1\r\nHost: g\r\n{header}");
    assert_eq!(request(gateway.data, &head, b"").await.status, 200);
}

#[tokio::test]
async fn what_each_key_took_is_in_the_metrics() {
    let ((alice, first), (bob, second)) = (made("alice"), made("bob"));
    let keys = format!(
        "keys: [{{ name: alice, hash: \"{first}\", models: [{MODEL}] }}, {{ name: bob, hash: \"{second}\" }}]"
    );
    let (gateway, _simulator) = pair(Settings::default(), &keys).await;
    let header = |key: &str| format!("x-api-key: {key}");
    for _ in 0..2 {
        assert_eq!(send(&gateway, CHAT, &header(&alice), &chat(r#""seed":1"#)).await.status, 200);
    }
    let other = r#"{"model":"other","messages":[]}"#;
    assert_eq!(send(&gateway, CHAT, &header(&alice), other).await.status, 403);
    assert_eq!(send(&gateway, CHAT, &header(&bob), &chat(r#""stream":true"#)).await.status, 200);
    assert_eq!(with_key(&gateway, "x-api-key: nobody").await.status, 401);
    for (series, expected) in [
        ("requests_total{caller=\"alice\",status=\"200\"}", 2.0),
        ("requests_total{caller=\"alice\",status=\"403\"}", 1.0),
        ("requests_total{caller=\"bob\",status=\"200\"}", 1.0),
        // The second answer came from the cache.
        ("tokens_total{caller=\"alice\",type=\"input\"}", 11.0),
        ("tokens_total{caller=\"alice\",type=\"output\"}", 8.0),
        ("tokens_total{caller=\"bob\",type=\"output\"}", 8.0),
    ] {
        eventually(series, async || {
            gateway.metric(&format!("sluicegate_caller_{series}")).await == expected
        })
        .await;
    }
    assert!(!gateway.metrics().await.contains("sluicegate_caller_requests_total{caller=\"anon"));
}

#[tokio::test]
async fn a_priority_that_is_none_is_a_400_and_spends_nothing() {
    let (gateway, simulator, header) = limited("requests_per_minute: 3").await;
    for (given, status) in [("bogus", 400), ("", 400), ("batch", 200), ("interactive", 200)] {
        let header = format!("{header}\r\nx-sluicegate-priority: {given}");
        let answer = with_key(&gateway, &header).await;
        assert_eq!(answer.status, status, "{given}");
        if status == 400 {
            assert_eq!(answer.json()["error"]["param"], "x-sluicegate-priority");
            assert!(answer.text().contains("must be batch or interactive"));
        }
    }
    assert_eq!(simulator.recorder().started(), 2);
    assert_eq!(with_key(&gateway, &header).await.status, 200, "the third of the minute");
}

#[tokio::test]
async fn a_key_with_a_list_of_models_cannot_name_others_beside() {
    let (gateway, _simulator, key) = limited(&format!("models: [\"{MODEL}\"]")).await;
    for (more, status) in [
        ("", 200),
        (r#""models":null"#, 200),
        (r#""models":["secret/expensive"]"#, 403),
        (r#""Models":["x"],"models":null"#, 403),
    ] {
        assert_eq!(send(&gateway, CHAT, &key, &chat(more)).await.status, status, "{more}");
    }
    let (free, _simulator, key) = limited("requests_per_minute: 9").await;
    assert_eq!(send(&free, CHAT, &key, &chat(r#""models":["x"]"#)).await.status, 200);
}
