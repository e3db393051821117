use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::{Connection, Gateway, get, post, request};

use super::{CHAT, MODEL, chat, pair};

/// Sends raw bytes; the status of the answer, or 0 for a closed connection.
async fn raw(gateway: &Gateway, bytes: &str) -> u16 {
    let mut connection = Connection::open(gateway.data).await;
    connection.send(bytes).await;
    connection.try_head().await.map_or(0, |head| head.status)
}

/// Every request that reached the upstream is one that was meant.
fn nothing_was_smuggled(simulator: &Simulator) {
    for request in simulator.recorder().requests() {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        assert!(!body.contains("smuggled"), "{body}");
        for (name, value) in &request.headers {
            assert!(!name.as_str().contains("injected"), "{name}: {value:?}");
        }
    }
}

#[tokio::test]
async fn requests_that_frame_their_body_twice_are_refused_or_made_plain() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    let body = chat("");
    let length = body.len();
    let post = format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\n");
    let smuggled = "POST /v1/embeddings HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\nsmuggled!";

    // Transfer-Encoding wins and the connection ends (RFC 9112, 6.1).
    let mut both = Connection::open(gateway.data).await;
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    both.send(format!(
        "{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}{smuggled}"
    ))
    .await;
    let status = both.response().await.status;
    assert!(matches!(status, 200 | 400), "{status}");
    assert!(both.try_head().await.is_none(), "the rest is not read as a request");

    for (name, head) in [
        (
            "two lengths",
            format!("{post}Content-Length: {length}\r\nContent-Length: 3\r\n\r\n{body}"),
        ),
        ("a list of lengths", format!("{post}Content-Length: {length}, 3\r\n\r\n{body}")),
        ("a signed length", format!("{post}Content-Length: +{length}\r\n\r\n{body}")),
        ("chunked is not last", format!("{post}Transfer-Encoding: chunked, gzip\r\n\r\n{chunked}")),
        ("an unknown coding", format!("{post}Transfer-Encoding: xchunked\r\n\r\n{chunked}")),
        (
            "chunked in HTTP/1.0",
            format!("POST {CHAT} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
        ),
        (
            "a folded header",
            format!("{post}X-A: b\r\n  c\r\nContent-Length: {length}\r\n\r\n{body}"),
        ),
        ("a space before the colon", format!("{post}Content-Length : {length}\r\n\r\n{body}")),
        ("a bare line feed", format!("{post}X-A: b\nContent-Length: {length}\r\n\r\n{body}")),
        ("a NUL", format!("{post}X-A: b\0c\r\nContent-Length: {length}\r\n\r\n{body}")),
        (
            "a bad chunk size",
            format!("{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n"),
        ),
        ("no HTTP", "\u{16}\u{3}\u{1} not http at all\r\n\r\n".to_owned()),
    ] {
        let status = raw(&gateway, &head).await;
        assert_eq!(status, 400, "{name}");
    }
    nothing_was_smuggled(&simulator);
    assert!(simulator.recorder().started() <= 1);
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}

#[tokio::test]
async fn a_request_names_one_host() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    let status = async |version: &str, hosts: &str| {
        let body = chat("");
        let length = body.len();
        let head = format!("POST {CHAT} HTTP/{version}\r\n{hosts}Content-Length: {length}\r\n");
        raw(&gateway, &format!("{head}\r\n{body}")).await
    };
    for (version, hosts) in [
        ("1.1", ""),
        ("1.1", "Host: a\r\nHost: b\r\n"),
        ("1.1", "Host: a\r\nHost: a\r\n"),
        ("1.0", "Host: a\r\nHost: b\r\n"),
        ("1.1", "Host: a b\r\n"),
        ("1.1", "Host: a/b\r\n"),
        ("1.1", "Host: user@a\r\n"),
        ("1.1", "Host: a:b\r\n"),
        ("1.1", "Host: [::1\r\n"),
        ("1.0", "Host: a b\r\n"),
    ] {
        assert_eq!(status(version, hosts).await, 400, "HTTP/{version} {hosts:?}");
    }
    assert_eq!(simulator.recorder().started(), 0);
    for (version, hosts) in [
        ("1.0", ""),
        ("1.1", "Host:\r\n"),
        ("1.1", "Host: my_box.local:8080\r\n"),
        ("1.1", "Host: [::1]:80\r\n"),
        ("1.1", "Host: 127.0.0.1:\r\n"),
    ] {
        assert_eq!(status(version, hosts).await, 200, "HTTP/{version} {hosts:?}");
    }
}

