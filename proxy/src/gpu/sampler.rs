//! The thread that asks the probes, and what it last learned.
//!
//! A probe can block for good: NVIDIA's library does when a GPU falls off the bus in a bad way.
//! Nobody waits for it. Readers get the last sample and can see its age; dropping the sampler lets
//! the thread end by itself when the call returns. Even the first look for GPUs is on the thread.

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::amdgpu::{self, Amdgpu};
use super::history::History;
use super::nvml::Nvml;
use super::presence::{self, Presence};
use super::{MAX_GPUS, Point, Probe, ProbeError, Report, Sample};

/// Time between two samples.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// Samples kept: ten minutes of them.
pub const DEFAULT_HISTORY: usize = 600;
/// Shortest time between two samples: more often, and the looking itself is a load.
pub const MIN_INTERVAL: Duration = Duration::from_millis(10);

type Probes = Vec<Box<dyn Probe>>;

/// How to look for GPUs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time from the end of one sample to the start of the next.
    pub interval: Duration,
    /// Samples kept in the history.
    pub history: usize,
    /// Whether NVIDIA's GPUs are looked for.
    pub nvml: bool,
    /// Whether AMD's GPUs are looked for.
    pub amdgpu: bool,
    /// NVIDIA's library, if it is not where the system looks.
    pub nvml_library: Option<OsString>,
    /// Where graphics cards are listed.
    pub amdgpu_root: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            interval: DEFAULT_INTERVAL,
            history: DEFAULT_HISTORY,
            nvml: true,
            amdgpu: true,
            nvml_library: None,
            amdgpu_root: amdgpu::ROOT.into(),
        }
    }
}

/// What the sampler is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Looking for GPUs for the first time; there is no sample yet.
    Detecting,
    /// Sampling.
    Sampling,
    /// There is no GPU that can be read, and nobody looks any more.
    Absent,
}

/// Samples GPUs until it is dropped.
#[derive(Debug)]
pub struct Sampler {
    shared: Arc<Shared>,
    /// Dropping it ends the thread.
    _stop: Option<SyncSender<()>>,
}

#[derive(Debug)]
struct Shared {
    published: ArcSwap<Published>,
    history: Mutex<History>,
}

#[derive(Debug)]
struct Published {
    sample: Arc<Sample>,
    at: Instant,
    status: Status,
}

impl Sampler {
    /// Looks for GPUs and samples those it finds. Returns at once: see [`Sampler::status`]. Where
    /// there is none, the thread ends.
    #[must_use]
    pub fn detect(options: Options) -> Self {
        let (interval, history) = (options.interval, options.history);
        Self::spawn(move || detect(&options), interval, history)
    }

    /// Samples `probes` every `interval`, and keeps the last `history` samples.
    #[must_use]
    pub fn start(probes: Probes, interval: Duration, history: usize) -> Self {
        Self::spawn(move || probes, interval, history)
    }

    /// A sampler that has no GPU and looks for none.
    #[must_use]
    pub fn absent() -> Self {
        Self { shared: Arc::new(Shared::new(Status::Absent, 0)), _stop: None }
    }

    fn spawn(
        probes: impl FnOnce() -> Probes + Send + 'static,
        interval: Duration,
        history: usize,
    ) -> Self {
        let shared = Arc::new(Shared::new(Status::Detecting, history));
        let (stop, stopped) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("gpu".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            let interval = interval.max(MIN_INTERVAL);
            move || run(probes(), &shared, interval, &stopped)
        });
        match thread {
            Ok(_) => Self { shared, _stop: Some(stop) },
            Err(error) => {
                tracing::error!(%error, "no thread for the GPU probes");
                Self::absent()
            }
        }
    }

    /// The newest sample; an empty one before the first.
    #[must_use]
    pub fn latest(&self) -> Arc<Sample> {
        Arc::clone(&self.shared.published.load().sample)
    }

    /// The newest sample if it is at most `limit` old, else none: a probe may be stuck.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Option<Arc<Sample>> {
        Some(self.read_within(limit)?.0)
    }

    /// [`Sampler::within`], and when it was taken.
    #[must_use]
    pub fn read_within(&self, limit: Duration) -> Option<(Arc<Sample>, Instant)> {
        let published = self.shared.published.load();
        let usable = published.status == Status::Sampling && published.at.elapsed() <= limit;
        usable.then(|| (Arc::clone(&published.sample), published.at))
    }

    /// Time since the newest sample, or since the first look for GPUs began; none if there are none.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let published = self.shared.published.load();
        (published.status != Status::Absent).then(|| published.at.elapsed())
    }

    /// What the sampler is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.published.load().status
    }

    /// The body of `/api/gpu`.
    #[must_use]
    pub fn report(&self) -> Report {
        let published = self.shared.published.load();
        let age = (published.status != Status::Absent).then(|| published.at.elapsed());
        Report { age_ms: age.map(milliseconds), sample: published.sample.as_ref().clone() }
    }

    /// The points of the last samples, oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<Point> {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner).points()
    }
}

