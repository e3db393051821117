//! What a request holds while an answer comes that may be kept, and what becomes of that answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics::counter;

use super::cache::Origin;
use super::source::Source;
use super::state::Snapshot;
use crate::cache::answer::{Answer, Form, Unfit};
use crate::cache::canonical::Canonical;
use crate::cache::entry::{Entry, Facts, Generation};
use crate::cache::flight::{End, Leader};
use crate::cache::key::{Key, Scope, Within};
use crate::cache::lexical::Question;
use crate::cache::policy::Terms;
use crate::cache::semantic::Embedding;
use crate::cache::{Cache, now};
use crate::plugin::Chain;
use crate::request::endpoint::Endpoint;
use crate::router::Plan;
use crate::telemetry::names;
use crate::upstream::Pool;
use crate::upstream::digests::HURRIED;

/// The plugins that a request passed, on one route or, moved by one of them, on several.
#[derive(Debug, Default)]
pub struct PassedChains {
    /// Each with the calls passed over before it was passed.
    chains: Vec<(Arc<Chain>, u64)>,
    /// What else their responders are shown: no other answer may be taken for one made of these.
    shown: String,
}

impl PassedChains {
    /// Notes that a request for `model` passes `chain`, of the route of `plan`.
    pub(super) fn add(
        &mut self,
        chain: &Arc<Chain>,
        snapshot: &Snapshot,
        plan: &Plan,
        model: &str,
    ) {
        if !chain.responders().is_empty() {
            let route = plan.route.and_then(|index| snapshot.config.routes.get(index));
            let route = route.map_or("", |route| route.model.as_str());
            let (routes, models) = (route.len(), model.len());
            self.shown.push_str(&format!("{routes}:{route}{models}:{model}"));
        }
        self.chains.push((Arc::clone(chain), chain.passed_over()));
    }

