//! A request's way through the cache: what it may get from there, whom it may follow, and what
//! becomes of a fresh answer.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::StatusCode;
use metrics::{Counter, Gauge, counter, gauge, histogram};

use super::backend::Backend;
use super::ctx::{Cached, Ctx};
use super::state::Snapshot;
use super::ticket::Ticket;
use super::{Pipeline, Stop};
use crate::breaker::State;
use crate::cache::answer::Form;
use crate::cache::canonical::canonical;
use crate::cache::entry::{Entry, Shape};
use crate::cache::key::Key;
use crate::cache::now;
use crate::cache::policy::{self, Asked, Controls, Terms};
use crate::cache::search::Asking;
use crate::config::cache::{Keep, Share};
use crate::config::raw::UpstreamKind;
use crate::error::{Error, Kind};
use crate::http1::Fields;
use crate::request::Request;
use crate::request::endpoint::Endpoint;
use crate::request::headers::forwarded;
use crate::response::downstream::Head;
use crate::router::{Plan, Target};
use crate::session::Session;
use crate::telemetry::names;
use crate::upstream::digests::HURRIED;

/// Where an answer comes from: an upstream, and the model's name there.
pub type Origin = (Arc<Backend>, Arc<str>);

/// Larger bodies are not compared, in bytes: their parts would take many times their memory.
const MAX_BODY: usize = 1 << 20;
/// Headers that say nothing about the answer.
const NEUTRAL: [&str; 12] = [
    "accept",
    "accept-language",
    "baggage",
    "cache-control",
    "content-type",
    "dnt",
    "pragma",
    "priority",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-request-id",
];
/// The owner of answers that all share.
const EVERYBODY: &str = "*";

/// What the cache has to do with a request.
#[derive(Debug)]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// An upstream is to be asked; what comes may be kept.
    Ask(Box<Ticket>),
}

/// What the cache is to do with a request.
#[derive(Debug)]
pub enum Use {
    /// Nothing.
    Nothing,
    /// Give this, which an operator wrote.
    Give(Cached),
    /// Look for an answer, and keep one, on these terms.
    On(Terms),
}

/// What the cache goes by in the request as the client sent it: "regenerate" in a chat window must
/// give another answer, whatever temperature a plugin sets.
pub fn asked(request: &Request) -> Asked {
    let number = |span: std::ops::Range<usize>| {
        let text = request.body.get(span).and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
    };
    Asked {
        embedding: request.endpoint == Endpoint::Embeddings,
        temperature: request.scan.temperature.as_ref().map(|field| number(field.span.clone())),
        seeded: request.scan.seeded,
        enable: request.scan.enable_cache.as_ref().map(|(enabled, _)| *enabled),
    }
}

fn form(endpoint: Endpoint) -> Option<Form> {
    match endpoint {
        Endpoint::ChatCompletions => Some(Form::Chat),
        Endpoint::Completions => Some(Form::Completions),
        Endpoint::Embeddings => Some(Form::Raw),
        _ => None,
    }
}

pub(super) fn shape(request: &Request) -> Shape {
    if request.streaming { Shape::Stream { usage: request.wants_usage } } else { Shape::Whole }
}

impl Pipeline {
    /// What the cache is to do with `request`, from what it says.
    pub(super) fn cache_terms(
        session: &Session,
        snapshot: &Snapshot,
        request: &Request,
        asked: &Asked,
        ctx: &mut Ctx,
    ) -> Result<Use, Error> {
        let config = snapshot.cache.config();
        let off = config.policy == Keep::Off && config.pinned.is_empty();
        if off || form(request.endpoint).is_none() {
            return Ok(Use::Nothing);
        }
        let controls = Controls::read(&session.head.fields)?;
        let refused = ctx.cache_policy.mode == Some(policy::Mode::Off) || config.shadow;
        if !refused && let Some(pinned) = pinned(snapshot, request, asked, &controls) {
            return Ok(Use::Give(pinned));
        }
        match policy::decide(config, asked, &controls, &ctx.cache_policy) {
            Ok(terms) => Ok(Use::On(terms)),
            Err(_) if controls.only_if_cached => Err(not_cached()),
            Err(reason) => {
                bypass(ctx, reason);
                Ok(Use::Nothing)
            }
        }
    }

