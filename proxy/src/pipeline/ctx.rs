//! What is known of one request while it is served.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::backend::{Backend, Standing};
use super::long_prompt::Cut;
use super::progress::Progress;
use super::ticket::{PassedChains, Ticket};
use crate::cache::entry::Entry;
use crate::cache::now;
use crate::cache::policy::Policy;
use crate::config::admission::Offload;
use crate::config::raw::UpstreamKind;
use crate::error::Dialect;
use crate::http1::{Fields, RequestHead};
use crate::ids::{CallerName, RequestId};
use crate::openai::Usage;
use crate::plugin::record::{Decision, Trail};
use crate::plugin::{Shaped, Shaper};
use crate::request::auth::Caller;
use crate::request::cors::AllowedOrigin;
use crate::request::headers::{forwarded, written};
use crate::response::downstream::{Head, X_REQUEST_ID};
use crate::response::sse::Framing;
use crate::telemetry::{Outcome, Record, millis};

const X_UPSTREAM: &str = "x-sluicegate-upstream";
const X_MODEL: &str = "x-sluicegate-model";
const X_REASON: &str = "x-sluicegate-reason";
const X_OFFLOAD: &str = "x-sluicegate-offload";
const X_PROMPT: &str = "x-sluicegate-prompt";
const X_UNHEEDED: &str = "x-sluicegate-unheeded";
const SERVER_TIMING: &str = "server-timing";
const X_CACHE: &str = "x-cache";
const X_CACHE_REASON: &str = "x-cache-reason";
const X_CACHE_ENTRY: &str = "x-cache-entry";
const X_CACHE_SIMILARITY: &str = "x-cache-similarity";

/// What the status of an aborted request is called in logs, as with nginx.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Where a request is, named for the cancellations metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Its body is read.
    #[default]
    Reading,
    /// Upstreams are asked what they have.
    Routing,
    /// It waits for a place.
    Queued,
    /// It was sent and no content has come.
    Waiting,
    /// Its answer is relayed.
    Answering,
}

impl Phase {
    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Reading => "reading",
            Phase::Routing => "routing",
            Phase::Queued => "queued",
            Phase::Waiting => "waiting",
            Phase::Answering => "answering",
        }
    }
}

/// What of a client's fields goes upstream, for each kind of upstream, as it is written there.
#[derive(Debug)]
pub struct Headers {
    ollama: Vec<u8>,
    openai: Option<Vec<u8>>,
}

impl Headers {
    /// Picks from `client`; those for OpenAI-style upstreams only where `openai` says that one may
    /// be asked.
    #[must_use]
    pub fn new(client: &Fields, id: &RequestId, openai: bool) -> Self {
        let openai = openai.then(|| {
            let id = (X_REQUEST_ID, id.as_str().as_bytes());
            written(forwarded(client, UpstreamKind::Openai).chain([id]))
        });
        Self { ollama: written(forwarded(client, UpstreamKind::Ollama)), openai }
    }

    /// Those for `backend`.
    #[must_use]
    pub fn of(&self, backend: &Backend) -> &[u8] {
        match &self.openai {
            Some(openai) if !backend.is_ollama() => openai,
            _ => &self.ollama,
        }
    }
}

/// What the cache had to do with a request.
#[derive(Debug)]
pub struct Cached {
    /// `hit-l1`, `hit-l2`, `miss` or `bypass`.
    pub outcome: &'static str,
    /// Why.
    pub reason: &'static str,
    /// The answer given.
    pub entry: Option<Arc<Entry>>,
    /// How like its question is to this one, where they are not equal.
    pub similarity: Option<f64>,
}

impl Cached {
    /// An answer was found.
    #[must_use]
    pub fn hit(outcome: &'static str, reason: &'static str, entry: Arc<Entry>) -> Self {
        Self { outcome, reason, entry: Some(entry), similarity: None }
    }

    /// None was.
    #[must_use]
    pub fn without(outcome: &'static str, reason: &'static str) -> Self {
        Self { outcome, reason, entry: None, similarity: None }
    }

    fn headers(&self, head: &mut Head) {
        head.set(X_CACHE, self.outcome);
        head.set(X_CACHE_REASON, self.reason);
        if let Some(similarity) = self.similarity {
            head.set(X_CACHE_SIMILARITY, format!("{similarity:.4}"));
        }
        if let Some(entry) = &self.entry {
            head.set(X_CACHE_ENTRY, &*entry.key.to_hex());
            head.set("age", itoa::Buffer::new().format(entry.age(now()).as_secs()));
            head.set(X_MODEL, &*entry.facts.model);
        }
    }
}

/// What a request costs, as far as that can be seen from here.
#[derive(Clone, Copy, Debug)]
pub struct Guess {
    /// Tokens of its prompt.
    prompt: u64,
    /// Events of its stream so far, about as many as tokens.
    events: u64,
    framing: Framing,
}

