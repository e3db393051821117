//! When two words are the same word: plural, inflection, degree, and slips of the keys.
//!
//! A stemmer in the usual sense (Porter, Snowball) makes one of "import" and "important", "policy"
//! and "police", "organ" and "organization": fine for ranking, wrong for saying that two questions
//! are the same. Here a plural is folded and nothing else; other inflections are compared only
//! where the grammar says that they must be the same word.

use super::words::{self, CONFUSABLE, Lex, OWN_PLURAL};

/// The singular of a regular plural, or third person of a verb; otherwise the word.
pub(super) fn singular(word: &str) -> String {
    let known = words::look_up(word);
    let regular = word.len() > 3
        && word.ends_with('s')
        && known.kinds & (OWN_PLURAL | words::NAME) == 0
        && !["ss", "us", "is", "ics"].iter().any(|end| word.ends_with(end))
        && word.bytes().all(|b| b.is_ascii_lowercase());
    if !regular {
        return word.to_owned();
    }
    let stem = &word[..word.len() - 1];
    if let Some(stem) = stem.strip_suffix("ie").filter(|stem| stem.len() > 2) {
        return format!("{stem}y");
    }
    let hisses = ["sse", "she", "che", "xe", "zze"].iter().any(|end| stem.ends_with(end));
    let singular = if hisses { &stem[..stem.len() - 1] } else { stem };
    if words::look_up(singular).kinds & OWN_PLURAL != 0 {
        return word.to_owned();
    }
    singular.to_owned()
}

/// Whether `inflected` is the past participle or the gerund of `base`.
pub(super) fn inflects(base: &str, inflected: &str) -> bool {
    let Some(last) = base.chars().next_back() else { return false };
    if base == inflected {
        return true;
    }
    ["ed", "ing"].iter().any(|ending| {
        let Some(stem) = inflected.strip_suffix(ending) else { return false };
        let doubled = stem.strip_suffix(last).is_some_and(|stem| stem == base);
        let plain = stem == base && !closes(base) && last != 'e';
        let silent = base.strip_suffix('e').is_some_and(|base| base == stem);
        let y = *ending == "ed"
            && base.strip_suffix('y').is_some_and(|base| stem.strip_suffix('i') == Some(base));
        doubled || plain || silent || y
    })
}

/// One vowel, between consonants at the end: such a verb doubles its last letter.
fn closes(base: &str) -> bool {
    let is_vowel = |b: &u8| b"aeiou".contains(b);
    match base.as_bytes() {
        all @ [.., a, b, c] => {
            all.iter().filter(|b| is_vowel(b)).count() == 1
                && !is_vowel(a)
                && is_vowel(b)
                && !is_vowel(c)
                && !matches!(c, b'w' | b'x' | b'y')
        }
        _ => false,
    }
}

/// The verb of an irregular participle that how-to questions use.
pub(super) fn infinitive(participle: &str) -> Option<&'static str> {
    const PARTICIPLES: &str = "make=made do=done write=written build=built send=sent set=set \
        find=found read=read keep=kept get=got give=given take=taken break=broken choose=chosen \
        draw=drawn drive=driven grow=grown hide=hidden hold=held learn=learnt put=put run=run \
        sell=sold show=shown split=split teach=taught throw=thrown win=won wear=worn buy=bought \
        bring=brought catch=caught cut=cut feed=fed freeze=frozen overcome=overcome pay=paid \
        reset=reset speak=spoken spend=spent";
    let mut pairs = PARTICIPLES.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.find(|(_, form)| *form == participle).map(|(verb, _)| verb)
}

/// The forms under which a word may stand on the list of opposites: "cheapest" is cheap.
pub(super) fn bases(word: &str) -> Vec<String> {
    let mut bases = vec![word.to_owned(), singular(word)];
    for ending in ["est", "er", "ed", "ing", "ly", "s", "d", "es", "r", "st", "ion", "or"] {
        let Some(stem) = word.strip_suffix(ending).filter(|stem| stem.len() > 1) else { continue };
        bases.push(stem.to_owned());
        if let Some(stem) = stem.strip_suffix('i') {
            bases.push(format!("{stem}y"));
        }
        let mut letters = stem.chars().rev();
        if let (Some(last), Some(before)) = (letters.next(), letters.next())
            && last == before
        {
            bases.push(stem[..stem.len() - last.len_utf8()].to_owned());
        }
        if ending != "ly" && ending != "s" {
            bases.push(format!("{stem}e"));
        }
    }
    bases.sort_unstable();
    bases.dedup();
    bases
}

