//! A request's way through its route's plugins: routers first, then rewriters, then cache policies.
//! Each is shown what it asked for and nothing else; what it decides is checked before it counts.
//!
//! # Layout
//! - `shown`: what they are shown of targets and endpoints

mod shown;

use std::borrow::Cow;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use sluicegate_plugin_host::types;
use sluicegate_plugin_host::{Interface, cache_policy, responder, router as wit};
use tokio::time::{Instant, timeout};

use self::shown::targets;
pub(crate) use self::shown::{form, shown};
use super::ctx::{Ctx, is_visible};
use super::state::Snapshot;
use super::{Pipeline, Stop};
use crate::cache::policy::{Mode, Policy};
use crate::error::{Error, Kind};
use crate::gpu::Sampler;
use crate::plugin::decision::Order;
use crate::plugin::direct::Direct;
use crate::plugin::document::Document;
use crate::plugin::link::{RewriterDecision, RouterDecision};
use crate::plugin::record::Trail;
use crate::plugin::summary::{Facts, Hidden, read_body, summary};
use crate::plugin::{Chain, Link, Shaper, edit};
use crate::request::Request;
use crate::request::auth::Caller;
use crate::request::endpoint::Endpoint;
use crate::response::downstream::Head;
use crate::router::{Plan, Target};
use crate::session::Session;

/// Times that plugins may move a request to another route.
const MAX_MOVES: usize = 1;
/// Longest time for a text to wait with: meanwhile nothing else is done for the request.
const WAITING_TEXT: Duration = Duration::from_millis(100);

/// What a chain made of a request.
enum Passed {
    /// It goes on, possibly changed, possibly to another model.
    On { model: Option<String> },
    /// A plugin answers it.
    Answered(String),
}

/// A request, where it may go, and the model it asks for by now.
struct Going<'a> {
    request: &'a mut Request,
    plan: &'a mut Plan,
    model: &'a str,
}

/// One request's way through a chain.
struct Pass<'a> {
    chain: &'a Chain,
    request: &'a mut Request,
    summary: types::Request,
    trail: Trail,
    cache_policy: Policy,
    gpus: &'a Sampler,
}

impl Pipeline {
    /// Takes `request` through the plugins of its route, and of the one they move it to; gives the
    /// text where a plugin answers.
    pub(super) async fn run_plugins(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        (request, plan): (&mut Request, &mut Plan),
        caller: &Caller,
        ctx: &mut Ctx,
    ) -> Result<Option<String>, Stop> {
        let mut model = request.scan.model.clone();
        for _ in 0..=MAX_MOVES {
            let Some(chain) = snapshot.chain(plan) else { break };
            ctx.passed.add(chain, snapshot, plan, &model);
            let going = Going { request, plan, model: &model };
            match self.pass_plugins(session, snapshot, chain, going, ctx).await? {
                Passed::Answered(text) => return Ok(Some(text)),
                Passed::On { model: None } => break,
                Passed::On { model: Some(other) } => {
                    check_moved(caller, &other)?;
                    let route = plan.route;
                    *plan = self.plan_for(session, snapshot, &other, request, ctx).await?;
                    ctx.reason = plan.reason.into();
                    if plan.route == route {
                        break;
                    }
                    model = other;
                }
            }
        }
        Ok(None)
    }

