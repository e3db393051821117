//! The templates for other languages, built from source. `make test` installs what that takes.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use sluicegate_simulator::Settings;
use sluicegate_test_support::{Gateway, eventually, get, post, skipped};

use super::at;
use crate::{BIN, CHAT, MODEL, chat, simulator, upstream};

fn tool(variable: &str) -> Option<OsString> {
    let found = std::env::var_os(variable);
    if found.is_none() {
        skipped(&format!("{variable} is not set; `make test` sets it up"));
    }
    found
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|cause| panic!("{command:?}: {cause}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// A plugin's directory as `sluicegate plugin new` writes it, where `build` makes `plugin.wasm`. It
/// is kept: two builds of the same source differ, and each is compiled for many seconds.
fn built(language: &str, build: impl FnOnce(&Path)) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("root");
    let plugin = root.join("target/guests").join(language);
    let changed = |path: &Path| fs::metadata(path).and_then(|about| about.modified()).ok();
    let mut newest = SystemTime::UNIX_EPOCH;
    for (from, to) in [(format!("template/{language}"), ""), ("wit".into(), "wit")] {
        fs::create_dir_all(plugin.join(to)).expect("created");
        for file in fs::read_dir(root.join("plugins").join(from)).expect("the sources") {
            let (name, file) = file.map(|file| (file.file_name(), file.path())).expect("listed");
            if !file.is_file() {
                continue;
            }
            let text = fs::read_to_string(&file).expect("text").replace("PLUGIN_NAME", language);
            fs::write(plugin.join(to).join(name), text).expect("written");
            newest = newest.max(changed(&file).expect("a time"));
        }
    }
    let wasm = plugin.join("plugin.wasm");
    if changed(&wasm).is_none_or(|made| made < newest) {
        build(&plugin);
    }
    wasm
}

/// A gateway that would send everything to `first`, were it not for the plugin.
async fn decides(wasm: &Path) {
    let (first, second) =
        (simulator(Settings::default()).await, simulator(Settings::default()).await);
    let cache = wasm.parent().and_then(Path::parent).expect("target/guests").join("cache");
    let config = format!(
        "plugin_cache: \"{}\"\nupstreams:\n{}{}plugins:\n{}routes:\n  - model: \"{MODEL}\"\n    targets: [{{ upstream: first }}, {{ upstream: second, weight: 0 }}]\n    plugins: [p]\n",
        cache.display(),
        upstream("first", &first, "vram: 8GiB"),
        upstream("second", &second, "vram: 80GiB"),
        at(wasm, "p", "isolation: reuse, memory: 256MiB, deadline: 5s"),
    );
    // Compiles it: a gateway that starts has less time for that.
    let file = wasm.with_file_name("config.yaml");
    fs::write(&file, &config).expect("written");
    run(Command::new(BIN).arg("check").arg(&file));
    let gateway = Gateway::start(BIN, &config);
    // Before it is known what is loaded, a request would load the model at the first, and stay there.
    eventually("it is known what is loaded", async || {
        let upstreams = get(gateway.admin, "/api/upstreams").await.json();
        upstreams.as_array().is_some_and(|all| all.iter().all(|one| one["headroom"].is_u64()))
    })
    .await;
    let answer = post(gateway.data, CHAT, chat("")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-sluicegate-reason"), Some("headroom"));
    assert_eq!(answer.header("x-sluicegate-upstream"), Some("second"), "80 GiB win against 8");
    assert_eq!(gateway.metric("sluicegate_plugin_skipped_total{plugin=\"p\"}").await, 0.0);
    assert_eq!(gateway.metric("sluicegate_plugin_instances{plugin=\"p\"}").await, 1.0);
}

#[tokio::test]
async fn a_plugin_in_python_decides() {
    let Some(componentize) = tool("SLUICEGATE_COMPONENTIZE_PY") else { return };
    let wasm = built("python", |plugin| {
        run(Command::new(componentize)
            .args(["--wit-path", "wit", "--world", "router-plugin"])
            .args(["componentize", "app", "--output", "plugin.wasm"])
            .current_dir(plugin));
    });
    decides(&wasm).await;
}

#[tokio::test]
async fn a_plugin_in_javascript_decides() {
    let Some(node) = tool("SLUICEGATE_NODE") else { return };
    let Some(modules) = tool("SLUICEGATE_COMPONENTIZE_JS") else { return };
    let wasm = built("javascript", |plugin| {
        let link = plugin.join("node_modules");
        // It may point elsewhere.
        let _ = fs::remove_file(&link);
        symlink(Path::new(&modules).join("node_modules"), &link).expect("linked");
        run(Command::new(node).arg("build.mjs").current_dir(plugin));
    });
    decides(&wasm).await;
}
