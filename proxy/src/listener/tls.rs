//! TLS of the data listener. The certificate is looked up at each handshake, so a reload changes it
//! without touching a socket.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::config::raw::Tls;

/// The certificate in use.
#[derive(Debug)]
pub struct Certificate {
    current: ArcSwap<CertifiedKey>,
}

impl Certificate {
    /// Reads certificate chain and key.
    pub fn load(files: &Tls) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self { current: ArcSwap::new(read(files)?) }))
    }

    /// Reads them again; on an error the old ones stay.
    pub fn reload(&self, files: &Tls) -> Result<(), String> {
        self.current.store(read(files)?);
        Ok(())
    }

    /// The acceptor for new connections: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| cause.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(files: &Tls) -> Result<Arc<CertifiedKey>, String> {
    let in_file = |path: &str, cause: &dyn std::fmt::Display| format!("{path}: {cause}");
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| in_file(&files.cert, &cause))?;
    if chain.is_empty() {
        return Err(in_file(&files.cert, &"no certificate in this file"));
    }
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|cause| in_file(&files.key, &cause))?;
    let key = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map_err(|cause| in_file(&files.key, &cause))?;
    Ok(Arc::new(key))
}
