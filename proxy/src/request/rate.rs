//! Limits by the minute: buckets that hold a minute's worth and fill again evenly.

use std::time::Duration;

use tokio::time::Instant;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Tokens of prompts and answers.
    Tokens,
}

impl Unit {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Requests => "requests",
            Unit::Tokens => "tokens",
        }
    }

    /// OpenAI's headers for the limit, what is left of it, and the time until all of it is there
    /// again (platform.openai.com/docs/guides/rate-limits).
    fn headers(self) -> [&'static str; 3] {
        match self {
            Unit::Requests => [
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-reset-requests",
            ],
            Unit::Tokens => [
                "x-ratelimit-limit-tokens",
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-tokens",
            ],
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// No upstream's figure, however absurd, keeps a caller out for longer.
const MAX_DEBT: Duration = Duration::from_secs(24 * 60 * 60);

/// The generic cell rate algorithm with a burst of one minute's worth: a caller may use its whole
/// minute at once, and then gets it back evenly.
#[derive(Debug, Default)]
pub struct Bucket {
    /// When the bucket would be full again.
    full_at: Option<Instant>,
}

impl Bucket {
    /// How long until one more may be taken; zero when it may be now.
    #[must_use]
    pub fn wait(&self, per_minute: u32, now: Instant) -> Duration {
        if per_minute == 0 {
            return MINUTE;
        }
        // Integer division makes the costs of a whole minute add up to a little less.
        (self.ahead(now) + cost(per_minute, 1)).saturating_sub(MINUTE)
    }

    /// Takes `amount`, be it there or not: what is owed is paid back first.
    pub fn take(&mut self, per_minute: u32, amount: u64, now: Instant) {
        let ahead = (self.ahead(now) + cost(per_minute, amount)).min(MAX_DEBT);
        self.full_at = Some(now + ahead);
    }

    /// The headers that tell how things stand.
    pub fn headers(
        &self,
        unit: Unit,
        per_minute: u32,
        now: Instant,
    ) -> [(&'static str, String); 3] {
        let ahead = self.ahead(now);
        let there = MINUTE.saturating_sub(ahead).as_nanos();
        // At most `per_minute`.
        let left = u32::try_from(there * u128::from(per_minute) / MINUTE.as_nanos());
        let [limit, remaining, until] = unit.headers();
        [
            (limit, per_minute.to_string()),
            (remaining, left.unwrap_or(per_minute).to_string()),
            (until, duration_text(ahead)),
        ]
    }

    fn ahead(&self, now: Instant) -> Duration {
        self.full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }
}

/// The time in which `amount` comes back; without any, the longest there is.
fn cost(per_minute: u32, amount: u64) -> Duration {
    let nanos = (MINUTE.as_nanos() * u128::from(amount)).checked_div(u128::from(per_minute));
    let nanos = nanos.and_then(|nanos| u64::try_from(nanos).ok());
    nanos.map_or(MAX_DEBT, Duration::from_nanos)
}

/// A duration as OpenAI writes them: `0s`, `120ms`, `1s`, `6m0s`, `1h0m0s`, rounded up.
fn duration_text(span: Duration) -> String {
    let millis = span.as_nanos().div_ceil(1_000_000);
    if (1..1_000).contains(&millis) {
        return format!("{millis}ms");
    }
    let all = millis.div_ceil(1_000);
    let (hours, minutes, seconds) = (all / 3_600, all / 60 % 60, all % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bucket: &Bucket, per_minute: u32) -> [String; 3] {
        bucket.headers(Unit::Tokens, per_minute, Instant::now()).map(|(_, value)| value)
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_allows_a_minutes_worth_and_refills_evenly() {
        let mut bucket = Bucket::default();
        for left in (0..60).rev() {
            assert_eq!(bucket.wait(60, Instant::now()), Duration::ZERO);
            bucket.take(60, 1, Instant::now());
            assert_eq!(told(&bucket, 60)[1], left.to_string());
        }
        let wait = bucket.wait(60, Instant::now());
        assert_eq!(wait, Duration::from_secs(1));
        tokio::time::advance(wait).await;
        assert_eq!(bucket.wait(60, Instant::now()), Duration::ZERO);
        bucket.take(60, 1, Instant::now());
        assert!(bucket.wait(60, Instant::now()) > Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_taken_beyond_the_limit_is_paid_back_first() {
        let mut bucket = Bucket::default();
        bucket.take(600, 599, Instant::now());
        assert_eq!(bucket.wait(600, Instant::now()), Duration::ZERO, "one token is left");
        bucket.take(600, 1_801, Instant::now());
        // 1,800 tokens are owed, and one is needed: ten come back in a second.
        let wait = bucket.wait(600, Instant::now());
        assert_eq!(wait, Duration::from_millis(180_100));
        assert_eq!(told(&bucket, 600), ["600", "0", "4m0s"]);
        tokio::time::advance(wait - Duration::from_millis(1)).await;
        assert_eq!(bucket.wait(600, Instant::now()), Duration::from_millis(1));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(bucket.wait(600, Instant::now()), Duration::ZERO);
        tokio::time::advance(Duration::from_secs(120)).await;
        assert_eq!(told(&bucket, 600), ["600", "600", "0s"]);
    }

    #[tokio::test(start_paused = true)]
    async fn figures_out_of_this_world_are_survived() {
        let mut bucket = Bucket::default();
        bucket.take(1, u64::MAX, Instant::now());
        bucket.take(1, u64::MAX, Instant::now());
        assert!(bucket.wait(1, Instant::now()) <= MAX_DEBT);
        assert_eq!(Bucket::default().wait(0, Instant::now()), MINUTE);
        let mut none = Bucket::default();
        none.take(0, 1, Instant::now());
        assert_eq!(told(&none, 0)[1], "0");
    }

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (59_001, "1m0s"),
            (360_000, "6m0s"),
            (3_661_000, "1h1m1s"),
        ] {
            assert_eq!(duration_text(Duration::from_millis(millis)), text);
        }
    }
}
