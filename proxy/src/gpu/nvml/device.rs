//! One session's reading of all NVIDIA GPUs.

use std::collections::BTreeMap;

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml as Library};

use super::super::{Gpu, MAX_GPUS, MAX_PROCESSES, Process};
use super::Numbers;

/// MIG devices of one GPU that are looked at; no GPU has more than 7.
const MAX_INSTANCES: u32 = 16;

/// What a session said.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub gpus: Vec<Gpu>,
    /// GPUs that are not among them, and why.
    pub left_out: Vec<String>,
    /// Whether one that should be there is not.
    pub lost: bool,
    /// Numbers of the GPUs looked at.
    seen: Vec<u32>,
    /// The first error that may mean a driver which is gone.
    unknown: Option<NvmlError>,
}

/// Reads all GPUs.
///
/// An error means that the session is over; that of one GPU is told in the reading.
pub(super) fn read_all(library: &Library, numbers: &mut Numbers) -> Result<Reading, NvmlError> {
    let mut reading = Reading::default();
    let count = library.device_count()?.min(MAX_GPUS as u32);
    for position in 0..count {
        if let Err((number, error)) = read(library, position, numbers, &mut reading) {
            reading.seen.push(number);
            reading.refused(&format!("nvml:{number}"), error)?;
        }
    }
    for number in numbers.known.values() {
        if !reading.seen.contains(number) {
            reading.lost = true;
            reading.left_out.push(format!("nvml:{number}: the driver no longer has it"));
        }
    }
    // One GPU may answer so for reasons of its own; all of them do after a restart of the driver.
    match reading.unknown.take() {
        Some(error) if reading.gpus.is_empty() => Err(error),
        _ => Ok(reading),
    }
}

impl Reading {
    fn refused(&mut self, id: &str, error: NvmlError) -> Result<(), NvmlError> {
        match error {
            NvmlError::Uninitialized
            | NvmlError::DriverNotLoaded
            | NvmlError::LibRmVersionMismatch => return Err(error),
            // One of the machine's GPUs that this container was not given.
            NvmlError::NoPermission => return Ok(()),
            NvmlError::NotSupported => self
                .left_out
                .push(format!("{id}: tells no memory of its own (it shares the machine's memory)")),
            NvmlError::GpuLost | NvmlError::ResetRequired => {
                self.lost = true;
                self.left_out.push(format!("{id}: {error}"));
            }
            _ => {
                self.left_out.push(format!("{id}: {error}"));
                self.unknown.get_or_insert(error);
            }
        }
        Ok(())
    }
}

fn read(
    library: &Library,
    position: u32,
    numbers: &mut Numbers,
    reading: &mut Reading,
) -> Result<(), (u32, NvmlError)> {
    let device = library.device_by_index(position).map_err(|error| (position, error))?;
    let uuid = device.uuid().ok();
    let number = numbers.of(uuid.as_deref(), position);
    let id = format!("nvml:{number}");
    if device.mig_mode().is_ok_and(|mode| mode.current == 1) {
        instances(&device, &id, reading).map_err(|error| (number, error))?;
    } else {
        let gpu = whole(&device, id, uuid).map_err(|error| (number, error))?;
        reading.gpus.push(gpu);
    }
    reading.seen.push(number);
    Ok(())
}

/// The MIG devices of a GPU. The whole is not shown: no model can use it.
fn instances(parent: &Device<'_>, id: &str, reading: &mut Reading) -> Result<(), NvmlError> {
    let mut found = false;
    for index in 0..parent.mig_device_count()?.min(MAX_INSTANCES) {
        let device = match parent.mig_device_by_index(index) {
            Ok(device) => device,
            // Indices have holes where a device was removed.
            Err(NvmlError::NotFound) => continue,
            Err(error) => return Err(error),
        };
        found = true;
        let id = format!("{id}/mig:{index}");
        match whole(&device, id.clone(), device.uuid().ok()) {
            // They share one die, and only the die has a thermometer.
            Ok(gpu) => reading.gpus.push(Gpu { temperature: temperature(parent), ..gpu }),
            Err(error) => reading.refused(&id, error)?,
        }
    }
    if !found {
        reading.left_out.push(format!("{id}: in MIG mode without a MIG device"));
    }
    Ok(())
}

/// A device by itself. Without its memory it is of no use; all else may be missing.
fn whole(device: &Device<'_>, id: String, uuid: Option<String>) -> Result<Gpu, NvmlError> {
    let memory = device.memory_info()?;
    if memory.total == 0 {
        return Err(NvmlError::NotSupported);
    }
    Ok(Gpu {
        id,
        name: device.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned()),
        uuid,
        memory_total: memory.total,
        // `used` alone leaves out what the driver reserves, which no model can have either.
        memory_used: memory.total.saturating_sub(memory.free),
        utilization: device
            .utilization_rates()
            .ok()
            .map(|rates| f64::from(rates.gpu.min(100)) / 100.0),
        temperature: temperature(device),
        power: device.power_usage().ok().map(watts),
        power_limit: device.enforced_power_limit().ok().map(watts),
        processes: processes(device),
    })
}

fn temperature(device: &Device<'_>) -> Option<f64> {
    device.temperature(TemperatureSensor::Gpu).ok().map(f64::from)
}

fn watts(milliwatts: u32) -> f64 {
    f64::from(milliwatts) / 1000.0
}

/// Those that compute and those that draw; one that does both counts once.
fn processes(device: &Device<'_>) -> Vec<Process> {
    let computing = twice(|| device.running_compute_processes());
    let drawing = twice(|| device.running_graphics_processes());
    let mut found: BTreeMap<u32, Option<u64>> = BTreeMap::new();
    for process in computing.into_iter().chain(drawing) {
        let memory = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        let known = found.entry(process.pid).or_default();
        *known = (*known).max(memory);
    }
    let found = found.into_iter().take(MAX_PROCESSES);
    found.map(|(pid, memory_used)| Process { pid, memory_used }).collect()
}

/// Once more if processes were started between the call for their number and the call for them.
fn twice(list: impl Fn() -> Result<Vec<ProcessInfo>, NvmlError>) -> Vec<ProcessInfo> {
    match list() {
        Err(NvmlError::InsufficientSize(_)) => list().unwrap_or_default(),
        listed => listed.unwrap_or_default(),
    }
}
