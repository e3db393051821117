//! What requests are served with: the configuration in force and the upstreams' live state, which
//! outlives a reload.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::backend::Backend;
use super::embedder::{self, SharedEmbedder};
use super::seats::Seats;
use crate::cache::Cache;
use crate::cache::flight::Flights;
use crate::config::Config;
use crate::config::load::nearest;
use crate::error::{Error, Kind};
use crate::gpu::Sampler;
use crate::listener::accept::Connections;
use crate::plugin::{Chain, Decisions, Plugins};
use crate::request::auth::Callers;
use crate::request::body::Budget;
use crate::router::{Plan, Table};
use crate::telemetry::{AccessLog, Events};
use crate::upstream::Pool;
use crate::upstream::catalogue::Listing;
use crate::upstream::learned::Learned;

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
    /// Its embedder.
    pub embedder: Option<SharedEmbedder>,
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
            .enumerate()
            .map(|(index, upstream)| {
                let same = known.iter().find(|one| one.origin.config.name == upstream.name);
                Backend::new(&config, index, tls, same).map(Arc::new)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let table = Table::new(&config);
        let callers = Callers::new(&config.keys, previous.map(|snapshot| &snapshot.callers));
        let chain = |indexes: &Vec<usize>| {
            Chain::new(indexes.iter().map(|index| Arc::clone(&plugins[*index])).collect())
                .map(Arc::new)
        };
        let chains = config.routes.iter().map(|route| chain(&route.plugins)).collect();
        let embedder = embedder::of(&config.cache, &backends, previous)?;
        let before = previous.map(|snapshot| &snapshot.cache);
        let cache = Cache::new(&config.cache, embedder.clone(), before)?;
        Ok(Self { config, backends, table, callers, plugins, chains, cache, embedder })
    }

    /// The plugins of the route that `plan` came from.
    #[must_use]
    pub fn chain(&self, plan: &Plan) -> Option<&Arc<Chain>> {
        self.chains.get(plan.route?)?.as_ref()
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

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The configuration in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Why its file, as it was last read, is not in force.
    pub config_problem: ArcSwapOption<String>,
    /// Memory for request bodies.
    pub budget: Arc<Budget>,
    /// The access log.
    pub log: Arc<AccessLog>,
    /// Client connections.
    pub connections: Arc<Connections>,
    /// What plugins decided lately.
    pub decisions: Decisions,
    /// Where conversations were answered.
    pub seats: Seats,
    /// Requests being answered that others may follow.
    pub flights: Arc<Flights<super::cache::Origin>>,
    /// The GPUs of this machine.
    pub gpus: Sampler,
    /// What was learned about models.
    pub learned: Arc<Learned>,
    /// What admission did lately.
    pub events: Events,
    active: AtomicUsize,
}

/// One request being served.
#[derive(Debug)]
pub struct Active<'a>(&'a AtomicUsize);

impl Shared {
    /// Shared state around a first snapshot.
    #[must_use]
    pub fn new(
        snapshot: Snapshot,
        log: Arc<AccessLog>,
        gpus: Sampler,
        learned: Arc<Learned>,
    ) -> Self {
        let connections = Arc::new(Connections::default());
        connections.set_limit(snapshot.config.limits.connections);
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            config_problem: ArcSwapOption::empty(),
            budget: Arc::default(),
            log,
            connections,
            decisions: Decisions::default(),
            seats: Seats::default(),
            flights: Arc::default(),
            gpus,
            learned,
            events: Events::default(),
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
