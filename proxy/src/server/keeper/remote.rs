//! The GPUs of another machine, read from the Sluicegate there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::gpu::remote;
use crate::pipeline::backend::{Backend, Remote};
use crate::upstream::{Pool, ask};

/// Longest time for an answer.
const WAIT: Duration = Duration::from_secs(2);

/// Reads them anew; the error says why not. Where that fails, what was read before grows old.
pub(super) async fn refresh(backend: &Backend, pool: &Arc<Pool>) -> Result<(), String> {
    let Some(teller) = &backend.teller else { return Ok(()) };
    let host = teller.config.origin.authority().map_or("", |authority| authority.as_str());
    let read = Instant::now();
    let body = ask::get(teller, pool, "/api/gpu", WAIT).await.map_err(|cause| cause.to_string())?;
    let gpus = remote::parse(host, &body).map_err(|cause| cause.to_string())?;
    backend.remote.store(Some(Arc::new(Remote { gpus, read })));
    Ok(())
}
