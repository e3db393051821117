//! An upstream in a container: the module on a real engine, and the gateway before one.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use sluicegate::upstream::container::{Container, Gpus, Settings, Start, StartError, State};
use sluicegate_test_support::{Gateway, docker, eventually, get, post, reserved};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{BIN, CHAT, MODEL, chat, simulator, upstream};

const IMAGE: &str = "sluicegate-simulator:test";

fn free_port() -> u16 {
    reserved().port()
}

fn settings(socket: PathBuf, name: &str, port: u16) -> Settings {
    Settings {
        image: IMAGE.to_owned(),
        name: name.to_owned(),
        gpus: Gpus::None,
        start: Start::OnDemand,
        stop_after_idle: Some(Duration::from_millis(500)),
        start_timeout: Duration::from_secs(15),
        publish: None,
        network: Some("host".to_owned()),
        volumes: Vec::new(),
        env: Vec::new(),
        command: Some(vec!["--listen".to_owned(), format!("127.0.0.1:{port}")]),
        socket: Some(socket),
    }
}

async fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        return false;
    };
    let mut answer = String::new();
    let request = b"GET /api/version HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.is_ok()
        && stream.read_to_string(&mut answer).await.is_ok()
        && answer.contains("200 OK")
}

async fn ensure(container: &Arc<Container>, port: u16) -> Result<(), StartError> {
    let gpus = || std::future::ready(Ok(Gpus::None)).boxed();
    let since = Instant::now();
    let outcome = container.ensure(move || answers(port).boxed(), gpus).await;
    eprintln!("ensure: {outcome:?} after {:?}", since.elapsed());
    outcome
}

#[tokio::test]
async fn a_container_lives_and_dies_on_a_real_engine() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let port = free_port();
    let make = |name: &str| settings(engine.socket(), name, port);
    let container = Arc::new(Container::new(make("fallback")));
    assert_eq!(container.adopt().await, State::Absent);
    // Started once for all who ask, and it answers.
    let both = tokio::join!(ensure(&container, port), ensure(&container, port));
    assert_eq!(both, (Ok(()), Ok(())));
    assert!(answers(port).await);

    // The gateway is started anew: it is adopted.
    drop(container);
    let container = Arc::new(Container::new(make("fallback")));
    assert_eq!(container.adopt().await, State::Running);
    assert_eq!(ensure(&container, port).await, Ok(()));

    // It dies, is noticed, and the same one is started again.
    let before = engine.ask("GET", "/containers/fallback/json", &[]).1;
    assert_eq!(engine.ask("POST", "/containers/fallback/kill", &[]).0, 204);
    tokio::time::sleep(Duration::from_secs(1)).await;
    container.suspect();
    assert_eq!(ensure(&container, port).await, Ok(()));
    let after = engine.ask("GET", "/containers/fallback/json", &[]).1;
    assert_eq!(before[..80], after[..80], "the id");

    // It idles and is stopped, and started again when needed.
    assert_eq!(container.stop_if_idle(1).await, Ok(false));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(container.stop_if_idle(0).await, Ok(true));
    assert!(!answers(port).await);
    assert_eq!(ensure(&container, port).await, Ok(()));

    // Two on one port: the first is not taken for the second.
    let second = Arc::new(Container::new(make("second")));
    assert_eq!(ensure(&second, port).await, Err(StartError::AddressTaken));
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    engine.build("other:1", docker::simulator().expect("built already"));
    let port = free_port();
    let make = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings(engine.socket(), "fallback", port);
        change(&mut settings);
        Arc::new(Container::new(settings))
    };
    let missing = make(&|settings| settings.image = "absent:9".to_owned());
    let image = "absent:9".to_owned();
    assert_eq!(ensure(&missing, port).await, Err(StartError::ImageMissing { image }));

    let broken = make(&|settings| settings.command = Some(vec!["--no-such-flag".to_owned()]));
    let cause = ensure(&broken, port).await.expect_err("it ends");
    let StartError::Exited { code: 2, log_tail } = &cause else { panic!("{cause:?}") };
    assert!(log_tail.contains("unexpected argument"), "{log_tail}");

    // A server that does not speak our HTTP has the port.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port");
    listener.set_nonblocking(true).expect("set");
    let closing = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let closing = tokio::spawn(async move { while closing.accept().await.is_ok() {} });
    let cause = ensure(&make(&|_| {}), port).await.expect_err("the port is in use");
    let StartError::Exited { code: 1, log_tail } = &cause else { panic!("{cause:?}") };
    assert!(log_tail.contains("in use"), "{log_tail}");
    closing.abort();
    assert!(closing.await.is_err_and(|ended| ended.is_cancelled()));

    // The broken one is ours: with settings that work, it is made anew.
    assert_eq!(ensure(&make(&|_| {}), port).await, Ok(()));

    engine.create("taken", "{\"Image\":\"other:1\"}");
    let taken = make(&|settings| settings.name = "taken".to_owned());
    let cause = ensure(&taken, port).await.expect_err("the name is taken");
    assert!(
        matches!(&cause, StartError::NameTaken { image, .. } if image == "other:1"),
        "{cause:?}"
    );

    // No NVIDIA runtime here: the engine's own words are told.
    let gpu = make(&|settings| (settings.name, settings.gpus) = ("gpu".to_owned(), Gpus::All));
    let wanted = || std::future::ready(Ok(Gpus::All)).boxed();
    let elsewhere = free_port();
    let outcome = gpu.ensure(move || answers(elsewhere).boxed(), wanted).await;
    eprintln!("gpu: {outcome:?}");
    assert!(matches!(outcome, Err(StartError::Engine(_))), "{outcome:?}");
}

