//! A request as one target is to be sent it: as it came, with small changes, or in Ollama's native
//! dialect where its options need that.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use indexmap::IndexMap;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sluicegate_plugin_host::types::Value as Default;

use super::backend::Backend;
use super::long_prompt::{self, Cut};
use super::plugins::form;
use crate::config::admission::LongPrompts;
use crate::config::models::{NumCtx, RouteOptions, Think};
use crate::error::{Error, Kind};
use crate::native::{self, About, Form, anthropic, completions, context, count, responses};
use crate::plugin::document::Document;
use crate::plugin::edit;
use crate::request::Request;
use crate::request::endpoint::Endpoint;

/// Room for an answer whose length nobody bounds.
const ANSWER_TOKENS: u64 = 1024;
/// The most room for an answer: a limit may be as large as its client likes, and Anthropic's API demands one.
const MOST_ANSWER_TOKENS: u64 = 16_384;

/// What a model is loaded with, whichever route or name it is asked for by: of two requests that
/// differed in it, each would have it loaded anew.
#[derive(Debug)]
pub struct Runner {
    /// Tokens of context.
    pub num_ctx: Option<NumCtx>,
    /// Other options of Ollama's runner.
    pub others: Map<String, Value>,
}

/// A request ready to be sent.
#[derive(Debug)]
pub struct Prepared {
    /// Where it goes.
    pub path: &'static str,
    /// What is sent.
    pub body: Bytes,
    /// How the answer is to be turned back, if it was turned.
    pub native: Option<About>,
    /// What the upstream will leave out of its prompt without saying so.
    pub cut: Option<Cut>,
}

impl Runner {
    /// The runner that a route with `options` wants.
    #[must_use]
    pub fn new(options: &RouteOptions) -> Arc<Self> {
        let others = options.runner.iter().map(|(name, value)| (name.clone(), plain(value)));
        Arc::new(Self { num_ctx: options.num_ctx, others: others.collect() })
    }

    /// As Ollama's `options`, with a context of `num_ctx` tokens.
    #[must_use]
    pub fn options(&self, num_ctx: Option<u64>) -> Map<String, Value> {
        let mut options = self.others.clone();
        if let Some(tokens) = num_ctx {
            options.insert("num_ctx".into(), tokens.into());
        }
        options
    }
}

/// A number or a truth in quotes, as one from the environment may be, is meant without them.
fn plain(value: &Value) -> Value {
    let parsed = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    parsed.filter(|value| value.is_number() || value.is_boolean()).unwrap_or_else(|| value.clone())
}

/// Whether `request` can mean at `backend` what it says, for `model`. To be asked before it waits
/// there, and before anything is loaded for it.
///
/// # Errors
/// Why not.
pub(super) fn check(backend: &Backend, request: &Request, model: &str) -> Result<(), Error> {
    match (request.endpoint, backend.num_ctx(model)) {
        (endpoint, Some(NumCtx::Tokens(context))) if is_translated(endpoint) => {
            long_prompt::check(request, context, model)
        }
        // Where it is only told of, it is looked for when the model is loaded.
        _ if backend.long_prompts == LongPrompts::Reject => {
            long_prompt::look(backend, request, model).map(drop)
        }
        _ => Ok(()),
    }
}

/// Makes of `request`, on a route with the options `route`, what `backend` is to be sent for `model`.
///
/// # Errors
/// When it cannot mean there what it says; the client's own mistake.
pub(super) fn prepare(
    backend: &Backend,
    request: &Request,
    route: Option<&RouteOptions>,
    model: &str,
) -> Result<Prepared, Error> {
    let runner = backend.runner(model);
    let native = backend.is_ollama() && (runner.is_some() || route.is_some_and(needs_native));
    if !native {
        return as_it_came(backend, request, model);
    }
    match request.endpoint {
        endpoint if is_translated(endpoint) => translated(backend, request, route, model),
        Endpoint::ApiChat | Endpoint::ApiGenerate => {
            let mut prepared = as_it_came(backend, request, model)?;
            if let Some(runner) = runner {
                let num_ctx = choose_context(backend, request, model);
                prepared.body = with_options(&prepared.body, runner.options(num_ctx))?;
            }
            Ok(prepared)
        }
        _ => as_it_came(backend, request, model),
    }
}