impl Guess {
    /// Of nothing streamed yet, for a prompt of some tokens.
    #[must_use]
    pub fn new(prompt: u64, framing: Framing) -> Self {
        Self { prompt, events: 0, framing }
    }

    /// Counts the events in `bytes`, which are sent; comments are none.
    pub fn count(&mut self, bytes: &[u8]) {
        let found = |what: &[u8]| memchr::memmem::find_iter(bytes, what).count();
        let events = match self.framing {
            Framing::Sse => usize::from(bytes.starts_with(b"data:")) + found(b"\ndata:"),
            Framing::Lines => found(b"\n"),
        };
        self.events += events as u64;
    }
}

/// One request's state.
#[derive(Debug)]
pub struct Ctx {
    /// Its id.
    pub id: RequestId,
    /// When its head was read.
    pub started: Instant,
    /// The method.
    pub method: Method,
    /// The endpoint's path.
    pub endpoint: &'static str,
    /// The caller's protocol.
    pub dialect: Dialect,
    /// Whose it is.
    pub caller: CallerName,
    /// Whose limits it counts against, where it has a key.
    pub payer: Option<Arc<Caller>>,
    /// The page that sent it.
    pub origin: Option<AllowedOrigin>,
    /// The model asked for.
    pub asked: String,
    /// Why its targets were chosen.
    pub reason: Cow<'static, str>,
    /// Where it is.
    pub phase: Phase,
    /// How far the search for an answer has come.
    pub progress: Progress,
    /// The head of the answer was sent already, while waiting.
    pub committed: bool,
    /// Status sent; 0 while none was.
    pub status: u16,
    /// The upstream that answered and the model's name there.
    pub answered_by: Option<(Arc<Backend>, Arc<str>)>,
    /// When the answer's first content or byte came.
    pub first: Option<Duration>,
    /// Whether the answer is a stream.
    pub streamed: bool,
    /// Token counts.
    pub usage: Option<Usage>,
    /// What it may cost whom a limit by tokens holds, until the upstream tells.
    pub guess: Option<Guess>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why, when it did not end well.
    pub detail: Option<String>,
    /// What it asks for that an Ollama does not heed.
    pub unheeded: Option<&'static str>,
    /// What an upstream leaves out of its prompt.
    pub cut: Option<Cut>,
    /// The beginning of its conversation, where several targets could answer it.
    pub opening: Option<u64>,
    /// What plugins decided, where there were any.
    pub trail: Option<Box<Trail>>,
    /// The plugins that its answer passes.
    pub shaper: Option<Box<Shaper>>,
    /// What these do with it.
    pub shaped: Option<Arc<Shaped>>,
    /// The chains of plugins that it passed.
    pub passed: PassedChains,
    /// What plugins decided about the cache.
    pub cache_policy: Policy,
    /// What the cache had to do with it.
    pub cached: Option<Cached>,
    /// What it holds while an answer comes that may be kept.
    pub ticket: Option<Box<Ticket>>,
    /// The tenant of its caller.
    pub tenant: Option<String>,
    /// Its caller, as far as admission cares.
    pub standing: Standing,
    /// The client has left, and others follow the answer.
    pub client_gone: bool,
}

impl Ctx {
    /// The state of a request just read.
    #[must_use]
    pub fn new(head: &RequestHead) -> Self {
        let given = head.fields.get(X_REQUEST_ID);
        Self {
            id: RequestId::from_caller(given),
            started: Instant::now(),
            method: head.method.clone(),
            endpoint: "other",
            dialect: Dialect::OpenAi,
            caller: CallerName::anonymous(),
            payer: None,
            origin: None,
            asked: String::new(),
            reason: "".into(),
            phase: Phase::Reading,
            progress: Progress::default(),
            committed: false,
            status: 0,
            answered_by: None,
            first: None,
            streamed: false,
            usage: None,
            guess: None,
            outcome: Outcome::Answered,
            detail: None,
            unheeded: None,
            cut: None,
            opening: None,
            trail: None,
            shaper: None,
            shaped: None,
            passed: PassedChains::default(),
            cache_policy: Policy::default(),
            cached: None,
            ticket: None,
            tenant: None,
            standing: Standing::default(),
            client_gone: false,
        }
    }

    /// Sets the headers that every answer has.
    pub fn common_headers(&self, head: &mut Head) {
        head.set(X_REQUEST_ID, self.id.as_str());
        if let Some(origin) = &self.origin {
            for (name, value) in origin.headers() {
                head.set(name, value);
            }
        }
        for (name, value) in self.payer.iter().flat_map(|payer| payer.limit_headers()) {
            head.set(name, value);
        }
    }

