//! Moments at which the process may end: before and after each transaction that writes, and around each object that is
//! put in place or removed. A test has the process exit at one of them, starts another on the same data, and looks
//! whether anything is half done (`tests/api/crashes`).
//!
//! In builds with debug assertions, and only where the variable `SOUK_CRASH_FILE` names a file: while that file has a
//! number in it, each pass of a point takes one from it, and the pass that takes the last one ends the process. In
//! releases nothing of this is compiled.

/// The exit code of a process that ended at a point. No other end of ours has it.
pub const CRASHED: i32 = 86;

/// A moment at which the process may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// A transaction has written all that it is for, and nothing of it is there yet.
    BeforeCommit,
    /// All of it is there, and nobody was told.
    AfterCommit,
    /// An object is complete out of sight.
    ObjectStaged,
    /// It is under its digest, and no row says so.
    ObjectPlaced,
    /// It is gone, and its row is not.
    ObjectRemoved,
}

impl CrashPoint {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::BeforeCommit, Self::AfterCommit, Self::ObjectStaged, Self::ObjectPlaced, Self::ObjectRemoved];

    /// Its name, which a process that ends there says.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeCommit => "before_commit",
            Self::AfterCommit => "after_commit",
            Self::ObjectStaged => "object_staged",
            Self::ObjectPlaced => "object_placed",
            Self::ObjectRemoved => "object_removed",
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

    /// Names the file with the number of passes that are left.
    const FILE: &str = "SOUK_CRASH_FILE";

    /// Locked while a pass is counted, so that of several threads one takes the last.
    static COUNTED_IN: LazyLock<Option<Mutex<PathBuf>>> =
        LazyLock::new(|| std::env::var_os(FILE).map(PathBuf::from).map(Mutex::new));

    #[expect(clippy::disallowed_methods, reason = "an end without any clean-up is what is tried")]
    pub(super) fn pass(point: CrashPoint) {
        let Some(file) = &*COUNTED_IN else { return };
        let file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if is_last(&file) {
            // Written where it is seen whatever becomes of the log.
            let _ = std::fs::write(file.with_extension("at"), point.as_str());
            let _ = writeln!(std::io::stderr(), "ends at the crash point {}", point.as_str());
            std::process::exit(CRASHED);
        }
    }

    /// Takes one from the number in the file, if there is one; answers whether it was the last.
    pub(super) fn is_last(file: &Path) -> bool {
        let number = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok());
        match number {
            None | Some(0) => false,
            Some(left) => std::fs::write(file, (left - 1).to_string()).is_ok_and(|()| left == 1),
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::armed::is_last;

    #[test]
    fn the_pass_that_takes_the_last_one_ends_the_process_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("left");
        assert!(!is_last(&file), "there is no number");
        std::fs::write(&file, "3").unwrap();
        let passes: Vec<_> = (0..5).map(|_| is_last(&file)).collect();
        assert_eq!(passes, [false, false, true, false, false]);
        std::fs::write(&file, "x").unwrap();
        assert!(!is_last(&file));
    }
}
