//! Which GPUs came and went, so that a change is one line in the log and a sample is none.

use std::collections::BTreeMap;

use super::{Gpu, Sample};

/// Ids remembered; MIG devices get new ones when they are made anew.
const MAX_KNOWN: usize = 1024;

/// What changed from one sample to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Seen for the first time.
    Found(String),
    /// No longer among those that answer.
    Lost(String),
    /// Answers again.
    Back(String),
    /// Something does not answer, or does not for another reason than before.
    Problem(String),
    /// All answer again.
    Well,
}

/// Who was there in the last sample.
#[derive(Debug, Default)]
pub(super) struct Presence {
    known: BTreeMap<String, bool>,
    problem: Option<String>,
}

impl Presence {
    /// What `sample` changed.
    pub fn changes(&mut self, sample: &Sample) -> Vec<Change> {
        let mut changes = Vec::new();
        for (id, there) in &mut self.known {
            if *there && !sample.gpus.iter().any(|gpu| gpu.id == *id) {
                *there = false;
                changes.push(Change::Lost(id.clone()));
            }
        }
        for Gpu { id, .. } in &sample.gpus {
            let room = self.known.len() < MAX_KNOWN;
            match self.known.get_mut(id) {
                Some(true) => {}
                Some(there) => {
                    *there = true;
                    changes.push(Change::Back(id.clone()));
                }
                None if room => {
                    self.known.insert(id.clone(), true);
                    changes.push(Change::Found(id.clone()));
                }
                None => {}
            }
        }
        if self.problem != sample.problem {
            changes.push(match &sample.problem {
                Some(problem) => Change::Problem(problem.clone()),
                None => Change::Well,
            });
            self.problem.clone_from(&sample.problem);
        }
        changes
    }
}

/// Writes the changes into the log.
pub(super) fn log(changes: &[Change], sample: &Sample) {
    for change in changes {
        match change {
            Change::Found(id) => match sample.gpus.iter().find(|gpu| gpu.id == *id) {
                Some(Gpu { name, memory_total, .. }) => {
                    tracing::info!(gpu = %id, name, memory_total, "GPU found");
                }
                None => tracing::info!(gpu = %id, "GPU found"),
            },
            Change::Lost(id) => tracing::warn!(gpu = %id, "GPU lost"),
            Change::Back(id) => tracing::info!(gpu = %id, "GPU back"),
            Change::Problem(problem) => tracing::warn!(problem, "GPUs do not answer"),
            Change::Well => tracing::info!("all GPUs answer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_data::gpu;
    use super::*;

    fn sample(ids: &[&str], problem: Option<&str>) -> Sample {
        let gpus = ids.iter().map(|id| gpu(id, 1)).collect();
        Sample { taken_unix_ms: 1, gpus, problem: problem.map(str::to_owned) }
    }

    #[test]
    fn a_change_is_told_once() {
        let mut presence = Presence::default();
        let mut tell = |ids: &[&str], problem| presence.changes(&sample(ids, problem));
        let found = |id: &str| Change::Found(id.to_owned());
        assert_eq!(tell(&["a", "b"], None), [found("a"), found("b")]);
        assert_eq!(tell(&["a", "b"], None), []);
        let lost = [Change::Lost("b".into()), Change::Problem("b: off the bus".into())];
        assert_eq!(tell(&["a"], Some("b: off the bus")), lost);
        assert_eq!(tell(&["a"], Some("b: off the bus")), []);
        assert_eq!(tell(&["a"], Some("b: gone")), [Change::Problem("b: gone".into())]);
        assert_eq!(tell(&["a", "b"], None), [Change::Back("b".into()), Change::Well]);
    }

    #[test]
    fn ids_without_end_do_not_take_memory_without_end() {
        let mut presence = Presence::default();
        for number in 0..2 * MAX_KNOWN {
            presence.changes(&sample(&[&number.to_string()], None));
        }
        assert_eq!(presence.known.len(), MAX_KNOWN);
    }
}
