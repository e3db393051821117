//! Builds the shipped plugins for `wasm32-wasip2`, in a target directory of their own.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

const PLUGINS: [&str; 4] =
    ["complexity-router", "prompt-rewriter", "semantic-cache", "response-shaper"];
const TARGET: &str = "wasm32-wasip2";

fn main() -> Result<(), Box<dyn Error>> {
    let plugins = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("target");
    for watched in PLUGINS.iter().chain(&["sdk", "wit", "Cargo.toml", "Cargo.lock"]) {
        println!("cargo::rerun-if-changed={}", plugins.join(watched).display());
    }
    let mut build = Command::new(env::var("CARGO")?);
    build.current_dir(&plugins).args(["build", "--release", "--locked", "--target", TARGET]);
    build.arg("--target-dir").arg(&out);
    for plugin in PLUGINS {
        build.args(["--package", plugin]);
    }
    // What the outer build was told is about this machine, not about the guest.
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
    ] {
        build.env_remove(name);
    }
    if !build.status()?.success() {
        return Err(format!(
            "the shipped plugins could not be built; is the target installed? `rustup target add {TARGET}`"
        )
        .into());
    }
    for plugin in PLUGINS {
        let file = built(&out, plugin);
        let variable = plugin.replace('-', "_").to_uppercase();
        println!("cargo::rustc-env=PLUGIN_{variable}={}", file.display());
    }
    Ok(())
}

fn built(out: &Path, plugin: &str) -> PathBuf {
    out.join(TARGET).join("release").join(format!("{}.wasm", plugin.replace('-', "_")))
}
