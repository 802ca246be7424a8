//! How far a run is, in a line.

use std::time::Duration;

use tokio::time::Instant;

use super::record::Record;

/// The line for `now`.
pub(crate) fn text(record: &Record, now: Instant) -> String {
    let span = record.span;
    if now < span.begin {
        return format!("warm-up, {} s left", (span.begin - now).as_secs() + 1);
    }
    let elapsed = now - span.begin;
    let time = match span.end.map(|end| end - span.begin) {
        Some(length) if elapsed > length => "waiting for the last answers".to_owned(),
        Some(length) => format!("{} of {} s", elapsed.as_secs(), length.as_secs()),
        None => format!("{} s", elapsed.as_secs()),
    };
    let per_second = record.all.tokens_out / elapsed.max(Duration::from_millis(1)).as_secs_f64();
    let failed = record.all.failed;
    format!("{time}, {} answered, {failed} failed, {per_second:.0} tokens/s", record.all.succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Span;

    #[test]
    fn progress_tells_the_phase() {
        let begin = Instant::now() + Duration::from_secs(10);
        let record = Record::new(Span { begin, end: Some(begin + Duration::from_secs(5)) }, 1, 0);
        let at = |seconds: u64| text(&record, begin + Duration::from_secs(seconds));
        assert_eq!(text(&record, begin - Duration::from_millis(500)), "warm-up, 1 s left");
        assert_eq!(at(2), "2 of 5 s, 0 answered, 0 failed, 0 tokens/s");
        assert!(at(6).starts_with("waiting for the last answers"));
    }
}
