//! Cross-origin access: which web pages may use the gateway from a browser.
//!
//! As with Ollama, a request with an `Origin` that is not allowed is refused with 403, not merely
//! left without CORS headers: otherwise any page could make a visitor's GPU work for it.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config::glob;
use crate::error::{Error, Kind};

/// Ollama's own defaults.
const DEFAULT_ORIGINS: [&str; 13] = [
    "http://localhost",
    "https://localhost",
    "http://localhost:*",
    "https://localhost:*",
    "http://127.0.0.1",
    "https://127.0.0.1",
    "http://127.0.0.1:*",
    "https://127.0.0.1:*",
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
];

/// Response headers a page may read.
const EXPOSED: &str = "x-request-id, retry-after, server-timing, x-sluicegate-upstream, \
                       x-sluicegate-model, x-sluicegate-reason, age, x-cache, \
                       x-cache-reason, x-cache-entry, x-cache-similarity, \
                       x-ratelimit-limit-requests, x-ratelimit-remaining-requests, \
                       x-ratelimit-reset-requests, x-ratelimit-limit-tokens, \
                       x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens";
/// How long a browser may remember a preflight, in seconds.
const MAX_AGE: &str = "86400";

/// The origin of an allowed cross-origin request, to be repeated in the answer.
#[derive(Clone, Debug)]
pub struct AllowedOrigin(HeaderValue);

/// Checks the `Origin` of a request: `None` when there is none.
pub fn check(headers: &HeaderMap, configured: &[String]) -> Result<Option<AllowedOrigin>, Error> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
    let text = origin.to_str().unwrap_or("");
    let mut patterns = DEFAULT_ORIGINS.into_iter().chain(configured.iter().map(String::as_str));
    if patterns.any(|pattern| glob::matches(pattern, text)) {
        return Ok(Some(AllowedOrigin(origin.clone())));
    }
    let message = "web pages of this origin may not use the gateway; see `cors.origins`";
    Err(Error::new(Kind::Forbidden, message))
}

impl AllowedOrigin {
    /// The headers for an answer a page may read.
    pub fn headers(&self) -> [(HeaderName, HeaderValue); 3] {
        [
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0.clone()),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED)),
            (header::VARY, HeaderValue::from_static("origin")),
        ]
    }

    /// The further headers for the answer to a preflight. Every requested header is allowed:
    /// none of them reaches an upstream unless it is harmless there.
    #[must_use]
    pub fn preflight(&self, request: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        let mut out = vec![
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET, HEAD, POST, OPTIONS"),
            ),
            (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE)),
        ];
        if let Some(wanted) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            out.push((header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone()));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: &'static str, configured: &[&str]) -> bool {
        let configured: Vec<String> = configured.iter().map(ToString::to_string).collect();
        let headers = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
        check(&headers, &configured).is_ok()
    }

    #[test]
    fn local_pages_and_configured_ones_may() {
        assert!(allowed("http://localhost:5173", &[]));
        assert!(allowed("tauri://localhost", &[]));
        assert!(!allowed("https://evil.example", &[]));
        assert!(!allowed("http://localhost.evil.example", &[]));
        assert!(!allowed("null", &[]));
        assert!(allowed("https://chat.example", &["https://*.example", "https://chat.example"]));
        assert!(allowed("https://anything", &["*"]));
    }
}
