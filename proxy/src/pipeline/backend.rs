//! One upstream: its address and its live state, which outlives a reload.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::container;
use super::prepare::Runner;
use crate::admission::{Ask, Gate, Headroom, Offload, Priority, Terms};
use crate::breaker::{Breaker, ModelBreakers};
use crate::config::admission::{self, Admission};
use crate::config::cache::EmbedderConfig;
use crate::config::gpus::GpusBehind;
use crate::config::models::{Keep, NumCtx};
use crate::config::raw::{self, UpstreamKind};
use crate::config::{Config, UpstreamConfig, glob};
use crate::gpu::{Gpu, Sampler};
use crate::ids::CallerName;
use crate::native::context;
use crate::ollama::same_model;
use crate::telemetry::names;
use crate::upstream::ask::Unanswered;
use crate::upstream::container::Container;
use crate::upstream::figures::Figures;
use crate::upstream::residency::{Residency, Speeds};
use crate::upstream::{Catalogue, Digests, Origin, Pool};

/// Models whose contexts are chosen by need.
const MAX_CONTEXTS: usize = 256;
/// The longest context that is chosen by need, in tokens: one client is not to have a model take all memory.
const MAX_CONTEXT: u64 = 262_144;
/// A reading of GPUs that is older says nothing about now.
pub(super) const FRESH: Duration = Duration::from_secs(5);

/// One upstream.
#[derive(Debug)]
pub struct Backend {
    name: Arc<str>,
    /// Where it is.
    pub origin: Origin,
    /// Its places, who waits for them, and what is loaded for whom.
    pub gate: Arc<Gate>,
    /// Its breaker.
    pub breaker: Arc<Breaker>,
    /// Those of its models, within its own.
    pub breakers: Arc<ModelBreakers>,
    /// What it has.
    pub catalogue: Arc<Catalogue>,
    /// What of it is loaded.
    pub residency: Arc<Residency>,
    /// Which weights stand behind its models' names.
    pub digests: Arc<Digests>,
    /// How fast it is.
    pub speeds: Arc<Speeds>,
    /// What its models take.
    pub figures: Arc<ArcSwap<Figures>>,
    /// The GPUs behind it, where they are another machine's.
    pub remote: Arc<ArcSwapOption<Remote>>,
    /// The model that makes embeddings for the cache.
    embedder: Option<String>,
    /// Models that people pinned.
    pub pins: Arc<ArcSwap<Vec<String>>>,
    /// Contexts chosen by need.
    contexts: Arc<Mutex<Vec<Context>>>,
    /// Contexts that clients of the native API chose: another request has the model loaded anew.
    passing: Arc<Mutex<Vec<Context>>>,
    /// Whether it hangs: it takes connections and answers nothing, not even what it has loaded.
    pub hangs: Arc<watch::Sender<bool>>,
    /// The gateway that tells of the GPUs behind it, where these are another machine's.
    pub teller: Option<Origin>,
    /// The container it runs in.
    pub container: Option<Arc<Container>>,
    /// What becomes of models that run partly on the CPU.
    pub offload: admission::Offload,
    /// What becomes of prompts that are longer than their model's context.
    pub long_prompts: admission::LongPrompts,
    /// Models that routes want loaded in a way of their own: names or globs, the routes' order.
    runners: Vec<(String, Arc<Runner>)>,
    /// The one caller there is, where callers do not share its places fairly.
    anyone: Option<Arc<str>>,
    /// When it last began an answer.
    last_answer: Mutex<Option<Instant>>,
}

/// A model's context that was chosen by need.
#[derive(Debug)]
struct Context {
    model: String,
    tokens: u64,
    at: Instant,
}

/// The GPUs of another machine.
#[derive(Debug)]
pub struct Remote {
    /// The GPUs.
    pub gpus: Vec<Gpu>,
    /// When they were read.
    pub read: Instant,
}

/// Whose request it is, as far as admission cares.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The caller.
    pub caller: Arc<str>,
    /// Its share relative to others.
    pub weight: u32,
    /// Whether somebody waits for the answer.
    pub priority: raw::Priority,
}

impl Default for Standing {
    fn default() -> Self {
        let CallerName(caller) = CallerName::anonymous();
        Self { caller, weight: 1, priority: raw::Priority::Interactive }
    }
}

