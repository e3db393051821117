use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

const GIB: u64 = 1 << 30;

fn key(context: u64) -> Key {
    Key { digest: "sha256:abc".into(), context, parallel: 1 }
}

fn footprint(learned: &Learned, context: u64) -> Option<u64> {
    learned.footprint("sha256:abc", Some(context), 1)
}

fn only(learned: &Learned) -> Facts {
    let mut all = learned.all();
    assert_eq!(all.len(), 1);
    all.remove(0).1
}

fn seconds(learned: &Learned, took: u64) {
    learned.loaded(&key(4096), "m", Duration::from_secs(took), None);
}

#[test]
fn a_partly_offloaded_model_is_known_by_its_whole_size() {
    let learned = Learned::in_memory();
    learned.resident(&key(4096), "m", 10 * GIB, 4 * GIB);
    assert_eq!(footprint(&learned, 4096), Some(10 * GIB));
    learned.resident(&key(4096), "m", 12 * GIB, 12 * GIB);
    learned.resident(&key(4096), "m", 10 * GIB, 4 * GIB);
    learned.resident(&key(4096), "m", 10 * GIB, 0);
    assert_eq!(footprint(&learned, 4096), Some(12 * GIB), "never lowered by a partial sighting");
    learned.resident(&key(4096), "m", 11 * GIB, 11 * GIB);
    assert_eq!(footprint(&learned, 4096), Some(11 * GIB), "but by a full one");
}

#[test]
fn loads_and_speeds_are_moving_means() {
    let learned = Learned::in_memory();
    let loaded = |took, delta| {
        learned.loaded(&key(4096), "m", Duration::from_secs(took), delta);
    };
    loaded(10, Some(1000));
    loaded(20, None);
    loaded(20, Some(2000));
    let facts = only(&learned);
    assert_eq!(facts.load_seconds, Some(15.1));
    assert_eq!(facts.probe_delta, Some(1300));
    assert_eq!(learned.load_time("sha256:abc"), Some(Duration::from_secs_f64(15.1)));
    assert_eq!(learned.load_time("sha256:other"), None);
    learned.speed(&key(4096), "m", Some(100.0), None);
    learned.speed(&key(4096), "m", Some(50.0), Some(1000.0));
    let facts = only(&learned);
    assert_eq!((facts.decode_per_second, facts.prompt_per_second), (Some(90.0), Some(1000.0)));
    assert_eq!(facts.samples, 2);
}

#[test]
fn a_speed_is_usual_after_five_answers() {
    let learned = Learned::in_memory();
    for answers in 0..5 {
        assert_eq!(learned.usual_speed(&key(4096)), None, "{answers} answers");
        learned.speed(&key(4096), "m", None, Some(5.0));
        learned.speed(&key(4096), "m", Some(5.0), None);
    }
    assert_eq!(learned.usual_speed(&key(4096)), Some(5.0));
}

#[test]
fn what_cannot_be_true_is_not_learned() {
    let learned = Learned::in_memory();
    for speed in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
        learned.speed(&key(4096), "m", Some(speed), Some(speed));
    }
    learned.speed(&key(4096), "m", None, None);
    learned.resident(&key(4096), "m", 0, 0);
    learned.resident(&key(4096), "m", u64::MAX, 1);
    learned.resident(&key(4096), "m", 1, u64::MAX);
    learned.loaded(&key(4096), "m", Duration::MAX, Some(u64::MAX));
    learned.loaded(&key(4096), "m", Duration::ZERO, Some(0));
    let long = "x".repeat(257);
    for bad in ["", "a\nb", long.as_str()] {
        learned.resident(&key(4096), bad, 1, 1);
        learned.resident(&Key { digest: bad.into(), ..key(4096) }, "m", 1, 1);
    }
    learned.resident(&Key { parallel: 0, ..key(4096) }, "m", 1, 1);
    learned.resident(&key(u64::MAX), "m", 1, 1);
    assert_eq!(learned.all(), []);
}

#[test]
fn a_footprint_is_what_was_seen_or_probed_within_bounds() {
    let learned = Learned::in_memory();
    let probed = |delta| learned.loaded(&key(4096), "m", Duration::ZERO, Some(delta));
    probed(9 * GIB);
    assert_eq!(footprint(&learned, 4096), None, "what grew may have been another's");
    learned.resident(&key(4096), "m", 8 * GIB, 8 * GIB);
    assert_eq!(footprint(&learned, 4096), Some(9 * GIB));
    for _ in 0..50 {
        probed(100 * GIB);
    }
    assert_eq!(footprint(&learned, 4096), Some(12 * GIB), "half more at most");
    for _ in 0..50 {
        probed(GIB);
    }
    assert_eq!(footprint(&learned, 4096), Some(8 * GIB));
    assert_eq!(learned.footprint("sha256:other", Some(4096), 1), None);
}

