//! What plugins store, in a real Redis that is shared, stopped and killed.

use rustix::process::Signal;
use sluicegate_simulator::Settings;
use sluicegate_test_support::redis::{Redis, socket_url};
use sluicegate_test_support::{Gateway, post};

use super::{config, plugin};
use crate::{BIN, CHAT, chat, simulator};

async fn gateway(url: &str) -> (Gateway, sluicegate_simulator::Simulator) {
    let first = simulator(Settings::default()).await;
    let remember = plugin("p", "deadline: 5s, config: { do: remember }");
    let more = format!("plugin_store: \"{url}\"\n");
    let text = more + &config(&first, &first, &remember, "p", "");
    (Gateway::start(BIN, &text), first)
}

async fn before(gateway: &Gateway) -> String {
    let answer = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let reason = answer.header("x-sluicegate-reason").expect("a reason");
    reason.strip_prefix("before:").expect("from the plugin").to_owned()
}

#[tokio::test]
async fn gateways_on_one_redis_share_what_a_plugin_stores() {
    let Some(redis) = Redis::start() else { return };
    let (first, _one) = gateway(&redis.url()).await;
    let (second, _two) = gateway(&redis.url()).await;
    assert_eq!(before(&first).await, "");
    assert_eq!(before(&second).await, "anonymous");
}

#[tokio::test]
async fn requests_go_on_while_redis_is_stopped_and_when_it_is_killed() {
    let Some(mut redis) = Redis::start() else { return };
    let (gateway, _host) = gateway(&redis.url()).await;
    assert_eq!(before(&gateway).await, "");
    redis.signal(Signal::STOP);
    for _ in 0..10 {
        assert_eq!(before(&gateway).await, "", "unavailable");
    }
    redis.signal(Signal::CONT);
    sluicegate_test_support::eventually("it is asked again", async || {
        before(&gateway).await == "anonymous"
    })
    .await;
    redis.kill();
    assert_eq!(before(&gateway).await, "");
    assert_eq!(gateway.metric("sluicegate_plugin_skipped_total{plugin=\"p\"}").await, 0.0);
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_no_reason_not_to_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let (gateway, _host) = gateway(&socket_url(&dir.path().join("none"))).await;
    assert_eq!(before(&gateway).await, "");
}