#[tokio::test]
async fn nothing_after_a_wrongly_framed_request_is_served() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    for wrong in [
        format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nX-A: b\nContent-Length: 0\r\n\r\n"),
    ] {
        let mut connection = Connection::open(gateway.data).await;
        connection.send(&wrong).await;
        assert_eq!(connection.response().await.status, 400, "{wrong}");
        connection.try_send("GET /v1/models HTTP/1.1\r\nHost: g\r\n\r\n").await;
        assert!(connection.try_head().await.is_none(), "{wrong}");
    }
    assert_eq!(simulator.recorder().started(), 0);
}

#[tokio::test]
async fn nothing_is_injected_through_path_model_or_header_values() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    for path in [
        "/v1/chat/completions%0d%0aInjected:%201",
        "/v1/chat/completions?x=%0d%0aInjected:%201",
        "/v1/models/x%0d%0aInjected:%201",
    ] {
        let answer = post(gateway.data, path, chat("")).await;
        assert!(answer.header("injected").is_none(), "{path}");
    }
    let model = r#"{"model":"x\r\nInjected: 1","messages":[]}"#;
    let answer = post(gateway.data, CHAT, model).await;
    assert_eq!(answer.status, 404);
    assert!(answer.header("injected").is_none());
    let body = chat("");
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: g\r\nx-request-id: a\tb\r\nContent-Length: {}",
        body.len()
    );
    let answer = request(gateway.data, &head, body.as_bytes()).await;
    assert!(
        answer.header("x-request-id").expect("an id").starts_with("req_"),
        "a strange id is replaced"
    );
    nothing_was_smuggled(&simulator);
}

#[tokio::test]
async fn a_model_named_twice_cannot_pass_the_allow_list() {
    let key = "sk-test";
    let hash = blake3::hash(key.as_bytes()).to_hex();
    let config = format!("keys: [{{ name: a, hash: \"blake3:{hash}\", models: [\"{MODEL}\"] }}]");
    let (gateway, simulator) = pair(Settings::default(), &config).await;
    for (body, expected) in [
        (chat(""), 200),
        (r#"{"model":"all-minilm:latest","messages":[]}"#.into(), 403),
        (format!(r#"{{"model":"{MODEL}","model":"all-minilm:latest","messages":[]}}"#), 400),
        (format!(r#"{{"model":"all-minilm:latest","model":"{MODEL}","messages":[]}}"#), 400),
        (format!(r#"{{"model":"{MODEL}","MODEL":"all-minilm:latest","messages":[]}}"#), 400),
        (format!(r#"{{"Model":"all-minilm:latest","model":"{MODEL}","messages":[]}}"#), 400),
    ] {
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {key}\r\nContent-Length: {}",
            body.len()
        );
        assert_eq!(request(gateway.data, &head, body.as_bytes()).await.status, expected, "{body}");
    }
    assert_eq!(simulator.recorder().started(), 1);
}

#[tokio::test]
async fn dangerous_endpoints_are_refused_however_spelt() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    for path in [
        "/api/delete",
        "/api/pull",
        "//api/push",
        "/api/%63reate",
        "/API/COPY",
        "/api/chat/../delete",
        "/api/blobs/x",
        "/debug/pprof/",
    ] {
        assert_eq!(get(gateway.data, path).await.status, 403, "{path}");
        let answer = post(gateway.data, path, r#"{"model":"x"}"#).await;
        assert_eq!(answer.status, 403, "{path}");
    }
    assert_eq!(get(gateway.data, "http://gateway/api/delete").await.status, 403, "absolute form");
    assert_eq!(simulator.recorder().started(), 0);
}
