//! HTTP/1.1 on the wire (RFC 9112), for clients and upstreams alike: heads and their fields, the
//! framing of bodies, and the bytes between a socket and either.
//!
//! Nothing of a message is kept twice: a head is one piece of text with an index, a body is handed
//! on in the pieces in which it came. Where the grammar allows a message to be read in two ways, it
//! is refused: that difference is what request smuggling lives on.

pub mod body;
pub mod date;
pub mod fields;
pub mod head;
pub mod host;
pub mod input;
pub mod io;
pub mod output;

pub use self::body::{Body, BodyError, Framing};
pub use self::fields::Fields;
pub use self::head::{HeadError, ReplyHead, RequestHead};
pub use self::input::Input;
pub use self::io::Io;
pub use self::output::Head;
