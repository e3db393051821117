//! One attempt to have the container run and answer.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout_at};

use super::engine::{Created, Engine, Found};
use super::error::StartError;
use super::settings::{Gpus, Settings, Start, same_image};

/// Between two looks at a container that does not answer yet.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest wait for one answer to "do you answer?".
const PROBE: Duration = Duration::from_secs(5);
/// Times to look again when others make or remove the container meanwhile.
const ROUNDS: usize = 3;

/// What a start asks of the gateway.
pub(super) struct Ask {
    /// Whether the upstream answers.
    pub healthy: Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
    /// The GPUs that it gets now; asked only of a container that wants any.
    pub gpus: Box<dyn Fn() -> BoxFuture<'static, Result<Gpus, StartError>> + Send + Sync>,
}

/// The container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Up {
    /// Its id.
    pub id: String,
    /// Whether a gateway made it, and so may stop it.
    pub ours: bool,
}

impl From<&Found> for Up {
    fn from(found: &Found) -> Self {
        Self { id: found.id.clone(), ours: found.ours }
    }
}

pub(super) struct Launch<'a> {
    pub settings: &'a Settings,
    pub engine: &'a Engine,
    pub ask: &'a Ask,
    /// Told when it comes to starting, or to waiting for one that somebody started.
    pub starting: &'a (dyn Fn() + Send + Sync),
}

/// Refuses a container that is somebody else's.
pub(super) fn check_owner(settings: &Settings, found: &Found) -> Result<(), StartError> {
    if found.ours || same_image(&found.image, &settings.image) {
        return Ok(());
    }
    Err(StartError::NameTaken { name: settings.name.clone(), image: found.image.clone() })
}

impl Launch<'_> {
    /// Has it run and answer.
    pub async fn run(&self) -> Result<Up, StartError> {
        for _ in 0..ROUNDS {
            let up = match self.engine.inspect(&self.settings.name).await? {
                Some(found) => self.take(&found).await?,
                None if self.settings.start == Start::Never => return Err(StartError::NotStarted),
                None => self.make(&self.grant().await?).await?,
            };
            if let Some(up) = up {
                return Ok(up);
            }
        }
        Err(StartError::Engine(format!(
            "somebody else makes and removes the container {}",
            self.settings.name
        )))
    }

    /// Takes one that is there, by what it is.
    async fn take(&self, found: &Found) -> Result<Option<Up>, StartError> {
        check_owner(self.settings, found)?;
        if found.running {
            return self.take_running(found).await;
        }
        if self.settings.start == Start::Never {
            return Err(StartError::NotStarted);
        }
        if !found.ours {
            return self.start(Up::from(found)).await.map(Some);
        }
        let gpus = self.grant().await?;
        if !self.is_outdated(found) && found.gpus == Some(gpus.label()) {
            return self.start(Up::from(found)).await.map(Some);
        }
        self.replace(found, &gpus).await
    }

    /// One that runs and answers is used as it is, even if the settings changed: it may serve
    /// requests that this gateway does not know of.
    async fn take_running(&self, found: &Found) -> Result<Option<Up>, StartError> {
        let up = Up::from(found);
        let outdated = self.is_outdated(found);
        if self.answers(Instant::now() + PROBE).await {
            if outdated {
                tracing::warn!(
                    container = %self.settings.name,
                    "the container runs with other settings than configured; they take effect \
                     when it is next started"
                );
            }
            return Ok(Some(up));
        }
        if outdated && self.settings.start != Start::Never {
            let gpus = self.grant().await?;
            return self.replace(found, &gpus).await;
        }
        (self.starting)();
        self.until_it_answers(&up).await?;
        Ok(Some(up))
    }

    /// Whether a gateway made it from other settings than those of now.
    fn is_outdated(&self, found: &Found) -> bool {
        found.ours && found.settings != Some(self.settings.hash())
    }

    async fn replace(&self, found: &Found, gpus: &Gpus) -> Result<Option<Up>, StartError> {
        tracing::info!(container = %self.settings.name, "replaced: its settings have changed");
        self.engine.remove(&found.id).await?;
        self.make(gpus).await
    }

    /// `None` if somebody else made one meanwhile: another gateway, starting as this one is.
    async fn make(&self, gpus: &Gpus) -> Result<Option<Up>, StartError> {
        (self.starting)();
        let body = self.settings.description(gpus);
        match self.engine.create(&self.settings.name, body).await? {
            Created::Made(id) => self.start(Up { id, ours: true }).await.map(Some),
            Created::NameTaken => Ok(None),
        }
    }

    async fn start(&self, up: Up) -> Result<Up, StartError> {
        (self.starting)();
        // It would be taken for the container, which ends because it cannot have the port.
        if self.answers(Instant::now() + PROBE).await {
            return Err(StartError::AddressTaken);
        }
        self.engine.start(&up.id).await?;
        self.until_it_answers(&up).await?;
        Ok(up)
    }

    /// Waits until it answers, but no longer than its program runs.
    async fn until_it_answers(&self, up: &Up) -> Result<(), StartError> {
        let deadline = Instant::now() + self.settings.start_timeout;
        while Instant::now() < deadline {
            let answers = self.answers(deadline).await;
            // Looked at after it answered too: it may have ended since.
            match self.engine.inspect(&up.id).await? {
                Some(found) if !found.running => {
                    let log_tail = self.engine.log_tail(&up.id).await;
                    return Err(StartError::Exited { code: found.exit_code, log_tail });
                }
                Some(_) if answers => return Ok(()),
                Some(_) => sleep(PAUSE).await,
                None => {
                    let why = "the container was removed while it started";
                    return Err(StartError::Engine(why.to_owned()));
                }
            }
        }
        self.give_up(up).await
    }

    /// One of ours that does not answer is stopped: it may hold memory, and may hang.
    async fn give_up(&self, up: &Up) -> Result<(), StartError> {
        let log_tail = self.engine.log_tail(&up.id).await;
        let may_stop = up.ours && self.settings.start != Start::Never;
        if may_stop && let Err(cause) = self.engine.stop(&up.id).await {
            tracing::warn!(container = %self.settings.name, %cause, "cannot be stopped");
        }
        Err(StartError::Unhealthy { after: self.settings.start_timeout, log_tail })
    }

    async fn answers(&self, deadline: Instant) -> bool {
        let deadline = deadline.min(Instant::now() + PROBE);
        timeout_at(deadline, (self.ask.healthy)()).await.unwrap_or(false)
    }

    async fn grant(&self) -> Result<Gpus, StartError> {
        match &self.settings.gpus {
            Gpus::None => Ok(Gpus::None),
            wanted @ (Gpus::All | Gpus::Devices(_)) => {
                // The gateway measures memory for this, and may not get an answer.
                let deadline = Instant::now() + PROBE;
                let granted = timeout_at(deadline, (self.ask.gpus)()).await;
                let granted = granted.unwrap_or(Ok(Gpus::None))?;
                if granted != *wanted {
                    tracing::info!(container = %self.settings.name, "started without GPUs");
                }
                Ok(granted)
            }
        }
    }
}
