//! The file that what was learned is kept in: JSON with a version, replaced as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Facts, Inner, Key, MAX_BYTES, MAX_PINS, is_key, is_name, measure, unix_now};

/// Files of another version are set aside, not guessed at.
const VERSION: u32 = 1;
/// Bytes of a file; a full one has about a third of this.
const MAX_FILE: u64 = 4 << 20;
/// Which models people use is nobody else's business.
const FILE_MODE: u32 = 0o600;
/// The same for a directory that is made here; one that exists keeps its mode.
const DIRECTORY_MODE: u32 = 0o700;

/// What the file says. Fields that are not named here are ignored.
#[derive(Debug, Deserialize, Serialize)]
struct Document {
    version: u32,
    #[serde(default)]
    models: Vec<Model>,
    /// Models by upstream.
    #[serde(default)]
    pins: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Model {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    facts: Facts,
}

/// Reads a file: what it has, whether it may be overwritten, and a warning if not all is well.
pub(super) fn open(path: &Path) -> (Inner, bool, Option<String>) {
    remove_leftovers(path);
    let shown = path.display();
    let problem = match read(path) {
        Ok(None) => return (Inner::default(), true, None),
        Ok(Some(document)) => {
            let (inner, dropped) = accept(document);
            let warning = format!("{dropped} entries of {shown} cannot be true and were dropped");
            return (inner, true, (dropped > 0).then_some(warning));
        }
        Err(problem) => problem,
    };
    let bad = beside(path, ".bad");
    let (keeps, outcome) = match set_aside(path, &bad) {
        Ok(()) => (true, format!("was set aside as {}", bad.display())),
        Err(cause) => (false, format!("cannot be set aside ({cause}): nothing is kept")),
    };
    (Inner::default(), keeps, Some(format!("{shown} cannot be used ({problem}) and {outcome}")))
}

fn read(path: &Path) -> io::Result<Option<Document>> {
    match fs::metadata(path) {
        // Reading from a pipe would wait for ever.
        Ok(found) if !found.is_file() => return Err(io::Error::other("not a regular file")),
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Ok(_) | Err(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("too large"));
    }
    let document: Document = serde_json::from_slice(&bytes)?;
    if document.version != VERSION {
        return Err(io::Error::other(format!("of version {}, not {VERSION}", document.version)));
    }
    Ok(Some(document))
}

/// A directory or a device that is named by mistake is left where it is.
fn set_aside(path: &Path, bad: &Path) -> io::Result<()> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    fs::rename(path, bad)
}

/// What can be true of a document, and how many entries cannot.
fn accept(document: Document) -> (Inner, usize) {
    let (mut inner, mut dropped, now) = (Inner::default(), 0, unix_now());
    for Model { key, mut facts } in document.models {
        // From a clock that was wrong; it would never be the longest unseen.
        facts.seen_unix = facts.seen_unix.min(now);
        if is_key(&key) && can_be_true(&facts) {
            inner.put(key, facts);
        } else {
            dropped += 1;
        }
    }
    let mut left = MAX_PINS;
    for (upstream, models) in document.pins {
        let given = models.len();
        let is_upstream = is_name(&upstream);
        let good = models.into_iter().filter(|model| is_upstream && is_name(model)).take(left);
        let good: BTreeSet<_> = good.collect();
        left -= good.len();
        dropped += given - good.len();
        if !good.is_empty() {
            inner.pins.insert(upstream, good);
        }
    }
    (inner, dropped)
}

fn can_be_true(facts: &Facts) -> bool {
    let measures = [facts.load_seconds, facts.decode_per_second, facts.prompt_per_second];
    is_name(&facts.name)
        && facts.vram.max(facts.size).max(facts.probe_delta.unwrap_or(0)) <= MAX_BYTES
        && measures.into_iter().all(|value| measure(value) == value)
}

/// Writes all of it to a temporary file and puts that in the place of the old one.
pub(super) fn write(
    path: &Path,
    models: Vec<(Key, Facts)>,
    pins: BTreeMap<String, BTreeSet<String>>,
) -> io::Result<()> {
    let models = models.into_iter().map(|(key, facts)| Model { key, facts }).collect();
    let bytes = serde_json::to_vec(&Document { version: VERSION, models, pins })?;
    let directory = directory(path);
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    let temporary = beside(path, &format!(".{}.tmp", std::process::id()));
    let done = write_new(&temporary, &bytes).and_then(|()| fs::rename(&temporary, path));
    if done.is_err() {
        // What failed is told; that the rest of it cannot be removed adds nothing.
        let _ = fs::remove_file(&temporary);
        return done;
    }
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cause),
        Ok(()) | Err(_) => {}
    }
    // It must not exist: no link that was put there is followed.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes the temporary files of processes that were killed while they wrote. Should one of them
/// still write, its save fails and is tried again.
fn remove_leftovers(path: &Path) {
    let Some(name) = path.file_name() else { return };
    let Ok(entries) = fs::read_dir(directory(path)) else { return };
    for entry in entries.flatten() {
        if is_temporary(name, &entry.file_name()) {
            // One that cannot be removed harms nobody.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether it is `NAME.PID.tmp`.
fn is_temporary(name: &OsStr, candidate: &OsStr) -> bool {
    let candidate = candidate.as_encoded_bytes();
    let middle = candidate.strip_prefix(name.as_encoded_bytes());
    let pid = middle.and_then(|rest| rest.strip_prefix(b".")?.strip_suffix(b".tmp"));
    pid.is_some_and(|pid| !pid.is_empty() && pid.iter().all(u8::is_ascii_digit))
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}
