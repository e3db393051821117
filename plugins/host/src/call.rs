//! One call of a guest: its deadline, its place, and what can go wrong with it.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use wasmtime::{PoolConcurrencyLimitError, Trap};

use crate::bindings::exports::sluicegate::plugin as wit;
use crate::bindings::sluicegate::plugin::types::{Description, Request};
use crate::instance::Instance;
use crate::plugin::{Interface, Plugin};
use crate::state::Exhausted;
use crate::turns::{self, Expired, MAX_TURN_WAIT};

/// What kind of failure a call met; also a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The guest trapped: a panic, an exception, an invalid instruction.
    Trap,
    /// It did not end in time.
    Deadline,
    /// It wanted more memory than it may have.
    Memory,
    /// No place or instance came free in time.
    Busy,
    /// Its decision makes no sense.
    Decision,
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Trap, Self::Deadline, Self::Memory, Self::Busy, Self::Decision];

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Busy => "busy",
            Self::Decision => "decision",
        }
    }
}

/// A call that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {message}", kind.as_str())]
pub struct Failure {
    /// How.
    pub kind: FailureKind,
    /// For the operator.
    pub message: String,
}

impl Failure {
    /// A failure of `kind`.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl Plugin {
    /// Asks a router.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn route(
        &self,
        request: &Request,
        targets: &[wit::router::Target],
    ) -> Result<wit::router::Decision, Failure> {
        self.call(Interface::Router, |mut instance| async move {
            let (store, guest) = instance.router(self.exports())?;
            let decided = guest.call_route(store, request, targets).await?;
            Ok((instance, decided))
        })
        .await
    }

    /// Asks a rewriter.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn rewrite(&self, request: &Request) -> Result<wit::rewriter::Decision, Failure> {
        self.call(Interface::Rewriter, |mut instance| async move {
            let (store, guest) = instance.rewriter(self.exports())?;
            let decided = guest.call_rewrite(store, request).await?;
            Ok((instance, decided))
        })
        .await
    }

    /// Asks a cache policy.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn cache_policy(
        &self,
        request: &Request,
    ) -> Result<Option<wit::cache_policy::Policy>, Failure> {
        self.call(Interface::CachePolicy, |mut instance| async move {
            let (store, guest) = instance.cache_policy(self.exports())?;
            let decided = guest.call_decide(store, request).await?;
            Ok((instance, decided))
        })
        .await
    }

    /// Shows a responder a piece of an answer.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn edit(
        &self,
        answer: &wit::responder::Answer,
        piece: &wit::responder::Piece,
    ) -> Result<wit::responder::Edited, Failure> {
        self.call(Interface::Responder, |mut instance| async move {
            let (store, guest) = instance.responder(self.exports())?;
            let decided = guest.call_edit(store, answer, piece).await?;
            Ok((instance, decided))
        })
        .await
    }

    /// Asks a responder for a text to wait with.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn waiting(
        &self,
        answer: &wit::responder::Answer,
        waited_ms: u64,
    ) -> Result<Option<String>, Failure> {
        self.call(Interface::Responder, |mut instance| async move {
            let (store, guest) = instance.responder(self.exports())?;
            let decided = guest.call_waiting(store, answer, waited_ms).await?;
            Ok((instance, decided))
        })
        .await
    }

    pub(crate) async fn describe(
        &self,
        limit: Duration,
    ) -> Result<Result<Description, String>, Failure> {
        self.call_within(limit, |mut instance| async move {
            let guest = instance.guest(self.exports())?;
            // Looked up now, so that a wrong type is found now.
            for interface in self.interfaces() {
                match interface {
                    Interface::Router => instance.router(self.exports()).map(|_| ())?,
                    Interface::Rewriter => instance.rewriter(self.exports()).map(|_| ())?,
                    Interface::CachePolicy => instance.cache_policy(self.exports()).map(|_| ())?,
                    Interface::Responder => instance.responder(self.exports()).map(|_| ())?,
                }
            }
            let described = guest.call_describe(&mut instance.store).await?;
            Ok((instance, described))
        })
        .await
    }

    async fn call<T, F>(
        &self,
        interface: Interface,
        run: impl FnOnce(Instance) -> F + Send,
    ) -> Result<T, Failure>
    where
        F: Future<Output = wasmtime::Result<(Instance, T)>> + Send,
    {
        let began = Instant::now();
        let outcome = self.call_within(self.settings().deadline, run).await;
        self.figures().record(interface, began.elapsed(), outcome.as_ref().err());
        outcome
    }

    /// `run` takes an instance, calls it, and returns it with the outcome. After an error it is in an
    /// unknown state, and is dropped.
    async fn call_within<T, F>(
        &self,
        limit: Duration,
        run: impl FnOnce(Instance) -> F + Send,
    ) -> Result<T, Failure>
    where
        F: Future<Output = wasmtime::Result<(Instance, T)>> + Send,
    {
        let _ticking = self.engine().ticker.begin();
        let busy = || Failure::new(FailureKind::Busy, "no place came free in time");
        let _place = match self.places().try_acquire() {
            Ok(place) => place,
            Err(_) => match timeout(MAX_TURN_WAIT, self.places().acquire()).await {
                Ok(Ok(place)) => place,
                Ok(Err(_)) | Err(_) => return Err(busy()),
            },
        };
        let work = pin!(async {
            let mut instance = match self.take_idle() {
                Some(instance) => instance,
                None => self.instantiate().await.map_err(|cause| classify(&cause))?,
            };
            instance.arm();
            match run(instance).await {
                Ok((instance, value)) => {
                    self.figures().held(instance.store.data().memory);
                    self.give_back(instance);
                    Ok(value)
                }
                Err(cause) => Err(classify(&cause)),
            }
        });
        match turns::drive(limit, &self.engine().slow, &self.engine().ticker, work).await {
            Ok(outcome) => outcome,
            Err(Expired::Limit) => {
                Err(Failure::new(FailureKind::Deadline, "it did not end in time"))
            }
            Err(Expired::Turn) => Err(busy()),
        }
    }
}

fn classify(cause: &wasmtime::Error) -> Failure {
    let kind = if cause.root_cause().is::<Exhausted>() {
        FailureKind::Memory
    } else if cause.is::<PoolConcurrencyLimitError>() {
        FailureKind::Busy
    } else if cause.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        FailureKind::Deadline
    } else {
        FailureKind::Trap
    };
    // The outer causes are the frames of the guest's stack.
    Failure::new(kind, cause.root_cause().to_string().chars().take(300).collect::<String>())
}
