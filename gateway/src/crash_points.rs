//! Moments of a call at which the process may end: between what limits, journal, queue and database are told. A test has the process
//! exit at one of them, starts another on the same data, and looks whether every request counts once (`tests/accounting`).
//!
//! In builds with debug assertions, and only where the variable `SOUK_GATEWAY_CRASH_FILE` names a file: while that file has a
//! point's name and a number in it, each pass of that point takes one from the number, and the pass that takes the last one ends
//! the process. In releases nothing of this is compiled.

/// The exit code of a process that ended at a point.
pub const CRASHED: i32 = 86;

/// A moment at which the process may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// Limits hold what a request may use, and no file says so.
    Reserved,
    /// The journal says that it is about to be queued.
    Opened,
    /// Its first job is on the queue.
    Queued,
    /// Its last job is settled, and no file says so.
    Settled,
    /// The journal says what it used.
    Journaled,
    /// Its rows are in the database, and limits have not heard.
    Written,
    /// Limits have heard, and the journal does not say so.
    Counted,
}

impl CrashPoint {
    /// All of them, in the order of a call.
    pub const ALL: [Self; 7] = [
        Self::Reserved,
        Self::Opened,
        Self::Queued,
        Self::Settled,
        Self::Journaled,
        Self::Written,
        Self::Counted,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Opened => "opened",
            Self::Queued => "queued",
            Self::Settled => "settled",
            Self::Journaled => "journaled",
            Self::Written => "written",
            Self::Counted => "counted",
        }
    }
}

/// Passes a point.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) const fn pass(_point: CrashPoint) {}

/// Passes a point, or ends the process there.
#[cfg(debug_assertions)]
pub(crate) fn pass(point: CrashPoint) {
    armed::pass(point);
}

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write as _;
    use std::path::{Path, PathBuf};
    use std::sync::{LazyLock, Mutex, PoisonError};

    use super::{CRASHED, CrashPoint};

    /// Names the file with the point and the number of passes that are left.
    const FILE: &str = "SOUK_GATEWAY_CRASH_FILE";

    /// Locked while a pass is counted, so that of several threads one takes the last.
    static COUNTED_IN: LazyLock<Option<Mutex<PathBuf>>> =
        LazyLock::new(|| std::env::var_os(FILE).map(PathBuf::from).map(Mutex::new));

    #[expect(clippy::disallowed_methods, reason = "an end without any clean-up is what is tried")]
    pub(super) fn pass(point: CrashPoint) {
        let Some(file) = &*COUNTED_IN else { return };
        let file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if is_last(&file, point) {
            // Written where it is seen whatever becomes of the log.
            let _ = writeln!(std::io::stderr(), "ends at the crash point {}", point.as_str());
            std::process::exit(CRASHED);
        }
    }

    /// Takes one from the number in the file, if it is this point's; answers whether it was the last.
    pub(super) fn is_last(file: &Path, point: CrashPoint) -> bool {
        let Ok(text) = std::fs::read_to_string(file) else { return false };
        let Some((name, number)) = text.trim().split_once(' ') else { return false };
        match number.parse::<u64>() {
            Ok(left) if left > 0 && name == point.as_str() => {
                std::fs::write(file, format!("{name} {}", left - 1)).is_ok_and(|()| left == 1)
            }
            _ => false,
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::CrashPoint;
    use super::armed::is_last;

    #[test]
    fn the_pass_that_takes_the_last_one_of_its_point_ends_the_process_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("left");
        assert!(!is_last(&file, CrashPoint::Settled), "there is no number");
        std::fs::write(&file, "settled 2").unwrap();
        let points = [CrashPoint::Settled, CrashPoint::Written, CrashPoint::Settled, CrashPoint::Settled];
        assert_eq!(points.map(|point| is_last(&file, point)), [false, false, true, false]);
        std::fs::write(&file, "settled x").unwrap();
        assert!(!is_last(&file, CrashPoint::Settled));
    }
}
