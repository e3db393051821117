//! The order of targets for a request.

use std::cmp::Reverse;

use sluicegate_plugin::Request;
use sluicegate_plugin::router::{Breaker, Ranked, Target};

use crate::config::{Config, TargetName};
use crate::score::{Level, Verdict};

/// An order of targets.
pub(crate) struct Order {
    /// Those to try.
    pub(crate) ranked: Vec<Ranked>,
    /// Whether the target on trial is the first.
    pub(crate) canary: bool,
}

/// Orders `targets`. Those that cannot hold the prompt are left out while another can.
pub(crate) fn order(
    config: &Config,
    request: &Request,
    verdict: &Verdict,
    targets: &[Target],
) -> Order {
    let room = Room::new(config, request);
    let held = targets.iter().any(|target| closed_enough(target) && room.holds(target));
    let viable = |target: &Target| !held || room.holds(target);
    let wish = Wish::new(config, verdict, targets);
    let canary = config.canary.as_ref();
    let on_trial = |target: &Target| canary.is_some_and(|canary| canary.target.names(target));
    let chosen = canary.is_some_and(|canary| in_share(request.conversation, canary.share))
        && targets.iter().any(|target| on_trial(target) && closed_enough(target) && viable(target));

    let mut places: Vec<(u32, Place)> = Vec::with_capacity(targets.len());
    for (index, target) in (0_u32..).zip(targets) {
        if viable(target) {
            let first = chosen && on_trial(target) && closed_enough(target);
            let place = Place {
                not_first: !first,
                fallback: target.fallback,
                open: !closed_enough(target),
                on_trial: on_trial(target),
                room: Reverse(if held { 0 } else { room.of(target) }),
                loads: wish.loads(target),
                distance: wish.distance(target),
                cold: wish.is_named(target) && wish.prefer_resident && !is_warm(target),
            };
            places.push((index, place));
        }
    }
    Order { ranked: weigh(&places), canary: chosen }
}

/// Where a target stands; what comes first here counts most, and `false` goes before `true`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    not_first: bool,
    fallback: bool,
    open: bool,
    on_trial: bool,
    room: Reverse<u64>,
    loads: bool,
    distance: u8,
    cold: bool,
}

/// Equal places get equal weights, so that the order given decides between them.
fn weigh(places: &[(u32, Place)]) -> Vec<Ranked> {
    let mut distinct: Vec<Place> = places.iter().map(|(_, place)| *place).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let weight = |place| distinct.len() - distinct.partition_point(|other| *other < place);
    let weighed = places.iter().map(|(target, place)| (*target, weight(*place)));
    weighed.map(|(target, weight)| Ranked { target, weight: weight as f64 }).collect()
}

fn closed_enough(target: &Target) -> bool {
    target.breaker != Breaker::Open
}

/// Loaded, whole on the GPU, and working.
fn is_warm(target: &Target) -> bool {
    target.resident == Some(true)
        && target.partial != Some(true)
        && target.breaker == Breaker::Closed
}

/// Which targets suit a request.
struct Wish<'a> {
    config: &'a Config,
    level: Level,
    class_target: Option<&'a TargetName>,
    level_target: Option<&'a TargetName>,
    prefer_resident: bool,
}

impl<'a> Wish<'a> {
    fn new(config: &'a Config, verdict: &Verdict, targets: &[Target]) -> Self {
        // A name of another route's target says nothing about these.
        let here = |name: &&TargetName| targets.iter().any(|target| name.names(target));
        Self {
            config,
            level: verdict.level,
            class_target: config.class_target(verdict.class).filter(here),
            level_target: config.levels.target(verdict.level).filter(here),
            prefer_resident: config.prefer_resident,
        }
    }

    /// How far `target` is from the one wanted: the class's own, the level's own, the next larger,
    /// those of unknown size, the next smaller. Where the level names none here, those of unknown
    /// size are the level's own.
    fn distance(&self, target: &Target) -> u8 {
        if self.class_target.is_some_and(|name| name.names(target)) {
            return 0;
        }
        if self.level_target.is_some_and(|name| name.names(target)) {
            return 1;
        }
        match self.size(target) {
            Some(size) if size >= self.level => 1 + (size as u8 - self.level as u8),
            Some(size) => 5 + (self.level as u8 - size as u8),
            None if self.level_target.is_some() => 5,
            None => 1,
        }
    }

    /// The highest level `target` is named for.
    fn size(&self, target: &Target) -> Option<Level> {
        let levels = Level::ALL.into_iter().rev();
        levels
            .into_iter()
            .find(|level| self.config.levels.target(*level).is_some_and(|name| name.names(target)))
    }

    fn is_named(&self, target: &Target) -> bool {
        self.distance(target) == 0 || self.size(target).is_some()
    }

    /// Whether a model must be loaded although another, good enough, may be loaded already.
    fn loads(&self, target: &Target) -> bool {
        let matters = self.prefer_resident && self.level != Level::Complex;
        matters && !(is_warm(target) && self.suffices(target))
    }

    fn suffices(&self, target: &Target) -> bool {
        let unknown = self.level_target.is_none() && self.class_target.is_none();
        self.level == Level::Simple
            || self.distance(target) == 0
            || self.size(target).map_or(unknown, |size| size >= self.level)
    }
}

/// How long a prompt may be.
struct Room<'a> {
    config: &'a Config,
    prompt: u64,
    answer: u64,
}

impl<'a> Room<'a> {
    fn new(config: &'a Config, request: &Request) -> Self {
        let answer = request.parameters.max_tokens.unwrap_or(0);
        Self { config, prompt: request.shape.prompt_tokens, answer }
    }

    /// Tokens of prompt that `target` can take.
    fn of(&self, target: &Target) -> u64 {
        let context = target.context_length.map(|length| length.saturating_sub(self.answer));
        context.unwrap_or(u64::MAX).min(self.config.max_prompt_tokens(target))
    }

    fn holds(&self, target: &Target) -> bool {
        self.prompt <= self.of(target)
    }
}

/// Whether a conversation is among the `share` that goes to the target on trial; an unknown one
/// (0) never is.
fn in_share(conversation: u64, share: f64) -> bool {
    if conversation == 0 {
        return false;
    }
    // SplitMix64's finish: conversations that differ in one bit land far apart.
    let mixed = (conversation ^ (conversation >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let mixed = mixed ^ (mixed >> 31);
    ((mixed >> 11) as f64) < share * (1_u64 << 53) as f64
}
