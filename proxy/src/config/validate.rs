//! [`Raw`] → [`Config`]: names resolved, addresses and URLs checked, secrets read, defaults filled.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use http::Uri;
use serde_saphyr::Spanned;

use super::load::{ConfigError, Source, nearest};
use super::raw::{
    BreakerConfig, Raw, RawKey, RawRoute, RawTarget, RawUpstream, Timeouts, UpstreamKind,
};
use super::{
    Config, KeyConfig, PluginConfig, RouteConfig, TargetConfig, UpstreamConfig, cache, gpus,
    plugins, redis,
};

/// Where Ollama listens unless told otherwise.
const DEFAULT_OLLAMA: &str = "http://127.0.0.1:11434";
/// Ollama's port, for an `$OLLAMA_HOST` that names none.
const OLLAMA_PORT: &str = "11434";
/// Requests sent to one upstream at one time unless configured.
const DEFAULT_MAX_CONCURRENT: usize = 1024;
/// Comments more often than this would only be noise.
const MIN_COMMENTS: std::time::Duration = std::time::Duration::from_millis(50);
/// More workers than this would only compete.
const MAX_WORKERS: u16 = 256;

pub(super) fn validate(
    raw: Raw,
    source: &Source,
    ollama_host: Option<&str>,
) -> Result<Config, ConfigError> {
    let listen = address(raw.listen.as_ref(), "listen", "127.0.0.1:8080", source)?;
    let admin = address(raw.admin.as_ref(), "admin", "127.0.0.1:9464", source)?;
    let upstreams = upstreams(&raw, source, ollama_host)?;
    let plugins = plugins::validate(&raw.plugins, source)?;
    let routes = raw
        .routes
        .iter()
        .map(|route| self::route(route, &upstreams, &plugins, source))
        .collect::<Result<Vec<_>, _>>()?;
    let keys = keys(&raw.keys, source)?;
    bounds(&raw)?;
    breaker(raw.breaker)?;
    gpus::check(&raw.gpus)?;
    let cache = cache::validate(&raw.cache, &upstreams, source)?;
    let admin_token = raw
        .admin_token
        .as_ref()
        .map(|from| from.read())
        .transpose()
        .map_err(ConfigError::general)?;
    let config = Config {
        listen,
        admin,
        anonymous: raw.anonymous,
        admin_token,
        workers: usize::from(raw.workers.unwrap_or(1)),
        tls: raw.tls,
        h2c: raw.h2c,
        drain: raw.drain.0,
        heartbeat: raw.heartbeat.0,
        limits: raw.limits,
        cors_origins: raw.cors.origins,
        log_format: raw.access_log.format,
        upstreams,
        gpus: raw.gpus,
        routes,
        queue: raw.admission.queue,
        breaker: raw.breaker,
        plugins,
        cache,
        plugin_store: raw
            .plugin_store
            .as_ref()
            .map(|url| redis::url(url, "plugin_store", source))
            .transpose()?,
        plugin_cache: raw.plugin_cache.map(PathBuf::from),
        keys,
    };
    config.check_exposure(listen, admin)?;
    Ok(config)
}

fn address(
    given: Option<&Spanned<String>>,
    key: &str,
    default: &str,
    source: &Source,
) -> Result<SocketAddr, ConfigError> {
    let text = given.map_or(default, |spanned| spanned.value.as_str());
    text.parse().map_err(|_| {
        let message = format!("`{key}` is `{text}`; expected address:port, such as {default}");
        match given {
            Some(spanned) => source.error_at(spanned.defined, message),
            None => ConfigError::general(message),
        }
    })
}

fn bounds(raw: &Raw) -> Result<(), ConfigError> {
    let general = |message: &str| Err(ConfigError::general(message));
    if raw.workers.is_some_and(|n| n == 0 || n > MAX_WORKERS) {
        return general("`workers` is out of range; expected 1 to 256");
    }
    if raw.limits.body.is_empty() || raw.limits.connections == 0 {
        return general("`limits.body` and `limits.connections` must be more than zero");
    }
    if raw.limits.bodies_in_flight < raw.limits.body {
        return general(
            "`limits.bodies_in_flight` is smaller than `limits.body`: no request of that size could be served",
        );
    }
    if raw.heartbeat.0.is_zero() {
        return general("`heartbeat` must be more than zero");
    }
    Ok(())
}

fn breaker(config: BreakerConfig) -> Result<(), ConfigError> {
    if config.errors == 0 || config.probes == 0 || config.window.0.is_zero() {
        return Err(ConfigError::general(
            "`breaker.errors`, `breaker.probes` and `breaker.window` must be more than zero",
        ));
    }
    Ok(())
}

fn upstreams(
    raw: &Raw,
    source: &Source,
    ollama_host: Option<&str>,
) -> Result<Vec<UpstreamConfig>, ConfigError> {
    if !raw.upstreams.is_empty() {
        return raw.upstreams.iter().map(|(name, given)| upstream(name, given, source)).collect();
    }
    let url = ollama_host.map_or_else(|| DEFAULT_OLLAMA.to_owned(), ollama_url);
    let (origin, base_path) = origin(&url, UpstreamKind::Ollama)
        .map_err(|why| ConfigError::general(format!("$OLLAMA_HOST is `{url}`: {why}")))?;
    Ok(vec![UpstreamConfig {
        name: "host".into(),
        origin,
        base_path,
        kind: UpstreamKind::Ollama,
        api_key: None,
        max_concurrent: DEFAULT_MAX_CONCURRENT,
        vram: None,
        timeouts: Timeouts::default(),
    }])
}

