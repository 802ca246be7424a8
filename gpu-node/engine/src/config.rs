//! The bounds of the engine.

/// Bounds of the engine. Each is lowered to what the runner can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Most sequences in the batch. More wait inside the engine.
    pub max_sequences: usize,
    /// Most requests in the engine, those that wait for the batch included.
    pub max_requests: usize,
    /// Most rows in one step: bounds the step's time, and so how long a newcomer waits.
    pub max_rows: usize,
    /// Most prompt rows in a step that also decodes: bounds the gap between two tokens of a running answer. At about 300
    /// prompt tokens a second, 64 rows are a gap of 0.2 s.
    pub max_prefill_rows_beside_decode: usize,
    /// Most rows in a step of decode rows and guesses at what follows them (see [`draft`](crate::draft)); 0 guesses nothing. A step of
    /// this many rows should take little longer than one of a single row.
    pub max_speculative_rows: usize,
    /// Whether KV blocks keep their content after their sequence has ended, for later ones of the same tenant.
    pub prefix_cache: bool,
    /// Most bytes of adapters that one step reads: bounds how much longer a step of many different adapters takes than one
    /// of the base model. At 20 GB/s, 256 MiB are 13 ms.
    pub max_adapter_bytes: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_sequences: 32,
            max_requests: 64,
            max_rows: 512,
            max_prefill_rows_beside_decode: 64,
            max_speculative_rows: 8,
            prefix_cache: true,
            max_adapter_bytes: 256 << 20,
        }
    }
}
