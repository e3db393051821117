//! AMD GPUs, as the `amdgpu` driver shows them in sysfs (kernel documentation, "GPU amdgpu").
//!
//! An integrated GPU has a small memory of its own (mostly 512 MiB of the machine's), and the driver
//! puts into the machine's memory (GTT) what does not fit, models included. Its memory is therefore
//! shown as the sum of both; what is free of it is the machine's memory, which other programs take
//! too. Beside a GPU with memory of its own it is left out: no one means it to run models.
//!
//! Processes are not read.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Gpu, MAX_GPUS, Probe, ProbeError};

/// Where the kernel lists graphics cards.
pub const ROOT: &str = "/sys/class/drm";
/// A GPU with less memory of its own, in bytes, is an integrated one.
pub const INTEGRATED_BELOW: u64 = 1 << 30;
const VENDOR: &str = "0x1002";
/// No value in sysfs is longer than a page.
const MAX_VALUE: usize = 4096;

/// The probe of AMD GPUs.
#[derive(Debug)]
pub struct Amdgpu {
    root: PathBuf,
    integrated: bool,
    seen: BTreeSet<String>,
    left_out: Option<String>,
}

impl Amdgpu {
    /// A probe of the cards below `root`, which is [`ROOT`] but in tests.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), integrated: true, seen: BTreeSet::new(), left_out: None }
    }

    /// Leaves integrated GPUs out: there is a better one in the machine.
    #[must_use]
    pub fn without_integrated(self) -> Self {
        Self { integrated: false, ..self }
    }
}

impl Probe for Amdgpu {
    fn name(&self) -> &'static str {
        "amdgpu"
    }

    fn sample(&mut self) -> Result<Vec<Gpu>, ProbeError> {
        self.left_out = None;
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        for card in cards(&self.root) {
            match read(&self.root.join(&card), &card) {
                Ok(read) => found.push(read),
                Err(why) => problems.push(format!("amdgpu:{card}: {why}")),
            }
        }
        let there: Vec<String> = found.iter().map(|card| card.gpu.id.clone()).collect();
        let integrated = self.integrated && found.iter().all(|card| card.integrated);
        found.retain(|card| integrated || !card.integrated);
        let gpus: Vec<Gpu> = found.into_iter().map(|card| card.gpu).take(MAX_GPUS).collect();
        for id in self.seen.iter().filter(|id| !there.contains(id)) {
            if !problems.iter().any(|problem| problem.starts_with(&format!("{id}:"))) {
                problems.push(format!("{id}: no longer there"));
            }
        }
        if self.seen.len() < MAX_GPUS {
            self.seen.extend(gpus.iter().map(|gpu| gpu.id.clone()));
        }
        let problems = problems.join("; ");
        match (gpus.is_empty(), problems.is_empty()) {
            (true, true) => return Err(ProbeError::Absent("no AMD GPU".to_owned())),
            (true, false) if self.seen.is_empty() => return Err(ProbeError::Failed(problems)),
            (true, false) => return Err(ProbeError::Lost(problems)),
            (false, empty) => self.left_out = (!empty).then_some(problems),
        }
        Ok(gpus)
    }

    fn left_out(&self) -> Option<String> {
        self.left_out.clone()
    }
}

struct Card {
    gpu: Gpu,
    integrated: bool,
}

/// The AMD cards, by number. `card0-DP-1` is a connector of one, `renderD128` a second door to it.
fn cards(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut cards: Vec<(u32, String)> = names
        .filter_map(|name| Some((name.strip_prefix("card")?.parse().ok()?, name)))
        .filter(|(_, name)| text(&root.join(name).join("device/vendor")).as_deref() == Some(VENDOR))
        .collect();
    cards.sort_unstable();
    cards.into_iter().map(|(_, name)| name).collect()
}

fn read(card: &Path, name: &str) -> Result<Card, &'static str> {
    let device = card.join("device");
    let number = |file: &str| number(&device.join(file));
    let own = number("mem_info_vram_total").ok_or("tells no memory size")?;
    let own_used = number("mem_info_vram_used").ok_or("tells no memory use")?;
    let integrated = own < INTEGRATED_BELOW;
    let (shared, shared_used) = if integrated {
        (number("mem_info_gtt_total").unwrap_or(0), number("mem_info_gtt_used").unwrap_or(0))
    } else {
        (0, 0)
    };
    let memory_total = own.saturating_add(shared);
    if memory_total == 0 {
        return Err("has no memory");
    }
    // Older kernels wake a sleeping GPU to answer for its sensors; its memory is told without.
    let asleep = text(&device.join("power/runtime_status")).as_deref() == Some("suspended");
    let hwmon = if asleep { None } else { hwmon(&device) };
    let sensor = |file: &str| hwmon.as_ref().and_then(|hwmon| self::number(&hwmon.join(file)));
    // Server cards have no sensor at the edge (1), only at the hottest place (2).
    let temperature = sensor("temp1_input").or_else(|| sensor("temp2_input"));
    let busy = if asleep { None } else { number("gpu_busy_percent") };
    let gpu = Gpu {
        id: format!("amdgpu:{name}"),
        name: product(&device),
        // As ROCm writes it, in ROCR_VISIBLE_DEVICES too.
        uuid: text(&device.join("unique_id")).map(|id| format!("GPU-{id}")),
        memory_total,
        memory_used: own_used.saturating_add(shared_used).min(memory_total),
        utilization: busy.map(|percent| percent.min(100) as f64 / 100.0),
        temperature: temperature.map(|thousandths| thousandths as f64 / 1e3),
        power: sensor("power1_average").or_else(|| sensor("power1_input")).map(watts),
        power_limit: sensor("power1_cap").map(watts),
        processes: Vec::new(),
    };
    Ok(Card { gpu, integrated })
}

/// The directory of sensors. Its number changes from boot to boot.
fn hwmon(device: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(device.join("hwmon")).ok()?.flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.sort_unstable();
    found.into_iter().next()
}

/// Only server cards have a name; others go by vendor and device number.
fn product(device: &Path) -> String {
    if let Some(name) = text(&device.join("product_name")) {
        return name;
    }
    let uevent = text(&device.join("uevent")).unwrap_or_default();
    let id = uevent.lines().find_map(|line| line.strip_prefix("PCI_ID="));
    id.map_or_else(|| "AMD GPU".to_owned(), |id| format!("AMD GPU {id}"))
}

fn watts(microwatts: u64) -> f64 {
    microwatts as f64 / 1e6
}

/// A value; a file that cannot be read has none, as those of a sleeping GPU.
fn text(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let text = text.trim();
    (!text.is_empty() && text.len() <= MAX_VALUE).then(|| text.to_owned())
}

/// A whole number; a negative one (a temperature below zero) is none.
fn number(file: &Path) -> Option<u64> {
    text(file)?.parse().ok()
}
