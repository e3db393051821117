use std::process::Output;
use std::time::Duration;

use sluicegate_simulator::Settings;
use sluicegate_test_support::{Connection, Gateway, Response, eventually, request};
use tokio::process::Command;

use super::{A, B, GIB, Host, Terms, admin, ask, card, chat, model, served, stream, wait_for};
use crate::{BIN, CHAT, upstream};

fn two() -> Settings {
    Settings { token_interval: Duration::from_millis(20), ..card(16, &[(A, 10), (B, 10)]) }
}

async fn program(gateway: &Gateway, arguments: &[&str]) -> Output {
    let admin = format!("http://{}", gateway.admin);
    let run = Command::new(BIN).args(arguments).args(["--admin", &admin]).output();
    tokio::time::timeout(sluicegate_test_support::PATIENCE, run)
        .await
        .expect("it ends")
        .expect("it runs")
}

/// Runs `sluicegate model` and gives what it printed.
async fn done(gateway: &Gateway, action: &str, model: &str) -> String {
    let output = program(gateway, &["model", action, model]).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

async fn is_resident(gateway: &Gateway, name: &str) -> bool {
    model(gateway, name).await["resident"] == true
}

#[tokio::test]
async fn people_load_unload_and_pin_models() {
    let host = Host::start(two()).await;
    let gateway = Terms::default().alone(&host).await;
    assert_eq!(done(&gateway, "load", A).await, "a:1 is loaded\n");
    assert_eq!(host.loads(A), 1);
    assert_eq!(done(&gateway, "load", A).await, "a:1 is loaded\n", "it was there already");
    assert_eq!(host.loads(A), 1);
    done(&gateway, "load", B).await;
    assert_eq!(host.loads(B), 1, "the idle one made room");
    done(&gateway, "unload", B).await;
    eventually("it is gone", async || !is_resident(&gateway, B).await).await;
    done(&gateway, "pin", A).await;
    assert_eq!(host.loads(A), 2);
    assert_eq!(model(&gateway, A).await["pinned"], true);
    let refused = program(&gateway, &["model", "load", B]).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("does not fit beside what is in use or pinned"), "{said}");
    done(&gateway, "unpin", A).await;
    assert_eq!(model(&gateway, A).await["pinned"], false);
    done(&gateway, "load", B).await;
    assert_eq!((host.loads(A), host.loads(B)), (2, 2));
}

#[tokio::test]
async fn a_command_is_not_answered_from_before_the_one_before() {
    let host = Host::start(two()).await;
    let gateway = Terms::default().alone(&host).await;
    for times in 1..=5 {
        done(&gateway, "load", A).await;
        assert_eq!(host.loads(A), times);
        done(&gateway, "unload", A).await;
        assert!(!is_resident(&gateway, A).await);
    }
    done(&gateway, "pin", A).await;
    assert_eq!(host.loads(A), 6);
}

#[tokio::test]
async fn a_model_is_unpinned_under_any_of_its_names() {
    let host = Host::start(card(16, &[("plain:latest", 4)])).await;
    let gateway = Terms::default().alone(&host).await;
    done(&gateway, "pin", "plain").await;
    assert_eq!(model(&gateway, "plain:latest").await["pinned"], true);
    done(&gateway, "unpin", "plain:latest").await;
    assert_eq!(model(&gateway, "plain:latest").await["pinned"], false);
}

#[tokio::test]
async fn a_model_that_is_pinned_no_more_leaves_like_any_other() {
    let host = Host::start(two()).await;
    let gateway = Terms::default().alone(&host).await;
    done(&gateway, "pin", A).await;
    eventually("it stays", async || model(&gateway, A).await["expires_in"].is_null()).await;
    done(&gateway, "unpin", A).await;
    eventually("it leaves one day", async || model(&gateway, A).await["expires_in"].is_u64()).await;
}

