use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use sluicegate_simulator::Settings;
use sluicegate_test_support::{Connection, Gateway, eventually, get, post, reserved};

use super::{BIN, CHAT, chat, paced, simulator, upstream};

fn check(file: &Path) -> Output {
    Command::new(BIN).arg("check").arg(file).env("OPENROUTER_API_KEY", "x").output().expect("runs")
}

fn shipped() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

#[test]
fn every_shipped_file_is_good() {
    let mut checked = 0;
    for dir in [shipped(), shipped().join("examples")] {
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|kind| kind == "yaml") {
                let output = check(&path);
                assert!(
                    output.status.success(),
                    "{}: {}",
                    path.display(),
                    String::from_utf8_lossy(&output.stderr)
                );
                checked += 1;
            }
        }
    }
    assert!(checked >= 3, "{checked}");
}

/// The reference names every key of the schema, in its values or in its comments.
#[test]
fn the_reference_has_every_key() {
    let text = std::fs::read_to_string(shipped().join("sluicegate.yaml")).expect("readable");
    let schema: serde_json::Value = serde_json::from_str(
        &std::fs::read_to_string(shipped().join("sluicegate.schema.json")).expect("readable"),
    )
    .expect("JSON");
    let mut names = Vec::new();
    properties(&schema, &mut names);
    let missing: Vec<&String> =
        names.iter().filter(|name| !text.contains(&format!("{name}:"))).collect();
    assert!(missing.is_empty(), "not in config/sluicegate.yaml: {missing:?}");
}

fn properties(node: &serde_json::Value, names: &mut Vec<String>) {
    let Some(object) = node.as_object() else { return };
    if let Some(found) = object.get("properties").and_then(|found| found.as_object()) {
        names.extend(found.keys().cloned());
    }
    object.values().for_each(|child| properties(child, names));
}

#[test]
fn the_shipped_schema_is_the_one_of_this_program() {
    let shipped =
        std::fs::read_to_string(shipped().join("sluicegate.schema.json")).expect("readable");
    let output = Command::new(BIN).arg("schema").output().expect("runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        shipped,
        "run `sluicegate schema > config/sluicegate.schema.json`"
    );
}

#[test]
fn a_wrong_file_is_refused_with_its_place_and_exit_code_64() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = dir.path().join("wrong.yaml");
    std::fs::write(
        &file,
        "upstreams:\n  host: { url: http://127.0.0.1:1, kind: ollama, max_concurent: 4 }\n",
    )
    .expect("written");
    let output = check(&file);
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("wrong.yaml:2:") && text.contains("did you mean `max_concurrent`?"),
        "{text}"
    );
    let served = Command::new(BIN).args(["serve", "--config"]).arg(&file).output().expect("runs");
    assert_eq!(served.status.code(), Some(64));
}

