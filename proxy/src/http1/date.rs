//! The `Date` of answers (RFC 9110, 6.6.1), written once a second by each thread.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

thread_local! {
    static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Calls `write` with the date of now.
pub fn with<T>(write: impl FnOnce(&str) -> T) -> T {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    LAST.with_borrow_mut(|(known, text)| {
        if *known != second || text.is_empty() {
            *known = second;
            *text = httpdate::fmt_http_date(now);
        }
        write(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_date_of_now() {
        for _ in 0..2 {
            let date = with(httpdate::parse_http_date).expect("a date");
            assert!(SystemTime::now().duration_since(date).is_ok_and(|age| age.as_secs() < 5));
        }
    }
}
