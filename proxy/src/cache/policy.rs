//! Whether a request's answer may come from the cache, and may be kept there. Pure: from the
//! configuration, the request, its headers and what plugins decided.

use std::time::Duration;

use crate::config::cache::{CacheConfig, Keep};
use crate::error::{Error, Kind};
use crate::http1::Fields;

/// Up to here, answers are asked to be much the same each time.
const COOL: f64 = 0.3;
/// The caller's own choice: `off`, `exact` or `similar`.
const X_CACHE_MODE: &str = "x-cache-mode";
/// The longest the caller wants its answer kept, in seconds.
const X_CACHE_TTL: &str = "x-cache-ttl";
/// The least similarity the caller accepts, 0 to 1.
const X_CACHE_THRESHOLD: &str = "x-cache-threshold";

/// How an answer may be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Not at all.
    Off,
    /// By an equal request.
    Exact,
    /// Also by one that means the same.
    Similar,
}

/// What the caller asks for in its headers (RFC 9111, 5.2.1, and the gateway's own).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Controls {
    /// `no-cache`: a fresh answer, which may be kept.
    pub no_cache: bool,
    /// `no-store`: the answer is not kept.
    pub no_store: bool,
    /// `only-if-cached`: nothing is asked of an upstream.
    pub only_if_cached: bool,
    /// `max-age`: the oldest answer accepted.
    pub max_age: Option<Duration>,
    mode: Option<Mode>,
    ttl: Option<Duration>,
    threshold: Option<f64>,
}

impl Controls {
    /// Reads them out of a client's fields.
    ///
    /// # Errors
    /// When one of the gateway's own headers cannot be meant. A `Cache-Control` that makes no sense is
    /// passed over, as RFC 9111 wants it.
    pub fn read(client: &Fields) -> Result<Self, Error> {
        let mut controls = Self::default();
        for directive in client.tokens("cache-control") {
            controls.directive(std::str::from_utf8(directive).unwrap_or_default());
        }
        let text = |name| client.get(name).map(|value| std::str::from_utf8(value).unwrap_or("?"));
        controls.mode = match text(X_CACHE_MODE) {
            None => None,
            Some("off") => Some(Mode::Off),
            Some("exact") => Some(Mode::Exact),
            Some("similar") => Some(Mode::Similar),
            Some(_) => return Err(wrong("x-cache-mode", "off, exact or similar")),
        };
        if let Some(given) = text(X_CACHE_TTL) {
            let seconds = given.parse().map_err(|_| wrong("x-cache-ttl", "a number of seconds"))?;
            controls.ttl = Some(Duration::from_secs(seconds));
        }
        if let Some(given) = text(X_CACHE_THRESHOLD) {
            let least = given.parse().ok().filter(|least| (0.0..=1.0).contains(least));
            let wanted = || wrong("x-cache-threshold", "a number from 0 to 1");
            controls.threshold = Some(least.ok_or_else(wanted)?);
        }
        Ok(controls)
    }

    /// Whether the caller wants no kept answer at all.
    #[must_use]
    pub fn wants_none(&self) -> bool {
        self.no_cache || matches!(self.mode, Some(Mode::Off | Mode::Exact))
    }

    fn directive(&mut self, directive: &str) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "no-cache" => self.no_cache = true,
            "no-store" => self.no_store = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => {
                self.max_age = value.trim_matches('"').parse().ok().map(Duration::from_secs);
            }
            _ => {}
        }
    }
}

fn wrong(header: &'static str, expected: &str) -> Error {
    Error::new(Kind::InvalidRequest, format!("`{header}` is not {expected}")).param(header)
}

/// What a request says that matters here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// Its answer is a vector, which is the same each time.
    pub embedding: bool,
    /// `temperature`; `NaN` where it is no number.
    pub temperature: Option<f64>,
    /// Whether it has a `seed`.
    pub seeded: bool,
    /// `enable_cache`.
    pub enable: Option<bool>,
}

