//! Finds the few fields the gateway acts on in a JSON body, without building a document of it.
//!
//! The whole body is checked to be JSON; unknown fields, duplicates, number spelling and key order
//! are not looked at, because the original bytes are what is forwarded.
//!
//! Ollama reads keys without regard to case and lets the last one win, so keys are compared the
//! same way here: what is authorised and routed must be what the upstream will act on.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::IgnoredAny;

use crate::json::{self, Malformed, Reader};

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
    let mut found = Found { body, ..Found::default() };
    let mut reader = Reader::new(body);
    reader
        .object(|key, value| found.take(&body[key], Field { span: value }))
        .and_then(|()| Ok(reader.end()?))
        .map_err(|cause| match cause {
            Refused::Syntax => ScanError::Syntax(complaint(body)),
            Refused::TooManyModels => ScanError::Syntax("`model` is given too often".into()),
        })?;
    found.settle()
}

/// Why a body is no object, or cannot be scanned.
enum Refused {
    Syntax,
    TooManyModels,
}

impl From<Malformed> for Refused {
    fn from(Malformed: Malformed) -> Self {
        Refused::Syntax
    }
}

/// What is wrong with a body that is no JSON object, and where.
fn complaint(body: &[u8]) -> String {
    match serde_json::from_slice::<Object>(body) {
        Err(cause) => cause.to_string(),
        Ok(Object) => "it is not all UTF-8".to_owned(),
    }
}

/// An object, whatever is in it.
struct Object;

impl<'de> serde::Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Object)
    }
}

impl<'de> serde::de::Visitor<'de> for Object {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

/// Values as they come; the last of each name wins.
#[derive(Default)]
struct Found<'a> {
    body: &'a [u8],
    models: Vec<Field>,
    stream: Option<Field>,
    stream_options: Option<Field>,
    max_tokens: Option<Field>,
    max_completion_tokens: Option<Field>,
    max_output_tokens: Option<Field>,
    temperature: Option<Field>,
    seed: Option<Field>,
    tool_choice: Option<Field>,
    n: Option<Field>,
    /// Of several `models`, any may be the one that counts.
    names_others: bool,
    enable_cache: Option<Field>,
}

impl<'a> Found<'a> {
    /// Takes a member, whose name stands in `key` with its quotes.
    fn take(&mut self, key: &[u8], value: Field) -> Result<(), Refused> {
        let slot = match Name::of(key) {
            Name::Other => return Ok(()),
            Name::Model if self.models.len() >= MAX_MODELS => return Err(Refused::TooManyModels),
            Name::Model => {
                self.models.push(value);
                return Ok(());
            }
            Name::Models => {
                self.names_others |= self.is_given(&value);
                return Ok(());
            }
            Name::Stream => &mut self.stream,
            Name::StreamOptions => &mut self.stream_options,
            Name::MaxOutputTokens => &mut self.max_output_tokens,
            Name::MaxTokens => &mut self.max_tokens,
            Name::MaxCompletionTokens => &mut self.max_completion_tokens,
            Name::Temperature => &mut self.temperature,
            Name::Seed => &mut self.seed,
            Name::ToolChoice => &mut self.tool_choice,
            Name::N => &mut self.n,
            Name::EnableCache => &mut self.enable_cache,
        };
        *slot = Some(value.clone());
        // What is acted on is text.
        std::str::from_utf8(self.text(&value)).map(drop).map_err(|_| Refused::Syntax)
    }

