//! The few calls of the Docker Engine API that a container needs, each with a deadline.

use std::path::Path;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::{
    CreateContainerOptions, LogsOptions, RemoveContainerOptions, StopContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;

use super::error::StartError;
use super::settings::{GPUS_LABEL, MANAGED_LABEL, SETTINGS_LABEL};

/// Longest wait for one answer of the engine.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a container may take to end before it is killed, in seconds. Enough for Ollama to end
/// its runners; the deadline of the call comes after it.
const GRACE: u16 = 5;
/// Log lines that are shown.
const TAIL_LINES: &str = "20";
/// Bytes of log that are shown.
pub const TAIL_BYTES: usize = 4096;

/// A connection to the engine.
pub struct Engine {
    docker: Docker,
}

/// A container that the engine has.
#[derive(Debug)]
pub struct Found {
    /// Its id, which a later container of the same name does not share.
    pub id: String,
    /// The image it was made from, as it was named then.
    pub image: String,
    /// Whether a gateway made it.
    pub ours: bool,
    /// The hash of the settings it was made from.
    pub settings: Option<String>,
    /// The GPUs it was granted, as its label says.
    pub gpus: Option<String>,
    /// Whether its program runs.
    pub running: bool,
    /// Status with which its program ended.
    pub exit_code: i64,
}

/// What became of making a container.
#[derive(Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there, under this id.
    Made(String),
    /// Somebody else made one of that name meanwhile.
    NameTaken,
}

impl Engine {
    /// Connects, and agrees on a version: an engine refuses requests of a newer one than its own.
    pub async fn connect(socket: &Path) -> Result<Self, StartError> {
        let missing = |cause: &Error| {
            StartError::EngineMissing(format!("{} ({})", socket.display(), root(cause)))
        };
        let address = socket.to_string_lossy();
        // Deadlines are ours; its own only has to be longer.
        let docker = Docker::connect_with_unix(&address, 60, API_DEFAULT_VERSION)
            .map_err(|cause| missing(&cause))?;
        let asked = Box::pin(docker.negotiate_version());
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Ok(docker)) => Ok(Self { docker }),
            Ok(Err(Error::HyperLegacyError { err })) if err.is_connect() => {
                Err(missing(&Error::HyperLegacyError { err }))
            }
            Ok(Err(cause)) => Err(failed("version", &cause)),
            Err(_) => Err(late("version", DEADLINE)),
        }
    }

    /// The container of that name or id.
    pub async fn inspect(&self, name: &str) -> Result<Option<Found>, StartError> {
        match within(DEADLINE, "inspect", self.docker.inspect_container(name, None)).await? {
            Ok(answer) => Ok(Some(Found::from(answer))),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(cause) => Err(failed("inspect", &cause)),
        }
    }

    /// Makes a container, without starting it.
    pub async fn create(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<Created, StartError> {
        let image = body.image.clone().unwrap_or_default();
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let call = self.docker.create_container(Some(options), body);
        match within(DEADLINE, "create", call).await? {
            Ok(answer) => Ok(Created::Made(answer.id)),
            Err(Error::DockerResponseServerError { status_code: 409, .. }) => {
                Ok(Created::NameTaken)
            }
            // Networks and volumes may be missing as well; Podman words it differently.
            Err(Error::DockerResponseServerError { status_code: 404, message })
                if message.to_ascii_lowercase().contains("image") =>
            {
                Err(StartError::ImageMissing { image })
            }
            Err(cause) => Err(failed("create", &cause)),
        }
    }

    /// Starts it. One that runs already is fine.
    pub async fn start(&self, id: &str) -> Result<(), StartError> {
        within(DEADLINE, "start", self.docker.start_container(id, None))
            .await?
            .map_err(|cause| failed("start", &cause))
    }

    /// Stops it. One that has stopped, or is gone, is fine.
    pub async fn stop(&self, id: &str) -> Result<(), StartError> {
        let options = StopContainerOptions { t: Some(GRACE.into()), ..Default::default() };
        let deadline = DEADLINE + Duration::from_secs(GRACE.into());
        match within(deadline, "stop", self.docker.stop_container(id, Some(options))).await? {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(cause) => Err(failed("stop", &cause)),
        }
    }

    /// Removes it, killing it where it runs; its volumes stay.
    pub async fn remove(&self, id: &str) -> Result<(), StartError> {
        let options = RemoveContainerOptions { force: true, ..Default::default() };
        match within(DEADLINE, "remove", self.docker.remove_container(id, Some(options))).await? {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(cause) => Err(failed("remove", &cause)),
        }
    }

    /// The last lines it wrote; in their place, why they cannot be read.
    pub async fn log_tail(&self, id: &str) -> String {
        let mut tail = Vec::new();
        let read = async {
            let options = LogsOptions {
                stdout: true,
                stderr: true,
                tail: TAIL_LINES.to_owned(),
                ..Default::default()
            };
            let mut lines = Box::pin(self.docker.logs(id, Some(options)));
            while let Some(line) = lines.next().await {
                tail.extend_from_slice(line?.as_ref());
                let surplus = tail.len().saturating_sub(TAIL_BYTES);
                tail.drain(..surplus);
            }
            Ok::<(), Error>(())
        };
        match tokio::time::timeout(DEADLINE, read).await {
            Ok(Ok(())) => clean(&String::from_utf8_lossy(&tail)),
            Ok(Err(cause)) => format!("its log cannot be read: {}", root(&cause)),
            Err(_) => "its log cannot be read in time".to_owned(),
        }
    }
}

impl From<ContainerInspectResponse> for Found {
    fn from(answer: ContainerInspectResponse) -> Self {
        let state = answer.state.unwrap_or_default();
        let config = answer.config.unwrap_or_default();
        let mut labels = config.labels.unwrap_or_default();
        Self {
            id: answer.id.unwrap_or_default(),
            image: config.image.unwrap_or_default(),
            ours: labels.get(MANAGED_LABEL).is_some_and(|value| value == "true"),
            settings: labels.remove(SETTINGS_LABEL),
            gpus: labels.remove(GPUS_LABEL),
            running: state.running.unwrap_or_default(),
            exit_code: state.exit_code.unwrap_or_default(),
        }
    }
}

async fn within<T>(
    deadline: Duration,
    what: &str,
    call: impl Future<Output = T>,
) -> Result<T, StartError> {
    // Boxed: these futures are large, and the calls are rare.
    tokio::time::timeout(deadline, Box::pin(call)).await.map_err(|_| late(what, deadline))
}

fn late(what: &str, deadline: Duration) -> StartError {
    StartError::Engine(format!("no answer to {what} within {}s", deadline.as_secs()))
}

fn failed(what: &str, cause: &Error) -> StartError {
    let why = match cause {
        Error::DockerResponseServerError { message, .. } => clean(message),
        other => root(other),
    };
    StartError::Engine(format!("{what}: {why}"))
}

/// The innermost cause: the outer ones only say that something failed.
fn root(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    clean(&cause.to_string())
}

/// Text from elsewhere, fit for a log and a terminal: no control characters, the last 4 KiB.
fn clean(text: &str) -> String {
    let text: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    let text = text.trim();
    text[text.ceil_char_boundary(text.len().saturating_sub(TAIL_BYTES))..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_wrote_is_cleaned_and_bounded() {
        assert_eq!(clean("a\u{1b}[31m b\r\n\u{7}c\u{9b}\n"), "a[31m b\nc");
        let long = "é".repeat(TAIL_BYTES);
        assert_eq!(clean(&long).len(), TAIL_BYTES);
        assert!(clean(&format!("x{long}y")).len() <= TAIL_BYTES);
    }
}
