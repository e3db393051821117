//! What requests are served with: the configuration in force and the upstreams' live state, which
//! outlives a reload.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use parking_lot::Mutex;
use sluicegate_plugin_host::Interface;
use tokio::time::Instant;

use super::embedder::UpstreamEmbedder;
use crate::admission::Slots;
use crate::breaker::Breaker;
use crate::cache::Cache;
use crate::cache::flight::Flights;
use crate::config::Config;
use crate::config::load::nearest;
use crate::config::raw::UpstreamKind;
use crate::error::{Error, Kind};
use crate::gpu::{Gpu, Sampler};
use crate::listener::accept::Connections;
use crate::plugin::{Chain, Decisions, Plugins};
use crate::request::auth::Callers;
use crate::request::body::Budget;
use crate::router::{Plan, Table};
use crate::telemetry::AccessLog;
use crate::upstream::catalogue::Listing;
use crate::upstream::residency::{Residency, Speeds};
use crate::upstream::{Catalogue, Digests, Origin, Pool};

/// A reading of GPUs that is older says nothing about now.
const FRESH: Duration = Duration::from_secs(5);

/// One upstream: its address and its live state.
#[derive(Debug)]
pub struct Backend {
    /// Where it is.
    pub origin: Origin,
    /// Its places.
    pub slots: Arc<Slots>,
    /// Its breaker.
    pub breaker: Arc<Breaker>,
    /// What it has.
    pub catalogue: Arc<Catalogue>,
    /// What of it is loaded.
    pub residency: Arc<Residency>,
    /// Which weights stand behind its models' names.
    pub digests: Arc<Digests>,
    /// How fast it is.
    pub speeds: Arc<Speeds>,
    /// Its name as a header value.
    pub name_header: HeaderValue,
    /// When it last began an answer.
    last_answer: Mutex<Option<Instant>>,
}

impl Backend {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.origin.config.name
    }

    /// Notes that it began an answer.
    pub(super) fn answered(&self) {
        *self.last_answer.lock() = Some(Instant::now());
    }

    /// Whether it began any answer after `since`.
    pub(super) fn answered_since(&self, since: Instant) -> bool {
        self.last_answer.lock().is_some_and(|at| at > since)
    }

    /// Bytes of VRAM that a model could still take: what no loaded model takes, and that of loaded
    /// ones too while nothing runs, because idle models make room. Of what `vram` declares, else of
    /// the GPUs of this machine where the upstream runs here too.
    #[must_use]
    pub fn headroom(&self, gpus: &Sampler) -> Option<u64> {
        let taken = self.residency.vram()?;
        let idle = self.slots.in_flight() == 0;
        if let Some(declared) = self.origin.config.vram {
            return Some(if idle { declared } else { declared.saturating_sub(taken) });
        }
        let here =
            matches!(self.origin.config.origin.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
        let sample = gpus.within(FRESH).filter(|sample| here && !sample.gpus.is_empty())?;
        let free: u64 = sample.gpus.iter().map(Gpu::memory_free).sum();
        Some(if idle { free.saturating_add(taken) } else { free })
    }

    /// Whether it has Ollama's native endpoints.
    #[must_use]
    pub fn is_ollama(&self) -> bool {
        self.origin.config.kind == UpstreamKind::Ollama
    }
}

/// A configuration in force, with everything made of it.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub config: Config,
    /// Upstreams in the order of the configuration.
    pub backends: Vec<Arc<Backend>>,
    /// Routes.
    pub table: Table,
    /// API keys.
    pub callers: Callers,
    /// Plugins in the order of the configuration.
    pub plugins: Plugins,
    /// The plugins of each route, in the order of the configuration.
    pub chains: Vec<Option<Arc<Chain>>>,
    /// The response cache.
    pub cache: Arc<Cache>,
}

