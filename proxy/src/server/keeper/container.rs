//! The container an upstream runs in: taken over at start, stopped when nobody needs it.

use std::sync::Arc;

use super::Keeper;
use crate::config::container::Start;
use crate::pipeline::backend::Backend;
use crate::pipeline::container;
use crate::upstream::container::Container;

impl Keeper {
    /// Takes over the container that the configuration names now, lets go of one that it names no
    /// more, and stops one that idles.
    pub(super) async fn keep_container(&mut self, backend: &Arc<Backend>) {
        let same = match (&self.container, &backend.container) {
            (Some(known), Some(named)) => Arc::ptr_eq(known, named),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            self.take_over(backend).await;
        }
        let Some(container) = &backend.container else { return };
        match container.stop_if_idle(backend.gate.in_flight()).await {
            Ok(true) => {
                backend.residency.forget();
                backend.gate.know(None);
                self.shared.events.note(&self.name, None, "its container was stopped: idle".into());
            }
            Ok(false) => {}
            Err(cause) => {
                tracing::warn!(upstream = self.name, %cause, "its container does not stop");
            }
        }
    }

    async fn take_over(&mut self, backend: &Arc<Backend>) {
        let named = backend.container.clone();
        let name = |container: &Arc<Container>| container.name().to_owned();
        if self.container.as_ref().map(name) != named.as_ref().map(name) {
            self.release_container().await;
        }
        self.container = named;
        let Some(container) = &self.container else { return };
        container.adopt().await;
        let config = backend.origin.config.container.as_ref();
        if config.is_some_and(|config| config.start == Start::Always) {
            let (shared, pool) = (Arc::clone(&self.shared), Arc::clone(&self.pool));
            let backend = Arc::clone(backend);
            tokio::spawn(async move {
                // It says itself in the log why it does not run.
                drop(container::start(&shared, &pool, &backend).await);
            });
        }
    }

    /// Stops a container that the configuration does not name any more, if a gateway made it.
    pub(super) async fn release_container(&mut self) {
        let Some(container) = self.container.take() else { return };
        match container.retire().await {
            Ok(true) => {
                let what =
                    format!("the container {} was stopped: it is not configured", container.name());
                self.shared.events.note(&self.name, None, what);
            }
            Ok(false) => {}
            Err(cause) => {
                tracing::warn!(upstream = self.name, %cause, "its container does not stop");
            }
        }
    }
}
