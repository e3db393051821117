//! Compaction: what is still needed of a few neighbouring segments is written to one new segment.
//!
//! The new one is written under another name, synced, and then takes the name of the *newest* it
//! replaces; only then do the others go. So at every point each needed record lies in a whole
//! segment, at a place in the order where nothing older hides it and nothing newer is hidden by it.
//! A crash leaves at most copies that the next open drops.

use std::fs::File;
use std::io;

use super::index::{Keep, Needed, Slot, State};
use super::load::UNFINISHED;
use super::segment::{self, Position, Segment};
use super::{Key, Store, disk, record};

/// What one compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Keys that have expired since the last time; their rows are to be forgotten.
    pub expired: Vec<Key>,
    /// Bytes it freed on disk.
    pub freed: u64,
    /// Whether another call would free more.
    pub more: bool,
}

/// A segment as it is written anew.
struct Rewritten {
    segment: Segment,
    /// Each key that was carried over, where it lies now, and whether as a whole.
    kept: Vec<(Key, Position, Keep)>,
    damaged: Vec<Key>,
}

impl Store {
    /// Rewrites neighbouring segments of which less than half is needed, or that are small; at most
    /// one segment's worth in a call, so that a call stays short. `now` is in Unix seconds.
    ///
    /// # Errors
    /// When the disk fails. Nothing is lost then, and the next call tries again.
    pub fn compact(&mut self, now: u64) -> io::Result<Compacted> {
        // What replaces a record must be on disk before the record goes.
        self.flush()?;
        let mut done = Compacted { expired: self.expire(now), ..Compacted::default() };
        let before = self.bytes;
        if let Some(group) = self.plan(now) {
            // What has expired is gone from the rows already: an error must not hide it.
            if let Err(error) = self.rewrite(&group, now) {
                self.evicted.append(&mut done.expired);
                return Err(error);
            }
            self.index.expire(now, self.oldest());
            done.more = self.plan(now).is_some();
        }
        done.freed = before.saturating_sub(self.bytes);
        Ok(done)
    }

    fn expire(&mut self, now: u64) -> Vec<Key> {
        let oldest = self.oldest();
        self.index.expire(now, oldest)
    }

    /// Neighbouring sealed segments that are worth rewriting together.
    fn plan(&self, now: u64) -> Option<Vec<u32>> {
        let needed = self.index.needed(now, self.oldest());
        let (bytes, records) = (self.limits.segment_bytes, self.segment_records);
        let mut group = Group::default();
        for segment in &self.sealed {
            let need = needed.get(&segment.id).copied().unwrap_or_default();
            let wasteful = need.bytes == 0 || need.bytes * 2 < segment.bytes;
            let small = need.bytes * 2 < bytes && need.records * 2 < records;
            let fits = group.need.bytes + need.bytes <= bytes
                && group.need.records + need.records <= records;
            if group.worthwhile() && !((wasteful || small) && fits) {
                break;
            }
            if !(wasteful || small) || !fits {
                group = Group::default();
            }
            if wasteful || small {
                group.add(segment.id, need, wasteful);
            }
        }
        group.worthwhile().then_some(group.ids)
    }

    /// Writes what is needed of some segments anew and removes them. What is not needed has no slot
    /// any more: [`Index::expire`](super::index::Index::expire) ran before.
    fn rewrite(&mut self, group: &[u32], now: u64) -> io::Result<()> {
        let slots = self.index.within(group).into_iter();
        let oldest = self.oldest();
        let keep: Vec<(Key, Slot, Keep)> =
            slots.map(|(key, slot)| (key, slot, slot.keep(now, oldest))).collect();
        let mut leave = group;
        if let (false, Some((newest, others))) = (keep.is_empty(), group.split_last()) {
            let temporary = self.dir.join(UNFINISHED);
            disk::remove(&temporary)?;
            let written = self.copy(&keep, *newest, disk::create(&temporary)?).and_then(|new| {
                disk::sync(&new.segment.file)?;
                disk::rename(&temporary, &segment::path(&self.dir, *newest))?;
                Ok(new)
            });
            match written {
                Ok(new) => self.adopt(new),
                Err(error) => {
                    // It takes up space; the next open would remove it too.
                    let _ = disk::remove(&temporary);
                    return Err(error);
                }
            }
            disk::sync_directory(&self.dir)?;
            leave = others;
        }
        for id in leave {
            disk::remove(&segment::path(&self.dir, *id))?;
            self.forget(*id);
        }
        disk::sync_directory(&self.dir)
    }

    /// Copies records to a new file.
    fn copy(&self, keep: &[(Key, Slot, Keep)], id: u32, file: File) -> io::Result<Rewritten> {
        let mut new = Rewritten {
            segment: Segment::new(id, file),
            kept: Vec::with_capacity(keep.len()),
            damaged: Vec::new(),
        };
        for (key, slot, keep) in keep {
            let (bytes, keep) = match keep {
                Keep::Whole => match self.intact(slot)? {
                    Some(bytes) => (bytes, Keep::Whole),
                    None => {
                        new.damaged.push(*key);
                        (record::delete(key, slot.until), Keep::Tombstone)
                    }
                },
                Keep::Tombstone => (record::delete(key, slot.until), Keep::Tombstone),
                Keep::Nothing => continue,
            };
            let too_far = |_| io::Error::other("the segment is too large");
            let position = Position {
                segment: id,
                offset: u32::try_from(new.segment.bytes).map_err(too_far)?,
                length: u32::try_from(bytes.len()).map_err(too_far)?,
            };
            disk::write_at(&new.segment.file, &bytes, new.segment.bytes)?;
            new.segment.bytes += u64::from(position.length);
            new.segment.records += 1;
            new.kept.push((*key, position, keep));
        }
        Ok(new)
    }

    /// The bytes of a record, when they are those that were written.
    fn intact(&self, slot: &Slot) -> io::Result<Option<Vec<u8>>> {
        let Some(segment) = self.segment(slot.position.segment) else { return Ok(None) };
        let bytes = segment::read(&segment.file, slot.position)?;
        Ok(record::intact(&bytes).then_some(bytes))
    }

    /// Takes over a segment that has just been renamed.
    fn adopt(&mut self, new: Rewritten) {
        for (key, position, keep) in new.kept {
            match keep {
                Keep::Whole => self.index.moved(&key, position),
                Keep::Tombstone | Keep::Nothing => {
                    self.index.kill(&key, State::Dead, Some(position));
                }
            }
        }
        self.evicted.extend(new.damaged);
        if let Some(old) = self.sealed.iter_mut().find(|sealed| sealed.id == new.segment.id) {
            *old = new.segment;
        }
        self.count_bytes();
    }
}

/// Neighbouring segments that fit into one.
#[derive(Default)]
struct Group {
    ids: Vec<u32>,
    need: Needed,
    wasteful: bool,
}

impl Group {
    fn add(&mut self, id: u32, need: Needed, wasteful: bool) {
        self.ids.push(id);
        self.need.bytes += need.bytes;
        self.need.records += need.records;
        self.wasteful |= wasteful;
    }

    /// One small segment alone would be copied for nothing.
    fn worthwhile(&self) -> bool {
        self.wasteful || self.ids.len() > 1
    }
}