    /// Answers `request` from the cache or from another's answer, where that can be.
    pub(super) async fn answer_again(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        (request, plan): (&Request, &Plan),
        how: Use,
        ctx: &mut Ctx,
    ) -> Result<Option<Outcome>, Stop> {
        let terms = match how {
            Use::Nothing => return Ok(None),
            Use::On(terms) => terms,
            Use::Give(pinned) => {
                self.give(session, shape(request), pinned, ctx).await?;
                return Ok(Some(Outcome::Answered));
            }
        };
        let Some(mut ticket) = self.ticket(session, snapshot, (request, plan), terms, ctx).await?
        else {
            return Ok(None);
        };
        let looked = if ticket.terms.read {
            ticket.cache.get(&ticket.key, &ticket.owner, &ticket.target.1).await
        } else {
            let generation = ticket.cache.generation(&ticket.owner, &ticket.target.1).await;
            crate::cache::Looked { generation, ..Default::default() }
        };
        ticket.generation = looked.generation;
        let young = |entry: &Arc<Entry>| {
            ticket.terms.max_age.is_none_or(|oldest| entry.age(now()) <= oldest)
        };
        let reason = match (looked.trouble, &looked.entry) {
            (Some(trouble), _) => trouble,
            (None, Some(_)) => "age",
            (None, None) if !ticket.terms.read => "no-cache",
            (None, None) => "absent",
        };
        let found = match looked.entry.filter(young) {
            Some(entry) => Ok(Cached::hit("hit-l1", "equal", entry)),
            None => {
                tokio::select! {
                    biased;
                    found = similar(&mut ticket, reason) => found,
                    () = session.client_left() => return Err(Stop::Gone),
                }
            }
        };
        let reason = match found {
            Ok(cached) if !snapshot.cache.config().shadow => {
                self.give(session, shape(request), cached, ctx).await?;
                return Ok(Some(Outcome::Answered));
            }
            Ok(cached) => {
                ticket.shadow = Some((cached.outcome, cached.entry));
                "shadow"
            }
            Err(reason) => reason,
        };
        if ticket.terms.only_if_cached {
            return Err(not_cached().into());
        }
        miss(ctx, reason);
        if !ticket.terms.read || ticket.shadow.is_some() {
            ticket.leader = Some(self.shared.flights.solo(ticket.key, shape(request)));
            return Ok(Some(Outcome::Ask(ticket)));
        }
        self.join(session, snapshot, (request, plan), ticket, ctx).await.map(Some)
    }

