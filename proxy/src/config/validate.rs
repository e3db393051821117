//! [`Raw`] → [`Config`]: names resolved, addresses and URLs checked, secrets read, defaults filled.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_saphyr::Spanned;

use crate::ollama::same_model;

use super::glob;
use super::gpus::GpusBehind;
use super::load::{ConfigError, Source, nearest};
use super::raw::{
    BreakerConfig, Raw, RawKey, RawRoute, RawTarget, RawUpstream, Timeouts, UpstreamKind,
};
use super::{
    Config, KeyConfig, PluginConfig, RouteConfig, TargetConfig, UpstreamConfig, admission, cache,
    container, gpus, models, plugins, redis, url,
};

/// Where Ollama listens unless told otherwise.
const DEFAULT_OLLAMA: &str = "http://127.0.0.1:11434";
/// Requests sent to one upstream at one time unless configured.
pub const DEFAULT_MAX_CONCURRENT: usize = 1024;
/// Comments more often than this would only be noise.
const MIN_COMMENTS: std::time::Duration = std::time::Duration::from_millis(50);
/// Callers' weights above this are no finer.
const MAX_WEIGHT: u32 = 1_000;
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
    others(&raw, &upstreams, [(listen, "listen"), (admin, "admin")], source)?;
    let plugins = plugins::validate(&raw.plugins, source)?;
    let routes = raw
        .routes
        .iter()
        .map(|route| self::route(route, &upstreams, &plugins, source))
        .collect::<Result<Vec<_>, _>>()?;
    reachable(&raw.routes, source)?;
    let keys = keys(&raw.keys, source)?;
    bounds(&raw)?;
    breaker(raw.breaker)?;
    gpus::check(&raw.gpus)?;
    admission::check(&raw.admission)?;
    same_runner(&routes, &upstreams)?;
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
        hash: source.hash(),
        upstreams,
        gpus: raw.gpus,
        routes,
        admission: raw.admission,
        breaker: raw.breaker,
        plugins,
        cache,
        plugin_store: raw
            .plugin_store
            .as_ref()
            .map(|url| redis::url(url, "plugin_store", source))
            .transpose()?,
        plugin_cache: raw.plugin_cache.map(PathBuf::from),
        state_dir: raw.state_dir.map(PathBuf::from).or_else(default_state_dir),
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
    UpstreamConfig::at(ollama_host.unwrap_or(DEFAULT_OLLAMA))
        .map(|upstream| vec![upstream])
        .map_err(|why| ConfigError::general(format!("$OLLAMA_HOST: {why}")))
}

impl UpstreamConfig {
    /// The server at an address spelt as `$OLLAMA_HOST` may be, with the defaults for all else.
    ///
    /// # Errors
    /// When it is no such address.
    pub fn at(host: &str) -> Result<Self, String> {
        let url = url::of_ollama_host(host);
        let (origin, base_path) = url::origin(&url, UpstreamKind::Ollama)
            .map_err(|why| format!("`{url}` is no address: {why}"))?;
        Ok(Self {
            name: "host".into(),
            origin,
            base_path,
            kind: UpstreamKind::Ollama,
            api_key: None,
            max_concurrent: DEFAULT_MAX_CONCURRENT,
            vram: None,
            gpus: GpusBehind::default(),
            models: Vec::new(),
            container: None,
            timeouts: Timeouts::default(),
        })
    }
}

/// An upstream that is this gateway itself would be asked by itself for ever.
fn others(
    raw: &Raw,
    upstreams: &[UpstreamConfig],
    listeners: [(SocketAddr, &str); 2],
    source: &Source,
) -> Result<(), ConfigError> {
    for one in upstreams {
        let own = listeners.iter().find(|(address, _)| url::leads_to(&one.origin, *address));
        let Some((address, key)) = own else { continue };
        let message = format!(
            "upstream `{}` is this gateway itself: `{key}` is {address}; give one of them another port",
            one.name
        );
        return Err(match raw.upstreams.get(&one.name) {
            Some(given) => source.error_at(given.url.defined, message),
            None => ConfigError::general(message),
        });
    }
    Ok(())
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
        url::origin(&given.url.value, given.kind).map_err(|why| fail(format!("`url`: {why}")))?;
    let api_key = match &given.api_key {
        Some(from) => Some(from.read().map_err(|why| fail(format!("`api_key`: {why}")))?),
        None => None,
    };
    let max_concurrent = given.max_concurrent.unwrap_or(DEFAULT_MAX_CONCURRENT);
    if max_concurrent == 0 {
        return Err(fail("`max_concurrent` must be more than zero".into()));
    }
    if given.kind != UpstreamKind::Ollama && !given.models.is_empty() {
        return Err(fail("`models` can be kept in memory at an Ollama only".into()));
    }
    if let Some(container) = &given.container {
        container::check(container, name)?;
    }
    let mut gpus = gpus::behind(&given.gpus).map_err(fail)?;
    if gpus == GpusBehind::Auto && given.container.as_ref().is_some_and(container::is_on_cpu) {
        gpus = GpusBehind::None;
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
        gpus,
        models: given.models.iter().map(|(name, keep)| (name.clone(), keep.clone())).collect(),
        container: given.container.clone(),
        timeouts,
    })
}

