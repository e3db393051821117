//! The container an upstream runs in: taken over at start, stopped when nobody needs it.

use std::sync::Arc;

use super::Keeper;
use crate::config::container::Start;
use crate::pipeline::backend::Backend;
use crate::pipeline::container;

impl Keeper {
    /// Takes over a container that runs already, and starts one that is always to run.
    pub(super) async fn start_container(&self) {
        let Some(backend) = self.backend() else { return };
        let Some(container) = &backend.container else { return };
        container.adopt().await;
        let config = backend.origin.config.container.as_ref();
        if config.is_some_and(|config| config.start == Start::Always) {
            let (shared, pool) = (Arc::clone(&self.shared), Arc::clone(&self.pool));
            tokio::spawn(async move {
                // It says itself in the log why it does not run.
                drop(container::start(&shared, &pool, &backend).await);
            });
        }
    }

    /// Stops a container that idles.
    pub(super) async fn keep_container(&self, backend: &Arc<Backend>) {
        let Some(container) = &backend.container else { return };
        match container.stop_if_idle(backend.gate.in_flight()).await {
            Ok(true) => {
                self.shared.events.note(&self.name, None, "its container was stopped: idle".into())
            }
            Ok(false) => {}
            Err(cause) => {
                tracing::warn!(upstream = self.name, %cause, "its container does not stop")
            }
        }
    }
}
