//! What the cache makes of requests, answers and questions: whatever is kept is given as it was.

use sluicegate::cache::answer::{Answer, Form};
use sluicegate::cache::canonical::canonical;
use sluicegate::cache::entry::Entry;
use sluicegate::cache::key::Key;
use sluicegate::cache::lexical::{Question, gate, guard};

pub(crate) const SEEDS: &[&[u8]] = &[
    br#"{"model":"m","messages":[{"role":"user","content":"caf\u00e9 \ud83e\udd80"}],"seed":1.0e2,"n":1}"#,
    br#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi","reasoning":"so","tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
    b"data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"a\"},\"finish_reason\":null}]}\n\ndata: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
    b"What is the capital of France? | Please tell me, what is France's capital?",
    br#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"model":"m"}"#,
];

pub(crate) fn check(input: &[u8], rng: &mut fastrand::Rng) {
    same_request(input);
    for form in [Form::Chat, Form::Completions, Form::Raw] {
        let whole = Answer::of_whole(form, input);
        let stream = Answer::of_stream(form, input, None);
        for answer in whole.into_iter().chain(stream) {
            given_again(&answer);
        }
    }
    assert!(Entry::decode(Key([0; 32]), input).is_err(), "made up");
    if let Ok(text) = std::str::from_utf8(input) {
        let cut = text.char_indices().map(|(at, _)| at).nth(rng.usize(..input.len().max(1)));
        let (one, other) = text.split_at(cut.unwrap_or(0));
        compared(one, other);
    }
}

fn same_request(input: &[u8]) {
    let Ok(request) = canonical(input) else { return };
    assert!(serde_json::from_slice::<&serde_json::value::RawValue>(input).is_ok(), "no JSON");
    let spaced = [b" \n", input, b"\t"].concat();
    assert_eq!(canonical(&spaced), Ok(request));
}

fn given_again(answer: &Answer) {
    assert_eq!(Answer::decode(&answer.encode()).as_ref(), Ok(answer));
    let whole = answer.whole().fill("id", 1);
    serde_json::from_slice::<&serde_json::value::RawValue>(&whole).expect("a JSON document");
    let stream = answer.stream(true).fill("id", 1);
    let ends = stream.ends_with(b"data: [DONE]\n\n");
    assert!(ends || answer.form() == Form::Raw, "an end");
}

fn compared(one: &str, other: &str) {
    let (Ok(one), Ok(other)) = (Question::analyse(one), Question::analyse(other)) else { return };
    assert_eq!(gate(&one, &other).is_ok(), gate(&other, &one).is_ok());
    assert_eq!(guard(&one, &other).is_ok(), guard(&other, &one).is_ok());
    assert!(gate(&one, &one).is_ok() && guard(&one, &one).is_ok());
}
