//! Words that may stand for each other in a paraphrase: the only exchanges of a single word that
//! the guard lets pass. The gate never uses them.

use std::collections::HashMap;
use std::sync::LazyLock;

const GROUPS: &[&str] = &[
    "big large great",
    "small little tiny",
    "fast quick rapid speedy",
    "quickly rapidly fast",
    "start begin commence",
    "end finish",
    "fix repair mend resolve",
    "buy purchase",
    "delete remove erase",
    "make create produce build",
    "get obtain acquire",
    "show display",
    "help assist aid",
    "use utilize employ",
    "find locate",
    "explain clarify",
    "describe explain",
    "tell explain",
    "change modify alter",
    "choose select pick",
    "answer reply respond",
    "important significant crucial",
    "main primary principal chief",
    "hard difficult tough",
    "easy simple",
    "car automobile",
    "film movie",
    "job occupation",
    "kid child",
    "kids children",
    "photo picture image photograph",
    "shop store",
    "sick ill",
    "happen occur",
    "need require",
    "allow permit",
    "method way approach technique",
    "way means",
    "reason cause",
    "benefit advantage",
    "drawback disadvantage downside",
    "purpose aim goal",
    "kind type sort",
    "part component",
    "function purpose",
    "difference distinction",
    "example instance",
    "error mistake",
    "problem issue",
    "rich wealthy",
    "smart clever intelligent",
    "famous well-known renowned",
    "near close",
    "author writer",
    "doctor physician",
    "invent devise",
    "discover find",
    "found establish",
    "reside live",
    "perform execute run",
    "execute run",
    "application app",
    "program application",
    "install set",
    "stop halt cease",
    "cost price",
    "amount quantity",
    "typical usual common",
    "usually typically commonly generally",
    "phone telephone smartphone",
    "computer pc",
    "website site",
    "implement write code",
    "effective efficient",
    "weird strange odd",
    "learn study",
    "improve enhance better",
    "increase raise boost",
    "decrease reduce lower",
    "wash clean",
    "sofa couch",
    "autumn fall",
    "lawyer attorney",
    "garbage trash rubbish",
    "summary overview",
    "essay composition",
    "steps stages",
    "term word",
    "name call",
];

static GROUPS_OF: LazyLock<HashMap<&'static str, Vec<usize>>> = LazyLock::new(|| {
    let mut groups: HashMap<&'static str, Vec<usize>> = HashMap::new();
    for (number, group) in GROUPS.iter().enumerate() {
        for word in group.split_whitespace() {
            groups.entry(word).or_default().push(number);
        }
    }
    groups
});

/// Whether any form of one word is in a group with a form of the other.
pub(in super::super) fn share(left: &[String], right: &[String]) -> bool {
    let groups = |forms: &[String]| -> Vec<usize> {
        forms.iter().filter_map(|form| GROUPS_OF.get(form.as_str())).flatten().copied().collect()
    };
    let ours = groups(left);
    !ours.is_empty() && groups(right).iter().any(|group| ours.contains(group))
}
