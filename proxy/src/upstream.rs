//! The upstream leg: where a server is, pooled keep-alive connections to it, one exchange on them,
//! and what it says it has.
//!
//! A connection is driven by whoever uses it, inside the task that serves the client: no task of
//! its own, no channel between two. Dropping an exchange closes the connection, which is how an
//! upstream learns that the client left.

pub mod ask;
pub mod catalogue;
pub mod connect;
pub mod connection;
pub mod container;
pub mod digests;
pub mod exchange;
pub mod figures;
pub mod learned;
pub mod loads;
pub mod origin;
pub mod pool;
pub mod residency;

pub use self::catalogue::Catalogue;
pub use self::digests::Digests;
pub use self::exchange::{Failure, Reply};
pub use self::origin::Origin;
pub use self::pool::Pool;
