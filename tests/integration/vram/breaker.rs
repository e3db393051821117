use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::{Gateway, eventually, post};
use tokio::task::JoinHandle;

use super::{A, B, GIB, Host, Terms, admin, ask, breaker_is, by, card, changes, chat, reason};
use super::{served, several_polls, spare};
use crate::CHAT;

const PERCENT: &str = "trip: percent";

/// One model, on a card on which a GiB is a per cent.
fn hundred(model: u64) -> Settings {
    card(100, &[(A, model), (B, 1)])
}

async fn used_is(gateway: &Gateway, gib: u64) {
    eventually("the gateway has read the card", async || {
        admin(gateway, "/api/gpu").await["gpus"][0]["memory_used"] == gib * GIB
    })
    .await;
}

/// Requests that never stop.
struct Traffic {
    failed: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn start(gateway: &Gateway) -> Self {
        let failed: Arc<Mutex<Vec<String>>> = Arc::default();
        let data = gateway.data;
        let task = |number| {
            let failed = Arc::clone(&failed);
            tokio::spawn(async move {
                loop {
                    let stream = if number % 2 == 0 { "false" } else { "true" };
                    let more = format!(r#""max_tokens":3,"stream":{stream}"#);
                    let answer = post(data, CHAT, ask(A, &more)).await;
                    if answer.status != 200 || answer.text().contains("\"error\"") {
                        failed.lock().push(format!("{}: {}", answer.status, answer.text()));
                    }
                }
            })
        };
        let tasks = (0..4).map(task).collect();
        Self { failed, tasks }
    }

    /// None of them failed.
    fn end(self) {
        for task in self.tasks {
            assert!(!task.is_finished(), "it stopped by itself");
            task.abort();
        }
        assert_eq!(*self.failed.lock(), Vec::<String>::new());
    }
}

async fn with_spare(settings: Settings, terms: Terms<'_>) -> (Gateway, Host, Simulator) {
    let (host, spare) = (Host::start(settings.clone()).await, spare(&settings).await);
    let gateway = terms.with_spare(&host, &spare).await;
    (gateway, host, spare)
}

#[tokio::test]
async fn a_full_card_sends_requests_elsewhere_until_it_has_recovered_and_none_fails() {
    let settings = Settings { token_interval: Duration::from_millis(5), ..hundred(50) };
    let terms = Terms { vram: PERCENT, ..Terms::default() };
    let (gateway, host, _spare) = with_spare(settings, terms).await;
    assert_eq!(served(&gateway, A).await, "host");
    let traffic = Traffic::start(&gateway);
    for round in 1..=3 {
        host.simulator.scheduler().set_foreign(45 * GIB);
        let status = breaker_is(&gateway, "open").await;
        assert_eq!(status["breaker_reason"], "95 % of the GPU's memory is in use");
        let answer = chat(&gateway, A).await;
        assert_eq!((answer.status, by(&answer)), (200, "spare"));
        let why = "host: 95 % of the GPU's memory is in use";
        assert!(reason(&answer).contains(why), "{}", reason(&answer));
        assert_eq!(gateway.metric("sluicegate_breaker_state{upstream=\"host\"}").await, 2.0);
        // Not yet: it has to fall below 90 %.
        host.simulator.scheduler().set_foreign(41 * GIB);
        used_is(&gateway, 91).await;
        several_polls().await;
        assert_eq!(super::host_status(&gateway).await["breaker"], "open");
        host.simulator.scheduler().set_foreign(38 * GIB);
        let status = breaker_is(&gateway, "closed").await;
        assert!(status["breaker_reason"].is_null(), "{status}");
        assert_eq!(served(&gateway, A).await, "host");
        eventually("its changes are counted", async || {
            changes(&gateway, "open", "vram").await == f64::from(round)
                && changes(&gateway, "closed", "none").await == f64::from(round)
        })
        .await;
    }
    traffic.end();
    assert_eq!(host.loads(A), 1);
}

#[tokio::test]
async fn noise_below_the_threshold_does_not_open_the_breaker() {
    let terms = Terms { vram: PERCENT, ..Terms::default() };
    let (gateway, host, _spare) = with_spare(hundred(50), terms).await;
    assert_eq!(served(&gateway, A).await, "host");
    for noise in [41, 44, 42, 43, 41, 44, 41, 44, 43, 44, 42, 44] {
        host.simulator.scheduler().set_foreign(noise * GIB);
        used_is(&gateway, 50 + noise).await;
        assert_eq!(served(&gateway, A).await, "host");
    }
    assert_eq!(changes(&gateway, "open", "vram").await, 0.0);
}

#[tokio::test]
async fn with_one_upstream_a_full_card_is_a_503_that_says_why_and_when_to_come_back() {
    let host = Host::start(hundred(50)).await;
    let gateway = Terms { vram: PERCENT, ..Terms::default() }.alone(&host).await;
    assert_eq!(served(&gateway, A).await, "host");
    host.simulator.scheduler().set_foreign(46 * GIB);
    breaker_is(&gateway, "open").await;
    let answer = chat(&gateway, A).await;
    assert_eq!(answer.status, 503);
    let wait: u64 = answer.header("retry-after").expect("a wait").parse().expect("seconds");
    assert!(wait >= 1, "{wait}");
    assert!(answer.text().contains("memory"), "it does not say why: {}", answer.text());
    host.simulator.scheduler().set_foreign(0);
    eventually("it serves again", async || chat(&gateway, A).await.status == 200).await;
}

#[tokio::test]
async fn a_card_that_is_full_of_its_own_models_is_healthy() {
    let (gateway, host, _spare) = with_spare(hundred(97), Terms::default()).await;
    assert_eq!(served(&gateway, A).await, "host");
    used_is(&gateway, 97).await;
    several_polls().await;
    for _ in 0..10 {
        assert_eq!(served(&gateway, A).await, "host");
    }
    assert_eq!(super::host_status(&gateway).await["breaker"], "closed");
    assert_eq!(changes(&gateway, "open", "foreign").await, 0.0);
    assert_eq!(host.loads(A), 1);
}

#[tokio::test]
async fn memory_that_others_take_leaves_residents_alone_and_sends_what_no_longer_fits_elsewhere() {
    let settings = card(24, &[(A, 10), (B, 18)]);
    let (gateway, host, _spare) = with_spare(settings, Terms::default()).await;
    assert_eq!(served(&gateway, B).await, "host", "it fits while the card is free");
    eventually("they change places", async || served(&gateway, A).await == "host").await;
    host.simulator.scheduler().set_foreign(6 * GIB);
    used_is(&gateway, 16).await;
    several_polls().await;
    assert_eq!(served(&gateway, A).await, "host");
    let answer = chat(&gateway, B).await;
    assert_eq!((answer.status, by(&answer)), (200, "spare"), "{}", reason(&answer));
    assert!(reason(&answer).contains("host: "), "{}", reason(&answer));
    assert_eq!((host.loads(A), host.loads(B)), (1, 1));
    host.simulator.scheduler().set_foreign(0);
    eventually("it fits again", async || served(&gateway, B).await == "host").await;
}

#[tokio::test]
async fn others_that_fill_the_card_open_the_breaker_until_they_leave() {
    let settings = Settings { token_interval: Duration::from_millis(5), ..hundred(50) };
    let (gateway, host, _spare) = with_spare(settings, Terms::default()).await;
    assert_eq!(served(&gateway, A).await, "host");
    let traffic = Traffic::start(&gateway);
    host.simulator.scheduler().set_foreign(47 * GIB);
    let status = breaker_is(&gateway, "open").await;
    assert_eq!(status["breaker_reason"], "others hold 48128 MiB of the GPU's memory");
    let answer = chat(&gateway, A).await;
    assert_eq!((answer.status, by(&answer)), (200, "spare"));
    assert!(reason(&answer).contains("host: others hold"), "{}", reason(&answer));
    host.simulator.scheduler().set_foreign(0);
    breaker_is(&gateway, "closed").await;
    eventually("it serves again", async || served(&gateway, A).await == "host").await;
    eventually("the change is counted", async || changes(&gateway, "open", "foreign").await == 1.0)
        .await;
    traffic.end();
}

#[tokio::test]
async fn heat_opens_the_breaker_until_the_card_is_cool() {
    let (gateway, host, _spare) = with_spare(hundred(10), Terms::default()).await;
    assert_eq!(served(&gateway, A).await, "host");
    host.simulator.set_temperature(95.0);
    let status = breaker_is(&gateway, "open").await;
    assert_eq!(status["breaker_reason"], "the GPU is at 95 C");
    let answer = chat(&gateway, A).await;
    assert_eq!((answer.status, by(&answer)), (200, "spare"));
    assert!(reason(&answer).contains("host: the GPU is at 95"), "{}", reason(&answer));
    host.simulator.set_temperature(60.0);
    eventually("it serves again", async || served(&gateway, A).await == "host").await;
    breaker_is(&gateway, "closed").await;
    eventually("the change is counted", async || changes(&gateway, "open", "heat").await == 1.0)
        .await;
}

#[tokio::test]
async fn a_host_that_hangs_is_left_alone_and_taken_back() {
    let terms = Terms { host: "timeouts: { first_byte: 300ms }", ..Terms::default() };
    let (gateway, host, _spare) = with_spare(hundred(10), terms).await;
    assert_eq!(served(&gateway, A).await, "host");
    host.simulator.hang(true);
    let streamed = ask(A, r#""stream":true"#);
    for _ in 0..3 {
        let answer = post(gateway.data, CHAT, &streamed).await;
        assert_eq!((answer.status, by(&answer)), (200, "spare"));
    }
    let status = breaker_is(&gateway, "open").await;
    assert_eq!(status["breaker_reason"], "too many errors");
    host.simulator.hang(false);
    eventually("it serves again", async || {
        by(&post(gateway.data, CHAT, &streamed).await) == "host"
    })
    .await;
    breaker_is(&gateway, "closed").await;
}

#[tokio::test]
async fn who_waits_for_a_host_that_hangs_is_served_elsewhere_long_before_its_timeout() {
    let (gateway, host, _spare) = with_spare(hundred(10), Terms::default()).await;
    assert_eq!(served(&gateway, A).await, "host");
    host.simulator.hang(true);
    assert_eq!(served(&gateway, A).await, "spare");
    let since = tokio::time::Instant::now();
    assert_eq!(served(&gateway, A).await, "spare");
    assert!(since.elapsed() < Duration::from_secs(1), "the next need not wait");
    host.simulator.hang(false);
    eventually("it serves again", async || served(&gateway, A).await == "host").await;
}

#[tokio::test]
async fn a_card_whose_files_vanish_does_not_stop_anything() {
    let (gateway, host, _spare) = with_spare(hundred(10), Terms::default()).await;
    assert_eq!(served(&gateway, A).await, "host");
    std::fs::remove_dir_all(host.dir.path().join("card0")).expect("removed");
    several_polls().await;
    assert_eq!(served(&gateway, A).await, "host");
    assert_eq!(super::host_status(&gateway).await["breaker"], "closed");
}

#[tokio::test]
async fn answers_that_collapse_in_speed_open_the_breaker() {
    let settings =
        Settings { tokens: 12, token_interval: Duration::from_millis(15), ..hundred(10) };
    let (gateway, host, _spare) = with_spare(settings, Terms::default()).await;
    let streamed = ask(A, r#""stream":true"#);
    for _ in 0..8 {
        assert_eq!(by(&post(gateway.data, CHAT, &streamed).await), "host");
    }
    eventually("its speed is known", async || {
        super::model(&gateway, A).await["decode_per_second"].is_f64()
    })
    .await;
    several_polls().await;
    host.simulator.slow(10.0);
    eventually("it opens", async || {
        assert_eq!(post(gateway.data, CHAT, &streamed).await.status, 200);
        changes(&gateway, "open", "decode").await >= 1.0
    })
    .await;
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_left_alone_and_the_others_of_its_host_are_not() {
    let (gateway, host, _spare) = with_spare(hundred(10), Terms::default()).await;
    assert_eq!(served(&gateway, A).await, "host");
    host.simulator.faults().loads(2, "its file is broken");
    for _ in 0..2 {
        assert_eq!(served(&gateway, B).await, "spare");
    }
    let answer = chat(&gateway, B).await;
    assert_eq!((answer.status, by(&answer)), (200, "spare"));
    assert!(reason(&answer).contains("2 loads in a row failed"), "{}", reason(&answer));
    assert_eq!(served(&gateway, A).await, "host");
    let status = super::host_status(&gateway).await;
    assert_eq!(
        (&status["breaker"], &status["left_alone"][0]["model"]),
        (&"closed".into(), &B.into())
    );
    eventually("it is tried again", async || served(&gateway, B).await == "host").await;
}

#[tokio::test]
async fn new_thresholds_apply_without_a_restart() {
    let host = Host::start(hundred(97)).await;
    let headroom = Terms::default();
    let gateway = headroom.alone(&host).await;
    assert_eq!(served(&gateway, A).await, "host");
    gateway.write_config(&Terms { vram: PERCENT, ..Terms::default() }.config(&host));
    breaker_is(&gateway, "open").await;
    gateway.write_config(&headroom.config(&host));
    eventually("it serves again", async || chat(&gateway, A).await.status == 200).await;
    assert_eq!(host.loads(A), 1);
}

#[tokio::test]
async fn who_waits_when_the_breaker_opens_is_served_elsewhere() {
    let settings = Settings { token_interval: Duration::from_millis(20), ..hundred(50) };
    let terms = Terms { vram: PERCENT, host: "max_concurrent: 1", ..Terms::default() };
    let (gateway, host, _spare) = with_spare(settings, terms).await;
    let holder = super::stream(&gateway, A, 100_000).await;
    let mut client = sluicegate_test_support::Connection::open(gateway.data).await;
    client.post(CHAT, ask(A, "")).await;
    super::wait_for(&gateway, 1).await;
    host.simulator.scheduler().set_foreign(46 * GIB);
    breaker_is(&gateway, "open").await;
    drop(holder);
    let answer = client.response().await;
    assert_eq!((answer.status, by(&answer)), (200, "spare"));
}
