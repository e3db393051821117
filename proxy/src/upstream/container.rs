//! An upstream's container, run through the Docker Engine API: made and started when it is needed,
//! waited for until it answers, stopped after idling.
//!
//! However many requests need it, one starts it and all share the outcome. What failed is not tried
//! again at once. Nothing that the gateway did not make is ever stopped or removed, nothing is
//! pulled, and a gateway that ends leaves the container running for the next one to adopt. Two
//! gateways must not share one: each would stop it by its own idle time.
//!
//! # Layout
//!
//! * `settings`: what it is to be.
//! * `engine`: the calls of the API.
//! * `launch`: one attempt to have it run.
//! * `gpu`: whether it may have the GPU that the host's upstream uses too.

mod engine;
mod error;
mod gpu;
mod launch;
mod settings;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use self::engine::Engine;
pub use self::error::StartError;
pub use self::gpu::{Grant, HostMemory, gpu_for};
use self::launch::{Ask, Launch, Up, check_owner};
pub use self::settings::{GPUS_LABEL, Gpus, MANAGED_LABEL, SETTINGS_LABEL, Settings, Start};

/// Wait after the first failed start; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Longest wait between two starts.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// Between two looks at a container that is suspected to be down.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One upstream's container; it lives as long as the process.
#[derive(Debug)]
pub struct Container {
    settings: Settings,
    socket: PathBuf,
    inner: Mutex<Inner>,
}

/// What is known of a container, for status pages and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Nobody has looked yet.
    Unknown,
    /// There is none.
    Absent,
    /// It starts, or does not answer yet.
    Starting {
        /// Since when, in milliseconds since 1970.
        since_unix_ms: u64,
    },
    /// It ran when last looked at.
    Running,
    /// It is there, and does not run.
    Stopped,
    /// It could not be started, or looked at.
    Failed {
        /// The error, one sentence.
        why: String,
        /// The last lines it wrote, where it ran.
        log_tail: Option<String>,
        /// When, in milliseconds since 1970.
        at_unix_ms: u64,
    },
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// The container that runs, as far as is known.
    up: Option<Up>,
    /// Whether it is to be looked at before it is relied on.
    suspected: bool,
    looked: Option<Instant>,
    used: Instant,
    failures: u32,
    /// What the last start failed with, and when it may be tried again.
    refused: Option<(StartError, Instant)>,
    job: Option<Job>,
}

type Outcome = Option<Result<(), StartError>>;

/// What is under way; there is one at a time.
#[derive(Clone, Debug)]
struct Job {
    kind: Kind,
    outcome: watch::Receiver<Outcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Starting,
    Stopping,
}

