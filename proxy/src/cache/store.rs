//! Cached answers on disk: append-only segments of checksummed records.
//!
//! Of each key the newest record counts. What is dead is dropped when the store is opened or
//! compacted; what is too much goes with the oldest segment, whole.
//!
//! Invariants: a torn or damaged record is never given out, and all after it in its segment is cut;
//! an answer that was deleted or replaced does not come back, unless damage took the record that
//! said so. What was appended survives the end of the process at once, and a power cut once
//! [`Store::sync`] has returned.
//!
//! It is synchronous, has no lock and no clock: the caller gives it a thread and the time.

mod compact;
mod disk;
mod index;
mod load;
mod record;
mod segment;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use self::compact::Compacted;
pub use self::load::{Dropped, Entry, Loaded, OpenError};
pub use self::record::Record;
pub use self::segment::{Location, Position};

use self::index::{Index, Slot, State};
use self::segment::Segment;

/// The exact key of a request, a hash.
pub type Key = [u8; 32];
/// The hard partition a request belongs to, a hash.
pub type Scope = [u8; 32];
/// Which embedder made a vector, a hash.
pub type EmbedderId = [u8; 16];

/// More files than this are not held open; the oldest goes instead.
const MAX_SEGMENTS: usize = 256;
/// A bound is kept by dropping the oldest segment, so no segment may hold more than this share of
/// the entries.
const SEGMENTS_OF_ENTRIES: usize = 8;
/// The largest segment, in bytes: offsets are 32 bits.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// How large a store may grow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all segments together. While compaction runs, one more segment may lie beside them.
    pub bytes: u64,
    /// Entries that are served; at least 1.
    pub entries: usize,
    /// When a new segment is begun, in bytes; kept between a 64th and a quarter of `bytes`.
    pub segment_bytes: u64,
    /// How long an entry is served at most, whatever its own expiry says.
    pub max_age: Duration,
}

/// A store that this process alone writes.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    /// Held for its lock.
    _lock: File,
    limits: Limits,
    /// A new segment is begun after this many records.
    segment_records: usize,
    /// Segments that are not written to any more, oldest first.
    sealed: Vec<Segment>,
    active: Segment,
    /// Bytes of all segments.
    bytes: u64,
    index: Index,
    /// Part of a record lies after the end of the active segment and could not be cut off.
    torn: bool,
    /// Files to be synced.
    unsynced: Vec<Arc<File>>,
    /// A segment was created since the directory was synced.
    created: bool,
    /// Deleted keys whose delete record could not be written.
    undeleted: Vec<Key>,
    /// Keys dropped for a bound or found damaged, until the caller takes them.
    evicted: Vec<Key>,
}

