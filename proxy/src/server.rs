//! Builds every stage and runs them: workers that serve requests, and one control thread for the
//! admin listener, probes, reloads and signals.

mod control;
mod keeper;
mod reload;
mod report;
mod status;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;

use self::reload::Watched;
use crate::config::Config;
use crate::config::gpus::{GpusBehind, ProbeChoice};
use crate::gpu::{Options, Sampler};
use crate::listener::inherit::Sockets;
use crate::listener::tls::Certificate;
use crate::pipeline::state::{Shared, Snapshot};
use crate::plugin::Loader;
use crate::telemetry::{AccessLog, names};
use crate::upstream::connect::tls_config;
use crate::upstream::learned::Learned;

/// What was learned about models, in the directory for state.
const LEARNED_FILE: &str = "learned.json";

/// Everything the control thread looks after.
struct Server {
    file: Option<PathBuf>,
    /// The configuration that the process was started with.
    started: Config,
    shared: Arc<Shared>,
    sockets: Sockets,
    certificate: Option<Arc<Certificate>>,
    loader: Arc<Loader>,
    metrics: PrometheusHandle,
    stop: watch::Sender<bool>,
}

/// Serves until told to stop. The error says why it could not start.
pub fn run(config: Config, file: Option<PathBuf>) -> Result<(), String> {
    let watched = Watched::new(file.as_ref(), &config);
    let metrics = start_metrics()?;
    reload::in_force(&config);
    let sockets = Sockets::open(config.listen, config.admin).map_err(|cause| cause.to_string())?;
    let (data, admin) = sockets.addresses().map_err(|cause| cause.to_string())?;
    config.check_exposure(data, admin).map_err(|error| error.to_string())?;
    let certificate = config.tls.as_ref().map(Certificate::load).transpose()?;
    let log = AccessLog::start(config.log_format).map_err(|cause| cause.to_string())?;
    let loader = Arc::new(Loader::default());
    let plugins = loader.load(&config, &[])?;
    let snapshot = Snapshot::new(config.clone(), upstream_tls(&config)?.as_ref(), plugins, None)?;
    let shared = Arc::new(Shared::new(snapshot, log, gpus(&config), learned(&config)));
    let (stop, _) = watch::channel(false);
    let server =
        Server { file, started: config, shared, sockets, certificate, loader, metrics, stop };
    worker::start(&server)?;
    control::run(server, watched)
}

/// Watches the GPUs of this machine, on a thread of their own.
fn gpus(config: &Config) -> Sampler {
    let gpus = &config.gpus;
    let (nvml, amdgpu) = match gpus.probe {
        ProbeChoice::Auto => (true, true),
        ProbeChoice::Nvml => (true, false),
        ProbeChoice::Amdgpu => (false, true),
        ProbeChoice::None => return Sampler::absent(),
    };
    let mut options = Options { interval: gpus.poll.0, nvml, amdgpu, ..Options::default() };
    options.nvml_library = gpus.nvml_library.as_ref().map(|path| path.clone().into_os_string());
    if let Some(root) = &gpus.amdgpu_root {
        options.amdgpu_root.clone_from(root);
    }
    Sampler::detect(options)
}

/// What was learned about models before, if there is a place for it.
fn learned(config: &Config) -> Arc<Learned> {
    let Some(dir) = &config.state_dir else { return Arc::new(Learned::in_memory()) };
    let (learned, warning) = Learned::open(dir.join(LEARNED_FILE));
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    Arc::new(learned)
}

/// TLS for upstreams, made when a configuration first needs it: reading the system's roots takes
/// longer than all the rest of the start.
pub(crate) fn upstream_tls(config: &Config) -> Result<Option<Arc<rustls::ClientConfig>>, String> {
    let secure = |uri: &http::Uri| uri.scheme_str() == Some("https");
    let needed = config.upstreams.iter().any(|one| {
        let told = matches!(&one.gpus, GpusBehind::Remote { origin, .. } if secure(origin));
        secure(&one.origin) || told
    });
    needed.then(tls_config).transpose()
}

fn start_metrics() -> Result<PrometheusHandle, String> {
    let describe = |cause: &dyn std::fmt::Display| format!("metrics cannot be started: {cause}");
    let builder = PrometheusBuilder::new()
        .set_buckets(&names::SECONDS)
        .and_then(|builder| {
            builder
                .set_buckets_for_metric(Matcher::Full(names::TOKENS.into()), &names::TOKEN_COUNTS)
        })
        .and_then(|builder| {
            let similarity = Matcher::Full(names::CACHE_SIMILARITY.into());
            builder.set_buckets_for_metric(similarity, &names::SIMILARITIES)
        })
        .map_err(|cause| describe(&cause))?;
    let handle = builder.install_recorder().map_err(|cause| describe(&cause))?;
    names::describe();
    sluicegate_plugin_host::figures::describe();
    metrics::gauge!(names::BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}