impl Container {
    /// A container that nobody has looked at yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let socket = settings.socket(std::env::var("DOCKER_HOST").ok().as_deref());
        let inner = Inner {
            state: State::Unknown,
            up: None,
            suspected: false,
            looked: None,
            used: Instant::now(),
            failures: 0,
            refused: None,
            job: None,
        };
        Self { settings, socket, inner: Mutex::new(inner) }
    }

    /// Has it run and answer, starting it first where needed. However many ask, one starts it and
    /// all share the outcome; one that stops waiting does not stop the start.
    ///
    /// `healthy` is asked until it says that the upstream answers. `gpus` is asked just before a
    /// container that wants GPUs is started: which it gets now; see [`gpu_for`]. An error of it
    /// fails the start.
    ///
    /// # Errors
    /// Why it does not run. Until the back-off is over, that of the last start, at once.
    pub async fn ensure(
        self: &Arc<Self>,
        healthy: impl Fn() -> BoxFuture<'static, bool> + Send + Sync + 'static,
        gpus: impl Fn() -> BoxFuture<'static, Result<Gpus, StartError>> + Send + Sync + 'static,
    ) -> Result<(), StartError> {
        let mut ask = Some(Ask { healthy: Box::new(healthy), gpus: Box::new(gpus) });
        loop {
            let mut job = match self.inner.lock().next_step() {
                Step::Done(outcome) => return outcome,
                Step::Wait(job) => job,
                Step::Start(job, done) => {
                    // Asked at most once: after its own start, it waits for that and returns.
                    let Some(ask) = ask.take() else { return Err(abandoned()) };
                    tokio::spawn(Box::pin(Arc::clone(self).start(ask, done)));
                    job
                }
            };
            let outcome = job.outcome.wait_for(Option::is_some).await.map(|ended| ended.clone());
            if job.kind == Kind::Starting {
                return outcome.ok().flatten().unwrap_or_else(|| Err(abandoned()));
            }
        }
    }

    async fn start(self: Arc<Self>, ask: Ask, done: watch::Sender<Outcome>) {
        let launched = self.launch(&ask).await;
        let name = &self.settings.name;
        let mut inner = self.inner.lock();
        inner.job = None;
        inner.looked = Some(Instant::now());
        inner.used = Instant::now();
        let outcome = match launched {
            Ok(up) => {
                if inner.state != State::Running {
                    tracing::info!(container = %name, "the container runs and answers");
                }
                inner.succeeded(up);
                Ok(())
            }
            Err(cause) => {
                let log_tail = cause.log_tail();
                tracing::warn!(container = %name, %cause, log_tail, "the container does not run");
                inner.failed(&cause);
                Err(cause)
            }
        };
        drop(inner);
        done.send_replace(Some(outcome));
    }

    async fn launch(&self, ask: &Ask) -> Result<Up, StartError> {
        let engine = Engine::connect(&self.socket).await?;
        let starting = || {
            let state = &mut self.inner.lock().state;
            if !matches!(state, State::Starting { .. }) {
                *state = State::Starting { since_unix_ms: unix_ms() };
            }
        };
        let settings = &self.settings;
        Launch { settings, engine: &engine, ask, starting: &starting }.run().await
    }

    /// It is used now: its idle time begins anew.
    pub fn touch(&self) {
        self.inner.lock().used = Instant::now();
    }

    /// The upstream failed: the next [`Container::ensure`] looks whether the container still runs.
    /// It looks once a second at most.
    pub fn suspect(&self) {
        self.inner.lock().suspected = true;
    }

    /// Stops it if it has idled long enough; gives whether it did. Only a container that a gateway
    /// made and that is started on demand is ever stopped. To be called every few seconds.
    ///
    /// # Errors
    /// When the engine does not stop it; it is tried again at the next call.
    pub async fn stop_if_idle(&self, in_flight: usize) -> Result<bool, StartError> {
        let Some((up, done)) = self.begin_stop(in_flight) else { return Ok(false) };
        let stopped = async { Engine::connect(&self.socket).await?.stop(&up.id).await };
        let stopped = stopped.await;
        let mut inner = self.inner.lock();
        inner.job = None;
        match &stopped {
            Ok(()) => {
                tracing::info!(container = %self.settings.name, "stopped after idling");
                inner.up = None;
                inner.state = State::Stopped;
            }
            Err(_) => inner.suspected = true,
        }
        drop(inner);
        done.send_replace(Some(stopped.clone()));
        stopped.map(|()| true)
    }

    fn begin_stop(&self, in_flight: usize) -> Option<(Up, watch::Sender<Outcome>)> {
        let mut inner = self.inner.lock();
        if in_flight > 0 {
            inner.used = Instant::now();
        }
        let idle = self.settings.stop_after_idle?;
        let ready = self.settings.start == Start::OnDemand
            && inner.job().is_none()
            && inner.used.elapsed() >= idle;
        let up = inner.up.clone().filter(|up| ready && up.ours)?;
        let (_, done) = inner.begin(Kind::Stopping);
        Some((up, done))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Stops it, if it runs and a gateway made it: the configuration does not name it any more.
    /// Gives whether it did.
    ///
    /// # Errors
    /// When the engine does not stop it.
    pub async fn retire(&self) -> Result<bool, StartError> {
        let Some(up) = self.inner.lock().up.clone().filter(|up| up.ours) else { return Ok(false) };
        Engine::connect(&self.socket).await?.stop(&up.id).await?;
        let mut inner = self.inner.lock();
        inner.up = None;
        inner.state = State::Stopped;
        Ok(true)
    }

    /// What is known of it, without asking.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner.lock().state.clone()
    }

    /// Looks, as the gateway starts, whether it runs already; such a one is used, and stopped after
    /// idling if a gateway made it. The first [`Container::ensure`] still sees that it answers.
    pub async fn adopt(&self) -> State {
        let look = async {
            let found = Engine::connect(&self.socket).await?.inspect(&self.settings.name).await?;
            if let Some(found) = &found {
                check_owner(&self.settings, found)?;
            }
            Ok::<_, StartError>(found)
        };
        let began = Instant::now();
        let found = look.await;
        let mut inner = self.inner.lock();
        if inner.job().is_some() || inner.looked.is_some_and(|at| at >= began) {
            // Whoever starts it knows better.
            return inner.state.clone();
        }
        inner.suspected = true;
        inner.used = Instant::now();
        let running = |found: &&engine::Found| found.running;
        inner.up = found.as_ref().ok().and_then(Option::as_ref).filter(running).map(Up::from);
        inner.state = match found {
            Ok(Some(found)) if found.running => {
                tracing::info!(container = %self.settings.name, ours = found.ours, "adopted");
                State::Running
            }
            Ok(Some(_)) => State::Stopped,
            Ok(None) => State::Absent,
            Err(cause) => State::failed(&cause),
        };
        inner.state.clone()
    }
}

