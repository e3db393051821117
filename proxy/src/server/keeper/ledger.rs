//! Who holds the memory of the GPUs behind an upstream: its own models, and others.
//!
//! What is loaded and what a GPU shows are read at different times, and a load or an eviction in
//! between makes the two contradict each other. So what others hold is worked out only from a reading
//! that is newer than the last change of what is loaded, and stands until there is another such one;
//! what is free follows from it and from what is loaded now.

use std::time::Duration;

use tokio::time::Instant;

/// Reading a GPU takes a moment, in which a reading is of neither time.
const MARGIN: Duration = Duration::from_millis(20);

/// What the GPUs said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shown {
    /// Bytes in use, by whomever.
    pub used: u64,
    /// Bytes there are.
    pub total: u64,
    /// When.
    pub taken: Instant,
}

/// The accounts of one upstream's GPUs.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The models on these GPUs, and the bytes each is expected to take.
    models: Vec<(String, u64)>,
    changed: Option<Instant>,
    foreign: Option<u64>,
}

impl Ledger {
    /// Takes in what is loaded now, and whether more is being loaded.
    pub(super) fn enter(&mut self, models: Vec<(String, u64)>, loading: bool, now: Instant) {
        let names = |models: &[(String, u64)]| -> Vec<String> {
            models.iter().map(|(name, _)| name.clone()).collect()
        };
        if loading || names(&models) != names(&self.models) {
            self.changed = Some(now);
        }
        self.models = models;
    }

    /// Takes in what the GPUs showed, if that is newer than what is loaded.
    pub(super) fn settle(&mut self, shown: &Shown) {
        if self.foreign.is_none() || self.is_settled(shown) {
            self.foreign = Some(shown.used.saturating_sub(self.own()));
        }
    }

    /// Whether the GPUs were read after what is loaded last changed.
    pub(super) fn is_settled(&self, shown: &Shown) -> bool {
        self.changed.is_none_or(|changed| shown.taken > changed + MARGIN)
    }

    /// Bytes that the models take.
    pub(super) fn own(&self) -> u64 {
        self.models.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Bytes that others hold; none while no GPU was read.
    pub(super) fn foreign(&self) -> Option<u64> {
        self.foreign
    }

    /// Bytes that nobody holds.
    pub(super) fn free(&self, shown: &Shown) -> Option<u64> {
        Some(shown.total.saturating_sub(self.foreign?).saturating_sub(self.own()))
    }

    /// What the model `name` really takes, where it was loaded since what others hold was last seen.
    pub(super) fn taken_by(&self, name: &str, shown: &Shown) -> Option<u64> {
        let of_others = self.models.iter().filter(|(known, _)| known != name);
        let others: u64 = of_others.map(|(_, bytes)| bytes).sum();
        Some(shown.used.saturating_sub(self.foreign?).saturating_sub(others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn model(name: &str, gib: u64) -> (String, u64) {
        (name.to_owned(), gib * GIB)
    }

    fn shown(used: u64, taken: Instant) -> Shown {
        Shown { used: used * GIB, total: 24 * GIB, taken }
    }

    /// A look: what is loaded, what is shown.
    fn look(ledger: &mut Ledger, models: &[(String, u64)], shown: &Shown, at: Instant) {
        ledger.enter(models.to_vec(), false, at);
        ledger.settle(shown);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_from_before_a_load_does_not_hide_the_load() {
        let mut ledger = Ledger::default();
        let start = Instant::now();
        let empty = shown(1, start);
        look(&mut ledger, &[], &empty, start);
        assert_eq!(ledger.free(&empty), Some(23 * GIB));
        look(&mut ledger, &[model("a", 10)], &empty, start + Duration::from_secs(1));
        assert_eq!((ledger.foreign(), ledger.free(&empty)), (Some(GIB), Some(13 * GIB)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_from_before_an_eviction_is_not_taken_for_others() {
        let mut ledger = Ledger::default();
        let start = Instant::now();
        let full = shown(11, start + Duration::from_secs(1));
        look(&mut ledger, &[model("a", 10)], &full, start);
        look(&mut ledger, &[], &full, start + Duration::from_secs(2));
        assert_eq!((ledger.foreign(), ledger.free(&full)), (Some(GIB), Some(23 * GIB)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_take_is_seen_once_nothing_changes() {
        let mut ledger = Ledger::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let a = [model("a", 10)];
        look(&mut ledger, &a, &shown(10, at(1)), start);
        ledger.enter(a.to_vec(), true, at(2));
        ledger.settle(&shown(18, at(2)));
        assert_eq!(ledger.foreign(), Some(0), "it may be what is loaded");
        look(&mut ledger, &a, &shown(18, at(3)), at(3));
        assert_eq!(ledger.foreign(), Some(8 * GIB));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_model_takes_beyond_what_is_told_shows_after_its_load() {
        let mut ledger = Ledger::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        look(&mut ledger, &[model("a", 10)], &shown(12, at(1)), start);
        look(&mut ledger, &[model("a", 10), model("b", 4)], &shown(12, at(1)), at(2));
        let loaded = shown(17, at(3));
        assert_eq!(ledger.taken_by("b", &loaded), Some(5 * GIB));
        look(&mut ledger, &[model("a", 10), model("b", 5)], &loaded, at(4));
        assert_eq!(ledger.foreign(), Some(2 * GIB));
    }
}