/// Whether one word is the other with one slip of the keys: two neighbouring letters swapped, or a
/// consonant of a long word doubled or not.
///
/// A wrong or missing letter makes other words too often (affect, effect; ethane, ethene;
/// stimulate, simulate), and no list holds them all, so it is a difference.
pub(super) fn is_slip(left: &str, right: &str) -> bool {
    const SHORTEST: usize = 5;
    let letters = |word: &str| word.bytes().all(|b| b.is_ascii_lowercase());
    if left.len().min(right.len()) < SHORTEST || !letters(left) || !letters(right) {
        return false;
    }
    let alike = if left.len() == right.len() { is_swap } else { is_doubling };
    if !alike(left, right) {
        return false;
    }
    let (one, other) = (words::look_up(left), words::look_up(right));
    let known = |lex: Lex| lex.kinds != 0 || !lex.to.is_empty();
    let both = known(one) && known(other);
    // Five letters swapped make a word too often, unless one of the two is known to be the word.
    let chance = left.len() == SHORTEST && !known(one) && !known(other);
    !both && !chance && (one.kinds | other.kinds) & CONFUSABLE == 0
}

/// Whether two neighbouring characters changed places.
pub(super) fn is_swap(left: &str, right: &str) -> bool {
    let (a, b) = (left.as_bytes(), right.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let Some(at) = a.iter().zip(b).position(|(x, y)| x != y) else { return false };
    let swapped = a.get(at + 1) == b.get(at) && a.get(at) == b.get(at + 1);
    if !swapped || a[at + 2..] != b[at + 2..] {
        return false;
    }
    // "coast" and "coats": an s that moves to or from the end makes a plural.
    let plural = at + 2 == a.len() && (a[at] == b's' || b[at] == b's');
    !plural
        || !matches!(
            (a[at], b[at]),
            (b't' | b'p' | b'k' | b'n' | b'e', _) | (_, b't' | b'p' | b'k' | b'n' | b'e')
        )
}

/// Whether one has a consonant twice that the other has once, not before an ending.
fn is_doubling(left: &str, right: &str) -> bool {
    const SHORTEST: usize = 7;
    let (short, long) = if left.len() < right.len() { (left, right) } else { (right, left) };
    let (a, b) = (short.as_bytes(), long.as_bytes());
    if a.len() < SHORTEST || b.len() != a.len() + 1 {
        return false;
    }
    let at = a.iter().zip(b).position(|(x, y)| x != y).unwrap_or(a.len());
    let ending = ["ing", "ed", "er", "ers", "y", "ings", "est"].contains(&&long[at + 1..]);
    at > 0
        && at < a.len()
        && b[at] == b[at - 1]
        && !b"aeiou".contains(&b[at])
        && a[at..] == b[at + 1..]
        && !ending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plural_is_folded_where_it_means_the_same() {
        for (plural, one) in [("holes", "hole"), ("cities", "city"), ("boxes", "box")] {
            assert_eq!(singular(plural), one);
        }
        for word in ["news", "glasses", "paris", "physics", "goods", "bus", "windows"] {
            assert_eq!(singular(word), word);
        }
    }

    #[test]
    fn an_inflection_belongs_to_its_verb_only() {
        for (base, form) in
            [("implement", "implemented"), ("enable", "enabled"), ("plan", "planned")]
        {
            assert!(inflects(base, form), "{base} {form}");
        }
        for (base, form) in [("scrap", "scraped"), ("plan", "planed"), ("import", "important")] {
            assert!(!inflects(base, form), "{base} {form}");
        }
    }

    #[test]
    fn a_slip_never_makes_another_word() {
        for (left, right) in [("capital", "capiatl"), ("search", "serach"), ("possible", "posible")]
        {
            assert!(is_slip(left, right) && is_slip(right, left), "{left} {right}");
        }
        for (left, right) in [
            ("affect", "effect"),
            ("angel", "angle"),
            ("iran", "iraq"),
            ("form", "from"),
            ("coast", "coats"),
            ("ethane", "ethene"),
            ("stimulate", "simulate"),
            ("desert", "dessert"),
            ("planning", "planing"),
        ] {
            assert!(!is_slip(left, right), "{left} {right}");
        }
    }
}