fn upstream(
    name: &str,
    given: &RawUpstream,
    source: &Source,
) -> Result<UpstreamConfig, ConfigError> {
    let fail = |message: String| source.error_at(given.url.defined, message);
    if !is_label(name) {
        return Err(fail(format!(
            "upstream name `{name}` may have letters, digits, `.`, `_` and `-` only, 64 at most"
        )));
    }
    let (origin, base_path) =
        origin(&given.url.value, given.kind).map_err(|why| fail(format!("`url`: {why}")))?;
    let api_key = match &given.api_key {
        Some(from) => Some(from.read().map_err(|why| fail(format!("`api_key`: {why}")))?),
        None => None,
    };
    let max_concurrent = given.max_concurrent.unwrap_or(DEFAULT_MAX_CONCURRENT);
    if max_concurrent == 0 {
        return Err(fail("`max_concurrent` must be more than zero".into()));
    }
    let timeouts = given.timeouts.clone();
    Ok(UpstreamConfig {
        name: name.to_owned(),
        origin,
        base_path,
        kind: given.kind,
        api_key,
        max_concurrent,
        vram: given.vram.map(|size| size.0),
        timeouts,
    })
}

/// Names become header values, metric labels and log fields.
pub(super) fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Splits an upstream URL into its origin and the path in front of every endpoint.
fn origin(url: &str, kind: UpstreamKind) -> Result<(Uri, String), &'static str> {
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

/// Reads `$OLLAMA_HOST` as Ollama does: scheme and port are optional, and the any-address means
/// this machine.
fn ollama_url(host: &str) -> String {
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

fn route(
    given: &RawRoute,
    upstreams: &[UpstreamConfig],
    plugins: &[PluginConfig],
    source: &Source,
) -> Result<RouteConfig, ConfigError> {
    let resolve = |targets: &[RawTarget]| {
        targets.iter().map(|one| target(one, upstreams, source)).collect::<Result<Vec<_>, _>>()
    };
    let model = given.model.clone();
    if model.is_empty() {
        return Err(ConfigError::general("a route's `model` is empty"));
    }
    if given.wait_comments.is_some_and(|wait| wait.0 < MIN_COMMENTS) {
        let message = format!("route `{model}`: `wait_comments` must be at least {MIN_COMMENTS:?}");
        return Err(ConfigError::general(message));
    }
    if given.targets.is_empty() {
        return Err(ConfigError::general(format!("route `{model}` has no `targets`")));
    }
    if given.waiting_text && given.wait_comments.is_none() {
        let message = format!("route `{model}`: `waiting_text` needs `wait_comments`");
        return Err(ConfigError::general(message));
    }
    let chain = given.plugins.iter().map(|name| link(name, plugins, source));
    Ok(RouteConfig {
        plugins: chain.collect::<Result<_, _>>()?,
        waiting_text: given.waiting_text,
        targets: resolve(&given.targets)?,
        fallback: resolve(&given.fallback)?,
        wait_comments: given.wait_comments.map(|period| period.0),
        model,
    })
}

fn link(
    wanted: &Spanned<String>,
    plugins: &[PluginConfig],
    source: &Source,
) -> Result<usize, ConfigError> {
    plugins.iter().position(|one| one.name == wanted.value).ok_or_else(|| {
        let names = || plugins.iter().map(|one| one.name.as_str());
        let hint = match nearest(&wanted.value, names()) {
            Some(near) => format!("; did you mean `{near}`?"),
            None => "; `plugins` has none of that name".to_owned(),
        };
        source.error_at(wanted.defined, format!("no plugin is named `{}`{hint}", wanted.value))
    })
}

fn target(
    given: &RawTarget,
    upstreams: &[UpstreamConfig],
    source: &Source,
) -> Result<TargetConfig, ConfigError> {
    let upstream = upstream_named(&given.upstream, upstreams, source)?;
    Ok(TargetConfig { upstream, model: given.model.clone(), weight: given.weight })
}

/// The index of the upstream that is meant.
pub(super) fn upstream_named(
    wanted: &Spanned<String>,
    upstreams: &[UpstreamConfig],
    source: &Source,
) -> Result<usize, ConfigError> {
    let name = &wanted.value;
    upstreams.iter().position(|one| one.name == *name).ok_or_else(|| {
        let names: Vec<&str> = upstreams.iter().map(|one| one.name.as_str()).collect();
        let hint = nearest(name, names.iter().copied())
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let message =
            format!("no upstream is named `{name}`{hint} Configured: {}", names.join(", "));
        source.error_at(wanted.defined, message)
    })
}

fn keys(given: &[RawKey], source: &Source) -> Result<Vec<KeyConfig>, ConfigError> {
    let mut names = HashSet::new();
    given
        .iter()
        .map(|key| {
            let fail = |message: String| source.error_at(key.hash.defined, message);
            if !is_label(&key.name) {
                return Err(fail(format!("key name `{}` may have letters, digits, `.`, `_` and `-` only, 64 at most", key.name)));
            }
            if !names.insert(key.name.clone()) {
                return Err(fail(format!("two keys are named `{}`", key.name)));
            }
            let hash = key
                .hash
                .value
                .strip_prefix("blake3:")
                .and_then(|hex| blake3::Hash::from_hex(hex).ok())
                .ok_or_else(|| fail("`hash` is not `blake3:` and 64 hexadecimal digits; `sluicegate key new` prints one".into()))?;
            Ok(KeyConfig {
                name: key.name.clone(),
                hash: *hash.as_bytes(),
                models: key.models.clone(),
                tenant: key.tenant.clone(),
                requests_per_minute: key.requests_per_minute,
                max_concurrent: key.max_concurrent,
            })
        })
        .collect()
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
            assert_eq!(ollama_url(given), expected, "{given}");
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
