//! The plugin's configuration.

use std::collections::BTreeMap;

use serde::Deserialize;
use sluicegate_plugin::router::Target;

use crate::score::{Class, Level};

/// Everything an operator may set; works without any of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Scores below are `simple`.
    pub(crate) simple_below: f64,
    /// Scores from here on are `complex`.
    pub(crate) complex_from: f64,
    /// What is special about a class.
    pub(crate) classes: BTreeMap<Class, ClassRule>,
    /// The target of each level.
    pub(crate) levels: Levels,
    /// Limits by target.
    pub(crate) targets: BTreeMap<TargetName, TargetLimits>,
    /// Whether a loaded model goes before one that must be loaded.
    pub(crate) prefer_resident: bool,
    /// A share of conversations for a target on trial.
    pub(crate) canary: Option<Canary>,
}

/// What is special about a class.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClassRule {
    /// Where its requests go, whatever their level.
    pub(crate) target: Option<TargetName>,
    /// Temperature where the client sent none, in place of the class's usual one.
    pub(crate) temperature: Option<Temperature>,
}

/// What a class says of the temperature.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number from 0 to 2, or `off`")]
pub(crate) enum Temperature {
    /// It is this.
    Of(f64),
    /// The model's own.
    Off(Off),
    /// What some readers of YAML make of `off`.
    Bool(bool),
}

/// The word.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Off {
    /// `off`
    Off,
}

/// The target of each level.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Levels {
    simple: Option<TargetName>,
    medium: Option<TargetName>,
    complex: Option<TargetName>,
}

impl Levels {
    /// The target of `level`.
    pub(crate) fn target(&self, level: Level) -> Option<&TargetName> {
        match level {
            Level::Simple => self.simple.as_ref(),
            Level::Medium => self.medium.as_ref(),
            Level::Complex => self.complex.as_ref(),
        }
    }
}

/// Limits of a target.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetLimits {
    /// Longest prompt in tokens, beside what the target's context leaves.
    pub(crate) max_prompt_tokens: u64,
}

/// A share of conversations for a target on trial.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Canary {
    /// The target.
    pub(crate) target: TargetName,
    /// The share, 0 to 1.
    pub(crate) share: f64,
}

/// A model, an upstream, or `upstream/model`.
#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
pub(crate) struct TargetName(String);

impl TargetName {
    /// Whether `target` is meant.
    pub(crate) fn names(&self, target: &Target) -> bool {
        let both = || self.0.strip_prefix(&target.upstream)?.strip_prefix('/');
        self.0 == target.model || self.0 == target.upstream || both() == Some(&target.model)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            simple_below: 0.3,
            complex_from: 0.7,
            classes: BTreeMap::new(),
            levels: Levels::default(),
            targets: BTreeMap::new(),
            prefer_resident: true,
            canary: None,
        }
    }
}

impl Config {
    /// Says what is wrong with the values.
    pub(crate) fn check(&self) -> Result<(), String> {
        within("simple_below", self.simple_below, 1.0)?;
        within("complex_from", self.complex_from, 1.0)?;
        if self.simple_below > self.complex_from {
            return Err("simple_below: expected at most complex_from".into());
        }
        for (class, rule) in &self.classes {
            let key = format!("classes.{}", class.name());
            match rule.temperature {
                Some(Temperature::Of(value)) => within(&format!("{key}.temperature"), value, 2.0)?,
                Some(Temperature::Bool(true)) => {
                    return Err(format!(
                        "{key}.temperature: expected a number from 0 to 2, or off"
                    ));
                }
                Some(Temperature::Off(_) | Temperature::Bool(false)) | None => {}
            }
            named(&format!("{key}.target"), rule.target.as_ref())?;
        }
        for level in Level::ALL {
            named(&format!("levels.{}", level.name()), self.levels.target(level))?;
        }
        for (name, limits) in &self.targets {
            named("targets", Some(name))?;
            if limits.max_prompt_tokens == 0 {
                return Err(format!("targets.{}.max_prompt_tokens: expected 1 or more", name.0));
            }
        }
        if let Some(canary) = &self.canary {
            named("canary.target", Some(&canary.target))?;
            within("canary.share", canary.share, 1.0)?;
        }
        Ok(())
    }

    /// The temperature for `class` where the client sent none.
    pub(crate) fn temperature(&self, class: Class) -> Option<f64> {
        match self.classes.get(&class).and_then(|rule| rule.temperature) {
            Some(Temperature::Of(value)) => Some(value),
            Some(Temperature::Off(_) | Temperature::Bool(_)) => None,
            None => class.temperature(),
        }
    }

    /// The target named for `class`.
    pub(crate) fn class_target(&self, class: Class) -> Option<&TargetName> {
        self.classes.get(&class)?.target.as_ref()
    }

    /// The longest prompt that `target` is allowed.
    pub(crate) fn max_prompt_tokens(&self, target: &Target) -> u64 {
        let named = self.targets.iter().filter(|(name, _)| name.names(target));
        named.map(|(_, limits)| limits.max_prompt_tokens).min().unwrap_or(u64::MAX)
    }
}

fn within(key: &str, value: f64, most: f64) -> Result<(), String> {
    if (0.0..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{key}: expected a number from 0 to {most}, not {value}"))
}

fn named(key: &str, name: Option<&TargetName>) -> Result<(), String> {
    if name.is_some_and(|name| name.0.trim().is_empty()) {
        return Err(format!("{key}: expected a model, an upstream, or upstream/model"));
    }
    Ok(())
}