/// Whether requests of `endpoint` have a form in Ollama's own API that can say more.
fn is_translated(endpoint: Endpoint) -> bool {
    matches!(
        endpoint,
        Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Messages
            | Endpoint::Responses
    )
}

fn needs_native(options: &RouteOptions) -> bool {
    options.think.is_some() || options.keep_alive.is_some()
}

fn as_it_came(backend: &Backend, request: &Request, model: &str) -> Result<Prepared, Error> {
    let cut = long_prompt::look(backend, request, model)?;
    let mut body = request.body_for(backend.origin.config.kind, model);
    if request.endpoint.is_native() && backend.is_pinned(model) {
        body = kept_loaded(body)?;
    }
    Ok(Prepared { path: request.endpoint.path(), body, native: None, cut })
}

fn translated(
    backend: &Backend,
    request: &Request,
    route: Option<&RouteOptions>,
    model: &str,
) -> Result<Prepared, Error> {
    let num_ctx = choose_context(backend, request, model);
    let keep_alive = if backend.is_pinned(model) {
        // A route does not unpin what the upstream pins.
        Some("-1".to_owned())
    } else {
        let wanted = route.and_then(|route| route.keep_alive);
        wanted.map(|time| format!("{}s", time.0.as_secs()))
    };
    let think = route.and_then(|route| route.think.as_ref()).map(|think| match think {
        Think::Whether(whether) => native::Think::Bool(*whether),
        Think::Level(level) => native::Think::Level(level.as_str().to_owned()),
    });
    let others = backend.runner(model).map(|runner| runner.others.clone()).unwrap_or_default();
    let options = native::Options { num_ctx, keep_alive, think, others };
    let mut path = "/api/chat";
    let body = match request.endpoint {
        Endpoint::Completions => {
            path = "/api/generate";
            completions::request(&request.body, model, &options)
        }
        Endpoint::Messages => anthropic::request(&request.body, model, &options),
        Endpoint::Responses => responses::request(&request.body, model, &options),
        _ => native::request(&request.body, model, &options),
    };
    let body = body.map_err(refused)?;
    let native = Some(about(request, model));
    // Where the context is ours, it is sent with `truncate: false`.
    let cut = if num_ctx.is_some() { None } else { long_prompt::look(backend, request, model)? };
    Ok(Prepared { path, body: body.into(), native, cut })
}

/// The context for this prompt and its answer, where the model has one of its own. One that is
/// chosen by need is never smaller than what the model has: another would have it loaded anew.
pub(super) fn choose_context(backend: &Backend, request: &Request, model: &str) -> Option<u64> {
    match backend.num_ctx(model)? {
        NumCtx::Tokens(tokens) => Some(tokens),
        NumCtx::Auto(_) => {
            let prompt = prompt_tokens(request);
            let answer = request.max_tokens().unwrap_or(ANSWER_TOKENS).min(MOST_ANSWER_TOKENS);
            // An estimate may be a quarter too low.
            let needed = prompt.saturating_add(prompt / 4).saturating_add(answer);
            Some(backend.grow_context(model, needed))
        }
    }
}

/// Tokens of its prompt, guessed. What is malformed is told when it is translated.
pub(super) fn prompt_tokens(request: &Request) -> u64 {
    match request.endpoint {
        Endpoint::Messages => count::message_tokens(&request.body).unwrap_or_default(),
        Endpoint::Responses => responses::prompt_tokens(&request.body),
        Endpoint::Completions | Endpoint::ApiGenerate => completions::prompt_tokens(&request.body),
        _ => context::prompt_tokens_estimate(&request.body),
    }
}