/// Further keys of a container.
const IDLES: &str = ", stop_after_idle: 1s";

/// The upstream `fallback` in a container called `name`.
fn contained(
    engine: &docker::Engine,
    (image, name): (&str, &str),
    port: u16,
    more: &str,
) -> String {
    format!(
        "  fallback:\n    url: \"http://127.0.0.1:{port}\"\n    kind: ollama\n    container: \
         {{ image: \"{image}\", name: {name}, network: host, socket: \"{}\", start_timeout: 15s, \
         command: [\"--listen\", \"127.0.0.1:{port}\", \"--load\", \"0\", \"--first\", \"0\", \"--interval\", \"1\"]{more} }}\n",
        engine.socket().display()
    )
}

/// A route to `host`, and to `fallback` after it.
fn routed(host: &str, fallback: &str) -> String {
    format!(
        "upstreams:\n{host}{fallback}routes:\n  - {{ model: \"{MODEL}\", targets: [{{ upstream: host }}], \
         fallback: [{{ upstream: fallback }}] }}\n"
    )
}

fn dead() -> String {
    format!("  host: {{ url: \"http://{}\", kind: ollama }}\n", reserved())
}

async fn state(gateway: &Gateway) -> String {
    let answer = get(gateway.admin, "/api/upstreams").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let all = answer.json();
    let all = all["upstreams"].as_array().or(all.as_array()).expect("a list");
    let one = all.iter().find(|one| one["name"] == "fallback").expect("the fallback");
    one["container"].as_str().unwrap_or_else(|| panic!("{one}")).to_owned()
}

async fn is_up(gateway: &Gateway) -> bool {
    gateway.metric("sluicegate_upstream_container_up{upstream=\"fallback\"}").await == 1.0
}

/// The value of `field` of the container `name`.
fn inspected(engine: &docker::Engine, name: &str, field: &str) -> serde_json::Value {
    let (status, text) = engine.ask("GET", &format!("/containers/{name}/json"), &[]);
    assert_eq!(status, 200, "{text}");
    serde_json::from_str::<serde_json::Value>(&text).expect("JSON")[field].clone()
}

