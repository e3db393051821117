//! One segment: a file of records, one after the other. Only the newest is written to.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::Key;
use super::record::{self, HEADER, Header, Kind};

/// How much is read at a time when a store is opened, in bytes.
const READ_AHEAD: usize = 256 * 1024;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The number of the segment.
    pub segment: u32,
    /// Where it starts in the file, in bytes.
    pub offset: u32,
    /// How long it is, in bytes.
    pub length: u32,
}

/// A segment file that is open.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: u32,
    /// Shared with the readers of answers: a file that compaction replaced stays readable for them.
    pub(super) file: Arc<File>,
    /// Length of the file, in bytes; of the newest, where the next record goes.
    pub(super) bytes: u64,
    /// Records in it, dead ones too.
    pub(super) records: usize,
}

impl Segment {
    pub(super) fn new(id: u32, file: File) -> Self {
        Self { id, file: Arc::new(file), bytes: 0, records: 0 }
    }
}

/// The file of a segment.
pub(super) fn path(dir: &Path, id: u32) -> PathBuf {
    dir.join(format!("{id:08}.seg"))
}

/// The number of a segment by its file name; `None` for a name this store does not give.
pub(super) fn id(name: &str) -> Option<u32> {
    let id: u32 = name.strip_suffix(".seg")?.parse().ok()?;
    (id > 0 && name == format!("{id:08}.seg")).then_some(id)
}

/// What was found in a segment file.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// Where the last good record ends, in bytes.
    pub(super) good: u64,
    /// Length of the file, in bytes.
    pub(super) length: u64,
    /// Good records.
    pub(super) records: usize,
}

/// Gives every record up to the first bad one: its header, all its bytes, and where it lies.
///
/// The error is one of reading the disk; bad bytes are none.
pub(super) fn scan(
    file: &File,
    id: u32,
    mut each: impl FnMut(&Header, &[u8], Position) -> bool,
) -> io::Result<Scanned> {
    let mut found = Scanned { length: file.metadata()?.len(), ..Scanned::default() };
    let mut reader = BufReader::with_capacity(READ_AHEAD, file);
    let mut bytes = Vec::new();
    loop {
        let left = found.length - found.good;
        if left < HEADER as u64 {
            return Ok(found);
        }
        bytes.resize(HEADER, 0);
        reader.read_exact(&mut bytes)?;
        let Some(header) = Header::parse(&bytes) else { return Ok(found) };
        if header.length() as u64 > left {
            return Ok(found);
        }
        bytes.resize(header.length(), 0);
        reader.read_exact(&mut bytes[HEADER..])?;
        let (Ok(offset), Ok(length)) = (u32::try_from(found.good), u32::try_from(bytes.len()))
        else {
            return Ok(found);
        };
        let position = Position { segment: id, offset, length };
        if !record::intact(&bytes) || !each(&header, &bytes, position) {
            return Ok(found);
        }
        found.good += u64::from(length);
        found.records += 1;
    }
}

/// Where an answer lies; it can be read on another thread, also while the store is written to.
#[derive(Clone, Debug)]
pub struct Location {
    pub(super) file: Arc<File>,
    pub(super) position: Position,
    pub(super) key: Key,
}

impl Location {
    /// Reads the answer from the disk and checks it.
    ///
    /// # Errors
    /// When the disk fails, and `InvalidData` when the bytes are not those that were written.
    pub fn read(&self) -> io::Result<Bytes> {
        let record = Bytes::from(read(&self.file, self.position)?);
        let header = Header::parse(&record);
        let ours = header.filter(|found| found.kind == Kind::Put && found.key == self.key);
        let intact = ours.filter(|_| record::intact(&record));
        intact.and_then(|found| found.answer(&record)).ok_or_else(bad_record)
    }
}

/// Reads the bytes of a record, not checked.
pub(super) fn read(file: &File, position: Position) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; position.length as usize];
    file.read_exact_at(&mut bytes, u64::from(position.offset))?;
    Ok(bytes)
}

fn bad_record() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a cached answer on disk is damaged")
}
