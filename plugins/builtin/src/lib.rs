//! The plugins shipped with Sluicegate: WASM components built from their sources in `plugins/` by
//! this crate's build script.

/// Each plugin's name and component.
pub const ALL: [(&str, &[u8]); 4] = [
    ("complexity-router", include_bytes!(env!("PLUGIN_COMPLEXITY_ROUTER"))),
    ("prompt-rewriter", include_bytes!(env!("PLUGIN_PROMPT_REWRITER"))),
    ("semantic-cache", include_bytes!(env!("PLUGIN_SEMANTIC_CACHE"))),
    ("response-shaper", include_bytes!(env!("PLUGIN_RESPONSE_SHAPER"))),
];
