//! House rules that no compiler checks: which module may use which, and how long a file may be.

#![allow(clippy::expect_used, reason = "a test that cannot read its sources has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// May use nothing above them.
const GROUND: [&str; 9] =
    ["config", "error", "http1", "ids", "json", "ollama", "openai", "session", "telemetry"];
/// See every stage.
const TOP: [&str; 4] = ["cli", "main", "pipeline", "server"];
/// A reader holds no more in the head.
const MAX_LINES: usize = 500;

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("source directory") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The top-level module a file belongs to.
fn module(file: &Path) -> String {
    let inside = file.strip_prefix(root()).expect("inside src");
    let first = inside.components().next().expect("a component").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Top-level modules named after `crate::` in code, outside comments.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1).map(str::to_owned).collect::<Vec<_>>())
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

fn may_use(module: &str, other: &str) -> bool {
    module == other
        || TOP.contains(&module)
        || GROUND.contains(&other)
        || (matches!(module, "router" | "admission" | "cache") && other == "breaker")
        // The admin address is one more listener, and writes its answers as every answer is written.
        || (module == "admin" && matches!(other, "listener" | "response" | "plugin" | "cache" | "gpu" | "admission"))
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for file in sources(&root()) {
        let module = module(&file);
        let text = fs::read_to_string(&file).expect("readable");
        for other in used(&text) {
            if module != "lib" && !may_use(&module, &other) {
                wrong.push(format!("{} uses {other}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_short() {
    let long: Vec<String> = sources(&root())
        .into_iter()
        .filter(|file| !file.ends_with("tests.rs"))
        .filter_map(|file| {
            let text = fs::read_to_string(&file).expect("readable");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("").lines().count();
            (code > MAX_LINES).then(|| format!("{}: {code} lines", file.display()))
        })
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn ignored_tests_say_why() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
    let files = sources(&root()).into_iter().chain(sources(&tests));
    let bare: Vec<PathBuf> = files
        .filter(|file| {
            let text = fs::read_to_string(file).expect("readable");
            text.lines().any(|line| line.trim() == "#[ignore]")
        })
        .collect();
    assert!(bare.is_empty(), "{bare:#?}");
}
