use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::*;

/// What is JSON, and what is not.
pub(crate) const TEXTS: &[&str] = &[
    "null",
    " [1, -2.5e+3 ,\"a\\n\\u00e4\\\"\"] ",
    "{}",
    "[]",
    "[[],{},[{}]]",
    "0",
    "-0",
    "-0.0e-0",
    "{\"a\":{\"b\":[true,false]}}",
    "{\"a\":1,\"a\":2}",
    "{ \"a\" : 1 , \"b\" : [ ] }",
    "\"\\ud800\"",
    "",
    " ",
    "{",
    "[",
    "]",
    "[1,]",
    "[,1]",
    "{\"a\":1,}",
    "{\"a\"}",
    "{\"a\":}",
    "{a:1}",
    "{1:1}",
    "01",
    "1.",
    ".5",
    "+1",
    "-",
    "-a",
    "1e",
    "1e+",
    "1.e1",
    "00",
    "0x1",
    "nul",
    "nulll",
    "truex",
    "\"a",
    "\"\\x\"",
    "\"\\u12g4\"",
    "\"\\u123\"",
    "\"\u{1}\"",
    "\"\u{7f}\"",
    "[1 2]",
    "{} {}",
    "[\"\\\\\"]",
    "\"\\",
    "\"\\\"",
    "[}",
    "{]",
    "[1}",
    "{\"a\":1]",
    "\u{feff}1",
    "1\u{a0}",
    "NaN",
    "{\"a\":\"\\ud83e\\udd80\"}",
];

fn is_value(text: &[u8]) -> bool {
    let mut reader = Reader::new(text);
    reader.value().is_ok() && reader.end().is_ok()
}

fn serde_takes(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

#[test]
fn what_is_json_to_serde_is_json_here_and_nothing_else() {
    for text in TEXTS {
        assert_eq!(is_value(text.as_bytes()), serde_takes(text.as_bytes()), "{text:?}");
    }
    for text in [&b"\"\xff\""[..], b"[\"\xc3\"]", b"\xff", b"\"\x00\"", b"[1\x0c]"] {
        assert_eq!(is_value(text), serde_takes(text), "{text:?}");
    }
}

#[test]
fn what_means_itself_ends_at_the_first_byte_that_does_not() {
    for length in 0..100 {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            let mut text = vec![b'\x7f'; length];
            text.push(special);
            text.extend_from_slice(&[b'!', 0xff, 0x1f, b'"', b' ']);
            assert_eq!(plain(&text), length, "{special}");
            // Bytes beside those that are looked for.
            let others = [b' ', b'!', b'#', b'[', b']', 0x80, 0x9f, 0xa2, 0xdc, 0xff];
            let text: Vec<u8> = others.into_iter().cycle().take(length).chain([special]).collect();
            assert_eq!(plain(&text), length, "{special}");
            assert_eq!(plain(&text[..length]), length);
        }
    }
}

#[test]
fn depth_costs_no_stack() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(is_value(deep.as_bytes()));
    assert!(!is_value(&deep.as_bytes()[1..]));
}

#[test]
fn members_and_items_stand_as_they_are_written() {
    let text = r#" {"a" : [1, {"x":"}"}] ,"b\u0063":null, "a":-1e5 } "#;
    let found: Vec<_> =
        members(text).expect("an object").iter().map(|one| (one.key, one.value)).collect();
    assert_eq!(
        found,
        [("\"a\"", r#"[1, {"x":"}"}]"#), (r#""b\u0063""#, "null"), ("\"a\"", "-1e5")]
    );
    assert_eq!(items(r#"[1, {"x":"}"} ,"ü"]"#), Ok(vec!["1", r#"{"x":"}"}"#, "\"ü\""]));
    for wrong in ["[]", "{} x", "{\"a\":1", "null", "{\"a\":1,,}"] {
        assert!(members(wrong).is_err(), "{wrong}");
    }
    let objects = objects(r#"[{"a":1}, {} ,{"b":[{}],"c":2}]"#).expect("objects");
    assert_eq!(objects.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 2]);
    for wrong in ["{}", "[{} x]", "[1]", "[{},]"] {
        assert!(super::objects(wrong).is_err(), "{wrong}");
    }
    for wrong in ["{}", "[] x", "[1", "1"] {
        assert!(items(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn strings_are_read_as_serde_reads_them() {
    for text in [
        "\"\"",
        "\"a\"",
        "\"ü\\n\\u00fc\"",
        "\"\\ud83e\\udd80\"",
        "\"\\ud800\"",
        "\"a\\\"",
        "\"",
        "a",
        "1",
        "",
    ] {
        let expected = serde_json::from_str::<String>(text).ok();
        assert_eq!(string(text).ok().map(Cow::into_owned), expected, "{text}");
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,4}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn damaged_json_is_taken_where_serde_takes_it(
        value in json(),
        pretty in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 0..3),
    ) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
        let mut text = text.expect("JSON");
        for (at, byte, how) in damage {
            let at = at.index(text.len());
            match how {
                0 => text[at] = byte,
                1 => text.insert(at, b"{}[]\",:\\0e-. \n"[usize::from(byte) % 14]),
                _ => drop((text.len() > 1).then(|| text.remove(at))),
            }
        }
        prop_assert_eq!(is_value(&text), serde_takes(&text), "{}", String::from_utf8_lossy(&text));
    }
}
