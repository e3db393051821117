//! What a guest can reach: its configuration, a log, figures, the time, its store, and as much of
//! WASI as it was granted.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use wasmtime::ResourceLimiter;
use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::{Deterministic, FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::bindings::sluicegate::plugin as wit;
use crate::events::Events;
use crate::logging::Log;
use crate::output::Output;
use crate::settings::Allow;
use crate::store::{Store, StoreError};

/// Tables of one guest and their elements, as growth allows.
const MAX_TABLE_ELEMENTS: usize = 40_000;

/// What all instances of a plugin share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) config: serde_json::Value,
    pub(crate) config_text: String,
    pub(crate) log: Log,
    /// For what the host says about it, which its own lines must not crowd out.
    pub(crate) host_log: Log,
    pub(crate) events: Events,
    pub(crate) store: Arc<Store>,
    pub(crate) allow: Allow,
    pub(crate) memory: usize,
    pub(crate) started: Instant,
}

/// One instance's side of the host.
pub struct State {
    shared: Arc<Shared>,
    /// Bytes of memory held.
    pub(crate) memory: usize,
    /// Made when the guest first calls WASI, which most never do.
    wasi: Option<WasiCtx>,
    table: ResourceTable,
}

/// Names [`State`] to the linker.
pub(crate) struct StateOf;

impl HasData for StateOf {
    type Data<'a> = &'a mut State;
}

impl State {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, memory: 0, wasi: None, table: ResourceTable::new() }
    }
}

/// A guest wanted more than it may have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Exhausted {
    #[error("more memory wanted than {0} bytes")]
    Memory(usize),
    #[error("a larger table wanted than {MAX_TABLE_ELEMENTS} elements")]
    Table,
}

/// Refusal ends the call: guests do not expect it, and fail in worse ways.
impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // A component may have several memories.
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        if total > self.shared.memory {
            return Err(Exhausted::Memory(self.shared.memory).into());
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE_ELEMENTS {
            return Err(Exhausted::Table.into());
        }
        Ok(true)
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| wasi(&self.shared));
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// WASI with nothing in it but what the plugin was granted.
fn wasi(shared: &Arc<Shared>) -> WasiCtx {
    let mut builder = WasiCtxBuilder::new();
    builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    if !shared.allow.random {
        let same = || Deterministic::new((0..=255).collect());
        builder.secure_random(same()).insecure_random(same());
        builder.insecure_random_seed(3);
    }
    for name in &shared.allow.env {
        if let Ok(value) = std::env::var(name) {
            builder.env(name, value);
        }
    }
    for dir in &shared.allow.read {
        let shown = dir.to_string_lossy();
        if let Err(cause) = builder.preopened_dir(dir, &*shown, FsPerms::ReadOnly) {
            shared.log.write(wit::log::Level::Warn, &format!("cannot open {shown}: {cause}"));
        }
    }
    builder.stdout(Output(Arc::clone(shared))).stderr(Output(Arc::clone(shared)));
    builder.build()
}

impl wit::types::Host for State {}

impl wit::config::Host for State {
    fn get(&mut self, path: String) -> Option<String> {
        let mut at = &self.shared.config;
        for step in path.split('.') {
            at = match at {
                serde_json::Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                other => other.get(step)?,
            };
        }
        match at {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Bool(_) | serde_json::Value::Number(_) => Some(at.to_string()),
            serde_json::Value::Null
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => None,
        }
    }

    fn json(&mut self) -> String {
        self.shared.config_text.clone()
    }
}

impl wit::log::Host for State {
    fn write(&mut self, level: wit::log::Level, message: String) {
        self.shared.log.write(level, &message);
    }
}

impl wit::metric::Host for State {
    fn add(&mut self, name: String, label: String, by: u64) {
        self.shared.events.add(&name, &label, by);
    }
}

impl wit::clock::Host for State {
    fn unix_ms(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_us(&mut self) -> u64 {
        u64::try_from(self.shared.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl From<StoreError> for wit::store::Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooLarge => Self::TooLarge,
            StoreError::NotANumber => Self::NotANumber,
            StoreError::Unavailable => Self::Unavailable,
        }
    }
}

impl wit::store::Host for State {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, wit::store::Failure> {
        Ok(self.shared.store.get(&key).await?)
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: u64,
    ) -> Result<(), wit::store::Failure> {
        Ok(self.shared.store.set(&key, value, Duration::from_millis(ttl_ms)).await?)
    }

    async fn delete(&mut self, key: String) -> Result<(), wit::store::Failure> {
        Ok(self.shared.store.delete(&key).await?)
    }

    async fn increment(
        &mut self,
        key: String,
        by: i64,
        ttl_ms: u64,
    ) -> Result<i64, wit::store::Failure> {
        Ok(self.shared.store.increment(&key, by, Duration::from_millis(ttl_ms)).await?)
    }
}