/// What plugins decided. What is `None` they left as it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// How the answer may be found.
    pub mode: Option<Mode>,
    /// How long it is kept.
    pub ttl: Option<Duration>,
    /// What it is kept apart by.
    pub scope: Option<String>,
    /// Least similarity.
    pub threshold: Option<f64>,
}

impl Policy {
    /// Takes on what the next plugin decided: it may change the mode and the time, and only raise
    /// the least similarity.
    pub fn and(&mut self, next: Policy) {
        self.mode = next.mode.or(self.mode);
        self.ttl = next.ttl.or(self.ttl);
        self.scope = match (self.scope.take(), next.scope) {
            (Some(one), Some(other)) => Some(format!("{}:{one}{other}", one.len())),
            (one, other) => one.or(other),
        };
        self.threshold = raised(self.threshold, next.threshold);
    }
}

fn raised(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

/// On what terms the cache is used for a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Whether another request that means the same will do.
    pub similar: bool,
    /// How long the answer is kept.
    pub ttl: Duration,
    /// The oldest answer accepted.
    pub max_age: Option<Duration>,
    /// Least similarity, where it was raised.
    pub threshold: Option<f64>,
    /// Whether an answer is looked for.
    pub read: bool,
    /// Whether the answer is kept.
    pub write: bool,
    /// Whether nothing is asked of an upstream.
    pub only_if_cached: bool,
}

/// Decides; the error is why the cache has nothing to do with the request.
pub fn decide(
    config: &CacheConfig,
    asked: &Asked,
    controls: &Controls,
    plugins: &Policy,
) -> Result<Terms, &'static str> {
    let mode = mode(config, asked, controls, plugins)?;
    let ttl = plugins.ttl.unwrap_or(config.ttl);
    let ttl = controls.ttl.map_or(ttl, |shorter| shorter.min(ttl));
    Ok(Terms {
        similar: mode == Mode::Similar,
        ttl,
        max_age: controls.max_age,
        threshold: raised(plugins.threshold, controls.threshold),
        read: !controls.no_cache,
        write: !controls.no_store && !ttl.is_zero(),
        only_if_cached: controls.only_if_cached,
    })
}

fn mode(
    config: &CacheConfig,
    asked: &Asked,
    controls: &Controls,
    plugins: &Policy,
) -> Result<Mode, &'static str> {
    if config.policy == Keep::Off {
        return Err("off");
    }
    if asked.enable == Some(false) || controls.mode == Some(Mode::Off) {
        return Err("caller");
    }
    if plugins.mode == Some(Mode::Off) {
        return Err("plugin");
    }
    // Who asks for it by name knows that the answer may be one given before.
    let wanted = controls.mode.is_some() || plugins.mode.is_some();
    if !wanted && !is_kept(config.policy, asked) {
        return Err("temperature");
    }
    let most = plugins.mode.unwrap_or(Mode::Similar);
    Ok(controls.mode.map_or(most, |mode| mode.min(most)))
}

