//! The GPUs of another machine, read from the Sluicegate there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::UpstreamConfig;
use crate::config::gpus::GpusBehind;
use crate::gpu::remote;
use crate::pipeline::backend::{Backend, Remote};
use crate::upstream::{Origin, Pool, ask};

/// Longest time for an answer.
const WAIT: Duration = Duration::from_secs(2);

/// Reads them anew. Where that fails, what was read before grows old.
pub(super) async fn refresh(backend: &Backend, pool: &Arc<Pool>) {
    let GpusBehind::Remote { origin, token } = &backend.origin.config.gpus else { return };
    let upstream = UpstreamConfig {
        origin: origin.clone(),
        api_key: token.clone(),
        base_path: String::new(),
        ..backend.origin.config.clone()
    };
    let host = origin.authority().map_or("", |authority| authority.as_str());
    let read = async {
        let origin = Origin::new(upstream, backend.origin.tls())?;
        let body =
            ask::get(&origin, pool, "/api/gpu", WAIT).await.map_err(|cause| cause.to_string())?;
        remote::parse(host, &body).map_err(|cause| cause.to_string())
    };
    match read.await {
        Ok(gpus) => {
            let read = Instant::now();
            backend.remote.store(Some(Arc::new(Remote { gpus, read })));
        }
        Err(why) => tracing::debug!(upstream = backend.name(), why, "its GPUs cannot be read"),
    }
}