#[tokio::test]
async fn twenty_requests_at_once_start_one_container_that_idles_and_comes_back() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let text = routed(&dead(), &contained(&engine, (IMAGE, "spare"), free_port(), IDLES));
    let gateway = Gateway::start(BIN, &text);
    eventually("it is looked for", async || state(&gateway).await == "absent").await;
    assert!(!is_up(&gateway).await);
    let asked = (0..20).map(|_| {
        let data = gateway.data;
        tokio::spawn(async move { post(data, CHAT, chat("")).await })
    });
    for one in asked.collect::<Vec<_>>() {
        let answer = one.await.expect("answered");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-sluicegate-upstream"), Some("fallback"));
    }
    assert_eq!(state(&gateway).await, "running");
    assert!(is_up(&gateway).await);
    let first = inspected(&engine, "spare", "Id");
    assert_eq!(inspected(&engine, "spare", "RestartCount"), 0);
    assert_eq!(gateway.stderr().matches("the container runs and answers").count(), 1);

    eventually("it is stopped", async || state(&gateway).await == "stopped").await;
    assert_eq!(inspected(&engine, "spare", "State")["Running"], false);
    assert!(!is_up(&gateway).await);
    let answer = post(gateway.data, CHAT, chat("\"stream\":true")).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    assert_eq!(inspected(&engine, "spare", "Id"), first, "the same one is started again");
}

#[tokio::test]
async fn a_container_is_not_stopped_under_a_request() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let spare = contained(&engine, (IMAGE, "spare"), free_port(), IDLES);
    // 24 tokens: well over the idle time.
    let text = routed(&dead(), &spare.replace("\"--interval\", \"1\"", "\"--interval\", \"150\""));
    let gateway = Gateway::start(BIN, &text);
    for more in ["\"stream\":true", ""] {
        let answer = post(gateway.data, CHAT, chat(more)).await;
        let text = answer.text();
        assert_eq!(answer.status, 200, "{text}");
        assert!(!text.contains("\"error\""), "{text}");
        assert_eq!(state(&gateway).await, "running");
    }
    eventually("it is stopped", async || state(&gateway).await == "stopped").await;
}

#[tokio::test]
async fn a_gateway_adopts_what_the_one_before_started() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let spare = contained(&engine, (IMAGE, "spare"), free_port(), ", stop_after_idle: 3s");
    let text = routed(&dead(), &spare);
    let mut before = Gateway::start(BIN, &text);
    assert_eq!(post(before.data, CHAT, chat("")).await.status, 200);
    let started = inspected(&engine, "spare", "State")["StartedAt"].clone();
    before.signal(rustix::process::Signal::TERM);
    assert!(before.wait().success());
    assert_eq!(inspected(&engine, "spare", "State")["Running"], true, "it runs on");
    let after = Gateway::start(BIN, &text);
    eventually("it is adopted", async || state(&after).await == "running").await;
    assert_eq!(post(after.data, CHAT, chat("")).await.status, 200);
    assert_eq!(inspected(&engine, "spare", "State")["StartedAt"], started, "not started anew");
    eventually("it is stopped", async || state(&after).await == "stopped").await;
}

#[tokio::test]
async fn a_container_that_dies_is_started_again() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let text = routed(&dead(), &contained(&engine, (IMAGE, "spare"), free_port(), ""));
    let gateway = Gateway::start(BIN, &format!("breaker: {{ errors: 1000 }}\n{text}"));
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
    assert_eq!(engine.ask("POST", "/containers/spare/kill", &[]).0, 204);
    eventually("it serves again", async || post(gateway.data, CHAT, chat("")).await.status == 200)
        .await;
    assert_eq!(state(&gateway).await, "running");
}

