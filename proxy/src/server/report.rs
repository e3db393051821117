//! What a start prints: where to reach the gateway, what it found, and what to do about it.

use super::Server;
use crate::config::raw::UpstreamKind;
use crate::pipeline::backend::Backend;
use crate::pipeline::state::Snapshot;
use crate::upstream::catalogue::Listing;

/// Model names shown for one upstream.
const SHOWN_MODELS: usize = 5;

/// Prints the addresses and who may use them.
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
}

/// Prints each upstream.
pub(super) fn upstreams(snapshot: &Snapshot, listings: &[Listing]) {
    for (backend, listing) in snapshot.backends.iter().zip(listings) {
        eprintln!("  upstream  {}: {}", backend.name(), describe(backend, listing));
    }
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
