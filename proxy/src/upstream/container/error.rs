//! Why an upstream's container does not run, in words a user can act on.

use std::time::Duration;

/// Why a container does not serve. The message is one sentence; the container's own words, where
/// there are any, are in [`StartError::log_tail`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Nothing answers at the engine's socket.
    #[error("no Docker Engine answers at {0}; is it running, and may this user use its socket?")]
    EngineMissing(String),
    /// The image is not on this machine; the gateway never pulls one by itself.
    #[error("the image {image} is not on this machine; docker pull {image}")]
    ImageMissing {
        /// The image as configured.
        image: String,
    },
    /// A container that is not ours and runs another image has the name.
    #[error(
        "the container {name} is somebody else's, of the image {image}; remove or rename it, or \
         set another name"
    )]
    NameTaken {
        /// The name as configured.
        name: String,
        /// The image of the container that has it.
        image: String,
    },
    /// Something else answers at the upstream's address while the container does not run.
    #[error(
        "something else than the container answers at the upstream's address; stop it, or give \
         the upstream another port"
    )]
    AddressTaken,
    /// Its program ended before it answered.
    #[error("the container ended with status {code} before it answered")]
    Exited {
        /// Exit status of its program.
        code: i64,
        /// The last lines it wrote.
        log_tail: String,
    },
    /// It runs, and did not answer in time.
    #[error("the container runs but did not answer within {}", humantime(.after))]
    Unhealthy {
        /// How long it was given.
        after: Duration,
        /// The last lines it wrote.
        log_tail: String,
    },
    /// The engine refused, or did not answer in time.
    #[error("Docker Engine: {0}")]
    Engine(String),
    /// It does not run, and `start: never` leaves starting it to the user.
    #[error("the container does not run, and `start: never` leaves starting it to you")]
    NotStarted,
    /// The gateway would rather not start it than without the GPU it wants, for this reason.
    #[error("the container was not started: {0}")]
    GpuBusy(String),
}

impl StartError {
    /// The last lines that the container wrote, 4 KiB at most, without control characters.
    #[must_use]
    pub fn log_tail(&self) -> Option<&str> {
        match self {
            Self::Exited { log_tail, .. } | Self::Unhealthy { log_tail, .. } => Some(log_tail),
            Self::EngineMissing(_)
            | Self::ImageMissing { .. }
            | Self::NameTaken { .. }
            | Self::AddressTaken
            | Self::Engine(_)
            | Self::NotStarted
            | Self::GpuBusy(_) => None,
        }
    }
}

/// As the configuration writes it, to the second where there are seconds.
fn humantime(period: &Duration) -> String {
    if period.as_secs() > 0 {
        format!("{}s", period.as_secs())
    } else {
        format!("{}ms", period.as_millis())
    }
}
