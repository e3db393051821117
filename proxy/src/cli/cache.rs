//! `sluicegate cache`: how good the comparison of questions is on labelled pairs.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::{BAD_CONFIG, fail, print};
use crate::cache::lexical::eval::{self, Pair, Tally};
use crate::cache::lexical::{Question, gate, guard};
use crate::config::Config;
use crate::pipeline::embedder;

/// Cosines tried as the threshold of an embedder.
const THRESHOLDS: [f64; 6] = [0.80, 0.85, 0.90, 0.93, 0.95, 0.98];

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Try the comparison of questions on labelled pairs, and print recall, false hits and
    /// precision, each with its 95 % interval (Wilson).
    ///
    /// One JSON object a line: {"cat": "kind", "a": "a question", "b": "another", "label": 1}, with
    /// label 1 where one answer serves both and 0 where it does not.
    Eval {
        /// The pairs.
        file: PathBuf,
        /// Configuration file: its `cache.semantic.embedder` is tried too, at several thresholds.
        #[arg(short, long)]
        config: Option<PathBuf>,
    },
}

pub(super) fn run(command: &Command) -> ExitCode {
    let Command::Eval { file, config } = command;
    let pairs = match read(file) {
        Ok(pairs) => pairs,
        Err(why) => return fail(1, &why),
    };
    let mut text = format!("by words (cache.lexical)\n{}", Tally::of(&pairs, same_words));
    if let Some(file) = config {
        let config = match Config::load(Some(file)) {
            Ok(config) => config,
            Err(error) => return fail(BAD_CONFIG, &error.to_string()),
        };
        match cosines(config, &pairs) {
            Ok(cosines) => write_thresholds(&mut text, &pairs, &cosines),
            Err(why) => return fail(1, &why),
        }
    }
    print(&text)
}

fn read(file: &Path) -> Result<Vec<Pair>, String> {
    let named = |cause: &dyn std::fmt::Display| format!("{}: {cause}", file.display());
    let text = std::fs::read_to_string(file).map_err(|cause| named(&cause))?;
    let pairs = eval::read(&text).map_err(|cause| named(&cause))?;
    if pairs.is_empty() { Err(named(&"no pairs")) } else { Ok(pairs) }
}

fn same_words(a: &str, b: &str) -> bool {
    both(a, b).is_some_and(|(a, b)| gate(&a, &b).is_ok())
}

fn passes_guard(a: &str, b: &str) -> bool {
    both(a, b).is_some_and(|(a, b)| guard(&a, &b).is_ok())
}

fn both(a: &str, b: &str) -> Option<(Question, Question)> {
    Some((Question::analyse(a).ok()?, Question::analyse(b).ok()?))
}

type Cosines = HashMap<(String, String), f64>;
type Rule<'a> = &'a dyn Fn(&str, &str) -> bool;

/// How like the texts of each pair are to the embedder of `config`.
fn cosines(config: Config, pairs: &[Pair]) -> Result<Cosines, String> {
    let texts: Vec<String> =
        pairs.iter().flat_map(|pair| [pair.a.clone(), pair.b.clone()]).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| cause.to_string())?;
    let vectors = runtime.block_on(embedder::embed_all(config, texts))?;
    let cosine = |pair: &[embedder::Vector]| -> f64 {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        let (a, b) = (&pair[0], &pair[1]);
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    };
    let named = pairs.iter().map(|pair| (pair.a.clone(), pair.b.clone()));
    Ok(named.zip(vectors.chunks_exact(2).map(cosine)).collect())
}

fn write_thresholds(text: &mut String, pairs: &[Pair], cosines: &Cosines) {
    let heading = "\nthreshold | rule | recall | false hits | precision";
    text.push_str(heading);
    for least in THRESHOLDS {
        let near = |a: &str, b: &str| {
            cosines.get(&(a.to_owned(), b.to_owned())).is_some_and(|cosine| *cosine >= least)
        };
        let guarded = |a: &str, b: &str| near(a, b) && passes_guard(a, b);
        let either = |a: &str, b: &str| same_words(a, b) || guarded(a, b);
        let rules: [(&str, Rule<'_>); 3] = [
            ("embedding alone", &near),
            ("embedding and guard (cache.semantic)", &guarded),
            ("by words, or embedding and guard", &either),
        ];
        for (name, rule) in rules {
            let tally = Tally::of(pairs, rule);
            // Writing into a text does not fail.
            let _ = write!(
                text,
                "\n{least:.2} | {name} | {} | {} | {}",
                tally.recall, tally.false_hits, tally.precision
            );
        }
    }
    text.push('\n');
}
