//! Finds the few fields the gateway acts on in a JSON body, without building a document of it.
//!
//! The whole body is checked to be JSON; unknown fields, duplicates, number spelling and key order
//! are not looked at, because the original bytes are what is forwarded.
//!
//! Ollama reads keys without regard to case and lets the last one win, so keys are compared the
//! same way here: what is authorised and routed must be what the upstream will act on.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Where a field's value stands in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Byte range of the value.
    pub span: Range<usize>,
}

/// The fields found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Every `model`, usually one; all have the same value.
    pub models: Vec<Field>,
    /// The model asked for; empty when there is none.
    pub model: String,
    /// `stream` as it was given.
    pub stream: Option<bool>,
    /// Value of `stream`, to insert next to.
    pub stream_field: Option<Field>,
    /// Value of `stream_options`.
    pub stream_options: Option<Field>,
    /// Value of `max_tokens`.
    pub max_tokens: Option<Field>,
    /// Value of `max_completion_tokens`.
    pub max_completion_tokens: Option<Field>,
    /// Value of `max_output_tokens`.
    pub max_output_tokens: Option<Field>,
    /// Value of `temperature`.
    pub temperature: Option<Field>,
    /// Whether there is a `seed`.
    pub seeded: bool,
    /// `enable_cache`, the gateway's own field, and where it stands.
    pub enable_cache: Option<(bool, Field)>,
    /// Whether there is a `models`: other models to be tried, for upstreams such as OpenRouter.
    pub names_others: bool,
    /// What is asked for that Ollama's `/v1` takes and does not heed, as a list of names.
    pub unheeded: Option<&'static str>,
}

/// The longest model name taken, in bytes of JSON; names are also log fields and headers.
const MAX_MODEL: usize = 512;
/// The most `model`s in one body.
const MAX_MODELS: usize = 8;

/// Why a body cannot be served.
#[derive(Debug)]
pub enum ScanError {
    /// Not JSON, or not an object; the text says where.
    Syntax(String),
    /// A field the gateway acts on has a type it cannot have.
    WrongType {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Two fields that a server may read as `model` disagree.
    AmbiguousModel,
    /// The model's name is longer than any name is.
    LongModel,
}

/// Scans `body`.
pub fn scan(body: &[u8]) -> Result<Scan, ScanError> {
    let mut found = Found::default();
    let mut json = serde_json::Deserializer::from_slice(body);
    json.deserialize_map(Fields { found: &mut found })
        .and_then(|()| json.end())
        .map_err(|cause| ScanError::Syntax(cause.to_string()))?;
    found.settle(body)
}

/// Raw values as they come; the last of each name wins.
#[derive(Default)]
struct Found<'a> {
    models: Vec<&'a RawValue>,
    stream: Option<&'a RawValue>,
    stream_options: Option<&'a RawValue>,
    max_tokens: Option<&'a RawValue>,
    max_completion_tokens: Option<&'a RawValue>,
    max_output_tokens: Option<&'a RawValue>,
    temperature: Option<&'a RawValue>,
    seed: Option<&'a RawValue>,
    tool_choice: Option<&'a RawValue>,
    n: Option<&'a RawValue>,
    others: Option<&'a RawValue>,
    enable_cache: Option<&'a RawValue>,
}

impl<'a> Found<'a> {
    fn settle(self, body: &[u8]) -> Result<Scan, ScanError> {
        let field = |raw: &RawValue| {
            let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
            Field { span: start..start + raw.get().len() }
        };
        let stream = boolean("stream", self.stream)?;
        let enable_cache = boolean("enable_cache", self.enable_cache)?;
        let given = |raw: &&RawValue| raw.get() != "null";
        let forced = self.tool_choice.filter(given).is_some_and(|raw| raw.get() != "\"auto\"");
        let several = self.n.filter(given).is_some_and(|raw| raw.get() != "1");
        Ok(Scan {
            names_others: self.others.is_some_and(|raw| given(&raw)),
            unheeded: match (forced, several) {
                (true, true) => Some("tool_choice, n"),
                (true, false) => Some("tool_choice"),
                (false, true) => Some("n"),
                (false, false) => None,
            },
            model: self.model()?,
            models: self.models.iter().map(|raw| field(raw)).collect(),
            stream,
            stream_field: self.stream.map(field),
            stream_options: self.stream_options.map(field),
            max_tokens: self.max_tokens.map(field),
            max_completion_tokens: self.max_completion_tokens.map(field),
            max_output_tokens: self.max_output_tokens.map(field),
            temperature: self.temperature.filter(given).map(field),
            seeded: self.seed.is_some_and(|raw| given(&raw)),
            enable_cache: enable_cache.zip(self.enable_cache.map(field)),
        })
    }

