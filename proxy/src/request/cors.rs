//! Cross-origin access: which web pages may use the gateway from a browser.
//!
//! As with Ollama, a request with an `Origin` that is not allowed is refused with 403, not merely
//! left without CORS headers: otherwise any page could make a visitor's GPU work for it.

use crate::config::glob;
use crate::error::{Error, Kind};
use crate::http1::{Fields, Head};

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
pub struct AllowedOrigin(Box<str>);

/// Checks the `Origin` of a request: `None` when there is none.
pub fn check(client: &Fields, configured: &[String]) -> Result<Option<AllowedOrigin>, Error> {
    let Some(origin) = client.get("origin") else { return Ok(None) };
    let text = std::str::from_utf8(origin).unwrap_or("");
    let mut patterns = DEFAULT_ORIGINS.into_iter().chain(configured.iter().map(String::as_str));
    if patterns.any(|pattern| glob::matches(pattern, text)) {
        return Ok(Some(AllowedOrigin(text.into())));
    }
    let message = "web pages of this origin may not use the gateway; see `cors.origins`";
    Err(Error::new(Kind::Forbidden, message))
}

impl AllowedOrigin {
    /// The headers for an answer a page may read.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, &str); 3] {
        [
            ("access-control-allow-origin", &self.0),
            ("access-control-expose-headers", EXPOSED),
            ("vary", "origin"),
        ]
    }

    /// Sets the further headers of the answer to a preflight from `client`. Every requested header is
    /// allowed: none of them reaches an upstream unless it is harmless there.
    pub fn preflight(client: &Fields, head: &mut Head) {
        head.set("access-control-allow-methods", "GET, HEAD, POST, OPTIONS");
        head.set("access-control-max-age", MAX_AGE);
        if let Some(wanted) = client.get("access-control-request-headers") {
            head.set("access-control-allow-headers", wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: &'static str, configured: &[&str]) -> bool {
        let configured: Vec<String> = configured.iter().map(ToString::to_string).collect();
        let client: Fields = [("origin", origin.as_bytes())].into_iter().collect();
        check(&client, &configured).is_ok()
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