#[tokio::test]
async fn without_the_image_the_client_is_told_what_to_do_and_others_serve() {
    let Some(engine) = docker::Engine::start() else { return };
    let missing = contained(&engine, ("absent:9", "spare"), free_port(), "");
    let gateway = Gateway::start(BIN, &routed(&dead(), &missing));
    for more in ["", "\"stream\":true"] {
        let answer = post(gateway.data, CHAT, chat(more)).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains("docker pull absent:9"), "{message}");
    }
    assert_eq!(state(&gateway).await, "failed");

    // Before the host, it is passed over.
    let host = simulator(sluicegate_simulator::Settings::default()).await;
    let text = format!(
        "upstreams:\n{}{missing}routes:\n  - {{ model: \"{MODEL}\", targets: [{{ upstream: fallback }}], \
         fallback: [{{ upstream: host }}] }}\n",
        upstream("host", &host, "")
    );
    let gateway = Gateway::start(BIN, &text);
    for _ in 0..8 {
        let answer = post(gateway.data, CHAT, chat("")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-sluicegate-upstream"), Some("host"));
    }
}

#[tokio::test]
async fn without_an_engine_the_client_is_told_so_and_others_serve() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let socket = dir.path().join("absent.sock");
    let host = simulator(sluicegate_simulator::Settings::default()).await;
    let spare = format!(
        "  fallback: {{ url: \"http://{}\", kind: ollama, container: {{ image: x, name: spare, socket: \"{}\" }} }}\n",
        reserved(),
        socket.display()
    );
    let gateway = Gateway::start(BIN, &routed(&upstream("host", &host, ""), &spare));
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
    assert_eq!(state(&gateway).await, "failed");
    let gateway = Gateway::start(BIN, &routed(&dead(), &spare));
    let answer = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("no Docker Engine answers at"), "{}", answer.text());
}

#[tokio::test]
async fn a_host_that_hangs_is_replaced_by_the_container() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let host = simulator(sluicegate_simulator::Settings::default()).await;
    let before = upstream("host", &host, "timeouts: { first_byte: 500ms, total: 10s }");
    let spare = contained(&engine, (IMAGE, "spare"), free_port(), IDLES);
    let gateway = Gateway::start(BIN, &routed(&before, &spare));
    let served = async || {
        let answer = post(gateway.data, CHAT, chat("\"stream\":true")).await;
        assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
        answer.header("x-sluicegate-upstream").map(str::to_owned)
    };
    assert_eq!(served().await.as_deref(), Some("host"));
    eventually("nobody started it", async || state(&gateway).await == "absent").await;
    host.hang(true);
    for _ in 0..3 {
        assert_eq!(served().await.as_deref(), Some("fallback"));
    }
    assert_eq!(state(&gateway).await, "running");
    host.hang(false);
    eventually("the host serves again", async || served().await.as_deref() == Some("host")).await;
    eventually("the container is stopped", async || state(&gateway).await == "stopped").await;
}

#[tokio::test]
async fn a_container_started_with_the_gateway_is_not_stopped() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let more = ", start: always, stop_after_idle: 500ms";
    let text = routed(&dead(), &contained(&engine, (IMAGE, "spare"), free_port(), more));
    let gateway = Gateway::start(BIN, &text);
    eventually("it runs", async || state(&gateway).await == "running").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(state(&gateway).await, "running");

    let never = contained(&engine, (IMAGE, "never"), free_port(), ", start: never");
    let gateway = Gateway::start(BIN, &routed(&dead(), &never));
    let answer = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.text().contains("start: never"), "{}", answer.text());
}

#[tokio::test]
async fn a_container_moves_when_its_upstream_does() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let (port, other) = (free_port(), free_port());
    let gateway =
        Gateway::start(BIN, &routed(&dead(), &contained(&engine, (IMAGE, "spare"), port, "")));
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
    let first = inspected(&engine, "spare", "Id");
    // The same container with other settings: made anew, at the new address.
    gateway.write_config(&routed(&dead(), &contained(&engine, (IMAGE, "spare"), other, "")));
    gateway.signal(rustix::process::Signal::HUP);
    eventually("it is at its new address", async || {
        let answer = post(gateway.data, CHAT, chat("")).await;
        answer.status == 200 && answers(other).await && !answers(port).await
    })
    .await;
    assert_ne!(inspected(&engine, "spare", "Id"), first);
}

