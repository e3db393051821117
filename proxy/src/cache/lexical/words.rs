//! The English word lists and the one lookup that everything else uses: a word's [`Lex`] says what
//! kinds it is of and how it is written in the canonical form.
//!
//! Lists are closed classes (function words, numbers, months) and general English, never words of
//! a test set. A word missing from a list can cost a hit; it cannot cause one, because a word that
//! is on no list always counts.

mod names;
pub(super) mod opposites;
pub(super) mod phrases;
mod spelling;
pub(super) mod synonyms;

use std::collections::HashMap;
use std::sync::LazyLock;

/// A set of word kinds, one bit each.
pub(super) type Kinds = u32;

/// `a`, `an`, `the`.
pub(super) const ARTICLE: Kinds = 1;
/// Prepositions and conjunctions of place, time and direction.
pub(super) const PREPOSITION: Kinds = 1 << 1;
/// Auxiliary and modal verbs.
pub(super) const AUXILIARY: Kinds = 1 << 2;
/// Question words.
pub(super) const ASKING: Kinds = 1 << 3;
/// Words that turn a statement round.
pub(super) const NEGATIVE: Kinds = 1 << 4;
/// Verbs that ask for words: after "can you" they are never a question of ability.
pub(super) const TELLING: Kinds = 1 << 5;
/// Verbs that ask for work.
pub(super) const WORKING: Kinds = 1 << 6;
/// Words without content of their own: pronouns and the like.
pub(super) const PRONOUN: Kinds = 1 << 7;
/// Says nothing wherever it stands.
pub(super) const FILLER: Kinds = 1 << 8;
/// A proper name whatever its case.
pub(super) const NAME: Kinds = 1 << 9;
/// A common word and a name or acronym: only its case tells which.
pub(super) const CASED: Kinds = 1 << 10;
/// A unit of measure.
pub(super) const UNIT: Kinds = 1 << 11;
/// An ordinal number.
pub(super) const ORDINAL: Kinds = 1 << 12;
/// A cardinal number word.
pub(super) const CARDINAL: Kinds = 1 << 13;
/// A number word that multiplies: hundred, thousand.
pub(super) const SCALE: Kinds = 1 << 14;
/// The answer is one of the day.
pub(super) const TIMELY: Kinds = 1 << 15;
/// A span of time: "this week" is timely.
pub(super) const SPAN: Kinds = 1 << 16;
/// Says that a text is English.
pub(super) const ENGLISH: Kinds = 1 << 17;
/// Says that a text is in another language.
pub(super) const FOREIGN: Kinds = 1 << 18;
/// Narrows what is asked for.
pub(super) const NARROWING: Kinds = 1 << 19;
/// The plural means something else than the singular.
pub(super) const OWN_PLURAL: Kinds = 1 << 20;
/// One letter away from another real word.
pub(super) const CONFUSABLE: Kinds = 1 << 21;
/// Has an opposite.
pub(super) const OPPOSED: Kinds = 1 << 22;
/// A letter or Roman numeral after it belongs to it: "vitamin A", "part II".
pub(super) const NUMBERED: Kinds = 1 << 23;

/// Two words written as one: "whats".
pub(super) const CONTRACTED: Kinds = 1 << 24;

/// An everyday word of five letters.
pub(super) const COMMON: Kinds = 1 << 25;

/// What is known of a word.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lex {
    /// The kinds it is of.
    pub kinds: Kinds,
    /// How the canonical form writes it; empty for as it is.
    pub to: &'static str,
}