#[tokio::test]
async fn a_model_that_the_configuration_pins_is_not_said_to_be_unpinned() {
    let host = Host::start(two()).await;
    let kept = format!("models: {{ \"{A}\": {{ pin: true }} }}");
    let gateway = Terms { host: &kept, ..Terms::default() }.alone(&host).await;
    let output = program(&gateway, &["model", "unpin", A]).await;
    assert_eq!(model(&gateway, A).await["pinned"], true);
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn a_model_nobody_has_is_an_error_and_no_gateway_is_one_too() {
    let host = Host::start(two()).await;
    let gateway = Terms::default().alone(&host).await;
    for action in ["load", "unload", "pin", "unpin"] {
        let output = program(&gateway, &["model", action, "nobody:1"]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{action}: {said}");
        assert!(said.contains("no Ollama among the upstreams has `nobody:1`"), "{action}: {said}");
    }
    for action in ["load", "unload", "pin"] {
        let there = ["model", action, "nobody:1", "--upstream", "host"];
        let output = program(&gateway, &there).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{action} at host: {said}");
        assert!(said.contains("no such model"), "{action} at host: {said}");
    }
    let events = admin(&gateway, "/api/events").await;
    let about = |one: &&serde_json::Value| one["model"] == "nobody:1";
    let noted: Vec<_> = events.as_array().expect("a list").iter().filter(about).collect();
    assert!(noted.is_empty(), "nothing was done: {noted:?}");
    let nowhere = program(&gateway, &["model", "load", A, "--upstream", "nowhere"]).await;
    assert_eq!(nowhere.status.code(), Some(1));
    let dead = format!("http://{}", sluicegate_test_support::reserved());
    let output = Command::new(BIN).args(["status", "--admin", &dead]).output().await.expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no gateway answers at") && said.contains("--admin"), "{said}");
    let data = format!("http://{}", gateway.data);
    let output = Command::new(BIN).args(["status", "--admin", &data]).output().await.expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("is not the admin listener of a gateway"), "{said}");
}

#[tokio::test]
async fn a_pin_of_what_cannot_be_loaded_is_told_to_hold() {
    let mut host = Host::start(two()).await;
    let gateway = Terms::default().alone(&host).await;
    host.simulator.kill().await;
    let output = program(&gateway, &["model", "pin", A]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("`a:1` at `host`: it is pinned, but not loaded yet: "), "{said}");
}

#[tokio::test]
async fn an_unload_waits_for_the_requests_of_a_model() {
    let host = Host::start(two()).await;
    let gateway = Terms::default().alone(&host).await;
    let mut long = stream(&gateway, A, 40).await;
    done(&gateway, "unload", A).await;
    let body = long.body().await.expect("whole");
    assert!(body.ends_with(b"data: [DONE]\n\n"));
    eventually("it is gone", async || !is_resident(&gateway, A).await).await;
}

async fn act(gateway: &Gateway, headers: &str, body: &str) -> Response {
    let head = format!(
        "POST /api/models/load HTTP/1.1\r\nHost: g\r\n{headers}Content-Length: {}",
        body.len()
    );
    request(gateway.admin, &head, body.as_bytes()).await
}

#[tokio::test]
async fn a_web_page_cannot_load_models() {
    let host = Host::start(two()).await;
    let gateway = Terms::default().alone(&host).await;
    let body = format!(r#"{{"model":"{A}"}}"#);
    let json = "Content-Type: application/json\r\n";
    for headers in [
        String::new(),
        "Content-Type: text/plain\r\n".into(),
        "Content-Type: application/x-www-form-urlencoded\r\n".into(),
        format!("{json}Origin: https://example.com\r\n"),
        format!("{json}Origin: null\r\n"),
    ] {
        let answer = act(&gateway, &headers, &body).await;
        assert_eq!(answer.status, 403, "{headers}: {}", answer.text());
    }
    for (body, status) in [
        ("{", 400),
        ("{}", 400),
        (r#"{"model":"a:1","what":1}"#, 400),
        (r#"{"model":"nobody:1"}"#, 404),
        (r#"{"model":"a:1","upstream":"nowhere"}"#, 404),
    ] {
        let answer = act(&gateway, json, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.json()["error"]["message"].is_string());
    }
    let read = sluicegate_test_support::get(gateway.admin, "/api/models/load").await;
    assert_eq!((read.status, read.header("allow")), (405, Some("POST")));
    assert_eq!(host.loads(A), 0);
    let answer = act(&gateway, json, &body).await;
    assert_eq!((answer.status, answer.json()["done"].as_bool()), (200, Some(true)));
    assert_eq!(host.loads(A), 1);
}

#[tokio::test]
async fn pins_outlive_a_restart() {
    let host = Host::start(two()).await;
    let more = format!("state_dir: \"{}\"", host.state_dir().display());
    let terms = Terms { more: &more, ..Terms::default() };
    let mut gateway = terms.alone(&host).await;
    done(&gateway, "pin", A).await;
    gateway.signal(rustix::process::Signal::TERM);
    assert!(gateway.wait().success());
    host.unload(A).await;
    let again = terms.alone(&host).await;
    assert_eq!(model(&again, A).await["pinned"], true);
    eventually("it is loaded again", async || host.loads(A) == 2).await;
    done(&again, "unpin", A).await;
    assert_eq!(model(&again, A).await["pinned"], false);
}

#[tokio::test]
async fn one_screen_shows_gpus_upstreams_models_waiting_and_what_happened() {
    let host = Host::start(two()).await;
    let gateway = Terms { host: "max_concurrent: 1", ..Terms::default() }.alone(&host).await;
    assert_eq!(served(&gateway, B).await, "host");
    eventually("they change places", async || chat(&gateway, A).await.status == 200).await;
    let _holder = stream(&gateway, A, 100_000).await;
    let mut client = Connection::open(gateway.data).await;
    client.post(CHAT, ask(A, "")).await;
    wait_for(&gateway, 1).await;
    eventually("the card is read", async || {
        admin(&gateway, "/api/gpu").await["gpus"][0]["utilization"] == 1.0
    })
    .await;
    let output = program(&gateway, &["status"]).await;
    assert!(output.status.success());
    let screen = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "GPUS\n  amdgpu:card0",
        "10.0 GiB / 16.0 GiB",
        "100 % busy",
        "45 C",
        "UPSTREAMS\n  host",
        "breaker closed",
        "in flight 1/1  waiting 1",
        "LOADED\n  host",
        "a:1  10.0 GiB  100 % on the GPU  context 8192",
        "WAITING for host: 1\n    1  anonymous  a:1",
        "LATELY\n",
        "host b:1: evicted for a:1",
        "host a:1: loaded in",
    ] {
        assert!(screen.contains(part), "{part:?} is missing:\n{screen}");
    }
    let output = program(&gateway, &["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for key in ["version", "upstreams", "gpus", "models", "queues", "events"] {
        assert!(!status[key].is_null(), "{key} is missing: {status}");
    }
    let page = gateway.metrics().await;
    crate::operations::satisfies_promtool(&page);
}

#[tokio::test]
async fn a_model_in_use_is_no_room_and_idle_ones_beside_it_are() {
    let host = Host::start(card(16, &[(A, 6), (B, 4)])).await;
    let gateway = Terms::default().alone(&host).await;
    for model in [A, B] {
        assert_eq!(served(&gateway, model).await, "host");
    }
    // Half a GiB is the reserve.
    let free = 16 * GIB - 10 * GIB - GIB / 2;
    let idle = async |gib: u64| {
        eventually(&format!("{gib} GiB are idle"), async || {
            let status = super::host_status(&gateway).await;
            status["idle"] == gib * GIB && status["headroom"] == free + gib * GIB
        })
        .await;
    };
    idle(10).await;
    let long = stream(&gateway, A, 100_000).await;
    idle(4).await;
    let screen = program(&gateway, &["status"]).await.stdout;
    let screen = String::from_utf8_lossy(&screen).into_owned();
    assert!(screen.contains("  room 5.5 GiB + 4.0 GiB idle"), "{screen}");
    drop(long);
    idle(10).await;
    done(&gateway, "pin", B).await;
    idle(6).await;
}

#[tokio::test]
async fn how_full_a_gpu_is_is_told_the_same_everywhere_and_nothing_is_called_nothing() {
    let host = Host::start(card(16, &[(A, 4)])).await;
    let gateway = Terms { vram: "trip: percent", ..Terms::default() }.alone(&host).await;
    let screen = program(&gateway, &["status"]).await.stdout;
    assert!(String::from_utf8_lossy(&screen).contains("LATELY\n  nothing\n"));
    // 88.75 %.
    host.simulator.scheduler().set_foreign(14 * GIB + GIB / 5);
    eventually("it is warned of", async || {
        let screen = program(&gateway, &["status"]).await.stdout;
        let screen = String::from_utf8_lossy(&screen).into_owned();
        screen.contains("host: warning: 88 % of the GPU's memory is in use")
            && screen.contains("14.2 GiB / 16.0 GiB  88 %")
    })
    .await;
}

#[tokio::test]
async fn a_gateway_admits_by_the_gpus_of_another_machine() {
    let host = Host::start(two()).await;
    let near = format!("admin_token: env:ADMIN_TOKEN\n{}", Terms::default().config(&host));
    let token = [("ADMIN_TOKEN", "letmein")];
    let near = Gateway::start_with(BIN, &near, &token);
    let behind = format!("gpus: {{ remote: \"http://{}\", token: env:ADMIN_TOKEN }}", near.admin);
    let far = format!(
        "gpus: {{ probe: none }}\nadmission: {{ queue: {{ min_residency: 200ms }}, vram: {{ poll: 50ms, trip_after: 100ms, recover_after: 300ms }} }}\nbreaker: {{ open_for: 200ms }}\nupstreams:\n{}",
        upstream("host", &host.simulator, &behind)
    );
    let far = Gateway::start_with(BIN, &far, &token);
    super::measured(&far, "host").await;
    let status = super::host_status(&far).await;
    assert_eq!(status["vram_total"], 16 * super::GIB);
    for name in [A, B, A] {
        eventually("it has its turn", async || served(&far, name).await == "host").await;
    }
    assert_eq!((host.loads(A), host.loads(B)), (2, 1));
    assert_eq!(host.simulator.scheduler().swaps(), 0);
    host.simulator.scheduler().set_foreign(6 * super::GIB);
    let status = super::breaker_is(&far, "open").await;
    assert_eq!(status["breaker_reason"], "others hold 6144 MiB of the GPU's memory");
    host.simulator.scheduler().set_foreign(0);
    eventually("it serves again", async || chat(&far, A).await.status == 200).await;
    super::breaker_is(&far, "closed").await;
    // What is not known any more holds nobody up.
    drop(near);
    assert_eq!(served(&far, A).await, "host");
}
