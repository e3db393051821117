//! Opening a store: reads every segment, cuts what is torn, drops what is dead.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::index::{Index, Slot, State};
use super::record::{Header, Kind};
use super::segment::{self, Position, Segment};
use super::{EmbedderId, Key, Limits, MAX_SEGMENT_BYTES, SEGMENTS_OF_ENTRIES, Scope, Store, disk};

/// The file whose lock says that a process has the store.
const LOCK: &str = "lock";
/// Where compaction writes before it renames; what is left of one is removed.
pub(super) const UNFINISHED: &str = "compact.tmp";

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another process uses the cache in {}", .0.display())]
    Locked(PathBuf),
    /// The disk failed.
    #[error("cannot open the cache in {}: {source}", .dir.display())]
    Io {
        /// The directory of the store.
        dir: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// An entry that was found; its answer stays on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The exact key of the request.
    pub key: Key,
    /// The hard partition it belongs to.
    pub scope: Scope,
    /// Which embedder made the vector.
    pub embedder: EmbedderId,
    /// The embedding.
    pub vector: Vec<f32>,
    /// The text the guard compares.
    pub text: String,
    /// When it was written, in Unix seconds.
    pub stored: u64,
    /// When it is no longer served, in Unix seconds.
    pub expires: u64,
}

/// What was found and not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Records that have expired.
    pub expired: usize,
    /// Records replaced by a newer one of their key.
    pub replaced: usize,
    /// Delete records.
    pub deletes: usize,
    /// Entries dropped for a bound.
    pub evicted: usize,
    /// Segments with a torn or damaged record.
    pub cut_segments: usize,
    /// Bytes from the first bad record of a segment to its end.
    pub cut_bytes: u64,
}

/// What a store held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Entries that are served, oldest first.
    pub entries: Vec<Entry>,
    /// What was not kept.
    pub dropped: Dropped,
}

impl Store {
    /// Opens the store in a directory, made with mode 0700 when it is missing. `now` is in Unix
    /// seconds.
    ///
    /// # Errors
    /// When another process has it, or the disk fails. Damaged records are no error: see
    /// [`Dropped`].
    pub fn open(dir: &Path, limits: Limits, now: u64) -> Result<(Store, Loaded), OpenError> {
        let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
        disk::create_directory(dir).map_err(failed)?;
        let lock = disk::open_lock(&dir.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        open(dir, lock, limits, now).map_err(failed)
    }
}

fn open(dir: &Path, lock: File, limits: Limits, now: u64) -> io::Result<(Store, Loaded)> {
    disk::remove(&dir.join(UNFINISHED))?;
    let mut loader = Loader { max_age: limits.max_age.as_secs(), now, ..Loader::default() };
    let mut sealed = Vec::new();
    for id in segment_ids(dir)? {
        sealed.push(loader.read(dir, id)?);
    }
    let created = sealed.is_empty();
    let active = match sealed.pop() {
        Some(last) => loader.cut(last)?,
        None => Segment::new(1, disk::create(&segment::path(dir, 1))?),
    };
    let Loader { index, entries, dropped, .. } = loader;
    let mut store = Store {
        dir: dir.to_owned(),
        _lock: lock,
        limits: effective(limits),
        segment_records: (limits.entries / SEGMENTS_OF_ENTRIES).max(1),
        sealed,
        active,
        bytes: 0,
        index,
        torn: false,
        unsynced: Vec::new(),
        created,
        undeleted: Vec::new(),
        evicted: Vec::new(),
    };
    store.count_bytes();
    store.index.expire(now, store.oldest());
    store.make_room(0, 0)?;
    let loaded = finish(&mut store, entries, dropped);
    Ok((store, loaded))
}

/// Limits that work together: enough segments to drop one, few enough to hold them open.
fn effective(limits: Limits) -> Limits {
    let (least, most) = (limits.bytes / 64, limits.bytes / 4);
    let segment_bytes = limits.segment_bytes.clamp(least, most).min(MAX_SEGMENT_BYTES);
    Limits { segment_bytes, entries: limits.entries.max(1), ..limits }
}

/// The entries that were not evicted, in the order they were written.
fn finish(store: &mut Store, mut entries: HashMap<Key, Entry>, mut dropped: Dropped) -> Loaded {
    for key in store.take_evicted() {
        dropped.evicted += 1;
        entries.remove(&key);
    }
    let place = |entry: &Entry| store.index.get(&entry.key).map(|slot| slot.position);
    let mut entries: Vec<Entry> = entries.into_values().collect();
    entries.sort_by_cached_key(place);
    Loaded { entries, dropped }
}

/// The numbers of the segments in a directory, oldest first. Links and other files are left alone.
fn segment_ids(dir: &Path) -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            ids.extend(entry.file_name().to_str().and_then(segment::id));
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

#[derive(Default)]
struct Loader {
    now: u64,
    max_age: u64,
    index: Index,
    entries: HashMap<Key, Entry>,
    dropped: Dropped,
    /// Where the last segment that was read has its first bad record, when it has one.
    bad: Option<u64>,
}

impl Loader {
    fn read(&mut self, dir: &Path, id: u32) -> io::Result<Segment> {
        let file = disk::open(&segment::path(dir, id))?;
        let found = segment::scan(&file, id, |header, bytes, position| match header.kind {
            Kind::Put => self.put(header, bytes, position),
            Kind::Delete => self.delete(header, position),
        })?;
        let torn = found.length - found.good;
        self.bad = (torn > 0).then_some(found.good);
        self.dropped.cut_segments += usize::from(torn > 0);
        self.dropped.cut_bytes += torn;
        let mut segment = Segment::new(id, file);
        segment.bytes = found.length;
        segment.records = found.records;
        Ok(segment)
    }

    /// The last segment is written to again, so what is bad in it must go. Earlier ones stay as they
    /// are: compaction or a bound will have them.
    fn cut(&self, mut last: Segment) -> io::Result<Segment> {
        if let Some(good) = self.bad {
            disk::cut(&last.file, good)?;
            disk::sync(&last.file)?;
            last.bytes = good;
        }
        Ok(last)
    }

    fn put(&mut self, header: &Header, bytes: &[u8], position: Position) -> bool {
        let (Some(vector), Some(text)) = (header.vector(bytes), header.text(bytes)) else {
            return false;
        };
        // A clock that was ahead when this was written must not keep it for ever.
        let oldest = header.stored.min(self.now).saturating_add(self.max_age);
        let expires = header.expires.min(oldest);
        let Header { key, scope, embedder, stored, .. } = *header;
        self.dropped.replaced += usize::from(self.entries.remove(&key).is_some());
        let state = if expires > self.now {
            self.entries.insert(key, Entry { key, scope, embedder, vector, text, stored, expires });
            State::Live
        } else {
            self.dropped.expired += 1;
            State::Dead
        };
        self.index.set(key, Slot { position, state, expires, until: header.expires });
        true
    }

    fn delete(&mut self, header: &Header, position: Position) -> bool {
        self.dropped.deletes += 1;
        self.entries.remove(&header.key);
        let (expires, until) = (0, header.expires);
        self.index.set(header.key, Slot { position, state: State::Dead, expires, until });
        true
    }
}
