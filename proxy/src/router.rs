//! Where a model name leads: routes by exact name and glob, weights, fallbacks, and every other
//! model by its own name to the upstreams that have it. Cheap; sends nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::config::{Config, RouteConfig, TargetConfig, glob};

/// One upstream (by its index in the configuration) and the model's name there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Index into the configured upstreams.
    pub upstream: usize,
    /// The model's name there.
    pub model: Arc<str>,
    /// Its share in the route.
    pub weight: u32,
}

/// Where one request may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// To be tried first, best first.
    pub targets: Vec<Target>,
    /// To be tried in order when none of `targets` can serve.
    pub fallback: Vec<Target>,
    /// After how long a waiting stream is committed and fed comments.
    pub wait_comments: Option<Duration>,
    /// Why, for the client: `route` or `own-name`.
    pub reason: &'static str,
    /// The route it came from: an index into the configured ones.
    pub route: Option<usize>,
    /// Whether plugins may send text to a stream that waits.
    pub waiting_text: bool,
    /// A plugin put the targets in this order, knowing what is loaded where.
    pub ranked: bool,
}

/// The routes of a configuration.
#[derive(Debug)]
pub struct Table {
    exact: HashMap<String, (usize, RouteConfig), RandomState>,
    globs: Vec<(usize, RouteConfig)>,
}

impl Table {
    /// Reads the routes out of `config`, which has no two of the same name.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let (globs, named): (Vec<_>, Vec<_>) = (0..)
            .zip(config.routes.iter().cloned())
            .partition(|(_, route)| route.model.contains('*'));
        let exact = named.into_iter().map(|route| (route.1.model.clone(), route)).collect();
        Self { exact, globs }
    }

    /// The names of routes without a star, which clients can be shown.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.exact.keys().map(String::as_str)
    }

    /// The plan of the route that serves `model`, if there is one.
    #[must_use]
    pub fn route(&self, model: &str) -> Option<Plan> {
        let by_glob = || self.globs.iter().find(|(_, route)| glob::matches(&route.model, model));
        let (index, route) = self.exact.get(model).or_else(by_glob)?;
        let resolve = |target: &TargetConfig| Target {
            upstream: target.upstream,
            model: target.model.as_deref().map_or_else(|| Arc::from(model), Arc::from),
            weight: target.weight,
        };
        let weights: Vec<u32> = route.targets.iter().map(|target| target.weight).collect();
        let order = weighted_order(&weights, fastrand::f64);
        Some(Plan {
            targets: order.into_iter().map(|index| resolve(&route.targets[index])).collect(),
            fallback: route.fallback.iter().map(resolve).collect(),
            wait_comments: route.wait_comments,
            reason: "route",
            route: Some(*index),
            waiting_text: route.waiting_text,
            ranked: false,
        })
    }
}

/// The plan for a model that no route names: the upstreams that have it, else those of which it is
/// not known, in the order of the configuration. `None` when all are known not to have it.
#[must_use]
pub fn by_own_name(model: &str, has: &[Option<bool>]) -> Option<Plan> {
    let name: Arc<str> = Arc::from(model);
    let pick = |wanted: Option<bool>| -> Vec<Target> {
        has.iter()
            .enumerate()
            .filter(|(_, known)| **known == wanted)
            .map(|(upstream, _)| Target { upstream, model: Arc::clone(&name), weight: 1 })
            .collect()
    };
    let mut targets = pick(Some(true));
    if targets.is_empty() {
        targets = pick(None);
    }
    (!targets.is_empty()).then_some(Plan {
        targets,
        fallback: Vec::new(),
        wait_comments: None,
        reason: "own-name",
        route: None,
        waiting_text: false,
        ranked: false,
    })
}

/// Indexes in random order, each place drawn by weight among those left (Efraimidis and Spirakis,
/// 2006). Weight 0 comes last.
fn weighted_order(weights: &[u32], mut random: impl FnMut() -> f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    if weights.len() > 1 {
        let keys: Vec<f64> = weights
            .iter()
            .map(|weight| match weight {
                0 => -1.0,
                weight => random().powf(1.0 / f64::from(*weight)),
            })
            .collect();
        order.sort_by(|a, b| keys[*b].total_cmp(&keys[*a]));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Source;

    fn table(routes: &str) -> Table {
        let text = format!(
            "upstreams:\n  a: {{ url: http://h:1, kind: ollama }}\n  b: {{ url: http://h:2, kind: ollama }}\nroutes:\n{routes}"
        );
        let source = Source { file: "t".into(), text };
        Table::new(&Config::from_source(&source, HashMap::new()).expect("valid"))
    }

    #[test]
    fn an_exact_name_wins_over_a_glob_and_an_earlier_glob_over_a_later() {
        let table = table(concat!(
            "  - { model: 'gpt-*', targets: [{ upstream: b, model: glob }] }\n",
            "  - { model: '*', targets: [{ upstream: b, model: all }] }\n",
            "  - { model: gpt-4, targets: [{ upstream: a, model: exact }] }\n",
        ));
        let to = |model: &str| table.route(model).expect("a route").targets[0].model.to_string();
        assert_eq!(to("gpt-4"), "exact");
        assert_eq!(to("gpt-5"), "glob");
        assert_eq!(to("other"), "all");
    }

    #[test]
    fn a_target_without_a_model_keeps_the_name_asked_for() {
        let table = table("  - { model: 'x*', targets: [{ upstream: b }] }\n");
        let plan = table.route("xyz").expect("a route");
        assert_eq!(plan.targets, [Target { upstream: 1, model: "xyz".into(), weight: 1 }]);
    }

    #[test]
    fn first_places_follow_the_weights_and_zero_comes_last() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut firsts = [0_u32; 3];
        for _ in 0..10_000 {
            let order = weighted_order(&[1, 3, 0], || rng.f64());
            firsts[order[0]] += 1;
            assert_eq!(order[2], 2);
        }
        assert!((2_300..2_700).contains(&firsts[0]), "{firsts:?}");
    }

    #[test]
    fn an_unrouted_model_goes_where_it_is_or_may_be() {
        let upstreams = |has: &[Option<bool>]| {
            by_own_name("m", has).map(|plan| plan.targets.iter().map(|t| t.upstream).collect())
        };
        assert_eq!(upstreams(&[Some(false), Some(true), None]), Some(vec![1]));
        assert_eq!(upstreams(&[Some(false), None]), Some(vec![1]));
        assert_eq!(upstreams(&[Some(false)]), None);
    }
}