impl Backend {
    /// The upstream at `index` of `config`, with the live state of the one that had its name before.
    pub fn new(
        config: &Config,
        index: usize,
        tls: Option<&Arc<rustls::ClientConfig>>,
        before: Option<&Arc<Backend>>,
    ) -> Result<Self, String> {
        let upstream = &config.upstreams[index];
        let terms = terms(&config.admission, upstream);
        // Requests on their way keep their places; a server at another address starts unjudged.
        let gate = match before {
            Some(known) => Arc::clone(&known.gate),
            None => Arc::new(Gate::new(terms.clone())),
        };
        gate.configure(terms);
        let moved = |known: &&Arc<Backend>| {
            let before = &known.origin.config;
            (&before.origin, before.kind, &before.base_path)
                != (&upstream.origin, upstream.kind, &upstream.base_path)
        };
        let known = before.filter(|known| !moved(known));
        if known.is_none() {
            // What was loaded there is not here.
            gate.know(None);
        }
        let (breaker, breakers) = match known {
            Some(known) => (Arc::clone(&known.breaker), Arc::clone(&known.breakers)),
            None => {
                let breaker = Arc::new(Breaker::new(config.breaker));
                let breakers = ModelBreakers::new(Arc::clone(&breaker), config.breaker);
                (breaker, Arc::new(breakers))
            }
        };
        breakers.configure(config.breaker);
        let origin = Origin::new(upstream.clone(), tls)?;
        // An alert on its increase is to see the first.
        counter!(names::PROMPTS_CUT, "upstream" => upstream.name.clone()).increment(0);
        let same_container = |known: &&Arc<Backend>| {
            let before = &known.origin.config;
            (&before.container, &before.origin) == (&upstream.container, &upstream.origin)
                && known.container.is_some()
        };
        let container = before.filter(same_container).and_then(|known| known.container.clone());
        Ok(Self {
            name: upstream.name.as_str().into(),
            teller: teller(upstream, tls)?,
            container: container
                .or_else(|| container::settings(upstream).map(Container::new).map(Arc::new)),
            origin,
            gate,
            breaker,
            breakers,
            catalogue: known.map(|known| Arc::clone(&known.catalogue)).unwrap_or_default(),
            residency: known.map(|known| Arc::clone(&known.residency)).unwrap_or_default(),
            digests: known.map(|known| Arc::clone(&known.digests)).unwrap_or_default(),
            speeds: known.map(|known| Arc::clone(&known.speeds)).unwrap_or_default(),
            figures: known.map(|known| Arc::clone(&known.figures)).unwrap_or_default(),
            remote: known.map(|known| Arc::clone(&known.remote)).unwrap_or_default(),
            embedder: embedder(config, index),
            pins: known.map(|known| Arc::clone(&known.pins)).unwrap_or_default(),
            contexts: known.map(|known| Arc::clone(&known.contexts)).unwrap_or_default(),
            passing: known.map(|known| Arc::clone(&known.passing)).unwrap_or_default(),
            hangs: known.map(|known| Arc::clone(&known.hangs)).unwrap_or_default(),
            offload: config.admission.offload,
            long_prompts: config.admission.long_prompts,
            runners: runners(config, index),
            anyone: (config.admission.queue.fair_by == admission::FairBy::None)
                .then(|| Arc::from("anyone")),
            last_answer: Mutex::new(known.and_then(|known| *known.last_answer.lock())),
        })
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, for what outlives the configuration.
    #[must_use]
    pub fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Notes that it began an answer.
    pub(super) fn answered(&self) {
        *self.last_answer.lock() = Some(Instant::now());
    }

    /// Whether it began any answer after `since`.
    pub(super) fn answered_since(&self, since: Instant) -> bool {
        self.last_answer.lock().is_some_and(|at| at > since)
    }

    /// Whether it has Ollama's native endpoints.
    #[must_use]
    pub fn is_ollama(&self) -> bool {
        self.origin.config.kind == UpstreamKind::Ollama
    }

    /// What routes want `model` loaded with here, if any does.
    #[must_use]
    pub fn runner(&self, model: &str) -> Option<&Arc<Runner>> {
        let fits = |name: &str| glob::matches(name, model) || same_model(name, model);
        self.runners.iter().find(|(name, _)| fits(name)).map(|(_, runner)| runner)
    }

    /// The context that a route wants `model` loaded with here, if any does.
    #[must_use]
    pub fn num_ctx(&self, model: &str) -> Option<NumCtx> {
        self.runner(model)?.num_ctx
    }

    /// What tells answers of `model` from those of others of its name: its weights, and what it is
    /// loaded with. `None` while that is not known, for which `wait` is the longest wait.
    pub async fn weights(&self, pool: &Arc<Pool>, model: &str, wait: Duration) -> Option<String> {
        let weights = self.digests.of(&self.origin, pool, model, wait).await?;
        Some(match self.runner(model) {
            Some(runner) => format!("{weights} {runner:?}"),
            None => weights,
        })
    }

    /// The context that `model` is run with so that `needed` tokens fit: what it has, or the next
    /// larger one, which it keeps.
    pub(super) fn grow_context(&self, model: &str, needed: u64) -> u64 {
        let loaded = self.residency.of(model).context_length;
        let mut contexts = self.contexts.lock();
        let known = contexts.iter().position(|one| same_model(&one.model, model));
        let chosen = known.map(|index| contexts[index].tokens);
        let has = loaded.max(chosen).filter(|has| *has >= needed);
        let tokens = has.unwrap_or_else(|| context::bucket(needed, Some(MAX_CONTEXT)));
        if chosen != Some(tokens) {
            if let Some(index) = known {
                contexts.swap_remove(index);
            }
            if contexts.len() < MAX_CONTEXTS {
                contexts.push(Context { model: model.to_owned(), tokens, at: Instant::now() });
            }
        }
        tokens
    }

    /// Notes that a client of the native API has `model` loaded with a context of its own.
    pub(super) fn pass_context(&self, model: &str, tokens: u64) {
        let mut passing = self.passing.lock();
        passing.retain(|one| !same_model(&one.model, model));
        if passing.len() < MAX_CONTEXTS {
            passing.push(Context { model: model.to_owned(), tokens, at: Instant::now() });
        }
    }

    /// The context that `model` is loaded with, unless that may be one that only a client's own request
    /// asked for.
    pub(super) fn lasting_context(&self, model: &str) -> Option<u64> {
        let loaded = self.residency.of(model).context_length?;
        let passing = self.passing.lock();
        let chosen = passing.iter().find(|one| same_model(&one.model, model));
        (chosen.map(|one| one.tokens) != Some(loaded)).then_some(loaded)
    }

    /// The context that was chosen for `model`.
    #[must_use]
    pub fn context(&self, model: &str) -> Option<u64> {
        let contexts = self.contexts.lock();
        contexts.iter().find(|one| same_model(&one.model, model)).map(|one| one.tokens)
    }

    /// Forgets the contexts of models that are not loaded any more.
    pub fn forget_contexts(&self) {
        let Some(seen) = self.residency.seen() else { return };
        let is_loaded = |model: &str| seen.models.iter().any(|one| same_model(&one.name, model));
        self.contexts.lock().retain(|one| {
            one.at >= seen.asked
                || is_loaded(&one.model)
                || self.gate.in_flight_of(&one.model) > 0
                || self.gate.waiting() > 0
        });
    }

    /// Whether `model` is to stay loaded for good; the cache's embedder is asked with every lookup.
    #[must_use]
    pub fn is_pinned(&self, model: &str) -> bool {
        self.keep(model).is_some_and(|keep| keep.pin)
            || self.embedder.as_ref().is_some_and(|embedder| same_model(embedder, model))
            || self.pins.load().iter().any(|pin| same_model(pin, model))
    }

    /// What the configuration says of keeping `model` loaded.
    #[must_use]
    pub fn keep(&self, model: &str) -> Option<&Keep> {
        let all = &self.origin.config.models;
        all.iter().find(|(name, _)| same_model(name, model)).map(|(_, keep)| keep)
    }

    /// What a request for `model` asks of the gate. With `loads` false it needs nothing loaded.
    #[must_use]
    pub fn ask(&self, model: &Arc<str>, standing: &Standing, loads: bool) -> Ask {
        let need =
            if loads { self.figures.load().get(model).and_then(|one| one.need) } else { None };
        Ask {
            model: Arc::clone(model),
            caller: Arc::clone(self.anyone.as_ref().unwrap_or(&standing.caller)),
            weight: standing.weight,
            priority: match standing.priority {
                raw::Priority::Interactive => Priority::Interactive,
                raw::Priority::Batch => Priority::Batch,
            },
            need,
        }
    }

    /// The GPUs behind it as last read; none where they are not known.
    #[must_use]
    pub fn gpus(&self, here: &Sampler) -> Option<Vec<Gpu>> {
        Some(self.gpus_read(here)?.0)
    }

    /// [`Backend::gpus`], and when they were read.
    #[must_use]
    pub fn gpus_read(&self, here: &Sampler) -> Option<(Vec<Gpu>, Instant)> {
        let (gpus, read) = match &self.origin.config.gpus {
            GpusBehind::None => return None,
            GpusBehind::Remote { .. } => {
                let read = self.remote.load();
                let read = read.as_ref().filter(|read| read.read.elapsed() < FRESH)?;
                (read.gpus.clone(), read.read)
            }
            GpusBehind::Auto if !self.is_here() => return None,
            GpusBehind::Auto => {
                let (sample, read) = here.read_within(FRESH)?;
                (sample.gpus.clone(), read)
            }
            GpusBehind::Ids(ids) => {
                let (sample, read) = here.read_within(FRESH)?;
                let gpus = sample.gpus.iter().filter(|gpu| ids.contains(&gpu.id));
                (gpus.cloned().collect(), read)
            }
        };
        (!gpus.is_empty()).then_some((gpus, read))
    }

    /// Whether a GPU behind it is behind `other` too.
    #[must_use]
    pub fn shares_gpus(&self, other: &Backend, here: &Sampler) -> bool {
        let both = self.gpus(here).zip(other.gpus(here));
        both.is_some_and(|(mine, theirs)| {
            mine.iter().any(|gpu| theirs.iter().any(|other| other.id == gpu.id))
        })
    }

    /// Asks it what it has loaded.
    ///
    /// # Errors
    /// Why it cannot be asked.
    pub async fn refresh_residency(
        &self,
        here: &Sampler,
        pool: &Arc<Pool>,
    ) -> Result<(), Unanswered> {
        let on_cpu = self.origin.config.vram.is_none() && self.gpus(here).is_none();
        self.residency.refresh(&self.origin, pool, on_cpu).await
    }

    /// What a model could still take of the VRAM behind it, as admission has it; `None` where nothing
    /// says how much there is.
    #[must_use]
    pub fn room(&self, here: &Sampler) -> Option<Headroom> {
        let known = self.origin.config.vram.is_some() || self.gpus_read(here).is_some();
        self.gate.headroom().filter(|_| known)
    }

    /// Counts an exchange that failed, by why.
    pub fn count_failure(&self, reason: &'static str) {
        counter!(names::FAILURES, "upstream" => self.name().to_owned(), "reason" => reason)
            .increment(1);
    }

    /// All of [`Backend::room`], in bytes.
    #[must_use]
    pub fn headroom(&self, here: &Sampler) -> Option<u64> {
        self.room(here).map(Headroom::total)
    }

    /// Whether it runs on this machine.
    pub(super) fn is_here(&self) -> bool {
        matches!(self.origin.config.origin.host(), Some("127.0.0.1" | "localhost" | "[::1]"))
    }
}

fn embedder(config: &Config, index: usize) -> Option<String> {
    match &config.cache.semantic.as_ref()?.embedder {
        EmbedderConfig::Upstream { upstream, model } if *upstream == index => Some(model.clone()),
        EmbedderConfig::Upstream { .. } | EmbedderConfig::Local(_) => None,
    }
}

fn teller(
    upstream: &UpstreamConfig,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> Result<Option<Origin>, String> {
    let GpusBehind::Remote { origin, token } = &upstream.gpus else { return Ok(None) };
    let config = UpstreamConfig {
        origin: origin.clone(),
        api_key: token.clone(),
        base_path: String::new(),
        ..upstream.clone()
    };
    Origin::new(config, tls).map(Some)
}

fn terms(admission: &Admission, upstream: &UpstreamConfig) -> Terms {
    let Admission { queue, offload, .. } = admission;
    Terms {
        places: upstream.max_concurrent,
        max_waiting: queue.max_waiting,
        min_residency: queue.min_residency.0,
        max_starvation: queue.max_starvation.0,
        offload: match offload {
            admission::Offload::Allow => Offload::Allow,
            admission::Offload::Warn => Offload::Warn,
            admission::Offload::Fallback => Offload::Fallback,
            admission::Offload::Reject => Offload::Reject,
        },
    }
}

/// What the routes that lead to the upstream at `index` want its models loaded with.
fn runners(config: &Config, index: usize) -> Vec<(String, Arc<Runner>)> {
    if config.upstreams[index].kind != UpstreamKind::Ollama {
        return Vec::new();
    }
    let mut found = Vec::new();
    for route in config.routes.iter().filter(|route| route.options.load_options()) {
        let runner = Runner::new(&route.options);
        let here = route.targets.iter().chain(&route.fallback).filter(|one| one.upstream == index);
        found.extend(here.map(|target| {
            (target.model.clone().unwrap_or_else(|| route.model.clone()), Arc::clone(&runner))
        }));
    }
    found
}
