//! What operators see: metrics, the access log, and the program's own log.

pub mod access_log;
pub mod callers;
pub mod events;
pub mod logging;
pub mod millis;
pub mod names;
pub mod record;
pub mod series;

pub use self::access_log::AccessLog;
pub use self::events::Events;
pub use self::record::{Outcome, Record};
pub use self::series::Registry;
