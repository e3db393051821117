//! What plugins are shown of the gateway: targets with their state, and endpoints.

use std::sync::Arc;

use sluicegate_plugin_host::{router as wit, types};

use crate::breaker::State;
use crate::gpu::Sampler;
use crate::pipeline::backend::Backend;
use crate::pipeline::state::Snapshot;
use crate::plugin::document::Form;
use crate::request::endpoint::Endpoint;
use crate::router::{Plan, Target};

/// Where a request may go, in the order of its plan.
pub(super) fn targets(snapshot: &Snapshot, plan: &Plan, gpus: &Sampler) -> Vec<wit::Target> {
    let primary = plan.targets.iter().map(|target| (target, false));
    let all = primary.chain(plan.fallback.iter().map(|target| (target, true)));
    all.map(|(target, fallback)| state(&snapshot.backends[target.upstream], target, fallback, gpus))
        .collect()
}

fn state(backend: &Arc<Backend>, target: &Target, fallback: bool, gpus: &Sampler) -> wit::Target {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let residency = backend.residency.of(&target.model);
    let load = backend.figures.load().get(&target.model).and_then(|figure| figure.load);
    wit::Target {
        upstream: backend.name().to_owned(),
        model: target.model.to_string(),
        fallback,
        weight: target.weight,
        resident: residency.resident,
        partial: residency.partial,
        headroom: backend.headroom(gpus),
        in_flight: count(backend.gate.in_flight()),
        waiting: count(backend.gate.waiting()),
        tokens_per_second: backend.speeds.of(&target.model).decode,
        load_ms: load.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        breaker: match backend.breakers.state(&target.model) {
            State::Closed => wit::Breaker::Closed,
            State::HalfOpen => wit::Breaker::HalfOpen,
            State::Open => wit::Breaker::Open,
        },
        context_length: residency.context_length,
    }
}

/// The endpoint as plugins are told.
pub(crate) fn shown(endpoint: Endpoint) -> types::Endpoint {
    match endpoint {
        Endpoint::ChatCompletions => types::Endpoint::ChatCompletions,
        Endpoint::Completions => types::Endpoint::Completions,
        Endpoint::Embeddings => types::Endpoint::Embeddings,
        Endpoint::Responses => types::Endpoint::Responses,
        Endpoint::Messages => types::Endpoint::Messages,
        Endpoint::ApiChat => types::Endpoint::NativeChat,
        Endpoint::ApiGenerate => types::Endpoint::NativeGenerate,
        _ => types::Endpoint::Other,
    }
}

/// How the endpoint's bodies are laid out.
pub(crate) fn form(endpoint: Endpoint) -> Form {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::ApiChat => Form::Chat,
        Endpoint::Messages => Form::Messages,
        Endpoint::Responses => Form::Responses,
        Endpoint::Completions | Endpoint::ApiEmbeddings => Form::Prompt,
        Endpoint::Embeddings | Endpoint::ApiEmbed => Form::Input,
        Endpoint::ApiGenerate => Form::Generate,
        _ => Form::Other,
    }
}