    /// Servers differ in which of several `model`s they take, and whether case matters, so all must
    /// agree.
    fn model(&self) -> Result<String, ScanError> {
        let text = |raw: &'a RawValue| -> Result<Cow<'a, str>, ScanError> {
            if raw.get() == "null" {
                return Ok(Cow::Borrowed(""));
            }
            serde_json::from_str::<BorrowedText<'a>>(raw.get())
                .map(|text| text.0)
                .map_err(|_| ScanError::WrongType { field: "model", expected: "a string" })
        };
        let Some((last, before)) = self.models.split_last() else { return Ok(String::new()) };
        if last.get().len() > MAX_MODEL {
            return Err(ScanError::LongModel);
        }
        let chosen = text(last)?;
        for raw in before {
            if raw.get().len() > MAX_MODEL || text(raw)? != chosen {
                return Err(ScanError::AmbiguousModel);
            }
        }
        Ok(chosen.into_owned())
    }
}

fn boolean(field: &'static str, raw: Option<&RawValue>) -> Result<Option<bool>, ScanError> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(ScanError::WrongType { field, expected: "a boolean" }),
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

struct Fields<'f, 'a> {
    found: &'f mut Found<'a>,
}

impl<'a> Visitor<'a> for Fields<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(name)) = map.next_key()? {
            let found = &mut *self.found;
            match name {
                Name::Model if found.models.len() >= MAX_MODELS => {
                    return Err(A::Error::custom("`model` is given too often"));
                }
                Name::Model => found.models.push(map.next_value()?),
                Name::Stream => found.stream = Some(map.next_value()?),
                Name::StreamOptions => found.stream_options = Some(map.next_value()?),
                Name::MaxOutputTokens => found.max_output_tokens = Some(map.next_value()?),
                Name::MaxTokens => found.max_tokens = Some(map.next_value()?),
                Name::MaxCompletionTokens => {
                    found.max_completion_tokens = Some(map.next_value()?);
                }
                Name::Temperature => found.temperature = Some(map.next_value()?),
                Name::Seed => found.seed = Some(map.next_value()?),
                Name::ToolChoice => found.tool_choice = Some(map.next_value()?),
                Name::N => found.n = Some(map.next_value()?),
                // Of several, any may be the one that counts.
                Name::Models => {
                    let value: &RawValue = map.next_value()?;
                    found.others = found.others.filter(|raw| raw.get() != "null").or(Some(value));
                }
                Name::EnableCache => found.enable_cache = Some(map.next_value()?),
                Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Name {
    Model,
    Stream,
    StreamOptions,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    Temperature,
    Seed,
    ToolChoice,
    N,
    Models,
    EnableCache,
    Other,
}

impl Name {
    fn of(key: &[u8]) -> Self {
        // The length decides almost always, so most keys cost one comparison.
        let is = |name: &str| key.eq_ignore_ascii_case(name.as_bytes());
        match key.len() {
            1 if is("n") => Name::N,
            4 if is("seed") => Name::Seed,
            5 if is("model") => Name::Model,
            6 if is("stream") => Name::Stream,
            6 if is("models") => Name::Models,
            10 if is("max_tokens") => Name::MaxTokens,
            11 if is("temperature") => Name::Temperature,
            11 if is("tool_choice") => Name::ToolChoice,
            12 if is("enable_cache") => Name::EnableCache,
            14 if is("stream_options") => Name::StreamOptions,
            17 if is("max_output_tokens") => Name::MaxOutputTokens,
            21 if is("max_completion_tokens") => Name::MaxCompletionTokens,
            _ => Name::Other,
        }
    }
}

struct Key(Name);

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(Key(Name::of(key.as_bytes())))
            }
            fn visit_bytes<E>(self, key: &[u8]) -> Result<Key, E> {
                Ok(Key(Name::of(key)))
            }
        }
        deserializer.deserialize_bytes(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(body: &str) -> Scan {
        scan(body.as_bytes()).expect("valid")
    }

    fn scan_error(body: &[u8]) -> ScanError {
        scan(body).expect_err("wrong")
    }

    fn text<'a>(body: &'a str, field: &Option<Field>) -> &'a str {
        &body[field.as_ref().expect("found").span.clone()]
    }

    #[test]
    fn fields_are_found_where_they_stand() {
        let body = r#" {"x":[1,{"model":"no"}], "model" : "a\u002fb", "stream":true,"stream_options": {"a":1} } "#;
        let scan = ok(body);
        assert_eq!(scan.model, "a/b");
        assert_eq!(&body[scan.models[0].span.clone()], r#""a\u002fb""#);
        assert_eq!(scan.stream, Some(true));
        assert_eq!(text(body, &scan.stream_options), r#"{"a":1}"#);
    }

    #[test]
    fn every_model_must_say_the_same_however_its_key_is_spelt() {
        let scan_ok = ok(r#"{"model":"a","Model":"a","m\u006fdel":"a"}"#);
        assert_eq!((scan_ok.model.as_str(), scan_ok.models.len()), ("a", 3));
        for smuggled in [
            r#"{"model":"allowed","MODEL":"secret"}"#,
            r#"{"model":"secret","model":"allowed"}"#,
            r#"{"model":"allowed","m\u006fdel":"secret"}"#,
            r#"{"model":null,"model":"secret"}"#,
        ] {
            let refused = scan(smuggled.as_bytes());
            assert!(matches!(refused, Err(ScanError::AmbiguousModel)), "{smuggled}");
        }
    }

    #[test]
    fn endless_names_are_refused() {
        let body = format!("{{\"model\":\"{}\"}}", "x".repeat(1000));
        assert!(matches!(scan(body.as_bytes()), Err(ScanError::LongModel)));
    }

    #[test]
    fn syntax_errors_say_where() {
        let Err(ScanError::Syntax(text)) = scan(b"{\"model\": \"m\",\n \"x\": }") else {
            panic!("accepted")
        };
        assert!(text.contains("line 2 column"), "{text}");
        for bad in ["", "null", "[]", "{", "{}x", "{\"a\":01}", "\"model\"", "{\"a\":1,}"] {
            assert!(matches!(scan(bad.as_bytes()), Err(ScanError::Syntax(_))), "{bad}");
        }
    }

    #[test]
    fn what_the_cache_acts_on_is_found() {
        let body = r#"{"temperature":0.5,"seed":7,"enable_cache":false}"#;
        let scan = ok(body);
        assert_eq!(text(body, &scan.temperature), "0.5");
        assert!(scan.seeded);
        assert_eq!(scan.enable_cache.map(|(enabled, _)| enabled), Some(false));
        let none = ok(r#"{"temperature":null,"seed":null,"enable_cache":null}"#);
        assert!(none.temperature.is_none() && !none.seeded && none.enable_cache.is_none());
        let wrong = scan_error(br#"{"enable_cache":"no"}"#);
        assert!(matches!(wrong, ScanError::WrongType { field: "enable_cache", .. }));
    }

    #[test]
    fn types_are_checked_where_the_gateway_acts() {
        assert!(matches!(scan(br#"{"model":1}"#), Err(ScanError::WrongType { .. })));
        assert!(matches!(scan(br#"{"stream":"yes"}"#), Err(ScanError::WrongType { .. })));
        assert_eq!(ok(r#"{"model":null,"stream":null}"#).stream, None);
    }

    #[test]
    fn deep_nesting_is_no_stack_overflow() {
        let body = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(scan(body.as_bytes()).is_ok());
    }

    #[test]
    fn invalid_utf8_in_a_field_nobody_reads_passes() {
        assert!(scan(b"{\"model\":\"m\",\"x\":\"\xff\"}").is_ok());
    }
}