#[test]
fn an_unseen_context_is_worked_out_from_those_seen() {
    let learned = Learned::in_memory();
    let see = |context, gib| learned.resident(&key(context), "m", gib * GIB, gib * GIB);
    see(8192, 8);
    assert_eq!(footprint(&learned, 8192), Some(8 * GIB));
    assert_eq!(footprint(&learned, 2048), Some(8 * GIB), "never scaled down");
    assert_eq!(footprint(&learned, 16384), Some(9 * GIB), "an eighth of it doubles");
    assert_eq!(learned.footprint("sha256:abc", Some(8192), 2), Some(9 * GIB), "as many tokens");
    assert_eq!(learned.footprint("sha256:abc", Some(4096), 2), Some(8 * GIB), "shared out");
    see(24576, 12);
    assert_eq!(footprint(&learned, 16384), Some(10 * GIB), "between the two");
    assert_eq!(footprint(&learned, 2048), Some(8 * GIB));
    assert_eq!(footprint(&learned, 49152), Some(13 * GIB + GIB / 2));
    for context in [0, 1, u64::MAX] {
        assert!(footprint(&learned, context).is_some(), "{context}");
    }
}

#[test]
fn an_untold_context_is_that_of_the_last_sighting() {
    let learned = Learned::in_memory();
    let see = |context, gib| learned.resident(&key(context), "m", gib * GIB, gib * GIB);
    see(0, 5);
    assert_eq!(footprint(&learned, 4096), Some(5 * GIB), "seen without a context: unscaled");
    see(4096, 6);
    see(131_072, 20);
    learned.inner.lock().models.get_mut(&key(131_072)).expect("seen").seen_unix -= 60;
    assert_eq!(learned.footprint("sha256:abc", None, 1), Some(6 * GIB));
    assert_eq!(learned.footprint("sha256:other", None, 1), None);
}

#[test]
fn estimates_add_a_fifth() {
    assert_eq!(estimate(10 * GIB), 12 * GIB);
    assert_eq!(estimate(u64::MAX), u64::MAX);
}

#[test]
fn the_longest_unseen_makes_room() {
    let learned = Learned::in_memory();
    for context in 0..1024 {
        learned.resident(&key(context), "m", 1, 1);
    }
    learned.inner.lock().models.get_mut(&key(500)).expect("seen").seen_unix -= 60;
    learned.resident(&key(501), "m", 2, 2);
    assert_eq!(learned.all().len(), 1024, "one that is known needs no room");
    learned.resident(&key(9999), "m", 1, 1);
    let contexts: Vec<_> = learned.facts("sha256:abc").iter().map(|(key, _)| key.context).collect();
    assert_eq!(contexts.len(), 1024);
    assert!(contexts.contains(&9999) && !contexts.contains(&500));
    assert!(contexts.is_sorted());
}

#[test]
fn pins_are_kept_by_upstream_and_bounded() {
    let learned = Learned::in_memory();
    assert_eq!(learned.pin("host", "b", true), Ok(()));
    assert_eq!(learned.pin("host", "a", true), Ok(()));
    assert_eq!(learned.pin("host", "a", true), Ok(()));
    assert_eq!(learned.pin("other", "b", false), Ok(()));
    assert_eq!(
        (learned.pins("host"), learned.pins("other")),
        (vec!["a".into(), "b".into()], vec![])
    );
    assert_eq!(learned.pin("host", "a", false), Ok(()));
    assert_eq!(learned.pins("host"), ["b"]);
    for bad in ["", "a\u{7}", &"x".repeat(257)] {
        assert_eq!(learned.pin("host", bad, true), Err(PinError::Name));
        assert_eq!(learned.pin(bad, "m", true), Err(PinError::Name));
    }
    for number in 1..256 {
        assert_eq!(learned.pin(&format!("host {}", number % 3), &number.to_string(), true), Ok(()));
    }
    assert_eq!(learned.pin("host", "one more", true), Err(PinError::TooMany));
    assert_eq!(learned.pin("host", "b", true), Ok(()), "it is pinned already");
    assert_eq!(learned.pin("host", "b", false), Ok(()));
    assert_eq!(learned.pin("host", "one more", true), Ok(()));
}

/// A file with a bit of everything.
fn saved(path: &Path) -> Learned {
    let (learned, warning) = Learned::open(path.to_owned());
    assert_eq!(warning, None);
    learned.resident(&key(4096), "müsli \"quoted\":7b", 8 * GIB, 8 * GIB);
    learned.loaded(&key(4096), "müsli \"quoted\":7b", Duration::from_millis(1234), Some(9 * GIB));
    learned.speed(&key(4096), "müsli \"quoted\":7b", Some(0.1 + 0.2), Some(1e5 / 3.0));
    learned.resident(&key(8192), "other:latest", GIB, 0);
    learned.pin("host", "other:latest", true).expect("pinned");
    assert!(learned.save().expect("saved"));
    learned
}

