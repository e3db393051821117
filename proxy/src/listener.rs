//! Sockets: binding and handing over, accepting within a limit, TLS, and the stream under a client
//! session. HTTP itself, both versions, is pingora's.

pub mod accept;
pub mod inherit;
pub mod stream;
pub mod tls;
