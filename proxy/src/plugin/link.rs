//! One plugin as requests meet it: its calls, guarded by a breaker, and what failures mean.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter};
use sluicegate_plugin_host::types::Request;
use sluicegate_plugin_host::{
    Failure, FailureKind, Plugin, cache_policy, responder, rewriter, router,
};
use tokio::time::Instant;

use super::decision;
use crate::breaker::Breaker;
use crate::config::plugins::{OnError, PluginConfig};
use crate::config::raw::BreakerConfig;
use crate::config::units::Period;
use crate::error::{Error, Kind};
use crate::telemetry::names;

/// A plugin that fails this often is left alone for a while: its failures would cost every request
/// its deadline.
const BREAKER: BreakerConfig =
    BreakerConfig { errors: 10, window: Period::secs(10), open_for: Period::secs(10), probes: 1 };

/// A loaded plugin and how the configuration wants it used.
#[derive(Debug)]
pub struct Link {
    /// Its configuration.
    pub config: PluginConfig,
    plugin: Plugin,
    breaker: Arc<Breaker>,
    shadow: [Counter; 2],
    skipped: Counter,
}

/// A call's outcome: `None` when the request goes on as if the plugin were not there.
pub type Decided<T> = Result<Option<T>, Error>;

impl Link {
    /// A link to `plugin`.
    #[must_use]
    pub fn new(config: PluginConfig, plugin: Plugin) -> Self {
        let of = |outcome: &'static str| counter!(names::PLUGIN_SHADOW, "plugin" => config.name.clone(), "outcome" => outcome);
        Self {
            shadow: [of("same"), of("different")],
            skipped: counter!(names::PLUGIN_SKIPPED, "plugin" => config.name.clone()),
            plugin,
            breaker: Arc::new(Breaker::new(BREAKER)),
            config,
        }
    }

    /// The plugin.
    #[must_use]
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Counts what a plugin that may change nothing would have done.
    pub fn shadowed(&self, different: bool) {
        self.shadow[usize::from(different)].increment(1);
    }

    /// Asks for an order of `targets`.
    pub async fn route(
        &self,
        request: &Request,
        targets: &[router::Target],
    ) -> Decided<RouterDecision> {
        self.guarded(async {
            Ok(match self.plugin.route(request, targets).await? {
                router::Decision::Proceed => None,
                router::Decision::Rank(ranking) => {
                    let order = decision::order(ranking, targets.len()).map_err(nonsense)?;
                    Some(RouterDecision::Rank(order))
                }
                router::Decision::Reject(given) => Some(RouterDecision::Reject(rejected(
                    decision::rejection(given).map_err(nonsense)?,
                ))),
            })
        })
        .await
    }

    /// Asks for edits; `check` says whether they can be made.
    pub async fn rewrite<T>(
        &self,
        request: &Request,
        check: impl FnOnce(Vec<rewriter::Edit>) -> Result<T, String>,
    ) -> Decided<RewriterDecision<T>> {
        self.guarded(async {
            Ok(match self.plugin.rewrite(request).await? {
                rewriter::Decision::Proceed => None,
                rewriter::Decision::Edit(edits) if edits.is_empty() => None,
                rewriter::Decision::Edit(edits) => {
                    Some(RewriterDecision::Edited(check(edits).map_err(nonsense)?))
                }
                rewriter::Decision::Reject(given) => {
                    let given = decision::rejection(given).map_err(nonsense)?;
                    Some(RewriterDecision::Reject(rejected(given)))
                }
                rewriter::Decision::Answer(text) => Some(RewriterDecision::Answer(text)),
            })
        })
        .await
    }

    /// Asks what may be cached.
    pub async fn cache_policy(&self, request: &Request) -> Decided<cache_policy::Policy> {
        self.guarded(async {
            let given = self.plugin.cache_policy(request).await?;
            given.map(decision::policy).transpose().map_err(nonsense)
        })
        .await
    }

    /// Shows a piece of an answer.
    pub async fn edit(
        &self,
        answer: &responder::Answer,
        piece: &responder::Piece,
    ) -> Decided<responder::Edited> {
        self.guarded(async {
            let given = self.plugin.edit(answer, piece).await?;
            decision::edited(given).map(Some).map_err(nonsense)
        })
        .await
    }

    /// Asks for a text to wait with.
    pub async fn waiting(&self, answer: &responder::Answer, waited: Duration) -> Decided<String> {
        let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        self.guarded(async { self.plugin.waiting(answer, waited).await }).await
    }

    async fn guarded<T>(
        &self,
        call: impl Future<Output = Result<Option<T>, Failure>>,
    ) -> Decided<T> {
        // No one else probes it: the next request after the pause is the probe.
        if self.breaker.probe_due().is_some_and(|due| due <= Instant::now()) {
            self.breaker.probed(true);
        }
        let Ok(pass) = self.breaker.try_pass() else {
            self.skipped.increment(1);
            return self.failed("it failed too often and is left alone for now");
        };
        match call.await {
            Ok(outcome) => {
                pass.success();
                Ok(outcome)
            }
            Err(failure) => {
                // The others are counted where they happen.
                if failure.kind == FailureKind::Decision {
                    self.plugin.figures().failed(failure.kind);
                }
                // That the machine is busy says nothing about the plugin.
                if failure.kind == FailureKind::Busy {
                    drop(pass)
                } else {
                    pass.failure()
                }
                self.plugin.log_failure(&failure);
                self.failed(failure.kind.as_str())
            }
        }
    }

    fn failed<T>(&self, why: &str) -> Decided<T> {
        match self.config.on_error {
            OnError::Continue => Ok(None),
            OnError::Reject if self.config.shadow => Ok(None),
            OnError::Reject => {
                let message = format!("the plugin `{}` cannot decide: {why}", self.config.name);
                Err(Error::new(Kind::Overloaded, message).retry_after(BREAKER.open_for.0))
            }
        }
    }
}

/// What a router decided, when not to leave things as they are.
#[derive(Debug)]
pub enum RouterDecision {
    /// Another order.
    Rank(decision::Order),
    /// Refuse the request.
    Reject(Error),
}

/// What a rewriter decided, when not to leave things as they are.
#[derive(Debug)]
pub enum RewriterDecision<T> {
    /// Edits, as checked.
    Edited(T),
    /// Refuse the request.
    Reject(Error),
    /// Answer it with this text.
    Answer(String),
}

fn nonsense(why: String) -> Failure {
    Failure::new(FailureKind::Decision, why)
}

fn rejected(given: sluicegate_plugin_host::types::Rejection) -> Error {
    Error::new(Kind::InvalidRequest, given.message).custom(given.status, given.code)
}
