//! What the host tells of itself.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

use crate::error::HookError;
use crate::measured::Measured;

/// Describes each metric of this crate. Call it after the exporter is installed.
pub fn describe() {
    describe_counter!("souk_hook_calls_total", "Calls of hooks, by what was called and what came of it.");
    describe_counter!("souk_hook_fuel_total", "Fuel that hooks took: about one for each instruction.");
    describe_histogram!(
        "souk_hook_processor_seconds",
        Unit::Seconds,
        "Processor time of a call of a hook, starting it included, by what was called."
    );
    describe_gauge!("souk_hook_calls_running", "Calls of hooks that are under way; shared between tenants.");
    describe_gauge!("souk_hook_streams_open", "Streams that hooks see piece by piece; shared between tenants.");
    describe_gauge!("souk_hooks_resident", "Compiled hooks in memory.");
    describe_gauge!("souk_hooks_resident_bytes", Unit::Bytes, "Bytes of compiled hooks in memory.");
    describe_counter!("souk_hook_compiles_total", "Components that were compiled, by what came of it.");
    describe_histogram!(
        "souk_hook_compile_seconds",
        Unit::Seconds,
        "Time of compiling a component, in its own process."
    );
}

/// Counts a call.
pub(crate) fn count_call(what: &'static str, came: Result<&Measured, &HookError>) {
    let (code, measured) = match came {
        Ok(measured) => ("ok", measured),
        Err(error) => (error.code(), &*error.measured),
    };
    metrics::counter!("souk_hook_calls_total", "call" => what, "outcome" => code).increment(1);
    metrics::counter!("souk_hook_fuel_total").increment(measured.fuel);
    metrics::histogram!("souk_hook_processor_seconds", "call" => what).record(measured.processor.as_secs_f64());
}
