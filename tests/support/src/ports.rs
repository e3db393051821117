//! Ports that stay with the test that asked for them.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// An address that refuses connections until the test listens there itself. The kernel gives its port to
/// nobody else as long as the program runs: a port that was merely free a moment ago soon belongs to
/// another test, or to the very gateway that was told to connect there.
#[must_use]
pub fn reserved() -> SocketAddr {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Bound without listening: whoever sets the same option, as servers do, can still listen.
    socket.set_reuseaddr(true).expect("set");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("bound");
    let address = socket.local_addr().expect("an address");
    std::mem::forget(socket);
    address
}