#[test]
fn what_was_learned_outlives_the_process() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("state/deep/learned.json");
    let before = saved(&path);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().expect("parent"))), (0o600, 0o700));
    assert_eq!(fs::read_dir(path.parent().expect("parent")).expect("list").count(), 1);
    let (after, warning) = Learned::open(path);
    assert_eq!(warning, None);
    assert_eq!(after.all(), before.all());
    assert_eq!(after.pins("host"), ["other:latest"]);
    assert!(!after.save().expect("nothing to save"));
}

#[test]
fn only_news_are_written() {
    let directory = tempfile::tempdir().expect("directory");
    let learned = saved(&directory.path().join("learned.json"));
    // Not in the last moment of an hour, in which the next sighting would be news.
    for facts in learned.inner.lock().models.values_mut() {
        facts.seen_unix += SEEN_STEP;
    }
    let see = |vram| learned.resident(&key(8192), "other:latest", GIB, vram);
    assert!(!learned.save().expect("nothing to save"));
    see(0);
    learned.speed(&key(8192), "other:latest", None, None);
    learned.pin("host", "other:latest", true).expect("pinned");
    assert!(!learned.save().expect("nothing to save"));
    see(GIB);
    see(2 * GIB);
    assert!(learned.save().expect("saved"));
    learned.inner.lock().models.get_mut(&key(8192)).expect("seen").seen_unix -= 3 * SEEN_STEP;
    see(2 * GIB);
    assert!(learned.save().expect("saved"), "one that is still seen must not look forgotten");
    learned.pin("host", "other:latest", false).expect("unpinned");
    assert!(learned.save().expect("saved"));
    assert!(!Learned::in_memory().save().expect("nowhere to save"));
}

#[test]
fn a_file_cut_off_anywhere_is_set_aside() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("learned.json");
    saved(&path);
    let whole = fs::read(&path).expect("file");
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).expect("cut");
        let (learned, warning) = Learned::open(path.clone());
        let warning = warning.expect("a warning");
        assert!(warning.contains("learned.json.bad"), "{warning}");
        assert_eq!((learned.all(), learned.pins("host")), (vec![], vec![]));
        assert_eq!(fs::read(directory.path().join("learned.json.bad")).expect("bad").len(), length);
        assert!(!path.exists());
    }
    saved(&path);
}

#[test]
fn a_damaged_file_never_panics_nor_yields_what_cannot_be_true() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("learned.json");
    saved(&path);
    let whole = fs::read(&path).expect("file");
    for at in 0..whole.len() {
        for flip in [1, 2, 0x10, 0x80] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            fs::write(&path, damaged).expect("damaged");
            let (learned, _) = Learned::open(path.clone());
            for (key, facts) in learned.all() {
                assert!(is_key(&key) && is_name(&facts.name) && facts.vram <= MAX_BYTES);
                assert!(facts.decode_per_second.is_none_or(|speed| measure(Some(speed)).is_some()));
                assert!(facts.seen_unix <= unix_now());
            }
        }
    }
}

#[test]
fn an_unfinished_write_leaves_the_old_file() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("learned.json");
    let before = saved(&path);
    let killed = directory.path().join("learned.json.4194304.tmp");
    let [foreign, other] =
        ["learned.json.old.tmp", "mylearned.json.1.tmp"].map(|name| directory.path().join(name));
    for file in [&killed, &foreign, &other] {
        fs::write(file, "{\"vers").expect("written");
    }
    let (learned, warning) = Learned::open(path.clone());
    assert_eq!((learned.all(), warning), (before.all(), None));
    assert!(!killed.exists() && foreign.exists() && other.exists());
    // One of this process's own number, as after a restart in a container; and a link at that.
    let own = directory.path().join(format!("learned.json.{}.tmp", std::process::id()));
    symlink(&foreign, &own).expect("link");
    seconds(&learned, 5);
    assert!(learned.save().expect("saved"));
    assert_eq!(fs::read(&foreign).expect("not followed"), b"{\"vers");
    assert_eq!(Learned::open(path).0.all(), learned.all());
}

#[test]
fn a_save_that_fails_is_tried_again() {
    let directory = tempfile::tempdir().expect("directory");
    let blocker = directory.path().join("state");
    let (learned, warning) = Learned::open(blocker.join("learned.json"));
    assert_eq!(warning, None);
    seconds(&learned, 5);
    fs::write(&blocker, "a file where the directory should be").expect("written");
    assert!(learned.save().is_err());
    assert!(learned.save().is_err(), "still to be saved");
    fs::remove_file(&blocker).expect("removed");
    assert!(learned.save().expect("saved"));
    assert!(!learned.save().expect("nothing to save"));
}

