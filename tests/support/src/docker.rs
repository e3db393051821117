//! A real Docker Engine of a test's own, on a Unix socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// A running engine; it, its containers and what it mounted are gone when dropped.
pub struct Engine {
    child: Child,
    dir: tempfile::TempDir,
}

impl Engine {
    /// Starts one; skips where none can start, but not where `DOCKER_TESTS` says that one must.
    #[must_use]
    pub fn start() -> Option<Self> {
        or_skip(Self::try_start())
    }

    /// Starts one that has the simulator as `image`; skips as [`Engine::start`] does.
    #[must_use]
    pub fn with_simulator(image: &str) -> Option<Self> {
        let engine = Self::start()?;
        engine.build(image, or_skip(simulator())?);
        Some(engine)
    }

    fn try_start() -> Result<Self, String> {
        for program in ["dockerd", "containerd", "runc"] {
            let found = Command::new(program).arg("--version").stdout(Stdio::null()).status();
            found.map_err(|cause| format!("{program}: {cause}"))?;
        }
        if !rustix::process::geteuid().is_root() {
            return Err("it needs root".to_owned());
        }
        let dir = tempfile::tempdir().expect("a directory");
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        // Not the machine's own.
        let config = dir.path().join("daemon.json");
        std::fs::write(&config, "{}").expect("written");
        // A mount namespace of its own: the engine leaves mounts behind. No bridge and no firewall
        // rules: those are the machine's. vfs works on any file system.
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "dockerd", "--bridge=none"])
            .args(["--iptables=false", "--ip6tables=false", "--storage-driver=vfs"])
            .args(["--shutdown-timeout=1", "--config-file"])
            .arg(config)
            .arg("--data-root")
            .arg(dir.path().join("data"))
            .arg("--exec-root")
            .arg(dir.path().join("exec"))
            .arg("--pidfile")
            .arg(dir.path().join("pid"))
            .arg(format!("--host=unix://{}", dir.path().join(SOCKET).display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|cause| format!("unshare: {cause}"))?;
        let mut engine = Self { child, dir };
        engine.until_it_answers()?;
        Ok(engine)
    }

    fn until_it_answers(&mut self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        while UnixStream::connect(self.socket()).is_err() || self.ask("GET", "/_ping", &[]).0 != 200
        {
            let ended = self.child.try_wait().expect("a child").is_some();
            if ended || Instant::now() > until {
                let log = std::fs::read_to_string(self.dir.path().join("log")).expect("its log");
                let last = log.lines().last().unwrap_or_default();
                return Err(format!("dockerd did not start: {last}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// Makes an image of one static program, which SIGINT ends: a program with process id 1 that
    /// does not handle SIGTERM does not notice it.
    pub fn build(&self, image: &str, program: &Path) {
        let dockerfile = "FROM scratch\nCOPY program /program\nSTOPSIGNAL SIGINT\n\
                          ENTRYPOINT [\"/program\"]\n";
        let mut tar = entry("Dockerfile", dockerfile.as_bytes());
        tar.extend(entry("program", &std::fs::read(program).expect("the program")));
        tar.extend([0; 1024]);
        let (status, answer) = self.ask("POST", &format!("/build?t={image}"), &tar);
        assert!(status == 200 && answer.contains("Successfully tagged"), "{status}: {answer}");
    }

    /// Sends it a request; gives the status and the body.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        self.send(method, path, "application/x-tar", body)
    }

    /// Makes a container as `docker create` does.
    pub fn create(&self, name: &str, description: &str) {
        let path = format!("/containers/create?name={name}");
        let (status, answer) = self.send("POST", &path, "application/json", description.as_bytes());
        assert_eq!(status, 201, "{answer}");
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut wire = UnixStream::connect(self.socket()).expect("connects");
        wire.set_read_timeout(Some(PATIENCE)).expect("set");
        let length = body.len();
        // HTTP/1.0: it closes at the end of an answer, and sends no chunks.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nhost: docker\r\ncontent-type: {kind}\r\n\
             content-length: {length}\r\n\r\n"
        );
        wire.write_all(head.as_bytes()).expect("sent");
        wire.write_all(body).expect("sent");
        let mut answer = Vec::new();
        wire.read_to_end(&mut answer).expect("answered");
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        (status, body.to_owned())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Asked to end, it ends its containers and its containerd; killed, it would leave them.
        signal(self.child.id(), Signal::TERM);
        let until = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        let containerd = std::fs::read_to_string(self.dir.path().join(CONTAINERD_PID));
        if matches!(self.child.try_wait(), Ok(None))
            && let Some(pid) = containerd.ok().and_then(|pid| pid.trim().parse().ok())
        {
            signal(pid, Signal::KILL);
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn or_skip<T>(found: Result<T, String>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(why) => {
            assert!(std::env::var_os("DOCKER_TESTS").is_none(), "no Docker Engine: {why}");
            crate::skipped(&format!("no Docker Engine: {why}"));
            None
        }
    }
}

const SOCKET: &str = "docker.sock";
const CONTAINERD_PID: &str = "exec/containerd/containerd.pid";

fn signal(pid: u32, signal: Signal) {
    // It may have ended already.
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let _ = pid.map(|pid| kill_process(pid, signal));
}

/// One executable file of a tar archive (POSIX ustar).
fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut head = [0_u8; 512];
    let mut put =
        |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    // The sum is taken with blanks in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut entry = [&head, content].concat();
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

/// The simulator as a static program, which runs in an image that has nothing else; built when
/// first asked for.
///
/// # Errors
/// Why it cannot be built: some systems have the static C library in a package of its own.
///
/// # Panics
/// When cargo does not run at all.
pub fn simulator() -> Result<&'static Path, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(ROOT).canonicalize().expect("root");
        let target = root.join(TARGET);
        // With a target named, the flags are not for build scripts and macros.
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--package", "sluicegate-simulator"])
            .args(["--target", &triple, "--target-dir"])
            .arg(&target)
            .current_dir(root)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .status()
            .expect("cargo runs");
        if !status.success() {
            return Err("the simulator cannot be built as a static program".to_owned());
        }
        Ok(target.join(triple).join("debug/sluicegate-simulator"))
    });
    built.as_deref().map_err(Clone::clone)
}

const ROOT: &str = "../..";
const TARGET: &str = "target/static";
