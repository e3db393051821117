//! Addresses of upstreams as people write them.

use std::net::{IpAddr, SocketAddr};

use http::Uri;

use super::raw::UpstreamKind;

/// Ollama's port, for an `$OLLAMA_HOST` that names none.
const OLLAMA_PORT: &str = "11434";

/// Splits an upstream URL into its origin and the path in front of every endpoint.
pub(super) fn origin(url: &str, kind: UpstreamKind) -> Result<(Uri, String), &'static str> {
    let uri: Uri = url.trim().parse().map_err(|_| "not a URL")?;
    let scheme = uri.scheme_str().unwrap_or("");
    let authority = uri.authority().ok_or("expected http://host:port")?;
    if scheme != "http" && scheme != "https" {
        return Err("expected a URL that starts with http:// or https://");
    }
    if authority.as_str().contains('@') {
        return Err("a URL must not carry credentials; use `api_key`");
    }
    if uri.query().is_some() {
        return Err("a URL must not carry a query");
    }
    let path = uri.path().trim_end_matches('/');
    let base = match (kind, path) {
        (UpstreamKind::Openai, "") => "/v1",
        // Ollama's own base has no /v1; people paste the one they gave their SDK.
        (UpstreamKind::Ollama, path) => path.strip_suffix("/v1").unwrap_or(path),
        (UpstreamKind::Openai, path) => path,
    };
    let origin = Uri::builder()
        .scheme(scheme)
        .authority(authority.clone())
        .path_and_query("/")
        .build()
        .map_err(|_| "not a URL")?;
    Ok((origin, base.to_owned()))
}

/// Whether a listener at `listener` is what answers at `origin`, as far as that can be told without
/// asking for names.
pub(super) fn leads_to(origin: &Uri, listener: SocketAddr) -> bool {
    let https = origin.scheme_str() == Some("https");
    let port = origin.port_u16().unwrap_or(if https { 443 } else { 80 });
    let (everywhere, own) = (listener.ip().is_unspecified(), listener.ip());
    let host = origin.host().unwrap_or("").trim_matches(['[', ']']);
    let here = match host.parse::<IpAddr>() {
        // The any-address of IPv6 takes connections of both families.
        Ok(ip) if ip.is_loopback() => {
            ip == own || (everywhere && (own.is_ipv6() || own.is_ipv4() == ip.is_ipv4()))
        }
        Ok(ip) if ip.is_unspecified() => everywhere || own.is_loopback(),
        Ok(ip) => ip == own,
        Err(_) => host.eq_ignore_ascii_case("localhost") && (everywhere || own.is_loopback()),
    };
    here && port == listener.port()
}

/// Reads `$OLLAMA_HOST` as Ollama does: scheme and port are optional, and the any-address means
/// this machine.
pub(super) fn of_ollama_host(host: &str) -> String {
    let host = host.trim().trim_matches(['"', '\'']);
    let (scheme, rest) = host.split_once("://").unwrap_or(("http", host));
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, String::new()),
    };
    let has_port = authority.rsplit_once(':').is_some_and(|(name, port)| {
        (!name.contains(':') || name.ends_with(']')) && port.bytes().all(|b| b.is_ascii_digit())
    });
    let (name, port) = match authority.rsplit_once(':') {
        Some((name, port)) if has_port => (name, port),
        _ if host.contains("://") => (authority, if scheme == "https" { "443" } else { "80" }),
        _ => (authority, OLLAMA_PORT),
    };
    let name = match name {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        other => other,
    };
    format!("{scheme}://{name}:{port}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ollama_host_is_read_as_ollama_reads_it() {
        for (given, expected) in [
            ("127.0.0.1:11434", "http://127.0.0.1:11434"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            (":9999", "http://127.0.0.1:9999"),
            ("gpu.local", "http://gpu.local:11434"),
            ("https://gpu.example", "https://gpu.example:443"),
            ("http://gpu.example/ollama", "http://gpu.example:80/ollama"),
            ("[::1]:11434", "http://[::1]:11434"),
            ("[::]", "http://[::1]:11434"),
        ] {
            assert_eq!(of_ollama_host(given), expected, "{given}");
        }
    }

    #[test]
    fn an_origin_that_leads_back_is_known() {
        let leads = |origin: &str, listener: &str| {
            leads_to(&origin.parse().expect("a URL"), listener.parse().expect("an address"))
        };
        for (origin, listener) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://localhost:8080", "127.0.0.1:8080"),
            ("http://LOCALHOST:8080", "0.0.0.0:8080"),
            ("http://127.0.0.1:8080", "0.0.0.0:8080"),
            ("http://127.0.0.1:8080", "[::]:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://0.0.0.0:8080", "127.0.0.1:8080"),
            ("http://10.0.0.5", "10.0.0.5:80"),
            ("https://localhost", "0.0.0.0:443"),
        ] {
            assert!(leads(origin, listener), "{origin} at {listener}");
        }
        for (origin, listener) in [
            ("http://127.0.0.1:11434", "127.0.0.1:8080"),
            ("http://10.0.0.5:8080", "127.0.0.1:8080"),
            ("http://gpu.local:8080", "0.0.0.0:8080"),
            ("http://localhost:8080", "10.0.0.5:8080"),
            ("http://127.0.0.1:8080", "127.0.0.2:8080"),
            ("http://[::1]:8080", "0.0.0.0:8080"),
            ("http://127.0.0.1:8080", "127.0.0.1:0"),
        ] {
            assert!(!leads(origin, listener), "{origin} at {listener}");
        }
    }

    #[test]
    fn a_bare_openai_origin_gets_v1_and_a_path_is_kept() {
        let base = |url, kind| origin(url, kind).map(|(_, base)| base);
        assert_eq!(base("http://h:1", UpstreamKind::Openai).as_deref(), Ok("/v1"));
        assert_eq!(base("https://o/api/v1/", UpstreamKind::Openai).as_deref(), Ok("/api/v1"));
        assert_eq!(base("http://h:1/v1", UpstreamKind::Ollama).as_deref(), Ok(""));
        assert!(base("ftp://h", UpstreamKind::Ollama).is_err());
        assert!(base("http://u:p@h", UpstreamKind::Ollama).is_err());
    }
}
