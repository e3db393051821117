//! Looks after the memory of each Ollama: asks what is loaded, tells admission and the breaker, loads
//! and evicts when a queue wants it, keeps pinned models where they are.
//!
//! One task for each upstream, on the control thread, so that its loads follow one another and
//! nothing of this is on the request path.

mod commands;
mod container;
mod ledger;
mod load;
mod look;
mod remote;
mod warm;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::commands::Answer;
pub(super) use self::commands::{Command, Commands, Refusal};
use self::load::Unloaded;
use self::look::Looker;
use self::warm::Warm;
use crate::admission::{Gate, Load, TurnedAway};
use crate::breaker::{Change, Reason, State};
use crate::pipeline::backend::Backend;
use crate::pipeline::state::Shared;
use crate::telemetry::names;
use crate::upstream::Pool;
use crate::upstream::container::Container;

/// How often new upstreams are looked for.
const NEW_EVERY: Duration = Duration::from_millis(500);
/// How often what was learned is written down.
const SAVE_EVERY: Duration = Duration::from_secs(5);
/// A time that never comes.
const FAR: Duration = Duration::from_secs(86_400);

/// Keeps a task for every upstream of the configuration in force.
pub(super) async fn run(shared: Arc<Shared>, pool: Arc<Pool>, commands: Arc<Commands>) {
    let mut running: HashMap<String, JoinHandle<()>> = HashMap::new();
    let mut ticks = interval(NEW_EVERY);
    let mut saved = Instant::now();
    loop {
        ticks.tick().await;
        running.retain(|_, task| !task.is_finished());
        for backend in &shared.snapshot.load().backends {
            if !running.contains_key(backend.name()) {
                let keeper = Keeper::new(backend, &shared, &pool, &commands);
                running.insert(backend.name().to_owned(), tokio::spawn(keeper.run()));
            }
        }
        if saved.elapsed() >= SAVE_EVERY {
            saved = Instant::now();
            save(&shared).await;
        }
    }
}

/// Writes down what was learned, off this thread.
pub(super) async fn save(shared: &Arc<Shared>) {
    let learned = Arc::clone(&shared.learned);
    match tokio::task::spawn_blocking(move || learned.save()).await {
        Ok(Ok(_)) => {}
        Ok(Err(cause)) => tracing::warn!(%cause, "what was learned about models cannot be kept"),
        Err(cause) => tracing::error!(%cause, "what was learned about models was not written"),
    }
}

/// The keeper of one upstream.
struct Keeper {
    name: String,
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    commands: mpsc::Receiver<(Command, Answer)>,
    looker: Looker,
    warm: Warm,
    /// The container that was taken over.
    container: Option<Arc<Container>>,
    /// The load that is running, and who wants to know of its end.
    loading: Option<Loading>,
}

struct Loading {
    model: Arc<str>,
    task: JoinHandle<load::Outcome>,
    asked_by: Option<Answer>,
}

enum Woken {
    Tick,
    Gate,
    Command(Command, Answer),
    Loaded(load::Outcome),
}

impl Keeper {
    fn new(
        backend: &Arc<Backend>,
        shared: &Arc<Shared>,
        pool: &Arc<Pool>,
        commands: &Commands,
    ) -> Self {
        Self {
            name: backend.name().to_owned(),
            shared: Arc::clone(shared),
            pool: Arc::clone(pool),
            commands: commands.register(backend.name()),
            looker: Looker::default(),
            warm: Warm::default(),
            container: None,
            loading: None,
        }
    }

    /// Until the upstream is in the configuration no more.
    async fn run(mut self) {
        let mut period = Duration::ZERO;
        let mut ticks = interval(NEW_EVERY);
        let Some(backend) = self.backend() else { return };
        let mut gate = Arc::clone(&backend.gate);
        drop(backend);
        loop {
            let wanted = self.shared.snapshot.load().config.admission.vram.poll.0;
            if wanted != period {
                period = wanted;
                ticks = interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            }
            let due = gate.wake_at().unwrap_or_else(|| Instant::now() + FAR);
            let woken = tokio::select! {
                _ = ticks.tick() => Woken::Tick,
                () = gate.changed().notified() => Woken::Gate,
                () = sleep_until(due) => Woken::Gate,
                Some((command, answer)) = self.commands.recv() => Woken::Command(command, answer),
                outcome = ended(&mut self.loading) => Woken::Loaded(outcome),
            };
            let Some(backend) = self.backend() else { return self.leave(&gate).await };
            if !Arc::ptr_eq(&gate, &backend.gate) {
                // It was taken out and put in again meanwhile.
                self.leave(&gate).await;
                gate = Arc::clone(&backend.gate);
                continue;
            }
            match woken {
                Woken::Tick => self.look(&backend).await,
                Woken::Gate => {}
                Woken::Command(command, answer) => self.obey(&backend, command, answer).await,
                Woken::Loaded(outcome) => self.finish(&backend, outcome),
            }
            self.start_due(&backend);
        }
    }

