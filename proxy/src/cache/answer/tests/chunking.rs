//! However the same answer is cut into chunks, the same is stored; and nothing panics.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What one choice says, in order: the name of a text and the text, or a call's id and arguments.
type Say = (u8, String);

fn says() -> impl Strategy<Value = Vec<Vec<Say>>> {
    let say = (0_u8..4, "[a-z\"\\\\\u{e9}\u{2028}\u{1f600}\n ]{1,12}");
    prop::collection::vec(prop::collection::vec(say, 1..5), 1..4)
}

/// Cuts a text at random.
fn pieces(text: &str, random: &mut impl FnMut() -> u32) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for c in text.chars() {
        let last = pieces.len() - 1;
        if !pieces[last].is_empty() && random().is_multiple_of(2) {
            pieces.push(c.to_string());
        } else {
            pieces[last].push(c);
        }
    }
    pieces
}

/// The deltas of a choice.
fn deltas(says: &[Say], random: &mut impl FnMut() -> u32) -> Vec<serde_json::Value> {
    let mut deltas = vec![json!({"role": "assistant", "content": ""})];
    let mut calls = 0;
    for (kind, text) in says {
        let mut first = true;
        for piece in pieces(text, random) {
            deltas.push(match kind {
                0 => json!({"reasoning": piece}),
                1 => json!({"content": piece}),
                2 => json!({"refusal": piece}),
                _ if first => json!({"tool_calls": [{"index": calls, "id": format!("c{calls}"),
                    "type": "function", "function": {"name": "f", "arguments": piece}}]}),
                _ => json!({"tool_calls": [{"index": calls, "function": {"arguments": piece}}]}),
            });
            first = false;
        }
        calls += usize::from(*kind == 3);
    }
    deltas
}

fn cut(says: &[Vec<Say>], seed: u32) -> String {
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state >> 8
    };
    let mut open: Vec<(usize, std::vec::IntoIter<serde_json::Value>)> = Vec::new();
    for (index, says) in says.iter().enumerate() {
        open.push((index, deltas(says, &mut random).into_iter()));
    }
    let mut chunks = Vec::new();
    while !open.is_empty() {
        let at = random() as usize % open.len();
        match open[at].1.next() {
            Some(next) => chunks.push(delta(open[at].0, &next.to_string())),
            None => chunks.push(finish(open.remove(at).0, "stop")),
        }
    }
    chunks.push(USAGE.to_owned());
    sse(&chunks.iter().map(|chunk| &**chunk).collect::<Vec<_>>())
}

fn read(stream: &str) -> Result<Answer, Unfit> {
    Answer::of_stream(Form::Chat, stream.as_bytes(), None)
}

fn document(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&filled(&answer.whole()).replace("1e400", "1")).expect("JSON")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_is_the_same_answer(says in says(), one: u32, other: u32) {
        let answer = read(&cut(&says, one));
        prop_assert_eq!(&answer, &read(&cut(&says, other)));
        let Ok(answer) = answer else { return Ok(()) };
        prop_assert!(Answer::decode(&answer.encode()).as_ref() == Ok(&answer));
        // A replay is itself an answer that says the same.
        let replay = filled(&answer.stream(true));
        prop_assert!(read(&replay).as_ref() == Ok(&answer));
        let whole = Answer::of_whole(Form::Chat, filled(&answer.whole()).as_bytes());
        let whole = whole.expect("fit");
        prop_assert!(Answer::decode(&whole.encode()).as_ref() == Ok(&whole));
        let streamed = read(&filled(&whole.stream(true))).expect("fit");
        // A whole answer does not tell in which order its members came.
        prop_assert_eq!(document(&streamed), document(&whole));
    }

    #[test]
    fn garbage_never_panics(bytes: Vec<u8>, says in says(), seed: u32, at: prop::sample::Index, byte: u8) {
        let mut stream = cut(&says, seed).into_bytes();
        let mut body = br#"{"id":"x","choices":[{"message":{"content":"a","b":[1]},"finish_reason":"stop"}]}"#.to_vec();
        let mut stored = Answer::of_text(Form::Chat, "m", "t").encode();
        for bytes in [&mut stream, &mut body, &mut stored] {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for bytes in [&bytes, &stream, &body, &stored] {
            for form in [Form::Chat, Form::Completions, Form::Raw] {
                let answers = [Answer::of_whole(form, bytes), Answer::of_stream(form, bytes, Some(bytes)), Answer::decode(bytes)];
                for answer in answers.into_iter().flatten() {
                    let _ = (answer.whole().fill("i", 1), answer.stream(true), answer.text(), answer.size());
                    prop_assert!(Answer::decode(&answer.encode()).as_ref() == Ok(&answer));
                }
            }
        }
    }
}
