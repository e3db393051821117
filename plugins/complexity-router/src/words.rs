//! The words that tell a class of task, or that thought is asked for: lower case, whole words,
//! English and some German.

use crate::score::Class;

/// What a word hints at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// The class; such a word is enough.
    Strong(Class),
    /// The class; takes two such words.
    Weak(Class),
    /// That thought is asked for.
    Reasoning,
}

// One word in a line each would be a long file.
#[rustfmt::skip]
const GROUPS: &[(Hint, &[&str])] = &[
    (Hint::Strong(Class::Code), &[
        "python", "javascript", "typescript", "java", "kotlin", "golang", "rust", "cpp", "php",
        "ruby", "sql", "html", "css", "bash", "regex", "regexp", "dockerfile", "kubernetes",
        "refactor", "debug", "compile", "compiler", "stacktrace", "traceback", "segfault",
        "unittest", "pytest", "codebase", "programmiere", "skript", "quellcode",
    ]),
    (Hint::Weak(Class::Code), &[
        "code", "function", "method", "class", "script", "bug", "bugs", "error", "exception",
        "implement", "algorithm", "api", "json", "yaml", "library", "test", "tests", "variable",
        "loop", "array", "struct", "async", "query", "database", "git", "repo", "parse", "parser",
        "endpoint", "funktion", "methode", "fehler", "schleife", "implementiere",
    ]),
    (Hint::Strong(Class::Review), &[
        "review", "reviewing", "proofread", "critique", "überprüfe", "begutachte",
        "korrekturlesen",
    ]),
    (Hint::Weak(Class::Review), &[
        "feedback", "audit", "improve", "improvements", "issues", "problems", "vulnerabilities",
        "vulnerability", "diff", "patch", "pr", "smells", "readability", "verbessere", "prüfe",
        "schwachstellen",
    ]),
    (Hint::Strong(Class::Creative), &[
        "poem", "poems", "haiku", "sonnet", "limerick", "lyrics", "fairytale", "fanfiction",
        "slogan", "gedicht", "märchen", "kurzgeschichte",
    ]),
    (Hint::Weak(Class::Creative), &[
        "story", "stories", "song", "novel", "character", "plot", "scene", "creative", "imagine",
        "fiction", "brainstorm", "joke", "tagline", "blog", "rhyme", "geschichte",
        "lied", "witz", "roman", "reim",
    ]),
    (Hint::Strong(Class::Architecture), &[
        "architecture", "architectural", "microservice", "microservices", "scalability",
        "multitenant", "sharding", "architektur", "systemdesign",
    ]),
    (Hint::Weak(Class::Architecture), &[
        "design", "system", "systems", "scalable", "distributed", "scale", "tolerant",
        "availability", "component", "components", "infrastructure", "deployment", "migration",
        "throughput", "consistency", "replication", "tenant", "pipeline", "blueprint", "entwirf",
        "verteiltes", "skalierbar",
    ]),
    (Hint::Strong(Class::Trading), &[
        "trading", "trader", "backtest", "backtesting", "forex", "hedging", "ohlc", "candlestick",
        "rsi", "macd", "börse", "handelsstrategie",
    ]),
    (Hint::Weak(Class::Trading), &[
        "stock", "stocks", "portfolio", "volatility", "market", "futures", "options", "bitcoin",
        "crypto", "arbitrage", "leverage", "bullish", "bearish", "earnings", "dividend", "etf",
        "shares", "ticker", "sharpe", "drawdown", "price", "aktie", "aktien", "kurs", "rendite",
    ]),
    (Hint::Strong(Class::Consensus), &[
        "consensus", "konsens",
    ]),
    (Hint::Weak(Class::Consensus), &[
        "agree", "agreement", "reconcile", "synthesize", "synthesise", "disagree", "majority",
        "vote", "votes", "opinions", "answers", "merge", "einigung", "mehrheit",
    ]),
    (Hint::Reasoning, &[
        "why", "explain", "analyze", "analyse", "analysis", "compare", "comparison", "evaluate",
        "assess", "prove", "proof", "derive", "justify", "reason", "reasoning", "step", "steps",
        "tradeoff", "tradeoffs", "offs", "implications", "consequences", "versus", "vs",
        "advantages", "disadvantages", "pros", "cons", "optimize", "optimise", "optimal",
        "strategy", "diagnose", "hypothesis", "theorem", "constraint", "constraints", "complexity",
        "edge", "invariant", "asymptotic", "thorough", "thoroughly", "detailed", "comprehensive",
        "failure", "rationale", "warum", "wieso", "weshalb", "erkläre", "erklären", "begründe",
        "analysiere", "vergleiche", "vergleich", "bewerte", "beweise", "beweis", "schritt",
        "abwägen", "vorteile", "nachteile", "ausführlich",
    ]),
];

/// How many words there are.
pub(crate) const COUNT: usize = {
    let (mut group, mut count) = (0, 0);
    while group < GROUPS.len() {
        count += GROUPS[group].1.len();
        group += 1;
    }
    count
};

/// Longest word in bytes; longer ones are not looked up.
pub(crate) const LONGEST: usize = 20;

/// A power of two well above `COUNT`, so that a look-up takes a step or two.
const SLOTS: usize = 1024;
const EMPTY: u16 = u16::MAX;

static WORDS: [(&str, Hint); COUNT] = list();
// Built by the compiler: a fresh instance must not pay for it.
static TABLE: [u16; SLOTS] = table();

const fn list() -> [(&'static str, Hint); COUNT] {
    let mut words = [("", Hint::Reasoning); COUNT];
    let (mut group, mut count) = (0, 0);
    while group < GROUPS.len() {
        let (hint, members) = GROUPS[group];
        let mut member = 0;
        while member < members.len() {
            words[count] = (members[member], hint);
            count += 1;
            member += 1;
        }
        group += 1;
    }
    words
}

const fn table() -> [u16; SLOTS] {
    let words = list();
    let mut table = [EMPTY; SLOTS];
    let mut word = 0;
    while word < COUNT {
        let mut slot = hash(words[word].0.as_bytes()) % SLOTS;
        while table[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        table[slot] = word as u16;
        word += 1;
    }
    table
}

/// FNV-1a of the bytes in lower case, as far as they are ASCII.
const fn hash(bytes: &[u8]) -> usize {
    let (mut hash, mut at) = (0x811c_9dc5_u32, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at].to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 16)) as usize
}

/// The number, below [`COUNT`], and the hint of a `word`, whose ASCII letters may be in either case
/// and whose others are in lower case.
pub(crate) fn find(word: &[u8]) -> Option<(usize, Hint)> {
    if word.len() > LONGEST {
        return None;
    }
    let mut slot = hash(word) % SLOTS;
    loop {
        let (known, hint) = WORDS.get(usize::from(TABLE[slot]))?;
        if known.as_bytes().eq_ignore_ascii_case(word) {
            return Some((usize::from(TABLE[slot]), *hint));
        }
        slot = (slot + 1) % SLOTS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_once_and_is_lower_case() {
        for (number, (word, hint)) in WORDS.iter().enumerate() {
            assert_eq!(find(word.as_bytes()), Some((number, *hint)), "{word} is there twice");
            assert_eq!(word.to_lowercase(), **word);
            assert!(word.chars().all(char::is_alphanumeric), "{word} is never one word");
            assert!(word.len() <= LONGEST, "{word}");
        }
    }

    #[test]
    fn other_words_are_not_found() {
        for word in ["", "the", "pythons", "pytho", "\u{fffd}"] {
            assert_eq!(find(word.as_bytes()), None, "{word}");
        }
    }
}
