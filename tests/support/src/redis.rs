//! A real Redis of a test's own, on a Unix socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// A running Redis; it is killed when dropped.
pub struct Redis {
    child: Child,
    dir: tempfile::TempDir,
}

impl Redis {
    /// Starts one; skips where there is none, but not in CI.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts one with further arguments.
    #[must_use]
    pub fn start_with(more: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let Some(child) = spawn(dir.path(), more) else {
            assert!(std::env::var_os("CI").is_none(), "redis-server is not installed");
            eprintln!("skipped: redis-server is not installed");
            return None;
        };
        Some(Self { child, dir })
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        socket_url(&self.dir.path().join(SOCKET))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("signalled");
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Starts it again, empty.
    pub fn revive(&mut self) {
        self.child = spawn(self.dir.path(), &[]).expect("it was there before");
    }

    /// Sends it a command; gives what it answers, as it stands on the wire.
    pub fn ask(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut wire = UnixStream::connect(self.dir.path().join(SOCKET)).expect("connects");
        wire.write_all(format!("*{}\r\n", parts.len()).as_bytes()).expect("sent");
        for part in parts {
            wire.write_all(format!("${}\r\n", part.len()).as_bytes()).expect("sent");
            wire.write_all(part).expect("sent");
            wire.write_all(b"\r\n").expect("sent");
        }
        // It answers, and then closes because nothing more comes.
        wire.shutdown(std::net::Shutdown::Write).expect("shut");
        let mut answer = Vec::new();
        wire.read_to_end(&mut answer).expect("answered");
        answer
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const SOCKET: &str = "redis.sock";

fn spawn(dir: &Path, more: &[&str]) -> Option<Child> {
    let socket = dir.join(SOCKET);
    // The one before may have left its own.
    let _ = std::fs::remove_file(&socket);
    let child = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(dir)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let until = Instant::now() + PATIENCE;
    while UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < until, "redis-server did not start");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Some(child)
}

/// The URL of a Redis on a Unix socket.
#[must_use]
pub fn socket_url(path: &Path) -> String {
    format!("redis+unix://{}", path.display())
}
