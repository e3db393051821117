use std::process::Command;

use sluicegate_simulator::Settings;
use sluicegate_test_support::{Connection, Gateway, Response, get, request};

use super::{BIN, CHAT, MODEL, chat, pair};

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
    let body = chat("");
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\n{header}Content-Length: {}", body.len());
    request(gateway.data, &head, body.as_bytes()).await
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
    let limits = "models: ['llama3.2*'], requests_per_minute: 3, max_concurrent: 1";
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
    assert_eq!(
        over.status, 429,
        "the refused model, the list and the first request were this minute's three"
    );
    let wait: u64 = over.header("retry-after").expect("a wait").parse().expect("seconds");
    assert!((1..=30).contains(&wait), "{wait}");
}
