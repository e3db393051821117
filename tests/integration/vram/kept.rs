use std::time::Duration;

use chrono::{Local, TimeDelta};
use rustix::process::Signal;
use serde_json::Value;
use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::{Gateway, eventually, post};

use super::stream;
use super::{
    A, B, Host, Terms, by, card, chat, model, models, reason, served, several_polls, spare,
};
use crate::BIN;

fn two() -> Settings {
    card(16, &[(A, 10), (B, 10)])
}

fn kept(how: &str) -> String {
    format!("models: {{ \"{A}\": {{ {how} }} }}")
}

async fn alone(host: &Host, how: &str) -> Gateway {
    let kept = kept(how);
    Terms { host: &kept, ..Terms::default() }.alone(host).await
}

/// What the gateway itself asked of an Ollama about a model.
fn asked(simulator: &Simulator) -> Vec<Value> {
    let requests = simulator.recorder().requests();
    let own = requests.iter().filter(|one| one.path == "/api/generate");
    own.map(|one| serde_json::from_slice(&one.body).expect("JSON")).collect()
}

#[tokio::test]
async fn what_was_learned_and_what_is_loaded_outlive_a_kill() {
    let host = Host::start(two()).await;
    let state = host.state_dir();
    let more = format!("state_dir: \"{}\"", state.display());
    let terms = Terms { more: &more, ..Terms::default() };
    let mut gateway = terms.alone(&host).await;
    for name in [A, B] {
        assert_eq!(served(&gateway, name).await, "host");
    }
    eventually("it is written down", async || {
        let digests = [A, B].map(|name| sluicegate_simulator::Model::new(name, 1).digest());
        let file = std::fs::read_to_string(state.join("learned.json")).unwrap_or_default();
        digests.iter().all(|digest| file.contains(digest))
    })
    .await;
    gateway.signal(Signal::KILL);
    gateway.wait();
    let again = Gateway::start(BIN, &terms.config(&host));
    eventually("it knows the models", async || !models(&again).await.is_empty()).await;
    let all = models(&again).await;
    assert!(all.iter().all(|one| one["learned"] == true), "{all:?}");
    super::measured(&again, "host").await;
    assert_eq!(model(&again, A).await["need"], 10 * super::GIB);
    assert_eq!(model(&again, B).await["resident"], true);
    assert_eq!(served(&again, B).await, "host");
    assert_eq!((host.loads(A), host.loads(B)), (1, 1));
}

#[tokio::test]
async fn a_pinned_model_is_loaded_at_start_and_as_requests_want_it() {
    let host = Host::start(two()).await;
    let gateway = alone(&host, "pin: true").await;
    eventually("it is loaded", async || model(&gateway, A).await["resident"] == true).await;
    let asked = asked(&host.simulator);
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0]["model"], A);
    assert_eq!(asked[0]["keep_alive"].as_f64(), Some(-1.0));
    assert!(asked[0].get("options").is_none() && asked[0].get("prompt").is_none(), "{asked:?}");
    assert_eq!(served(&gateway, A).await, "host");
    several_polls().await;
    let shown = model(&gateway, A).await;
    assert_eq!((&shown["pinned"], &shown["expires_in"]), (&true.into(), &Value::Null), "{shown}");
    assert_eq!((host.loads(A), host.simulator.scheduler().evictions()), (1, 0));
}