    /// What the request is in the cache's eyes; `None` when it cannot be told from others.
    async fn ticket(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        (request, plan): (&Request, &Plan),
        terms: Terms,
        ctx: &mut Ctx,
    ) -> Result<Option<Box<Ticket>>, Stop> {
        let Some(form) = form(request.endpoint) else { return Ok(None) };
        let doubt = if request.body.len() > MAX_BODY {
            Some("too_large")
        } else if ctx.passed.is_doubtful() {
            Some("plugin_failed")
        } else if !request.query.is_empty() {
            // What it means is between the client and the upstream.
            Some("query")
        } else {
            None
        };
        // Before its body is taken apart, which is what a large one must not be.
        if let Some(reason) = doubt {
            return unused(ctx, &terms, reason);
        }
        let Ok(canonical) = canonical(&request.body) else {
            return unused(ctx, &terms, "unclear");
        };
        let Some(target) = first(snapshot, plan) else { return Ok(None) };
        let backend = Arc::clone(&snapshot.backends[target.upstream]);
        let weights = tokio::select! {
            biased;
            weights = backend.weights(&self.pool, &target.model, HURRIED) => weights,
            () = session.client_left() => return Err(Stop::Gone),
        };
        let Some(weights) = weights else { return unused(ctx, &terms, "weights") };
        let route = plan.route.and_then(|index| snapshot.config.routes.get(index));
        let think = route.and_then(|route| route.options.think.as_ref());
        // Whether the model is to think makes another answer.
        let extra = match (ctx.cache_policy.scope.take(), think) {
            (extra, None) => extra,
            (extra, Some(think)) => Some(format!("{think:?} {}", extra.unwrap_or_default())),
        };
        let passed = std::mem::take(&mut ctx.passed);
        let chain = passed.fingerprint(&ctx.caller.0);
        // They go on to an upstream of OpenAI's kind, and may say there which model is meant.
        let mut targets = plan.targets.iter().chain(&plan.fallback);
        let headers = if targets.all(|one| snapshot.backends[one.upstream].is_ollama()) {
            [0; 32]
        } else {
            headers_that_matter(&session.head.fields)
        };
        let mut ticket = Box::new(Ticket {
            cache: Arc::clone(&snapshot.cache),
            pool: Arc::clone(&self.pool),
            owner: owner(snapshot, ctx),
            terms,
            canonical,
            chain,
            headers,
            passed,
            extra,
            endpoint: request.endpoint,
            form,
            target: (backend, Arc::clone(&target.model)),
            scope: [0; 32],
            key: Key([0; 32]),
            generation: None,
            shadow: None,
            embedding: None,
            leader: None,
        });
        ticket.terms.similar &= ticket.canonical.plain && snapshot.cache.compares_questions();
        ticket.scope = ticket.scope_for(&target.model, &weights);
        ticket.key = ticket.key_in(&ticket.scope);
        Ok(Some(ticket))
    }

    /// Gives a kept answer.
    async fn give(
        &self,
        session: &mut Session,
        shape: Shape,
        cached: Cached,
        ctx: &mut Ctx,
    ) -> Result<(), Stop> {
        let Some(entry) = cached.entry.clone() else { return Ok(()) };
        saved(&entry);
        ctx.cached = Some(cached);
        ctx.first = Some(ctx.started.elapsed());
        self.give_body(session, shape, fill(&entry, shape), ctx).await
    }

    pub(super) async fn give_body(
        &self,
        session: &mut Session,
        shape: Shape,
        body: Bytes,
        ctx: &mut Ctx,
    ) -> Result<(), Stop> {
        ctx.streamed = shape != Shape::Whole;
        if ctx.committed {
            return Ok(session.end(body).await?);
        }
        let mut head = Head::new(StatusCode::OK);
        head.set("content-type", content_type(shape));
        if ctx.streamed {
            head.set("cache-control", "no-cache");
        }
        ctx.answer_headers(&mut head);
        Ok(self.send_whole(session, ctx, head, body).await?)
    }
}

/// The answer that an operator wrote, where the chat's only question is one of theirs.
fn pinned(
    snapshot: &Snapshot,
    request: &Request,
    asked: &Asked,
    controls: &Controls,
) -> Option<Cached> {
    let all = snapshot.cache.pinned()?;
    let refused = controls.wants_none() || asked.enable == Some(false);
    let large = request.body.len() > MAX_BODY;
    if refused || large || request.endpoint != Endpoint::ChatCompletions {
        return None;
    }
    let canonical = canonical(&request.body).ok().filter(|canonical| canonical.opening)?;
    let entry = all.find(canonical.text.as_deref()?, &request.scan.model, now())?;
    Some(Cached::hit("hit-l2", "pinned", Arc::new(entry)))
}