const LISTS: &[(Kinds, &str)] = &[
    (ARTICLE, "a an the"),
    (
        PREPOSITION,
        "about above across after against along among around as at before behind below beneath \
         beside besides between beyond by despite down during except for from in inside into like \
         near of off on onto opposite out outside over past per regarding since than through \
         throughout till to toward towards under underneath until up upon using versus via with \
         within without and or but nor because if while whereas unless although",
    ),
    (
        AUXILIARY,
        "am is are was were be been being do does did have has had can could shall should will \
         would may might must ought",
    ),
    (ASKING, "what which who whom whose where when why how"),
    (
        NEGATIVE,
        "not no never none nobody nothing nowhere neither nor without cannot unable hardly \
         scarcely barely non nope fail fails failed lack lacks lacking avoid avoiding prevent \
         prevents stop stops except excluding unless minus impossible",
    ),
    (
        TELLING,
        "explain describe define tell give show list name summarize outline compare contrast \
         provide teach suggest recommend clarify elaborate discuss help identify state mention \
         enumerate illustrate highlight share",
    ),
    (
        WORKING,
        "write translate generate create make implement convert draft compose design build \
         calculate compute solve format find rewrite rephrase paraphrase fix correct improve \
         proofread edit analyze evaluate estimate classify extract draw plan prepare develop code \
         program prove simplify sort count add remove turn change expand shorten complete \
         brainstorm act pretend imagine tabulate plot sketch recite quote spell pronounce \
         conjugate",
    ),
    (
        PRONOUN,
        "i me my mine we us our ours you your yours he him his she her hers it its they them \
         their theirs this that these those one ones someone anyone everyone something anything \
         everything there here let am is are was were be been being do does did have has had can \
         could shall should will would may might must ought to so such also too very just then",
    ),
    (FILLER, "actually basically"),
    (ORDINAL, spelling::ORDINALS),
    (SCALE, "hundred thousand million billion trillion"),
    (
        CARDINAL,
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen \
         fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy \
         eighty ninety",
    ),
    (
        TIMELY,
        "today tonight tomorrow yesterday now nowadays currently current latest recent recently \
         newest upcoming presently ago lately breaking todays tonights tomorrows yesterdays \
         ongoing live",
    ),
    (SPAN, "second minute hour day week weekend month quarter year decade century season morning"),
    (SPAN, "afternoon evening night summer winter spring autumn fall"),
    (
        ENGLISH,
        "the of and what which who whom whose where when why how does do did is are was were can \
         could should would will with from my your this that these those for to by about it its \
         please you they their not have has had there into than explain describe define tell \
         give show list name write translate summarize compare implement convert create make \
         calculate find using",
    ),
    (
        FOREIGN,
        "der die das und ist nicht ein eine einen den dem des mit auf von zu wie warum wer wo ich \
         le la les du un une est et que qui quoi comment pourquoi dans pour avec sur el los las \
         por para con como cual donde quien es en il lo gli che di per come perche dove chi una \
         nel della het een van hoe waarom wat og er hvad hvordan ikke att och det som var hur o \
         os da na em quem qual onde jak czy gdzie dlaczego nie kak chto ne je ja mi mu si se te",
    ),
    (NARROWING, "only solely exclusively merely free few both half twice double almost"),
    (NUMBERED, "vitamin type hepatitis influenza grade group class plan team appendix option"),
    (NUMBERED, "part section schedule protein point series level category war chapter act phase"),
    (NUMBERED, "volume article stage book episode title factor tier zone track side model"),
    (OWN_PLURAL, spelling::OWN_PLURALS),
    (CONFUSABLE, spelling::CONFUSABLE),
    (COMMON, spelling::FIVE_LETTERS),
    (NAME, names::COUNTRIES),
    (NAME, names::PEOPLES),
    (NAME, names::CITIES),
    (NAME, names::TECHNOLOGY),
    (NAME, names::COMPANIES),
    (NAME, names::CALENDAR),
    (NAME, names::CHEMISTRY),
    (CASED, names::CASED),
    (UNIT, names::UNITS),
];

static LEXICON: LazyLock<HashMap<&'static str, Lex>> = LazyLock::new(|| {
    let mut lexicon: HashMap<&'static str, Lex> = HashMap::with_capacity(4096);
    for (kinds, words) in LISTS {
        for word in words.split_whitespace() {
            lexicon.entry(word).or_default().kinds |= kinds;
        }
    }
    for (word, _) in split(spelling::CONTRACTIONS) {
        lexicon.entry(word).or_default().kinds |= CONTRACTED;
    }
    for (left, right) in opposites::pairs() {
        lexicon.entry(left).or_default().kinds |= OPPOSED;
        lexicon.entry(right).or_default().kinds |= OPPOSED;
    }
    for (from, to) in names::UNIT_NAMES.iter().chain(spelling::VARIANTS).flat_map(|l| split(l)) {
        // The written form is looked up once, so it takes the kinds of the canonical one.
        let kinds = lexicon.get(to).map_or(0, |lex| lex.kinds);
        let lex = lexicon.entry(from).or_default();
        lex.kinds |= kinds;
        // A mere plural is left to the stem, which knows where it counts.
        let plural = from.strip_suffix('s') == Some(to);
        lex.to = if plural { "" } else { to };
    }
    lexicon
});

/// `from=to` pairs of a list.
fn split(list: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    list.split_whitespace().filter_map(|pair| pair.split_once('='))
}

/// What is known of a lower-case word.
pub(super) fn look_up(word: &str) -> Lex {
    LEXICON.get(word).copied().unwrap_or_default()
}

/// The value of a cardinal or scale word.
pub(super) fn value(word: &str) -> Option<u64> {
    let small = spelling::NUMBERS.split_whitespace().position(|number| number == word);
    Some(match (small, word) {
        (Some(value), _) => value as u64,
        (None, "thirty") => 30,
        (None, "forty") => 40,
        (None, "fifty") => 50,
        (None, "sixty") => 60,
        (None, "seventy") => 70,
        (None, "eighty") => 80,
        (None, "ninety") => 90,
        (None, "hundred") => 100,
        (None, "thousand") => 1_000,
        (None, "million") => 1_000_000,
        (None, "billion") => 1_000_000_000,
        (None, "trillion") => 1_000_000_000_000,
        _ => return None,
    })
}

/// The two words of a [`CONTRACTED`] word: a contraction written without its apostrophe.
pub(super) fn run_together(word: &str) -> Option<(&'static str, &'static str)> {
    let (_, parts) = split(spelling::CONTRACTIONS).find(|(from, _)| *from == word)?;
    parts.split_once('+')
}
