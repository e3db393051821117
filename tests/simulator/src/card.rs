//! The card as the Linux `amdgpu` driver shows one in sysfs (kernel documentation, "GPU amdgpu").

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use parking_lot::Mutex;

/// What does not change.
const FIXED: [(&str, &str); 9] = [
    ("vendor", "0x1002"),
    ("device", "0x744c"),
    ("product_name", "Simulated GPU"),
    ("unique_id", "a1c2d3e4f5061728"),
    ("uevent", "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_ID=1002:744C\nPCI_SLOT_NAME=0000:03:00.0"),
    ("hwmon/hwmon0/name", "amdgpu"),
    ("hwmon/hwmon0/temp1_label", "edge"),
    ("hwmon/hwmon0/power1_label", "PPT"),
    ("hwmon/hwmon0/power1_cap", "339000000"),
];
/// Degrees Celsius until told otherwise.
const TEMPERATURE: f64 = 45.0;
/// Microwatts of a card that works, and of one that does not.
const POWER: (u64, u64) = (280_000_000, 19_000_000);

/// The files of one card.
#[derive(Debug)]
pub(crate) struct Card {
    device: PathBuf,
    written: Mutex<BTreeMap<&'static str, String>>,
    temperature: Mutex<f64>,
}

impl Card {
    /// Makes `card0` below `root`, idle and empty.
    pub(crate) fn create(root: &Path, total: u64) -> io::Result<Self> {
        let device = root.join("card0/device");
        fs::create_dir_all(device.join("hwmon/hwmon0"))?;
        let card = Self { device, written: Mutex::default(), temperature: Mutex::new(TEMPERATURE) };
        for (file, value) in FIXED {
            card.put(file, value.to_owned())?;
        }
        card.put("mem_info_vram_total", total.to_string())?;
        card.put("mem_info_gtt_total", (32_u64 << 30).to_string())?;
        card.put("mem_info_gtt_used", (40_u64 << 20).to_string())?;
        card.write(0, false)?;
        Ok(card)
    }

    /// Shows that many bytes used, and whether the card works.
    pub(crate) fn show(&self, used: u64, busy: bool) {
        // A test may have taken the card away; it is the probe that is to notice.
        let _ = self.write(used, busy);
    }

    /// Sets what the sensor says with the next change or tick.
    pub(crate) fn set_temperature(&self, celsius: f64) {
        *self.temperature.lock() = celsius;
    }

    fn write(&self, used: u64, busy: bool) -> io::Result<()> {
        let temperature = *self.temperature.lock();
        self.put("mem_info_vram_used", used.to_string())?;
        self.put("gpu_busy_percent", if busy { "100" } else { "0" }.to_owned())?;
        self.put("hwmon/hwmon0/temp1_input", format!("{:.0}", temperature * 1e3))?;
        let power = if busy { POWER.0 } else { POWER.1 };
        self.put("hwmon/hwmon0/power1_average", power.to_string())
    }

    /// Replaces one file in one step, where its value is another one.
    fn put(&self, file: &'static str, value: String) -> io::Result<()> {
        let mut written = self.written.lock();
        if written.get(file) == Some(&value) {
            return Ok(());
        }
        let path = self.device.join(file);
        let new = path.with_extension("new");
        fs::write(&new, format!("{value}\n"))?;
        fs::rename(&new, &path)?;
        written.insert(file, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_shows_what_it_is_told_and_leaves_nothing_half_written() {
        let root = std::env::temp_dir().join(format!("simulated-card-{}", std::process::id()));
        let card = Card::create(&root, 24 << 30).expect("a card");
        let device = root.join("card0/device");
        let read = |file: &str| fs::read_to_string(device.join(file)).expect("a file");
        assert_eq!(read("vendor"), "0x1002\n");
        assert_eq!(read("mem_info_vram_total"), "25769803776\n");
        assert_eq!(read("mem_info_vram_used"), "0\n");
        card.set_temperature(91.5);
        card.show(7 << 30, true);
        assert_eq!(read("mem_info_vram_used"), "7516192768\n");
        assert_eq!(read("gpu_busy_percent"), "100\n");
        assert_eq!(read("hwmon/hwmon0/temp1_input"), "91500\n");
        let left = fs::read_dir(&device).expect("a directory").flatten();
        assert!(left.into_iter().all(|one| one.path().extension().is_none()));
        fs::remove_dir_all(&root).expect("it was there");
    }
}
