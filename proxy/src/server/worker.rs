//! Threads that serve requests, each with a runtime, an accept loop and a connection pool of its
//! own: nothing a request needs wakes another thread.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use pingora_core::server::ShutdownWatch;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;

use super::Server;
use crate::listener::accept;
use crate::pipeline::Pipeline;
use crate::pipeline::state::Shared;

/// How often idle upstream connections are looked over.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

struct Worker {
    runtime: Runtime,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    pipeline: Pipeline,
    shared: Arc<Shared>,
    shutdown: ShutdownWatch,
}

/// Starts the configured number of workers.
pub(super) fn start(server: &Server) -> Result<(), String> {
    let snapshot = server.shared.snapshot.load();
    for number in 0..snapshot.config.workers {
        let worker = Worker {
            runtime: Builder::new_current_thread().enable_all().build().map_err(text)?,
            listener: server.sockets.data.try_clone().map_err(text)?,
            tls: server.certificate.as_ref().map(|one| one.acceptor()).transpose()?,
            pipeline: Pipeline::new(Arc::clone(&server.shared), snapshot.config.h2c),
            shared: Arc::clone(&server.shared),
            shutdown: server.stop.subscribe(),
        };
        std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || worker.run())
            .map_err(text)?;
    }
    Ok(())
}

fn text(cause: std::io::Error) -> String {
    cause.to_string()
}

impl Worker {
    fn run(self) {
        let Self { runtime, listener, tls, pipeline, shared, shutdown } = self;
        runtime.block_on(async move {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(cause) => return tracing::error!(%cause, "a worker cannot listen"),
            };
            let pool = Arc::clone(pipeline.pool());
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(SWEEP_EVERY).await;
                    pool.sweep();
                }
            });
            let connections = Arc::clone(&shared.connections);
            accept::run(listener, tls, connections, Arc::new(pipeline), shutdown).await;
            // Requests on their way go on until the process ends.
            std::future::pending::<()>().await;
        });
    }
}
