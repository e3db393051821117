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
        Some(Self { links, needs, responders })
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
