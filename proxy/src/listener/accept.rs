//! The accept loop of one worker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::counter;
use pingora_core::apps::ServerApp;
use pingora_core::server::ShutdownWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::stream::ClientStream;
use crate::telemetry::names;

/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after the system had no descriptor or memory for a connection: the next try would fail
/// the same way at once.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Counts open connections over all workers.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicUsize,
    limit: AtomicUsize,
}

/// One open connection, given back when dropped.
#[derive(Debug)]
struct Opened(Arc<Connections>);

impl Connections {
    /// Sets how many may be open.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn enter(self: &Arc<Self>) -> Option<Opened> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let opened = Opened(Arc::clone(self));
        (before < self.limit.load(Ordering::Relaxed)).then_some(opened)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts until `shutdown`, serving each connection with `app` in a task of its own.
pub async fn run<A>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: Arc<Connections>,
    app: Arc<A>,
    mut shutdown: ShutdownWatch,
) where
    A: ServerApp + Send + Sync + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(cause) => {
                if !is_of_one_connection(&cause) {
                    tracing::error!(%cause, "cannot accept connections");
                    tokio::time::sleep(EXHAUSTED).await;
                }
                continue;
            }
        };
        let Some(opened) = connections.enter() else {
            counter!(names::CONNECTIONS_REFUSED).increment(1);
            continue;
        };
        let (tls, app, shutdown) = (tls.clone(), Arc::clone(&app), shutdown.clone());
        tokio::spawn(async move {
            let _opened = opened;
            let Some(stream) = prepare(stream, peer, tls).await else { return };
            let mut next = app.process_new(Box::new(stream), &shutdown).await;
            while let Some(stream) = next {
                next = app.process_new(stream, &shutdown).await;
            }
        });
    }
}

async fn prepare(
    stream: TcpStream,
    peer: std::net::SocketAddr,
    tls: Option<TlsAcceptor>,
) -> Option<ClientStream> {
    // Fails only on a socket that is closed already.
    stream.set_nodelay(true).ok()?;
    let Some(tls) = tls else { return Some(ClientStream::plain(stream, peer)) };
    match timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(ClientStream::tls(stream, peer)),
        Ok(Err(cause)) => {
            tracing::debug!(%peer, %cause, "TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "TLS handshake timed out");
            None
        }
    }
}

/// Whether an accept error concerns only the connection that was to be accepted (accept(2)).
fn is_of_one_connection(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    )
}
