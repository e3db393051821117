//! The control thread: signals, probes, reloads, and the orderly end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::keeper::{self, Commands};
use super::reload::Watched;
use super::status::Status;
use super::{Server, report};
use crate::admin::Admin;
use crate::listener::accept::{self, Connections};
use crate::listener::inherit::relieve_predecessor;
use crate::pipeline::state::Shared;
use crate::upstream::{Pool, catalogue};

/// How often tripped upstreams are looked at.
const PROBE_TICK: Duration = Duration::from_millis(250);
/// How often model lists are read anew.
const CATALOGUE_EVERY: Duration = Duration::from_secs(30);
/// How often the cache is looked after.
const CACHE_EVERY: Duration = Duration::from_millis(500);
/// Redis is asked whether it still tells of changes to copies this often.
const COPIES_EVERY: Duration = Duration::from_millis(300);
/// How often files are looked at for a change.
const FILE_TICK: Duration = Duration::from_secs(1);
/// Histogram samples are folded into buckets this often; until then they take memory.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);
/// Admin connections open at one time.
const ADMIN_CONNECTIONS: usize = 256;
/// Longest time for the last lines of the access log.
const LAST_LINES: Duration = Duration::from_secs(2);
/// No request for this long means that a drain is over.
const QUIET: Duration = Duration::from_millis(250);

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    quit: Signal,
}

/// Runs until a signal ends the process.
pub(super) fn run(server: Server, watched: Watched) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(supervise(server, watched))
}

async fn supervise(server: Server, mut watched: Watched) -> Result<(), String> {
    let mut signals = Signals::listen().map_err(|cause| cause.to_string())?;
    let pool: Arc<Pool> = Arc::default();
    let commands: Arc<Commands> = Arc::default();
    let admin = start_admin(&server, &commands)?;
    report::addresses(&server);
    tokio::spawn(probe_tripped(Arc::clone(&server.shared), Arc::clone(&pool)));
    tokio::spawn(upkeep(server.metrics.clone()));
    let keepers = keeper::run(Arc::clone(&server.shared), Arc::clone(&pool), commands);
    tokio::spawn(keepers);
    tokio::spawn(keep_cache(Arc::clone(&server.shared)));
    tokio::spawn(keep_copies(Arc::clone(&server.shared)));
    tokio::spawn(keep_digests(Arc::clone(&server.shared), Arc::clone(&pool)));
    tokio::spawn(keep_lists(Arc::clone(&server.shared), Arc::clone(&pool)));
    if let Err(cause) = relieve_predecessor() {
        tracing::warn!(%cause, "the process before this one could not be told to stop");
    }
    let successor = Successor::default();
    let mut files = interval(FILE_TICK);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hang_up.recv() => if !until(&mut signals, watched.reload(&server)).await {
                break;
            },
            _ = signals.quit.recv() => successor.start(&server),
            _ = files.tick() => if watched.changed() && !until(&mut signals, watched.reload(&server)).await {
                break;
            },
        }
    }
    if successor.is_running() {
        // It answers for this gateway now; of two answers on one socket, one would be wrong.
        admin.send_replace(true);
    }
    drain(server, signals).await;
    Ok(())
}

/// Whether `work`, which may take seconds, ended before the process is to.
async fn until(signals: &mut Signals, work: impl Future<Output = ()>) -> bool {
    tokio::select! {
        () = work => true,
        _ = signals.terminate.recv() => false,
        _ = signals.interrupt.recv() => false,
    }
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }
}

/// Starts the admin listener; it goes on during a drain, to be asked how it goes, unless it is
/// stopped through what is returned.
fn start_admin(server: &Server, commands: &Arc<Commands>) -> Result<watch::Sender<bool>, String> {
    let listener = server.sockets.admin.try_clone().map_err(|cause| cause.to_string())?;
    let listener =
        tokio::net::TcpListener::from_std(listener).map_err(|cause| cause.to_string())?;
    let connections = Arc::new(Connections::default());
    connections.set_limit(ADMIN_CONNECTIONS);
    let status = Status::new(&server.shared, &server.metrics, server.stop.subscribe(), commands);
    let app = Arc::new(Admin::new(Arc::new(status)));
    let (stop, shutdown) = watch::channel(false);
    tokio::spawn(accept::run(listener, None, connections, app, shutdown));
    Ok(stop)
}

/// The process that is to take over, at most one at a time.
#[derive(Default)]
struct Successor {
    running: Arc<AtomicBool>,
}