    /// The upstream is configured no more: whoever still waits for it is let go.
    async fn leave(&mut self, gate: &Arc<Gate>) {
        if let Some(Loading { model, .. }) = self.loading.take() {
            let why = "the upstream was taken out of the configuration".to_owned();
            gate.loaded(&model, Err(TurnedAway::Blocked(why)));
        }
        gate.know(None);
        self.release_container().await;
    }

    /// The upstream as the configuration in force has it.
    fn backend(&self) -> Option<Arc<Backend>> {
        let snapshot = self.shared.snapshot.load();
        snapshot.backends.iter().find(|one| one.name() == self.name).cloned()
    }

    /// Tells of every change of the breaker's state.
    fn report_breaker(&self, backend: &Backend) {
        while let Some(Change { state, reason }) = backend.breaker.take_change() {
            self.shared.events.note(&self.name, None, told(state, reason.as_ref()));
            let reason = reason.map_or("none", |reason| reason.as_str());
            let upstream = self.name.clone();
            let state = state.as_str();
            counter!(names::BREAKER_CHANGES, "upstream" => upstream, "state" => state,
                "reason" => reason)
            .increment(1);
        }
        for (model, Change { state, reason }) in backend.breakers.take_changes() {
            self.shared.events.note(&self.name, Some(&model), told(state, reason.as_ref()));
            let state = state.as_str();
            counter!(names::MODEL_BREAKER_CHANGES, "upstream" => self.name.clone(),
                "model" => model.to_string(), "state" => state,
                "reason" => reason.map_or("none", |reason| reason.as_str()))
            .increment(1);
        }
    }

    async fn look(&mut self, backend: &Arc<Backend>) {
        self.report_breaker(backend);
        self.keep_container(backend).await;
        if !backend.is_ollama() {
            return;
        }
        let up = self.looker.look(&self.shared, &self.pool, backend).await;
        self.mind_loaded(backend).await;
        if self.loading.is_none() {
            self.warm_up(backend, up);
        }
    }

    /// Starts the load that the queue wants, if there is one.
    fn start_due(&mut self, backend: &Arc<Backend>) {
        if self.loading.is_some() {
            return;
        }
        if let Some(load) = backend.gate.next_load() {
            self.start(backend, load, None);
        }
    }

    fn start(&mut self, backend: &Arc<Backend>, load: Load, asked_by: Option<Answer>) {
        let model = Arc::clone(&load.model);
        let task = load::spawn(&self.shared, &self.pool, backend, load);
        self.loading = Some(Loading { model, task, asked_by });
    }

    /// Takes in how a load ended.
    fn finish(&mut self, backend: &Arc<Backend>, outcome: load::Outcome) {
        let Some(Loading { model, asked_by, .. }) = self.loading.take() else { return };
        self.looker.load_ended(&self.shared, backend, &model, &outcome);
        self.warm.ended(&model, outcome.is_ok());
        backend.gate.loaded(
            &model,
            outcome.as_ref().map(|_| ()).map_err(|why| match why {
                Unloaded::Blocked(why) => TurnedAway::Blocked(why.clone()),
                Unloaded::Failed(why) => TurnedAway::LoadFailed(why.clone()),
            }),
        );
        // What it is, pinned for one, need not wait for the next look: it was just looked at.
        self.looker.tell(&self.shared, backend);
        if let Some(answer) = asked_by {
            // Whoever asked may have left.
            let _ = answer.send(outcome.map(drop).map_err(|why| Refusal::Failed(why.to_string())));
        }
    }
}

/// The end of the load that runs; never, while none does.
async fn ended(loading: &mut Option<Loading>) -> load::Outcome {
    let Some(loading) = loading else { return std::future::pending().await };
    (&mut loading.task).await.unwrap_or_else(|cause| Err(Unloaded::Failed(cause.to_string())))
}

/// A change of a breaker's state, for people.
fn told(state: State, reason: Option<&Reason>) -> String {
    let name = state.as_str();
    match reason {
        None => format!("breaker {name}"),
        // The reason is that for which it was open.
        Some(why) if state == State::HalfOpen => {
            format!("breaker {name}, to try again after: {why}")
        }
        Some(why) => format!("breaker {name}: {why}"),
    }
}
