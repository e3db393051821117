//! What people ask of an upstream's models: load, unload, pin.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::warm::{STAY_TIMEOUT, keep_alive, loaded_options};
use super::{Keeper, load};
use crate::admission::Decision;
use crate::ollama::plain;
use crate::pipeline::backend::Backend;
use crate::upstream::loads::{self, How, KeepAlive};

/// Commands that wait for one upstream.
const WAITING: usize = 16;
/// Longest time for one: a large model loads from a slow disk.
const DEADLINE: Duration = Duration::from_secs(600);

/// Longest wait for an idle model to be gone that was to be unloaded.
const GONE_WITHIN: Duration = Duration::from_secs(1);
/// How long a model stays that is pinned no more: as long as Ollama keeps others by default.
const AS_OTHERS: Duration = Duration::from_secs(300);

/// Who asked is told here how it went.
pub(super) type Answer = oneshot::Sender<Result<(), Refusal>>;

/// What is to be done with a model.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Have it loaded, evicting idle ones that are not pinned.
    Load(Arc<str>),
    /// Have it unloaded once it is idle.
    Unload(Arc<str>),
    /// Keep it loaded, over restarts.
    Pin(Arc<str>),
    /// Leave it to the others.
    Unpin(Arc<str>),
}

/// Why it is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// There is no such upstream, or it is not an Ollama.
    #[error("there is no Ollama of that name among the upstreams; `sluicegate status` lists them")]
    NoUpstream,
    /// It has no such model.
    #[error("the upstream has no such model")]
    NoModel,
    /// Others are in the way.
    #[error("{0}")]
    Busy(&'static str),
    /// It was tried.
    #[error("{0}")]
    Failed(String),
}

/// The way to the keepers.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    keepers: Mutex<HashMap<String, mpsc::Sender<(Command, Answer)>>>,
}

impl Commands {
    pub(super) fn register(&self, upstream: &str) -> mpsc::Receiver<(Command, Answer)> {
        let (sender, receiver) = mpsc::channel(WAITING);
        self.keepers.lock().insert(upstream.to_owned(), sender);
        receiver
    }

    /// Has `command` done at `upstream`, and waits for its end.
    pub(crate) async fn give(&self, upstream: &str, command: Command) -> Result<(), Refusal> {
        let keeper = self.keepers.lock().get(upstream).cloned().ok_or(Refusal::NoUpstream)?;
        let (answer, told) = oneshot::channel();
        keeper.try_send((command, answer)).map_err(|cause| match cause {
            TrySendError::Full(_) => Refusal::Busy("too many commands wait"),
            TrySendError::Closed(_) => Refusal::NoUpstream,
        })?;
        match timeout(DEADLINE, told).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Refusal::NoUpstream),
            Err(_) => Err(Refusal::Busy("it takes too long; it may still be done")),
        }
    }
}

impl Keeper {
    pub(super) async fn obey(&mut self, backend: &Arc<Backend>, command: Command, answer: Answer) {
        let (Command::Load(model)
        | Command::Unload(model)
        | Command::Pin(model)
        | Command::Unpin(model)) = &command;
        if !backend.is_ollama() {
            return tell(answer, Err(Refusal::NoUpstream));
        }
        let model: Arc<str> = Arc::from(plain(model));
        let is_pinned = self.shared.learned.pins(&self.name).iter().any(|pin| **pin == *model);
        if backend.figures.load().get(&model).is_none() && !is_pinned {
            return tell(answer, Err(Refusal::NoModel));
        }
        match command {
            Command::Load(_) => self.load_now(backend, &model, answer),
            Command::Unload(_) => {
                let done = self.unload(backend, &model).await;
                tell(answer, done);
            }
            Command::Pin(_) => match self.pin(backend, &model, true) {
                Ok(()) => self.load_now(backend, &model, answer),
                refused => tell(answer, refused),
            },
            Command::Unpin(_) => {
                let done = self.unpin(backend, &model).await;
                tell(answer, done);
            }
        }
    }

    async fn unload(&mut self, backend: &Backend, model: &str) -> Result<(), Refusal> {
        if backend.is_pinned(model) {
            return Err(Refusal::Busy(
                "it is pinned, and would be loaded again; `sluicegate model unpin` it first",
            ));
        }
        // One that is in use goes when it is idle; nobody waits for that.
        load::unload(&self.shared, &self.pool, backend, model, GONE_WITHIN)
            .await
            .map_err(|cause| Refusal::Failed(cause.to_string()))?;
        // A command right after this one must not be answered from before it.
        self.looker.tell(&self.shared, backend);
        self.shared.events.note(&self.name, Some(model), "unloaded on request".into());
        Ok(())
    }

    fn pin(&mut self, backend: &Backend, model: &str, pinned: bool) -> Result<(), Refusal> {
        let learned = &self.shared.learned;
        learned.pin(&self.name, model, pinned).map_err(|why| Refusal::Failed(why.to_string()))?;
        backend.pins.store(Arc::new(learned.pins(&self.name)));
        self.looker.tell(&self.shared, backend);
        let what = if pinned { "pinned on request" } else { "pinned no more" };
        self.shared.events.note(&self.name, Some(model), what.into());
        Ok(())
    }

    async fn unpin(&mut self, backend: &Backend, model: &str) -> Result<(), Refusal> {
        if backend.keep(model).is_some_and(|keep| keep.pin) {
            return Err(Refusal::Busy("the configuration pins it"));
        }
        self.pin(backend, model, false)?;
        if backend.residency.of(model).resident == Some(true) {
            // Ollama was told to keep it for ever.
            let options = loaded_options(backend, model);
            let keep_alive = keep_alive(backend, model).unwrap_or(KeepAlive::For(AS_OTHERS));
            let how = How { model, keep_alive: Some(keep_alive), options: &options };
            loads::load(&backend.origin, &self.pool, how, STAY_TIMEOUT)
                .await
                .map_err(|cause| Refusal::Failed(cause.to_string()))?;
        }
        Ok(())
    }

    fn load_now(&mut self, backend: &Arc<Backend>, model: &Arc<str>, answer: Answer) {
        if backend.residency.of(model).resident == Some(true) {
            return tell(answer, Ok(()));
        }
        let figures = backend.figures.load();
        let need = figures.get(model).and_then(|figure| figure.need).unwrap_or(0);
        match backend.gate.begin_load(Arc::clone(model), need) {
            Ok(load) => self.start(backend, load, Some(answer)),
            Err(Decision::Run) => tell(answer, Ok(())),
            Err(Decision::Wait) => {
                tell(answer, Err(Refusal::Busy("another model is being loaded there; try again")));
            }
            Err(_) => {
                tell(answer, Err(Refusal::Busy("it does not fit beside what is in use or pinned")));
            }
        }
    }
}

/// Whoever asked may have left.
fn tell(answer: Answer, outcome: Result<(), Refusal>) {
    drop(answer.send(outcome));
}
