//! Which of a client's headers travel on.
//!
//! Never: `Host` (Ollama answers a foreign one with 403), `Origin` (the same), credentials, cookies,
//! hop-by-hop headers (RFC 9110, 7.6.1) and whatever describes the body's framing, which is set
//! anew. `Accept-Encoding` is dropped because the gateway reads the answer, conditions (`If-*`) and
//! `Range` because there is nothing to them in a `POST`: an upstream that heeds one answers with a
//! 304, 412 or 206, and no answer.

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;

use crate::config::raw::UpstreamKind;
use crate::error::{Error, Kind};

/// What Ollama could make use of; it ignores every other header.
const OLLAMA: [HeaderName; 3] = [header::CONTENT_TYPE, header::ACCEPT, header::USER_AGENT];

/// Dropped for every other upstream.
fn is_private(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "origin"
            | "referer"
            | "authorization"
            | "x-api-key"
            | "api-key"
            | "cookie"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "expect"
            | "content-length"
            | "content-encoding"
            | "accept-encoding"
            | "x-request-id"
            | "forwarded"
            | "range"
    ) || name.as_str().starts_with("if-")
        || name.as_str().starts_with("sec-")
        || name.as_str().starts_with("x-forwarded-")
        || name.as_str().starts_with("x-sluicegate-")
}

/// Headers in the order in which they are sent.
pub type Forwarded = Vec<(HeaderName, HeaderValue)>;

/// The headers of `client` that go to an upstream of `kind`.
#[must_use]
pub fn forwarded(client: &HeaderMap, kind: UpstreamKind) -> Forwarded {
    match kind {
        UpstreamKind::Ollama => {
            let given = |name: HeaderName| client.get(&name).map(|value| (name, value.clone()));
            OLLAMA.into_iter().filter_map(given).collect()
        }
        UpstreamKind::Openai => {
            let listed = connection_listed(client);
            let travels = |(name, _): &(&HeaderName, &HeaderValue)| {
                !is_private(name) && !listed.iter().any(|one| name.as_str() == one)
            };
            let all = client.iter().filter(travels);
            all.map(|(name, value)| (name.clone(), value.clone())).collect()
        }
    }
}

/// Names that a message's `headers` declare hop-by-hop themselves (RFC 9110, 7.6.1), in lower case.
#[must_use]
pub fn connection_listed(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect()
}

/// Refuses an HTTP/1 head that names no host, several, or what is no host (RFC 9112, 3.2). Whoever
/// stands before the gateway may have read another one out of it.
///
/// # Errors
/// When it does; the connection is of no further use.
pub fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Error> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let wrong = match (hosts.next(), hosts.next()) {
        (None, _) if version < Version::HTTP_11 => return Ok(()),
        (None, _) => "an HTTP/1.1 request needs a `Host`",
        (Some(host), None) if is_host(host) => return Ok(()),
        (Some(_), None) => "the `Host` is not the name of a host",
        (Some(_), Some(_)) => "there is more than one `Host`",
    };
    Err(Error::new(Kind::InvalidRequest, wrong).close())
}

/// Whether `value` is a host with or without a port, or empty, as where a URI has none.
fn is_host(value: &HeaderValue) -> bool {
    if value.is_empty() {
        return true;
    }
    let Ok(authority) = Authority::try_from(value.as_bytes()) else { return false };
    // What remains of one with user information does not start with a colon.
    let port = authority.as_str().strip_prefix(authority.host());
    let digits = port.map(|port| port.strip_prefix(':').unwrap_or(port));
    digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Headers of an upstream's answer that are for this connection only or are set anew.
#[must_use]
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "content-length"
            | "date"
            | "server"
            | "set-cookie"
            | "alt-svc"
            | "strict-transport-security"
            | "x-request-id"
    ) || name.as_str().starts_with("access-control-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in [
            ("host", "evil"),
            ("origin", "http://evil"),
            ("authorization", "Bearer secret"),
            ("x-api-key", "secret"),
            ("cookie", "secret"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("content-type", "application/json"),
            ("user-agent", "sdk"),
            ("openai-beta", "b"),
            ("accept-encoding", "gzip"),
        ] {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn private_and_hop_by_hop_headers_stay_here() {
        let out = forwarded(&client(), UpstreamKind::Openai);
        let mut names: Vec<&str> = out.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "openai-beta", "user-agent"]);
    }

    #[test]
    fn ollama_gets_only_what_it_reads() {
        let out = forwarded(&client(), UpstreamKind::Ollama);
        assert_eq!(out.len(), 2);
    }
}
