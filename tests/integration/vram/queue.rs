use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sluicegate_simulator::Settings;
use sluicegate_test_support::{Connection, Gateway, Response, eventually, post};

use super::{A, B, Host, Terms, admin, ask, card, key, stream, wait_for, waiting};
use crate::CHAT;

fn one() -> Settings {
    Settings { token_interval: Duration::from_millis(20), ..card(16, &[(A, 10), (B, 10)]) }
}

async fn in_flight(gateway: &Gateway) -> f64 {
    gateway.metric("sluicegate_admission_in_flight{upstream=\"host\"}").await
}

#[tokio::test]
async fn a_thousand_clients_of_whom_half_leave_are_served_a_few_at_a_time() {
    let host = Host::start(one()).await;
    let terms = Terms { host: "max_concurrent: 4", queue: "max_waiting: 2000", ..Terms::default() };
    let gateway = terms.alone(&host).await;
    let mut holders = Vec::new();
    for _ in 0..4 {
        holders.push(stream(&gateway, A, 100_000).await);
    }
    let mut clients = Vec::new();
    for _ in 0..1_000 {
        let mut client = Connection::open(gateway.data).await;
        client.post(CHAT, ask(A, r#""max_tokens":1"#)).await;
        clients.push(client);
    }
    wait_for(&gateway, 1_000).await;
    let mut number = 0;
    clients.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    wait_for(&gateway, 500).await;
    drop(holders);
    let recorder = Arc::clone(host.simulator.recorder());
    recorder.until(|recorder| recorder.aborted() == 4).await;
    let most = Arc::new(AtomicUsize::new(0));
    let watch = tokio::spawn({
        let (recorder, most) = (Arc::clone(&recorder), Arc::clone(&most));
        async move {
            loop {
                let ended = recorder.finished() + recorder.aborted();
                most.fetch_max(recorder.started().saturating_sub(ended), Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    for client in &mut clients {
        let answer = client.response().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    watch.abort();
    eventually("every place and position is given back", async || {
        waiting(&gateway).await == 0 && in_flight(&gateway).await == 0.0
    })
    .await;
    assert!((1..=4).contains(&most.load(Ordering::SeqCst)), "{most:?} at a time");
    // The load, those who held the places, and those who stayed.
    assert_eq!(recorder.started(), 1 + 4 + 500);
    assert_eq!(host.loads(A), 1);
}

fn is_overloaded(answer: &Response) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    let wait: u64 = answer.header("retry-after").expect("a wait").parse().expect("seconds");
    assert!((1..=120).contains(&wait), "{wait}");
    let error = &answer.json()["error"];
    assert_eq!((&error["type"], &error["code"]), (&"server_error".into(), &"overloaded".into()));
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn a_queue_that_is_full_is_a_503_that_says_when_to_come_back() {
    let host = Host::start(one()).await;
    let terms = Terms { host: "max_concurrent: 1", queue: "max_waiting: 2", ..Terms::default() };
    let gateway = terms.alone(&host).await;
    let _holder = stream(&gateway, A, 100_000).await;
    let mut waiting = Vec::new();
    for number in 1..=2 {
        let mut client = Connection::open(gateway.data).await;
        client.post(CHAT, ask(A, "")).await;
        wait_for(&gateway, number).await;
        waiting.push(client);
    }
    let full = post(gateway.data, CHAT, ask(A, "")).await;
    is_overloaded(&full);
    assert!(full.text().contains("queue is full"), "{}", full.text());
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_a_503_that_says_when_to_come_back() {
    let host = Host::start(one()).await;
    let terms = Terms { host: "max_concurrent: 1", queue: "max_wait: 300ms", ..Terms::default() };
    let gateway = terms.alone(&host).await;
    let holder = stream(&gateway, A, 100_000).await;
    // For a place, and for room.
    for model in [A, B] {
        is_overloaded(&post(gateway.data, CHAT, ask(model, "")).await);
    }
    assert_eq!(waiting(&gateway).await, 0);
    drop(holder);
    assert_eq!(host.loads(B), 0);
}

/// A request of a caller's own, which waits for its answer.
async fn send(gateway: &Gateway, key: &str, mark: &str, header: &str) -> Connection {
    let body = ask(A, &format!(r#""max_tokens":1,"user":"{mark}""#));
    let mut client = Connection::open(gateway.data).await;
    client
        .send(format!(
            "POST {CHAT} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {key}\r\n{header}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    client
}

/// Who was served, in order.
fn order(host: &Host, known: &[&str]) -> Vec<String> {
    let requests = host.simulator.recorder().requests();
    let user = |body: &[u8]| {
        let body: serde_json::Value = serde_json::from_slice(body).expect("JSON");
        body["user"].as_str().map(str::to_owned)
    };
    let marks = requests.iter().filter_map(|one| user(&one.body));
    marks.filter(|mark| known.contains(&mark.as_str())).collect()
}

#[tokio::test]
async fn callers_share_an_upstream_by_their_weight() {
    let host = Host::start(one()).await;
    let keys = [key("alice", "weight: 3"), key("bob", "weight: 1"), key("carol", "")];
    let more = format!("keys:\n{}{}{}", keys[0].1, keys[1].1, keys[2].1);
    let terms = Terms {
        host: "max_concurrent: 1",
        queue: "max_starvation: 60s",
        more: &more,
        ..Terms::default()
    };
    let gateway = with_starvation(&terms, &host).await;
    // What one request takes is learned before they compete.
    let mut first = send(&gateway, &keys[2].0, "first", "").await;
    assert_eq!(first.response().await.status, 200);
    host.simulator.faults().push([sluicegate_simulator::Fault::SlowFirst(1_500)]);
    let mut all = vec![send(&gateway, &keys[2].0, "holder", "").await];
    eventually("the place is taken", async || in_flight(&gateway).await == 1.0).await;
    // Bob was first, with all that he has.
    for (name, (key, _)) in [("bob", &keys[1]), ("alice", &keys[0])] {
        for _ in 0..30 {
            all.push(send(&gateway, key, name, "").await);
        }
    }
    wait_for(&gateway, 60).await;
    let listed = admin(&gateway, "/api/queue").await;
    assert_eq!(listed[0]["waiting"].as_array().map(Vec::len), Some(60));
    for client in &mut all {
        assert_eq!(client.response().await.status, 200);
    }
    let order = order(&host, &["alice", "bob"]);
    assert_eq!(order.len(), 60);
    let alices = order[..32].iter().filter(|name| *name == "alice").count();
    assert!((20..=28).contains(&alices), "{alices} of the first 32: {order:?}");
    let expected: Vec<&str> = listed[0]["waiting"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["caller"].as_str().expect("a caller"))
        .collect();
    let alices = expected[..32].iter().filter(|name| **name == "alice").count();
    assert!((20..=28).contains(&alices), "{alices} of the first 32 were to be hers: {expected:?}");
}

/// As given, with a starvation bound of its own.
async fn with_starvation(terms: &Terms<'_>, host: &Host) -> Gateway {
    let config = terms.config(host).replace("max_starvation: 1s, ", "");
    let gateway = Gateway::start(crate::BIN, &config);
    super::measured(&gateway, "host").await;
    gateway
}

#[tokio::test]
async fn batch_requests_go_after_those_somebody_waits_for() {
    let host = Host::start(one()).await;
    let keys = [key("alice", ""), key("nightly", "priority: batch")];
    let more = format!("keys:\n{}{}", keys[0].1, keys[1].1);
    let terms = Terms {
        host: "max_concurrent: 1",
        queue: "max_starvation: 60s",
        more: &more,
        ..Terms::default()
    };
    let gateway = with_starvation(&terms, &host).await;
    host.simulator.faults().push([sluicegate_simulator::Fault::SlowFirst(1_000)]);
    let mut all = vec![send(&gateway, &keys[0].0, "holder", "").await];
    eventually("the place is taken", async || in_flight(&gateway).await == 1.0).await;
    let batch = "x-sluicegate-priority: batch\r\n";
    let order_sent = [
        (&keys[1].0, "key", ""),
        (&keys[0].0, "header", batch),
        (&keys[0].0, "person", ""),
        (&keys[1].0, "key", ""),
        (&keys[0].0, "person", ""),
    ];
    for (number, (key, mark, header)) in order_sent.into_iter().enumerate() {
        all.push(send(&gateway, key, mark, header).await);
        wait_for(&gateway, number as u64 + 1).await;
    }
    for client in &mut all {
        assert_eq!(client.response().await.status, 200);
    }
    let order = order(&host, &["key", "header", "person"]);
    assert_eq!(order[..2], ["person", "person"], "{order:?}");
    assert_eq!(order.len(), 5);
}

#[tokio::test]
async fn who_waits_is_shown_with_a_position_and_an_estimate() {
    let host = Host::start(one()).await;
    let gateway = Terms { host: "max_concurrent: 1", ..Terms::default() }.alone(&host).await;
    let _holder = stream(&gateway, A, 100_000).await;
    let mut clients = Vec::new();
    for (number, model) in [A, A, B].into_iter().enumerate() {
        let mut client = Connection::open(gateway.data).await;
        client.post(CHAT, ask(model, "")).await;
        wait_for(&gateway, number as u64 + 1).await;
        clients.push(client);
    }
    let queue = &admin(&gateway, "/api/queue").await[0];
    assert_eq!((&queue["upstream"], &queue["places"]), (&"host".into(), &1.into()));
    assert_eq!(queue["in_flight"][A], 1);
    let waiting = queue["waiting"].as_array().expect("a list");
    let mut before = 0;
    for (one, (model, position)) in waiting.iter().zip([(A, 1), (A, 2), (B, 3)]) {
        assert_eq!((&one["model"], &one["position"]), (&model.into(), &position.into()), "{one}");
        assert_eq!(
            (&one["caller"], &one["priority"]),
            (&"anonymous".into(), &"interactive".into())
        );
        let estimate = one["estimate_ms"].as_u64().expect("an estimate");
        assert!(estimate >= before, "{queue}");
        before = estimate;
    }
    assert!(before > 0, "{queue}");
}

#[tokio::test]
async fn a_stream_that_waits_is_told_its_number_in_line() {
    let host = Host::start(one()).await;
    let config = format!(
        "{}routes:\n  - {{ model: \"*\", targets: [{{ upstream: host }}], wait_comments: 100ms }}\n",
        Terms { host: "max_concurrent: 1", ..Terms::default() }.config(&host)
    );
    let gateway = Gateway::start(crate::BIN, &config);
    super::measured(&gateway, "host").await;
    let holder = stream(&gateway, A, 100_000).await;
    let mut clients = Vec::new();
    for number in 1..=2 {
        let mut client = Connection::open(gateway.data).await;
        client.post(CHAT, ask(A, r#""stream":true"#)).await;
        wait_for(&gateway, number).await;
        clients.push(client);
    }
    assert_eq!(clients[1].head().await.status, 200);
    let said = clients[1].part().await.expect("whole").expect("a comment");
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        said.starts_with(": waiting: number 2 in line, about ") && said.ends_with("\n\n"),
        "{said}"
    );
    drop(holder);
    let rest = clients[1].body().await.expect("whole");
    assert!(rest.ends_with(b"data: [DONE]\n\n"), "{}", String::from_utf8_lossy(&rest));
}
