//! The splitter loses and invents nothing, finds the same units however the bytes are cut, and the
//! watcher survives whatever is in them.

use bytes::Bytes;
use sluicegate::response::sse::{Framing, Splitter, Unit};
use sluicegate::response::watch::{Grammar, Verdict, Watch};

pub(crate) const SEEDS: &[&[u8]] = &[
    b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\ndata: [DONE]\n\n",
    b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\r\n\r\n: hello\r\n\r\n",
    b"event: response.completed\ndata: {\"response\":{\"usage\":{\"input_tokens\":1}}}\n\n",
    b"event: message_stop\rdata: {\"type\":\"message_stop\"}\r\r",
    b"{\"response\":\"a\",\"done\":false}\n{\"done\":true,\"eval_count\":3}\n{\"error\":\"x\"}\n",
    b"data: {\"error\":{\"message\":\"m\"}}\n\ndata: a\ndata: b\n\n",
];

fn units(framing: Framing, chunks: &[&[u8]]) -> Vec<Bytes> {
    let mut splitter = Splitter::new(framing);
    let mut units = Vec::new();
    for chunk in chunks {
        splitter.push(Bytes::copy_from_slice(chunk));
        units.extend(splitter.by_ref().map(|unit| match unit {
            Unit::Whole(bytes) | Unit::Piece(bytes) => bytes,
        }));
    }
    let rest = splitter.rest();
    if !rest.is_empty() {
        units.push(rest);
    }
    units
}

pub(crate) fn check(input: &[u8], rng: &mut fastrand::Rng) {
    for (grammar, framing) in [
        (Grammar::Chunks, Framing::Sse),
        (Grammar::Responses, Framing::Sse),
        (Grammar::Messages, Framing::Sse),
        (Grammar::Native, Framing::Lines),
    ] {
        let whole = units(framing, &[input]);
        assert_eq!(whole.concat(), input, "joined units are the input");
        let (first, second) = (rng.usize(..=input.len()), rng.usize(..=input.len()));
        let (low, high) = (first.min(second), first.max(second));
        let cut = units(framing, &[&input[..low], &input[low..high], &input[high..]]);
        assert_eq!(cut.concat(), input, "also when cut");
        let mut watch = Watch::new(grammar, rng.bool());
        for unit in &whole {
            if let Verdict::Replace(bytes) = watch.inspect(unit) {
                assert!(bytes.starts_with(b"data: ") && bytes.ends_with(b"\n\n"));
            }
        }
    }
}