    /// Takes `request` through `chain`, while the client is watched.
    async fn pass_plugins(
        &self,
        session: &mut Session,
        snapshot: &Snapshot,
        chain: &Chain,
        Going { request, plan, model }: Going<'_>,
        ctx: &mut Ctx,
    ) -> Result<Passed, Stop> {
        let route = plan.route.and_then(|index| snapshot.config.routes.get(index));
        let facts = Facts {
            id: ctx.id.as_str(),
            caller: &ctx.caller.0,
            route: route.map(|route| route.model.as_str()),
            model,
            endpoint: shown(request.endpoint),
            form: form(request.endpoint),
            streaming: request.streaming,
        };
        let headers = session.head.fields.iter();
        let headers =
            headers.filter_map(|(name, value)| Some((name, std::str::from_utf8(value).ok()?)));
        let summary = summary(&facts, chain.needs, headers, &request.body).map_err(unclear)?;
        // A request that moved to another route keeps its trail.
        let trail = ctx.trail.take().map_or_else(Trail::default, |trail| *trail);
        let cache_policy = std::mem::take(&mut ctx.cache_policy);
        let gpus = &self.shared.gpus;
        let mut pass = Pass { chain, request, summary, trail, cache_policy, gpus };
        let passed = {
            let mut run = pin!(pass.run(snapshot, plan, &mut ctx.reason));
            tokio::select! {
                biased;
                passed = &mut run => passed.map_err(Stop::Refused),
                () = session.client_left() => Err(Stop::Gone),
            }
        };
        if !chain.responders().is_empty() && fits(pass.request.endpoint) {
            pass.request.separate_events = true;
            let about = responder::Answer {
                request_id: pass.summary.id,
                caller: pass.summary.caller,
                route: pass.summary.route,
                model: pass.summary.model,
                streaming: pass.summary.streaming,
            };
            let shaper = Shaper::new(chain.responders().to_vec(), about);
            ctx.shaped = Some(shaper.shaped());
            ctx.shaper = Some(Box::new(shaper));
        }
        ctx.cache_policy = pass.cache_policy;
        ctx.trail = Some(Box::new(pass.trail));
        passed
    }

    /// What to send to a stream that waits: a comment, or text where route and plugins want it.
    pub(super) async fn waiting_text(
        &self,
        plan: &Plan,
        request: &Request,
        ctx: &mut Ctx,
    ) -> Bytes {
        let comment = || match ctx.progress.place() {
            Some(place) => Bytes::from(format!(": {place}\n\n")),
            None => Bytes::from_static(b": waiting\n\n"),
        };
        let chat = request.endpoint == Endpoint::ChatCompletions;
        let Some(shaper) = ctx.shaper.as_mut().filter(|_| plan.waiting_text && chat) else {
            return comment();
        };
        // The text is an ornament: a plugin that cannot give one costs nothing else.
        let asked = shaper.waiting(ctx.started.elapsed());
        let Ok(Ok(Some(text))) = timeout(WAITING_TEXT, asked).await else { return comment() };
        let id = ctx.id.to_string();
        let endpoint = shown(request.endpoint);
        Bytes::from(Direct { id: &id, model: &request.scan.model, endpoint, text: &text }.event())
    }

    /// Sends a plugin's own answer.
    pub(super) async fn answer_directly(
        &self,
        session: &mut Session,
        request: &Request,
        text: &str,
        ctx: &mut Ctx,
    ) -> Result<(), Stop> {
        let id = ctx.id.to_string();
        let endpoint = shown(request.endpoint);
        let direct = Direct { id: &id, model: &request.scan.model, endpoint, text };
        let (kind, body) = match (request.streaming, request.endpoint.is_native()) {
            (true, true) => ("application/x-ndjson", direct.stream()),
            (true, false) => ("text/event-stream", direct.stream()),
            (false, _) => ("application/json", direct.whole()),
        };
        let mut head = Head::new(StatusCode::OK);
        head.set("content-type", kind);
        ctx.answer_headers(&mut head);
        Ok(self.send_whole(session, ctx, head, Bytes::from(body)).await?)
    }
}

