//! NVIDIA GPUs, through the driver's management library. The library is loaded at run time: the
//! gateway starts on a machine without it.
//!
//! Three things end a session with the library, and each is followed by opening it again, later and
//! later up to [`MAX_WAIT`]: a driver that was restarted (every call fails until then), a driver
//! that was upgraded below the library (only the new library fits), and a lost GPU (one that was
//! reset is seen only by a new session).

mod device;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use nvml_wrapper::Nvml as Library;
use nvml_wrapper::error::NvmlError;
use tokio::time::Instant;

use super::{Gpu, MAX_GPUS, Probe, ProbeError};
use device::Reading;

/// Time before the library is opened again for the first time; it doubles with each try.
pub const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest time between two tries. Opening is cheap while something else uses the GPUs, and can take
/// seconds while nothing does.
pub const MAX_WAIT: Duration = Duration::from_mins(1);

/// The probe of NVIDIA GPUs.
#[derive(Debug)]
pub struct Nvml {
    path: Option<OsString>,
    library: Option<Library>,
    numbers: Numbers,
    reopen: Reopen,
    left_out: Option<String>,
    /// Why there is no session, repeated until one is tried again.
    refused: String,
}

impl Nvml {
    /// Opens the library at `path`, or `libnvidia-ml.so.1` where the system has it.
    ///
    /// # Errors
    ///
    /// `Absent` without a library, a driver or a GPU; `Failed` if the driver is there and refuses,
    /// as one whose version is not the library's does.
    pub fn open(path: Option<&OsStr>) -> Result<Self, ProbeError> {
        let library = open(path).map_err(|error| refused(&error))?;
        if matches!(library.device_count(), Ok(0)) {
            return Err(ProbeError::Absent("the driver has no GPU".to_owned()));
        }
        Ok(Self { library: Some(library), ..Self::closed(path) })
    }

    /// A probe that opens the library with its first sample: for a driver that refused at start.
    #[must_use]
    pub fn closed(path: Option<&OsStr>) -> Self {
        Self {
            path: path.map(OsStr::to_owned),
            library: None,
            numbers: Numbers::default(),
            reopen: Reopen::default(),
            left_out: None,
            refused: String::new(),
        }
    }

    /// Reads all GPUs at `now`, which only decides whether to open the library again.
    ///
    /// # Errors
    ///
    /// `Lost` if there were GPUs before and none can be read now; `Failed` if there never were.
    pub fn sample_at(&mut self, now: Instant) -> Result<Vec<Gpu>, ProbeError> {
        self.left_out = None;
        if self.reopen.due(now) {
            self.library = None;
            self.reopen.at = None;
        }
        let library = match self.library.take() {
            Some(library) => library,
            None => self.open_again(now)?,
        };
        match device::read_all(&library, &mut self.numbers) {
            Ok(reading) => {
                self.library = Some(library);
                self.judge(reading, now)
            }
            Err(error) => {
                // Shut down and unload now, so that a restarted driver finds no old user.
                drop(library);
                Err(self.gone(&error, now))
            }
        }
    }

    fn open_again(&mut self, now: Instant) -> Result<Library, ProbeError> {
        if self.reopen.at.is_some() {
            return Err(self.because());
        }
        open(self.path.as_deref()).map_err(|error| self.gone(&error, now))
    }

    fn judge(&mut self, reading: Reading, now: Instant) -> Result<Vec<Gpu>, ProbeError> {
        let Reading { gpus, left_out, lost, .. } = reading;
        if lost {
            self.reopen.schedule(now);
        } else {
            self.reopen = Reopen::default();
        }
        let left_out = (!left_out.is_empty()).then(|| left_out.join("; "));
        if gpus.is_empty() && lost {
            return Err(ProbeError::Lost(left_out.unwrap_or_default()));
        }
        self.left_out = left_out;
        Ok(gpus)
    }

    fn gone(&mut self, error: &NvmlError, now: Instant) -> ProbeError {
        self.reopen.schedule(now);
        self.refused = error.to_string();
        self.because()
    }

    fn because(&self) -> ProbeError {
        let why = self.refused.clone();
        if self.numbers.known.is_empty() { ProbeError::Failed(why) } else { ProbeError::Lost(why) }
    }
}

impl Probe for Nvml {
    fn name(&self) -> &'static str {
        "nvml"
    }

    fn sample(&mut self) -> Result<Vec<Gpu>, ProbeError> {
        self.sample_at(Instant::now())
    }

    fn left_out(&self) -> Option<String> {
        self.left_out.clone()
    }
}

fn open(path: Option<&OsStr>) -> Result<Library, NvmlError> {
    let library = match path {
        Some(path) => Library::builder().lib_path(path).init()?,
        None => Library::init()?,
    };
    // The wrapper calls this one unchecked when it is dropped: a library without it is never dropped.
    if let Err(error) = &library.lib().nvmlShutdown {
        let error = NvmlError::FailedToLoadSymbol(error.to_string());
        std::mem::forget(library);
        return Err(error);
    }
    Ok(library)
}

fn refused(error: &NvmlError) -> ProbeError {
    match error {
        NvmlError::LibloadingError(_)
        | NvmlError::LibraryNotFound
        | NvmlError::DriverNotLoaded
        | NvmlError::NotFound => ProbeError::Absent(error.to_string()),
        _ => ProbeError::Failed(error.to_string()),
    }
}

/// When to open the library again.
#[derive(Debug)]
struct Reopen {
    at: Option<Instant>,
    wait: Duration,
}

impl Default for Reopen {
    fn default() -> Self {
        Self { at: None, wait: FIRST_WAIT }
    }
}

impl Reopen {
    fn due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    fn schedule(&mut self, now: Instant) {
        if self.at.is_none() {
            self.at = Some(now + self.wait);
            self.wait = (self.wait * 2).min(MAX_WAIT);
        }
    }
}

/// The number of each GPU by its uuid. The library numbers the GPUs that work, so after a new session
/// without a lost one the others would go by its number, and a breaker look at the wrong memory.
#[derive(Debug, Default)]
struct Numbers {
    known: BTreeMap<String, u32>,
}

impl Numbers {
    fn of(&mut self, uuid: Option<&str>, position: u32) -> u32 {
        let Some(uuid) = uuid else { return position };
        if let Some(number) = self.known.get(uuid) {
            return *number;
        }
        let taken = |number: &u32| self.known.values().any(|known| known == number);
        let number = (position..).find(|number| !taken(number)).unwrap_or(position);
        if self.known.len() < MAX_GPUS {
            self.known.insert(uuid.to_owned(), number);
        }
        number
    }
}
