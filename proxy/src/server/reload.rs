//! Taking a changed configuration into force: validate, swap, keep the last good one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use metrics::{counter, gauge};

use super::{Server, upstream_tls};
use crate::config::Config;
use crate::config::plugins::PluginSource;
use crate::listener::tls::Certificate;
use crate::pipeline::state::Snapshot;
use crate::telemetry::names;

/// What tells that a file changed. A mounted directory swaps whole files, so the length counts too.
type Stamp = Option<(SystemTime, u64)>;

/// The files whose change is a reload.
pub(super) struct Watched {
    files: Vec<(PathBuf, Stamp)>,
}

fn stamp(path: &PathBuf) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The configuration file, and the files of certificate and plugins that it names.
fn paths(file: Option<&PathBuf>, config: &Config) -> Vec<PathBuf> {
    let tls = config.tls.as_ref();
    let certificate = tls.into_iter().flat_map(|tls| [&tls.cert, &tls.key]).map(PathBuf::from);
    let plugins = config.plugins.iter().filter_map(|one| match &one.source {
        PluginSource::File(path) => Some(path.clone()),
        PluginSource::Builtin => None,
    });
    file.into_iter().cloned().chain(certificate).chain(plugins).collect()
}

impl Watched {
    /// Watches what `config`, just read from `file`, depends on. To be called before anything that
    /// takes time: a change in between is a change.
    pub(super) fn new(file: Option<&PathBuf>, config: &Config) -> Self {
        let mut watched = Self { files: Vec::new() };
        watched.add_new(file, config);
        watched
    }

    /// Stamps the known files anew, and takes on those that the configuration names by now.
    fn list(&mut self, server: &Server) {
        self.files.clear();
        self.add_new(server.file.as_ref(), &server.shared.snapshot.load().config);
    }

    fn add_new(&mut self, file: Option<&PathBuf>, config: &Config) {
        for path in paths(file, config) {
            if !self.files.iter().any(|(known, _)| *known == path) {
                self.files.push((path.clone(), stamp(&path)));
            }
        }
    }

    /// Whether any file is another than when last looked at. A file that is gone for the moment,
    /// as while an editor replaces it, is no change yet.
    pub(super) fn changed(&self) -> bool {
        self.files.iter().any(|(path, known)| {
            let now = stamp(path);
            now.is_some() && now != *known
        })
    }

    pub(super) async fn reload(&mut self, server: &Server) {
        // Stamped before it is read: a change in between is then seen as one more.
        self.list(server);
        let result = match reload(server).await {
            Ok(postponed) => {
                let problem = (!postponed.is_empty()).then(|| {
                    let keys = postponed.join("`, `");
                    format!("`{keys}` takes effect when the process is started anew")
                });
                if let Some(problem) = &problem {
                    tracing::warn!("{problem}");
                }
                server.shared.config_problem.store(problem.map(Arc::new));
                in_force(&server.shared.snapshot.load().config);
                self.add_new(server.file.as_ref(), &server.shared.snapshot.load().config);
                tracing::info!("configuration reloaded");
                "ok"
            }
            Err(error) => {
                gauge!(names::RELOADED).set(0.0);
                let problem = format!("an older one is in force, as the file is wrong:\n{error}");
                server.shared.config_problem.store(Some(Arc::new(problem)));
                tracing::error!("configuration not reloaded, the last good one stays:\n{error}");
                "error"
            }
        };
        counter!(names::RELOADS, "result" => result).increment(1);
    }
}

/// Tells metrics of the configuration that is in force from now.
pub(super) fn in_force(config: &Config) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    gauge!(names::RELOADED).set(1.0);
    gauge!(names::RELOADED_AT).set(now.as_secs_f64());
    gauge!(names::CONFIG_HASH).set(config.hash);
}

/// Takes the file into force; gives the keys of which that is so only when the process is started anew.
async fn reload(server: &Server) -> Result<Vec<&'static str>, String> {
    let config = Config::load(server.file.as_deref()).map_err(|error| error.to_string())?;
    let (data, admin) = server.sockets.addresses().map_err(|cause| cause.to_string())?;
    config.check_exposure(data, admin).map_err(|error| error.to_string())?;
    let old = server.shared.snapshot.load_full();
    let started = &server.started;
    let needs_restart = [
        ("listen", started.listen != config.listen),
        ("admin", started.admin != config.admin),
        ("workers", started.workers != config.workers),
        ("h2c", started.h2c != config.h2c),
        ("gpus", started.gpus != config.gpus),
        ("plugin_store", started.plugin_store != config.plugin_store),
        ("plugin_cache", started.plugin_cache != config.plugin_cache),
        ("tls", started.tls.is_some() != config.tls.is_some()),
    ];
    let postponed = needs_restart.into_iter().filter(|(_, changed)| *changed);
    let postponed = postponed.map(|(key, _)| key).collect();
    let tls = upstream_tls(&config)?;
    match (&server.certificate, &config.tls) {
        (Some(certificate), Some(files)) => certificate.reload(files)?,
        // What could not be started with is wrong now.
        (None, Some(files)) => drop(Certificate::load(files)?),
        (_, None) => {}
    }
    let (loader, before, wanted) = (Arc::clone(&server.loader), Arc::clone(&old), config.clone());
    // Compiling takes up to seconds.
    let plugins = tokio::task::spawn_blocking(move || loader.load(&wanted, &before.plugins))
        .await
        .map_err(|cause| cause.to_string())??;
    let snapshot = Snapshot::new(config, tls.as_ref(), plugins, Some(&old))?;
    server.shared.connections.set_limit(snapshot.config.limits.connections);
    server.shared.log.set_format(snapshot.config.log_format);
    server.shared.snapshot.store(Arc::new(snapshot));
    Ok(postponed)
}
