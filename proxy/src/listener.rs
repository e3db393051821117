//! Sockets: binding and handing over, accepting within a limit, TLS.

pub mod accept;
pub mod inherit;
pub mod tls;
