use std::path::PathBuf;
use std::process::Stdio;

use sluicegate_simulator::{Settings, Simulator};
use sluicegate_test_support::{Gateway, skipped};

use super::{BIN, MODEL, simulator, upstream};

/// An SDK's suite, its chats on `/v1` all the way.
async fn suite(program: &str, script: &str) {
    let host = simulator(Settings::default()).await;
    let config = format!(
        "upstreams:\n{}routes:\n  - {{ model: assistant, targets: [{{ upstream: host, model: \"{MODEL}\" }}] }}\n",
        upstream("host", &host, "")
    );
    run_suite((program, script), &host, &config).await;
}

/// Runs an SDK's suite against gateways with `config` before `host`; `program` is the variable with
/// the interpreter that has the SDK, which `make test` sets. Says whether it could be run.
pub(crate) async fn run_suite(
    (program, script): (&str, &str),
    host: &Simulator,
    config: &str,
) -> bool {
    let Some(interpreter) = std::env::var_os(program) else {
        skipped(&format!("{program} is not set; `make test` sets it up"));
        return false;
    };
    // Scripted faults are not to trip the breaker.
    let common = format!("breaker: {{ errors: 1000 }}\n{config}");
    let open = Gateway::start(BIN, &common);
    let key = "sk-suite";
    let hash = blake3::hash(key.as_bytes()).to_hex();
    let keys = format!(
        "keys: [{{ name: suite, hash: \"blake3:{hash}\", models: [\"{MODEL}\"] }}]\nlimits: {{ body: 2MiB }}\n{common}"
    );
    let keyed = Gateway::start(BIN, &keys);
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/clients").join(script);
    let status = tokio::process::Command::new(interpreter)
        .arg(file)
        .env("GATEWAY", format!("http://{}/v1", open.data))
        .env("KEYED", format!("http://{}/v1", keyed.data))
        .env("KEY", key)
        .env("SIMULATOR", host.url())
        .stdin(Stdio::null())
        .status()
        .await
        .expect("the suite runs");
    assert!(status.success(), "{script}: {status}");
    true
}

#[tokio::test]
async fn the_python_sdk_is_served() {
    suite("SLUICEGATE_PYTHON", "python/suite.py").await;
}

#[tokio::test]
async fn the_node_sdk_is_served() {
    suite("SLUICEGATE_NODE", "node/suite.mjs").await;
}