#[tokio::test]
async fn no_client_unloads_what_is_pinned() {
    let host = Host::start(two()).await;
    let gateway = alone(&host, "pin: true").await;
    eventually("it is loaded", async || model(&gateway, A).await["resident"] == true).await;
    for (path, body) in [
        (
            "/api/chat",
            r#"{"model":"a:1","messages":[{"role":"user","content":"hi"}],"keep_alive":0}"#,
        ),
        ("/api/generate", r#"{"model":"a:1","prompt":"hi","Keep_Alive":"0s"}"#),
        ("/api/generate", r#"{"model":"a:1","keep_alive":0}"#),
    ] {
        assert_eq!(post(gateway.data, path, body).await.status, 200, "{path}");
        let ps = host.simulator.scheduler().ps();
        assert_eq!(ps["models"][0]["name"], A, "{path}: {ps}");
    }
    assert_eq!(host.loads(A), 1);
}

#[tokio::test]
async fn a_pinned_model_makes_no_room_for_another() {
    let settings = two();
    let (host, spare) = (Host::start(settings.clone()).await, spare(&settings).await);
    let pin = kept("pin: true");
    let gateway = Terms { host: &pin, ..Terms::default() }.with_spare(&host, &spare).await;
    eventually("it is loaded", async || host.loads(A) == 1).await;
    several_polls().await;
    for _ in 0..3 {
        let answer = chat(&gateway, B).await;
        assert_eq!((answer.status, by(&answer)), (200, "spare"), "{}", reason(&answer));
    }
    assert_eq!((host.loads(A), host.loads(B)), (1, 0));
}

#[tokio::test]
async fn a_pinned_model_comes_back_when_somebody_unloads_it() {
    let host = Host::start(two()).await;
    let gateway = alone(&host, "pin: true").await;
    eventually("it is loaded", async || model(&gateway, A).await["resident"] == true).await;
    host.unload(A).await;
    eventually("it is loaded again", async || host.loads(A) == 2).await;
    eventually("and seen", async || model(&gateway, A).await["resident"] == true).await;
    assert_eq!(served(&gateway, A).await, "host");
    assert_eq!(host.loads(A), 2);
}

#[tokio::test]
async fn a_pinned_model_that_somebody_else_loaded_is_kept() {
    let host = Host::start(Settings { keep_alive: Duration::from_secs(3), ..two() }).await;
    host.direct(A).await;
    let gateway = alone(&host, "pin: true").await;
    eventually("it is told to stay", async || {
        let shown = model(&gateway, A).await;
        shown["resident"] == true && shown["expires_in"].is_null()
    })
    .await;
    assert_eq!(host.loads(A), 1);
}

#[tokio::test]
async fn a_pinned_model_comes_back_with_its_ollama() {
    let mut host = Host::start(two()).await;
    let gateway = alone(&host, "pin: true").await;
    eventually("it is loaded", async || model(&gateway, A).await["resident"] == true).await;
    host.simulator.kill().await;
    host.simulator.scheduler().unload(A);
    eventually("it is missed", async || model(&gateway, A).await["resident"] == false).await;
    host.simulator.revive().await.expect("the port is free");
    eventually("it is loaded again", async || host.loads(A) == 2).await;
}

#[tokio::test]
async fn a_warm_model_is_loaded_once_and_makes_room() {
    let host = Host::start(two()).await;
    let gateway = alone(&host, "warm: true").await;
    eventually("it is loaded", async || model(&gateway, A).await["resident"] == true).await;
    assert!(asked(&host.simulator)[0].get("keep_alive").is_none());
    assert_eq!(served(&gateway, A).await, "host");
    assert_eq!(host.loads(A), 1);
    eventually("it makes room", async || served(&gateway, B).await == "host").await;
    host.unload(B).await;
    several_polls().await;
    assert_eq!(host.loads(A), 1, "it is not loaded again without a request");
}

#[tokio::test]
async fn a_model_stays_as_long_as_the_configuration_says() {
    let host = Host::start(two()).await;
    let _gateway = alone(&host, "warm: true, keep_alive: 90s").await;
    eventually("it is loaded", async || host.loads(A) == 1).await;
    assert_eq!(asked(&host.simulator)[0]["keep_alive"].as_f64(), Some(90.0));
}

/// Hours from `from` to `to` minutes from now.
fn hours(from: i64, to: i64) -> String {
    let at = |minutes| (Local::now() + TimeDelta::minutes(minutes)).format("%H:%M").to_string();
    format!("off_hours: \"{}-{}\"", at(from), at(to))
}

#[tokio::test]
async fn in_its_off_hours_a_model_is_not_warmed_and_leaves_once_idle() {
    let settings = Settings { token_interval: Duration::from_millis(20), ..two() };
    let host = Host::start(settings).await;
    let gateway = alone(&host, &format!("pin: true, {}", hours(-60, 60))).await;
    several_polls().await;
    assert_eq!(host.loads(A), 0);
    let mut long = stream(&gateway, A, 40).await;
    assert_eq!(host.loads(A), 1);
    let body = long.body().await.expect("whole");
    assert!(body.ends_with(b"data: [DONE]\n\n"), "it was left alone while it was busy");
    eventually("it is gone", async || {
        host.simulator.scheduler().ps()["models"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
    several_polls().await;
    assert_eq!(host.loads(A), 1);
}

#[tokio::test]
async fn outside_its_off_hours_a_model_is_warmed() {
    let host = Host::start(two()).await;
    let _gateway = alone(&host, &format!("warm: true, {}", hours(60, 120))).await;
    eventually("it is loaded", async || host.loads(A) == 1).await;
}

#[tokio::test]
async fn a_pinned_model_that_does_not_load_does_not_keep_others_from_it() {
    let host = Host::start(card(24, &[(A, 10), (B, 10)])).await;
    host.simulator.faults().loads(1, "cudaMalloc failed");
    let gateway = alone(&host, "pin: true").await;
    eventually("it was tried", async || {
        gateway
            .metric("sluicegate_residency_loads_total{upstream=\"host\",result=\"failed\"}")
            .await
            == 1.0
    })
    .await;
    assert_eq!(served(&gateway, B).await, "host");
    assert_eq!(served(&gateway, A).await, "host");
}

#[tokio::test]
async fn a_pinned_model_that_does_not_load_is_not_tried_all_the_time() {
    let name = "plain:latest";
    let host = Host::start(card(16, &[(name, 10)])).await;
    host.simulator.faults().loads(1_000, "cudaMalloc failed");
    let kept = format!("models: {{ \"{name}\": {{ pin: true }} }}");
    let _gateway = Terms { host: &kept, ..Terms::default() }.alone(&host).await;
    eventually("it is tried", async || !asked(&host.simulator).is_empty()).await;
    several_polls().await;
    assert_eq!(asked(&host.simulator).len(), 1);
}

#[tokio::test]
async fn a_warm_model_that_did_not_load_is_tried_again() {
    let host = Host::start(two()).await;
    host.simulator.faults().loads(1, "cudaMalloc failed");
    let _gateway = alone(&host, "warm: true").await;
    eventually("it is loaded", async || host.loads(A) == 1).await;
}

#[tokio::test]
async fn a_warm_model_comes_back_with_its_ollama_however_short_the_break() {
    let mut host = Host::start(two()).await;
    let gateway = alone(&host, "warm: true").await;
    eventually("it is loaded", async || model(&gateway, A).await["resident"] == true).await;
    host.simulator.kill().await;
    host.simulator.scheduler().unload(A);
    several_polls().await;
    host.simulator.revive().await.expect("the port is free");
    eventually("it is loaded again", async || host.loads(A) == 2).await;
}
