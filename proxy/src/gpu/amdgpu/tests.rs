use super::super::test_data::file;
use super::*;

/// Writes a card with `files` below `root`.
fn card(root: &Path, name: &str, files: &[(&str, &str)]) {
    let device = root.join(name).join("device");
    for (file, value) in [("vendor", VENDOR)].iter().chain(files) {
        let path = device.join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        fs::write(path, format!("{value}\n")).expect("file");
    }
}

/// A desktop processor's GPU.
const INTEGRATED: [(&str, &str); 4] = [
    ("mem_info_vram_total", "536870912"),
    ("mem_info_vram_used", "100000000"),
    ("mem_info_gtt_total", "16000000000"),
    ("mem_info_gtt_used", "200000000"),
];
const DISCRETE: [(&str, &str); 2] =
    [("mem_info_vram_total", "17163091968"), ("mem_info_vram_used", "1000")];

#[test]
fn reads_a_desktop_card_and_a_server_card_and_nothing_else() {
    let mut probe = Amdgpu::new(&file("amdgpu"));
    let gpus = probe.sample().expect("two cards");
    assert_eq!(probe.left_out(), None);
    let desktop = Gpu {
        id: "amdgpu:card1".to_owned(),
        name: "AMD GPU 1002:744C".to_owned(),
        uuid: Some("GPU-a1c2d3e4f5061728".to_owned()),
        memory_total: 25_753_026_560,
        memory_used: 8_123_412_480,
        utilization: Some(0.37),
        temperature: Some(54.0),
        power: Some(98.0),
        power_limit: Some(339.0),
        processes: vec![],
    };
    let server = Gpu {
        id: "amdgpu:card10".to_owned(),
        name: "AMD Instinct MI300X".to_owned(),
        uuid: Some("GPU-9f0b7c6d5e4a3b21".to_owned()),
        memory_total: 206_141_652_992,
        memory_used: 187_904_819_200,
        utilization: Some(1.0),
        temperature: Some(83.0),
        power: Some(612.0),
        power_limit: Some(750.0),
        processes: vec![],
    };
    assert_eq!(gpus, [desktop, server]);
}

#[test]
fn what_a_card_does_not_tell_is_none_and_one_without_memory_is_left_out() {
    let mut probe = Amdgpu::new(&file("amdgpu-sparse"));
    let gpus = probe.sample().expect("one card");
    assert_eq!(gpus.len(), 1);
    let Gpu { name, uuid, utilization, temperature, power, power_limit, .. } = &gpus[0];
    assert_eq!((name.as_str(), uuid), ("AMD GPU", &None));
    assert_eq!([utilization, temperature, power, power_limit], [&None; 4]);
    assert_eq!(probe.left_out().as_deref(), Some("amdgpu:card1: tells no memory size"));
}

#[test]
fn cards_are_in_the_order_of_their_numbers() {
    let root = tempfile::tempdir().expect("directory");
    for number in (0..12).rev() {
        card(root.path(), &format!("card{number}"), &DISCRETE);
    }
    let gpus = Amdgpu::new(root.path()).sample().expect("twelve");
    let ids: Vec<String> = (0..12).map(|number| format!("amdgpu:card{number}")).collect();
    assert_eq!(gpus.into_iter().map(|gpu| gpu.id).collect::<Vec<_>>(), ids);
}

#[test]
fn no_card_is_normal() {
    let empty = tempfile::tempdir().expect("directory");
    let roots = [empty.path().to_owned(), "/nonexistent".into(), file("amdgpu/version")];
    for root in roots {
        assert!(matches!(Amdgpu::new(&root).sample(), Err(ProbeError::Absent(_))), "{root:?}");
    }
}

#[test]
fn an_integrated_gpu_has_the_memory_it_shares() {
    let root = file("amdgpu-integrated");
    let gpus = Amdgpu::new(&root).sample().expect("one");
    let Gpu { memory_total, memory_used, power, .. } = &gpus[0];
    assert_eq!((*memory_total, *memory_used), (17_150_492_672, 46_305_280));
    assert_eq!(*power, Some(13.136), "it has no average");
    let other = Amdgpu::new(&root).without_integrated().sample();
    assert!(matches!(other, Err(ProbeError::Absent(_))));
}

#[test]
fn an_integrated_gpu_beside_another_is_left_out_silently() {
    let root = tempfile::tempdir().expect("directory");
    card(root.path(), "card0", &INTEGRATED);
    let mut probe = Amdgpu::new(root.path());
    assert_eq!(probe.sample().expect("one").len(), 1);
    card(root.path(), "card1", &DISCRETE);
    let gpus = probe.sample().expect("one");
    assert_eq!(gpus.iter().map(|gpu| gpu.id.as_str()).collect::<Vec<_>>(), ["amdgpu:card1"]);
    assert_eq!(probe.left_out(), None);
}

#[test]
fn a_card_that_is_gone_is_told_and_comes_back() {
    let root = tempfile::tempdir().expect("directory");
    card(root.path(), "card0", &DISCRETE);
    card(root.path(), "card1", &DISCRETE);
    let mut probe = Amdgpu::new(root.path());
    assert_eq!(probe.sample().expect("both").len(), 2);
    fs::remove_dir_all(root.path().join("card1")).expect("removed");
    assert_eq!(probe.sample().expect("the other").len(), 1);
    assert_eq!(probe.left_out().as_deref(), Some("amdgpu:card1: no longer there"));
    fs::remove_file(root.path().join("card0/device/mem_info_vram_used")).expect("removed");
    let Err(ProbeError::Lost(why)) = probe.sample() else { panic!("both are lost") };
    assert_eq!(why, "amdgpu:card0: tells no memory use; amdgpu:card1: no longer there");
    card(root.path(), "card0", &DISCRETE);
    card(root.path(), "card1", &DISCRETE);
    assert_eq!(probe.sample().expect("both").len(), 2);
    assert_eq!(probe.left_out(), None);
}

#[test]
fn values_that_make_no_sense_do_no_harm() {
    let root = tempfile::tempdir().expect("directory");
    let odd = [
        ("mem_info_vram_total", "17163091968"),
        ("mem_info_vram_used", "99999999999999"),
        ("gpu_busy_percent", "250"),
        ("hwmon/hwmon0/temp1_input", "-5000"),
        ("hwmon/hwmon0/power1_average", "many"),
    ];
    card(root.path(), "card0", &odd);
    let gpus = Amdgpu::new(root.path()).sample().expect("one");
    let Gpu { memory_total, memory_used, utilization, temperature, power, .. } = &gpus[0];
    assert_eq!(memory_used, memory_total);
    assert_eq!((utilization, temperature, power), (&Some(1.0), &None, &None));
}

#[test]
fn a_sleeping_gpu_is_not_woken_for_its_sensors() {
    let root = tempfile::tempdir().expect("directory");
    card(root.path(), "card0", &DISCRETE);
    let awake = [
        ("power/runtime_status", "active"),
        ("gpu_busy_percent", "0"),
        ("hwmon/hwmon3/temp1_input", "40000"),
    ];
    card(root.path(), "card0", &awake);
    let mut probe = Amdgpu::new(root.path());
    let gpus = probe.sample().expect("one");
    assert_eq!((gpus[0].utilization, gpus[0].temperature), (Some(0.0), Some(40.0)));
    card(root.path(), "card0", &[("power/runtime_status", "suspended")]);
    let gpus = probe.sample().expect("one");
    assert_eq!((gpus[0].utilization, gpus[0].temperature), (None, None));
    assert_eq!(gpus[0].memory_used, 1000);
}
