//! The gate: whether two texts ask the same question, without any model. Same class, same content
//! words in the same canonical order, up to plural, grammar and slips of the keys; no veto.

use super::align::aligned;
use super::guard::{Veto, against, whole};
use super::question::Question;

/// What [`gate`] accepts, at once: without looking for the best reason when it does not.
pub(super) fn accepts(asked: &Question, stored: &Question) -> bool {
    if asked.english && stored.english {
        aligned(asked, stored).is_ok()
    } else {
        whole(asked, stored).is_ok()
    }
}

/// Whether the answer to `stored` answers `asked`.
///
/// It is symmetric. A stranger's paraphrase is refused: a miss costs a call, a wrong hit costs
/// trust.
///
/// # Errors
/// What tells them apart.
pub fn gate(asked: &Question, stored: &Question) -> Result<(), Veto> {
    if !asked.english || !stored.english {
        return whole(asked, stored);
    }
    let Err(veto) = aligned(asked, stored) else { return Ok(()) };
    // A veto of the guard says more than "other words".
    against(asked, stored)?;
    Err(veto)
}