impl Shared {
    fn new(status: Status, history: usize) -> Self {
        let published = Published { sample: Arc::default(), at: Instant::now(), status };
        Self {
            published: ArcSwap::from_pointee(published),
            history: Mutex::new(History::new(history)),
        }
    }

    fn publish(&self, sample: Sample, status: Status) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).push(&sample);
        let published = Published { sample: Arc::new(sample), at: Instant::now(), status };
        self.published.store(Arc::new(published));
    }
}

fn run(mut probes: Probes, shared: &Shared, interval: Duration, stopped: &Receiver<()>) {
    if probes.is_empty() {
        shared.publish(Sample::default(), Status::Absent);
        return;
    }
    let mut presence = Presence::default();
    loop {
        let sample = take(&mut probes, unix_ms());
        presence::log(&presence.changes(&sample), &sample);
        shared.publish(sample, Status::Sampling);
        // Nothing is ever sent: either the time is over or the sampler is gone.
        if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// One sample of all probes. One that fails takes nothing from the others.
fn take(probes: &mut Probes, taken_unix_ms: u64) -> Sample {
    let (mut gpus, mut problems) = (Vec::new(), Vec::new());
    for probe in probes {
        match probe.sample() {
            Ok(found) => {
                gpus.extend(found);
                problems.extend(probe.left_out());
            }
            Err(ProbeError::Absent(_)) => {}
            Err(error) => problems.push(format!("{}: {error}", probe.name())),
        }
    }
    gpus.truncate(MAX_GPUS);
    let problem = (!problems.is_empty()).then(|| problems.join("; "));
    Sample { taken_unix_ms, gpus, problem }
}

/// The probes that have something to read, or should have: a driver that refuses now may answer later.
fn detect(options: &Options) -> Probes {
    let mut probes: Probes = Vec::new();
    if options.nvml {
        probes.extend(nvml(options));
    }
    if options.amdgpu {
        let beside_others = !probes.is_empty();
        probes.extend(amdgpu(options, beside_others));
    }
    probes
}

fn nvml(options: &Options) -> Option<Box<dyn Probe>> {
    let library = options.nvml_library.as_deref();
    match Nvml::open(library) {
        Ok(nvml) => Some(Box::new(nvml)),
        Err(ProbeError::Absent(why)) => {
            tracing::debug!(why, "no NVIDIA GPU");
            None
        }
        Err(error @ (ProbeError::Lost(_) | ProbeError::Failed(_))) => {
            tracing::warn!(%error, "the NVIDIA driver refuses");
            Some(Box::new(Nvml::closed(library)))
        }
    }
}

fn amdgpu(options: &Options, beside_others: bool) -> Option<Box<dyn Probe>> {
    let mut amdgpu = Amdgpu::new(&options.amdgpu_root);
    if beside_others {
        amdgpu = amdgpu.without_integrated();
    }
    match amdgpu.sample() {
        Err(ProbeError::Absent(why)) => {
            tracing::debug!(why, "no AMD GPU");
            None
        }
        Ok(_) | Err(ProbeError::Lost(_) | ProbeError::Failed(_)) => Some(Box::new(amdgpu)),
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, milliseconds)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
