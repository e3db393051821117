//! Equal requests at one time: one asks, the others follow.

use std::time::Duration;

use sluicegate_simulator::{Fault, Settings};
use sluicegate_test_support::{Connection, Gateway, eventually, post};

use super::{ask, cached, cool};
use crate::{CHAT, paced, pair};

fn stream(text: &str) -> String {
    cool(text, r#""stream":true"#)
}

/// The text of a stream, and whether it came to its proper end.
fn content(body: &str) -> (String, bool) {
    let events = body.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let text = events
        .filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok())
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    (text, body.trim_end().ends_with("data: [DONE]"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_callers_with_one_prompt_one_asks() {
    let (gateway, host) = pair(paced(10, Duration::from_millis(30)), "").await;
    for body in [cool("whole", ""), stream("stream")] {
        let before = host.recorder().started();
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let (to, body) = (gateway.data, body.clone());
            callers.spawn(async move { post(to, CHAT, body).await });
        }
        let answers = callers.join_all().await;
        assert_eq!(host.recorder().started(), before + 1);
        let texts: std::collections::BTreeSet<String> = answers
            .iter()
            .map(|answer| {
                assert_eq!(answer.status, 200);
                match answer.text() {
                    text if text.starts_with("data:") => {
                        let (text, whole) = content(&text);
                        assert!(whole);
                        text
                    }
                    _ => answer.json()["choices"][0]["message"]["content"].to_string(),
                }
            })
            .collect();
        assert_eq!(texts.len(), 1, "{texts:?}");
        let coalesced = answers.iter().filter(|one| cached(one) == ("miss", "coalesced")).count();
        assert_eq!(coalesced, 63);
    }
    assert_eq!(gateway.metric("sluicegate_cache_followers_total").await, 126.0);
}

#[tokio::test]
async fn who_comes_late_gets_what_was_sent_and_then_follows_live() {
    let (gateway, host) = pair(paced(20, Duration::from_millis(50)), "").await;
    let mut first = Connection::open(gateway.data).await;
    first.post(CHAT, stream("hi")).await;
    first.head().await;
    for _ in 0..3 {
        first.part().await.expect("a part").expect("more");
    }
    let mut second = Connection::open(gateway.data).await;
    second.post(CHAT, stream("hi")).await;
    assert_eq!(second.head().await.header("x-cache-reason"), Some("coalesced"));
    let early = second.part().await.expect("a part").expect("more");
    assert!(!early.is_empty());
    assert_eq!(host.recorder().finished(), 0, "it does not wait for the end");
    let rest = String::from_utf8(second.body().await.expect("whole")).expect("text");
    let (text, whole) = content(&(String::from_utf8(early).expect("text") + &rest));
    assert!(whole);
    assert_eq!(text, content(&ask(&gateway, &stream("hi")).await.text()).0);
    first.body().await.expect("whole");
    assert_eq!(host.recorder().started(), 1);
}

#[tokio::test]
async fn a_leader_that_leaves_does_not_take_the_answer_with_it() {
    for body in [stream("stream"), cool("whole", "")] {
        for before_content in [true, false] {
            let settings = Settings {
                first_token: Duration::from_millis(300),
                ..paced(10, Duration::from_millis(50))
            };
            let (gateway, host) = pair(settings, "").await;
            let mut leader = Connection::open(gateway.data).await;
            leader.post(CHAT, &body).await;
            eventually("it is asked", async || host.recorder().started() == 1).await;
            let (to, same) = (gateway.data, body.clone());
            let follower = tokio::spawn(async move { post(to, CHAT, same).await });
            let followers = "sluicegate_cache_followers_total";
            eventually("it is followed", async || gateway.metric(followers).await == 1.0).await;
            if !before_content && body.contains("stream\":true") {
                leader.head().await;
            }
            drop(leader);
            let answer = follower.await.expect("an answer");
            assert_eq!(answer.status, 200);
            assert_eq!(cached(&answer), ("miss", "coalesced"));
            assert_eq!((host.recorder().started(), host.recorder().aborted()), (1, 0));
        }
    }
}

#[tokio::test]
async fn when_all_have_left_the_upstream_stops() {
    let (gateway, host) = pair(paced(1_000, Duration::from_millis(20)), "").await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut one = Connection::open(gateway.data).await;
        one.post(CHAT, stream("hi")).await;
        one.head().await;
        all.push(one);
    }
    all.remove(0);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(host.recorder().aborted(), 0);
    drop(all);
    eventually("the upstream is dropped", async || host.recorder().aborted() == 1).await;
    assert_eq!(host.recorder().started(), 1);
}

#[tokio::test]
async fn when_the_leader_fails_a_follower_asks() {
    let settings = Settings { first_token: Duration::from_millis(500), ..Settings::default() };
    let (gateway, host) = pair(settings, "").await;
    host.faults().push([Fault::CrashAfter(0)]);
    let mut leader = Connection::open(gateway.data).await;
    leader.post(CHAT, stream("hi")).await;
    eventually("it is asked", async || host.recorder().started() == 1).await;
    let to = gateway.data;
    let follower = tokio::spawn(async move { post(to, CHAT, stream("hi")).await });
    assert_eq!(leader.response().await.status, 502);
    let answer = follower.await.expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(content(&answer.text()).1);
    assert_eq!(host.recorder().started(), 2);
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_nobody_up() {
    // More than the kernel's buffers hold.
    let settings = Settings { tokens: 35_000, ..Settings::default() };
    let (gateway, _host) = pair(settings, "").await;
    let mut slow = Connection::open(gateway.data).await;
    slow.post(CHAT, stream("hi")).await;
    slow.head().await;
    let other: Gateway = gateway;
    let answer =
        tokio::time::timeout(Duration::from_secs(20), post(other.data, CHAT, stream("hi")));
    assert!(content(&answer.await.expect("in time").text()).1);
    drop(slow);
}
