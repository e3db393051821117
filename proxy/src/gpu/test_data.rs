//! What the tests of several probes share.

use std::path::PathBuf;

use super::{Gpu, Process};

/// A file that is not code, by its name.
pub(super) fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data")).join(name)
}

/// Some GPU.
pub(super) fn gpu(id: &str, memory_used: u64) -> Gpu {
    Gpu {
        id: id.to_owned(),
        name: "GPU".to_owned(),
        uuid: Some("GPU-1".to_owned()),
        memory_total: 24 << 30,
        memory_used,
        utilization: Some(0.5),
        temperature: None,
        power: Some(12.5),
        power_limit: None,
        processes: vec![Process { pid: 1, memory_used: None }],
    }
}
