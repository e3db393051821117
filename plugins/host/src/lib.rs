//! Runs plugins: WASM components that implement interfaces of the package `sluicegate:plugin`
//! (`plugins/wit`).
//!
//! # Layout, by lifetime
//!
//! - [`engine`], `clock`: one for the process: compiler, allocator, and what interrupts guests.
//! - [`plugin`]: one for each plugin configured: compiled, linked, described.
//! - [`instance`]: one for each call, or for some thousand.
//! - [`call`], `turns`: one call: its turns, its deadline, its outcome.
//! - [`state`]: what a guest can reach, and nothing else.
//! - [`store`], [`streak`], [`logging`], [`output`], [`events`]: the host functions behind it.
//!
//! Nothing a guest does reaches another request: it has a memory cap, a deadline, and an instance
//! that is dropped after any failure.

pub mod bindings;
pub mod call;
mod clock;
pub mod engine;
pub mod events;
pub mod figures;
pub mod instance;
pub mod logging;
pub mod output;
pub mod plugin;
pub mod settings;
pub mod state;
pub mod store;
pub mod streak;
mod turns;

pub use bindings::exports::sluicegate::plugin::{cache_policy, responder, rewriter, router};
pub use bindings::sluicegate::plugin::types;
pub use call::{Failure, FailureKind};
pub use engine::Engine;
pub use plugin::{Interface, LoadError, Plugin};
pub use settings::{Allow, Isolation, Settings};
