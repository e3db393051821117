use std::io::Write as _;
use std::time::Duration;

use sluicegate_simulator::Settings;
use sluicegate_test_support::{Connection, Gateway, eventually, get, post, request};

use super::{BIN, CHAT, MODEL, chat, pair, simulator, upstream};

#[tokio::test]
async fn a_body_over_the_limit_is_a_413_the_client_can_read() {
    let (gateway, simulator) = pair(Settings::default(), "limits: { body: 1MiB }").await;
    let big = chat(&format!(r#""pad":"{}""#, "x".repeat(8 << 20)));
    // Sized: the whole body is sent although the answer is known at its start.
    let answer = post(gateway.data, CHAT, &big).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"]["code"], "body_too_large");
    // Chunked: the limit is met in the middle.
    let mut connection = Connection::open(gateway.data).await;
    connection
        .send(format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"))
        .await;
    for chunk in big.as_bytes().chunks(65_536) {
        connection.send(format!("{:x}\r\n", chunk.len())).await;
        connection.send(chunk).await;
        connection.send("\r\n").await;
    }
    connection.send("0\r\n\r\n").await;
    assert_eq!(connection.response().await.status, 413);
    assert_eq!(simulator.recorder().started(), 0);
}

#[tokio::test]
async fn expect_continue_is_answered_before_the_body_or_refused_without_it() {
    let (gateway, _simulator) = pair(Settings::default(), "limits: { body: 1MiB }").await;
    let body = chat("");
    let mut connection = Connection::open(gateway.data).await;
    connection
        .send(format!(
            "POST {CHAT} HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ))
        .await;
    let mut raw = [0; 25];
    let socket = std::net::TcpStream::connect(gateway.data).expect("connects");
    (&socket)
        .write_all(format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())
        .expect("sent");
    std::io::Read::read_exact(&mut &socket, &mut raw).expect("an interim answer");
    assert_eq!(&raw, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.send(&body).await;
    assert_eq!(connection.response().await.status, 200);
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 99999999"
    );
    assert_eq!(request(gateway.data, &head, b"").await.status, 413);
}

#[tokio::test]
async fn bodies_in_flight_are_bounded_for_the_whole_process() {
    let limits = "limits: { body: 1MiB, bodies_in_flight: 1MiB }";
    let (gateway, _simulator) = pair(Settings::default(), limits).await;
    let most = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Length: 700001\r\n\r\n{}",
        " ".repeat(700_000)
    );
    // What is merely announced takes nothing.
    let mut promise = Connection::open(gateway.data).await;
    promise
        .send(format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Length: 1000000\r\n\r\n{{"))
        .await;
    let mut first = Connection::open(gateway.data).await;
    first.send(&most).await;
    eventually("the first holds its share", async || {
        gateway.metric("sluicegate_request_body_bytes").await == 700_001.0
    })
    .await;
    let mut second = Connection::open(gateway.data).await;
    second.send(&most).await;
    let refused = second.head().await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    drop((promise, first, second));
    eventually("the share is given back", async || {
        gateway.metric("sluicegate_request_body_bytes").await == 0.0
    })
    .await;
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).expect("in memory");
    encoder.finish().expect("in memory")
}

#[tokio::test]
async fn coded_bodies_are_decoded_and_bombs_and_strange_codings_refused() {
    let (gateway, simulator) = pair(Settings::default(), "limits: { body: 1MiB }").await;
    let coded = async |coding: &str, body: &[u8]| {
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Encoding: {coding}\r\nContent-Length: {}",
            body.len()
        );
        request(gateway.data, &head, body).await.status
    };
    let plain = chat("");
    for (coding, body) in [
        ("gzip", gzip(plain.as_bytes())),
        ("zstd", zstd::encode_all(plain.as_bytes(), 1).expect("in memory")),
        ("identity", plain.clone().into_bytes()),
    ] {
        assert_eq!(coded(coding, &body).await, 200, "{coding}");
        let got = simulator.recorder().last().expect("a request");
        assert_eq!(got.body, plain);
        assert!(!got.headers.contains_key("content-encoding"));
    }
    assert_eq!(coded("gzip", &gzip(&vec![b' '; 64 << 20])).await, 413);
    assert_eq!(coded("gzip", b"no gzip at all").await, 400);
    assert_eq!(coded("br", b"x").await, 415);
    assert_eq!(coded("gzip, gzip", b"x").await, 415);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_408() {
    let (gateway, _simulator) = pair(Settings::default(), "limits: { body_timeout: 200ms }").await;
    let mut connection = Connection::open(gateway.data).await;
    connection
        .send(format!("POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Length: 100\r\n\r\n{{"))
        .await;
    let answer = connection.response().await;
    assert_eq!(
        (answer.status, answer.json()["error"]["code"].as_str()),
        (408, Some("request_timeout"))
    );
}

#[tokio::test]
async fn a_header_that_does_not_come_costs_one_connection_for_a_while() {
    let (gateway, _simulator) =
        pair(Settings::default(), "limits: { header_timeout: 300ms }").await;
    let mut slow = Connection::open(gateway.data).await;
    slow.send("POST / HTTP/1.1\r\n").await;
    // Trickling does not help.
    for _ in 0..10 {
        if !slow.try_send("X-A: b\r\n").await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    match slow.try_head().await {
        Some(head) => assert_eq!(head.status, 408),
        None => panic!("closed without a word"),
    }
    eventually("it is closed", async || {
        gateway.metric("sluicegate_listener_connections").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let (gateway, _simulator) = pair(Settings::default(), "limits: { connections: 2 }").await;
    let mut first = Connection::open(gateway.data).await;
    let _second = Connection::open(gateway.data).await;
    eventually("two are open", async || {
        gateway.metric("sluicegate_listener_connections").await == 2.0
    })
    .await;
    assert!(Connection::open(gateway.data).await.is_closed().await);
    first.post(CHAT, chat("")).await;
    assert_eq!(first.response().await.status, 200, "those inside are served");
    assert_eq!(get(gateway.admin, "/healthz").await.status, 200, "the admin listener is apart");
}

#[tokio::test]
async fn the_queue_is_first_come_first_served_and_bounded_in_length_and_time() {
    let settings = Settings { first_token: Duration::from_millis(300), ..Settings::default() };
    let simulator = simulator(settings).await;
    let config = format!(
        "admission: {{ queue: {{ max_waiting: 2, max_wait: 450ms }} }}\nupstreams:\n{}",
        upstream("host", &simulator, "max_concurrent: 1")
    );
    let gateway = Gateway::start(BIN, &config);
    let mut waiting = Vec::new();
    for number in 0..3 {
        let mut connection = Connection::open(gateway.data).await;
        connection.post(CHAT, chat(&format!(r#""user":"{number}""#))).await;
        waiting.push(connection);
        eventually("it has its place", async || {
            let sum = gateway.metric("sluicegate_admission_waiting{upstream=\"host\"}").await
                + gateway.metric("sluicegate_admission_in_flight{upstream=\"host\"}").await;
            sum >= f64::from(number + 1)
        })
        .await;
    }
    let full = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(full.status, 503);
    assert!(full.header("retry-after").is_some() && full.text().contains("queue is full"));
    assert_eq!(waiting[0].response().await.status, 200);
    assert_eq!(waiting[1].response().await.status, 200);
    let late = waiting[2].response().await;
    assert_eq!(late.status, 503, "its wait was too long");
    let order: Vec<String> = simulator
        .recorder()
        .requests()
        .iter()
        .map(|one| String::from_utf8_lossy(&one.body).into_owned())
        .collect();
    assert!(order[0].contains(r#""user":"0""#) && order[1].contains(r#""user":"1""#), "{order:?}");
    assert_eq!(order.len(), 2);
}

#[tokio::test]
async fn a_full_upstream_overflows_to_the_next_target() {
    let settings = Settings { first_token: Duration::from_secs(30), ..Settings::default() };
    let (slow, quick) = (simulator(settings).await, simulator(Settings::default()).await);
    let config = format!(
        "upstreams:\n{}{}routes:\n  - {{ model: \"{MODEL}\", targets: [{{ upstream: host, weight: 1 }}, {{ upstream: other, weight: 0 }}] }}\n",
        upstream("host", &slow, "max_concurrent: 1"),
        upstream("other", &quick, "")
    );
    let gateway = Gateway::start(BIN, &config);
    let mut first = Connection::open(gateway.data).await;
    first.post(CHAT, chat("")).await;
    slow.recorder().until(|recorder| recorder.started() == 1).await;
    let answer = post(gateway.data, CHAT, chat("")).await;
    assert_eq!((answer.status, answer.header("x-sluicegate-upstream")), (200, Some("other")));
}