/// A native body that does not unload what is pinned: no client unpins what the operator pins.
fn kept_loaded(body: Bytes) -> Result<Bytes, Error> {
    let mut members: Members = serde_json::from_slice(&body).map_err(unreadable)?;
    let mut says = false;
    for (name, value) in &mut members {
        // As Ollama reads names.
        if name.eq_ignore_ascii_case("keep_alive") {
            *value = serde_json::value::to_raw_value(&-1).map_err(unreadable)?;
            says = true;
        }
    }
    if !says {
        return Ok(body);
    }
    serde_json::to_vec(&members).map(Bytes::from).map_err(unreadable)
}

type Members = IndexMap<String, Box<RawValue>>;

fn unreadable(cause: serde_json::Error) -> Error {
    Error::new(Kind::InvalidJson, format!("the body: {cause}"))
}

/// A native body whose runner is started with `options`, whatever it says itself.
fn with_options(body: &[u8], options: Map<String, Value>) -> Result<Bytes, Error> {
    let raw = |value: &Value| serde_json::value::to_raw_value(value).map_err(unreadable);
    let mut members: Members = serde_json::from_slice(body).map_err(unreadable)?;
    let given = members.get("options").map_or("null", |given| given.get());
    let mut merged = serde_json::from_str::<Option<Members>>(given)
        .map_err(|_| {
            Error::new(Kind::InvalidRequest, "`options` must be an object").param("options")
        })?
        .unwrap_or_default();
    for (name, value) in options {
        merged.insert(name, raw(&value)?);
    }
    members.insert("options".into(), serde_json::value::to_raw_value(&merged).map_err(unreadable)?);
    serde_json::to_vec(&members).map(Bytes::from).map_err(unreadable)
}

/// Gives `request` what its route says where the client said nothing.
///
/// # Errors
/// When the body cannot take it.
pub(super) fn set_defaults(request: &mut Request, options: &RouteOptions) -> Result<(), Error> {
    let limit = match request.endpoint {
        Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Messages => "max_tokens",
        Endpoint::Responses => "max_output_tokens",
        _ => return Ok(()),
    };
    let max_tokens = options.max_tokens.filter(|_| request.max_tokens().is_none());
    let tokens =
        max_tokens.map(|tokens| Default::Integer(i64::try_from(tokens).unwrap_or(i64::MAX)));
    let defaults = [
        ("temperature", options.temperature.map(Default::Number)),
        ("top_p", options.top_p.map(Default::Number)),
        (limit, tokens),
    ];
    let given =
        |(name, value): (&str, Option<Default>)| value.map(|value| (name.to_owned(), value));
    let defaults: Vec<(String, Default)> = defaults.into_iter().filter_map(given).collect();
    if defaults.is_empty() {
        return Ok(());
    }
    let body = request.body.clone();
    // What cannot be read is for the upstream to complain of.
    let Ok(document) = Document::parse(form(request.endpoint), &body) else { return Ok(()) };
    match edit::set_defaults(&document, &defaults) {
        Ok(Some(changed)) => request.replace_body(changed),
        Ok(None) | Err(_) => Ok(()),
    }
}

fn refused(refusal: native::Refusal) -> Error {
    let error = Error::new(Kind::InvalidRequest, refusal.message);
    match refusal.param {
        Some(param) => error.param(param),
        None => error,
    }
}

fn about(request: &Request, model: &str) -> About {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (kind, form) = match request.endpoint {
        Endpoint::Messages => {
            // A whole answer has the count.
            let prompt_tokens = if request.streaming { prompt_tokens(request) } else { 0 };
            ("msg_", Form::Message { prompt_tokens })
        }
        Endpoint::Responses => {
            let echo = responses::echo(&request.body);
            ("resp_", Form::Response { created: now.as_secs(), echo })
        }
        // Usage is taken out again where the client did not ask for it.
        Endpoint::Completions => {
            let include_usage = request.streaming;
            ("cmpl-", Form::Completion { created: now.as_secs(), include_usage })
        }
        _ => {
            let form = Form::Chat { created: now.as_secs(), include_usage: request.streaming };
            ("chatcmpl-", form)
        }
    };
    About { model: model.to_owned(), id: format!("{kind}{:016x}", fastrand::u64(..)), form }
}
