//! Which rows and positions an op reads, and where its results go.

/// Tokens per block of the paged cache of keys and values.
pub const BLOCK_TOKENS: usize = 16;

/// Rows of one sequence: rows `first_row ..` of `q` are its positions `first_position ..`.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSpan<'a> {
    /// First row in `q` and `out`.
    pub first_row: usize,
    /// Rows, one position each.
    pub num_rows: usize,
    /// Position of the first row.
    pub first_position: usize,
    /// Blocks of the cache that hold the sequence's keys and values, positions `0..16` in the first and so on. Those of
    /// the rows themselves have been stored.
    pub blocks: &'a [u32],
}

/// What a matmul does with what is in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputMode {
    /// Replaces it.
    Overwrite,
    /// Adds to it.
    Accumulate,
}

/// Which rows of the input an op reads.
#[derive(Debug, Clone, Copy)]
pub enum RowSelection<'a> {
    /// The first rows, in order.
    All(usize),
    /// These rows, in this order.
    Picked(&'a [u32]),
}

impl RowSelection<'_> {
    /// How many rows are selected.
    pub fn num_rows(&self) -> usize {
        match self {
            RowSelection::All(num_rows) => *num_rows,
            RowSelection::Picked(rows) => rows.len(),
        }
    }
}

/// The weights of a norm.
#[derive(Debug, Clone, Copy)]
pub struct NormWeights<'a> {
    /// For every row that has no override.
    pub base: &'a [f32],
    /// `(row of the output, weights)`, sorted by row, each row at most once.
    pub overrides: &'a [(usize, &'a [f32])],
}

/// Where the head's results go.
pub struct HeadOutput<'a> {
    /// `num_written * out_features` values: the outputs of the first rows.
    pub logits: &'a mut [f32],
    /// How many rows are written.
    pub num_written: usize,
    /// For each row after those the number of its largest output, the lower one of equals; `None` if an output is not
    /// finite.
    pub best: &'a mut [Option<u32>],
}