fn is_kept(policy: Keep, asked: &Asked) -> bool {
    let cool = |temperature: f64| temperature <= COOL;
    asked.embedding
        || match policy {
            Keep::Off => false,
            Keep::Deterministic => asked.seeded || asked.temperature.is_some_and(cool),
            Keep::UnlessHot => asked.seeded || asked.temperature.is_none_or(cool),
            Keep::Always => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(policy: Keep) -> CacheConfig {
        CacheConfig { policy, ..CacheConfig::default() }
    }

    fn controls(headers: &[(&'static str, &'static str)]) -> Result<Controls, Error> {
        let fields: Fields =
            headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        Controls::read(&fields)
    }

    #[test]
    fn what_is_kept_follows_the_policy() {
        let asked = |temperature, seeded| Asked { temperature, seeded, ..Asked::default() };
        let nan = Some(f64::NAN);
        for (policy, asked, kept) in [
            (Keep::Deterministic, asked(None, false), false),
            (Keep::Deterministic, asked(Some(0.3), false), true),
            (Keep::Deterministic, asked(Some(0.31), false), false),
            (Keep::Deterministic, asked(None, true), true),
            (Keep::Deterministic, asked(nan, false), false),
            (Keep::UnlessHot, asked(None, false), true),
            (Keep::UnlessHot, asked(Some(1.0), false), false),
            (Keep::UnlessHot, asked(nan, false), false),
            (Keep::Always, asked(Some(2.0), false), true),
            (Keep::Off, asked(Some(0.0), true), false),
            (Keep::Deterministic, Asked { embedding: true, ..asked(None, false) }, true),
        ] {
            let decided = decide(&config(policy), &asked, &Controls::default(), &Policy::default());
            assert_eq!(decided.is_ok(), kept, "{policy:?} {asked:?}");
        }
    }

    #[test]
    fn a_caller_may_ask_for_less_and_opt_in_but_not_past_a_plugin() {
        let hot = Asked { temperature: Some(1.0), ..Asked::default() };
        let with = |headers: &[_], plugins: &Policy| {
            let controls = controls(headers).expect("readable");
            decide(&config(Keep::Deterministic), &hot, &controls, plugins)
        };
        let none = Policy::default();
        assert_eq!(with(&[], &none), Err("temperature"));
        assert!(with(&[("x-cache-mode", "exact")], &none).is_ok_and(|terms| !terms.similar));
        assert!(with(&[("x-cache-mode", "similar")], &none).is_ok_and(|terms| terms.similar));
        assert_eq!(with(&[("x-cache-mode", "off")], &none), Err("caller"));
        let exact = Policy { mode: Some(Mode::Exact), ..Policy::default() };
        assert!(with(&[("x-cache-mode", "similar")], &exact).is_ok_and(|terms| !terms.similar));
        let off = Policy { mode: Some(Mode::Off), ..Policy::default() };
        assert_eq!(with(&[("x-cache-mode", "similar")], &off), Err("plugin"));
    }

    #[test]
    fn times_are_only_shortened_and_thresholds_only_raised_by_a_caller() {
        let asked = Asked { seeded: true, ..Asked::default() };
        let with = |headers: &[_]| {
            let plugins = Policy {
                ttl: Some(Duration::from_secs(100)),
                threshold: Some(0.9),
                ..Policy::default()
            };
            let controls = controls(headers).expect("readable");
            decide(&config(Keep::Deterministic), &asked, &controls, &plugins).expect("kept")
        };
        assert_eq!(with(&[("x-cache-ttl", "7")]).ttl, Duration::from_secs(7));
        assert_eq!(with(&[("x-cache-ttl", "700")]).ttl, Duration::from_secs(100));
        assert_eq!(with(&[("x-cache-threshold", "0.95")]).threshold, Some(0.95));
        assert_eq!(with(&[("x-cache-threshold", "0.5")]).threshold, Some(0.9));
        assert!(!with(&[("x-cache-ttl", "0")]).write);
    }

    #[test]
    fn cache_control_is_read_as_http_writes_it() {
        let read = controls(&[
            ("cache-control", "No-Cache, max-age=\"5\""),
            ("cache-control", "no-store"),
        ]);
        let read = read.expect("readable");
        assert!(read.no_cache && read.no_store && !read.only_if_cached);
        assert_eq!(read.max_age, Some(Duration::from_secs(5)));
        assert_eq!(
            controls(&[("cache-control", "max-age=x, foo")]).expect("readable"),
            Controls::default()
        );
        for wrong in [("x-cache-mode", "maybe"), ("x-cache-ttl", "1h"), ("x-cache-threshold", "2")]
        {
            assert!(controls(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn policies_of_several_plugins_add_up() {
        let mut policy = Policy {
            mode: Some(Mode::Similar),
            scope: Some("a".into()),
            threshold: Some(0.9),
            ttl: None,
        };
        policy.and(Policy {
            mode: None,
            scope: Some("b".into()),
            threshold: Some(0.8),
            ttl: Some(Duration::from_secs(1)),
        });
        assert_eq!(policy.mode, Some(Mode::Similar));
        assert_eq!(policy.scope.as_deref(), Some("1:ab"));
        assert_eq!(policy.threshold, Some(0.9));
        assert_eq!(policy.ttl, Some(Duration::from_secs(1)));
    }
}
