//! Sends each request to the GPU with the most room: one that has the model loaded first, then the
//! one with the most headroom. What is not known comes last, and a fallback after all others.

use sluicegate_plugin::router::{Decision, Target, heaviest_first};
use sluicegate_plugin::{Description, Guest, Needs, Request, Router, describe};

struct Plugin;

impl Guest for Plugin {
    /// What the plugin wants to see of a request: nothing, the targets are enough.
    fn describe() -> Result<Description, String> {
        Ok(describe!(Needs::empty()))
    }
}

impl Router for Plugin {
    fn route(_: Request, targets: Vec<Target>) -> Decision {
        heaviest_first(&targets, "headroom", weight)
    }
}

/// The bytes that are free, moved by more than any GPU has.
fn weight(target: &Target) -> f64 {
    let headroom = target.headroom.map_or(-1.0, |bytes| bytes as f64);
    let loaded = if target.resident == Some(true) { 1e15 } else { 0.0 };
    let fallback = if target.fallback { -1e16 } else { 0.0 };
    headroom + loaded + fallback
}

sluicegate_plugin::export!(Plugin: router);

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_plugin::testing;

    fn target(headroom: Option<u64>, resident: Option<bool>) -> Target {
        Target { headroom, resident, ..testing::target("host", "llama3.2:3b") }
    }

    #[test]
    fn room_decides_and_what_is_not_known_is_last() {
        assert!(weight(&target(Some(2), None)) > weight(&target(Some(1), Some(false))));
        assert!(weight(&target(Some(0), None)) > weight(&target(None, None)));
    }

    #[test]
    fn a_loaded_model_goes_first_and_a_fallback_last() {
        let loaded = target(None, Some(true));
        assert!(weight(&loaded) > weight(&target(Some(80 << 30), Some(false))));
        assert!(weight(&Target { fallback: true, ..loaded }) < weight(&target(None, None)));
    }
}
