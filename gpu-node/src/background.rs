//! Threads that stand back for those that compute.

/// How far background threads stand back, in steps of `nice`: with the compute threads busy on every core they still
/// get about a tenth of one.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Lowers the priority of the calling thread, for good. Elsewhere than on Linux priorities belong to processes, and the
/// thread stays as it is.
pub(crate) fn yield_to_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a background thread keeps its priority");
    }
}