/// Names become header values, metric labels and log fields.
pub(super) fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
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
    let model = given.model.value.clone();
    let fail = |message: String| source.error_at(given.model.defined, message);
    if model.is_empty() {
        return Err(fail("a route's `model` is empty".into()));
    }
    if given.wait_comments.is_some_and(|wait| wait.0 < MIN_COMMENTS) {
        let message = format!("route `{model}`: `wait_comments` must be at least {MIN_COMMENTS:?}");
        return Err(fail(message));
    }
    if given.targets.is_empty() {
        return Err(fail(format!("route `{model}` has no `targets`")));
    }
    if given.waiting_text && given.wait_comments.is_none() {
        return Err(fail(format!("route `{model}`: `waiting_text` needs `wait_comments`")));
    }
    models::check(&given.options)
        .map_err(|what| fail(format!("route `{model}`: `options.{what}")))?;
    let targets = || given.targets.iter().chain(&given.fallback);
    let on_ollama = |one: &RawTarget| {
        let named = upstreams.iter().find(|upstream| upstream.name == one.upstream.value);
        named.is_none_or(|upstream| upstream.kind == UpstreamKind::Ollama)
    };
    if given.options.need_native() && !targets().any(on_ollama) {
        let message =
            format!("route `{model}`: its `options` need an Ollama, and it leads to none");
        return Err(fail(message));
    }
    let chain = given.plugins.iter().map(|name| link(name, plugins, source));
    Ok(RouteConfig {
        plugins: chain.collect::<Result<_, _>>()?,
        waiting_text: given.waiting_text,
        targets: resolve(&given.targets)?,
        fallback: resolve(&given.fallback)?,
        wait_comments: given.wait_comments.map(|period| period.0),
        options: given.options.clone(),
        model,
    })
}

/// Of two routes for the same names only the earlier one would ever be taken.
fn reachable(routes: &[RawRoute], source: &Source) -> Result<(), ConfigError> {
    for (index, route) in routes.iter().enumerate() {
        let model = &route.model.value;
        // An exact name wins over a glob, wherever that stands. A glob that matches another's text
        // matches whatever that does: its stars take the other's.
        let covers = |earlier: &str| {
            let both_globs = earlier.contains('*') && model.contains('*');
            earlier == model || (both_globs && glob::matches(earlier, model))
        };
        if let Some(earlier) = routes[..index].iter().find(|one| covers(&one.model.value)) {
            let (name, line) = (&earlier.model.value, earlier.model.defined.line());
            let message = if name == model {
                format!("a route for `{model}` is there already, on line {line}")
            } else {
                format!(
                    "no request reaches the route `{model}`: `{name}` on line {line} takes them all"
                )
            };
            return Err(source.error_at(route.model.defined, message));
        }
    }
    Ok(())
}

/// Two routes that want one model loaded in two ways would have it loaded anew with every request.
fn same_runner(routes: &[RouteConfig], upstreams: &[UpstreamConfig]) -> Result<(), ConfigError> {
    let mut wanted: Vec<(usize, &str, &RouteConfig)> = Vec::new();
    for route in routes.iter().filter(|route| route.options.load_options()) {
        for target in route.targets.iter().chain(&route.fallback) {
            let model = target.model.as_deref().unwrap_or(&route.model);
            let other = wanted.iter().find(|(upstream, name, other)| {
                let same = glob::matches(name, model) || glob::matches(model, name);
                *upstream == target.upstream
                    && (same || same_model(name, model))
                    && other.options.loaded_with() != route.options.loaded_with()
            });
            if let Some((_, _, other)) = other {
                return Err(ConfigError::general(format!(
                    "routes `{}` and `{}` want `{model}` at `{}` loaded with different options; each \
                     request would have it loaded anew",
                    other.model, route.model, upstreams[target.upstream].name
                )));
            }
            wanted.push((target.upstream, model, route));
        }
    }
    Ok(())
}

/// The user's own directory for what a program keeps (XDG base directory specification).
fn default_state_dir() -> Option<PathBuf> {
    let given =
        |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let base = given("XDG_STATE_HOME").or_else(|| Some(given("HOME")?.join(".local/state")))?;
    base.is_absolute().then(|| base.join("sluicegate"))
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
            None if sluicegate_builtin_plugins::ALL
                .iter()
                .any(|(name, _)| *name == wanted.value) =>
            {
                format!("; add `{{ name: {}, source: builtin }}` to `plugins`", wanted.value)
            }
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
            format!("no upstream is named `{name}`{hint} (configured: {})", names.join(", "));
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
                tokens_per_minute: key.tokens_per_minute,
                max_concurrent: key.max_concurrent,
                weight: key.weight.clamp(1, MAX_WEIGHT),
                priority: key.priority,
            })
        })
        .collect()
}
