//! One instance of a plugin, and those kept for the next call.

use std::sync::Arc;
use std::time::Duration;

use metrics::Gauge;
use parking_lot::Mutex;
use tokio::time::Instant;
use wasmtime::Store;
use wasmtime::component::{Instance as Component, InstancePre};

use crate::bindings::exports::sluicegate::plugin as wit;
use crate::engine::Engine;
use crate::state::{Shared, State};

/// An instance not needed for so long is dropped when another is given back.
const MAX_IDLE: Duration = Duration::from_secs(10);

/// Where a component's exports are; `None` for the interfaces it does not implement.
pub(crate) struct Exports {
    pub(crate) guest: wit::guest::GuestIndices,
    pub(crate) router: Option<wit::router::GuestIndices>,
    pub(crate) rewriter: Option<wit::rewriter::GuestIndices>,
    pub(crate) cache_policy: Option<wit::cache_policy::GuestIndices>,
    pub(crate) responder: Option<wit::responder::GuestIndices>,
}

impl Exports {
    pub(crate) fn find(pre: &InstancePre<State>) -> wasmtime::Result<Self> {
        Ok(Self {
            guest: wit::guest::GuestIndices::new(pre)?,
            router: wit::router::GuestIndices::new(pre).ok(),
            rewriter: wit::rewriter::GuestIndices::new(pre).ok(),
            cache_policy: wit::cache_policy::GuestIndices::new(pre).ok(),
            responder: wit::responder::GuestIndices::new(pre).ok(),
        })
    }
}

/// A component's memory and its typed exports, looked up when first called.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    component: Component,
    pub(crate) calls: u32,
    router: Option<wit::router::Guest>,
    rewriter: Option<wit::rewriter::Guest>,
    cache_policy: Option<wit::cache_policy::Guest>,
    responder: Option<wit::responder::Guest>,
    alive: Gauge,
}

/// The function of an interface, and the store to call it with.
pub(crate) type Export<'a, G> = wasmtime::Result<(&'a mut Store<State>, &'a G)>;

impl Instance {
    pub(crate) async fn new(
        engine: &Engine,
        pre: &InstancePre<State>,
        shared: &Arc<Shared>,
        alive: Gauge,
    ) -> wasmtime::Result<Self> {
        let mut store = Store::new(&engine.wasmtime, State::new(Arc::clone(shared)));
        store.limiter(|state| state);
        // At every tick of the clock the guest lets others run.
        store.epoch_deadline_async_yield_and_update(1);
        store.set_epoch_deadline(1);
        let component = pre.instantiate_async(&mut store).await?;
        alive.increment(1);
        Ok(Self {
            store,
            component,
            calls: 0,
            router: None,
            rewriter: None,
            cache_policy: None,
            responder: None,
            alive,
        })
    }

    pub(crate) fn arm(&mut self) {
        self.calls = self.calls.saturating_add(1);
        self.store.set_epoch_deadline(1);
    }

    pub(crate) fn guest(&mut self, exports: &Exports) -> wasmtime::Result<wit::guest::Guest> {
        exports.guest.load(&mut self.store, &self.component)
    }

    pub(crate) fn router(&mut self, exports: &Exports) -> Export<'_, wit::router::Guest> {
        if self.router.is_none() {
            let indices = exports.router.as_ref().ok_or_else(missing)?;
            self.router = Some(indices.load(&mut self.store, &self.component)?);
        }
        Ok((&mut self.store, self.router.as_ref().ok_or_else(missing)?))
    }

    pub(crate) fn rewriter(&mut self, exports: &Exports) -> Export<'_, wit::rewriter::Guest> {
        if self.rewriter.is_none() {
            let indices = exports.rewriter.as_ref().ok_or_else(missing)?;
            self.rewriter = Some(indices.load(&mut self.store, &self.component)?);
        }
        Ok((&mut self.store, self.rewriter.as_ref().ok_or_else(missing)?))
    }

    pub(crate) fn cache_policy(
        &mut self,
        exports: &Exports,
    ) -> Export<'_, wit::cache_policy::Guest> {
        if self.cache_policy.is_none() {
            let indices = exports.cache_policy.as_ref().ok_or_else(missing)?;
            self.cache_policy = Some(indices.load(&mut self.store, &self.component)?);
        }
        Ok((&mut self.store, self.cache_policy.as_ref().ok_or_else(missing)?))
    }

    pub(crate) fn responder(&mut self, exports: &Exports) -> Export<'_, wit::responder::Guest> {
        if self.responder.is_none() {
            let indices = exports.responder.as_ref().ok_or_else(missing)?;
            self.responder = Some(indices.load(&mut self.store, &self.component)?);
        }
        Ok((&mut self.store, self.responder.as_ref().ok_or_else(missing)?))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.alive.decrement(1);
    }
}

fn missing() -> wasmtime::Error {
    wasmtime::format_err!("the plugin does not export this interface")
}

/// Instances between two calls.
#[derive(Default)]
pub(crate) struct Idle {
    /// The one used last is taken first.
    kept: Mutex<Vec<(Instant, Instance)>>,
}

impl Idle {
    pub(crate) fn take(&self) -> Option<Instance> {
        self.kept.lock().pop().map(|(_, instance)| instance)
    }

    /// Keeps `instance` unless there are `most` already.
    pub(crate) fn put(&self, instance: Instance, most: usize) {
        let now = Instant::now();
        let mut kept = self.kept.lock();
        // A burst's instances go again: all plugins share what there is.
        let unused = kept.first().is_some_and(|(since, _)| now.duration_since(*since) > MAX_IDLE);
        let cold = if unused { Some(kept.remove(0)) } else { None };
        if kept.len() < most {
            kept.push((now, instance));
        }
        drop(kept);
        drop(cold);
    }
}
