//! The gateway as a process.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::PATIENCE;

/// A running gateway; killed when dropped.
pub struct Gateway {
    /// Where requests go.
    pub data: SocketAddr,
    /// Where metrics are.
    pub admin: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Gateway {
    /// Starts `program` with `config`, on ports the kernel chooses unless it names some.
    #[must_use]
    pub fn start(program: &str, config: &str) -> Self {
        Self::start_with(program, config, &[])
    }

    /// The same with environment variables.
    #[must_use]
    pub fn start_with(program: &str, config: &str, environment: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        fs::write(dir.path().join("config.yaml"), with_ports(config)).expect("written");
        let open = |name: &str| File::create(dir.path().join(name)).expect("created");
        let mut child = Command::new(program)
            .args(["serve", "--config"])
            .arg(dir.path().join("config.yaml"))
            // What it learns is its own.
            .env("XDG_STATE_HOME", dir.path())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(open("stdout"))
            .stderr(open("stderr"))
            .spawn()
            .expect("the gateway starts");
        let until = Instant::now() + PATIENCE;
        loop {
            let log = fs::read_to_string(dir.path().join("stderr")).expect("readable");
            if let (Some(data), Some(admin)) = (address(&log, "data"), address(&log, "admin")) {
                return Self { data, admin, child, dir };
            }
            if let Ok(Some(status)) = child.try_wait() {
                panic!("the gateway ended with {status}:\n{log}");
            }
            assert!(Instant::now() < until, "the gateway did not start:\n{log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("signalled");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waited for") {
                return status;
            }
            assert!(Instant::now() < until, "the gateway did not end:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Replaces its configuration file at once, as editors do.
    pub fn write_config(&self, config: &str) {
        let new = self.dir.path().join("config.yaml.new");
        fs::write(&new, with_ports(config)).expect("written");
        fs::rename(new, self.config_path()).expect("renamed");
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("config.yaml")
    }

    /// A directory that lives as long as the gateway.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it printed for people.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).expect("readable")
    }

    /// Its access log.
    #[must_use]
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.dir.path().join("stdout")).expect("readable")
    }

    /// Its metrics page.
    pub async fn metrics(&self) -> String {
        crate::get(self.admin, "/metrics").await.text()
    }

    /// The value of one series, written as on the metrics page; 0 when it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let page = self.metrics().await;
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- gateway stderr\n{}\n--- access log\n{}", self.stderr(), self.stdout());
        }
    }
}

fn with_ports(config: &str) -> String {
    let missing = |key: &str| !config.lines().any(|line| line.starts_with(&format!("{key}:")));
    let mut text = String::new();
    for key in ["listen", "admin"] {
        if missing(key) {
            text.push_str(&format!("{key}: 127.0.0.1:0\n"));
        }
    }
    text + config
}

fn address(log: &str, name: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| {
        line.trim_start().starts_with(name) && line.ends_with(char::is_alphanumeric)
    })?;
    let url = line.split_whitespace().nth(1)?;
    url.split_once("://")?.1.split('/').next()?.parse().ok()
}