impl Pass<'_> {
    async fn run(
        &mut self,
        snapshot: &Snapshot,
        plan: &mut Plan,
        reason: &mut Cow<'static, str>,
    ) -> Result<Passed, Error> {
        let chain = self.chain;
        for link in chain.of(Interface::Router) {
            self.route(link, snapshot, plan, reason).await?;
        }
        let first = plan.targets.first().or(plan.fallback.first());
        self.summary.upstream =
            first.map(|target| snapshot.backends[target.upstream].name().to_owned());
        let mut model = None;
        for link in chain.of(Interface::Rewriter) {
            match self.rewrite(link).await? {
                Some(Rewritten::Answer(text)) => return Ok(Passed::Answered(text)),
                Some(Rewritten::Model(other)) => model = Some(other),
                None => {}
            }
        }
        for link in chain.of(Interface::CachePolicy) {
            self.cache_policy(link).await?;
        }
        Ok(Passed::On { model })
    }

    async fn route(
        &mut self,
        link: &Link,
        snapshot: &Snapshot,
        plan: &mut Plan,
        reason: &mut Cow<'static, str>,
    ) -> Result<(), Error> {
        let targets = targets(snapshot, plan, self.gpus);
        let hidden = Hidden::from(&mut self.summary, link);
        let began = Instant::now();
        let decided = link.route(&self.summary, &targets).await;
        let took = began.elapsed();
        hidden.restore(&mut self.summary);
        let shadow = link.config.shadow;
        let mut note = |text| self.trail.note((&link.name, shadow), "router", took, text);
        match decided.inspect_err(|error| note(format!("failed: {error}").into()))? {
            None => {
                note("proceed".into());
                if shadow {
                    link.shadowed(false);
                }
            }
            Some(RouterDecision::Reject(error)) => {
                note(format!("reject {}", error.code()).into());
                if !shadow {
                    return Err(error);
                }
                link.shadowed(true);
            }
            Some(RouterDecision::Rank(order)) => {
                note(ranked(&order, &targets).into());
                let same = order.targets.iter().copied().eq(0..targets.len());
                if shadow {
                    link.shadowed(!same || !order.defaults.is_empty());
                } else {
                    self.follow(order, plan, reason)?;
                }
            }
        }
        Ok(())
    }

    fn follow(
        &mut self,
        order: Order,
        plan: &mut Plan,
        reason: &mut Cow<'static, str>,
    ) -> Result<(), Error> {
        let primary = plan.targets.len();
        let all: Vec<Target> = plan.targets.drain(..).chain(plan.fallback.drain(..)).collect();
        // Fallbacks stay a tier of their own, for which the first tier's queue is waited for,
        // unless the plugin wants one of them before others.
        let cut = order.targets.iter().take_while(|index| **index < primary).count();
        let tiered = cut > 0 && order.targets[cut..].iter().all(|index| *index >= primary);
        let cut = if tiered { cut } else { order.targets.len() };
        let picked = |indexes: &[usize]| indexes.iter().map(|index| all[*index].clone()).collect();
        plan.targets = picked(&order.targets[..cut]);
        plan.fallback = picked(&order.targets[cut..]);
        plan.ranked = true;
        if !order.reason.is_empty() && is_visible(&order.reason) {
            *reason = order.reason.into();
        }
        self.summary.labels.extend(order.labels);
        let form = form(self.request.endpoint);
        let body = self.request.body.clone();
        if !order.defaults.is_empty()
            && !self.request.endpoint.is_native()
            && let Ok(document) = Document::parse(form, &body)
            && let Ok(Some(changed)) = edit::set_defaults(&document, &order.defaults)
        {
            self.change(changed)?;
        }
        Ok(())
    }

    async fn rewrite(&mut self, link: &Link) -> Result<Option<Rewritten>, Error> {
        let form = form(self.request.endpoint);
        let body = self.request.body.clone();
        let hidden = Hidden::from(&mut self.summary, link);
        let began = Instant::now();
        let check = |edits: Vec<_>| {
            let document = Document::parse(form, &body)?;
            let changed = edit::apply(&document, &edits)?;
            Ok((changed, edits.len()))
        };
        let decided = link.rewrite(&self.summary, check).await;
        let took = began.elapsed();
        hidden.restore(&mut self.summary);
        let shadow = link.config.shadow;
        let mut note = |text| self.trail.note((&link.name, shadow), "rewriter", took, text);
        let decided = decided.inspect_err(|error| note(format!("failed: {error}").into()))?;
        note(match &decided {
            None => "proceed".into(),
            Some(RewriterDecision::Edited((_, count))) => format!("{count} edits").into(),
            Some(RewriterDecision::Reject(error)) => format!("reject {}", error.code()).into(),
            Some(RewriterDecision::Answer(_)) => "answer".into(),
        });
        if shadow {
            link.shadowed(match &decided {
                None => false,
                Some(RewriterDecision::Edited(((body, None), _))) => *body != self.request.body,
                Some(_) => true,
            });
            return Ok(None);
        }
        match decided {
            None => Ok(None),
            Some(RewriterDecision::Reject(error)) => Err(error),
            Some(RewriterDecision::Answer(text)) if Direct::fits(shown(self.request.endpoint)) => {
                Ok(Some(Rewritten::Answer(text)))
            }
            // An embedding, say, cannot be answered with a text.
            Some(RewriterDecision::Answer(_)) => Ok(None),
            Some(RewriterDecision::Edited(((body, model), _))) => {
                self.change(body)?;
                Ok(model.map(Rewritten::Model))
            }
        }
    }

    /// Takes on another body; what is shown of it is read anew.
    fn change(&mut self, body: Bytes) -> Result<(), Error> {
        self.request.replace_body(body)?;
        self.trail.changed = true;
        let form = form(self.request.endpoint);
        read_body(&mut self.summary, self.chain.needs, form, &self.request.body)
            .map_err(unclear)?;
        Ok(())
    }

    async fn cache_policy(&mut self, link: &Link) -> Result<(), Error> {
        let hidden = Hidden::from(&mut self.summary, link);
        let began = Instant::now();
        let decided = link.cache_policy(&self.summary).await;
        let took = began.elapsed();
        hidden.restore(&mut self.summary);
        let shadow = link.config.shadow;
        let mut note = |text| self.trail.note((&link.name, shadow), "cache-policy", took, text);
        match decided.inspect_err(|error| note(format!("failed: {error}").into()))? {
            None => {
                note("proceed".into());
                if shadow {
                    link.shadowed(false);
                }
            }
            Some(policy) => {
                note(describe(&policy));
                if shadow {
                    link.shadowed(true);
                } else {
                    self.cache_policy.and(taken(policy));
                }
            }
        }
        Ok(())
    }
}

