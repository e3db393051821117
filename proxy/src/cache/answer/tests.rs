//! Golden tests of the four directions; `shapes` has what servers and wires do in other ways,
//! `unfit` what is refused, `chunking` what holds for any cut of the same answer.

use super::*;

mod chunking;
mod shapes;
mod unfit;

const ID: &str = "new1";
const NOW: u64 = 1_800_000_000;

/// A stream of chunks, each given from `choices` on.
fn sse(chunks: &[&str]) -> String {
    let chunk = |rest: &&str| {
        format!(
            "data: {{\"id\":\"chatcmpl-7\",\"object\":\"chat.completion.chunk\",\"created\":5,\
             \"model\":\"m\",\"system_fingerprint\":\"fp\",{rest}}}\n\n"
        )
    };
    let events: String = chunks.iter().map(chunk).collect();
    events + "data: [DONE]\n\n"
}

/// One choice's delta.
fn delta(index: usize, delta: &str) -> String {
    format!(r#""choices":[{{"index":{index},"delta":{delta},"finish_reason":null}}]"#)
}

fn finish(index: usize, reason: &str) -> String {
    format!(r#""choices":[{{"index":{index},"delta":{{}},"finish_reason":"{reason}"}}]"#)
}

fn of_chunks(chunks: &[&str]) -> Answer {
    let answer = Answer::of_stream(Form::Chat, sse(chunks).as_bytes(), None).expect("fit");
    let again = Answer::decode(&answer.encode()).expect("decodes");
    assert_eq!(again, answer);
    assert_eq!(again.encode(), answer.encode());
    assert_eq!(again.whole(), answer.whole());
    assert_eq!(again.stream(true), answer.stream(true));
    answer
}

fn of_body(form: Form, body: &str) -> Answer {
    let answer = Answer::of_whole(form, body.as_bytes()).expect("fit");
    let again = Answer::decode(&answer.encode()).expect("decodes");
    assert_eq!(again, answer);
    assert_eq!(again.stream(true), answer.stream(true));
    answer
}

fn filled(template: &Template) -> String {
    String::from_utf8(template.fill(ID, NOW).to_vec()).expect("UTF-8")
}

fn whole(answer: &Answer) -> String {
    let body = filled(&answer.whole());
    serde_json::from_str::<serde::de::IgnoredAny>(&body).expect("JSON");
    body
}

/// The chunks of a replay without what all of them begin with.
fn chunks(answer: &Answer, include_usage: bool) -> Vec<String> {
    let stream = filled(&answer.stream(include_usage));
    let mut events: Vec<&str> = stream.split_terminator("\n\n").collect();
    assert_eq!(events.pop(), Some("data: [DONE]"));
    let head = "data: {\"id\":\"chatcmpl-new1\",\"object\":\"chat.completion.chunk\",\
                \"created\":1800000000,\"model\":\"m\",\"system_fingerprint\":\"fp\",";
    let rest = |event: &str| {
        serde_json::from_str::<serde::de::IgnoredAny>(&event[6..]).expect("JSON");
        event.strip_prefix(head).expect(event).strip_suffix('}').expect(event).to_owned()
    };
    events.into_iter().map(rest).collect()
}

/// A whole answer's body around its choices and what follows.
fn body_of(rest: &str) -> String {
    format!(
        "{{\"id\":\"chatcmpl-new1\",\"object\":\"chat.completion\",\"created\":1800000000,\
         \"model\":\"m\",\"system_fingerprint\":\"fp\",{rest}}}"
    )
}

const ROLE: &str = r#"{"role":"assistant","content":""}"#;
const USAGE: &str = r#""choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"completion_tokens_details":{"reasoning_tokens":1},"x":1e400}"#;

#[test]
fn text_of_a_stream() {
    let answer = of_chunks(&[
        &delta(0, ROLE),
        &delta(0, r#"{"content":"Hel"}"#),
        &delta(0, r#"{"content":"lo\n\u00e9\u2028\""}"#),
        &finish(0, "stop"),
        USAGE,
    ]);
    let usage = &USAGE[r#""choices":[],"#.len()..];
    assert_eq!(
        chunks(&answer, false),
        [delta(0, ROLE), delta(0, "{\"content\":\"Hello\\né\u{2028}\\\"\"}"), finish(0, "stop")]
    );
    let with_usage = chunks(&answer, true);
    assert!(with_usage[..3].iter().all(|chunk| chunk.ends_with("],\"usage\":null")));
    assert_eq!(with_usage[3], USAGE);
    assert_eq!(
        whole(&answer),
        body_of(&format!(
            "\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\
             \"content\":\"Hello\\né\u{2028}\\\"\"}},\"finish_reason\":\"stop\"}}],{usage}"
        ))
    );
    assert_eq!(answer.usage_counts(), (Some(3), Some(4)));
    assert_eq!(answer.text(), "Hello\né\u{2028}\"");
    assert_eq!(answer.model(), "m");
}

#[test]
fn text_of_a_body_comes_back_byte_for_byte() {
    let body = r#"{ "object":"chat.completion",
      "id":"chatcmpl-old","created":5, "choices":[{"finish_reason":"stop","x":[1.50],"index":0,"logprobs":null,
      "message":{"annotations":[],"content":"Hi","z":-0.0,"refusal":null,"role":"assistant"}}],
      "model":"m","system_fingerprint":"fp","unknown":{"big":12345678901234567890123,"n":1.0,"e":1e400},
      "usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let answer = of_body(Form::Chat, &format!("{body}\n"));
    let fresh = body.replace("chatcmpl-old", "chatcmpl-new1").replace(":5,", ":1800000000,");
    assert_eq!(whole(&answer), fresh);
    assert_eq!(answer.usage_counts(), (Some(1), Some(2)));
    assert_eq!(
        chunks(&answer, false),
        [
            r#""choices":[{"index":0,"delta":{"role":"assistant","refusal":null},"logprobs":null,"finish_reason":null}]"#,
            r#""choices":[{"index":0,"delta":{"content":"Hi","annotations":[],"z":-0.0},"logprobs":null,"finish_reason":null}]"#,
            r#""unknown":{"big":12345678901234567890123,"n":1.0,"e":1e400},"choices":[{"index":0,"delta":{},"logprobs":null,"x":[1.50],"finish_reason":"stop"}]"#,
        ]
    );
}

#[test]
fn reasoning_then_content() {
    let answer = of_chunks(&[
        &delta(0, r#"{"role":"assistant","content":"","reasoning":"Th"}"#),
        &delta(0, r#"{"content":"","reasoning":"ink"}"#),
        &delta(0, r#"{"content":"A"}"#),
        &delta(0, r#"{"content":"B"}"#),
        &finish(0, "stop"),
    ]);
    let deltas = [
        delta(0, ROLE),
        delta(0, r#"{"reasoning":"Think"}"#),
        delta(0, r#"{"content":"AB"}"#),
        finish(0, "stop"),
    ];
    assert_eq!(chunks(&answer, false), deltas);
    // Usage that nobody counted is not made up.
    assert_eq!(chunks(&answer, true).len(), 4);
    assert_eq!(answer.usage_counts(), (None, None));
    assert_eq!(answer.text(), "AB");
    let body = body_of(
        r#""choices":[{"index":0,"message":{"role":"assistant","content":"AB","reasoning":"Think"},"finish_reason":"stop"}]"#,
    );
    assert_eq!(whole(&answer), body);
    let again = of_body(Form::Chat, &body);
    assert_eq!(whole(&again), body);
    let mut deltas = deltas;
    deltas[0] = delta(0, r#"{"role":"assistant"}"#);
    assert_eq!(chunks(&again, false), deltas);
}

const CALL_A: &str =
    r#""id":"call_a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}"#;
const CALL_B: &str = r#""id":"call_b","type":"function","function":{"name":"g","arguments":"{}"}"#;

#[test]
fn calls_in_fragments() {
    let call = |rest: &str| delta(0, &format!(r#"{{"tool_calls":[{{{rest}}}]}}"#));
    let answer = of_chunks(&[
        &delta(0, r#"{"role":"assistant","content":null}"#),
        &call(
            r#""index":0,"id":"call_a","type":"function","function":{"name":"f","arguments":""}"#,
        ),
        &call(r#""index":0,"function":{"arguments":"{\"x\""}"#),
        // Some repeat the names, or send them empty.
        &call(
            r#""index":0,"id":"call_a","type":"function","function":{"name":"f","arguments":":1"}"#,
        ),
        &call(
            r#""index":1,"id":"call_b","type":"function","function":{"name":"g","arguments":"{"}"#,
        ),
        &call(r#""index":1,"id":"","function":{"name":null,"arguments":"}"}"#),
        &call(r#""index":0,"function":{"arguments":"}"}"#),
        &finish(0, "tool_calls"),
    ]);
    assert_eq!(
        chunks(&answer, false),
        [
            delta(0, r#"{"role":"assistant","content":null}"#),
            call(&format!("\"index\":0,{CALL_A}")),
            call(&format!("\"index\":1,{CALL_B}")),
            finish(0, "tool_calls"),
        ]
    );
    let body = body_of(&format!(
        r#""choices":[{{"index":0,"message":{{"role":"assistant","content":null,"tool_calls":[{{{CALL_A}}},{{{CALL_B}}}]}},"finish_reason":"tool_calls"}}]"#
    ));
    assert_eq!(whole(&answer), body);
    assert_eq!(answer.text(), " f {\"x\":1} g {}");
    // The same calls from a whole body get their numbers.
    assert_eq!(chunks(&of_body(Form::Chat, &body), false), chunks(&answer, false));
}

#[test]
fn ollama_sends_whole_calls_and_empty_content() {
    let answer = of_chunks(&[
        &delta(0, r#"{"role":"assistant","content":"","reasoning":"r"}"#),
        &delta(0, r#"{"content":"c"}"#),
        &delta(
            0,
            &format!(
                r#"{{"content":"","tool_calls":[{{"index":0,{CALL_A}}},{{"index":1,{CALL_B}}}]}}"#
            ),
        ),
        &finish(0, "tool_calls"),
    ]);
    assert_eq!(
        chunks(&answer, false)[1..4],
        [
            delta(0, r#"{"reasoning":"r"}"#),
            delta(0, r#"{"content":"c"}"#),
            delta(0, &format!(r#"{{"tool_calls":[{{"index":0,{CALL_A}}}]}}"#)),
        ]
    );
    assert_eq!(
        whole(&answer),
        body_of(&format!(
            r#""choices":[{{"index":0,"message":{{"role":"assistant","content":"c","reasoning":"r","tool_calls":[{{{CALL_A}}},{{{CALL_B}}}]}},"finish_reason":"tool_calls"}}]"#
        ))
    );
    // Its whole bodies number their calls, and keep that.
    let numbered = body_of(&format!(
        r#""choices":[{{"index":0,"message":{{"role":"assistant","content":"","tool_calls":[{{{CALL_A},"index":0}}]}},"finish_reason":"tool_calls"}}]"#
    ));
    let answer = of_body(Form::Chat, &numbered);
    assert_eq!(whole(&answer), numbered);
    assert_eq!(
        chunks(&answer, false)[..2],
        [delta(0, ROLE), delta(0, &format!(r#"{{"tool_calls":[{{{CALL_A},"index":0}}]}}"#))]
    );
}

#[test]
fn calls_that_are_all_number_zero_stay_apart() {
    let one = format!(r#"{{"tool_calls":[{{"index":0,{CALL_A}}}]}}"#);
    let two = format!(r#"{{"tool_calls":[{{"index":0,{CALL_B}}}]}}"#);
    let answer = of_chunks(&[&delta(0, &one), &delta(0, &two), &finish(0, "tool_calls")]);
    assert_eq!(chunks(&answer, false)[..2], [delta(0, &one), delta(0, &two)]);
    assert!(whole(&answer).contains(&format!("[{{{CALL_A}}},{{{CALL_B}}}]")));
}

#[test]
fn function_call_and_empty_content_before_calls() {
    let answer = of_chunks(&[
        &delta(0, r#"{"role":"assistant","content":"","function_call":null}"#),
        &delta(0, r#"{"function_call":{"name":"f","arguments":""}}"#),
        &delta(0, r#"{"function_call":{"arguments":"{}"}}"#),
        &finish(0, "function_call"),
    ]);
    assert!(whole(&answer).contains(
        r#"{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}}"#
    ));
    assert_eq!(
        chunks(&answer, false)[1],
        delta(0, r#"{"function_call":{"name":"f","arguments":"{}"}}"#)
    );
}

#[test]
fn three_choices_taking_turns() {
    let both = |text: &str| {
        format!(
            r#""choices":[{{"index":2,"delta":{{"content":"{text}2"}},"finish_reason":null}},{{"index":0,"delta":{{"content":"{text}0"}},"finish_reason":null}}]"#
        )
    };
    let answer = of_chunks(&[
        &delta(2, ROLE),
        &delta(0, ROLE),
        &both("a"),
        &delta(1, r#"{"role":"assistant","content":"one"}"#),
        &both("b"),
        &finish(1, "stop"),
        &finish(0, "stop"),
        &delta(2, r#"{"content":"!"}"#),
        &finish(2, "stop"),
    ]);
    assert_eq!(
        chunks(&answer, false),
        [
            delta(0, ROLE),
            delta(0, r#"{"content":"a0b0"}"#),
            finish(0, "stop"),
            delta(1, r#"{"role":"assistant"}"#),
            delta(1, r#"{"content":"one"}"#),
            finish(1, "stop"),
            delta(2, ROLE),
            delta(2, r#"{"content":"a2b2!"}"#),
            finish(2, "stop"),
        ]
    );
    assert_eq!(answer.text(), "a0b0\none\na2b2!");
    let again = of_body(Form::Chat, &whole(&answer));
    assert_eq!(again.text(), answer.text());
}

#[test]
fn log_probabilities_are_joined() {
    let entry = |token: &str| {
        format!(r#"{{"token":"{token}","logprob":-0.10,"bytes":[1],"top_logprobs":[]}}"#)
    };
    let with = |text: &str, list: &str| {
        format!(
            r#""choices":[{{"index":0,"delta":{{"content":"{text}"}},"logprobs":{{"content":[{list}],"refusal":null}},"finish_reason":null}}]"#
        )
    };
    let (a, b, c) = (entry("a"), entry("b"), entry("c"));
    let null = |chunk: String| chunk.replace(",\"finish", ",\"logprobs\":null,\"finish");
    let answer = of_chunks(&[
        &null(delta(0, r#"{"role":"assistant"}"#)),
        &with("a", &a),
        // Half a character.
        &with("", &format!("{b},{c}")),
        &null(finish(0, "stop")),
    ]);
    let all = format!("{a},{b},{c}");
    assert_eq!(
        chunks(&answer, false),
        [null(delta(0, r#"{"role":"assistant"}"#)), with("a", &all), null(finish(0, "stop")),]
    );
    let body = body_of(&format!(
        r#""choices":[{{"index":0,"message":{{"role":"assistant","content":"a"}},"logprobs":{{"content":[{all}],"refusal":null}},"finish_reason":"stop"}}]"#
    ));
    assert_eq!(whole(&answer), body);
    assert_eq!(chunks(&of_body(Form::Chat, &body), false)[1], with("a", &all));
}

#[test]
fn refusals() {
    let answer = of_chunks(&[
        &delta(0, r#"{"role":"assistant","content":"","refusal":null}"#),
        &delta(0, r#"{"refusal":"I "}"#),
        &delta(0, r#"{"refusal":"won't"}"#),
        &finish(0, "stop"),
    ]);
    assert_eq!(chunks(&answer, false)[1], delta(0, r#"{"refusal":"I won't"}"#));
    assert_eq!(answer.text(), "I won't");
    assert!(whole(&answer).contains(r#""content":"","refusal":"I won't""#));
}

#[test]
fn legacy_completions() {
    let chunk = |rest: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1,\
             \"model\":\"m\",\"choices\":[{{\"index\":0,{rest}}}]{usage}}}\n\n"
        )
    };
    let lists = |tokens: &str, offsets: &str| {
        format!(
            r#""logprobs":{{"tokens":[{tokens}],"token_logprobs":[null],"top_logprobs":null,"text_offset":[{offsets}]}}"#
        )
    };
    let stream = [
        chunk(
            &format!(r#""text":"a",{},"finish_reason":null"#, lists("\"a\"", "0")),
            r#","usage":{"prompt_tokens":0}"#,
        ),
        chunk(
            &format!(r#""text":"b",{},"finish_reason":"stop""#, lists("\"b\"", "1")),
            r#","usage":{"prompt_tokens":2,"completion_tokens":2}"#,
        ),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat();
    let answer = Answer::of_stream(Form::Completions, stream.as_bytes(), None).expect("fit");
    let joined = lists("\"a\",\"b\"", "0,1").replace("[null]", "[null,null]");
    let replay = filled(&answer.stream(false));
    let fresh = |chunk: String| chunk.replace("cmpl-1", "cmpl-new1").replace(":1,", ":1800000000,");
    assert_eq!(
        replay,
        fresh(chunk(&format!(r#""text":"ab",{joined},"finish_reason":null"#), ""))
            .replace("0,1800000000]", "0,1]")
            + &fresh(chunk(r#""text":"","finish_reason":"stop""#, ""))
            + "data: [DONE]\n\n"
    );
    let body = format!(
        r#"{{"id":"cmpl-new1","object":"text_completion","created":1800000000,"model":"m","choices":[{{"index":0,"text":"ab",{joined},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":2,"completion_tokens":2}}}}"#
    );
    assert_eq!(whole(&answer), body);
    let again = of_body(Form::Completions, &body);
    assert_eq!(whole(&again), body);
    assert_eq!(filled(&again.stream(false)), replay);
    assert_eq!(filled(&again.stream(true)), filled(&answer.stream(true)));
    assert_eq!(Answer::decode(&answer.encode()).as_ref(), Ok(&answer));
}

#[test]
fn usage_beside_the_last_choice_and_held_back() {
    let last = finish(0, "stop") + ",\"usage\":{\"prompt_tokens\":9007199254740993}";
    let text = delta(0, r#"{"content":"x"}"#);
    let answer = of_chunks(&[&(text.clone() + ",\"usage\":null"), &last]);
    assert!(!filled(&answer.stream(false)).contains("usage"));
    assert_eq!(
        chunks(&answer, true)[2],
        r#""choices":[],"usage":{"prompt_tokens":9007199254740993}"#
    );
    let held =
        sse(&[&(USAGE.to_owned() + ",\"timings\":{\"n\":1.0}")]).replace("data: [DONE]\n\n", "");
    let events = sse(&[&text, &finish(0, "stop")]);
    let answer =
        Answer::of_stream(Form::Chat, events.as_bytes(), Some(held.as_bytes())).expect("fit");
    assert_eq!(answer.usage_counts(), (Some(3), Some(4)));
    let replay = chunks(&answer, true);
    assert!(replay[1].starts_with("\"timings\":{\"n\":1.0},"), "{replay:?}");
    assert_eq!(replay[2], USAGE);
    assert!(whole(&answer).contains("\"x\":1e400"));
}
