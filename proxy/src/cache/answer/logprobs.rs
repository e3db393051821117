//! Log probabilities: lists of entries that chunks bring bit by bit. Chat has one list for the
//! content and one for a refusal, legacy completions have four that run side by side.

use super::Unfit;
use super::json::{self, Json};
use super::spread::MAX_NAMES;

/// The members of `logprobs`, while they grow. Entries are kept as text: there is one for each
/// token, and nothing in them is acted on.
#[derive(Default)]
pub(super) struct Columns(Vec<(Box<str>, Column)>);

enum Column {
    /// What stands between the brackets of a list.
    List(String),
    Value(Json),
}

impl Columns {
    pub(super) fn add(&mut self, name: &str, raw: &str) -> Result<(), Unfit> {
        let Some((_, column)) = self.0.iter_mut().find(|(known, _)| &**known == name) else {
            if self.0.len() == MAX_NAMES {
                return Err(Unfit::TooLarge);
            }
            self.0.push((name.into(), Column::of(raw)));
            return Ok(());
        };
        match (column, entries(raw)) {
            (Column::List(_), Some("")) => {}
            (Column::List(list), Some(more)) => {
                if !list.is_empty() {
                    list.push(',');
                }
                list.push_str(more);
            }
            // A null adds nothing; it does not take away what was there.
            (Column::List(_), None) if json::is_null(raw) => {}
            (column, _) => *column = Column::of(raw),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<(Box<str>, Json)> {
        let whole = |(name, column)| match column {
            Column::List(list) => (name, Json::of(&["[", &list, "]"].concat())),
            Column::Value(value) => (name, value),
        };
        self.0.into_iter().map(whole).collect()
    }
}

impl Column {
    fn of(raw: &str) -> Self {
        match entries(raw) {
            Some(list) => Column::List(list.to_owned()),
            None => Column::Value(Json::of(raw)),
        }
    }
}

fn entries(raw: &str) -> Option<&str> {
    Some(raw.strip_prefix('[')?.strip_suffix(']')?.trim())
}

/// The log probabilities of all events as one.
pub(super) fn join<'a>(
    events: impl Iterator<Item = &'a [(Box<str>, Json)]>,
) -> Result<Vec<(Box<str>, Json)>, Unfit> {
    let mut all = Columns::default();
    events.flatten().try_for_each(|(name, value)| all.add(name, value.get()))?;
    Ok(all.finish())
}
