//! What all plugins share: the compiler, the memory that instances are taken from, and the clock
//! that interrupts a guest.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig,
};

use crate::bindings::sluicegate::plugin as wit;
use crate::clock::Ticker;
use crate::state::{State, StateOf};

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
