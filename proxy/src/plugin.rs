//! WASM plugins on the request's way: what they are shown, what they may decide, and what becomes
//! of it. The host that runs them is the crate `sluicegate-plugin-host`.
//!
//! - [`loader`]: from the configuration to loaded plugins, at the start and at a reload;
//! - [`chain`], [`link`]: a route's plugins, and the calls of each, guarded;
//! - [`summary`]: what plugins are shown;
//! - [`document`], [`edit`]: a request's body taken apart, and edited;
//! - [`decision`]: what a decision may be;
//! - [`shaper`], [`answer`]: answers through responders;
//! - [`direct`]: answers that plugins give;
//! - [`record`]: what was decided, for people who ask why.

pub mod answer;
pub mod chain;
pub mod decision;
pub mod direct;
pub mod document;
pub mod edit;
pub mod link;
pub mod loader;
pub mod record;
pub mod shaper;
pub mod summary;

pub use chain::Chain;
pub use link::Link;
pub use loader::{Loader, Plugins};
pub use record::Decisions;
pub use shaper::{Shaped, Shaper};