/// A plugin's policy in the cache's terms.
fn taken(given: cache_policy::Policy) -> Policy {
    Policy {
        mode: given.mode.map(|mode| match mode {
            cache_policy::Mode::Off => Mode::Off,
            cache_policy::Mode::Exact => Mode::Exact,
            cache_policy::Mode::Similar => Mode::Similar,
        }),
        ttl: given.ttl_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        scope: given.scope,
        threshold: given.min_similarity,
    }
}

enum Rewritten {
    Answer(String),
    Model(String),
}

/// An order in words.
fn ranked(order: &Order, targets: &[wit::Target]) -> String {
    let mut text = ["rank ", &order.reason].concat();
    let mut before = ": ";
    for target in order.targets.iter().map(|index| &targets[*index]) {
        text.extend([before, &target.upstream, "/", &target.model]);
        before = ", ";
    }
    text
}

fn describe(policy: &cache_policy::Policy) -> Cow<'static, str> {
    let mode = match policy.mode {
        None => "unchanged",
        Some(cache_policy::Mode::Off) => "off",
        Some(cache_policy::Mode::Exact) => "exact",
        Some(cache_policy::Mode::Similar) => "similar",
    };
    match policy.ttl_seconds {
        None => mode.into(),
        Some(ttl) => format!("{mode}, {ttl} s").into(),
    }
}

/// Answers of these endpoints have text where responders look for it.
fn fits(endpoint: Endpoint) -> bool {
    Direct::fits(shown(endpoint))
}

/// The error for a caller whose request a plugin moved to a model it may not use.
fn check_moved(caller: &Caller, model: &str) -> Result<(), Error> {
    caller.check_model(model).map_err(|_| {
        let message = "a plugin chose a model for this request that its key may not use";
        Error::new(Kind::Forbidden, message)
    })
}

/// Plugins are to see what the upstream will read, or neither is to.
fn unclear(why: String) -> Error {
    let message = format!("a plugin of this route must read the request, and cannot: {why}");
    Error::new(Kind::InvalidRequest, message)
}
