//! Why a breaker is open.

use std::fmt;
use std::sync::Arc;

/// Why a breaker does not pass requests. Displays as one short sentence for people, without the
/// upstream's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The upstream failed too often within the window.
    Errors,
    /// The GPU's memory is nearly full.
    Vram {
        /// Part of the memory that is in use, in per cent.
        percent: u8,
    },
    /// The GPU's memory is nearly full, and not with what the upstream has loaded.
    Foreign {
        /// Bytes that others hold.
        bytes: u64,
    },
    /// The GPU is too hot.
    Heat {
        /// Degrees Celsius.
        celsius: u16,
    },
    /// A model answers far slower than was learned.
    Decode {
        /// The model.
        model: Arc<str>,
        /// Its last speed, in per cent of what was learned.
        percent: u8,
    },
    /// Models could not be loaded.
    Loads {
        /// How many in a row.
        failed: u32,
    },
}

impl Reason {
    /// The name in logs and metrics; the same whatever the figures.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Reason::Errors => "errors",
            Reason::Vram { .. } => "vram",
            Reason::Foreign { .. } => "foreign",
            Reason::Heat { .. } => "heat",
            Reason::Decode { .. } => "decode",
            Reason::Loads { .. } => "loads",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Errors => f.write_str("too many errors"),
            Reason::Vram { percent } => write!(f, "{percent} % of the GPU's memory is in use"),
            Reason::Foreign { bytes } => {
                write!(f, "others hold {} MiB of the GPU's memory", bytes >> 20)
            }
            Reason::Heat { celsius } => write!(f, "the GPU is at {celsius} C"),
            Reason::Decode { model, percent } => {
                write!(f, "`{model}` answers at {percent} % of its usual speed")
            }
            Reason::Loads { failed: 1 } => f.write_str("a model could not be loaded"),
            Reason::Loads { failed } => write!(f, "{failed} loads in a row failed"),
        }
    }
}
