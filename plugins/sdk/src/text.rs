//! Reading texts word by word. The host counts a guest's turns of a loop, and prompts are long.

/// Where the word of ASCII letters and digits at `at` ends; `at` itself where there is none.
#[must_use]
pub fn end_of_word(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let others = !in_word(u64::from_le_bytes(*eight)) & HIGH;
        if others != 0 {
            return at + others.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count()
}

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;

/// The high bit of each of eight bytes that is an ASCII letter or digit; the other bits mean nothing.
fn in_word(bytes: u64) -> u64 {
    // Adding to seven bits carries into no other byte.
    let low = bytes & !HIGH;
    let at_least = |bytes: u64, least: u8| bytes + ONES * u64::from(0x80 - least);
    let between =
        |bytes: u64, first: u8, last: u8| at_least(bytes, first) & !at_least(bytes, last + 1);
    let lower = low | (ONES * 0x20);
    (between(lower, b'a', b'z') | between(low, b'0', b'9')) & !bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_ends_where_no_letter_or_digit_stands() {
        for (text, end) in [("", 0), ("?", 0), ("ab c", 2), ("abcdefgh1", 9), ("abcdefghi,j", 9)] {
            assert_eq!(end_of_word(text.as_bytes(), 0), end, "{text}");
        }
        assert_eq!(end_of_word("a bü".as_bytes(), 2), 3);
        assert_eq!(end_of_word(b"ab", 2), 2);
        assert_eq!(end_of_word(b"ab", 3), 3);
    }

    #[test]
    fn every_byte_is_told_apart_at_every_place() {
        for byte in 0..=u8::MAX {
            for place in 0..20 {
                let mut text = [b'Z'; 20];
                text[place] = byte;
                let end = if byte.is_ascii_alphanumeric() { 20 } else { place };
                assert_eq!(end_of_word(&text, 0), end, "{byte} at {place}");
            }
        }
    }
}