    /// Tells requests apart whose plugins may make different answers. What responders see of the
    /// caller counts too.
    pub(super) fn fingerprint(&self, caller: &str) -> [u8; 32] {
        match self.chains.as_slice() {
            [] => return [0; 32],
            [(chain, _)] if self.shown.is_empty() => return chain.fingerprint,
            _ => {}
        }
        let mut hasher = blake3::Hasher::new();
        self.chains.iter().for_each(|(chain, _)| {
            hasher.update(&chain.fingerprint);
        });
        if !self.shown.is_empty() {
            hasher.update(self.shown.as_bytes());
            hasher.update(caller.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    /// Whether a plugin may have been passed over since: what came of it is nobody else's.
    pub(super) fn is_doubtful(&self) -> bool {
        self.chains.iter().any(|(chain, before)| chain.passed_over() != *before)
    }
}

/// A request that asks an upstream for an answer which may be kept.
#[derive(Debug)]
pub struct Ticket {
    pub(super) cache: Arc<Cache>,
    pub(super) pool: Arc<Pool>,
    pub(super) terms: Terms,
    pub(super) canonical: Canonical,
    pub(super) owner: Arc<str>,
    pub(super) chain: [u8; 32],
    pub(super) headers: [u8; 32],
    pub(super) passed: PassedChains,
    pub(super) extra: Option<String>,
    pub(super) endpoint: Endpoint,
    pub(super) form: Form,
    /// Whose answer it looked for, and under which key.
    pub(super) target: Origin,
    pub(super) scope: Scope,
    pub(super) key: Key,
    pub(super) generation: Option<Generation>,
    /// What the cache would have given, and of which level, where it only compares.
    pub(super) shadow: Option<(&'static str, Option<Arc<Entry>>)>,
    /// Its question's place among others, where it was asked for.
    pub(super) embedding: Option<Embedding>,
    /// Its place at the head of equal requests.
    pub leader: Option<Leader<Origin>>,
}

impl Ticket {
    /// The scope of its request, answered by `model`.
    pub(super) fn scope_for(&self, model: &str, weights: &str) -> Scope {
        let within = Within {
            owner: Some(&self.owner),
            endpoint: self.endpoint.path(),
            model,
            weights,
            chain: &self.chain,
            headers: &self.headers,
            extra: self.extra.as_deref(),
        };
        within.scope(&self.canonical)
    }

    /// Its answer is not to be kept; those who wait for it get it all the same.
    pub(super) fn forgo(&mut self, reason: &'static str) {
        self.terms.write = false;
        unfit(reason);
    }

    /// The key of its request's answer in `scope`.
    pub(super) fn key_in(&self, scope: &Scope) -> Key {
        Key::new(scope, self.canonical.text.as_deref())
    }

    /// Takes in a stream that has ended, properly or not.
    pub(super) async fn finish_stream(mut self: Box<Self>, source: &Source, why: Option<&str>) {
        if let Some(why) = why {
            if let Some(leader) = self.leader.take() {
                leader.end(End::Cut(why.to_owned()));
            }
            return;
        }
        let Some(leader) = self.leader.as_ref().filter(|leader| leader.is_open()) else { return };
        let hidden = source.hidden_usage().map(|event| &event[..]);
        let answer = Answer::of_stream(self.form, &leader.so_far(), hidden);
        let origin = (source.backend.clone(), source.model.clone());
        self.finish(answer, origin, source.took(), None).await;
    }

    /// Takes in an answer that came whole.
    pub(super) async fn finish_whole(self: Box<Self>, body: Bytes, origin: Origin, took: Duration) {
        let answer = Answer::of_whole(self.form, &body);
        self.finish(answer, origin, took, Some(body)).await;
    }

    /// Keeps the answer where it is fit to be kept, and hands it to those who wait for it.
    async fn finish(
        mut self: Box<Self>,
        answer: Result<Answer, Unfit>,
        origin: Origin,
        took: Duration,
        body: Option<Bytes>,
    ) {
        let doubtful = self.passed.is_doubtful();
        let entry = match answer {
            Ok(_) if doubtful => {
                unfit("plugin_failed");
                None
            }
            Ok(answer) => self.entry(answer, origin, took).await,
            Err(cause) => {
                unfit(cause.as_str());
                None
            }
        };
        if let Some((fresh, scope)) = &entry {
            self.compare(fresh);
            let small = fresh.answer.size() <= self.cache.config().max_answer;
            match (self.terms.write, small) {
                (true, true) => {
                    let embedding = self.embedding.take();
                    self.cache.put(Arc::clone(fresh), *scope, embedding);
                }
                (true, false) => unfit("too_large"),
                (false, _) => {}
            }
        }
        if let Some(leader) = self.leader.take() {
            // What plugins let through by mistake is for nobody else.
            let body = body.filter(|_| !doubtful);
            leader.end(End::Whole { body, entry: entry.map(|(entry, _)| entry) });
        }
    }

    async fn entry(
        &mut self,
        answer: Answer,
        origin: Origin,
        took: Duration,
    ) -> Option<(Arc<Entry>, Scope)> {
        let (backend, model) = origin;
        let same = backend.name() == self.target.0.name() && model == self.target.1;
        let (scope, key, generation) = if same {
            (self.scope, self.key, self.generation)
        } else {
            // It is kept under the model that gave it, not the one that was to; that one is to be
            // asked again.
            if let Some(leader) = &self.leader {
                leader.seal();
            }
            let weights = backend.weights(&self.pool, &model, HURRIED).await?;
            let generation = self.cache.generation(&self.owner, &model).await;
            let scope = self.scope_for(&model, &weights);
            (scope, self.key_in(&scope), generation)
        };
        let question = self.canonical.text.take();
        let facts = Facts {
            id: key,
            scope,
            owner: Arc::clone(&self.owner),
            endpoint: self.endpoint.path().into(),
            upstream: backend.shared_name(),
            model,
            question: question.filter(|text| self.terms.similar && is_question(text)),
            stored: now(),
            ttl: self.terms.ttl.as_secs(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            generation: generation?,
        };
        Some((Arc::new(Entry::new(key, facts, answer)), scope))
    }

    /// Says whether the cache would have given the same.
    fn compare(&self, fresh: &Entry) {
        let Some((level, Some(kept))) = &self.shadow else { return };
        let outcome = if kept.answer.text() == fresh.answer.text() { "same" } else { "different" };
        counter!(names::CACHE_SHADOW, "level" => *level, "outcome" => outcome).increment(1);
    }
}

fn unfit(reason: &'static str) {
    counter!(names::CACHE_UNFIT, "reason" => reason).increment(1);
}

/// Whether a text may be asked in other words.
fn is_question(text: &str) -> bool {
    Question::analyse(text).is_ok()
}
