//! Which of several hosts of one model serves.

use std::time::Duration;

use sluicegate_test_support::{Connection, Gateway, eventually, post, request};

use super::{BIN, CHAT, MODEL, chat, paced, simulator, upstream};

#[tokio::test]
async fn of_equal_targets_the_least_busy_serves() {
    let slow = || paced(4, Duration::from_millis(100));
    for routes in [
        "",
        "routes:\n  - { model: \"*\", targets: [{ upstream: first }, { upstream: second }] }\n",
    ] {
        let hosts = [simulator(slow()).await, simulator(slow()).await];
        let [first, second] = &hosts;
        let config = format!(
            "upstreams:\n{}{}{routes}",
            upstream("first", first, "").replace("kind: ollama", "kind: openai"),
            upstream("second", second, "").replace("kind: ollama", "kind: openai"),
        );
        let gateway = Gateway::start(BIN, &config);
        let mut clients = Vec::new();
        for number in 1..=6 {
            let mut client = Connection::open(gateway.data).await;
            client.post(CHAT, chat("")).await;
            clients.push(client);
            let all = || hosts.iter().map(|host| host.recorder().started()).sum::<usize>();
            eventually("it is sent on", async || all() == number).await;
        }
        for client in &mut clients {
            assert_eq!(client.response().await.status, 200);
        }
        let served = hosts.each_ref().map(|host| host.recorder().started());
        assert_eq!(served, [3, 3], "{routes}");
    }
}

#[tokio::test]
async fn a_conversation_goes_on_where_it_began() {
    for (places, stays) in [("", false), ("max_concurrent: 2", true)] {
        let hosts = [
            simulator(paced(4, Duration::from_millis(100))).await,
            simulator(paced(4, Duration::from_millis(100))).await,
        ];
        let [first, second] = &hosts;
        let config = format!(
            "upstreams:\n{}{}",
            upstream("first", first, places),
            upstream("second", second, places)
        );
        let gateway = Gateway::start(BIN, &config);
        let turn = |opening: &str, more: &str| {
            format!(
                r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"{opening}"}}{more}]}}"#
            )
        };
        let again = r#",{"role":"assistant","content":"yes"},{"role":"user","content":"so"}"#;
        let started = || hosts.each_ref().map(|host| host.recorder().started());
        // Both have the model loaded; the two begin at one time, so that each has a host of its own.
        for host in &hosts {
            let load = format!(r#"{{"model":"{MODEL}","prompt":"hi"}}"#);
            let head = format!(
                "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}",
                load.len()
            );
            assert_eq!(request(host.address(), &head, load.as_bytes()).await.status, 200);
        }
        let is_loaded = async |name: &str| {
            let series =
                format!("sluicegate_residency_gpu_ratio{{upstream=\"{name}\",model=\"{MODEL}\"}}");
            gateway.metric(&series).await == 1.0
        };
        eventually("both are known to", async || {
            is_loaded("first").await && is_loaded("second").await
        })
        .await;
        let mut clients = Vec::new();
        for opening in ["a", "b"] {
            let mut client = Connection::open(gateway.data).await;
            client.post(CHAT, turn(opening, "")).await;
            let before = clients.len();
            eventually("it is sent on", async || started().iter().sum::<usize>() == 3 + before)
                .await;
            clients.push(client);
        }
        for client in &mut clients {
            assert_eq!(client.response().await.status, 200);
        }
        assert_eq!(started(), [2, 2]);
        for expected in [[2, 3], [2, 4]] {
            assert_eq!(post(gateway.data, CHAT, turn("b", again)).await.status, 200);
            assert_eq!(
                started(),
                expected,
                "the second has its beginning, though the first is first"
            );
        }
        // Where others are at work, it waits for nobody; but a free place is one.
        let mut other = Connection::open(gateway.data).await;
        other.post(CHAT, turn("b", again)).await;
        eventually("it is sent on", async || started() == [2, 5]).await;
        assert_eq!(post(gateway.data, CHAT, turn("b", again)).await.status, 200);
        assert_eq!(started(), if stays { [2, 6] } else { [3, 5] }, "{places}");
        assert_eq!(other.response().await.status, 200);
    }
}
