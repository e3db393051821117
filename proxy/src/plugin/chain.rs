//! The ordered plugins of a route.

use std::sync::Arc;

use sluicegate_plugin_host::Interface;
use sluicegate_plugin_host::types::Needs;

use super::link::Link;

/// A route's plugins.
#[derive(Debug)]
pub struct Chain {
    /// In the route's order.
    pub links: Vec<Arc<Link>>,
    /// What one of them at least needs to see.
    pub needs: Needs,
    responders: Vec<Arc<Link>>,
    /// Tells chains apart that may make different answers: every plugin, its file, its configuration.
    pub fingerprint: [u8; 32],
}

impl Chain {
    /// A chain of `links`; `None` when there are none.
    #[must_use]
    pub fn new(links: Vec<Arc<Link>>) -> Option<Self> {
        if links.is_empty() {
            return None;
        }
        let all = links.iter().map(|link| link.plugin().description().needs);
        let needs = all.fold(Needs::empty(), |sum, one| sum | one);
        let asks = |link: &&Arc<Link>| {
            let plugin = link.plugin();
            // One that does not ask for the response costs nothing on it.
            plugin.implements(Interface::Responder)
                && plugin.description().needs.contains(Needs::RESPONSE)
        };
        let responders = links.iter().filter(asks).cloned().collect();
        let fingerprint = fingerprint(&links);
        Some(Self { links, needs, responders, fingerprint })
    }

    /// Calls of its plugins, so far, that failed and were passed over: what a request met in between
    /// may not have been what its plugins want.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.links.iter().map(|link| link.passed_over()).sum()
    }

    /// Those that implement `interface`.
    pub fn of(&self, interface: Interface) -> impl Iterator<Item = &Arc<Link>> {
        self.links.iter().filter(move |link| link.plugin().implements(interface))
    }

    /// Those that want to see answers.
    #[must_use]
    pub fn responders(&self) -> &[Arc<Link>] {
        &self.responders
    }
}

fn fingerprint(links: &[Arc<Link>]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for link in links {
        let config = &link.config;
        let shadow = if config.shadow { "shadow" } else { "" };
        let own = config.config.to_string();
        for part in [config.name.as_str(), link.plugin().digest(), &own, shadow] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    }
    *hasher.finalize().as_bytes()
}