    fn text(&self, field: &Field) -> &'a [u8] {
        &self.body[field.span.clone()]
    }

    fn is_given(&self, field: &Field) -> bool {
        self.text(field) != b"null"
    }

    /// Whether there is a `field`, and it says something else than `usual`.
    fn differs(&self, field: &Option<Field>, usual: &[u8]) -> bool {
        field.as_ref().is_some_and(|one| self.is_given(one) && self.text(one) != usual)
    }

    fn settle(self) -> Result<Scan, ScanError> {
        let stream = self.boolean("stream", &self.stream)?;
        let enable_cache = self.boolean("enable_cache", &self.enable_cache)?;
        let forced = self.differs(&self.tool_choice, b"\"auto\"");
        let several = self.differs(&self.n, b"1");
        Ok(Scan {
            names_others: self.names_others,
            unheeded: match (forced, several) {
                (true, true) => Some("tool_choice, n"),
                (true, false) => Some("tool_choice"),
                (false, true) => Some("n"),
                (false, false) => None,
            },
            model: self.model()?,
            stream,
            temperature: self.temperature.as_ref().filter(|one| self.is_given(one)).cloned(),
            seeded: self.seed.as_ref().is_some_and(|one| self.is_given(one)),
            enable_cache: enable_cache.zip(self.enable_cache),
            models: self.models,
            stream_field: self.stream,
            stream_options: self.stream_options,
            max_tokens: self.max_tokens,
            max_completion_tokens: self.max_completion_tokens,
            max_output_tokens: self.max_output_tokens,
        })
    }

    /// Servers differ in which of several `model`s they take, and whether case matters, so all must
    /// agree.
    fn model(&self) -> Result<String, ScanError> {
        let text = |field: &Field| -> Result<Cow<'a, str>, ScanError> {
            let raw = self.text(field);
            if raw == b"null" {
                return Ok(Cow::Borrowed(""));
            }
            serde_json::from_slice::<BorrowedText<'a>>(raw)
                .map(|text| text.0)
                .map_err(|_| ScanError::WrongType { field: "model", expected: "a string" })
        };
        let Some((last, before)) = self.models.split_last() else { return Ok(String::new()) };
        if last.span.len() > MAX_MODEL {
            return Err(ScanError::LongModel);
        }
        let chosen = text(last)?;
        for field in before {
            if field.span.len() > MAX_MODEL || text(field)? != chosen {
                return Err(ScanError::AmbiguousModel);
            }
        }
        Ok(chosen.into_owned())
    }

    fn boolean(
        &self,
        name: &'static str,
        field: &Option<Field>,
    ) -> Result<Option<bool>, ScanError> {
        match field.as_ref().map(|field| self.text(field)) {
            None | Some(b"null") => Ok(None),
            Some(b"true") => Ok(Some(true)),
            Some(b"false") => Ok(Some(false)),
            Some(_) => Err(ScanError::WrongType { field: name, expected: "a boolean" }),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

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
    /// What `key`, which has its quotes, names.
    fn of(key: &[u8]) -> Self {
        let inner = &key[1..key.len() - 1];
        if inner.is_ascii() && memchr::memchr(b'\\', inner).is_none() {
            return Self::plain(inner);
        }
        let unescaped = serde_json::from_slice::<String>(key);
        unescaped.map_or(Name::Other, |name| Self::plain(json::folded(&name).as_bytes()))
    }

    fn plain(key: &[u8]) -> Self {
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

    /// As Ollama reads them: what it takes for a stream is one here too.
    #[test]
    fn names_are_folded_as_go_folds_them() {
        for body in [r#"{"model":"m","ſtream":true}"#, r#"{"model":"m","\u017ftream":true}"#] {
            assert_eq!(ok(body).stream, Some(true), "{body}");
        }
        let body = "{\"model\":\"m\",\"max_to\u{212a}ens\":5}";
        assert_eq!(text(body, &ok(body).max_tokens), "5");
        assert_eq!(ok(r#"{"model":"m","štream":true}"#).stream, None);
    }

    #[test]
    fn what_is_acted_on_is_text() {
        for body in [&b"{\"stream_options\":{\"\xff\":1}}"[..], b"{\"max_tokens\":\"\xff\"}"] {
            assert!(matches!(scan(body), Err(ScanError::Syntax(_))));
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
