//! From the configuration's plugins to loaded ones: at the start, and at every reload, where what
//! did not change is kept and a bad file leaves the old one running.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use metrics::counter;
use sluicegate_plugin_host::plugin::digest;
use sluicegate_plugin_host::store::{Connection, Redis, Store};
use sluicegate_plugin_host::{Engine, Plugin, Settings, settings};

use super::link::Link;
use crate::config::Config;
use crate::config::plugins::{Isolation, PluginConfig, PluginSource};
use crate::telemetry::names;

/// The largest file taken for a plugin, in bytes.
const MAX_FILE: u64 = 256 << 20;

/// Every plugin of a configuration, in its order.
pub type Plugins = Vec<Arc<Link>>;

/// Loads plugins. One for the process: the engine is made when the first plugin needs it, and stays.
#[derive(Debug, Default)]
pub struct Loader {
    engine: OnceLock<Engine>,
    redis: OnceLock<Connection>,
}

impl Loader {
    /// Loads what `config` names; `previous` is what ran before. Takes up to seconds.
    ///
    /// # Errors
    /// In words, when a plugin cannot be had as configured and no equal one runs already.
    pub fn load(&self, config: &Config, previous: &[Arc<Link>]) -> Result<Plugins, String> {
        let mut plugins = Vec::with_capacity(config.plugins.len());
        for wanted in &config.plugins {
            let old = previous.iter().find(|link| link.config.name == wanted.name);
            plugins.push(self.one(config, wanted, old)?);
        }
        Ok(plugins)
    }

    fn one(
        &self,
        config: &Config,
        wanted: &PluginConfig,
        old: Option<&Arc<Link>>,
    ) -> Result<Arc<Link>, String> {
        let same = old.filter(|link| link.config == *wanted);
        let loaded = read(wanted).and_then(|(wasm, found)| {
            if let Some(link) = same.filter(|link| link.plugin().digest() == found) {
                return Ok(Arc::clone(link));
            }
            let link = self.fresh(config, wanted, &wasm, old)?;
            if old.is_some() {
                reloaded(wanted, "ok");
                tracing::info!(plugin = wanted.name, "plugin reloaded");
            }
            Ok(link)
        });
        loaded.or_else(|why| {
            let name = &wanted.name;
            if old.is_some() {
                reloaded(wanted, "error");
            }
            let Some(link) = same else { return Err(format!("plugin `{name}`: {why}")) };
            tracing::error!(plugin = name, "plugin not reloaded, the last good one stays: {why}");
            Ok(Arc::clone(link))
        })
    }

    fn fresh(
        &self,
        config: &Config,
        wanted: &PluginConfig,
        wasm: &[u8],
        old: Option<&Arc<Link>>,
    ) -> Result<Arc<Link>, String> {
        let engine = self.engine(config)?;
        // What it stored before is still there; a Redis is named for the whole process.
        let store = match old {
            Some(link) => Arc::clone(link.plugin().store()),
            None => Arc::new(self.store(config, &wanted.name)?),
        };
        // Its own runtime: this is no place where one runs.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|cause| cause.to_string())?;
        let plugin = runtime
            .block_on(Plugin::load(&engine, wasm, host_settings(wanted), store))
            .map_err(|cause| match &wanted.source {
                PluginSource::File(path) => format!("{}: {cause}", path.display()),
                PluginSource::Builtin => cause.to_string(),
            })?;
        let about = plugin.description();
        tracing::debug!(plugin = wanted.name, is = about.name, version = about.version, "loaded");
        Ok(Arc::new(Link::new(wanted.clone(), plugin)))
    }

    fn store(&self, config: &Config, plugin: &str) -> Result<Store, String> {
        let Some(url) = &config.plugin_store else { return Ok(Store::default()) };
        let connection = match self.redis.get() {
            Some(connection) => connection.clone(),
            None => {
                let opened = Connection::new(url.reveal())
                    .map_err(|cause| format!("`plugin_store`: {cause}"))?;
                self.redis.get_or_init(|| opened).clone()
            }
        };
        Ok(Store::Redis(Redis::new(connection, plugin)))
    }

    fn engine(&self, config: &Config) -> Result<Engine, String> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine.clone());
        }
        let cache = config.plugin_cache.clone().or_else(cache_directory);
        let engine = Engine::new(cache.as_deref(), config.workers).or_else(|cause| {
            if config.plugin_cache.is_some() {
                return Err(format!("`plugin_cache`: {cause}"));
            }
            tracing::warn!("plugins are compiled anew at every start: {cause}");
            Engine::new(None, config.workers)
        })?;
        Ok(self.engine.get_or_init(|| engine).clone())
    }
}

/// Counts the reload of one plugin.
fn reloaded(plugin: &PluginConfig, result: &'static str) {
    counter!(names::PLUGIN_RELOADS, "plugin" => plugin.name.clone(), "result" => result)
        .increment(1);
}

/// The user's own cache directory, as the XDG base directory specification has it.
#[must_use]
pub fn cache_directory() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("sluicegate"))
}

/// The component, and its digest.
fn read(wanted: &PluginConfig) -> Result<(Vec<u8>, String), String> {
    let wasm = match &wanted.source {
        PluginSource::Builtin => {
            let names = || sluicegate_builtin_plugins::ALL.iter().map(|(name, _)| *name);
            let found =
                sluicegate_builtin_plugins::ALL.iter().find(|(name, _)| *name == wanted.name);
            let known = || names().collect::<Vec<_>>().join(", ");
            found
                .ok_or_else(|| format!("no builtin has this name; there are {}", known()))?
                .1
                .to_vec()
        }
        PluginSource::File(path) => {
            let shown = path.display();
            let size = std::fs::metadata(path).map_err(|cause| format!("{shown}: {cause}"))?.len();
            if size > MAX_FILE {
                return Err(format!("{shown}: larger than {MAX_FILE} bytes"));
            }
            std::fs::read(path).map_err(|cause| format!("{shown}: {cause}"))?
        }
    };
    let found = digest(&wasm);
    if wanted.sha256.as_ref().is_some_and(|pinned| *pinned != found) {
        return Err(format!("its SHA-256 is {found}, not the one that `sha256` pins"));
    }
    Ok((wasm, found))
}

fn host_settings(wanted: &PluginConfig) -> Settings {
    Settings {
        name: wanted.name.clone(),
        config: wanted.config.clone(),
        deadline: wanted.deadline,
        memory: wanted.memory,
        isolation: match wanted.isolation {
            Isolation::Request => settings::Isolation::Request,
            Isolation::Reuse => settings::Isolation::Reuse,
        },
        max_calls_per_instance: wanted.max_calls_per_instance,
        max_concurrent: wanted.max_concurrent,
        log_lines_per_second: wanted.log_lines_per_second,
        allow: settings::Allow {
            random: wanted.allow.random,
            env: wanted.allow.env.clone(),
            read: wanted.allow.read.iter().map(PathBuf::from).collect(),
        },
    }
}
