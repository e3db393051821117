//! A request as one target is to be sent it: as it came, with small changes, or in Ollama's native
//! dialect where its options need that.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::Map;
use sluicegate_plugin_host::types::Value;

use super::attempt::CONTEXT_EXCEEDED;
use super::backend::Backend;
use super::plugins::form;
use crate::config::models::{NumCtx, RouteOptions, Think};
use crate::error::{Error, Kind};
use crate::native::{self, About, context};
use crate::plugin::document::Document;
use crate::plugin::edit;
use crate::request::Request;
use crate::request::endpoint::Endpoint;

/// Room in a context that is chosen by an estimate, in quarters of the estimate.
const SPARE_QUARTERS: u64 = 1;

/// What a model is to be run with, of the routes that lead to it.
#[derive(Debug)]
pub struct Runner {
    /// The routes' options.
    pub options: RouteOptions,
    /// These in words: answers under others are not the same.
    pub fingerprint: String,
    native: native::Options,
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
    /// The longest time for all of it, where a route has its own.
    pub timeout: Option<Duration>,
}

impl Runner {
    /// The runner that `options` want.
    #[must_use]
    pub fn new(options: &RouteOptions) -> Arc<Self> {
        let think = options.think.as_ref().map(|think| match think {
            Think::Whether(whether) => native::Think::Bool(*whether),
            Think::Level(level) => native::Think::Level(level.as_str().to_owned()),
        });
        let others: Map<_, _> =
            options.runner.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let native = native::Options {
            num_ctx: match options.num_ctx {
                Some(NumCtx::Tokens(tokens)) => Some(tokens),
                Some(NumCtx::Auto(_)) | None => None,
            },
            keep_alive: options.keep_alive.map(|time| format!("{}s", time.0.as_secs().max(1))),
            think,
            others,
        };
        let fingerprint = format!("{:?}", (&options.num_ctx, &options.think, &options.runner));
        Arc::new(Self { options: options.clone(), fingerprint, native })
    }
}

/// Makes of `request` what `backend` is to be sent for `model`.
///
/// # Errors
/// When it cannot mean there what it says; the client's own mistake.
pub(super) fn prepare(
    backend: &Backend,
    request: &Request,
    model: &str,
) -> Result<Prepared, Error> {
    let kind = backend.origin.config.kind;
    let runner = backend.runner(model);
    let timeout = runner.and_then(|runner| runner.options.timeout).map(|time| time.0);
    match runner {
        Some(runner) if request.endpoint == Endpoint::ChatCompletions => {
            let mut options = runner.native.clone();
            if runner.options.num_ctx == Some(NumCtx::Auto(crate::config::models::Auto::Auto)) {
                options.num_ctx = context_for(backend, request, model);
            }
            check_context(&request.body, options.num_ctx, model)?;
            let body = native::request(&request.body, model, &options).map_err(refused)?;
            let native = Some(about(request, model));
            Ok(Prepared { path: "/api/chat", body: body.into(), native, timeout })
        }
        Some(_) | None => {
            let (path, body) = (request.endpoint.path(), request.body_for(kind, model));
            Ok(Prepared { path, body, native: None, timeout })
        }
    }
}

/// The context for this prompt and its answer: that of the loaded model if it will do, because
/// another would have it loaded anew.
fn context_for(backend: &Backend, request: &Request, model: &str) -> Option<u64> {
    let prompt = context::prompt_tokens_estimate(&request.body);
    let answer = request.max_tokens().unwrap_or(ANSWER_TOKENS);
    let needed = prompt + prompt.div_ceil(4) * SPARE_QUARTERS + answer;
    let loaded = backend.residency.of(model).context_length;
    loaded.filter(|loaded| *loaded >= needed).or_else(|| Some(context::bucket(needed, None)))
}

/// Room for an answer whose length nobody bounds.
const ANSWER_TOKENS: u64 = 1024;

/// Gives `request` what its route says where the client said nothing.
///
/// # Errors
/// When the body cannot take it.
pub(super) fn set_defaults(request: &mut Request, options: &RouteOptions) -> Result<(), Error> {
    if !matches!(request.endpoint, Endpoint::ChatCompletions | Endpoint::Completions) {
        return Ok(());
    }
    let limited = request.scan.max_completion_tokens.is_some();
    let max_tokens = options.max_tokens.filter(|_| !limited);
    let tokens = max_tokens.map(|tokens| Value::Integer(i64::try_from(tokens).unwrap_or(i64::MAX)));
    let defaults = [
        ("temperature", options.temperature.map(Value::Number)),
        ("top_p", options.top_p.map(Value::Number)),
        ("max_tokens", tokens),
    ];
    let given = |(name, value): (&str, Option<Value>)| Some((name.to_owned(), value?));
    let defaults: Vec<(String, Value)> = defaults.into_iter().filter_map(given).collect();
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

fn check_context(body: &[u8], context: Option<u64>, model: &str) -> Result<(), Error> {
    // A token is a byte at least, so most prompts need not be looked at.
    let Some(context) = context.filter(|context| body.len() as u64 > *context) else {
        return Ok(());
    };
    let least = context::prompt_tokens_at_least(body);
    if least <= context {
        return Ok(());
    }
    let message = format!(
        "this prompt has at least {least} tokens, and `{model}` is run here with a context of \
         {context}"
    );
    let error = Error::new(Kind::InvalidRequest, message).param("messages");
    Err(error.custom(Kind::InvalidRequest.status().as_u16(), CONTEXT_EXCEEDED.into()))
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
    About {
        model: model.to_owned(),
        created: now.as_secs(),
        // Taken out again where the client did not ask for it.
        include_usage: request.streaming,
        id: format!("chatcmpl-{:016x}", fastrand::u64(..)),
    }
}
