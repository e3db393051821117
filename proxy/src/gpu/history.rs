//! The last samples, in the little that a chart needs.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;

use super::{MAX_GPUS, Sample};

/// One GPU at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The GPU's id.
    pub gpu: Arc<str>,
    /// Bytes that could not be allocated.
    pub memory_used: u64,
    /// 0 to 1.
    pub utilization: Option<f64>,
    /// Degrees Celsius.
    pub temperature: Option<f64>,
    /// Watts drawn.
    pub power: Option<f64>,
}

/// A ring of samples. One without GPUs takes a place too: time passed.
#[derive(Debug)]
pub(super) struct History {
    rounds: VecDeque<Vec<Point>>,
    most: usize,
}

impl History {
    /// An empty one that keeps `most` samples.
    pub fn new(most: usize) -> Self {
        Self { rounds: VecDeque::new(), most }
    }

    /// Adds `sample`, and forgets the oldest one beyond the bound.
    pub fn push(&mut self, sample: &Sample) {
        if self.most == 0 {
            return;
        }
        while self.rounds.len() >= self.most {
            self.rounds.pop_front();
        }
        let points = sample.gpus.iter().take(MAX_GPUS).map(|gpu| Point {
            unix_ms: sample.taken_unix_ms,
            gpu: self.known(&gpu.id),
            memory_used: gpu.memory_used,
            utilization: gpu.utilization,
            temperature: gpu.temperature,
            power: gpu.power,
        });
        let points = points.collect();
        self.rounds.push_back(points);
    }

    /// All points, oldest first.
    pub fn points(&self) -> Vec<Point> {
        self.rounds.iter().flatten().cloned().collect()
    }

    /// The same text for all points of one GPU.
    fn known(&self, id: &str) -> Arc<str> {
        let before = self.rounds.back().into_iter().flatten();
        let mut same = before.filter(|point| &*point.gpu == id);
        same.next().map_or_else(|| id.into(), |point| Arc::clone(&point.gpu))
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_data::gpu;
    use super::*;

    #[test]
    fn keeps_the_newest_and_shares_the_ids() {
        let mut history = History::new(3);
        for unix_ms in 1..=5 {
            let gpus = if unix_ms == 4 { vec![] } else { vec![gpu("a", unix_ms), gpu("b", 0)] };
            history.push(&Sample { taken_unix_ms: unix_ms, gpus, problem: None });
        }
        let points = history.points();
        let seen: Vec<_> = points.iter().map(|point| (point.unix_ms, &*point.gpu)).collect();
        assert_eq!(seen, [(3, "a"), (3, "b"), (5, "a"), (5, "b")]);
        assert_eq!(points[2].memory_used, 5);
    }

    #[test]
    fn one_text_per_gpu() {
        let mut history = History::new(10);
        for _ in 0..2 {
            history.push(&Sample { gpus: vec![gpu("a", 1)], ..Sample::default() });
        }
        let points = history.points();
        assert!(Arc::ptr_eq(&points[0].gpu, &points[1].gpu));
    }

    #[test]
    fn a_history_of_none_keeps_none() {
        let mut history = History::new(0);
        history.push(&Sample { gpus: vec![gpu("a", 1)], ..Sample::default() });
        assert!(history.points().is_empty());
    }
}
