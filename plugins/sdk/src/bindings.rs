//! Generated from `plugins/wit`: the types, the host's functions and the exports.

#![allow(missing_docs, reason = "the documentation is in the WIT files")]
#![allow(clippy::all, clippy::pedantic, reason = "generated")]

/// Types, the host's functions, and the export every plugin has.
pub mod base {
    wit_bindgen::generate!({
        path: "../wit",
        world: "base",
        pub_export_macro: true,
        export_macro_name: "export_guest",
        default_bindings_module: "$crate::bindings::base",
        generate_all,
    });
}

/// The `router` export.
pub mod routing {
    wit_bindgen::generate!({
        path: "../wit",
        world: "routing",
        pub_export_macro: true,
        export_macro_name: "export_router",
        default_bindings_module: "$crate::bindings::routing",
        with: { "sluicegate:plugin/types@0.1.0": crate::bindings::base::sluicegate::plugin::types },
    });
}

/// The `rewriter` export.
pub mod rewriting {
    wit_bindgen::generate!({
        path: "../wit",
        world: "rewriting",
        pub_export_macro: true,
        export_macro_name: "export_rewriter",
        default_bindings_module: "$crate::bindings::rewriting",
        with: { "sluicegate:plugin/types@0.1.0": crate::bindings::base::sluicegate::plugin::types },
    });
}

/// The `cache-policy` export.
pub mod caching {
    wit_bindgen::generate!({
        path: "../wit",
        world: "caching",
        pub_export_macro: true,
        export_macro_name: "export_cache_policy",
        default_bindings_module: "$crate::bindings::caching",
        with: { "sluicegate:plugin/types@0.1.0": crate::bindings::base::sluicegate::plugin::types },
    });
}

/// The `responder` export.
pub mod responding {
    wit_bindgen::generate!({
        path: "../wit",
        world: "responding",
        pub_export_macro: true,
        export_macro_name: "export_responder",
        default_bindings_module: "$crate::bindings::responding",
    });
}
