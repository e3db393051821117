//! Class, score and level of a request.
//!
//! The score is a sum of parts, each with a ceiling. No part alone makes a request complex; a hard
//! task shows several.

use serde::Deserialize;
use sluicegate_plugin::Request;

use crate::config::Config;
use crate::signals::Signals;

/// What kind of task a request is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// No other, and easy.
    Simple,
    /// No other, and not easy.
    General,
    /// Writing or changing programs.
    Code,
    /// Judging a text or a program.
    Review,
    /// Stories, poems, names.
    Creative,
    /// Designing systems.
    Architecture,
    /// Markets.
    Trading,
    /// Making one answer out of several.
    Consensus,
}

impl Class {
    /// How many there are.
    pub(crate) const COUNT: usize = 8;
    /// Those that words tell; with equal votes the earlier wins, as it says more about the task:
    /// who asks for a review of code wants a review.
    pub(crate) const BY_PRECEDENCE: [Self; 6] = [
        Self::Consensus,
        Self::Review,
        Self::Trading,
        Self::Architecture,
        Self::Code,
        Self::Creative,
    ];

    /// The name in configuration, labels and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::General => "general",
            Self::Code => "code",
            Self::Review => "review",
            Self::Creative => "creative",
            Self::Architecture => "architecture",
            Self::Trading => "trading",
            Self::Consensus => "consensus",
        }
    }

    /// The usual temperature.
    pub(crate) fn temperature(self) -> Option<f64> {
        match self {
            Self::Code => Some(0.2),
            Self::Creative => Some(0.8),
            Self::Consensus => Some(0.3),
            Self::Trading => Some(0.1),
            Self::Simple | Self::General | Self::Review | Self::Architecture => None,
        }
    }

    /// Its part of the score: how hard such tasks are, however they are put.
    fn weight(self) -> f64 {
        match self {
            Self::Simple | Self::General => 0.0,
            Self::Creative => 0.10,
            Self::Code | Self::Consensus => 0.15,
            Self::Review | Self::Trading => 0.20,
            Self::Architecture => 0.30,
        }
    }
}

/// How hard a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Any model will do.
    Simple,
    /// In between.
    Medium,
    /// Wants the largest model.
    Complex,
}

impl Level {
    /// From the easiest to the hardest.
    pub(crate) const ALL: [Self; 3] = [Self::Simple, Self::Medium, Self::Complex];

    /// The name in configuration, labels and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Medium => "medium",
            Self::Complex => "complex",
        }
    }
}

/// What is thought of a request.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// What kind of task it is.
    pub(crate) class: Class,
    /// How hard it is.
    pub(crate) level: Level,
    /// How hard it is, 0 to 1 in hundredths.
    pub(crate) score: f64,
}

impl Verdict {
    /// The score as people read it: formatting a float takes longer than all the rest.
    pub(crate) fn shown(&self) -> String {
        let hundredths = (self.score * 100.0).round() as u32;
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

/// Judges `request`.
pub(crate) fn judge(config: &Config, request: &Request) -> Verdict {
    let signals = Signals::read(request);
    let score = score(&signals, request);
    let level = if score < config.simple_below {
        Level::Simple
    } else if score < config.complex_from {
        Level::Medium
    } else {
        Level::Complex
    };
    let plain = if level == Level::Simple { Class::Simple } else { Class::General };
    Verdict { class: signals.class.unwrap_or(plain), level, score }
}

fn score(signals: &Signals, request: &Request) -> f64 {
    let shape = &request.shape;
    let sum = signals.class.map_or(0.0, Class::weight)
        + 0.40 * share(u64::from(signals.reasoning), 0, 4)
        + 0.25 * share(signals.tokens, 20, 1_000)
        + 0.15 * f64::from(u8::from(signals.code))
        + 0.10 * share(u64::from(signals.questions), 1, 4)
        + 0.10 * share(u64::from(shape.messages), 2, 20)
        + 0.10 * share(shape.prompt_tokens, 1_000, 8_000)
        + 0.10 * share(u64::from(shape.tools), 0, 1)
        + 0.05 * f64::from(u8::from(shape.structured));
    // What is shown is what is compared.
    (sum.min(1.0) * 100.0).round() / 100.0
}

/// Where `value` lies between `none` and `full`, as 0 to 1.
fn share(value: u64, none: u64, full: u64) -> f64 {
    value.clamp(none, full).saturating_sub(none) as f64 / (full - none) as f64
}
