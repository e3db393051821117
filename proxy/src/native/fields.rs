//! Reading the fields of a request as Go reads them into a struct.

use serde_json::value::RawValue;

use super::json::{each, is_string, text};
use super::{Refusal, Think};

/// Declares the request's fields once: their names on the wire are those in the struct.
macro_rules! fields {
    ($($name:ident),* $(,)?) => {
        /// The fields that are read.
        struct Given<'a> { $($name: Option<&'a RawValue>),* }

        impl<'a> Given<'a> {
            fn read(body: &'a str) -> Result<Self, Refusal> {
                let found = members(body, Keys::AnyCase, [$(stringify!($name)),*]);
                let [$($name),*] = found.map_err(|cause| Refusal {
                    message: format!("the body is not a valid JSON object: {cause}"),
                    param: None,
                })?;
                Ok(Self { $($name),* })
            }
        }
    };
}
pub(super) use fields;

pub fn boolean(field: &'static str, raw: Option<&RawValue>) -> Result<bool, Refusal> {
    match raw.map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refusal::new(field, format!("`{field}` must be a boolean"))),
    }
}

/// An integer of 64 bits as it is spelt: Go takes neither `1.0` nor `1e3` for one.
pub fn integer<'a>(
    field: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Option<&'a RawValue>, Refusal> {
    let wrong = || Refusal::new(field, format!("`{field}` must be an integer"));
    raw.map(|raw| raw.get().parse::<i64>().map(|_| raw).map_err(|_| wrong())).transpose()
}

pub fn number<'a>(
    field: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Option<&'a RawValue>, Refusal> {
    let wrong = || Refusal::new(field, format!("`{field}` must be a number"));
    raw.map(|raw| serde_json::from_str::<f64>(raw.get()).map(|_| raw).map_err(|_| wrong()))
        .transpose()
}

/// How hard a model is to think, in OpenAI's words.
pub fn effort(field: &'static str, raw: &RawValue) -> Result<Option<Think>, Refusal> {
    let wrong = || Refusal::new(field, "the reasoning effort must be a string");
    let effort = text(raw).ok_or_else(wrong)?;
    Ok(Some(match &*effort {
        "" => return Ok(None),
        "none" => Think::Bool(false),
        "minimal" => Think::Level("low".into()),
        "low" | "medium" | "high" | "max" => Think::Level(effort.into_owned()),
        "xhigh" | "ultra" => Think::Level("max".into()),
        _ => {
            let known = "\"minimal\", \"low\", \"medium\", \"high\", \"xhigh\", \"ultra\", \"max\", or \
                         \"none\"";
            let message = format!("invalid reasoning value: {effort:?} (must be {known})");
            return Err(Refusal::new(field, message));
        }
    }))
}

/// An array of strings as they are spelt.
pub fn strings(
    array: &RawValue,
    wrong: impl Fn() -> Refusal + Copy,
) -> Result<Vec<&RawValue>, Refusal> {
    let mut strings = Vec::new();
    each(array, wrong, |one| {
        strings.push(Some(one).filter(|one| is_string(one)).ok_or_else(wrong)?);
        Ok(())
    })?;
    Ok(strings)
}
