//! API keys: who calls, and what they may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::config::KeyConfig;
use crate::config::glob;
use crate::config::raw::Priority;
use crate::error::{Error, Kind};
use crate::ids::CallerName;
use crate::ollama::same_model;

/// Anthropic's SDKs send the key here.
const X_API_KEY: &str = "x-api-key";

/// Whoever sends a request.
#[derive(Debug)]
pub struct Caller {
    /// The owner of the key.
    pub name: CallerName,
    key: Option<KeyConfig>,
    rate: Mutex<Rate>,
    in_flight: AtomicU32,
}

/// All callers known.
#[derive(Debug)]
pub struct Callers {
    anonymous: Option<Arc<Caller>>,
    keyed: Vec<Arc<Caller>>,
}

/// One of a caller's places, given back when dropped.
#[derive(Debug)]
pub struct CallerPlace(Arc<Caller>);

impl Callers {
    /// The callers of `keys`; a caller of `previous` whose key is unchanged keeps its counts.
    #[must_use]
    pub fn new(keys: &[KeyConfig], previous: Option<&Callers>) -> Self {
        let known = previous.map_or(&[][..], |callers| &callers.keyed);
        let keyed = keys
            .iter()
            .map(|key| {
                let same = known.iter().find(|caller| caller.key.as_ref() == Some(key));
                same.map_or_else(|| Arc::new(Caller::new(Some(key.clone()))), Arc::clone)
            })
            .collect::<Vec<_>>();
        let anonymous = keys.is_empty().then(|| Arc::new(Caller::new(None)));
        Self { anonymous, keyed }
    }

    /// Whether no key is needed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.anonymous.is_some()
    }

    /// Finds the caller of a request.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<&Arc<Caller>, Error> {
        if let Some(anonymous) = &self.anonymous {
            return Ok(anonymous);
        }
        let missing = "an API key is needed: send it as `Authorization: Bearer …`";
        let given = presented(headers).ok_or_else(|| Error::new(Kind::Unauthorized, missing))?;
        let hash = blake3::hash(given);
        let mut found = None;
        // Every key is compared, each in constant time, so that timing tells nothing.
        for caller in &self.keyed {
            let expected = caller.key.as_ref().map_or(&[0; 32], |key| &key.hash);
            if bool::from(expected.ct_eq(hash.as_bytes())) {
                found = Some(caller);
            }
        }
        found.ok_or_else(|| Error::new(Kind::Unauthorized, "this API key is not known"))
    }
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        return scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii());
    }
    headers.get(X_API_KEY).map(|value| value.as_bytes().trim_ascii())
}

impl Caller {
    fn new(key: Option<KeyConfig>) -> Self {
        let name = key
            .as_ref()
            .map_or_else(CallerName::anonymous, |key| CallerName(Arc::from(key.name.as_str())));
        Self { name, key, rate: Mutex::default(), in_flight: AtomicU32::new(0) }
    }

    /// The tenant it belongs to.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        self.key.as_ref()?.tenant.as_deref()
    }

    /// Its share relative to other callers.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.key.as_ref().map_or(1, |key| key.weight)
    }

    /// Who goes first.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.key.as_ref().map_or(Priority::Interactive, |key| key.priority)
    }

    /// Whether the caller may ask for `model`.
    #[must_use]
    pub fn may_use(&self, model: &str) -> bool {
        let allowed = self.key.as_ref().and_then(|key| key.models.as_ref());
        allowed.is_none_or(|globs| {
            globs.iter().any(|pattern| glob::matches(pattern, model) || same_model(pattern, model))
        })
    }

    /// Refuses a model outside the caller's list.
    pub fn check_model(&self, model: &str) -> Result<(), Error> {
        if self.may_use(model) {
            return Ok(());
        }
        let message = format!("this API key may not use the model `{model}`");
        Err(Error::new(Kind::Forbidden, message).param("model"))
    }

    /// Takes one request out of the caller's rate and one of its places.
    pub fn enter(self: &Arc<Self>) -> Result<Option<CallerPlace>, Error> {
        let Some(key) = &self.key else { return Ok(None) };
        let place = self.take_place(key.max_concurrent)?;
        if let Some(per_minute) = key.requests_per_minute {
            let taken = self.rate.lock().take(per_minute, Instant::now());
            taken.map_err(|wait| {
                let message =
                    format!("over this API key's limit of {per_minute} requests a minute");
                Error::new(Kind::RateLimited, message).retry_after(wait)
            })?;
        }
        Ok(place)
    }

    fn take_place(self: &Arc<Self>, most: Option<u32>) -> Result<Option<CallerPlace>, Error> {
        let Some(most) = most else { return Ok(None) };
        let before = self.in_flight.fetch_add(1, Ordering::AcqRel);
        let place = CallerPlace(Arc::clone(self));
        if before >= most {
            let message = format!("over this API key's limit of {most} requests at one time");
            return Err(Error::new(Kind::RateLimited, message).retry_after(Duration::from_secs(1)));
        }
        Ok(Some(place))
    }
}

