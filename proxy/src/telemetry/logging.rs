//! The program's own log, on standard error. Standard output is the access log's.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Names the variable that sets what is logged, in `tracing`'s filter syntax.
const VARIABLE: &str = "SLUICEGATE_LOG";
/// pingora reports every client that hangs up; the access log already does.
const DEFAULT_FILTER: &str = "info,pingora_core=error,h2=off";

/// Starts logging. A second call, as tests may make, changes nothing.
pub fn start() {
    let filter =
        EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .compact();
    // The only failure is that a logger is set already.
    let _ = logger.try_init();
}
