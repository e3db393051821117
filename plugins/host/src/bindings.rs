//! Generated from `plugins/wit`.

#![allow(missing_docs, reason = "the documentation is in the WIT files")]
#![allow(clippy::all, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    imports: {
        "sluicegate:plugin/store": async,
    },
    exports: { default: async },
});
