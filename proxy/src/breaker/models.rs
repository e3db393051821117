//! The breakers of one upstream's models, within the upstream's own.
//!
//! A model that cannot be served, because its file is broken or its runner dies, must not take the
//! others of its host with it: what fails while the host serves another model well counts against
//! the model alone, and that is left alone for `open_for`, as an upstream would be. Without such a
//! witness it counts against the upstream.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Breaker, Change, Reason, State};
use crate::config::raw::BreakerConfig;

/// Models of one upstream that are told apart; more than one serves within a breaker's window.
const MAX_MODELS: usize = 64;

/// The upstream's breaker and those of its models.
#[derive(Debug)]
pub struct ModelBreakers {
    upstream: Arc<Breaker>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: BreakerConfig,
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    model: Arc<str>,
    /// When it last served.
    served: Option<Instant>,
    /// Made when something is first counted against it.
    breaker: Option<Arc<Breaker>>,
}

impl Known {
    fn state(&self) -> State {
        self.breaker.as_ref().map_or(State::Closed, |breaker| breaker.state())
    }
}

/// A model that is left alone, or let through now and then to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftAlone {
    /// The model.
    pub model: Arc<str>,
    /// Why.
    pub reason: Option<Reason>,
}

/// Leave to send one request for one model; see [`super::Pass`].
#[derive(Debug)]
pub struct ModelPass {
    breakers: Arc<ModelBreakers>,
    model: Arc<str>,
    /// Whether the request runs the model: to be told about it is no sign of health.
    runs: bool,
    upstream: super::Pass,
    own: Option<super::Pass>,
}

impl ModelBreakers {
    /// The breakers of the models behind `upstream`, all closed.
    #[must_use]
    pub fn new(upstream: Arc<Breaker>, config: BreakerConfig) -> Self {
        Self { upstream, inner: Mutex::new(Inner { config, known: Vec::new() }) }
    }

    /// Takes new settings over without touching any state.
    pub fn configure(&self, config: BreakerConfig) {
        self.upstream.configure(config);
        let mut inner = self.inner.lock();
        inner.config = config;
        for breaker in inner.known.iter().filter_map(|known| known.breaker.as_ref()) {
            breaker.configure(config);
        }
    }

    /// What is done with requests for `model`: the upstream's state, unless that lets them pass and
    /// the model's does not.
    #[must_use]
    pub fn state(&self, model: &str) -> State {
        match self.upstream.state() {
            State::Closed => {
                let inner = self.inner.lock();
                inner.find(model).map_or(State::Closed, Known::state)
            }
            other => other,
        }
    }

    /// Why requests for `model` do not pass.
    #[must_use]
    pub fn reason(&self, model: &str) -> Option<Reason> {
        self.upstream.reason().or_else(|| self.inner.lock().breaker(model)?.reason())
    }

    /// Asks to send a request for `model`, which `runs` it or only asks about it; the error is how long
    /// to wait before asking again.
    ///
    /// # Errors
    /// When the upstream or the model is left alone.
    pub fn try_pass(self: &Arc<Self>, model: &Arc<str>, runs: bool) -> Result<ModelPass, Duration> {
        let own = self.inner.lock().breaker(model);
        let own = own.map(|breaker| {
            // Nothing but a request tells whether a model can be served.
            if breaker.probe_due().is_some_and(|due| due <= Instant::now()) {
                breaker.probed(true);
            }
            breaker.try_pass()
        });
        let own = own.transpose()?;
        let upstream = self.upstream.try_pass()?;
        let (breakers, model) = (Arc::clone(self), Arc::clone(model));
        Ok(ModelPass { breakers, model, runs, upstream, own })
    }

    /// Opens the breaker of `model`, or the upstream's where nothing shows that it is the model.
    pub fn trip(&self, model: &str, reason: Reason) {
        match self.at_fault(model) {
            Some(own) => own.trip(reason),
            None => self.upstream.trip(reason),
        }
    }

    /// The models that are left alone, or are let through now and then.
    #[must_use]
    pub fn left_alone(&self) -> Vec<LeftAlone> {
        let inner = self.inner.lock();
        let open = inner.known.iter().filter(|known| known.state() != State::Closed);
        open.map(|known| LeftAlone {
            model: Arc::clone(&known.model),
            reason: known.breaker.as_ref().and_then(|breaker| breaker.reason()),
        })
        .collect()
    }