/// The answer to a question that asks the same, where that will do; `reason` is why there is none of
/// its own.
async fn similar(ticket: &mut Ticket, reason: &'static str) -> Result<Cached, &'static str> {
    // Who wants a fresh one of its own does not want another's either.
    let Some(text) = ticket.canonical.text.as_deref().filter(|_| ticket.terms.similar) else {
        return Err(reason);
    };
    if reason != "absent" {
        return Err(reason);
    }
    let asking = Asking {
        scope: &ticket.scope,
        text,
        key: ticket.key,
        owner: &ticket.owner,
        model: &ticket.target.1,
        threshold: ticket.terms.threshold,
    };
    let similarity = ticket.cache.similar(&asking).await;
    ticket.embedding = similarity.embedding;
    let like = similarity.found?;
    if ticket.terms.max_age.is_some_and(|oldest| like.entry.age(now()) > oldest) {
        return Err("age");
    }
    let (outcome, reason) = if like.by_words { ("hit-l2", "words") } else { ("hit-l3", "meaning") };
    histogram!(names::CACHE_SIMILARITY).record(like.similarity);
    Ok(Cached { similarity: Some(like.similarity), ..Cached::hit(outcome, reason, like.entry) })
}

/// The target that would be asked: the first that is not left alone.
fn first<'p>(snapshot: &Snapshot, plan: &'p Plan) -> Option<&'p Target> {
    let mut all = plan.targets.iter().chain(&plan.fallback);
    let up = |target: &&Target| {
        snapshot.backends[target.upstream].breakers.state(&target.model) != State::Open
    };
    all.clone().find(up).or_else(|| all.next())
}

pub(super) fn owner(snapshot: &Snapshot, ctx: &Ctx) -> Arc<str> {
    match (snapshot.cache.config().share, &ctx.tenant) {
        (Share::All, _) => EVERYBODY.into(),
        (Share::Tenant, Some(tenant)) => format!("tenant:{tenant}").into(),
        (Share::Tenant, None) | (Share::Key, _) => Arc::clone(&ctx.caller.0),
    }
}

pub(super) fn fill(entry: &Entry, shape: Shape) -> Bytes {
    let id = format!("{:016x}{:08x}", fastrand::u64(..), fastrand::u32(..));
    entry.template(shape).fill(&id, now())
}

pub(super) fn content_type(shape: Shape) -> &'static str {
    match shape {
        Shape::Whole => "application/json",
        Shape::Stream { .. } => "text/event-stream",
    }
}

/// A digest of those of a client's headers that an upstream may go by.
fn headers_that_matter(client: &Fields) -> [u8; 32] {
    let neutral = |name: &str| {
        NEUTRAL.contains(&name) || name.starts_with("x-cache-") || name.starts_with("x-stainless-")
    };
    let forwarded = forwarded(client, UpstreamKind::Openai);
    let mut all: Vec<_> = forwarded.filter(|(name, _)| !neutral(name)).collect();
    if all.is_empty() {
        return [0; 32];
    }
    all.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    for (name, value) in all {
        for part in [name.as_bytes(), value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    *hasher.finalize().as_bytes()
}

/// The cache has nothing to do with a request on `terms`.
fn unused(ctx: &mut Ctx, terms: &Terms, reason: &'static str) -> Result<Option<Box<Ticket>>, Stop> {
    if terms.only_if_cached {
        return Err(not_cached().into());
    }
    bypass(ctx, reason);
    Ok(None)
}

fn miss(ctx: &mut Ctx, reason: &'static str) {
    ctx.cached = Some(Cached::without("miss", reason));
}

fn bypass(ctx: &mut Ctx, reason: &'static str) {
    ctx.cached = Some(Cached::without("bypass", reason));
}

/// Looked up once: that costs more than recording a value.
static SAVED: LazyLock<(Gauge, Counter, Counter)> = LazyLock::new(|| {
    let tokens = |kind: &'static str| counter!(names::CACHE_SAVED_TOKENS, "type" => kind);
    (gauge!(names::CACHE_SAVED_SECONDS), tokens("input"), tokens("output"))
});

fn saved(entry: &Entry) {
    let (seconds, input, output) = &*SAVED;
    seconds.increment(entry.facts.took_ms as f64 / 1_000.0);
    let (prompt, completion) = entry.answer.usage_counts();
    input.increment(prompt.unwrap_or(0));
    output.increment(completion.unwrap_or(0));
}

/// `only-if-cached`, and nothing is (RFC 9111, 5.2.1.7).
fn not_cached() -> Error {
    Error::new(Kind::GatewayTimeout, "no answer to this request is cached")
        .custom(StatusCode::GATEWAY_TIMEOUT.as_u16(), "not_cached".into())
        .hopeless()
}
