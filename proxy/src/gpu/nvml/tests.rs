//! Against a small library built here, loaded through the real wrapper.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::super::{Options, Process, Sampler, Status, test_data};
use super::*;

const GIB: u64 = 1 << 30;
const SECOND: Duration = Duration::from_secs(1);

/// A library of its own for one test, and the file that scripts it.
struct Fake {
    dir: TempDir,
    now: Instant,
}

impl Fake {
    /// None without a C compiler: the test is skipped.
    fn new(flags: &[&str]) -> Option<Self> {
        let fake = Self { dir: tempfile::tempdir().expect("directory"), now: Instant::now() };
        let control = format!("-DCONTROL=\"{}\"", fake.file("control").display());
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", &control])
            .args(flags)
            .arg("-o")
            .args([fake.library().into(), test_data::file("fake_nvml.c")])
            .status();
        match built {
            Ok(status) => assert!(status.success(), "cc: {status}"),
            Err(error) => {
                sluicegate_test_support::skipped(&format!("there is no C compiler: {error}"));
                return None;
            }
        }
        fake.script("");
        Some(fake)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn library(&self) -> OsString {
        self.file("libnvidia-ml.so.1").into()
    }

    /// Replaces the script as a whole, so that no call reads half of it.
    fn script(&self, lines: &str) {
        fs::write(self.file("new"), lines.replace(' ', "\n")).expect("script");
        fs::rename(self.file("new"), self.file("control")).expect("script");
    }

    /// `i` for each init and `s` for each shutdown.
    fn calls(&self) -> String {
        fs::read_to_string(self.file("control.log")).unwrap_or_default()
    }

    fn open(&self) -> Result<Nvml, ProbeError> {
        Nvml::open(Some(&self.library()))
    }

    /// A sample `seconds` after the start.
    fn at(&self, nvml: &mut Nvml, seconds: u32) -> Result<Vec<Gpu>, ProbeError> {
        nvml.sample_at(self.now + SECOND * seconds)
    }
}

fn ids(gpus: &[Gpu]) -> Vec<&str> {
    gpus.iter().map(|gpu| gpu.id.as_str()).collect()
}

fn lost(sample: Result<Vec<Gpu>, ProbeError>) -> String {
    match sample {
        Err(ProbeError::Lost(why)) => why,
        other => panic!("not lost: {other:?}"),
    }
}

#[test]
fn reads_all_values_of_two_gpus() {
    let Some(fake) = Fake::new(&[]) else { return };
    let mut nvml = fake.open().expect("opens");
    let gpus = nvml.sample().expect("two");
    let second = Gpu {
        id: "nvml:1".to_owned(),
        name: "Fake GPU 1".to_owned(),
        uuid: Some("GPU-0000-1".to_owned()),
        memory_total: 24 * GIB,
        memory_used: 2 * GIB + GIB / 2,
        utilization: Some(0.41),
        temperature: Some(61.0),
        power: Some(250.5),
        power_limit: Some(450.0),
        processes: vec![
            Process { pid: 77, memory_used: Some(GIB / 8) },
            Process { pid: 1100, memory_used: Some(GIB) },
        ],
    };
    assert_eq!(gpus.len(), 2);
    assert_eq!(gpus[1], second);
    assert_eq!(nvml.left_out(), None);
    drop(nvml);
    assert_eq!(fake.calls(), "is");
}

#[test]
fn what_is_not_supported_is_none_and_not_zero() {
    let Some(fake) = Fake::new(&[]) else { return };
    fake.script("utilization=3 temperature=3 power=3 limit=3 uuid=3 processes=2 pid_memory=0");
    let gpus = fake.open().expect("opens").sample().expect("two");
    let Gpu { uuid, utilization, temperature, power, power_limit, processes, .. } = &gpus[0];
    assert_eq!(uuid, &None);
    assert_eq!([utilization, temperature, power, power_limit], [&None; 4]);
    let memory: Vec<_> = processes.iter().map(|one| (one.pid, one.memory_used)).collect();
    // The second list knew the memory of 1000, the first did not.
    assert_eq!(memory, [(77, Some(GIB / 8)), (1000, Some(GIB / 4)), (1001, None)]);
}

#[test]
fn processes_that_start_meanwhile_are_read_with_a_second_try() {
    let Some(fake) = Fake::new(&[]) else { return };
    fake.script("count=1 processes=1 grow=1");
    let mut nvml = fake.open().expect("opens");
    let gpus = nvml.sample().expect("one");
    let known = Process { pid: 1000, memory_used: Some(GIB) };
    assert!(gpus[0].processes.contains(&known), "from the list of those that compute");
    fake.script("count=1 processes=400");
    let gpus = nvml.sample().expect("one");
    assert_eq!(gpus[0].processes.len(), super::super::MAX_PROCESSES);
    fake.script("count=1 processes=0");
    assert_eq!(nvml.sample().expect("one")[0].processes.len(), 2, "those that draw");
}

#[test]
fn absence_is_normal() {
    let missing = Nvml::open(Some(OsStr::new("/nonexistent/libnvidia-ml.so.1")));
    assert!(matches!(missing, Err(ProbeError::Absent(_))));
    let Some(fake) = Fake::new(&[]) else { return };
    for script in ["init=9", "count=0"] {
        fake.script(script);
        assert!(matches!(fake.open(), Err(ProbeError::Absent(_))), "{script}");
    }
    fake.script("init=18");
    assert!(matches!(fake.open(), Err(ProbeError::Failed(_))), "an upgraded driver is told");
}

#[test]
fn a_library_without_shutdown_is_refused_and_harmless() {
    let Some(fake) = Fake::new(&["-DNO_SHUTDOWN"]) else { return };
    assert!(matches!(fake.open(), Err(ProbeError::Failed(_))));
}

#[test]
fn a_driver_that_refuses_at_start_is_asked_again() {
    let Some(fake) = Fake::new(&[]) else { return };
    fake.script("init=18");
    let mut nvml = Nvml::closed(Some(&fake.library()));
    assert!(matches!(fake.at(&mut nvml, 0), Err(ProbeError::Failed(_))));
    fake.script("");
    assert!(matches!(fake.at(&mut nvml, 0), Err(ProbeError::Failed(_))), "not at once");
    assert_eq!(fake.at(&mut nvml, 1).expect("two").len(), 2);
}

#[test]
fn one_lost_gpu_leaves_the_other() {
    let Some(fake) = Fake::new(&[]) else { return };
    let mut nvml = fake.open().expect("opens");
    fake.at(&mut nvml, 0).expect("two");
    fake.script("lost=1");
    assert_eq!(ids(&fake.at(&mut nvml, 0).expect("one")), ["nvml:0"]);
    let told = nvml.left_out().expect("told");
    assert!(told.starts_with("nvml:1: device fell off the bus"), "{told}");
    fake.script("");
    assert_eq!(ids(&fake.at(&mut nvml, 0).expect("both")), ["nvml:0", "nvml:1"]);
    assert_eq!(nvml.left_out(), None);
}

#[test]
fn the_only_gpu_lost_is_looked_for_with_new_sessions() {
    let Some(fake) = Fake::new(&[]) else { return };
    fake.script("count=1");
    let mut nvml = fake.open().expect("opens");
    fake.at(&mut nvml, 0).expect("one");
    fake.script("count=1 lost=0");
    for second in 0..=3 {
        lost(fake.at(&mut nvml, second));
    }
    assert_eq!(fake.calls(), "isisi", "after 1 s and 2 s more");
    fake.script("count=1");
    assert_eq!(fake.at(&mut nvml, 4).expect("back").len(), 1);
    fake.at(&mut nvml, 100).expect("still there");
    assert_eq!(fake.calls(), "isisi", "a session without losses stays");
}

#[test]
fn a_gpu_keeps_its_number_when_one_before_it_is_gone() {
    let Some(fake) = Fake::new(&[]) else { return };
    let mut nvml = fake.open().expect("opens");
    fake.at(&mut nvml, 0).expect("two");
    fake.script("count=1 first=1");
    let gpus = fake.at(&mut nvml, 1).expect("the second");
    assert_eq!((ids(&gpus), gpus[0].name.as_str()), (vec!["nvml:1"], "Fake GPU 1"));
    assert_eq!(nvml.left_out().as_deref(), Some("nvml:0: the driver no longer has it"));
    fake.script("count=3");
    let gpus = fake.at(&mut nvml, 2).expect("three");
    assert_eq!(ids(&gpus), ["nvml:0", "nvml:1", "nvml:2"]);
}

#[test]
fn a_driver_restart_is_survived_whatever_calls_say_meanwhile() {
    for stale in [1, 9, 18, 999] {
        let Some(fake) = Fake::new(&[]) else { return };
        let mut nvml = fake.open().expect("opens");
        fake.at(&mut nvml, 0).expect("two");
        fake.script(&format!("epoch=2 stale={stale} init=9"));
        lost(fake.at(&mut nvml, 1));
        assert_eq!(fake.calls(), "is", "shut down at once");
        let first = lost(fake.at(&mut nvml, 2));
        assert!(first.contains("driver is not loaded"), "{first}");
        assert_eq!(lost(fake.at(&mut nvml, 3)), first, "the reason does not flicker");
        fake.script("epoch=2");
        lost(fake.at(&mut nvml, 3));
        assert_eq!(fake.at(&mut nvml, 4).expect("back").len(), 2);
        assert_eq!(fake.calls(), "isi");
    }
}

#[test]
fn a_driver_that_stays_away_is_asked_less_and_less() {
    let Some(fake) = Fake::new(&[]) else { return };
    let mut nvml = fake.open().expect("opens");
    fake.at(&mut nvml, 0).expect("two");
    // It can be opened and is of no use, so that each try leaves a trace.
    fake.script("init=0 epoch=1 memory=999");
    for second in 0..600 {
        lost(fake.at(&mut nvml, second));
    }
    // 1, 2, 4, 8, 16, 32 seconds, then once a minute.
    assert_eq!(fake.calls().matches('i').count(), 1 + 6 + 8);
    assert_eq!(fake.calls().matches('s').count(), 1 + 6 + 8, "each is shut down");
}

#[test]
fn one_gpu_with_an_unknown_error_does_not_end_the_session() {
    let Some(fake) = Fake::new(&[]) else { return };
    fake.script("broken=0");
    let mut nvml = fake.open().expect("opens");
    for second in 0..5 {
        assert_eq!(ids(&fake.at(&mut nvml, second).expect("one")), ["nvml:1"]);
        assert_eq!(nvml.left_out().as_deref(), Some("nvml:0: an internal driver error occurred"));
    }
    assert_eq!(fake.calls(), "i");
}

#[test]
fn a_gpu_this_container_was_not_given_is_no_problem() {
    let Some(fake) = Fake::new(&[]) else { return };
    fake.script("denied=0");
    let mut nvml = fake.open().expect("opens");
    for second in 0..5 {
        assert_eq!(ids(&fake.at(&mut nvml, second).expect("one")), ["nvml:1"]);
        assert_eq!(nvml.left_out(), None);
    }
    assert_eq!(fake.calls(), "i");
}

#[test]
fn in_mig_mode_the_devices_are_shown_and_not_the_whole() {
    let Some(fake) = Fake::new(&[]) else { return };
    fake.script("mig=0 instances=2");
    let mut nvml = fake.open().expect("opens");
    let gpus = nvml.sample().expect("three");
    assert_eq!(ids(&gpus), ["nvml:0/mig:0", "nvml:0/mig:2", "nvml:1"]);
    assert_eq!(gpus[1].uuid.as_deref(), Some("MIG-0000-0-2"));
    assert_eq!(gpus[1].memory_total, 5 * GIB);
    assert_eq!((gpus[1].utilization, gpus[1].power), (None, None));
    assert_eq!(gpus[1].temperature, Some(60.0), "the die's");
    assert_eq!(nvml.left_out(), None);
    fake.script("mig=0 instances=0");
    assert_eq!(ids(&nvml.sample().expect("one")), ["nvml:1"]);
    let told = nvml.left_out().expect("told");
    assert_eq!(told, "nvml:0: in MIG mode without a MIG device");
}

#[test]
fn a_gpu_without_memory_of_its_own_is_left_out_with_a_reason() {
    for script in ["memory=3", "integrated=1"] {
        let Some(fake) = Fake::new(&[]) else { return };
        fake.script(&format!("count=1 {script}"));
        let mut nvml = fake.open().expect("opens");
        assert_eq!(nvml.sample(), Ok(vec![]));
        assert!(nvml.left_out().is_some_and(|told| told.contains("shares")));
        assert_eq!(fake.calls(), "i", "the session goes on");
    }
}

#[test]
fn more_gpus_than_the_bound_are_not_read() {
    let Some(fake) = Fake::new(&[]) else { return };
    fake.script("count=70 processes=0");
    assert_eq!(fake.open().expect("opens").sample().expect("many").len(), MAX_GPUS);
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < SECOND * 20, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_library_that_hangs_is_seen_by_age_and_not_by_waiting() {
    let Some(fake) = Fake::new(&[]) else { return };
    fake.script("sleep_ms=1000 count=1");
    let start = Instant::now();
    let sampler = Sampler::detect(Options {
        interval: Duration::from_millis(10),
        nvml_library: Some(fake.library()),
        amdgpu_root: test_data::file("amdgpu"),
        ..Options::default()
    });
    assert!(start.elapsed() < Duration::from_millis(800), "the first look waits for nobody either");
    assert_eq!(sampler.status(), Status::Detecting);
    fake.script("count=1");
    eventually("GPUs of both kinds", || sampler.status() == Status::Sampling);
    let found = ["nvml:0", "amdgpu:card1", "amdgpu:card10"];
    assert_eq!(ids(&sampler.latest().gpus), found);
    fake.script("sleep_ms=2000 count=1");
    eventually("an old sample", || sampler.age().is_some_and(|age| age > SECOND));
    assert_eq!(sampler.within(SECOND), None);
    assert_eq!(ids(&sampler.latest().gpus), found);
    fake.script("count=1");
    eventually("a fresh one", || sampler.within(SECOND / 2).is_some());
}

#[test]
fn a_processor_with_graphics_is_left_out_beside_an_nvidia_gpu() {
    let Some(fake) = Fake::new(&[]) else { return };
    let sampler = Sampler::detect(Options {
        interval: Duration::from_millis(10),
        nvml_library: Some(fake.library()),
        amdgpu_root: test_data::file("amdgpu-integrated"),
        ..Options::default()
    });
    eventually("a sample", || sampler.status() == Status::Sampling);
    assert_eq!(ids(&sampler.latest().gpus), ["nvml:0", "nvml:1"]);
    assert_eq!(sampler.latest().problem, None);
}
