//! What to do with a request, from what is known of its model and of the line.

use serde::Serialize;

/// The policy for a model that is, or would be, partly on the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Serve it as any other.
    Allow,
    /// Serve it; the caller of this module tells the client.
    Warn,
    /// Another target is preferred.
    Fallback,
    /// Turn the request away.
    Reject,
}

/// What to do with a request at this upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// A place is free now and nobody is before this request.
    Run,
    /// It would run here but must wait in line: places taken, others first, or its model is being
    /// loaded.
    Wait,
    /// Its model is not resident; it fits now, after evicting idle models if need be.
    Load,
    /// Its model is not resident and does not fit now: the others are busy, or too young to be
    /// evicted, or another model is being loaded.
    NoRoom,
    /// Its model is partly on the CPU, or can never fit wholly, and the policy prefers others.
    Partial,
    /// The same, and the policy turns it away.
    Refuse,
}

impl Decision {
    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Run => "run",
            Decision::Wait => "wait",
            Decision::Load => "load",
            Decision::NoRoom => "no_room",
            Decision::Partial => "partial",
            Decision::Refuse => "refuse",
        }
    }
}

/// How a model stands at an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is loaded, or counts as such because nothing is known to the contrary.
    Resident {
        /// Some of it is on the CPU.
        partial: bool,
        /// It takes new requests; false while it empties for a model that starves.
        admits: bool,
    },
    /// It is being loaded.
    Loading,
    /// It is not there.
    Absent {
        /// With every model gone that may go, all of it would fit.
        fits: bool,
        /// It can be loaded now.
        room: bool,
    },
}

/// Decides. `turn`: a place is free and nobody is before this request.
#[must_use]
pub fn decide(standing: Standing, turn: bool, offload: Offload) -> Decision {
    let (spills, otherwise) = match standing {
        Standing::Loading => return Decision::Wait,
        Standing::Resident { partial, admits } => {
            (partial, if turn && admits { Decision::Run } else { Decision::Wait })
        }
        Standing::Absent { fits: false, .. } if offload == Offload::Warn => {
            // It is loaded all the same for those who choose to wait, but elsewhere it may fit.
            return Decision::NoRoom;
        }
        Standing::Absent { fits, room } => {
            (!fits, if room { Decision::Load } else { Decision::NoRoom })
        }
    };
    match offload {
        Offload::Fallback if spills => Decision::Partial,
        Offload::Reject if spills => Decision::Refuse,
        Offload::Allow | Offload::Warn | Offload::Fallback | Offload::Reject => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFLOADS: [Offload; 4] =
        [Offload::Allow, Offload::Warn, Offload::Fallback, Offload::Reject];

    fn resident(partial: bool, admits: bool) -> Standing {
        Standing::Resident { partial, admits }
    }

    fn absent(fits: bool, room: bool) -> Standing {
        Standing::Absent { fits, room }
    }

    #[test]
    fn every_branch_of_the_decision() {
        use Decision::{Load, NoRoom, Partial, Refuse, Run, Wait};
        // Standing, turn, then the decision under allow, warn, fallback, reject.
        let table = [
            (resident(false, true), true, [Run, Run, Run, Run]),
            (resident(false, true), false, [Wait, Wait, Wait, Wait]),
            (resident(false, false), true, [Wait, Wait, Wait, Wait]),
            (resident(false, false), false, [Wait, Wait, Wait, Wait]),
            (resident(true, true), true, [Run, Run, Partial, Refuse]),
            (resident(true, true), false, [Wait, Wait, Partial, Refuse]),
            (resident(true, false), true, [Wait, Wait, Partial, Refuse]),
            (resident(true, false), false, [Wait, Wait, Partial, Refuse]),
            (Standing::Loading, true, [Wait, Wait, Wait, Wait]),
            (Standing::Loading, false, [Wait, Wait, Wait, Wait]),
            (absent(true, true), true, [Load, Load, Load, Load]),
            (absent(true, true), false, [Load, Load, Load, Load]),
            (absent(true, false), true, [NoRoom, NoRoom, NoRoom, NoRoom]),
            (absent(true, false), false, [NoRoom, NoRoom, NoRoom, NoRoom]),
            (absent(false, true), true, [Load, NoRoom, Partial, Refuse]),
            (absent(false, true), false, [Load, NoRoom, Partial, Refuse]),
            (absent(false, false), true, [NoRoom, NoRoom, Partial, Refuse]),
            (absent(false, false), false, [NoRoom, NoRoom, Partial, Refuse]),
        ];
        for (standing, turn, expected) in table {
            let decided = OFFLOADS.map(|offload| decide(standing, turn, offload));
            assert_eq!(decided, expected, "{standing:?}, turn: {turn}");
        }
    }
}
