//! Which of a client's headers travel on.
//!
//! Never: `Host` (Ollama answers a foreign one with 403), `Origin` (the same), credentials, cookies,
//! hop-by-hop headers (RFC 9110, 7.6.1) and whatever describes the body's framing, which is set
//! anew. `Accept-Encoding` is dropped because the gateway reads the answer, conditions (`If-*`) and
//! `Range` because there is nothing to them in a `POST`: an upstream that heeds one answers with a
//! 304, 412 or 206, and no answer.

use crate::config::raw::UpstreamKind;
use crate::http1::Fields;

/// What Ollama could make use of; it ignores every other header.
const OLLAMA: [&str; 3] = ["content-type", "accept", "user-agent"];

/// Dropped for every other upstream.
fn is_private(name: &str) -> bool {
    matches!(
        name,
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
    ) || ["if-", "sec-", "x-forwarded-", "x-sluicegate-"].iter().any(|one| name.starts_with(one))
}

/// The fields of `client` that go to an upstream of `kind`.
pub fn forwarded(client: &Fields, kind: UpstreamKind) -> impl Iterator<Item = (&str, &[u8])> {
    client.iter().filter(move |(name, _)| match kind {
        UpstreamKind::Ollama => OLLAMA.contains(name),
        UpstreamKind::Openai => !is_private(name) && !client.lists("connection", name),
    })
}

/// Fields as they are written, each with its line end.
#[must_use]
pub fn written<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut text = Vec::with_capacity(256);
    for (name, value) in fields {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text
}

/// Headers of an upstream's answer that are for this connection only or are set anew.
#[must_use]
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
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
    ) || name.starts_with("access-control-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Fields {
        let fields = [
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
        ];
        fields.into_iter().map(|(name, value)| (name, value.as_bytes())).collect()
    }

    #[test]
    fn private_and_hop_by_hop_headers_stay_here() {
        let client = client();
        let mut names: Vec<_> =
            forwarded(&client, UpstreamKind::Openai).map(|(name, _)| name).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "openai-beta", "user-agent"]);
    }

    #[test]
    fn ollama_gets_only_what_it_reads() {
        let out = written(forwarded(&client(), UpstreamKind::Ollama));
        assert_eq!(out, b"content-type: application/json\r\nuser-agent: sdk\r\n");
    }
}
