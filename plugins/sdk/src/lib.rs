//! Write Sluicegate plugins in Rust: plain types, one macro, and unit tests that need no host.
//!
//! ```
//! use sluicegate_plugin::{Description, Guest, Needs, Request, Router, describe, router};
//!
//! struct Warm;
//!
//! impl Guest for Warm {
//!     fn describe() -> Result<Description, String> {
//!         Ok(describe!(Needs::empty()))
//!     }
//! }
//!
//! impl Router for Warm {
//!     fn route(_: Request, targets: Vec<router::Target>) -> router::Decision {
//!         router::heaviest_first(&targets, "warm-first", |target| {
//!             if target.resident == Some(true) { 1.0 } else { 0.0 }
//!         })
//!     }
//! }
//!
//! sluicegate_plugin::export!(Warm: router);
//! ```
//!
//! Build it with `cargo build --release --target wasm32-wasip2`.

#[doc(hidden)]
pub mod bindings;
pub mod config;
pub mod host;
pub mod router;
pub mod testing;
pub mod text;

pub use bindings::base::exports::sluicegate::plugin::guest::Guest;
pub use bindings::base::sluicegate::plugin::types::{
    Description, Endpoint, Message, Needs, Parameters, Rejection, Request, Role, Shape, Value,
};
pub use bindings::caching::exports::sluicegate::plugin::cache_policy::Guest as CachePolicy;
pub use bindings::responding::exports::sluicegate::plugin::responder::Guest as Responder;
pub use bindings::rewriting::exports::sluicegate::plugin::rewriter::Guest as Rewriter;
pub use bindings::routing::exports::sluicegate::plugin::router::Guest as Router;

/// What a [`Rewriter`] decides.
pub mod rewriter {
    pub use crate::bindings::rewriting::exports::sluicegate::plugin::rewriter::{
        Decision, Edit, Insertion,
    };
}

/// What a [`CachePolicy`] decides.
pub mod cache_policy {
    pub use crate::bindings::caching::exports::sluicegate::plugin::cache_policy::{Mode, Policy};
}

/// What a [`Responder`] sees and gives back.
pub mod responder {
    pub use crate::bindings::responding::exports::sluicegate::plugin::responder::{
        Answer, Edited, Piece,
    };
}

/// A [`Description`] with the name and version of the crate it is used in.
#[macro_export]
macro_rules! describe {
    ($needs:expr) => {
        $crate::Description {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            needs: $needs,
        }
    };
}

/// Exports a type as a plugin: `export!(Type: router, rewriter, cache_policy, responder)`, with the
/// interfaces it implements.
#[macro_export]
macro_rules! export {
    ($plugin:ident: $($interface:ident),+ $(,)?) => {
        $crate::export!(@ $plugin guest);
        $($crate::export!(@ $plugin $interface);)+
    };
    (@ $plugin:ident guest) => {
        $crate::export!(@@ $plugin Guest describe, base export_guest);
    };
    (@ $plugin:ident router) => {
        $crate::export!(@@ $plugin Router route, routing export_router);
    };
    (@ $plugin:ident rewriter) => {
        $crate::export!(@@ $plugin Rewriter rewrite, rewriting export_rewriter);
    };
    (@ $plugin:ident cache_policy) => {
        $crate::export!(@@ $plugin CachePolicy decide, caching export_cache_policy);
    };
    (@ $plugin:ident responder) => {
        $crate::export!(@@ $plugin Responder edit, responding export_responder);
    };
    (@@ $plugin:ident $interface:ident $function:ident, $world:ident $export:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::$world::$export!($plugin with_types_in $crate::bindings::$world);
        // A native linker chokes on the names of exports; in a test it is enough that they exist.
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            let _ = <$plugin as $crate::$interface>::$function;
        };
    };
}
