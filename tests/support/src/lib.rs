//! Harness of the integration tests: the gateway as a process of its own, and a client that sends
//! and sees bytes, because what matters here is the wire.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot set up its world has failed, and its clock is the real one"
)]

pub mod canned;
pub mod client;
pub mod docker;
pub mod gateway;
pub mod guest;
pub mod ports;
pub mod redis;

pub use canned::Canned;
pub use client::{Connection, Response, get, post, request};
pub use gateway::Gateway;
pub use ports::reserved;

use std::io::Write as _;
use std::time::Duration;

/// Longest any single step of a test may take. Generous: machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Says on the terminal that a test, or the rest of one, does not run. What a test that passes prints in
/// the usual way is not shown, so that nobody would know.
pub fn skipped(why: &str) {
    // Nobody looks where there is no terminal.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Waits for `what`, which must come true in reasonable time.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "never came true: {what}");
}
