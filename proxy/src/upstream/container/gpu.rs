//! Whether a container may have the GPU that the upstream on the host uses too.
//!
//! A second copy of a model in a GPU that the first still fills makes the trouble worse: both end
//! up partly on the CPU, or out of memory. A process that hangs still holds its memory, and so does
//! one that is dying; only what the GPU's driver, or a live server itself, says of it counts.

use super::settings::Gpus;

/// The GPU memory of the host's upstream, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostMemory {
    /// Whether it answers; `None` where it was not asked.
    pub upstream_alive: Option<bool>,
    /// Bytes it says its models take; `None` where it did not say. What it said before it died
    /// counts for nothing.
    pub resident_bytes: Option<u64>,
    /// Bytes that its processes hold by the driver; `None` where that cannot be read.
    pub process_bytes: Option<u64>,
    /// Bytes that can be allocated.
    pub free: u64,
    /// Bytes of memory; 0 where no GPU can be read.
    pub total: u64,
    /// Bytes that the container's model needs; 0 where that is not known.
    pub need: u64,
}

/// The GPUs that a container gets, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it wants, or none.
    pub gpus: Gpus,
    /// One sentence for the log and the status page.
    pub reason: String,
}

/// Gives a container the GPUs it wants if the host's upstream has really released their memory and
/// there is enough of it; else none, which leaves it to the CPU.
#[must_use]
pub fn gpu_for(wanted: &Gpus, host: HostMemory) -> Grant {
    let refused = match wanted {
        Gpus::None => Some("it is configured to use the CPU".to_owned()),
        Gpus::All | Gpus::Devices(_) => held(host).or_else(|| short(host)),
    };
    match refused {
        Some(reason) => Grant { gpus: Gpus::None, reason },
        None => Grant {
            gpus: wanted.clone(),
            reason: format!(
                "the host's upstream holds no GPU memory and {} is free",
                gib(host.free)
            ),
        },
    }
}

/// Why the host's upstream must be taken to hold memory still.
fn held(host: HostMemory) -> Option<String> {
    let HostMemory { upstream_alive, resident_bytes, process_bytes, free, total, .. } = host;
    if total == 0 {
        return Some("the GPU's memory cannot be read".to_owned());
    }
    let resident = resident_bytes.filter(|_| upstream_alive == Some(true));
    match (process_bytes, resident) {
        (Some(bytes), _) if bytes > 0 => Some(match upstream_alive {
            Some(false) => format!("the host's upstream hangs and still holds {}", gib(bytes)),
            Some(true) | None => format!("the host's upstream holds {}", gib(bytes)),
        }),
        (_, Some(bytes)) if bytes > 0 => {
            Some(format!("the host's upstream says that its models take {}", gib(bytes)))
        }
        (Some(_), _) | (None, Some(_)) => None,
        // Nobody says who holds what. A GPU that is all but empty needs no witness: the twentieth
        // is for the driver and a display.
        (None, None) if total - free.min(total) <= total / 20 => None,
        (None, None) => {
            Some("it cannot be told whether the host's upstream holds memory".to_owned())
        }
    }
}

/// Why there is too little memory, whoever holds it.
fn short(host: HostMemory) -> Option<String> {
    let HostMemory { free, total, need, .. } = host;
    if need > total {
        return Some(format!("it needs {} and the GPU has {}", gib(need), gib(total)));
    }
    // Without a known need, nothing at all free is still too little.
    (free < need.max(1)).then(|| format!("it needs {} and {} is free", gib(need), gib(free)))
}

fn gib(bytes: u64) -> String {
    let tenths = u128::from(bytes) * 10 / (1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A GPU of 24 GiB, all of it free, whose host upstream is down and holds nothing.
    const RELEASED: HostMemory = HostMemory {
        upstream_alive: Some(false),
        resident_bytes: None,
        process_bytes: Some(0),
        free: 24 * GIB,
        total: 24 * GIB,
        need: 5 * GIB,
    };

    #[test]
    fn a_container_gets_the_gpu_only_when_it_is_really_released() {
        let alive = HostMemory { upstream_alive: Some(true), ..RELEASED };
        let blind = HostMemory { process_bytes: None, ..RELEASED };
        let blind_alive = HostMemory { process_bytes: None, ..alive };
        let cases = [
            (true, "dead and released", RELEASED),
            (true, "alive and empty", HostMemory { resident_bytes: Some(0), ..alive }),
            (
                true,
                "what it said before it died is void",
                HostMemory { resident_bytes: Some(9), ..RELEASED },
            ),
            (true, "never asked, holds nothing", HostMemory { upstream_alive: None, ..RELEASED }),
            (true, "need not known", HostMemory { need: 0, ..RELEASED }),
            (true, "need exactly free", HostMemory { free: 5 * GIB, ..RELEASED }),
            (
                true,
                "alive, says it is empty, no probe of processes",
                HostMemory { resident_bytes: Some(0), free: 10 * GIB, ..blind_alive },
            ),
            (true, "no witness, but the GPU is empty", HostMemory { free: 23 * GIB, ..blind }),
            (false, "hung with memory", HostMemory { process_bytes: Some(GIB), ..RELEASED }),
            (
                false,
                "hung with a little memory and much free",
                HostMemory { process_bytes: Some(1), ..RELEASED },
            ),
            (false, "alive with memory", HostMemory { process_bytes: Some(GIB), ..alive }),
            (false, "alive, says it holds", HostMemory { resident_bytes: Some(GIB), ..alive }),
            (
                false,
                "alive, says it holds, no probe",
                HostMemory { resident_bytes: Some(GIB), ..blind_alive },
            ),
            (false, "dead, no witness, GPU partly used", HostMemory { free: 20 * GIB, ..blind }),
            (
                false,
                "alive, does not say, GPU partly used",
                HostMemory { free: 20 * GIB, ..blind_alive },
            ),
            (false, "somebody else fills it", HostMemory { free: 4 * GIB, ..RELEASED }),
            (false, "full, need not known", HostMemory { free: 0, need: 0, ..RELEASED }),
            (false, "too small", HostMemory { need: 25 * GIB, ..RELEASED }),
            (false, "no GPU to be read", HostMemory { free: 0, total: 0, need: 0, ..RELEASED }),
            (
                false,
                "more free than there is, too small",
                HostMemory { free: u64::MAX, total: GIB, ..blind },
            ),
        ];
        let wanted = Gpus::Devices(vec!["0".to_owned()]);
        for (granted, what, host) in cases {
            let expected = if granted { &wanted } else { &Gpus::None };
            let grant = gpu_for(&wanted, host);
            assert_eq!(grant.gpus, *expected, "{what}: {}", grant.reason);
        }
    }

    #[test]
    fn a_container_for_the_cpu_gets_no_gpu_however_free() {
        assert_eq!(gpu_for(&Gpus::None, RELEASED).gpus, Gpus::None);
    }

    #[test]
    fn the_reason_says_what_the_host_holds() {
        let hung = HostMemory { process_bytes: Some(15 * GIB / 2), ..RELEASED };
        let reason = gpu_for(&Gpus::All, hung).reason;
        assert_eq!(reason, "the host's upstream hangs and still holds 7.5 GiB");
    }
}
