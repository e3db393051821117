//! Scalars that carry a unit, an address or a secret, each refusing what it cannot mean.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _};

/// A length of time written with its unit: `250ms`, `30s`, `5m`, `1h30m`, `2d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// A period of whole seconds.
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

const PERIOD_HELP: &str = "a duration with a unit, such as 250ms, 30s, 5m or 1h30m";

/// Parses a sum of `<number><unit>` parts.
fn parse_period(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let part = match &rest[..unit_end] {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3_600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = &rest[unit_end..];
    }
    Some(total)
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_period(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not {PERIOD_HELP}")))
    }
}

impl JsonSchema for Period {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Period".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": PERIOD_HELP, "pattern": "^([0-9]+(ms|s|m|h|d))+$" })
    }
}

/// A number of bytes written with its unit: `64KiB`, `128MiB`, `2GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// A size of whole mebibytes.
    #[must_use]
    pub const fn mib(mebibytes: u64) -> Self {
        Self(mebibytes * 1024 * 1024)
    }

    /// The size as a length in memory; saturates on 32-bit machines.
    #[must_use]
    pub fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Whether the size is zero.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

const SIZE_HELP: &str = "a size with a unit, such as 64KiB, 128MiB or 2GB";

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let unit: u64 = match &text[digits..] {
        "B" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(unit)
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_size(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not {SIZE_HELP}")))
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ByteSize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": SIZE_HELP, "pattern": "^[0-9]+(B|KB|MB|GB|KiB|MiB|GiB)$" })
    }
}

/// A share written in percent, `95%`; kept as a fraction, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

impl Percent {
    /// Whole percents.
    #[must_use]
    pub fn of(percent: u8) -> Self {
        Self(f64::from(percent) / 100.0)
    }
}

const PERCENT_HELP: &str = "a share in percent, such as 95%";

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        number_with(&text, "%")
            .filter(|percent| (0.0..=100.0).contains(percent))
            .map(|percent| Self(percent / 100.0))
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not {PERCENT_HELP}")))
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Percent".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": PERCENT_HELP, "pattern": "^[0-9]+(\\.[0-9]+)?%$" })
    }
}

/// A temperature in degrees Celsius: `85C`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Celsius(pub f64);

const CELSIUS_HELP: &str = "a temperature in degrees Celsius, such as 85C";

impl<'de> Deserialize<'de> for Celsius {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        number_with(&text, "C")
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not {CELSIUS_HELP}")))
    }
}

impl JsonSchema for Celsius {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Celsius".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": CELSIUS_HELP, "pattern": "^[0-9]+(\\.[0-9]+)?C$" })
    }
}

/// A plain decimal number followed by `unit`.
fn number_with(text: &str, unit: &str) -> Option<f64> {
    let number = text.trim().strip_suffix(unit)?;
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    number.parse().ok().filter(|_| plain)
}

pub(super) const SECRET_HELP: &str =
    "`env:NAME` or `file:/path`; a secret never stands in the file itself";

/// Where a secret is to be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file, whose surrounding white space is dropped.
    File(String),
}

impl SecretSource {
    /// Reads the secret. The error names the source, never the value.
    pub fn read(&self) -> Result<Secret, String> {
        let value = match self {
            Self::Env(name) => std::env::var(name)
                .map_err(|_| format!("environment variable {name} is not set"))?,
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|cause| format!("cannot read secret file {path}: {cause}"))?,
        };
        let value = value.trim();
        if value.is_empty() || value.contains(|c: char| c.is_control()) {
            return Err(format!("the secret from {self} is empty or has control characters"));
        }
        Ok(Secret(value.to_owned()))
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.to_owned())),
            // The text may be the secret itself, so it is not repeated.
            _ => Err(D::Error::custom(format!("expected {SECRET_HELP}"))),
        }
    }
}

impl JsonSchema for SecretSource {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretSource".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": SECRET_HELP, "pattern": "^(env|file):.+$" })
    }
}

/// A secret that no debug print shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret that is none, where one could be.
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one place that sends or compares it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_need_units() {
        assert_eq!(parse_period("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_period("1h30m"), Some(Duration::from_secs(5_400)));
        assert_eq!(parse_period("2d"), Some(Duration::from_secs(172_800)));
        for bad in ["", "30", "s", "30 s", "1.5s", "-1s", "30sec", "99999999999999999999s"] {
            assert_eq!(parse_period(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_need_units() {
        assert_eq!(parse_size("128MiB"), Some(128 << 20));
        assert_eq!(parse_size("2GB"), Some(2_000_000_000));
        for bad in ["", "128", "MiB", "1.5MiB", "128mib", "99999999999GiB"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn percents_and_temperatures_need_units() {
        assert_eq!(number_with("92.5%", "%"), Some(92.5));
        assert_eq!(number_with("85C", "C"), Some(85.0));
        for bad in ["95", "%", "inf%", "-1%", "1e1%", "95 %"] {
            assert_eq!(number_with(bad, "%"), None, "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "Secret(…)");
    }
}
