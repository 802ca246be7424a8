//! The short form of the cases, which CI runs, and the full one.

/// Whether the numbers are those of docs/limits.md.
pub(crate) fn is_full() -> bool {
    std::env::var("SOUK_HOSTILE").is_ok_and(|form| form == "full")
}

/// How many there are of something, in the short form and in the full one.
pub(crate) fn scale(short: usize, full: usize) -> usize {
    if is_full() { full } else { short }
}