#[tokio::test]
async fn a_tripped_breaker_does_not_keep_a_container_from_being_started_again() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let spare = contained(&engine, (IMAGE, "spare"), free_port(), "");
    let text = routed(&dead(), &spare);
    let gateway =
        Gateway::start(BIN, &format!("breaker: {{ errors: 1, open_for: 500ms }}\n{text}"));
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
    assert_eq!(engine.ask("POST", "/containers/spare/kill", &[]).0, 204);
    assert_ne!(post(gateway.data, CHAT, chat("")).await.status, 200, "it trips");
    eventually("it serves again", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        post(gateway.data, CHAT, chat("")).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_model_is_served_by_its_own_name_from_a_container_that_does_not_run_yet() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let spare = contained(&engine, (IMAGE, "spare"), free_port(), IDLES);
    let gateway = Gateway::start(BIN, &format!("upstreams:\n{spare}"));
    for _ in 0..2 {
        let answer = post(gateway.data, CHAT, chat("")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        eventually("it is stopped", async || state(&gateway).await == "stopped").await;
    }
}

#[tokio::test]
async fn a_model_that_has_to_be_loaded_first_is_loaded_in_a_container_that_has_to_be_started() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let spare = contained(&engine, (IMAGE, "spare"), free_port(), IDLES);
    let spare = spare.replacen("kind: ollama", "kind: ollama\n    vram: 24GiB", 1);
    let other = "  - { model: \"gpt-oss:20b\", targets: [{ upstream: fallback }] }\n";
    let gateway = Gateway::start(BIN, &(routed(&dead(), &spare) + other));
    for model in [MODEL, "gpt-oss:20b"] {
        let answer = post(gateway.data, CHAT, chat("").replace(MODEL, model)).await;
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        eventually("it is stopped", async || state(&gateway).await == "stopped").await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_the_start_and_others_wait_for_it() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let text = routed(&dead(), &contained(&engine, (IMAGE, "spare"), free_port(), ""));
    let gateway =
        Gateway::start(BIN, &text.replace(" fallback: [", " wait_comments: 100ms, fallback: ["));
    let mut leaves = sluicegate_test_support::Connection::open(gateway.data).await;
    leaves.post(CHAT, chat("")).await;
    eventually("it starts", async || ["starting", "running"].contains(&&*state(&gateway).await))
        .await;
    drop(leaves);
    let answer = post(gateway.data, CHAT, chat("\"stream\":true")).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    eventually("nobody has a place", async || {
        gateway.metric("sluicegate_admission_in_flight{upstream=\"fallback\"}").await == 0.0
    })
    .await;
}

#[tokio::test]
async fn a_reload_does_not_forget_a_container_that_runs() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let port = free_port();
    let text = |more: &str| routed(&dead(), &contained(&engine, (IMAGE, "spare"), port, more));
    let gateway = Gateway::start(BIN, &text(", stop_after_idle: 10m"));
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
    gateway.write_config(&text(IDLES));
    gateway.signal(rustix::process::Signal::HUP);
    eventually("it is stopped", async || state(&gateway).await == "stopped").await;
}

#[tokio::test]
async fn a_container_that_gets_another_name_is_not_in_its_own_way() {
    let Some(engine) = docker::Engine::with_simulator(IMAGE) else { return };
    let port = free_port();
    let text = |name: &str| routed(&dead(), &contained(&engine, (IMAGE, name), port, IDLES));
    let gateway = Gateway::start(BIN, &text("spare"));
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
    gateway.write_config(&text("renamed"));
    gateway.signal(rustix::process::Signal::HUP);
    eventually("the new one serves", async || {
        let (status, _) = engine.ask("GET", "/containers/renamed/json", &[]);
        post(gateway.data, CHAT, chat("")).await.status == 200 && status == 200
    })
    .await;
}
