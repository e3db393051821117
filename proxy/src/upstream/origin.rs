//! Where an upstream is, and how requests to it are addressed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::HeaderValue;

use crate::config::UpstreamConfig;
use crate::config::raw::UpstreamKind;

/// An upstream's address, ready to be used.
#[derive(Debug)]
pub struct Origin {
    /// The configuration it was made of.
    pub config: UpstreamConfig,
    /// Tells the pools of different upstreams apart, over reloads.
    pub(super) pool_key: u64,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) host_header: HeaderValue,
    pub(super) authorization: Option<HeaderValue>,
}

impl Origin {
    /// Prepares an upstream; `tls` is needed for `https`.
    pub fn new(
        config: UpstreamConfig,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Result<Self, String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = config.name.clone();
        let fail = |why: &str| format!("upstream `{name}`: {why}");
        let authority = config.origin.authority().ok_or_else(|| fail("the URL has no host"))?;
        let secure = config.origin.scheme_str() == Some("https");
        let tls = match (secure, tls) {
            (false, _) => None,
            (true, Some(settings)) => Some(Arc::clone(settings)),
            (true, None) => return Err(fail("TLS is not set up")),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let host_header = HeaderValue::from_str(authority.as_str())
            .map_err(|_| fail("the host is no header value"))?;
        let authorization = match &config.api_key {
            None => None,
            Some(key) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", key.reveal()))
                    .map_err(|_| fail("the API key is no header value"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let pool_key = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { host, port, tls, host_header, authorization, pool_key, config })
    }

    /// The TLS settings it uses, if any.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<rustls::ClientConfig>> {
        self.tls.as_ref()
    }

    /// The upstream's spelling of one of our paths, such as `/v1/models` or `/api/tags`, in two parts.
    #[must_use]
    pub fn path<'a>(&'a self, path: &'a str) -> (&'a str, &'a str) {
        let path = match self.config.kind {
            UpstreamKind::Ollama => path,
            UpstreamKind::Openai => path.strip_prefix("/v1").unwrap_or(path),
        };
        (&self.config.base_path, path)
    }
}
