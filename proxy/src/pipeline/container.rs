//! An upstream that runs in a container: started before a request is sent to it, on the GPU only
//! where the host's own upstream has let go of it.

use std::sync::Arc;

use futures_util::FutureExt;

use super::Pipeline;
use super::backend::Backend;
use super::state::Shared;
use crate::config::UpstreamConfig;
use crate::config::container::{self as config, ContainerGpuWord, ContainerGpus};
use crate::error::{Error, Kind};
use crate::gpu::Gpu;
use crate::upstream::container::{Gpus, HostMemory, Settings, Start, StartError, gpu_for};
use crate::upstream::{Pool, catalogue};

/// A desktop and its windows hold less than this each; a runner with a model holds more.
const SMALLEST_RUNNER: u64 = 512 << 20;

impl Pipeline {
    /// Has the container of `backend` run, if it has one.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) async fn start_container(&self, backend: &Arc<Backend>) -> Result<(), Error> {
        if backend.container.is_none() {
            return Ok(());
        }
        start(&self.shared, &self.pool, backend).await.map_err(|cause| {
            let message = format!("the upstream `{}` is not running: {cause}", backend.name());
            Error::new(Kind::BadGateway, message)
        })
    }
}

/// Has the container of `backend` run and answer; nothing, if it has none.
///
/// # Errors
/// Why it does not.
pub async fn start(
    shared: &Arc<Shared>,
    pool: &Arc<Pool>,
    backend: &Arc<Backend>,
) -> Result<(), StartError> {
    let Some(container) = &backend.container else { return Ok(()) };
    let (probed, pool) = (Arc::clone(backend), Arc::clone(pool));
    let healthy = move || {
        let (backend, pool) = (Arc::clone(&probed), Arc::clone(&pool));
        async move { catalogue::is_alive(&backend.origin, &pool).await }.boxed()
    };
    let (shared, wanting) = (Arc::clone(shared), Arc::clone(backend));
    let gpus = move || {
        let grant = gpu_for(&wanted(&wanting.origin.config), host_memory(&shared, &wanting));
        let what = format!("its container gets {}: {}", told(&grant.gpus), grant.reason);
        shared.events.note(wanting.name(), None, what);
        std::future::ready(Ok(grant.gpus)).boxed()
    };
    container.ensure(healthy, gpus).await
}

/// What the upstreams of this machine that run outside containers hold of its GPUs.
fn host_memory(shared: &Shared, wanting: &Backend) -> HostMemory {
    let Some(gpus) = shared.gpus.within(super::backend::FRESH).map(|sample| sample.gpus.clone())
    else {
        return HostMemory::default();
    };
    let snapshot = shared.snapshot.load();
    let hosts = snapshot.backends.iter().filter(|one| {
        one.name() != wanting.name() && one.container.is_none() && one.is_ollama() && one.is_here()
    });
    let mut memory = HostMemory {
        free: gpus.iter().map(Gpu::memory_free).sum(),
        total: gpus.iter().map(|gpu| gpu.memory_total).sum(),
        process_bytes: held_by_processes(&gpus),
        ..HostMemory::default()
    };
    for host in hosts {
        let seen = host.residency.seen();
        memory.upstream_alive = Some(memory.upstream_alive == Some(true) || seen.is_some());
        memory.resident_bytes =
            Some(memory.resident_bytes.unwrap_or(0) + host.residency.vram().unwrap_or(0));
    }
    memory
}

/// Bytes that processes hold which may be runners; none where that cannot be read of all of them.
fn held_by_processes(gpus: &[Gpu]) -> Option<u64> {
    let processes = || gpus.iter().flat_map(|gpu| &gpu.processes);
    processes().next()?;
    let held = processes().map(|process| process.memory_used);
    held.map(|held| held.map(|bytes| if bytes < SMALLEST_RUNNER { 0 } else { bytes })).sum()
}

fn told(gpus: &Gpus) -> String {
    match gpus {
        Gpus::None => "the CPU".to_owned(),
        Gpus::All => "all GPUs".to_owned(),
        Gpus::Devices(ids) => format!("GPU {}", ids.join(", ")),
    }
}

fn wanted(upstream: &UpstreamConfig) -> Gpus {
    match upstream.container.as_ref().map(|container| &container.gpus) {
        None | Some(ContainerGpus::Word(ContainerGpuWord::None)) => Gpus::None,
        Some(ContainerGpus::Word(ContainerGpuWord::All)) => Gpus::All,
        Some(ContainerGpus::Devices(ids)) => Gpus::Devices(ids.clone()),
    }
}

/// What the container of `upstream` is to be, if it has one.
pub(super) fn settings(upstream: &UpstreamConfig) -> Option<Settings> {
    let config = upstream.container.as_ref()?;
    let on_host = config.network.as_deref() == Some("host");
    let port = upstream.origin.port_u16().unwrap_or(80);
    Some(Settings {
        image: config.image.clone(),
        name: config.name.clone(),
        gpus: wanted(upstream),
        start: match config.start {
            config::Start::OnDemand => Start::OnDemand,
            config::Start::Always => Start::Always,
            config::Start::Never => Start::Never,
        },
        stop_after_idle: config.stop_after_idle.map(|time| time.0),
        start_timeout: config.start_timeout.0,
        publish: (!on_host).then_some((port, config.port)),
        network: config.network.clone(),
        volumes: config.volumes.clone(),
        env: config.env.clone(),
        command: config.command.clone(),
        socket: config.socket.clone(),
    })
}