impl Store {
    /// Writes a record. Its expiry is cut to the greatest age from `now`, in Unix seconds.
    ///
    /// The oldest segments are dropped where a bound asks for it; see [`Store::take_evicted`].
    ///
    /// # Errors
    /// `InvalidInput` for a record larger than the store or 16 MiB; else what the disk says. The
    /// store is then as it was before, apart from what was evicted.
    pub fn append(&mut self, record: &Record, now: u64) -> io::Result<Position> {
        let expires = record.expires.min(now.saturating_add(self.limits.max_age.as_secs()));
        let bytes = record::put(record, now, expires)
            .filter(|bytes| bytes.len() as u64 <= self.limits.bytes)
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidInput, "the record is too large")
            })?;
        let known = self.index.get(&record.key).is_some_and(|slot| slot.state == State::Live);
        self.make_room(bytes.len() as u64, usize::from(!known))?;
        let position = self.write(&bytes)?;
        let slot = Slot { position, state: State::Live, expires, until: expires };
        self.index.set(record.key, slot);
        Ok(position)
    }

    /// Deletes a key; whether it was there.
    ///
    /// # Errors
    /// When the delete could not be written. The key is not served any more nonetheless, and
    /// [`Store::sync`] tries to write it again; until then another open brings it back.
    pub fn delete(&mut self, key: &Key) -> io::Result<bool> {
        let Some(slot) = self.index.get(key).copied().filter(|slot| slot.state != State::Dead)
        else {
            return Ok(false);
        };
        let written = self.write_delete(key, slot.until);
        if written.is_err() && slot.state == State::Live {
            self.index.kill(key, State::Unsaved, None);
            self.undeleted.push(*key);
        }
        written.map(|()| true)
    }

    /// Where the answer of a key lies; `None` when there is none, or it has expired at `now`.
    #[must_use]
    pub fn locate(&self, key: &Key, now: u64) -> Option<Location> {
        let position = self.index.served(key, now)?.position;
        let file = Arc::clone(&self.segment(position.segment)?.file);
        Some(Location { file, position, key: *key })
    }

    /// Reads the answer of a key; `None` when there is none, or it has expired at `now`.
    ///
    /// # Errors
    /// When the disk fails, and `InvalidData` when the bytes are not those that were written: the
    /// caller then deletes the key.
    pub fn read_answer(&self, key: &Key, now: u64) -> io::Result<Option<Bytes>> {
        self.locate(key, now).map(|location| location.read()).transpose()
    }

    /// Makes what was written survive a power cut, and writes deletes that failed before. To be
    /// called once a second.
    ///
    /// # Errors
    /// When either fails; the next call tries again.
    pub fn sync(&mut self) -> io::Result<()> {
        let deleted = self.retry_deletes();
        self.flush()?;
        deleted
    }

    /// Drops the oldest segment, for a disk that is full before a bound is reached; whether there
    /// was anything to drop.
    ///
    /// # Errors
    /// When it could not be removed.
    pub fn shed(&mut self) -> io::Result<bool> {
        let any = self.bytes > 0;
        if any {
            self.drop_oldest()?;
        }
        Ok(any)
    }

    /// Keys dropped since the last call, for a bound or because they were damaged; their rows are to be forgotten.
    #[must_use]
    pub fn take_evicted(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.evicted)
    }

    /// Entries that are served, and those that expired since the last compaction.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.live()
    }

    /// Whether no entry is served.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all segments on disk, dead records too.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Segment files.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.sealed.len() + 1
    }

    fn segment(&self, id: u32) -> Option<&Segment> {
        if id == self.active.id {
            return Some(&self.active);
        }
        let at = self.sealed.binary_search_by_key(&id, |segment| segment.id).ok()?;
        self.sealed.get(at)
    }

    /// The number of the oldest segment.
    fn oldest(&self) -> u32 {
        self.sealed.first().unwrap_or(&self.active).id
    }

    /// Drops the oldest segments until so many more bytes and entries fit.
    fn make_room(&mut self, bytes: u64, entries: usize) -> io::Result<()> {
        while self.bytes + bytes > self.limits.bytes
            || self.index.live() + entries > self.limits.entries
            // Slots of the dead are bounded too, by the same number.
            || self.index.dead() > self.limits.entries
            || self.segments() > MAX_SEGMENTS
        {
            self.drop_oldest()?;
        }
        Ok(())
    }

    fn drop_oldest(&mut self) -> io::Result<()> {
        if self.sealed.is_empty() {
            self.rotate()?;
        }
        let id = self.oldest();
        disk::remove(&segment::path(&self.dir, id))?;
        self.forget(id);
        // Before the next one goes: a delete must not vanish from the disk before what it deleted.
        disk::sync_directory(&self.dir)
    }

    /// A segment whose file is gone.
    fn forget(&mut self, id: u32) {
        let live = self.index.forget_segment(id);
        self.evicted.extend(live);
        self.sealed.retain(|segment| segment.id != id);
        self.count_bytes();
    }

    fn count_bytes(&mut self) {
        self.bytes = self.active.bytes + self.sealed.iter().map(|sealed| sealed.bytes).sum::<u64>();
    }

    /// Begins a new segment.
    fn rotate(&mut self) -> io::Result<()> {
        let next = self.active.id.checked_add(1);
        let id = next.ok_or_else(|| io::Error::other("the store has used up its numbers"))?;
        let file = disk::create(&segment::path(&self.dir, id))?;
        let sealed = std::mem::replace(&mut self.active, Segment::new(id, file));
        self.sealed.push(sealed);
        self.created = true;
        Ok(())
    }

    /// Writes the bytes of a record at the end.
    fn write(&mut self, bytes: &[u8]) -> io::Result<Position> {
        self.mend()?;
        let length = bytes.len() as u64;
        let full = self.active.bytes + length > self.limits.segment_bytes
            || self.active.records >= self.segment_records;
        if full && self.active.bytes > 0 {
            self.rotate()?;
        }
        let active = &mut self.active;
        let too_far = |_| io::Error::other("the segment is too large");
        let position = Position {
            segment: active.id,
            offset: u32::try_from(active.bytes).map_err(too_far)?,
            length: u32::try_from(length).map_err(too_far)?,
        };
        if let Err(error) = disk::write_at(&active.file, bytes, active.bytes) {
            self.torn = true;
            // When that fails too, the next write tries it again before it writes anything.
            let _ = self.mend();
            return Err(error);
        }
        active.bytes += length;
        active.records += 1;
        self.bytes += length;
        if !self.unsynced.iter().any(|file| Arc::ptr_eq(file, &active.file)) {
            self.unsynced.push(Arc::clone(&active.file));
        }
        Ok(position)
    }

    /// Cuts off half of a record. Writing over it is not enough: what is left of it behind a shorter
    /// record is bytes of an answer, and those may be made to look like a record.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            disk::cut(&self.active.file, self.active.bytes)?;
            self.torn = false;
        }
        Ok(())
    }

    fn write_delete(&mut self, key: &Key, until: u64) -> io::Result<()> {
        let bytes = record::delete(key, until);
        self.make_room(bytes.len() as u64, 0)?;
        // Making room may have dropped all there was of the key; a delete more does no harm.
        let position = self.write(&bytes)?;
        self.index.kill(key, State::Dead, Some(position));
        Ok(())
    }

    fn retry_deletes(&mut self) -> io::Result<()> {
        while let Some(key) = self.undeleted.last().copied() {
            let slot = self.index.get(&key).copied();
            if let Some(slot) = slot.filter(|slot| slot.state == State::Unsaved) {
                self.write_delete(&key, slot.until)?;
            }
            self.undeleted.pop();
        }
        Ok(())
    }

    /// Syncs the files and the directory.
    fn flush(&mut self) -> io::Result<()> {
        while let Some(file) = self.unsynced.last() {
            disk::sync(file)?;
            self.unsynced.pop();
        }
        if self.created {
            disk::sync_directory(&self.dir)?;
            self.created = false;
        }
        Ok(())
    }
}