impl Successor {
    fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    /// Starts one, and waits on a thread of its own for it to end before it could take over.
    fn start(&self, server: &Server) {
        if self.is_running() {
            return tracing::warn!("a successor is starting already");
        }
        let mut child = match server.sockets.start_successor() {
            Ok(child) => child,
            Err(cause) => return tracing::error!(%cause, "no successor could be started"),
        };
        tracing::info!(
            pid = child.id(),
            "successor started; this process serves until it is ready"
        );
        self.running.store(true, Ordering::Release);
        let running = Arc::clone(&self.running);
        let waiter = std::thread::Builder::new().name("successor".into());
        let spawned = waiter.spawn(move || {
            match child.wait() {
                Ok(status) => tracing::error!(%status, "the successor ended; this process goes on"),
                Err(cause) => tracing::error!(%cause, "the successor cannot be watched"),
            }
            running.store(false, Ordering::Release);
        });
        if let Err(cause) = spawned {
            tracing::error!(%cause, "the successor cannot be watched");
        }
    }
}

async fn probe_tripped(shared: Arc<Shared>, pool: Arc<Pool>) {
    let mut ticks = interval(PROBE_TICK);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let snapshot = shared.snapshot.load_full();
        let mut probes = tokio::task::JoinSet::new();
        for backend in &snapshot.backends {
            if backend.breaker.probe_due().is_some_and(|due| due <= now) {
                let (backend, pool) = (Arc::clone(backend), Arc::clone(&pool));
                probes.spawn(async move {
                    // The next request starts a container that does not run.
                    let alive = catalogue::is_alive(&backend.origin, &pool).await
                        || backend.container.is_some();
                    tracing::info!(upstream = backend.name(), alive, "probed a tripped upstream");
                    backend.breaker.probed(alive);
                });
            }
        }
        while probes.join_next().await.is_some() {}
    }
}

async fn keep_lists(shared: Arc<Shared>, pool: Arc<Pool>) {
    let first = shared.snapshot.load_full();
    let listings = first.refresh(&pool, Duration::ZERO).await;
    report::upstreams(&first, &listings);
    drop((first, listings));
    loop {
        sleep(CATALOGUE_EVERY).await;
        let snapshot = shared.snapshot.load_full();
        snapshot.refresh(&pool, CATALOGUE_EVERY / 2).await;
        pool.sweep();
    }
}

/// The cache relies on the weights behind a model's name.
async fn keep_digests(shared: Arc<Shared>, pool: Arc<Pool>) {
    let mut ticks = interval(CACHE_EVERY);
    loop {
        ticks.tick().await;
        shared.snapshot.load_full().refresh_digests(&pool).await;
    }
}

async fn keep_cache(shared: Arc<Shared>) {
    let mut ticks = interval(CACHE_EVERY);
    loop {
        ticks.tick().await;
        let cache = Arc::clone(&shared.snapshot.load().cache);
        cache.keep().await;
    }
}

/// Apart from the rest, which may take its time: without it copies are not given.
async fn keep_copies(shared: Arc<Shared>) {
    let mut ticks = interval(COPIES_EVERY);
    loop {
        ticks.tick().await;
        let cache = Arc::clone(&shared.snapshot.load().cache);
        cache.keep_copies().await;
    }
}

async fn upkeep(metrics: metrics_exporter_prometheus::PrometheusHandle) {
    let mut ticks = interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

/// Stops accepting, lets requests end within the grace period, and writes the last log lines.
async fn drain(server: Server, mut signals: Signals) {
    let snapshot = server.shared.snapshot.load_full();
    let grace = snapshot.config.drain;
    tracing::info!(
        active = server.shared.active(),
        ?grace,
        "draining; a second signal ends at once"
    );
    server.stop.send_replace(true);
    // With the last descriptor gone the kernel refuses new connections; a successor has its own.
    drop(server.sockets.data);
    let deadline = Instant::now() + grace;
    let mut quiet_since = Instant::now();
    loop {
        if server.shared.active() > 0 {
            quiet_since = Instant::now();
        } else if quiet_since.elapsed() >= QUIET {
            break;
        }
        tokio::select! {
            () = sleep(Duration::from_millis(20)) => {}
            () = sleep_until(deadline) => break,
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
    }
    tracing::info!(cut = server.shared.active(), "stopped");
    keeper::save(&server.shared).await;
    // Standard output may have no reader any more.
    let (written, ended) = std::sync::mpsc::sync_channel(1);
    let log = Arc::clone(&server.shared.log);
    let writer = std::thread::Builder::new().name("last-lines".into());
    let spawned = writer.spawn(move || {
        log.flush();
        // The receiver may have given up.
        let _ = written.send(());
    });
    if spawned.is_ok() && ended.recv_timeout(LAST_LINES).is_err() {
        tracing::warn!("the last lines of the access log could not be written");
    }
}
