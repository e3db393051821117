//! What the response cache holds: listed, looked at, dropped.

use http::{Method, StatusCode};
use serde::Serialize;

use crate::cache::entry::Facts;
use crate::cache::key::Key;
use crate::cache::redis::Unavailable;
use crate::cache::selection::Selection;
use crate::cache::{Cache, now};
use crate::error::{Error, Kind};

/// Entries listed unless `limit` says otherwise.
const LISTED: usize = 100;
/// The most that `limit` may say.
const MAX_LISTED: usize = 10_000;

/// Where entries are.
pub(super) const PATH: &str = "/api/cache/entries";

/// An entry as it is listed.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    facts: &'a Facts,
    age_seconds: u64,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

impl<'a> Listed<'a> {
    fn new(facts: &'a Facts, bytes: usize) -> Self {
        Self { facts, age_seconds: now().saturating_sub(facts.stored), bytes, answer: None }
    }
}

/// Answers a request for `path` under [`PATH`]; JSON.
pub(super) async fn answer(
    cache: &Cache,
    method: &Method,
    path: &str,
    query: &str,
) -> Result<String, Error> {
    let rest = path.strip_prefix(PATH).unwrap_or_default();
    match (method, rest.trim_start_matches('/')) {
        (&Method::DELETE, "") => forget(cache, query).await,
        (&Method::DELETE, id) => delete(cache, id).await,
        (_, "") => list(cache, query).await,
        (_, id) => show(cache, id).await,
    }
}

async fn list(cache: &Cache, query: &str) -> Result<String, Error> {
    let limit = match parameter(query, "limit") {
        None => LISTED,
        Some(text) => match text.parse() {
            Ok(limit) if limit <= MAX_LISTED => limit,
            Ok(_) | Err(_) => {
                let message = format!("`limit` is not a number up to {MAX_LISTED}");
                return Err(Error::new(Kind::InvalidRequest, message));
            }
        },
    };
    let selection = selection(query)?.unwrap_or(Selection::All);
    let kept = cache.list(&selection, limit).await.map_err(unavailable)?;
    let listed: Vec<_> = kept.iter().map(|one| Listed::new(&one.facts, one.bytes)).collect();
    json(&serde_json::json!({ "entries": listed }))
}

async fn show(cache: &Cache, id: &str) -> Result<String, Error> {
    let entry = cache.find(&key(id)?).await.map_err(unavailable)?.ok_or_else(absent)?;
    let listed = Listed::new(&entry.facts, entry.answer.size());
    json(&Listed { answer: Some(entry.answer.text()), ..listed })
}

async fn delete(cache: &Cache, id: &str) -> Result<String, Error> {
    if cache.delete(&key(id)?).await.map_err(unavailable)? {
        return json(&serde_json::json!({ "deleted": id }));
    }
    Err(absent())
}

/// Everything is dropped only when it is asked for by name.
async fn forget(cache: &Cache, query: &str) -> Result<String, Error> {
    let Some(selection) = selection(query)? else {
        let message = "say what to drop: ?model=NAME, ?owner=NAME or ?all=true";
        return Err(Error::new(Kind::InvalidRequest, message));
    };
    cache.forget(&selection).await.map_err(unavailable)?;
    json(&serde_json::json!({ "dropped": selection.field() }))
}

fn selection(query: &str) -> Result<Option<Selection>, Error> {
    let owner = parameter(query, "owner").map(Selection::Owner);
    let model = parameter(query, "model").map(Selection::Model);
    let all = parameter(query, "all").filter(|all| all == "true").map(|_| Selection::All);
    let mut given = [owner, model, all].into_iter().flatten();
    let selection = given.next();
    if given.next().is_some() {
        let message = "one of `model`, `owner` and `all` at a time";
        return Err(Error::new(Kind::InvalidRequest, message));
    }
    Ok(selection)
}

/// A parameter of a query (WHATWG URL, application/x-www-form-urlencoded).
fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

fn key(id: &str) -> Result<Key, Error> {
    let message = "this is no entry's id: 64 hexadecimal digits, as in `x-cache-entry`";
    Key::parse(id).ok_or_else(|| Error::new(Kind::InvalidRequest, message))
}

fn absent() -> Error {
    Error::new(Kind::UnknownPath, "no such entry; it may have grown stale")
        .custom(StatusCode::NOT_FOUND.as_u16(), "unknown_entry".into())
}

fn unavailable(_: Unavailable) -> Error {
    Error::new(Kind::Overloaded, "the cache's Redis cannot be reached")
}

fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|_| Error::new(Kind::Internal, "the answer could not be written"))
}
