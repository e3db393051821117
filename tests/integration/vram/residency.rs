use std::sync::Arc;
use std::time::Duration;

use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::{Connection, Gateway, eventually, post};

use super::{
    A, B, Host, Terms, admin, ask, by, card, chat, key, measured, model, reason, served, spare,
};
use super::{stream, wait_for};
use crate::{BIN, CHAT, upstream};

/// Two models, of which only one fits at a time.
fn two() -> Settings {
    card(16, &[(A, 10), (B, 10)])
}

fn is_whole(body: &[u8]) -> bool {
    body.ends_with(b"data: [DONE]\n\n")
}

#[tokio::test]
async fn an_idle_model_makes_room_for_another_and_neither_runs_on_the_cpu() {
    let host = Host::start(two()).await;
    let gateway = Terms::default().alone(&host).await;
    for (model_asked, other) in [(A, B), (B, A)] {
        assert_eq!(served(&gateway, model_asked).await, "host");
        let ps = host.simulator.scheduler().ps();
        assert_eq!(ps["models"].as_array().map(Vec::len), Some(1), "{ps}");
        assert_eq!(ps["models"][0]["name"], model_asked);
        assert_eq!(ps["models"][0]["size"], ps["models"][0]["size_vram"]);
        eventually("the gateway knows what is loaded", async || {
            model(&gateway, model_asked).await["resident"] == true
                && model(&gateway, other).await["resident"] == false
        })
        .await;
    }
    assert_eq!((host.loads(A), host.loads(B)), (1, 1));
    assert_eq!(host.simulator.scheduler().swaps(), 0, "Ollama never had to choose");
    let evictions = "sluicegate_residency_evictions_total{upstream=\"host\"}";
    assert_eq!(gateway.metric(evictions).await, 1.0);
}

#[tokio::test]
async fn a_target_of_which_nothing_is_known_does_not_go_before_one_that_has_room() {
    let settings = card(32, &[(A, 10), (B, 10)]);
    let (host, other) = (Host::start(settings.clone()).await, spare(&settings).await);
    let config = format!(
        "{}{}routes:\n  - {{ model: pair, targets: [{{ upstream: host, model: \"{A}\", weight: 1 }}, {{ upstream: other, model: \"{A}\", weight: 0 }}] }}\n",
        Terms::default().config(&host),
        upstream("other", &other, "gpus: none"),
    );
    let gateway = Gateway::start(BIN, &config);
    measured(&gateway, "host").await;
    assert_eq!(served(&gateway, "pair").await, "host");
    assert_eq!(served(&gateway, B).await, "host", "by its own name, the first that has it");
    assert_eq!((host.loads(A), host.loads(B)), (1, 1));
}

#[tokio::test]
async fn of_equal_targets_one_that_has_the_model_loaded_serves_however_busy() {
    let interval = Duration::from_millis(50);
    let settings = Settings { token_interval: interval, ..card(32, &[(A, 10), (B, 10)]) };
    let (host, other) = (Host::start(settings.clone()).await, spare(&settings).await);
    let config =
        format!("{}{}", Terms::default().config(&host), upstream("other", &other, "gpus: none"),);
    let gateway = Gateway::start(BIN, &config);
    measured(&gateway, "host").await;
    let _long = stream(&gateway, A, 1_000).await;
    eventually("it is known to be loaded", async || model(&gateway, A).await["resident"] == true)
        .await;
    assert_eq!(served(&gateway, A).await, "host");
    assert_eq!(other.recorder().started(), 0);
}

#[tokio::test]
async fn models_that_fit_beside_each_other_stay() {
    let host = Host::start(card(24, &[(A, 10), (B, 10)])).await;
    let gateway = Terms::default().alone(&host).await;
    for name in [A, B, A, B] {
        assert_eq!(served(&gateway, name).await, "host");
    }
    assert_eq!((host.loads(A), host.loads(B)), (1, 1));
    assert_eq!(host.simulator.scheduler().evictions(), 0);
}

