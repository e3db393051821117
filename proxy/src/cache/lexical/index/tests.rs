use super::*;

const SCOPE: [u8; 32] = [1; 32];

fn question(text: &str) -> Question {
    Question::analyse(text).unwrap_or_else(|why| panic!("{text}: {why:?}"))
}

fn find(index: &mut Index<u32>, text: &str) -> Option<u32> {
    index.find(&SCOPE, &question(text), |_| true).hit()
}

#[test]
fn another_form_of_the_question_is_found_and_another_question_is_not() {
    let mut index = Index::new(10);
    index.insert(SCOPE, question("How do I sort a list in Rust?"), 1);
    assert_eq!(find(&mut index, "Hi, in Rust, how can I sort a list? Thanks!"), Some(1));
    assert_eq!(find(&mut index, "How can a list be sorted in Rust?"), Some(1));
    let asked = question("How do I sort a list in Haskell?");
    assert_eq!(index.find(&SCOPE, &asked, |_| true), Found::Miss(vec![Veto::Entity]));
}

#[test]
fn scopes_are_apart() {
    let mut index = Index::new(10);
    index.insert(SCOPE, question("What is the capital of Peru?"), 1);
    let asked = question("What is the capital of Peru?");
    assert_eq!(index.find(&[2; 32], &asked, |_| true), Found::Miss(Vec::new()));
}

#[test]
fn a_refused_key_is_passed_over() {
    let mut index = Index::new(10);
    index.insert(SCOPE, question("What is the capital of Peru?"), 1);
    index.insert(SCOPE, question("What's Peru's capital?"), 2);
    let asked = question("Tell me the capital of Peru");
    assert_eq!(index.find(&SCOPE, &asked, |key| *key != 2).hit(), Some(1));
    assert_eq!(index.find(&SCOPE, &asked, |_| false), Found::Miss(Vec::new()));
}

#[test]
fn the_least_recently_used_goes_first_and_leaves_nothing_behind() {
    let mut index = Index::new(2);
    index.insert(SCOPE, question("Explain tidal power"), 1);
    index.insert(SCOPE, question("Explain well-known wind power"), 2);
    assert_eq!(find(&mut index, "Could you explain tidal power?"), Some(1));
    index.insert(SCOPE, question("Explain solar power"), 3);
    assert_eq!(index.len(), 2);
    assert_eq!(find(&mut index, "Explain well-known wind power"), None);
    assert_eq!(find(&mut index, "Explain tidal power"), Some(1));
    assert!(index.remove(&1) && index.remove(&3) && !index.remove(&2));
    assert!(index.is_empty() && index.filed.is_empty() && index.near.is_empty());
    assert!(index.recent.is_empty() && index.slots.len() == 2);
}

#[test]
fn a_key_filed_again_is_there_once() {
    let mut index = Index::new(3);
    for _ in 0..10 {
        index.insert(SCOPE, question("Explain tidal power"), 1);
    }
    assert_eq!((index.len(), index.recent.len(), index.slots.len()), (1, 1, 1));
    index.insert(SCOPE, question("Explain solar power"), 1);
    assert_eq!(find(&mut index, "Explain tidal power"), None);
    index.clear();
    assert_eq!(find(&mut index, "Explain solar power"), None);
}

#[test]
fn memory_is_bounded_under_churn() {
    let mut index = Index::new(100);
    for key in 0..5_000_u32 {
        index.insert(SCOPE, question(&format!("What is the square root of {key}?")), key);
    }
    assert_eq!(index.len(), 100);
    assert_eq!((index.slots.len(), index.filed.len(), index.near.len()), (100, 100, 1));
    assert_eq!(find(&mut index, "what is the square root of 4999"), Some(4_999));
    assert_eq!(find(&mut index, "what is the square root of 4"), None);
}

#[test]
fn a_slip_of_the_keys_is_found_even_over_a_hyphen() {
    let mut index = Index::new(10);
    index.insert(SCOPE, question("How do I write a depth-first search in Go?"), 1);
    assert_eq!(find(&mut index, "How do I write a detph-first search in Go?"), Some(1));
    assert_eq!(find(&mut index, "How do I write a depthf-irst search in Go?"), Some(1));
    assert_eq!(find(&mut index, "How do I write a depth first search in Go?"), Some(1));
}
