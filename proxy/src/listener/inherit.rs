//! Listening sockets: bound afresh, or taken over from the process that came before.
//!
//! Sockets are inherited as with systemd's socket activation (`LISTEN_FDS`, sd_listen_fds(3)): the
//! data listener first, the admin listener second. An upgrade uses the same way: the running
//! process starts its successor with both sockets, goes on serving, and drains when the successor
//! says it is ready.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command};

use command_fds::{CommandFdExt, FdMapping};
use listenfd::ListenFd;
use rustix::process::{Pid, Signal, getppid, kill_process};
use socket2::{Domain, Socket, Type};

/// Tells a successor whom to relieve.
const PREDECESSOR: &str = "SLUICEGATE_UPGRADE_FROM";
/// Connections the kernel holds until they are accepted; std's 128 overflow when a few hundred
/// clients come at once, and each lost SYN costs its client half a second and more.
const BACKLOG: i32 = 4096;
/// The first inherited descriptor (sd_listen_fds(3)).
const FIRST_FD: i32 = 3;

/// Both listening sockets, and what it takes to hand them over.
#[derive(Debug)]
pub struct Sockets {
    /// The program as it was started; after it was replaced, the system no longer knows its path.
    program: PathBuf,
    /// For requests.
    pub data: TcpListener,
    /// For metrics, health and status.
    pub admin: TcpListener,
}

impl Sockets {
    /// Takes over inherited sockets, else binds.
    pub fn open(data: SocketAddr, admin: SocketAddr) -> io::Result<Self> {
        let mut inherited = ListenFd::from_env();
        let mut take = |index: usize, wanted: SocketAddr| {
            let given = inherited.take_tcp_listener(index).ok().flatten();
            // A changed address must not go on under the old one.
            let fits = |socket: &TcpListener| {
                socket.local_addr().is_ok_and(|address| {
                    address == wanted || (wanted.port() == 0 && address.ip() == wanted.ip())
                })
            };
            let socket = match given.filter(fits) {
                Some(socket) => socket,
                None => bind(wanted)?,
            };
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        };
        let program = std::env::current_exe()?;
        Ok(Self { program, data: take(0, data)?, admin: take(1, admin)? })
    }

    /// The addresses really listened on.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.data.local_addr()?, self.admin.local_addr()?))
    }

    /// Starts a successor of this process, with its arguments and both sockets.
    pub fn start_successor(&self) -> io::Result<Child> {
        let fds = [OwnedFd::from(self.data.try_clone()?), OwnedFd::from(self.admin.try_clone()?)];
        let mappings = fds
            .into_iter()
            .zip(FIRST_FD..)
            .map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd })
            .collect();
        Command::new(&self.program)
            .args(std::env::args_os().skip(1))
            .env("LISTEN_FDS", "2")
            .env_remove("LISTEN_PID")
            .env(PREDECESSOR, std::process::id().to_string())
            .fd_mappings(mappings)
            .map_err(io::Error::other)?
            .spawn()
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listen = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // A restart must not wait for connections of the process before (tcp(7), TIME_WAIT).
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(|cause: io::Error| {
        let taken = cause.kind() == io::ErrorKind::AddrInUse;
        let advice =
            if taken { "; `listen` and `admin` in the configuration name others" } else { "" };
        io::Error::new(cause.kind(), format!("cannot listen on {address}: {cause}{advice}"))
    })
}

/// Tells the predecessor, if there is one, that this process serves now.
pub fn relieve_predecessor() -> Result<(), rustix::io::Errno> {
    let named = std::env::var(PREDECESSOR).ok().and_then(|pid| pid.parse().ok());
    let Some(pid) = named.and_then(Pid::from_raw) else { return Ok(()) };
    // The variable may have been inherited further; only a living parent is meant.
    if getppid() != Some(pid) {
        return Ok(());
    }
    kill_process(pid, Signal::TERM)
}
