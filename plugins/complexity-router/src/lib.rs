//! Routes a request by how hard it looks: a score from 0 to 1, a level, a class of task, and from
//! these an order of targets and a default temperature.
//!
//! # Layout
//! - `words`: the words that tell a class of task, or that thought is asked for
//! - `signals`: what is seen in a request
//! - `score`: class, score and level from what was seen
//! - `order`: the order of targets
//! - `config`: the plugin's configuration

mod config;
mod order;
mod score;
mod signals;
#[cfg(test)]
mod tests;
mod words;

use sluicegate_plugin::config::Cached;
use sluicegate_plugin::router::{Decision, Ranking, Target};
use sluicegate_plugin::{
    Description, Endpoint, Guest, Needs, Request, Router, Value, describe, host,
};

use crate::config::Config;
use crate::score::Verdict;

struct ComplexityRouter;

thread_local! { static CONFIG: Cached<Config> = const { Cached::new() }; }

impl Guest for ComplexityRouter {
    fn describe() -> Result<Description, String> {
        sluicegate_plugin::config::parse::<Config>()?.check()?;
        Ok(describe!(Needs::MESSAGES))
    }
}

impl Router for ComplexityRouter {
    fn route(request: Request, targets: Vec<Target>) -> Decision {
        CONFIG.with(|config| decide(config.get(), &request, &targets))
    }
}

fn decide(config: &Config, request: &Request, targets: &[Target]) -> Decision {
    let asks = !matches!(request.endpoint, Endpoint::Embeddings | Endpoint::Other);
    if !asks || request.messages.is_empty() || targets.is_empty() {
        return Decision::Proceed;
    }
    let verdict = score::judge(config, request);
    let order = order::order(config, request, &verdict, targets);
    let (level, class) = (verdict.level.name(), verdict.class.name());
    host::count("decisions", &format!("{level}/{class}"), 1);
    let score = verdict.shown();
    let reason = if order.canary {
        host::count("canary", "chosen", 1);
        "canary".to_owned()
    } else {
        [level, class, &score].join(":")
    };
    let defaults = defaults(config, request, &verdict);
    let mut labels = vec![
        ("level".to_owned(), level.to_owned()),
        ("class".to_owned(), class.to_owned()),
        ("score".to_owned(), score),
    ];
    if !defaults.is_empty() {
        // A cache policy must not take it for the client's wish for equal answers.
        labels.push(("temperature".to_owned(), "default".to_owned()));
    }
    Decision::Rank(Ranking { targets: order.ranked, reason, defaults, labels })
}

/// The class's temperature, where the client sent none and the body has it at its top level.
fn defaults(config: &Config, request: &Request, verdict: &Verdict) -> Vec<(String, Value)> {
    let native = matches!(request.endpoint, Endpoint::NativeChat | Endpoint::NativeGenerate);
    if native || request.parameters.temperature.is_some() {
        return Vec::new();
    }
    let temperature = config.temperature(verdict.class);
    temperature.map(|value| ("temperature".to_owned(), Value::Number(value))).into_iter().collect()
}

sluicegate_plugin::export!(ComplexityRouter: router);
