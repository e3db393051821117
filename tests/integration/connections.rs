use std::time::Duration;

use rustix::process::Signal;
use sluicegate_simulator::Settings;
use sluicegate_test_support::{Canned, Connection, Gateway, eventually, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{BIN, CHAT, MODEL, chat, paced, pair};

/// A gateway before the upstream at `url`, which is no Ollama.
fn before(url: &str) -> Gateway {
    Gateway::start(
        BIN,
        &format!(
            "upstreams: {{ cloud: {{ url: \"{url}\", kind: openai }} }}\nroutes: [{{ model: \"{MODEL}\", targets: [{{ upstream: cloud }}] }}]\n"
        ),
    )
}

#[tokio::test]
async fn a_small_body_that_nobody_reads_does_not_cost_the_connection() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    let mut connection = Connection::open(gateway.data).await;
    for body in [
        "Content-Length: 2\r\n\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        connection.send(format!("GET /v1/models HTTP/1.1\r\nHost: g\r\n{body}")).await;
        let answer = connection.response().await;
        assert_eq!((answer.status, answer.header("connection")), (200, None), "{body}");
    }
    // Of a large one, the answer says that it does, and still arrives.
    let large = 1 << 20;
    connection
        .send(format!("GET /v1/models HTTP/1.1\r\nHost: g\r\nContent-Length: {large}\r\n\r\n"))
        .await;
    connection.try_send(vec![b' '; large]).await;
    let answer = connection.response().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn who_is_still_sending_gets_to_read_that_its_request_cannot_be() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    let field = "x".repeat(200_000);
    let chunks = "5\r\n{\"a\":\r\nnot a size\r\n".to_owned() + &"x".repeat(200_000);
    for request in [
        format!("GET /v1/models HTTP/1.1\r\nHost: g\r\nX-Field: {field}\r\n\r\n"),
        format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
    ] {
        let mut connection = Connection::open(gateway.data).await;
        connection.post(CHAT, chat("")).await;
        assert_eq!(connection.response().await.status, 200);
        connection.try_send(request).await;
        let answer = connection.response().await;
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
        assert!(connection.is_closed().await);
        assert!(connection.try_send("more").await, "closed, and not reset");
    }
}

#[tokio::test]
async fn answers_have_a_date() {
    let (gateway, _simulator) = pair(Settings::default(), "").await;
    let date = post(gateway.data, CHAT, chat("")).await.header("date").map(str::to_owned);
    let date = httpdate::parse_http_date(&date.expect("a date")).expect("as HTTP has it");
    assert!(date.elapsed().is_ok_and(|age| age < Duration::from_secs(60)));
}

#[tokio::test]
async fn a_line_end_after_a_body_is_no_request() {
    let (gateway, _simulator) =
        pair(Settings::default(), "limits: { header_timeout: 200ms }").await;
    let mut connection = Connection::open(gateway.data).await;
    connection.post(CHAT, chat("")).await;
    connection.send("\r\n").await;
    assert_eq!(connection.response().await.status, 200);
    assert!(connection.try_head().await.is_none(), "closed without a word");
}

#[tokio::test]
async fn who_sends_much_too_early_gets_its_answer_and_is_still_watched() {
    let settings = Settings { first_token: Duration::from_millis(300), ..Settings::default() };
    let (gateway, simulator) = pair(settings, "").await;
    let mut connection = Connection::open(gateway.data).await;
    connection.post(CHAT, chat("")).await;
    connection.send(vec![b'x'; 100_000]).await;
    let answer = connection.response().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    let mut leaving = Connection::open(gateway.data).await;
    leaving.post(CHAT, chat("")).await;
    leaving.send(vec![b'x'; 100_000]).await;
    simulator.recorder().until(|recorder| recorder.started() == 2).await;
    drop(leaving);
    simulator.recorder().until(|recorder| recorder.aborted() == 1).await;
}

#[tokio::test]
async fn a_kept_connection_is_told_that_the_gateway_ends() {
    let (mut gateway, _simulator) = pair(paced(8, Duration::from_millis(100)), "").await;
    let mut idle = Connection::open(gateway.data).await;
    idle.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(idle.response().await.header("connection"), None);
    let mut running = Connection::open(gateway.data).await;
    running.post(CHAT, chat(r#""stream":true"#)).await;
    running.head().await;
    gateway.signal(Signal::TERM);
    eventually("it drains", async || gateway.stderr().contains("draining")).await;
    idle.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(idle.response().await.header("connection"), Some("close"));
    assert!(running.body().await.is_ok());
    assert_eq!(gateway.wait().code(), Some(0));
}

/// The whole request is sent, although its answer begins before.
#[tokio::test]
async fn an_upstream_may_begin_to_answer_before_it_has_read_the_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let gateway = before(&format!("http://{}", listener.local_addr().expect("an address")));
    let length = 8 << 20;
    let upstream = tokio::spawn(async move {
        let (mut wire, _) = loop {
            let (mut wire, from) = listener.accept().await.expect("a connection");
            let mut first = [0; 4];
            wire.read_exact(&mut first).await.expect("a request");
            if &first == b"POST" {
                break (wire, from);
            }
        };
        wire.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n\
              data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n",
        )
        .await
        .expect("a beginning");
        let (mut read, mut buffer) = (0, vec![0; 1 << 20]);
        while read < length {
            read += wire.read(&mut buffer).await.expect("the rest");
        }
        let end =
            b"data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
                    data: [DONE]\n\n";
        wire.write_all(end).await.expect("an end");
    });
    let body = chat(&format!(r#""stream":true,"pad":"{}""#, "x".repeat(length)));
    let answer = post(gateway.data, CHAT, body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    upstream.await.expect("all of it was read");
}

/// An error may come before the request was read, which is then not sent any further.
#[tokio::test]
async fn an_upstream_may_refuse_a_request_that_it_has_not_read() {
    let body = r#"{"error":{"message":"too large for us","type":"invalid_request_error"}}"#;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let gateway = before(&format!("http://{}", listener.local_addr().expect("an address")));
    tokio::spawn(async move {
        while let Ok((mut wire, _)) = listener.accept().await {
            let head = format!(
                "HTTP/1.1 413 Payload Too Large\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            // What asks for the models sends less, and leaves.
            let mut some = vec![0; 1 << 16];
            if wire.read_exact(&mut some).await.is_ok() {
                wire.write_all((head + body).as_bytes()).await.expect("a refusal");
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    });
    let answer =
        post(gateway.data, CHAT, chat(&format!(r#""pad":"{}""#, "x".repeat(8 << 20)))).await;
    assert_eq!(answer.status, 413);
    assert!(answer.text().contains("too large for us"), "{}", answer.text());
}

#[tokio::test]
async fn an_answer_without_a_body_has_no_chunks() {
    let cloud = Canned::start(
        "HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n",
    )
    .await;
    let gateway = before(cloud.url());
    let mut connection = Connection::open(gateway.data).await;
    connection.post(CHAT, chat("")).await;
    let head = connection.head().await;
    assert_eq!(head.status, 204);
    assert_eq!((head.header("transfer-encoding"), head.header("content-length")), (None, None));
    connection.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(connection.response().await.status, 200, "nothing stands before the next answer");
}
