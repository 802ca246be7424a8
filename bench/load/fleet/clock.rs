//! Virtual time.

/// A moment, or a length of time, in microseconds since the beginning.
pub(super) type Moment = u64;

/// A length of time that was given in seconds.
pub(super) fn micros(seconds: f64) -> Moment {
    (seconds * 1e6).round() as Moment
}

/// The same in seconds.
pub(super) fn seconds(time: Moment) -> f64 {
    time as f64 / 1e6
}