    /// The changes of models' states that were not taken yet.
    pub fn take_changes(&self) -> Vec<(Arc<str>, Change)> {
        let inner = self.inner.lock();
        let mut changes = Vec::new();
        for known in &inner.known {
            while let Some(change) =
                known.breaker.as_ref().and_then(|breaker| breaker.take_change())
            {
                changes.push((Arc::clone(&known.model), change));
            }
        }
        changes
    }

    /// The breaker of `model`, when what went wrong is its fault: it is doubted already, or the
    /// upstream serves another well.
    fn at_fault(&self, model: &str) -> Option<Arc<Breaker>> {
        let mut inner = self.inner.lock();
        let doubted = inner.find(model).is_some_and(|known| known.state() != State::Closed);
        if !doubted && !inner.serves_another(model) {
            return None;
        }
        let config = inner.config;
        let known = inner.enter(model)?;
        let breaker = known.breaker.get_or_insert_with(|| Arc::new(Breaker::new(config)));
        Some(Arc::clone(breaker))
    }

    fn served(&self, model: &Arc<str>) {
        if let Some(known) = self.inner.lock().enter(model) {
            known.served = Some(Instant::now());
        }
    }
}

impl Inner {
    fn find(&self, model: &str) -> Option<&Known> {
        self.known.iter().find(|known| &*known.model == model)
    }

    fn breaker(&self, model: &str) -> Option<Arc<Breaker>> {
        self.find(model)?.breaker.clone()
    }

    fn serves_another(&self, model: &str) -> bool {
        let (now, window) = (Instant::now(), self.config.window.0);
        let lately = |at: Instant| now.duration_since(at) < window;
        self.known.iter().any(|known| {
            let well = known.served.is_some_and(lately) && known.state() == State::Closed;
            well && &*known.model != model
        })
    }

    /// The entry of `model`, made where there is none; `None` when nothing can make way for it.
    fn enter(&mut self, model: &str) -> Option<&mut Known> {
        let at = self.known.iter().position(|known| &*known.model == model);
        let at = match at {
            Some(at) => at,
            None => {
                if self.known.len() >= MAX_MODELS {
                    let idle = self.known.iter().enumerate();
                    let idle = idle.filter(|(_, known)| known.state() == State::Closed);
                    let (oldest, _) = idle.min_by_key(|(_, known)| known.served)?;
                    self.known.swap_remove(oldest);
                }
                self.known.push(Known { model: model.into(), served: None, breaker: None });
                self.known.len() - 1
            }
        };
        self.known.get_mut(at)
    }
}

impl ModelPass {
    /// The answer has begun; see [`super::Pass::begun`].
    pub fn begun(&mut self) {
        self.upstream.begun();
        if !self.runs {
            return;
        }
        if let Some(own) = &mut self.own {
            own.begun();
        }
        self.breakers.served(&self.model);
    }

    /// The upstream answered as it should.
    pub fn success(self) {
        if !self.runs {
            return self.upstream.answered();
        }
        self.breakers.served(&self.model);
        self.upstream.success();
        if let Some(own) = self.own {
            own.success();
        }
    }

    /// The request failed: the model's fault while the upstream serves another well.
    pub fn failure(self) {
        match (self.breakers.at_fault(&self.model), self.own) {
            (Some(_), Some(own)) => own.failure(),
            // Nothing was counted against it when this was sent.
            (Some(breaker), None) => breaker.failure(None),
            (None, _) => self.upstream.failure(),
        }
    }

