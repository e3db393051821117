//! API keys: who calls, and what they may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::rate::{Bucket, Unit};
use crate::config::KeyConfig;
use crate::config::glob;
use crate::config::raw::Priority;
use crate::error::{Error, Kind};
use crate::http1::Fields;
use crate::ids::CallerName;
use crate::ollama::same_model;
use crate::openai::bearer;

/// Anthropic's SDKs send the key here.
const X_API_KEY: &str = "x-api-key";

/// Whoever sends a request.
#[derive(Debug)]
pub struct Caller {
    /// The owner of the key.
    pub name: CallerName,
    key: Option<KeyConfig>,
    spent: Mutex<Spent>,
    in_flight: AtomicU32,
}

/// What a caller took of its limits.
#[derive(Debug, Default)]
struct Spent {
    requests: Bucket,
    tokens: Bucket,
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
    pub fn authenticate(&self, client: &Fields) -> Result<&Arc<Caller>, Error> {
        if let Some(anonymous) = &self.anonymous {
            return Ok(anonymous);
        }
        let missing =
            "an API key is needed: send it as `Authorization: Bearer …` or `x-api-key: …`";
        let given = presented(client).ok_or_else(|| Error::new(Kind::Unauthorized, missing))?;
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

fn presented(client: &Fields) -> Option<&[u8]> {
    if client.has("authorization") {
        return bearer(client).map(<[u8]>::trim_ascii);
    }
    client.get(X_API_KEY).map(<[u8]>::trim_ascii)
}

impl Caller {
    fn new(key: Option<KeyConfig>) -> Self {
        let name = key
            .as_ref()
            .map_or_else(CallerName::anonymous, |key| CallerName(Arc::from(key.name.as_str())));
        Self { name, key, spent: Mutex::default(), in_flight: AtomicU32::new(0) }
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

    /// Refuses a request that names further models where the caller has a list: an upstream may choose any
    /// of them.
    pub fn check_others(&self, named: bool) -> Result<(), Error> {
        let limited = self.key.as_ref().is_some_and(|key| key.models.is_some());
        if !(named && limited) {
            return Ok(());
        }
        let message = "this API key has a list of models, and may not leave the choice to `models`";
        Err(Error::new(Kind::Forbidden, message).param("models"))
    }

    /// Whether it has a key, so that its name is one of the configuration's.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        self.key.is_some()
    }

    /// Whether it has a limit by tokens.
    #[must_use]
    pub fn pays_tokens(&self) -> bool {
        self.key.as_ref().is_some_and(|key| key.tokens_per_minute.is_some())
    }

    /// Takes one request out of the caller's limits and one of its places. What the gateway answers
    /// itself takes a place only: chat windows ask over and over what there is.
    ///
    /// # Errors
    /// When one of its limits is used up.
    pub fn enter(self: &Arc<Self>, endpoint: Endpoint) -> Result<Option<CallerPlace>, Error> {
        let Some(key) = &self.key else { return Ok(None) };
        let place = self.take_place(key.max_concurrent)?;
        if endpoint.is_local() {
            return Ok(place);
        }
        let now = Instant::now();
        let mut spent = self.spent.lock();
        let requests = key
            .requests_per_minute
            .map(|limit| (limit, Unit::Requests, spent.requests.wait(limit, now)));
        let tokens = key
            .tokens_per_minute
            .filter(|_| endpoint.runs_model())
            .map(|limit| (limit, Unit::Tokens, spent.tokens.wait(limit, now)));
        // Whoever waits as long as told is not to be refused for the other limit then.
        let longest = requests.into_iter().chain(tokens).max_by_key(|(_, _, wait)| *wait);
        if let Some((limit, unit, wait)) = longest.filter(|(_, _, wait)| !wait.is_zero()) {
            let message =
                format!("over this API key's limit of {limit} {} a minute", unit.as_str());
            return Err(Error::new(Kind::RateLimited, message).retry_after(wait));
        }
        if let Some(limit) = key.requests_per_minute {
            spent.requests.take(limit, 1, now);
        }
        Ok(place)
    }

    /// Takes the tokens of an answer out of the caller's limit. They are known only afterwards, so
    /// more may be taken than there are.
    pub fn spend_tokens(&self, tokens: u64) {
        if let Some(limit) = self.key.as_ref().and_then(|key| key.tokens_per_minute) {
            self.spent.lock().tokens.take(limit, tokens, Instant::now());
        }
    }

    /// The headers that tell how its limits stand.
    #[must_use]
    pub fn limit_headers(&self) -> Vec<(&'static str, String)> {
        let Some(key) = &self.key else { return Vec::new() };
        let (spent, now) = (self.spent.lock(), Instant::now());
        let of = |unit, bucket: &Bucket, limit: Option<u32>| {
            limit.map(|limit| bucket.headers(unit, limit, now)).into_iter().flatten()
        };
        let requests = of(Unit::Requests, &spent.requests, key.requests_per_minute);
        requests.chain(of(Unit::Tokens, &spent.tokens, key.tokens_per_minute)).collect()
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

    fn key(name: &str, secret: &str) -> KeyConfig {
        KeyConfig {
            name: name.into(),
            hash: *blake3::hash(secret.as_bytes()).as_bytes(),
            models: Some(vec!["llama*".into(), "exact:1".into()]),
            tenant: None,
            requests_per_minute: Some(60),
            tokens_per_minute: Some(600),
            max_concurrent: Some(1),
            weight: 1,
            priority: Priority::Interactive,
        }
    }

    fn headers(name: &str, value: &str) -> Fields {
        [(name, value.as_bytes())].into_iter().collect()
    }

    #[test]
    fn the_right_key_names_its_caller_under_both_headers() {
        let callers = Callers::new(&[key("alice", "a"), key("bob", "b")], None);
        let name = |headers: Fields| callers.authenticate(&headers).map(|c| c.name.0.to_string());
        assert_eq!(name(headers("authorization", "Bearer b")).ok().as_deref(), Some("bob"));
        assert_eq!(name(headers("x-api-key", "a")).ok().as_deref(), Some("alice"));
        for wrong in ["Bearer c", "Bearer ", "Basic b", "b", ""] {
            assert!(name(headers("authorization", wrong)).is_err(), "{wrong}");
        }
        assert!(name(Fields::default()).is_err());
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
        let place = caller.enter(Endpoint::ChatCompletions).expect("free");
        assert_eq!(
            caller.enter(Endpoint::ChatCompletions).expect_err("taken").kind,
            Kind::RateLimited
        );
        drop(place);
        assert!(caller.enter(Endpoint::ChatCompletions).is_ok());
    }

    #[test]
    fn an_unchanged_key_keeps_its_counts_over_a_reload() {
        let before = Callers::new(&[key("alice", "a")], None);
        let _place = before.keyed[0].enter(Endpoint::ChatCompletions).expect("free");
        let after = Callers::new(&[key("alice", "a")], Some(&before));
        assert!(after.keyed[0].enter(Endpoint::ChatCompletions).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_paid_afterwards_and_whoever_waits_as_told_is_let_in() {
        let caller = Arc::new(Caller::new(Some(key("alice", "a"))));
        caller.spend_tokens(1_200);
        let refused = caller.enter(Endpoint::ApiChat).expect_err("used up");
        assert_eq!(refused.kind, Kind::RateLimited);
        assert_eq!(refused.message, "over this API key's limit of 600 tokens a minute");
        assert!(caller.enter(Endpoint::ApiShow).is_ok(), "it takes no tokens");
        tokio::time::advance(refused.retry_after.expect("a wait")).await;
        assert!(caller.enter(Endpoint::ApiChat).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_limits_the_one_that_lasts_longer_is_told() {
        let caller = Arc::new(Caller::new(Some(key("alice", "a"))));
        while caller.enter(Endpoint::ChatCompletions).is_ok() {}
        caller.spend_tokens(700);
        let refused = caller.enter(Endpoint::ChatCompletions).expect_err("used up");
        assert_eq!(refused.message, "over this API key's limit of 600 tokens a minute");
        tokio::time::advance(refused.retry_after.expect("a wait")).await;
        assert!(caller.enter(Endpoint::ChatCompletions).is_ok());
    }

    #[test]
    fn made_keys_are_long_and_match_their_hash() {
        let secret = new_key().expect("randomness");
        assert_eq!(secret.len(), "sk-sluicegate-".len() + 64);
        assert_eq!(hash_key("a"), format!("blake3:{}", blake3::hash(b"a").to_hex()));
    }
}
