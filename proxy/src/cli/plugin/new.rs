//! `sluicegate plugin new` and `sluicegate plugin wit`: files that the binary carries.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use super::Language;
use crate::cli::{fail, print};

/// Stands for the plugin's name in the templates.
const NAME: &str = "PLUGIN_NAME";

/// A file: where it goes, and what is in it.
type File = (&'static str, &'static str);

macro_rules! carried {
    ($($path:literal <- $source:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../plugins/", $source)))),+]
    };
}

const WIT: &[File] = carried![
    "host.wit" <- "wit/host.wit",
    "stages.wit" <- "wit/stages.wit",
    "types.wit" <- "wit/types.wit",
    "world.wit" <- "wit/world.wit",
];

const SDK: &[File] = carried![
    "Cargo.toml" <- "sdk/Cargo.toml",
    "src/bindings.rs" <- "sdk/src/bindings.rs",
    "src/config.rs" <- "sdk/src/config.rs",
    "src/host.rs" <- "sdk/src/host.rs",
    "src/lib.rs" <- "sdk/src/lib.rs",
    "src/router.rs" <- "sdk/src/router.rs",
    "src/testing.rs" <- "sdk/src/testing.rs",
    "src/text.rs" <- "sdk/src/text.rs",
];

const TRIALS: &[File] = carried![
    "requests.jsonl" <- "template/requests.jsonl",
    "state.json" <- "template/state.json",
];

const RUST: &[File] = carried![
    "Cargo.toml" <- "template/Cargo.toml.in",
    "README.md" <- "template/README.md",
    "src/lib.rs" <- "template/src/lib.rs",
];

const PYTHON: &[File] = carried![
    "README.md" <- "template/python/README.md",
    "app.py" <- "template/python/app.py",
];

const JAVASCRIPT: &[File] = carried![
    "README.md" <- "template/javascript/README.md",
    "build.mjs" <- "template/javascript/build.mjs",
    "package.json" <- "template/javascript/package.json",
    "plugin.js" <- "template/javascript/plugin.js",
];

pub(super) fn run(name: &str, language: Language) -> ExitCode {
    let sane = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    if !begins || name.len() > 64 || !name.bytes().all(sane) {
        return fail(
            1,
            "a plugin's name has lower-case letters, digits and `-`, and begins with a letter",
        );
    }
    let dir = Path::new(name);
    if dir.exists() {
        return fail(1, &format!("{name} exists already"));
    }
    let files = match language {
        Language::Rust => RUST,
        Language::Python => PYTHON,
        Language::Javascript => JAVASCRIPT,
    };
    let mut written = write(dir, files, name)
        .and_then(|()| write(dir, TRIALS, name))
        .and_then(|()| write(&dir.join("wit"), WIT, name));
    if matches!(language, Language::Rust) {
        written = written.and_then(|()| write(&dir.join("sdk"), SDK, name));
    }
    match written {
        Ok(()) => print(&format!("wrote {name}/; begin with {name}/README.md\n")),
        Err(cause) => fail(1, &cause),
    }
}

pub(super) fn wit(dir: &Path) -> ExitCode {
    match write(dir, WIT, "") {
        Ok(()) => print(&format!("wrote {}\n", dir.display())),
        Err(cause) => fail(1, &cause),
    }
}

fn write(dir: &Path, files: &[File], name: &str) -> Result<(), String> {
    for (path, text) in files {
        let path = dir.join(path);
        let told = |cause: std::io::Error| format!("{}: {cause}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(told)?;
        }
        fs::write(&path, text.replace(NAME, name)).map_err(told)?;
    }
    Ok(())
}
