//! What a start prints: where to reach the gateway, what it found, and what to do about it.

use sluicegate_plugin_host::Interface;

use super::Server;
use crate::config::plugins::{PluginConfig, PluginSource};
use crate::config::raw::UpstreamKind;
use crate::config::{DEFAULT_MAX_CONCURRENT, RouteConfig, TargetConfig};
use crate::pipeline::backend::Backend;
use crate::pipeline::state::Snapshot;
use crate::plugin::Link;
use crate::upstream::catalogue::Listing;

/// Model names shown for one upstream.
const SHOWN_MODELS: usize = 5;
/// Names of routes shown.
const SHOWN_ROUTES: usize = 10;

/// Prints the addresses, who may use them, the plugins and the routes.
pub(super) fn addresses(server: &Server) {
    let snapshot = server.shared.snapshot.load();
    let scheme = if server.certificate.is_some() { "https" } else { "http" };
    let shown = |socket: &std::net::TcpListener| {
        socket.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string())
    };
    eprintln!("sluicegate {}", env!("CARGO_PKG_VERSION"));
    eprintln!("  data      {scheme}://{}/v1", shown(&server.sockets.data));
    eprintln!("  admin     http://{}/metrics", shown(&server.sockets.admin));
    if snapshot.callers.is_open() {
        eprintln!(
            "  keys      none: whoever reaches the data address is served (see `sluicegate key new`)"
        );
    } else {
        eprintln!("  keys      {}", snapshot.config.keys.len());
    }
    for link in &snapshot.plugins {
        eprintln!("  plugin    {}: {}", link.config.name, plugin(link));
    }
    if let Some(routes) = routes(&snapshot.config.routes) {
        eprintln!("  routes    {routes}");
    }
}

fn plugin(link: &Link) -> String {
    let PluginConfig { source, shadow, .. } = &link.config;
    let about = link.plugin().description();
    // Its own words, on a terminal.
    let (name, version) = (about.name.escape_debug(), about.version.escape_debug());
    let source = match source {
        PluginSource::Builtin => "builtin".to_owned(),
        PluginSource::File(path) => path.display().to_string(),
    };
    let interfaces: Vec<&str> = link.plugin().interfaces().map(Interface::as_str).collect();
    let shadow = if *shadow { ", in shadow mode" } else { "" };
    format!("{name} {version}, {source}, {}{shadow}", interfaces.join(" + "))
}

/// The names that routes serve; `None` where there are no routes.
fn routes(routes: &[RouteConfig]) -> Option<String> {
    let names: Vec<&str> =
        routes.iter().take(SHOWN_ROUTES).map(|route| route.model.as_str()).collect();
    let more = if routes.len() > SHOWN_ROUTES { ", …" } else { "" };
    (!names.is_empty()).then(|| format!("{}: {}{more}", routes.len(), names.join(", ")))
}

/// Prints each upstream, and what of the configuration cannot work there.
pub(super) fn upstreams(snapshot: &Snapshot, listings: &[Listing]) {
    for (backend, listing) in snapshot.backends.iter().zip(listings) {
        eprintln!("  upstream  {}: {}", backend.name(), describe(backend, listing));
        let up = listing.problem.is_none();
        let config = &backend.origin.config;
        for (model, _) in config.models.iter().filter(|(one, _)| listing.has(one) == Some(false)) {
            eprintln!(
                "  warning   {}: it has no model {model}; `ollama pull {model}`",
                backend.name()
            );
        }
        if up && backend.is_ollama() && config.max_concurrent == DEFAULT_MAX_CONCURRENT {
            eprintln!(
                "            tip: set its `max_concurrent` to its OLLAMA_NUM_PARALLEL (1 unless you set \
                 it), and requests queue in the gateway, fairly"
            );
        }
    }
    for (route, target) in missing(&snapshot.config.routes, listings) {
        let (name, upstream) = (&route.model, snapshot.backends[target.upstream].name());
        let model = target.model.as_ref().unwrap_or(name);
        eprintln!(
            "  warning   route {name}: the upstream {upstream} has no model {model}; `ollama pull {model}`"
        );
    }
}

/// Targets of routes whose upstreams say that they do not have the model.
fn missing<'a>(
    routes: &'a [RouteConfig],
    listings: &[Listing],
) -> Vec<(&'a RouteConfig, &'a TargetConfig)> {
    let targets = |route: &'a RouteConfig| route.targets.iter().chain(&route.fallback);
    let all = routes.iter().flat_map(|route| targets(route).map(move |target| (route, target)));
    all.filter(|(route, target)| {
        let named = target.model.as_ref().or((!route.model.contains('*')).then_some(&route.model));
        let listing = listings.get(target.upstream);
        named.is_some_and(|model| listing.and_then(|listing| listing.has(model)) == Some(false))
    })
    .collect()
}

fn describe(backend: &Backend, listing: &Listing) -> String {
    let config = &backend.origin.config;
    let (kind, advice) = match config.kind {
        UpstreamKind::Ollama => (
            "ollama",
            "start it with `ollama serve`, or say where it is: OLLAMA_HOST, or `url` in the configuration",
        ),
        UpstreamKind::Openai => ("openai", "check `url` and `api_key`"),
    };
    let at = config.origin.to_string();
    let at = at.trim_end_matches('/');
    if listing.problem.is_some() && config.container.is_some() {
        return format!("{kind} at {at}, in a container that does not run yet");
    }
    if let Some(problem) = &listing.problem {
        return format!("{kind} at {at} NOT reachable ({problem}); {advice}");
    }
    let version =
        listing.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
    let models = listing.models.as_deref().map_or(&[][..], Vec::as_slice);
    let names: Vec<&str> = models.iter().take(SHOWN_MODELS).map(|one| one.id.as_str()).collect();
    let more = if models.len() > SHOWN_MODELS { ", …" } else { "" };
    match models.len() {
        0 => format!("{kind}{version} at {at}, no models yet; `ollama pull` one"),
        count => format!("{kind}{version} at {at}, {count} models: {}{more}", names.join(", ")),
    }
}
