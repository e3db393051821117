//! Fairness by caller: an account of service received, divided by the caller's weight.
//!
//! Start-time fair queueing. `floor` is the virtual time: it grows with all service divided by the
//! weight of all active callers, and a caller that becomes active starts there at the least, so
//! that nobody saves up turns while idle. It grows with the service of callers that come once and
//! never again too: otherwise an endless row of those would keep everyone else waiting for ever.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

/// Idle callers that still owe are remembered up to this number; above it their debts are waived.
const MAX_IDLE: usize = 256;

/// The accounts of one upstream's callers, in nanoseconds of service per unit of weight.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    callers: HashMap<Arc<str>, Account, RandomState>,
    floor: u64,
    /// Active requests, of all callers.
    active: usize,
    /// Sum of the active callers' weights.
    weight: u64,
}

#[derive(Debug)]
struct Account {
    used: u64,
    /// What of it is charged for requests that still run.
    ahead: u64,
    weight: u32,
    /// Requests that wait or run.
    active: usize,
}

impl Accounts {
    /// One more request of `caller` waits or runs.
    pub(super) fn begin(&mut self, caller: &Arc<str>, weight: u32) {
        let weight = weight.max(1);
        if self.active == 0 {
            // Nobody was kept waiting: whatever was used is of no account.
            self.callers.clear();
            (self.floor, self.weight) = (0, 0);
        }
        self.active += 1;
        if let Some(account) = self.callers.get_mut(caller).filter(|one| one.active > 0) {
            account.active += 1;
            self.weight = self.weight - u64::from(account.weight) + u64::from(weight);
            account.weight = weight;
            return;
        }
        self.settle_floor();
        let floor = self.floor;
        let new = Account { used: floor, ahead: 0, weight, active: 0 };
        let account = self.callers.entry(Arc::clone(caller)).or_insert(new);
        account.used = account.used.max(floor);
        account.weight = weight;
        account.active = 1;
        self.weight += u64::from(weight);
    }

    /// A request of `caller` has left or has been served.
    pub(super) fn end(&mut self, caller: &str) {
        let Some(account) = self.callers.get_mut(caller) else { return };
        self.active = self.active.saturating_sub(1);
        account.active = account.active.saturating_sub(1);
        if account.active > 0 {
            return;
        }
        account.ahead = 0;
        self.weight = self.weight.saturating_sub(u64::from(account.weight));
        if account.used <= self.floor {
            self.callers.remove(caller);
        } else if self.callers.len() > self.active + MAX_IDLE {
            let floor = self.floor;
            self.callers.retain(|_, one| one.active > 0 || one.used > floor);
            if self.callers.len() > self.active + MAX_IDLE {
                self.callers.retain(|_, one| one.active > 0);
            }
        }
    }

    /// Charges `caller` for a request that begins, with the time it will take by experience.
    pub(super) fn charge(&mut self, caller: &str, expected: Duration) {
        if let Some(account) = self.callers.get_mut(caller) {
            let own = nanos(expected) / u64::from(account.weight);
            account.used = account.used.saturating_add(own);
            account.ahead = account.ahead.saturating_add(own);
        }
    }

    /// Puts the charge right by the time it took.
    pub(super) fn served(&mut self, caller: &str, expected: Duration, service: Duration) {
        self.floor = self.floor.saturating_add(nanos(service) / self.weight.max(1));
        if let Some(account) = self.callers.get_mut(caller) {
            let weight = u64::from(account.weight);
            let charged = nanos(expected) / weight;
            account.ahead = account.ahead.saturating_sub(charged);
            account.used =
                account.used.saturating_sub(charged).saturating_add(nanos(service) / weight);
        }
    }

    /// What `caller` has used; the smallest goes first.
    pub(super) fn used(&self, caller: &str) -> u64 {
        self.callers.get(caller).map_or(self.floor, |account| account.used)
    }

    /// Callers on record.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.callers.len()
    }

    /// Active requests.
    #[cfg(test)]
    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// Keeps the floor between the smallest and the largest account of the active. What is charged
    /// ahead does not raise it: a newcomer goes before the second request of whoever runs now.
    fn settle_floor(&mut self) {
        let active = self.callers.values().filter(|one| one.active > 0);
        let bounds = active.fold(None, |bounds: Option<(u64, u64)>, one| {
            let (least, most) = (one.used.saturating_sub(one.ahead), one.used);
            Some(bounds.map_or((least, most), |(low, high)| (low.min(least), high.max(most))))
        });
        if let Some((low, high)) = bounds {
            self.floor = self.floor.clamp(low, high);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(accounts: &mut Accounts, caller: &str, seconds: u64) {
        accounts.charge(caller, Duration::from_secs(1));
        accounts.served(caller, Duration::from_secs(1), Duration::from_secs(seconds));
    }

    #[test]
    fn a_debt_outlives_a_pause_and_is_paid_by_the_service_of_others() {
        let mut accounts = Accounts::default();
        let (x, y): (Arc<str>, Arc<str>) = ("x".into(), "y".into());
        accounts.begin(&x, 1);
        accounts.begin(&y, 1);
        serve(&mut accounts, "x", 100);
        accounts.end("x");
        accounts.begin(&x, 1);
        assert!(accounts.used("x") > accounts.used("y"), "the debt is not forgotten");
        accounts.end("x");
        serve(&mut accounts, "y", 1_000);
        accounts.begin(&x, 1);
        assert_eq!(accounts.used("x"), accounts.used("y"), "nor is a turn saved up meanwhile");
        accounts.end("x");
        accounts.end("y");
        accounts.begin(&x, 1);
        assert_eq!((accounts.used("x"), accounts.len()), (0, 1), "an idle upstream forgets");
    }

    #[test]
    fn a_weight_of_zero_counts_as_one() {
        let mut accounts = Accounts::default();
        accounts.begin(&"x".into(), 0);
        serve(&mut accounts, "x", 5);
        assert_eq!(accounts.used("x"), 5_000_000_000);
    }
}