#[test]
fn entries_that_cannot_be_true_are_dropped_and_others_kept() {
    let good = r#"{"digest":"d","context":1,"parallel":1,"name":"n","vram":5,"size":5,
        "seen_unix":99999999999,"of_a_later_version":[1]}"#;
    let bad = [
        r#"{"digest":"","context":1,"parallel":1,"name":"n","vram":5,"size":5,"seen_unix":1}"#,
        r#"{"digest":"d","context":2,"parallel":1,"name":"","vram":5,"size":5,"seen_unix":1}"#,
        r#"{"digest":"d","context":3,"parallel":0,"name":"n","vram":5,"size":5,"seen_unix":1}"#,
        r#"{"digest":"d","context":4,"parallel":1,"name":"n","vram":99999999999999999,"size":5,
            "seen_unix":1}"#,
        r#"{"digest":"d","context":5,"parallel":1,"name":"n","vram":5,"size":5,"seen_unix":1,
            "decode_per_second":-3}"#,
    ];
    let text = format!(
        r#"{{"version":1,"new":0,"models":[{},{good}],"pins":{{"host":["m","a\nb"],"":["x"]}}}}"#,
        bad.join(",")
    );
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("learned.json");
    fs::write(&path, text).expect("written");
    let (learned, warning) = Learned::open(path.clone());
    let warning = warning.expect("a warning");
    assert!(warning.starts_with("7 entries of "), "{warning}");
    assert_eq!(only(&learned).vram, 5);
    assert!(only(&learned).seen_unix <= unix_now(), "not from the future");
    assert_eq!(learned.pins("host"), ["m"]);
    assert!(path.exists());
}

#[test]
fn a_file_with_too_much_is_cut_to_the_bounds() {
    let row = |context| {
        format!(
            r#"{{"digest":"d","context":{context},"parallel":1,"name":"n","vram":5,"size":5,
                "seen_unix":{context}}}"#
        )
    };
    let rows: Vec<_> = (0..1100).map(row).collect();
    let pins: Vec<_> = (0..300).map(|number| format!("\"m{number}\"")).collect();
    let (rows, pins) = (rows.join(","), pins.join(","));
    let text = format!(r#"{{"version":1,"models":[{rows}],"pins":{{"a":["m"],"b":[{pins}]}}}}"#);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("learned.json");
    fs::write(&path, text).expect("written");
    let (learned, _) = Learned::open(path);
    assert_eq!((learned.all().len(), learned.pins("b").len()), (1024, 255));
    assert_eq!(learned.all()[0].0.context, 76, "the longest unseen are left out");
}

#[test]
fn a_full_store_can_be_read_back() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("learned.json");
    let (learned, _) = Learned::open(path.clone());
    // Quotes take two bytes in the file.
    let name = "\"".repeat(256);
    for context in 0..1024 {
        let key = Key { digest: name.clone(), context: MAX_CONTEXT - context, parallel: 1 };
        learned.resident(&key, &name, MAX_BYTES, MAX_BYTES);
        learned.speed(&key, &name, Some(1e6 / 3.0), Some(1e6 / 3.0));
    }
    for number in 0..256 {
        let upstream = format!("{number:03}{}", "\"".repeat(253));
        learned.pin(&upstream, &name, true).expect("pinned");
    }
    assert!(learned.save().expect("saved"));
    let (again, warning) = Learned::open(path);
    assert_eq!((again.all() == learned.all(), warning), (true, None));
}

#[test]
fn what_is_no_file_of_ours_is_set_aside_or_left_alone() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("learned.json");
    let bad = directory.path().join("learned.json.bad");
    for text in [r#"{"version":2,"models":[]}"#, "[]", "null", r#"{"models":[]}"#] {
        fs::write(&path, text).expect("written");
        let (learned, warning) = Learned::open(path.clone());
        assert!(warning.is_some(), "{text}");
        assert_eq!(fs::read_to_string(&bad).expect("set aside"), text);
        seconds(&learned, 5);
        assert!(learned.save().expect("saved"), "and it goes on");
    }
    fs::write(&path, " ".repeat(5 << 20)).expect("written");
    assert!(Learned::open(path.clone()).1.expect("a warning").contains("too large"));
    fs::create_dir(&path).expect("directory");
    let (learned, warning) = Learned::open(path.clone());
    let warning = warning.expect("a warning");
    assert!(warning.contains("(not a regular file) and"), "not even opened: {warning}");
    assert!(warning.contains("nothing is kept"), "{warning}");
    seconds(&learned, 5);
    assert!(!learned.save().expect("nowhere to save"));
    assert!(path.is_dir());
}