#[tokio::test]
async fn a_model_in_flight_is_never_evicted() {
    let interval = Duration::from_millis(50);
    let host = Host::start(Settings { token_interval: interval, ..two() }).await;
    let gateway = Terms::default().alone(&host).await;
    let mut long = stream(&gateway, A, 40).await;
    let mut other = Connection::open(gateway.data).await;
    other.post(CHAT, ask(B, r#""max_tokens":1"#)).await;
    wait_for(&gateway, 1).await;
    let mut body = Vec::new();
    for _ in 0..30 {
        body.extend(long.part().await.expect("whole").expect("more"));
        assert_eq!((host.loads(A), host.loads(B)), (1, 0));
    }
    body.extend(long.body().await.expect("whole"));
    assert!(is_whole(&body), "{}", String::from_utf8_lossy(&body));
    let answer = other.response().await;
    assert_eq!((answer.status, by(&answer)), (200, "host"));
    assert_eq!((host.loads(A), host.loads(B)), (1, 1));
    assert_eq!(host.simulator.scheduler().swaps(), 0, "it was evicted when it was idle");
}

#[tokio::test]
async fn what_has_no_room_goes_to_the_fallback_at_once_and_says_why() {
    let settings = Settings { token_interval: Duration::from_millis(50), ..two() };
    let host = Host::start(settings.clone()).await;
    let spare = spare(&settings).await;
    let gateway = Terms::default().with_spare(&host, &spare).await;
    let mut long = stream(&gateway, A, 40).await;
    let answer = post(gateway.data, CHAT, ask(B, r#""max_tokens":1"#)).await;
    assert_eq!((answer.status, by(&answer)), (200, "spare"));
    assert!(reason(&answer).contains("host: its GPU has no room"), "{}", reason(&answer));
    let events = admin(&gateway, "/api/events").await.to_string();
    let elsewhere = "requests go to `spare` instead: its GPU has no room";
    assert!(events.contains(elsewhere), "{events}");
    assert_eq!(host.loads(B), 0);
    assert_eq!(host.simulator.recorder().aborted(), 0);
    assert!(is_whole(&long.body().await.expect("whole")));
    // Idle and come of age, it makes room.
    eventually("the other is served at home", async || served(&gateway, B).await == "host").await;
}

#[tokio::test]
async fn a_model_that_starves_gets_its_turn_under_a_steady_stream_of_another() {
    let interval = Duration::from_millis(20);
    let host = Host::start(Settings { token_interval: interval, ..two() }).await;
    let gateway = Arc::new(Terms::default().alone(&host).await);
    let steady: Vec<_> = (0..3)
        .map(|_| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move {
                loop {
                    assert_eq!(chat(&gateway, A).await.status, 200);
                }
            })
        })
        .collect();
    eventually("the first is loaded", async || host.loads(A) == 1).await;
    assert_eq!(served(&gateway, B).await, "host");
    for one in steady {
        assert!(!one.is_finished(), "no request failed");
        one.abort();
    }
}

/// 40 requests that alternate between two models, from two callers, all at once.
async fn alternate(to: std::net::SocketAddr, keys: [&str; 2]) {
    let mut all = Vec::new();
    for number in 0..40 {
        let body = ask([A, B][number % 2], r#""max_tokens":2"#);
        let mut connection = Connection::open(to).await;
        connection
            .send(format!(
                "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                keys[number / 2 % 2],
                body.len()
            ))
            .await;
        all.push(connection);
        // They come one after the other, as they do.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for mut connection in all {
        let answer = connection.response().await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

fn loads(simulator: &Simulator) -> usize {
    simulator.scheduler().loads(A) + simulator.scheduler().loads(B)
}

#[tokio::test]
async fn two_models_that_do_not_fit_together_change_places_far_less_often_than_requests() {
    let settings = Settings {
        token_interval: Duration::from_millis(30),
        load_time: Duration::from_millis(20),
        ..two()
    };
    let direct = crate::simulator(settings.clone()).await;
    alternate(direct.address(), ["x", "y"]).await;
    let host = Host::start(settings).await;
    let ((alice, first), (bob, second)) = (key("alice", ""), key("bob", ""));
    let more = format!("keys:\n{first}{second}");
    let gateway = Terms { more: &more, ..Terms::default() }.alone(&host).await;
    alternate(gateway.data, [&alice, &bob]).await;
    let (with, without) = (loads(&host.simulator), loads(&direct));
    assert!(with <= 8, "{with} loads, {without} without the gateway");
    assert!(with < without, "{with} loads, {without} without the gateway");
    assert_eq!(host.simulator.scheduler().swaps(), 0, "each was the gateway's choice");
}

#[tokio::test]
async fn a_replica_that_has_the_model_loaded_goes_before_one_that_would_load_it() {
    let (host, other) = (Host::start(two()).await, Host::start(two()).await);
    let config = format!(
        "{}{}routes:\n  - {{ model: \"*\", targets: [{{ upstream: host }}, {{ upstream: other, weight: 0 }}] }}\n",
        Terms::default().config(&host),
        upstream("other", &other.simulator, "vram: 16GiB, gpus: none"),
    );
    let gateway = Gateway::start(BIN, &config);
    measured(&gateway, "host").await;
    measured(&gateway, "other").await;
    other.direct(B).await;
    eventually("the gateway sees it", async || {
        super::models(&gateway)
            .await
            .iter()
            .any(|one| one["upstream"] == "other" && one["model"] == B && one["resident"] == true)
    })
    .await;
    assert_eq!(served(&gateway, B).await, "other");
    assert_eq!(host.loads(B), 0);
    assert_eq!(served(&gateway, A).await, "host");
}

#[tokio::test]
async fn a_load_that_fails_is_told_with_ollamas_words() {
    let host = Host::start(two()).await;
    let gateway = Terms::default().alone(&host).await;
    host.simulator.faults().loads(1, "llama runner process has terminated: cudaMalloc failed");
    let answer = chat(&gateway, A).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert!(answer.text().contains("cudaMalloc failed"), "{}", answer.text());
    assert_eq!(served(&gateway, A).await, "host");
}

#[tokio::test]
async fn a_load_that_fails_moves_on_and_two_in_a_row_open_the_breaker() {
    let settings = two();
    let host = Host::start(settings.clone()).await;
    let spare = spare(&settings).await;
    let gateway = Terms::default().with_spare(&host, &spare).await;
    host.simulator.faults().loads(2, "cudaMalloc failed");
    for _ in 0..2 {
        assert_eq!(served(&gateway, A).await, "spare");
    }
    eventually("the breaker opened because of loads", async || {
        super::changes(&gateway, "open", "loads").await == 1.0
    })
    .await;
    eventually("it recovers", async || served(&gateway, A).await == "host").await;
    super::breaker_is(&gateway, "closed").await;
}

#[tokio::test]
async fn a_reading_of_the_card_that_is_older_than_a_load_misleads_nobody() {
    let host = Host::start(Settings { token_interval: Duration::from_millis(20), ..two() }).await;
    let config = Terms::default().config(&host);
    let slow = config.replace("poll: 50ms }\n", "poll: 2s }\n");
    assert_ne!(config, slow);
    let gateway = Gateway::start(BIN, &slow);
    measured(&gateway, "host").await;
    let mut long = stream(&gateway, A, 25).await;
    let mut other = Connection::open(gateway.data).await;
    other.post(CHAT, ask(B, r#""max_tokens":1"#)).await;
    assert!(is_whole(&long.body().await.expect("whole")));
    assert_eq!(other.response().await.status, 200);
    assert_eq!(host.simulator.scheduler().swaps(), 0, "Ollama had to make room by itself");
}

#[tokio::test]
async fn what_a_model_takes_beside_what_ollama_tells_is_learned() {
    let gib = super::GIB;
    let host = Host::start(Settings { overhead: gib, ..card(32, &[(A, 10), (B, 10)]) }).await;
    let gateway = Terms::default().alone(&host).await;
    for name in [A, B] {
        assert_eq!(served(&gateway, name).await, "host");
        super::several_polls().await;
        let need = model(&gateway, name).await["need"].as_u64().expect("a need");
        assert!((11 * gib..12 * gib).contains(&need), "{name}: {need}");
    }
}

#[tokio::test]
async fn what_its_own_models_take_beside_what_ollama_tells_is_not_held_by_others() {
    let load_time = Duration::from_millis(200);
    let settings = card(24, &[(A, 10), (B, 11)]);
    let host = Host::start(Settings { overhead: super::GIB, load_time, ..settings }).await;
    let gateway = Terms::default().alone(&host).await;
    // What the second takes is learned by its first load, for which the other one went.
    for name in [A, B, A] {
        assert_eq!(served(&gateway, name).await, "host");
        super::several_polls().await;
    }
    assert_eq!(host.simulator.scheduler().memory().0, 23 * super::GIB, "of which Ollama tells 21");
    super::several_polls().await;
    let status = super::host_status(&gateway).await;
    assert_eq!(status["breaker"], "closed", "{status}");
    for name in [A, B] {
        assert_eq!(served(&gateway, name).await, "host");
    }
    assert_eq!((host.loads(A), host.loads(B)), (2, 1));
}

#[tokio::test]
async fn a_lagging_reading_of_the_card_refuses_nothing_that_fits() {
    let host = Host::start(card(16, &[(A, 15), (B, 2)])).await;
    let config = Terms { admission: "offload: reject", ..Terms::default() }.config(&host);
    let slow = config.replace("poll: 50ms }\n", "poll: 600ms }\n");
    assert_ne!(config, slow);
    let gateway = Gateway::start(BIN, &slow);
    measured(&gateway, "host").await;
    for name in [A, B, A, B, A, B] {
        assert_eq!(served(&gateway, name).await, "host");
        super::several_polls().await;
    }
    assert_eq!(host.simulator.scheduler().swaps(), 0, "Ollama had to make room by itself");
}

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[tokio::test]
async fn whatever_happens_every_place_is_given_back_and_every_client_is_answered() {
    let settings = Settings {
        token_interval: Duration::from_millis(3),
        load_time: Duration::from_millis(20),
        ..card(16, &[(A, 10), (B, 10), ("c:1", 5)])
    };
    let host = Host::start(settings).await;
    let gateway = Terms { host: "max_concurrent: 3", ..Terms::default() }.alone(&host).await;
    let data = gateway.data;
    let worker = |seed| async move {
        let mut dice = Dice(seed);
        for _ in 0..8 {
            let model = [A, B, "c:1"][dice.below(3) as usize];
            let mut client = Connection::open(data).await;
            client.post(CHAT, ask(model, r#""stream":true"#)).await;
            if dice.below(3) == 0 {
                tokio::time::sleep(Duration::from_millis(dice.below(300))).await;
                continue;
            }
            let answer = client.response().await;
            assert!(
                matches!(answer.status, 200 | 502 | 503),
                "{}: {}",
                answer.status,
                answer.text()
            );
            assert!(answer.status != 200 || is_whole(&answer.body), "{}", answer.text());
        }
    };
    let mut workers: Vec<_> = (1..=24).map(|seed| tokio::spawn(worker(seed))).collect();
    let mut dice = Dice(99);
    while workers.iter().any(|one| !one.is_finished()) {
        host.simulator.scheduler().set_foreign(dice.below(5) << 30);
        if dice.below(8) == 0 {
            host.simulator.faults().loads(1, "cudaMalloc failed");
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for one in &mut workers {
        one.await.expect("no client was disappointed");
    }
    host.simulator.scheduler().set_foreign(0);
    host.simulator.faults().loads(0, "");
    eventually("all is given back", async || {
        let queue = &super::admin(&gateway, "/api/queue").await[0];
        queue["waiting_total"] == 0
            && queue["in_flight"].as_object().is_some_and(|all| all.is_empty())
    })
    .await;
    for name in [A, B, "c:1"] {
        eventually("it is served", async || chat(&gateway, name).await.status == 200).await;
    }
}

#[tokio::test]
async fn without_a_probe_the_memory_that_is_declared_counts() {
    let settings = two();
    let host = Host::start(settings).await;
    let terms = Terms { host: "gpus: none, vram: 16GiB", ..Terms::default() };
    let gateway = terms.alone(&host).await;
    for name in [A, B, A] {
        eventually("it has its turn", async || served(&gateway, name).await == "host").await;
    }
    assert_eq!((host.loads(A), host.loads(B)), (2, 1));
    assert_eq!(host.simulator.scheduler().swaps(), 0, "Ollama had to make room by itself");
}

#[tokio::test]
async fn a_model_without_a_tag_and_one_that_only_embeds_are_loaded_once() {
    let host = Host::start(card(16, &[("plain:latest", 4), ("some-embed:latest", 1)])).await;
    let gateway = Terms::default().alone(&host).await;
    for name in ["plain", "plain:latest", "plain"] {
        assert_eq!(served(&gateway, name).await, "host");
    }
    for name in ["some-embed", "some-embed:latest"] {
        let body = format!(r#"{{"model":"{name}","input":"x"}}"#);
        let answer = post(gateway.data, "/v1/embeddings", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for name in ["plain:latest", "some-embed:latest"] {
        assert_eq!(host.loads(name), 1, "{name}");
        eventually("its load time is known", async || {
            model(&gateway, name).await["load_seconds"].is_f64()
        })
        .await;
    }
}

#[tokio::test]
async fn a_route_with_a_context_of_its_own_has_its_model_loaded_with_it_once() {
    let host = Host::start(two()).await;
    let kept = format!("models: {{ \"{A}\": {{ pin: true }} }}");
    let terms = Terms { host: &kept, ..Terms::default() };
    let config = format!(
        "{}routes:\n  - {{ model: \"{A}\", targets: [{{ upstream: host }}], options: {{ num_ctx: 2048 }} }}\n",
        terms.config(&host)
    );
    let gateway = Gateway::start(BIN, &config);
    measured(&gateway, "host").await;
    eventually("it is loaded", async || model(&gateway, A).await["resident"] == true).await;
    for _ in 0..2 {
        assert_eq!(served(&gateway, A).await, "host");
    }
    super::several_polls().await;
    assert_eq!(model(&gateway, A).await["context"], 2048);
    assert_eq!((host.loads(A), host.simulator.scheduler().evictions()), (1, 0));
}

#[tokio::test]
async fn a_model_larger_than_the_card_waits_for_no_more_memory_than_there_is() {
    let host = Host::start(card(16, &[(A, 10), ("giant:1", 30)])).await;
    let gateway = Terms { queue: "max_wait: 4s", ..Terms::default() }.alone(&host).await;
    assert_eq!(served(&gateway, A).await, "host");
    super::several_polls().await;
    assert_eq!(served(&gateway, "giant:1").await, "host");
}

#[tokio::test]
async fn a_load_of_its_own_is_not_taken_for_memory_that_others_hold() {
    let host = Host::start(Settings {
        load_time: Duration::from_millis(1_500),
        ..card(24, &[(A, 23), (B, 23)])
    })
    .await;
    let gateway = Terms::default().alone(&host).await;
    for name in [A, B] {
        assert_eq!(served(&gateway, name).await, "host");
        super::several_polls().await;
    }
    assert_eq!(super::changes(&gateway, "open", "foreign").await, 0.0);
}
