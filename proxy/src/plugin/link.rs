//! One plugin as requests meet it: its calls, what a streak of failures means, and what one does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, counter};
use sluicegate_plugin_host::streak::Streak;
use sluicegate_plugin_host::types::Request;
use sluicegate_plugin_host::{
    Failure, FailureKind, Interface, Plugin, cache_policy, responder, rewriter, router,
};

use super::decision;
use crate::config::plugins::{OnError, PluginConfig};
use crate::error::{Error, Kind};
use crate::telemetry::names;

/// When to come back to a plugin that must decide and cannot.
const REJECTED_RETRY: Duration = Duration::from_secs(5);

/// A loaded plugin and how the configuration wants it used.
#[derive(Debug)]
pub struct Link {
    /// Its configuration.
    pub config: PluginConfig,
    /// Its name there.
    pub name: Arc<str>,
    plugin: Plugin,
    /// By interface.
    streaks: [Streak; 4],
    shadow: [Counter; 2],
    skipped: Counter,
    /// Calls that failed, or were not made, and were passed over.
    passed_over: AtomicU64,
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
            passed_over: AtomicU64::new(0),
            plugin,
            name: config.name.as_str().into(),
            streaks: Default::default(),
            config,
        }
    }

    /// The plugin.
    #[must_use]
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Calls that failed, or were not made, and were passed over.
    #[must_use]
    pub fn passed_over(&self) -> u64 {
        self.passed_over.load(Ordering::Acquire)
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
        self.guarded(Interface::Router, async {
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
        self.guarded(Interface::Rewriter, async {
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
        self.guarded(Interface::CachePolicy, async {
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
        self.guarded(Interface::Responder, async {
            let given = self.plugin.edit(answer, piece).await?;
            decision::edited(given).map(Some).map_err(nonsense)
        })
        .await
    }

    /// Asks for a text to wait with.
    pub async fn waiting(&self, answer: &responder::Answer, waited: Duration) -> Decided<String> {
        let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        self.guarded(Interface::Responder, async { self.plugin.waiting(answer, waited).await })
            .await
    }

    async fn guarded<T>(
        &self,
        interface: Interface,
        call: impl Future<Output = Result<Option<T>, Failure>>,
    ) -> Decided<T> {
        let streak = &self.streaks[interface as usize];
        // One that must not be passed by is always asked.
        if self.config.on_error == OnError::Continue && !streak.may_call() {
            self.skipped.increment(1);
            self.passed_over.fetch_add(1, Ordering::AcqRel);
            return Ok(None);
        }
        match call.await {
            Ok(outcome) => {
                streak.succeeded();
                Ok(outcome)
            }
            Err(failure) => {
                match failure.kind {
                    // The others are counted where they happen.
                    FailureKind::Decision => self.plugin.figures().failed(failure.kind),
                    // That the machine is busy says nothing about the plugin.
                    FailureKind::Busy => {}
                    FailureKind::Trap | FailureKind::Deadline | FailureKind::Memory => {
                        streak.failed();
                    }
                }
                self.passed_over.fetch_add(1, Ordering::AcqRel);
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
                Err(Error::new(Kind::Overloaded, message).retry_after(REJECTED_RETRY))
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
