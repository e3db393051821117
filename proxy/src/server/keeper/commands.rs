//! What people ask of an upstream's models: load, unload, pin.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Keeper;
use crate::admission::Decision;
use crate::pipeline::backend::Backend;
use crate::upstream::loads;

/// Commands that wait for one upstream.
const WAITING: usize = 16;
/// Longest time for one: a large model loads from a slow disk.
const DEADLINE: Duration = Duration::from_secs(600);

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
    #[error("there is no Ollama of that name among the upstreams")]
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
        keeper.try_send((command, answer)).map_err(|_| Refusal::Busy("too many commands wait"))?;
        match timeout(DEADLINE, told).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Refusal::NoUpstream),
            Err(_) => Err(Refusal::Busy("it takes too long; it may still be done")),
        }
    }
}

impl Keeper {
    pub(super) async fn obey(&mut self, backend: &Arc<Backend>, command: Command, answer: Answer) {
        if !backend.is_ollama() {
            return tell(answer, Err(Refusal::NoUpstream));
        }
        match command {
            Command::Load(model) => self.load_now(backend, &model, answer),
            Command::Unload(model) => {
                let done = loads::unload(&backend.origin, &self.pool, &model).await;
                self.shared.events.note(&self.name, Some(&model), "unloaded on request".into());
                tell(answer, done.map_err(|cause| Refusal::Failed(cause.to_string())));
            }
            Command::Pin(model) => {
                if backend.figures.load().of(&model).is_none() {
                    return tell(answer, Err(Refusal::NoModel));
                }
                if let Err(why) = self.shared.learned.pin(&self.name, &model, true) {
                    return tell(answer, Err(Refusal::Failed(why.to_string())));
                }
                self.shared.events.note(&self.name, Some(&model), "pinned on request".into());
                self.load_now(backend, &model, answer);
            }
            Command::Unpin(model) => {
                let done = self.shared.learned.pin(&self.name, &model, false);
                self.shared.events.note(&self.name, Some(&model), "pinned no more".into());
                tell(answer, done.map_err(|why| Refusal::Failed(why.to_string())));
            }
        }
    }

    fn load_now(&mut self, backend: &Arc<Backend>, model: &Arc<str>, answer: Answer) {
        if backend.residency.of(model).resident == Some(true) {
            return tell(answer, Ok(()));
        }
        let figures = backend.figures.load();
        let Some(figure) = figures.of(model) else { return tell(answer, Err(Refusal::NoModel)) };
        let need = figure.need.unwrap_or(0);
        match backend.gate.begin_load(Arc::clone(model), need) {
            Ok(load) => self.start(backend, load, Some(answer)),
            Err(Decision::Wait | Decision::Run) => {
                tell(answer, Err(Refusal::Busy("another model is being loaded there; try again")));
            }
            Err(_) => {
                tell(answer, Err(Refusal::Busy("it does not fit beside what is in use or pinned")))
            }
        }
    }
}

/// Whoever asked may have left.
fn tell(answer: Answer, outcome: Result<(), Refusal>) {
    drop(answer.send(outcome));
}
