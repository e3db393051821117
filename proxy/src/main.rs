//! The `sluicegate` program.

use std::process::ExitCode;

/// Fewer page faults and less fragmentation than the system's allocator under many short-lived
/// buffers of mixed sizes: measured in `benches/results`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluicegate::telemetry::logging::start();
    sluicegate::cli::run()
}