/// What a caller of [`Container::ensure`] does next.
enum Step {
    Done(Result<(), StartError>),
    Wait(Job),
    Start(Job, watch::Sender<Outcome>),
}

impl Inner {
    fn next_step(&mut self) -> Step {
        let now = Instant::now();
        self.used = now;
        if let Some(job) = self.job() {
            return Step::Wait(job);
        }
        if let Some((cause, again_at)) = &self.refused
            && now < *again_at
        {
            return Step::Done(Err(cause.clone()));
        }
        let just_looked = self.looked.is_some_and(|at| now - at < LOOK_EVERY);
        if self.up.is_some() && (!self.suspected || just_looked) {
            return Step::Done(Ok(()));
        }
        let (job, done) = self.begin(Kind::Starting);
        Step::Start(job, done)
    }

    fn begin(&mut self, kind: Kind) -> (Job, watch::Sender<Outcome>) {
        let (done, outcome) = watch::channel(None);
        let job = Job { kind, outcome };
        self.job = Some(job.clone());
        (job, done)
    }

    /// What is under way. One whose task was dropped in the middle is forgotten: nobody will tell
    /// how it ended.
    fn job(&mut self) -> Option<Job> {
        if self.job.as_ref()?.outcome.has_changed().is_err() {
            self.job = None;
            self.suspected = true;
        }
        self.job.clone()
    }

    fn succeeded(&mut self, up: Up) {
        self.up = Some(up);
        self.suspected = false;
        self.failures = 0;
        self.refused = None;
        self.state = State::Running;
    }

    fn failed(&mut self, cause: &StartError) {
        match cause {
            // It may run all the same, and then idles, or serves again.
            StartError::EngineMissing(_) | StartError::Engine(_) => self.suspected = true,
            StartError::ImageMissing { .. }
            | StartError::NameTaken { .. }
            | StartError::AddressTaken
            | StartError::Exited { .. }
            | StartError::Unhealthy { .. }
            | StartError::NotStarted
            | StartError::GpuBusy(_) => self.up = None,
        }
        self.state = State::failed(cause);
        // To look for what the user may start at any time costs next to nothing.
        self.failures = if *cause == StartError::NotStarted { 1 } else { self.failures + 1 };
        let back_off = BACK_OFF * 2_u32.saturating_pow(self.failures - 1);
        self.refused = Some((cause.clone(), Instant::now() + back_off.min(MAX_BACK_OFF)));
    }
}

impl State {
    /// The name in status pages.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Absent => "absent",
            State::Starting { .. } => "starting",
            State::Running => "running",
            State::Stopped => "stopped",
            State::Failed { .. } => "failed",
        }
    }

    fn failed(cause: &StartError) -> Self {
        Self::Failed {
            why: cause.to_string(),
            log_tail: cause.log_tail().map(str::to_owned),
            at_unix_ms: unix_ms(),
        }
    }
}

fn abandoned() -> StartError {
    StartError::Engine("the start was abandoned; ask again".to_owned())
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
