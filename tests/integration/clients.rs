use std::path::PathBuf;
use std::process::Stdio;

use sluicegate_simulator::Settings;
use sluicegate_test_support::Gateway;

use super::{BIN, MODEL, simulator, upstream};

/// Runs an SDK's suite; `program` is the variable with the interpreter that has the SDK, which
/// `make test` sets.
async fn suite(program: &str, script: &str) {
    let Some(interpreter) = std::env::var_os(program) else {
        return eprintln!("skipped: {program} is not set; `make test` sets it up");
    };
    let simulator = simulator(Settings::default()).await;
    let routes = format!(
        "routes:\n  - {{ model: assistant, targets: [{{ upstream: host, model: \"{MODEL}\" }}] }}\n"
    );
    // Scripted faults are not to trip the breaker.
    let common = format!(
        "breaker: {{ errors: 1000 }}\nupstreams:\n{}{routes}",
        upstream("host", &simulator, "")
    );
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
        .env("SIMULATOR", simulator.url())
        .stdin(Stdio::null())
        .status()
        .await
        .expect("the suite runs");
    assert!(status.success(), "{script}: {status}");
}

#[tokio::test]
async fn the_python_sdk_is_served() {
    suite("SLUICEGATE_PYTHON", "python/suite.py").await;
}

#[tokio::test]
async fn the_node_sdk_is_served() {
    suite("SLUICEGATE_NODE", "node/suite.mjs").await;
}
