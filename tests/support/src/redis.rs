//! A real Redis of a test's own, on a Unix socket.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// A running Redis; it is killed when dropped.
pub struct Redis {
    program: OsString,
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
        let started = Self::run(PROGRAM.into(), more);
        if started.is_none() {
            assert!(std::env::var_os("CI").is_none(), "redis-server is not installed");
            crate::skipped("redis-server is not installed");
        }
        started
    }

    /// Starts one with vector sets, version 8 or later: `$SLUICEGATE_REDIS8`, else the ordinary one where
    /// it is as new; skips where there is none.
    #[must_use]
    pub fn start_8() -> Option<Self> {
        let started = redis_8().and_then(|program| Self::run(program, &[]));
        if started.is_none() {
            crate::skipped("no redis-server of version 8; SLUICEGATE_REDIS8 can name one");
        }
        started
    }

    fn run(program: OsString, more: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let child = spawn(&program, dir.path(), more)?;
        Some(Self { program, child, dir })
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
        self.child = spawn(&self.program, self.dir.path(), &[]).expect("it was there before");
    }

    /// Puts one of version 8 in its place; whether there is one.
    pub fn upgrade(&mut self) -> bool {
        let Some(program) = redis_8() else { return false };
        self.kill();
        self.program = program;
        self.revive();
        true
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

const PROGRAM: &str = "redis-server";
const SOCKET: &str = "redis.sock";

/// The version of the ordinary one, its first number.
#[must_use]
pub fn version() -> Option<u32> {
    let said = Command::new(PROGRAM).arg("--version").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    said.split_once("v=")?.1.split('.').next()?.parse().ok()
}

fn redis_8() -> Option<OsString> {
    std::env::var_os("SLUICEGATE_REDIS8")
        .or_else(|| version().filter(|version| *version >= 8).map(|_| PROGRAM.into()))
}

fn spawn(program: &OsStr, dir: &Path, more: &[&str]) -> Option<Child> {
    let socket = dir.join(SOCKET);
    // The one before may have left its own.
    let _ = std::fs::remove_file(&socket);
    let child = Command::new(program)
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
