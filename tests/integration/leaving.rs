use std::time::{Duration, Instant};

use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::{Connection, Gateway, eventually, post};

use super::{BIN, CHAT, chat, paced, pair, simulator, upstream};

/// How soon an upstream must learn that the client left.
const SOON: Duration = Duration::from_secs(1);

/// The upstream notices, in time, that its request was dropped.
async fn aborted(simulator: &Simulator, count: usize) {
    let since = Instant::now();
    simulator.recorder().until(|recorder| recorder.aborted() >= count).await;
    assert!(since.elapsed() < SOON, "took {:?}", since.elapsed());
}

async fn slots_are_free(gateway: &Gateway) {
    for series in ["sluicegate_admission_in_flight", "sluicegate_admission_waiting"] {
        let series = format!("{series}{{upstream=\"host\"}}");
        eventually(&series, async || gateway.metric(&series).await == 0.0).await;
    }
}

#[tokio::test]
async fn while_waiting_for_the_first_byte() {
    for body in [chat(""), chat(r#""stream":true"#)] {
        let settings = Settings { first_token: Duration::from_secs(60), ..Settings::default() };
        let (gateway, simulator) = pair(settings, "").await;
        let mut connection = Connection::open(gateway.data).await;
        connection.post(CHAT, &body).await;
        simulator.recorder().until(|recorder| recorder.started() == 1).await;
        drop(connection);
        aborted(&simulator, 1).await;
        slots_are_free(&gateway).await;
        assert_eq!(gateway.metric("sluicegate_cancellations_total{phase=\"waiting\"}").await, 1.0);
    }
}

#[tokio::test]
async fn after_sending_more_than_one_request() {
    let settings = Settings { first_token: Duration::from_secs(60), ..Settings::default() };
    let (gateway, simulator) = pair(settings, "").await;
    let mut connection = Connection::open(gateway.data).await;
    // Also on a connection that has served a request before.
    connection.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(connection.response().await.status, 200);
    connection.post(CHAT, chat("")).await;
    simulator.recorder().until(|recorder| recorder.started() == 1).await;
    connection.send("\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(connection);
    aborted(&simulator, 1).await;
}

#[tokio::test]
async fn while_streaming() {
    let (gateway, simulator) = pair(paced(1_000, Duration::from_millis(50)), "").await;
    let mut connection = Connection::open(gateway.data).await;
    connection.post(CHAT, chat(r#""stream":true"#)).await;
    connection.head().await;
    connection.part().await.expect("whole").expect("an event");
    drop(connection);
    aborted(&simulator, 1).await;
    slots_are_free(&gateway).await;
    assert_eq!(gateway.metric("sluicegate_cancellations_total{phase=\"answering\"}").await, 1.0);
    eventually("the log says so", async || gateway.stdout().contains("client_gone")).await;
}

#[tokio::test]
async fn while_a_stream_is_stalled() {
    use sluicegate_simulator::Fault;
    let (gateway, simulator) = pair(Settings::default(), "").await;
    simulator.faults().push([Fault::StallAfter(2)]);
    let mut connection = Connection::open(gateway.data).await;
    connection.post(CHAT, chat(r#""stream":true"#)).await;
    connection.head().await;
    drop(connection);
    aborted(&simulator, 1).await;
}

#[tokio::test]
async fn with_a_reset() {
    let (gateway, simulator) = pair(paced(1_000, Duration::from_millis(50)), "").await;
    let socket = std::net::TcpStream::connect(gateway.data).expect("connects");
    let body = chat(r#""stream":true"#);
    use std::io::Write as _;
    (&socket)
        .write_all(
            format!(
                "POST {CHAT} HTTP/1.1\r\nHost: g\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
        .expect("sent");
    simulator.recorder().until(|recorder| recorder.started() == 1).await;
    tokio::time::sleep(Duration::from_millis(120)).await;
    // Unread bytes at close make the kernel send RST.
    drop(socket);
    aborted(&simulator, 1).await;
    slots_are_free(&gateway).await;
}

#[tokio::test]
async fn while_queued() {
    let settings = Settings { first_token: Duration::from_secs(60), ..Settings::default() };
    let simulator = simulator(settings).await;
    let gateway = Gateway::start(
        BIN,
        &format!("upstreams:\n{}", upstream("host", &simulator, "max_concurrent: 1")),
    );
    let mut first = Connection::open(gateway.data).await;
    first.post(CHAT, chat("")).await;
    simulator.recorder().until(|recorder| recorder.started() == 1).await;
    let mut second = Connection::open(gateway.data).await;
    second.post(CHAT, chat("")).await;
    let waiting = "sluicegate_admission_waiting{upstream=\"host\"}";
    eventually("the second waits", async || gateway.metric(waiting).await == 1.0).await;
    drop(second);
    eventually("its place is free", async || gateway.metric(waiting).await == 0.0).await;
    assert_eq!(simulator.recorder().started(), 1, "it was never sent");
    drop(first);
    aborted(&simulator, 1).await;
    slots_are_free(&gateway).await;
    assert_eq!(gateway.metric("sluicegate_cancellations_total{phase=\"queued\"}").await, 1.0);
}

#[tokio::test]
async fn while_comments_keep_it_company() {
    let settings = Settings { first_token: Duration::from_secs(60), ..Settings::default() };
    let simulator = simulator(settings).await;
    let config = format!(
        "upstreams:\n{}routes:\n  - {{ model: \"*\", targets: [{{ upstream: host }}], wait_comments: 50ms }}\n",
        upstream("host", &simulator, "max_concurrent: 1")
    );
    let gateway = Gateway::start(BIN, &config);
    let mut served = Connection::open(gateway.data).await;
    served.post(CHAT, chat(r#""stream":true"#)).await;
    served.head().await;
    let mut queued = Connection::open(gateway.data).await;
    queued.post(CHAT, chat(r#""stream":true"#)).await;
    queued.head().await;
    queued.part().await.expect("whole").expect("a comment");
    drop(queued);
    let left = async |phase: &str| {
        gateway.metric(&format!("sluicegate_cancellations_total{{phase=\"{phase}\"}}")).await
    };
    eventually("it left the line", async || left("queued").await == 1.0).await;
    drop(served);
    eventually("it left while waiting", async || left("waiting").await == 1.0).await;
    aborted(&simulator, 1).await;
    slots_are_free(&gateway).await;
}

#[tokio::test]
async fn while_connecting() {
    // A listener whose backlog is full answers no further handshake.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let mut plugs = Vec::new();
    for _ in 0..400 {
        let plug = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50));
        match plug {
            Ok(plug) => plugs.push(plug),
            Err(_) => break,
        }
    }
    let config = format!(
        "upstreams:\n  host: {{ url: \"http://{address}\", kind: ollama, timeouts: {{ connect: 60s }} }}\n"
    );
    let gateway = Gateway::start(BIN, &config);
    let mut connection = Connection::open(gateway.data).await;
    connection.post(CHAT, chat("")).await;
    let held = "sluicegate_admission_in_flight{upstream=\"host\"}";
    eventually("it has a slot", async || gateway.metric(held).await == 1.0).await;
    drop(connection);
    let since = Instant::now();
    slots_are_free(&gateway).await;
    assert!(since.elapsed() < SOON);
}

#[tokio::test]
async fn after_done_is_a_success() {
    let (gateway, simulator) = pair(Settings::default(), "").await;
    let mut connection = Connection::open(gateway.data).await;
    connection.post(CHAT, chat(r#""stream":true"#)).await;
    connection.head().await;
    let mut seen = Vec::new();
    while !seen.ends_with(b"data: [DONE]\n\n") {
        seen.extend(connection.part().await.expect("whole").expect("a part"));
    }
    drop(connection); // as the Python SDK does
    simulator.recorder().until(|recorder| recorder.finished() == 1).await;
    eventually("it is logged as answered", async || gateway.stdout().contains(" answered ")).await;
    assert!(!gateway.metrics().await.contains("sluicegate_cancellations_total{"));
    assert_eq!(simulator.recorder().aborted(), 0);
}

#[tokio::test]
async fn many_who_leave_leak_nothing() {
    let settings = Settings { num_parallel: 64, ..paced(1_000, Duration::from_millis(20)) };
    let (gateway, simulator) = pair(settings, "").await;
    for _ in 0..10 {
        let mut connections = Vec::new();
        for _ in 0..20 {
            let mut connection = Connection::open(gateway.data).await;
            connection.post(CHAT, chat(r#""stream":true"#)).await;
            connections.push(connection);
        }
        connections[19].head().await;
    }
    simulator.recorder().until(|recorder| recorder.started() == recorder.aborted()).await;
    slots_are_free(&gateway).await;
    eventually("connections are closed", async || {
        gateway.metric("sluicegate_listener_connections").await == 0.0
    })
    .await;
    assert_eq!(gateway.metric("sluicegate_request_body_bytes").await, 0.0);
    assert_eq!(post(gateway.data, CHAT, chat(r#""max_tokens":1"#)).await.status, 200);
}
