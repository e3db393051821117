//! Where the newest record of each key lies, in memory.
//!
//! A key that was deleted or has expired keeps its slot as long as an older put of it may be found
//! on disk that would come back without it.

use std::collections::HashMap;

use super::Key;
use super::record::HEADER;
use super::segment::Position;

/// Whether a slot is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Served.
    Live,
    /// Deleted or expired, and the disk says so.
    Dead,
    /// Deleted, but writing that failed: the disk still has it as live.
    Unsaved,
}

/// The newest record of one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) position: Position,
    pub(super) state: State,
    /// No longer served from here on, in Unix seconds.
    pub(super) expires: u64,
    /// When the last put of this key that may be on disk expires, in Unix seconds. An older put can
    /// outlive a newer one, and must not come back when the newer one is gone.
    pub(super) until: u64,
}

/// What compaction carries over of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Whole,
    Tombstone,
    Nothing,
}

impl Slot {
    /// What must be carried over. `oldest` is the number of the oldest segment: a dead key in it
    /// has nothing before it that could come back, only what goes away together with it.
    pub(super) fn keep(&self, now: u64, oldest: u32) -> Keep {
        let outlived = self.until <= now;
        match self.state {
            State::Live => Keep::Whole,
            State::Dead if outlived || self.position.segment <= oldest => Keep::Nothing,
            State::Unsaved if outlived => Keep::Nothing,
            State::Dead | State::Unsaved => Keep::Tombstone,
        }
    }
}

/// Bytes and records of a segment that compaction would carry over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Needed {
    pub(super) bytes: u64,
    pub(super) records: usize,
}

/// The slots of a store.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: HashMap<Key, Slot>,
    live: usize,
}

impl Index {
    /// Keys that are served.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Slots kept for keys that are not served.
    pub(super) fn dead(&self) -> usize {
        self.slots.len() - self.live
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Slot> {
        self.slots.get(key)
    }

    /// The slot of a key that is served at `now`.
    pub(super) fn served(&self, key: &Key, now: u64) -> Option<&Slot> {
        self.get(key).filter(|slot| slot.state == State::Live && slot.expires > now)
    }

    /// A newer record for a key. `until` of an older slot is kept when it is later.
    pub(super) fn set(&mut self, key: Key, mut slot: Slot) {
        let old = self.slots.get(&key).copied();
        if let Some(old) = old {
            slot.until = slot.until.max(old.until);
        }
        self.live -= usize::from(old.is_some_and(|old| old.state == State::Live));
        self.live += usize::from(slot.state == State::Live);
        self.slots.insert(key, slot);
    }

    /// The same record at another place.
    pub(super) fn moved(&mut self, key: &Key, position: Position) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.position = position;
        }
    }

    /// Serves a key no longer.
    pub(super) fn kill(&mut self, key: &Key, state: State, position: Option<Position>) {
        if let Some(slot) = self.slots.get_mut(key) {
            self.live -= usize::from(slot.state == State::Live);
            slot.state = state;
            slot.position = position.unwrap_or(slot.position);
        }
    }

    /// Forgets all of a segment that is gone; the keys that were served.
    pub(super) fn forget_segment(&mut self, id: u32) -> Vec<Key> {
        let gone = self.slots.extract_if(|_, slot| slot.position.segment == id);
        let live = gone.filter(|(_, slot)| slot.state == State::Live).map(|(key, _)| key);
        let live: Vec<Key> = live.collect();
        self.live -= live.len();
        live
    }

    /// Ends what has expired and forgets slots that are needed no longer; the keys that expired.
    pub(super) fn expire(&mut self, now: u64, oldest: u32) -> Vec<Key> {
        let mut expired = Vec::new();
        self.slots.retain(|key, slot| {
            if slot.state == State::Live && slot.expires <= now {
                slot.state = State::Dead;
                expired.push(*key);
            }
            slot.keep(now, oldest) != Keep::Nothing
        });
        self.live -= expired.len();
        expired
    }

    /// What compaction would carry over, by segment.
    pub(super) fn needed(&self, now: u64, oldest: u32) -> HashMap<u32, Needed> {
        let mut needed: HashMap<u32, Needed> = HashMap::new();
        for slot in self.slots.values() {
            let bytes = match slot.keep(now, oldest) {
                Keep::Whole => u64::from(slot.position.length),
                Keep::Tombstone => HEADER as u64,
                Keep::Nothing => continue,
            };
            let sum = needed.entry(slot.position.segment).or_default();
            sum.bytes += bytes;
            sum.records += 1;
        }
        needed
    }

    /// The slots of some segments, in the order they were written.
    pub(super) fn within(&self, segments: &[u32]) -> Vec<(Key, Slot)> {
        let mut found: Vec<(Key, Slot)> = self
            .slots
            .iter()
            .filter(|(_, slot)| segments.contains(&slot.position.segment))
            .map(|(key, slot)| (*key, *slot))
            .collect();
        found.sort_unstable_by_key(|(_, slot)| slot.position);
        found
    }
}
