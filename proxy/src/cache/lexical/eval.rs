//! How good a gate is on labelled pairs: recall, false hits and precision, each with the interval
//! in which it lies.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

/// Two texts, and whether they ask the same.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Pair {
    /// The kind of likeness or difference.
    #[serde(rename = "cat")]
    pub category: String,
    /// One text.
    pub a: String,
    /// The other.
    pub b: String,
    /// Whether one answer serves both; 1 or 0 in the file.
    #[serde(deserialize_with = "one_or_zero")]
    pub label: bool,
}

fn one_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(u8::deserialize(deserializer)? == 1)
}

/// Reads pairs, one JSON object a line.
///
/// # Errors
/// The first line that is no pair.
pub fn read(lines: &str) -> Result<Vec<Pair>, serde_json::Error> {
    lines.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str).collect()
}

/// The 95 % interval (Wilson's score) of a share. Of no trials nothing is known: 0 to 1.
#[must_use]
pub fn wilson(successes: u64, trials: u64) -> (f64, f64) {
    /// The normal quantile of 97.5 %.
    const Z: f64 = 1.959_963_984_540_054;
    if trials == 0 {
        return (0.0, 1.0);
    }
    // Counts of pairs are far below 2^52.
    let (n, share) = (trials as f64, successes as f64 / trials as f64);
    let scale = 1.0 + Z * Z / n;
    let middle = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    (((middle - spread) / scale).max(0.0), ((middle + spread) / scale).min(1.0))
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many.
    pub of: u64,
    /// Out of how many.
    pub all: u64,
}

impl Share {
    fn count(&mut self, hit: bool) {
        self.all += 1;
        self.of += u64::from(hit);
    }

    /// The share itself; 0 of none.
    #[must_use]
    pub fn value(self) -> f64 {
        if self.all == 0 { 0.0 } else { self.of as f64 / self.all as f64 }
    }

    /// Its 95 % interval.
    #[must_use]
    pub fn interval(self) -> (f64, f64) {
        wilson(self.of, self.all)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.interval();
        write!(f, "{:.3} [{low:.3}, {high:.3}] ({}/{})", self.value(), self.of, self.all)
    }
}

/// What a gate did with pairs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Hits among the pairs that ask the same.
    pub recall: Share,
    /// Hits among those that do not.
    pub false_hits: Share,
    /// Right ones among the hits.
    pub precision: Share,
    /// Hits by category and label.
    pub categories: BTreeMap<(String, bool), Share>,
}

impl Tally {
    /// Tries `gate` on every pair.
    pub fn of(pairs: &[Pair], gate: impl Fn(&str, &str) -> bool) -> Self {
        let mut tally = Self::default();
        for pair in pairs {
            let hit = gate(&pair.a, &pair.b);
            let kind = if pair.label { &mut tally.recall } else { &mut tally.false_hits };
            kind.count(hit);
            if hit {
                tally.precision.count(pair.label);
            }
            let category = (pair.category.clone(), pair.label);
            tally.categories.entry(category).or_default().count(hit);
        }
        tally
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "recall     {}", self.recall)?;
        writeln!(f, "false hits {}", self.false_hits)?;
        writeln!(f, "precision  {}", self.precision)?;
        for ((category, label), share) in &self.categories {
            writeln!(f, "  {category:16} {} {:3}/{:3}", u8::from(*label), share.of, share.all)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_gives_the_published_intervals() {
        let near = |(low, high): (f64, f64), expected: (f64, f64)| {
            assert!(
                (low - expected.0).abs() < 5e-4 && (high - expected.1).abs() < 5e-4,
                "{low} {high}"
            );
        };
        near(wilson(0, 10), (0.0, 0.2775));
        near(wilson(10, 10), (0.7225, 1.0));
        near(wilson(50, 100), (0.4038, 0.5962));
        near(wilson(0, 0), (0.0, 1.0));
    }

    #[test]
    fn a_tally_counts_by_label_and_category() {
        let lines = concat!(
            "{\"cat\":\"x\",\"a\":\"p\",\"b\":\"p\",\"label\":1}\n\n",
            "{\"cat\":\"x\",\"a\":\"p\",\"b\":\"q\",\"label\":1}\n",
            "{\"cat\":\"y\",\"a\":\"r\",\"b\":\"r\",\"label\":0}\n",
        );
        let tally = Tally::of(&read(lines).expect("pairs"), |a, b| a == b);
        assert_eq!((tally.recall.of, tally.recall.all), (1, 2));
        assert_eq!((tally.false_hits.of, tally.precision.of, tally.precision.all), (1, 1, 2));
        assert!(tally.to_string().contains("recall     0.500"));
        assert!(read("{}").is_err());
    }
}