impl Snapshot {
    /// Makes everything out of `config`, keeping the live state of what `previous` had already.
    pub fn new(
        config: Config,
        tls: Option<&Arc<rustls::ClientConfig>>,
        plugins: Plugins,
        previous: Option<&Snapshot>,
    ) -> Result<Self, String> {
        let known = previous.map_or(&[][..], |snapshot| &snapshot.backends);
        let backends = config
            .upstreams
            .iter()
            .map(|upstream| {
                let same = known.iter().find(|one| one.origin.config.name == upstream.name);
                backend(&config, upstream, tls, same)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let table = Table::new(&config);
        let callers = Callers::new(&config.keys, previous.map(|snapshot| &snapshot.callers));
        let chain = |indexes: &Vec<usize>| {
            Chain::new(indexes.iter().map(|index| Arc::clone(&plugins[*index])).collect())
                .map(Arc::new)
        };
        let chains = config.routes.iter().map(|route| chain(&route.plugins)).collect();
        let embedder = UpstreamEmbedder::of(&config.cache, &backends);
        let before = previous.map(|snapshot| &snapshot.cache);
        let cache = Cache::new(&config.cache, embedder, before)?;
        Ok(Self { config, backends, table, callers, plugins, chains, cache })
    }

    /// The plugins of the route that `plan` came from.
    #[must_use]
    pub fn chain(&self, plan: &Plan) -> Option<&Arc<Chain>> {
        self.chains.get(plan.route?)?.as_ref()
    }

    /// Whether any plugin wants to know the state of targets.
    #[must_use]
    pub fn has_routers(&self) -> bool {
        self.plugins.iter().any(|link| link.plugin().implements(Interface::Router))
    }

    /// What every Ollama has loaded now.
    pub async fn refresh_residency(&self, pool: &Arc<Pool>) {
        let mut asked = tokio::task::JoinSet::new();
        for backend in &self.backends {
            let (backend, pool) = (Arc::clone(backend), Arc::clone(pool));
            asked.spawn(async move { backend.residency.refresh(&backend.origin, &pool).await });
        }
        asked.join_all().await;
    }

    /// Reads anew which weights stand behind the names that the cache relied on lately.
    pub async fn refresh_digests(&self, pool: &Arc<Pool>) {
        for backend in &self.backends {
            backend.digests.keep(&backend.origin, pool).await;
        }
    }

    /// What every upstream has, asking those of which it was read longer than `age` ago, all at
    /// one time.
    pub async fn refresh(&self, pool: &Arc<Pool>, age: Duration) -> Vec<Listing> {
        let mut asked = Vec::with_capacity(self.backends.len());
        for backend in &self.backends {
            let (backend, pool) = (Arc::clone(backend), Arc::clone(pool));
            asked.push(tokio::spawn(async move {
                backend.catalogue.fresh(&backend.origin, &pool, age).await
            }));
        }
        let mut listings = Vec::with_capacity(asked.len());
        for one in asked {
            // A task that could not end knows nothing.
            listings.push(one.await.unwrap_or_default());
        }
        listings
    }

    /// The error for a model that no route names and no upstream has.
    #[must_use]
    pub fn unknown_model(&self, model: &str, listings: &[Listing]) -> Error {
        let listed =
            listings.iter().filter_map(|one| one.models.as_ref()).flat_map(|all| all.iter());
        let names = listed.map(|one| one.id.as_str()).chain(self.table.names());
        let hint = nearest(model, names).map_or_else(
            || "; GET /v1/models lists what there is".to_owned(),
            |near| format!("; did you mean `{near}`?"),
        );
        Error::new(Kind::ModelNotFound, format!("the model `{model}` does not exist here{hint}"))
            .param("model")
    }
}

fn backend(
    config: &Config,
    upstream: &crate::config::UpstreamConfig,
    tls: Option<&Arc<rustls::ClientConfig>>,
    same: Option<&Arc<Backend>>,
) -> Result<Arc<Backend>, String> {
    if let Some(known) = same {
        known.breaker.configure(config.breaker);
        known.slots.set_limit(upstream.max_concurrent);
        if known.origin.config == *upstream {
            return Ok(Arc::clone(known));
        }
    }
    let origin = Origin::new(upstream.clone(), tls)?;
    let moved = same.is_none_or(|known| known.origin.config.origin != upstream.origin);
    let name_header = HeaderValue::from_str(&upstream.name).map_err(|cause| cause.to_string())?;
    let last_answer = Mutex::default();
    // Requests on their way keep their places; a server at another address starts unjudged.
    let slots = same.map_or_else(
        || Arc::new(Slots::new(upstream.max_concurrent)),
        |known| Arc::clone(&known.slots),
    );
    let known = same.filter(|_| !moved);
    let breaker = known
        .map_or_else(|| Arc::new(Breaker::new(config.breaker)), |known| Arc::clone(&known.breaker));
    Ok(Arc::new(Backend {
        origin,
        slots,
        breaker,
        catalogue: known.map(|known| Arc::clone(&known.catalogue)).unwrap_or_default(),
        residency: known.map(|known| Arc::clone(&known.residency)).unwrap_or_default(),
        digests: known.map(|known| Arc::clone(&known.digests)).unwrap_or_default(),
        speeds: known.map(|known| Arc::clone(&known.speeds)).unwrap_or_default(),
        name_header,
        last_answer,
    }))
}

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The configuration in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Memory for request bodies.
    pub budget: Arc<Budget>,
    /// The access log.
    pub log: Arc<AccessLog>,
    /// Client connections.
    pub connections: Arc<Connections>,
    /// What plugins decided lately.
    pub decisions: Decisions,
    /// Requests being answered that others may follow.
    pub flights: Arc<Flights<super::cache::Origin>>,
    /// The GPUs of this machine.
    pub gpus: Sampler,
    active: AtomicUsize,
}

/// One request being served.
#[derive(Debug)]
pub struct Active<'a>(&'a AtomicUsize);

impl Shared {
    /// Shared state around a first snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot, log: Arc<AccessLog>, gpus: Sampler) -> Self {
        let connections = Arc::new(Connections::default());
        connections.set_limit(snapshot.config.limits.connections);
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            budget: Arc::default(),
            log,
            connections,
            decisions: Decisions::default(),
            flights: Arc::default(),
            gpus,
            active: AtomicUsize::new(0),
        }
    }

    /// Requests being served.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }

    pub(super) fn enter(&self) -> Active<'_> {
        self.active.fetch_add(1, Ordering::AcqRel);
        Active(&self.active)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
