//! What all plugins share: the compiler, the memory that instances are taken from, and the clock
//! tick that interrupts a guest.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig,
};

use crate::bindings::sluicegate::plugin as wit;
use crate::state::{State, StateOf};

/// A guest that computes is interrupted this often, to let other requests pass.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without any call after which the clock stops, so that an idle gateway does not wake up.
const IDLE_TICKS: u32 = 100;
/// Component instances at one time, all plugins together.
const MAX_INSTANCES: u32 = 512;
/// Core instances, memories and tables of one component: components made from Python consist of
/// dozens.
const PARTS_PER_COMPONENT: u32 = 40;
/// Upper bound of `memory` in a plugin's settings.
pub const MAX_MEMORY: usize = 1 << 30;
/// Elements of the largest table: a Python component has about 20,000.
const MAX_TABLE: usize = 40_000;
/// What a component's instance may take of the host's own memory, in bytes.
const MAX_INSTANCE_SIZE: usize = 8 << 20;
/// Of an instance's memory and stack, this much is zeroed in place instead of given back to the
/// kernel, because a page fault costs more. With `PAGEMAP_SCAN` (Linux 6.7) only what was written.
const KEEP_RESIDENT: usize = 128 << 10;
/// Compiled code kept on disk at most, in bytes.
const CACHE_SIZE: u64 = 1 << 30;

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) linker: Arc<Linker<State>>,
    pub(crate) ticker: Arc<Ticker>,
    /// Turns of guests that compute for long.
    pub(crate) slow: Arc<Semaphore>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// An engine for as many `workers`, that keeps compiled code in `cache`, a directory of this
    /// user alone.
    ///
    /// # Errors
    /// In words, when neither allocator can be set up or the directory cannot be trusted.
    pub fn new(cache: Option<&Path>, workers: usize) -> Result<Self, String> {
        let cache = cache.map(compile_cache).transpose()?;
        let wasmtime = Self::pooling(cache.clone()).or_else(|cause| {
            // Where address space is limited, such as under `ulimit -v`.
            tracing::warn!(%cause, "no pool of plugin instances; each is allocated by itself");
            wasmtime::Engine::new(&base_config(cache)).map_err(|cause| format!("{cause:#}"))
        })?;
        let linker = link(&wasmtime).map_err(|cause| format!("{cause:#}"))?;
        let ticker = Ticker::start(wasmtime.weak())?;
        let slow = Arc::new(Semaphore::new(workers.max(1)));
        Ok(Self { wasmtime, linker: Arc::new(linker), ticker, slow })
    }

    fn pooling(cache: Option<Cache>) -> Result<wasmtime::Engine, String> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(MAX_INSTANCES)
            .total_core_instances(MAX_INSTANCES * 4)
            .total_memories(MAX_INSTANCES * 2)
            .total_tables(MAX_INSTANCES * 4)
            .total_stacks(MAX_INSTANCES)
            .max_core_instances_per_component(PARTS_PER_COMPONENT)
            .max_memories_per_component(PARTS_PER_COMPONENT)
            .max_tables_per_component(PARTS_PER_COMPONENT)
            .max_component_instance_size(MAX_INSTANCE_SIZE)
            .max_core_instance_size(MAX_INSTANCE_SIZE)
            .table_elements(MAX_TABLE)
            .max_memory_size(MAX_MEMORY)
            .linear_memory_keep_resident(KEEP_RESIDENT)
            .table_keep_resident(KEEP_RESIDENT)
            .pagemap_scan(Enabled::Auto)
            .async_stack_keep_resident(KEEP_RESIDENT);
        let mut config = base_config(cache);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        wasmtime::Engine::new(&config).map_err(|cause| format!("{cause:#}"))
    }
}

fn base_config(cache: Option<Cache>) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true).memory_init_cow(true).wasm_component_model(true).cache(cache);
    config
}

fn link(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wit::config::add_to_linker::<State, StateOf>(&mut linker, |state| state)?;
    wit::log::add_to_linker::<State, StateOf>(&mut linker, |state| state)?;
    wit::metric::add_to_linker::<State, StateOf>(&mut linker, |state| state)?;
    wit::clock::add_to_linker::<State, StateOf>(&mut linker, |state| state)?;
    wit::store::add_to_linker::<State, StateOf>(&mut linker, |state| state)?;
    Ok(linker)
}

/// A cache of compiled code in `dir`. What lies there is run as it is, so nobody else may write it.
fn compile_cache(dir: &Path) -> Result<Cache, String> {
    let shown = dir.display();
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(|cause| format!("{shown}: {cause}"))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(cause) if cause.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(format!("{shown}: {cause}"));
        }
        Ok(()) | Err(_) => {}
    }
    let found = fs::symlink_metadata(dir).map_err(|cause| format!("{shown}: {cause}"))?;
    let own = rustix::process::geteuid().as_raw();
    if !found.is_dir() || found.uid() != own || found.mode() & 0o077 != 0 {
        return Err(format!("{shown} is not a directory of this user alone (mode 0700)"));
    }
    let dir: PathBuf = fs::canonicalize(dir).map_err(|cause| format!("{shown}: {cause}"))?;
    let mut config = CacheConfig::new();
    config.with_directory(dir).with_files_total_size_soft_limit(CACHE_SIZE);
    Cache::new(config).map_err(|cause| format!("{shown}: {cause:#}"))
}

/// Advances the engine's epoch while calls run.
#[derive(Debug)]
pub(crate) struct Ticker {
    started: AtomicU64,
    running: AtomicU64,
    parked: AtomicBool,
    thread: Thread,
}

/// A call the clock ticks for.
pub(crate) struct Ticking<'a>(&'a Ticker);

impl Ticker {
    fn start(engine: wasmtime::EngineWeak) -> Result<Arc<Self>, String> {
        let (hand_over, receive) = std::sync::mpsc::sync_channel::<Arc<Self>>(1);
        let handle = thread::Builder::new()
            .name("plugin-clock".into())
            .spawn(move || {
                let Ok(ticker) = receive.recv() else { return };
                // The thread must not keep the engine, nor itself, alive.
                let ticker = { Arc::downgrade(&ticker) };
                let mut idle = 0;
                let mut seen = 0;
                loop {
                    thread::sleep(TICK);
                    let (Some(ticker), Some(engine)) = (ticker.upgrade(), engine.upgrade()) else {
                        return;
                    };
                    engine.increment_epoch();
                    let started = ticker.started.load(Ordering::SeqCst);
                    let busy = started != seen || ticker.running.load(Ordering::SeqCst) > 0;
                    idle = if busy { 0 } else { idle + 1 };
                    seen = started;
                    if idle >= IDLE_TICKS {
                        ticker.park(seen);
                        idle = 0;
                    }
                }
            })
            .map_err(|cause| format!("the plugin clock did not start: {cause}"))?;
        let ticker = Arc::new(Self {
            started: AtomicU64::new(0),
            running: AtomicU64::new(0),
            parked: AtomicBool::new(false),
            thread: handle.thread().clone(),
        });
        hand_over.send(Arc::clone(&ticker)).map_err(|cause| cause.to_string())?;
        Ok(ticker)
    }

    fn park(&self, seen: u64) {
        self.parked.store(true, Ordering::SeqCst);
        // A call that began before the flag was up did not see it.
        if self.started.load(Ordering::SeqCst) == seen {
            thread::park_timeout(Duration::from_secs(60));
        }
        self.parked.store(false, Ordering::SeqCst);
    }

    pub(crate) fn begin(&self) -> Ticking<'_> {
        self.started.fetch_add(1, Ordering::SeqCst);
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Ticking(self)
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