#[tokio::test]
async fn a_reload_takes_effect_at_once_and_leaves_running_streams_alone() {
    let (first, second) = (
        simulator(paced(8, Duration::from_millis(150))).await,
        simulator(Settings::default()).await,
    );
    let config = |to: &str| format!("upstreams:\n{to}");
    let gateway = Gateway::start(BIN, &config(&upstream("host", &first, "")));
    let mut idle = Connection::open(gateway.data).await;
    idle.send("GET / HTTP/1.1\r\nHost: g\r\n\r\n").await;
    assert_eq!(idle.response().await.status, 200);
    let mut running = Connection::open(gateway.data).await;
    running.post(CHAT, chat(r#""stream":true"#)).await;
    running.head().await;
    running.part().await.expect("whole").expect("an event");
    gateway.write_config(&config(&upstream("other", &second, "")));
    gateway.signal(Signal::HUP);
    eventually("new requests go to the new upstream", async || {
        post(gateway.data, CHAT, chat("")).await.header("x-sluicegate-upstream") == Some("other")
    })
    .await;
    idle.post(CHAT, chat("")).await;
    let answer = idle.response().await;
    assert_eq!(answer.header("x-sluicegate-upstream"), Some("other"), "on a kept connection too");
    let rest = running.body().await.expect("whole");
    assert!(rest.ends_with(b"data: [DONE]\n\n"), "the stream runs to its end");
    assert_eq!(first.recorder().aborted(), 0);
}

#[tokio::test]
async fn a_changed_file_is_noticed_and_a_bad_one_keeps_the_last_good() {
    let simulator = simulator(Settings::default()).await;
    let good = format!("upstreams:\n{}", upstream("host", &simulator, ""));
    let gateway = Gateway::start(BIN, &good);
    let (successful, hash) = ("sluicegate_config_last_reload_successful", "sluicegate_config_hash");
    assert_eq!(gateway.metric(successful).await, 1.0);
    let first = gateway.metric(hash).await;
    gateway.write_config("upstreams:\n  host: { url: nonsense, kind: ollama }\n");
    eventually("the refusal is logged", async || gateway.stderr().contains("last good one stays"))
        .await;
    assert!(gateway.stderr().contains("config.yaml:4:"), "{}", gateway.stderr());
    assert_eq!(post(gateway.data, CHAT, chat("")).await.status, 200);
    assert_eq!(gateway.metric("sluicegate_config_reloads_total{result=\"error\"}").await, 1.0);
    assert_eq!((gateway.metric(successful).await, gateway.metric(hash).await), (0.0, first));
    let shown =
        || async { get(gateway.admin, "/api/status").await.json()["config_problem"].clone() };
    assert!(shown().await.to_string().contains("config.yaml:4:"), "{}", shown().await);
    gateway.write_config(&format!(
        "upstreams:\n  host: {{ url: \"http://{}\", kind: ollama }}\n",
        reserved()
    ));
    eventually("the change is in force", async || {
        post(gateway.data, CHAT, chat("")).await.status == 502
    })
    .await;
    assert_eq!(gateway.metric(successful).await, 1.0);
    assert!(shown().await.is_null());
    assert_ne!(gateway.metric(hash).await, first);
    let at = "sluicegate_config_last_reload_success_timestamp_seconds";
    assert!(gateway.metric(at).await > 1e9);
    let tls = "tls: { cert: /nope/c.pem, key: /nope/k.pem }";
    for (more, expected) in [
        (
            "workers: 2\nh2c: true\n",
            "`workers`, `h2c` takes effect when the process is started anew",
        ),
        (&*format!("{tls}\n"), "/nope/c.pem"),
    ] {
        gateway.write_config(&format!("{good}{more}"));
        eventually("it is told", async || shown().await.to_string().contains(expected)).await;
    }
    gateway.write_config(&good);
    eventually("it is as it was", async || shown().await.is_null()).await;
    gateway.write_config(&format!("{good}breaker: {{ errors: 50 }}\n"));
    eventually("and back again", async || post(gateway.data, CHAT, chat("")).await.status == 200)
        .await;
}

#[tokio::test]
async fn a_reload_never_opens_a_door() {
    let simulator = simulator(Settings::default()).await;
    let upstreams = format!("upstreams:\n{}", upstream("host", &simulator, ""));
    let hash = blake3::hash(b"sk-test").to_hex();
    let keyed =
        format!("listen: 0.0.0.0:0\nkeys: [{{ name: a, hash: \"blake3:{hash}\" }}]\n{upstreams}");
    let gateway = Gateway::start(BIN, &keyed);
    let port = gateway.data.port();
    let data = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(post(data, CHAT, chat("")).await.status, 401);
    // The socket stays where it is, whatever the file says now.
    gateway.write_config(&format!("listen: 127.0.0.1:0\n{upstreams}"));
    eventually("the refusal is logged", async || {
        gateway.stderr().contains("reachable from other machines")
    })
    .await;
    std::fs::write(gateway.config_path(), "").expect("written");
    eventually("so is that of an empty file", async || {
        gateway.stderr().contains("the file is empty")
    })
    .await;
    assert_eq!(post(data, CHAT, chat("")).await.status, 401);
}
