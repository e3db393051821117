//! The crate from outside, on a model of two small layers that the tests write themselves.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

/// Vectors as an independent reference computes them, and independence of the batch.
mod golden;
/// What an identifier depends on.
mod identity;
/// The synthetic model.
mod model;
/// Directories and texts that are refused, and in which words.
mod refusals;
/// What sentence-transformers' files change.
mod settings;