impl Drop for CallerPlace {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The generic cell rate algorithm with a burst of one minute's worth: a caller may use its whole
/// minute at once, and then gets it back evenly.
#[derive(Debug, Default)]
struct Rate {
    /// When the bucket would be full again.
    full_at: Option<Instant>,
}

impl Rate {
    fn take(&mut self, per_minute: u32, now: Instant) -> Result<(), Duration> {
        const MINUTE: Duration = Duration::from_secs(60);
        if per_minute == 0 {
            return Err(MINUTE);
        }
        let cost = MINUTE / per_minute;
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + cost;
        let ahead = full_at.duration_since(now);
        // Integer division makes the costs of a whole minute add up to a little less.
        if ahead > MINUTE {
            return Err(ahead - MINUTE);
        }
        self.full_at = Some(full_at);
        Ok(())
    }
}

/// Makes a key that no one can guess: 32 bytes of the system's randomness.
pub fn new_key() -> Result<String, getrandom::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)?;
    let hex = blake3::Hash::from_bytes(random).to_hex();
    Ok(format!("sk-sluicegate-{hex}"))
}

/// What the configuration holds instead of the key.
#[must_use]
pub fn hash_key(key: &str) -> String {
    format!("blake3:{}", blake3::hash(key.as_bytes()).to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn key(name: &str, secret: &str) -> KeyConfig {
        KeyConfig {
            name: name.into(),
            hash: *blake3::hash(secret.as_bytes()).as_bytes(),
            models: Some(vec!["llama*".into(), "exact:1".into()]),
            tenant: None,
            requests_per_minute: Some(60),
            max_concurrent: Some(1),
            weight: 1,
            priority: Priority::Interactive,
        }
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            http::HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn the_right_key_names_its_caller_under_both_headers() {
        let callers = Callers::new(&[key("alice", "a"), key("bob", "b")], None);
        let name = |headers| callers.authenticate(&headers).map(|c| c.name.0.to_string());
        assert_eq!(name(headers("authorization", "Bearer b")).ok().as_deref(), Some("bob"));
        assert_eq!(name(headers("x-api-key", "a")).ok().as_deref(), Some("alice"));
        for wrong in ["Bearer c", "Bearer ", "Basic b", "b", ""] {
            assert!(name(headers("authorization", wrong)).is_err(), "{wrong}");
        }
        assert!(name(HeaderMap::new()).is_err());
    }

    #[test]
    fn models_are_limited_to_the_list() {
        let caller = Caller::new(Some(key("alice", "a")));
        assert!(caller.may_use("llama3.2:3b") && caller.may_use("exact:1"));
        assert!(!caller.may_use("exact:12") && !caller.may_use("gpt"));
    }

    #[test]
    fn places_are_given_back() {
        let caller = Arc::new(Caller::new(Some(key("alice", "a"))));
        let place = caller.enter().expect("free");
        assert_eq!(caller.enter().expect_err("taken").kind, Kind::RateLimited);
        drop(place);
        assert!(caller.enter().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_allows_a_minutes_worth_and_refills_evenly() {
        let mut rate = Rate::default();
        for _ in 0..60 {
            rate.take(60, Instant::now()).expect("within the minute");
        }
        let wait = rate.take(60, Instant::now()).expect_err("used up");
        assert_eq!(wait, Duration::from_secs(1));
        tokio::time::advance(wait).await;
        assert!(rate.take(60, Instant::now()).is_ok());
        assert!(rate.take(60, Instant::now()).is_err());
    }

    #[test]
    fn an_unchanged_key_keeps_its_counts_over_a_reload() {
        let before = Callers::new(&[key("alice", "a")], None);
        let _place = before.keyed[0].enter().expect("free");
        let after = Callers::new(&[key("alice", "a")], Some(&before));
        assert!(after.keyed[0].enter().is_err());
    }

    #[test]
    fn made_keys_are_long_and_match_their_hash() {
        let secret = new_key().expect("randomness");
        assert_eq!(secret.len(), "sk-sluicegate-".len() + 64);
        assert_eq!(hash_key("a"), format!("blake3:{}", blake3::hash(b"a").to_hex()));
    }
}
