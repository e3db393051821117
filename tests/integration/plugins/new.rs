use std::path::Path;
use std::process::{Command, Output};

use super::BIN;

fn run(command: &mut Command) -> Output {
    let output = command.env_remove("RUSTFLAGS").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    output
}

#[test]
fn a_new_plugin_builds_passes_its_tests_and_decides() {
    let dir = tempfile::tempdir().expect("a directory");
    run(Command::new(BIN).args(["plugin", "new", "my-router"]).current_dir(&dir));
    let plugin = dir.path().join("my-router");
    let again = Command::new(BIN).args(["plugin", "new", "my-router"]).current_dir(&dir).output();
    assert!(!again.expect("it runs").status.success(), "nothing is written over");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("root");
    let cargo = |arguments: &[&str]| {
        let target = root.join("target/guests");
        run(Command::new(env!("CARGO"))
            .args(arguments)
            .arg("--quiet")
            .arg("--target-dir")
            .arg(target)
            .current_dir(&plugin));
    };
    cargo(&["test"]);
    cargo(&["build", "--release", "--target", "wasm32-wasip2"]);
    let wasm = root.join("target/guests/wasm32-wasip2/release/plugin.wasm");
    let trial = |state: &[&str]| {
        let mut command = Command::new(BIN);
        command.args(["plugin", "test"]).arg(&wasm).args(["--requests", "requests.jsonl"]);
        let output = run(command.args(["--deadline", "1s"]).args(state).current_dir(&plugin));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = trial(&["--state", "state.json"]);
    assert!(said.starts_with("my-router 0.1.0: router;"), "{said}");
    assert_eq!(said.matches("router: \"headroom\": large/").count(), 3, "{said}");
    assert!(trial(&[]).contains("host/model"), "without a state there is one target");
}

#[test]
fn a_plugin_that_fails_fails_its_trial() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("r.jsonl"), "{\"model\":\"m\",\"messages\":[]}\n").expect("written");
    for (task, complaint) in [("trap", "FAILED trap"), ("nan", "FAILED the weight of target 0")] {
        let state =
            format!(r#"{{"config":{{"do":"{task}"}},"targets":[{{"upstream":"u","model":"m"}}]}}"#);
        std::fs::write(path("s.json"), state).expect("written");
        let output = Command::new(BIN)
            .args(["plugin", "test"])
            .arg(sluicegate_test_support::guest::faulty())
            .arg("--requests")
            .arg(path("r.jsonl"))
            .arg("--state")
            .arg(path("s.json"))
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(complaint), "{said}");
    }
}

#[test]
fn a_name_that_is_no_name_writes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["../x", "A", "", "a b", "-a"] {
        let output = Command::new(BIN)
            .args(["plugin", "new", "--", name])
            .current_dir(&dir)
            .output()
            .expect("it runs");
        assert!(!output.status.success(), "{name}");
    }
    assert_eq!(std::fs::read_dir(&dir).expect("listed").count(), 0);
}
