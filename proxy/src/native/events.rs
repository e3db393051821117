//! Named server-sent events, whose data has their name as `type`.

use serde::Serialize;

use super::json;

/// Appends the event `name` with `data` to `out`; `number` is its place in the stream, where that is told.
pub fn event(name: &'static str, number: Option<u64>, data: &impl Serialize, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Named<'a, T> {
        r#type: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        sequence_number: Option<u64>,
        #[serde(flatten)]
        data: &'a T,
    }
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    json::write(&Named { r#type: name, sequence_number: number, data }, out);
    out.extend_from_slice(b"\n\n");
}
