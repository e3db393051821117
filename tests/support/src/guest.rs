//! Plugins for tests, built when first asked for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The test guest that misbehaves as its configuration says.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn faulty() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("faulty"))
}

fn build(package: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("root");
    let target = root.join("target/guests");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"])
        .args(["--package", package, "--target-dir"])
        .arg(&target)
        .current_dir(root.join("plugins"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the guest `{package}` could not be built");
    target.join(format!("wasm32-wasip2/release/{package}.wasm"))
}
