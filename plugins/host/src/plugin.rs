//! One plugin: compiled, linked, and asked who it is.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use wasmtime::component::{Component, InstancePre};

use crate::bindings::sluicegate::plugin::log::Level;
use crate::bindings::sluicegate::plugin::types::{Description, Needs};
use crate::call::Failure;
use crate::engine::Engine;
use crate::events::Events;
use crate::figures::Figures;
use crate::instance::{Exports, Idle, Instance};
use crate::logging::Log;
use crate::settings::{Isolation, Settings};
use crate::state::{Shared, State};
use crate::store::Store;

/// The first call may take longer: pages are touched for the first time, and an interpreter starts.
const DESCRIBE_TIME: Duration = Duration::from_secs(10);

/// Lines a second about failed calls.
const HOST_LINES: u32 = 2;

/// What a plugin can implement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Chooses where a request goes.
    Router,
    /// Changes a request.
    Rewriter,
    /// Says what may be cached.
    CachePolicy,
    /// Changes answers.
    Responder,
}

impl Interface {
    /// Every interface.
    pub const ALL: [Self; 4] = [Self::Router, Self::Rewriter, Self::CachePolicy, Self::Responder];

    /// Its name in WIT and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Rewriter => "rewriter",
            Self::CachePolicy => "cache-policy",
            Self::Responder => "responder",
        }
    }
}

/// Why a file is no plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not a component, or one for another interface.
    #[error("it cannot be used as a plugin: {0}")]
    Component(String),
    /// It exports `guest` and nothing to call.
    #[error("it exports none of router, rewriter, cache-policy and responder")]
    NoInterface,
    /// It failed when asked who it is.
    #[error("its `describe` failed: {0}")]
    Describe(#[from] Failure),
    /// It refuses to run, in its own words.
    #[error("it says: {0}")]
    Refused(String),
}

/// A plugin, ready to be called.
pub struct Plugin {
    settings: Settings,
    description: Description,
    digest: String,
    engine: Engine,
    pre: InstancePre<State>,
    exports: Exports,
    shared: Arc<Shared>,
    idle: Idle,
    places: Semaphore,
    figures: Figures,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The SHA-256 of a plugin's file, in hexadecimal.
#[must_use]
pub fn digest(wasm: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(wasm).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a file that is no component is instead
/// (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md>).
fn check_kind(wasm: &[u8]) -> Result<(), &'static str> {
    // The version of core modules, then the layer, which is theirs as well.
    match (wasm.get(..4), wasm.get(4..8)) {
        (Some(b"\0asm"), Some([1, 0, 0, 0])) => {
            Err("it is a core module, and a component is expected: build it for wasm32-wasip2")
        }
        (Some(b"\0asm"), _) => Ok(()),
        _ => Err("it is no WASM file"),
    }
}

impl Plugin {
    /// Compiles `wasm`, or finds it compiled, and asks it who it is. Takes up to seconds: not for
    /// a request's path. `store` is what a plugin of this name has stored before.
    ///
    /// # Errors
    /// When it is no plugin, or refuses its configuration.
    pub async fn load(
        engine: &Engine,
        wasm: &[u8],
        settings: Settings,
        store: Arc<Store>,
    ) -> Result<Self, LoadError> {
        let wrong = |cause: wasmtime::Error| LoadError::Component(format!("{cause:#}"));
        check_kind(wasm).map_err(|why| LoadError::Component(why.into()))?;
        let component = Component::new(&engine.wasmtime, wasm).map_err(wrong)?;
        let pre = engine.linker.instantiate_pre(&component).map_err(wrong)?;
        let exports = Exports::find(&pre).map_err(|cause| {
            let why = "it is no plugin, or one for another version of the contract";
            LoadError::Component(format!("{why}: {cause:#}"))
        })?;
        let shared = Arc::new(Shared {
            config_text: settings.config.to_string(),
            config: settings.config.clone(),
            log: Log::new(&settings.name, settings.log_lines_per_second),
            host_log: Log::new(&settings.name, HOST_LINES),
            events: Events::new(&settings.name),
            store,
            allow: settings.allow.clone(),
            memory: settings.memory,
            started: Instant::now(),
        });
        let mut plugin = Self {
            places: Semaphore::new(settings.max_concurrent),
            figures: Figures::new(&settings.name),
            description: Description {
                name: String::new(),
                version: String::new(),
                needs: Needs::empty(),
            },
            digest: digest(wasm),
            engine: engine.clone(),
            pre,
            exports,
            shared,
            idle: Idle::default(),
            settings,
        };
        if plugin.interfaces().next().is_none() {
            return Err(LoadError::NoInterface);
        }
        let description = plugin.describe(DESCRIBE_TIME).await?;
        plugin.description = description.map_err(LoadError::Refused)?;
        Ok(plugin)
    }

    /// How it is run.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Who it says it is.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// SHA-256 of its file, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What it stored.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }

    /// Whether it implements `interface`.
    #[must_use]
    pub fn implements(&self, interface: Interface) -> bool {
        match interface {
            Interface::Router => self.exports.router.is_some(),
            Interface::Rewriter => self.exports.rewriter.is_some(),
            Interface::CachePolicy => self.exports.cache_policy.is_some(),
            Interface::Responder => self.exports.responder.is_some(),
        }
    }

    /// What it implements.
    pub fn interfaces(&self) -> impl Iterator<Item = Interface> + '_ {
        Interface::ALL.into_iter().filter(|one| self.implements(*one))
    }

    /// Its metrics.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Writes a failed call to the plugin's log, at its rate.
    pub fn log_failure(&self, failure: &Failure) {
        self.shared.host_log.write(Level::Warn, &format!("a call failed: {failure}"));
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }

    pub(crate) fn places(&self) -> &Semaphore {
        &self.places
    }

    pub(crate) fn take_idle(&self) -> Option<Instance> {
        if self.settings.isolation == Isolation::Request { None } else { self.idle.take() }
    }

    pub(crate) fn give_back(&self, instance: Instance) {
        let reuse = self.settings.isolation == Isolation::Reuse;
        if reuse && instance.calls < self.settings.max_calls_per_instance {
            self.idle.put(instance, self.settings.max_concurrent);
        }
    }

    pub(crate) async fn instantiate(&self) -> wasmtime::Result<Instance> {
        let alive = self.figures.instances.clone();
        Instance::new(&self.engine, &self.pre, &self.shared, alive).await
    }
}
