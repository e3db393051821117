//! The accept loop of one worker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use metrics::counter;
use pingora_core::server::ShutdownWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::http1::Io;
use crate::session::stream::{ClientStream, H2_PREFACE};
use crate::telemetry::names;

/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after the system had no descriptor or memory for a connection: the next try would fail
/// the same way at once.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Longest wait for the first bytes where HTTP/2 without TLS is allowed.
const MAX_PEEK: Duration = Duration::from_secs(30);
/// Pause while a preface has come only in part.
const PEEK_AGAIN: Duration = Duration::from_millis(5);

/// What serves connections.
pub trait Application: Send + Sync + 'static {
    /// Serves one of HTTP/1.1 to its end.
    fn http1(
        self: Arc<Self>,
        io: Io,
        shutdown: ShutdownWatch,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// Serves one of HTTP/2 to its end.
    fn http2(
        self: Arc<Self>,
        stream: ClientStream,
        shutdown: ShutdownWatch,
    ) -> impl Future<Output = ()> + Send + 'static;

    /// Whether it takes HTTP/2 without TLS.
    fn speaks_h2c(&self) -> bool {
        false
    }
}

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
    A: Application,
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
            let Some(io) = prepare(stream, peer, tls).await else { return };
            let http2 = match &io {
                Io::Plain(stream) if app.speaks_h2c() => begins_http2(stream).await,
                Io::Plain(_) | Io::Tls(_) => Some(io.agreed_on_http2()),
            };
            match http2 {
                Some(true) => app.http2(ClientStream::new(io, peer), shutdown).await,
                Some(false) => app.http1(io, shutdown).await,
                None => {}
            }
        });
    }
}

async fn prepare(
    stream: TcpStream,
    peer: std::net::SocketAddr,
    tls: Option<TlsAcceptor>,
) -> Option<Io> {
    // Fails only on a socket that is closed already.
    stream.set_nodelay(true).ok()?;
    let Some(tls) = tls else { return Some(Io::Plain(stream)) };
    match timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Io::Tls(Box::new(stream.into()))),
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

/// Whether a connection begins as HTTP/2 does with prior knowledge (RFC 9113, 3.3); `None` where it says too
/// little for too long.
async fn begins_http2(stream: &TcpStream) -> Option<bool> {
    let mut buf = [0; H2_PREFACE.len()];
    let deadline = Instant::now() + MAX_PEEK;
    while Instant::now() < deadline {
        let seen = timeout_at(deadline, stream.peek(&mut buf)).await.ok()?.ok()?;
        // A shorter request line can already be told from the preface.
        if seen == buf.len() || seen == 0 || !H2_PREFACE.starts_with(&buf[..seen]) {
            return Some(buf == H2_PREFACE);
        }
        tokio::time::sleep(PEEK_AGAIN).await;
    }
    None
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