    /// The upstream cannot be reached, for whatever model.
    pub fn unreachable(self) {
        self.upstream.failure();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::Period;

    fn breakers() -> Arc<ModelBreakers> {
        let config = BreakerConfig {
            errors: 3,
            window: Period::secs(30),
            open_for: Period::secs(10),
            probes: 1,
        };
        Arc::new(ModelBreakers::new(Arc::new(Breaker::new(config)), config))
    }

    fn pass(breakers: &Arc<ModelBreakers>, model: &str) -> Result<ModelPass, Duration> {
        breakers.try_pass(&Arc::from(model), true)
    }

    fn fail(breakers: &Arc<ModelBreakers>, model: &str, times: usize) {
        for _ in 0..times {
            pass(breakers, model).expect("passes").failure();
        }
    }

    fn serve(breakers: &Arc<ModelBreakers>, model: &str) {
        pass(breakers, model).expect("passes").success();
    }

    fn states(breakers: &ModelBreakers) -> (State, State, State) {
        (breakers.upstream.state(), breakers.state("good"), breakers.state("bad"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_model_that_fails_beside_one_that_is_served_is_left_alone_by_itself() {
        let breakers = breakers();
        serve(&breakers, "good");
        fail(&breakers, "bad", 3);
        assert_eq!(states(&breakers), (State::Closed, State::Closed, State::Open));
        assert_eq!(pass(&breakers, "bad").expect_err("rejects"), Duration::from_secs(10));
        assert_eq!(breakers.reason("bad"), Some(Reason::Errors));
        assert_eq!(breakers.reason("good"), None);
        let left = LeftAlone { model: "bad".into(), reason: Some(Reason::Errors) };
        assert_eq!(breakers.left_alone(), [left]);
        serve(&breakers, "good");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_witness_it_is_the_upstream() {
        let breakers = breakers();
        serve(&breakers, "bad");
        fail(&breakers, "bad", 3);
        assert_eq!(states(&breakers), (State::Open, State::Open, State::Open));
        assert_eq!(breakers.left_alone(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn to_be_told_about_a_model_is_no_sign_that_it_runs() {
        let breakers = breakers();
        for _ in 0..3 {
            for _ in 0..10 {
                breakers.try_pass(&Arc::from("good"), false).expect("passes").success();
            }
            fail(&breakers, "bad", 1);
        }
        assert_eq!(states(&breakers).0, State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_witness_of_long_ago_is_none() {
        let breakers = breakers();
        serve(&breakers, "good");
        tokio::time::advance(Duration::from_secs(31)).await;
        fail(&breakers, "bad", 3);
        assert_eq!(states(&breakers).0, State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn two_that_fail_are_no_witnesses_of_each_other() {
        let breakers = breakers();
        serve(&breakers, "good");
        fail(&breakers, "bad", 3);
        tokio::time::advance(Duration::from_secs(31)).await;
        fail(&breakers, "good", 3);
        assert_eq!(states(&breakers).0, State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_reached_is_never_a_models_fault() {
        let breakers = breakers();
        serve(&breakers, "good");
        for _ in 0..3 {
            pass(&breakers, "bad").expect("passes").unreachable();
        }
        assert_eq!(states(&breakers).0, State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_finds_out_and_decides() {
        let breakers = breakers();
        serve(&breakers, "good");
        fail(&breakers, "bad", 3);
        tokio::time::advance(Duration::from_secs(40)).await;
        // Nobody else was served lately: it is doubted all the same.
        let probe = pass(&breakers, "bad").expect("one");
        assert_eq!(breakers.state("bad"), State::HalfOpen);
        assert!(pass(&breakers, "bad").is_err(), "one at a time");
        probe.failure();
        assert_eq!(states(&breakers), (State::Closed, State::Closed, State::Open));
        tokio::time::advance(Duration::from_secs(10)).await;
        let mut probe = pass(&breakers, "bad").expect("one");
        probe.begun();
        assert_eq!(states(&breakers), (State::Closed, State::Closed, State::Closed));
        let told: Vec<State> =
            breakers.take_changes().into_iter().map(|(_, change)| change.state).collect();
        let again = [State::HalfOpen, State::Open];
        assert_eq!(told, [&[State::Open][..], &again, &[State::HalfOpen, State::Closed]].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_upstream_gives_a_models_probe_back() {
        let breakers = breakers();
        serve(&breakers, "good");
        fail(&breakers, "bad", 3);
        tokio::time::advance(Duration::from_secs(10)).await;
        breakers.upstream.trip(Reason::Errors);
        assert!(pass(&breakers, "bad").is_err());
        breakers.upstream.probed(true);
        assert!(pass(&breakers, "bad").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn failed_loads_trip_the_model_or_the_upstream() {
        let breakers = breakers();
        breakers.trip("bad", Reason::Loads { failed: 2 });
        assert_eq!(states(&breakers).0, State::Open);
        breakers.upstream.probed(true);
        serve(&breakers, "good");
        breakers.trip("bad", Reason::Loads { failed: 2 });
        assert_eq!(states(&breakers), (State::Closed, State::Closed, State::Open));
    }

    #[tokio::test(start_paused = true)]
    async fn models_are_bounded_and_those_left_alone_stay() {
        let breakers = breakers();
        serve(&breakers, "good");
        fail(&breakers, "bad", 3);
        for number in 0..200 {
            tokio::time::advance(Duration::from_millis(1)).await;
            serve(&breakers, &format!("model-{number}"));
        }
        let inner = breakers.inner.lock();
        assert_eq!(inner.known.len(), MAX_MODELS);
        assert!(inner.find("model-199").is_some() && inner.find("model-0").is_none());
        assert_eq!(inner.find("bad").map(Known::state), Some(State::Open));
    }
}
