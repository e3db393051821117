//! What comes back: streams split into events, watched for content, usage and their proper end;
//! whole answers read for usage; and the writer that sends either to the client.

pub mod downstream;
pub mod sse;
pub mod usage;
pub mod watch;
