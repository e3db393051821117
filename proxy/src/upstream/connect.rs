//! Opens byte streams to upstreams, plain or TLS.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use crate::http1::Io;

/// How long an address is tried alone (RFC 8305, 8).
const HEAD_START: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// TLS settings for upstreams: the system's roots, TLS 1.2 and 1.3, HTTP/1.1.
pub fn tls_config() -> Result<Arc<rustls::ClientConfig>, String> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(loaded.certs);
    if added == 0 {
        let why = loaded.errors.first().map_or_else(String::new, |cause| format!(": {cause}"));
        return Err(format!(
            "no trusted root certificate was found on this system (install ca-certificates){why}"
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| cause.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Opens a stream to the address of `host` that answers first.
pub async fn connect(
    host: &str,
    port: u16,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> io::Result<Io> {
    let stream = connect_any(lookup_host((host, port)).await?).await?;
    stream.set_nodelay(true)?;
    let Some(config) = tls else { return Ok(Io::Plain(stream)) };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|cause| io::Error::new(io::ErrorKind::InvalidInput, cause))?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
    Ok(Io::Tls(Box::new(stream.into())))
}

/// Tries `addresses` in their order, each a while after the one before, or at once when that failed
/// (RFC 8305, 5): one that swallows packets, as IPv6 often does, costs a quarter of a second.
async fn connect_any(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.take(MAX_ADDRESSES).peekable();
    let mut tries = JoinSet::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match addresses.next() {
            // There is nothing to race against.
            Some(only) if tries.is_empty() && addresses.peek().is_none() => {
                return TcpStream::connect(only).await;
            }
            Some(next) => drop(tries.spawn(TcpStream::connect(next))),
            None if tries.is_empty() => return Err(failed),
            None => {}
        }
        let head_start = async {
            match addresses.peek() {
                Some(_) => sleep(HEAD_START).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(tried) = tries.join_next() => match tried? {
                Ok(stream) => return Ok(stream),
                Err(cause) => failed = cause,
            },
            () = head_start => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// A listener that completes no handshake: its backlog is taken.
    async fn swallowing() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(loopback()).expect("an address");
        let listener = socket.listen(1).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let mut taken = Vec::new();
        let wait = Duration::from_millis(200);
        while let Ok(stream) = tokio::time::timeout(wait, TcpStream::connect(address)).await {
            taken.push(stream.expect("a place in the backlog"));
        }
        (listener, taken)
    }

    /// An address at which nobody listens.
    async fn refusing() -> SocketAddr {
        let gone = TcpListener::bind(loopback()).await.expect("a listener");
        gone.local_addr().expect("its address")
    }

    /// The address after `first` is connected to.
    async fn the_next_answers(first: SocketAddr) {
        let good = TcpListener::bind(loopback()).await.expect("a listener");
        let second = good.local_addr().expect("its address");
        let stream = connect_any([first, second].into_iter()).await.expect("a connection");
        assert_eq!(stream.peer_addr().expect("a peer"), second);
    }

    #[tokio::test]
    async fn an_address_that_swallows_packets_does_not_keep_from_the_next() {
        let (dead, _taken) = swallowing().await;
        the_next_answers(dead.local_addr().expect("its address")).await;
    }

    #[tokio::test]
    async fn an_address_that_refuses_does_not_keep_from_the_next() {
        the_next_answers(refusing().await).await;
    }

    #[tokio::test]
    async fn the_last_failure_is_told_when_every_address_fails() {
        let address = refusing().await;
        let cause = connect_any([address, address].into_iter()).await.expect_err("refused");
        assert_eq!(cause.kind(), io::ErrorKind::ConnectionRefused);
        let cause = connect_any(std::iter::empty()).await.expect_err("none");
        assert_eq!(cause.kind(), io::ErrorKind::NotFound);
    }
}