    /// Sets the headers that tell where an answer came from, and what took how long.
    pub fn answer_headers(&self, head: &mut Head) {
        self.common_headers(head);
        if let Some((backend, model)) = &self.answered_by {
            head.set(X_UPSTREAM, backend.name());
            head.set(X_MODEL, &**model);
            if let Some(names) = self.unheeded.filter(|_| backend.is_ollama()) {
                head.set(X_UNHEEDED, names);
            }
        }
        head.set(X_REASON, self.reason().as_bytes());
        if self.runs_partly_on_cpu() {
            head.set(X_OFFLOAD, "partial");
        }
        if let Some(cut) = self.cut {
            head.set(X_PROMPT, cut.header());
        }
        if let Some(cached) = &self.cached {
            cached.headers(head);
        }
        let (queued, upstream) = (self.progress.queued, self.progress.upstream_wait);
        let plugins = self.trail.as_ref().map_or(Duration::ZERO, |trail| trail.spent);
        let own = self.started.elapsed().saturating_sub(queued + upstream + plugins);
        let mut text = String::with_capacity(72);
        for (name, spent) in
            [("queue;dur=", queued), (", upstream;dur=", upstream), (", gateway;dur=", own)]
        {
            text.push_str(name);
            millis::push(&mut text, spent);
        }
        if self.trail.is_some() {
            text.push_str(", plugins;dur=");
            millis::push(&mut text, plugins);
        }
        head.set(SERVER_TIMING, text);
    }

    /// Why it was answered where it was.
    fn reason(&self) -> Cow<'_, str> {
        match self.progress.passed_over(true).filter(|passed| is_visible(passed)) {
            Some(passed) => Cow::Owned(format!("{}; {passed}", self.reason)),
            None => Cow::Borrowed(&*self.reason),
        }
    }

    fn runs_partly_on_cpu(&self) -> bool {
        self.answered_by.as_ref().is_some_and(|(backend, model)| {
            backend.offload != Offload::Allow && backend.residency.of(model).partial == Some(true)
        })
    }

    /// What plugins decided about it, where there were any.
    pub fn into_decision(self) -> Option<Decision> {
        let mut trail = self.trail?;
        trail.steps.extend(self.shaped.iter().flat_map(|shaped| shaped.steps()));
        Some(Decision {
            id: self.id,
            caller: self.caller.0,
            model: self.asked,
            steps: trail.steps,
            changed: trail.changed,
            reason: self.reason,
            upstream: self.answered_by.as_ref().map(|(backend, _)| backend.shared_name()),
            upstream_model: self.answered_by.map(|(_, model)| model),
            status: self.status,
        })
    }

    /// The model that answered, now or when the answer was kept.
    fn model(&self) -> Option<&str> {
        let kept = || self.cached.as_ref()?.entry.as_ref().map(|entry| &*entry.facts.model);
        self.answered_by.as_ref().map(|(_, model)| &**model).or_else(kept)
    }

    /// Takes what it used out of its caller's limits: what the upstream told, else what came of its stream,
    /// unless the upstream itself broke that off.
    pub fn pay(&self) {
        let Some(payer) = &self.payer else { return };
        let came = |guess: &Guess| guess.events > 0 && self.outcome != Outcome::Cut;
        payer.spend_tokens(match (self.usage, self.guess.filter(came)) {
            (Some(usage), _) => usage.total(),
            (None, Some(guess)) => guess.prompt.saturating_add(guess.events),
            (None, None) => return,
        });
    }

    /// Hands the finished request to telemetry.
    pub fn record(&self, write: impl FnOnce(&Record<'_>)) {
        write(&Record {
            id: &self.id,
            caller: &self.caller,
            keyed: self.payer.is_some(),
            method: self.method.as_str(),
            endpoint: self.endpoint,
            asked: &self.asked,
            upstream: self.answered_by.as_ref().map(|(backend, _)| backend.name()),
            model: self.model(),
            passed: self.progress.passed_over(self.answered_by.is_some()),
            cache: self.cached.as_ref().map(|cached| cached.outcome).filter(|one| *one != "bypass"),
            status: if self.status == 0 { CLIENT_CLOSED_REQUEST } else { self.status },
            outcome: self.outcome,
            phase: self.phase.as_str(),
            detail: self.detail.as_deref(),
            total: self.started.elapsed(),
            queued: self.progress.queued,
            upstream_wait: self.progress.upstream_wait,
            first: self.first,
            streamed: self.streamed,
            usage: self.usage,
        });
    }
}

/// Whether a header can hold `text` so that every client shows it (RFC 9110, 5.5).
pub(super) fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_however_they_are_framed() {
        for (sent, framing, events) in [
            ("data: a\n\ndata: b\n\n", Framing::Sse, 2),
            ("data: a\r\n\r\ndata: b\r\n\r\n", Framing::Sse, 2),
            ("event: x\ndata: {}\n\n: loading\n\n", Framing::Sse, 1),
            ("{}\n{}\n", Framing::Lines, 2),
        ] {
            let mut guess = Guess::new(0, framing);
            guess.count(sent.as_bytes());
            assert_eq!(guess.events, events, "{sent:?}");
        }
    }
}
