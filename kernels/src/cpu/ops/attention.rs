//! Causal grouped-query attention over the paged cache.

use crate::cpu::backend::Cpu;
use crate::cpu::kv_cache::KvCache;
use crate::cpu::lanes::attention::{Attention, Join, Partials, segments_of};
use crate::cpu::shared::SharedMut;
use crate::error::{KernelError, check_index, check_rows};
use crate::runs::{AttentionSpan, BLOCK_TOKENS};

/// Work space of [`attention`] for rows beyond the first segment; grows to what the largest op needed and is then used
/// again.
#[derive(Default)]
pub struct AttentionScratch {
    partials: Vec<f32>,
}

/// `out[row] = softmax(q k / sqrt(head_dim)) v` over positions up to the row's own, for the rows of every span. Head
/// `h` reads key-value head `h / (num_heads / num_kv_heads)`. Spans may come in any order and must not share rows.
#[expect(clippy::too_many_arguments, reason = "one op on a cache, with what it reads, writes and works in")]
pub fn attention(
    cpu: &Cpu,
    q: &[f32],
    num_heads: usize,
    cache: &KvCache,
    layer: usize,
    spans: &[AttentionSpan<'_>],
    out: &mut [f32],
    scratch: &mut AttentionScratch,
) -> Result<(), KernelError> {
    const OP: &str = "attention";
    cache.check(OP, layer, num_heads)?;
    let mut end_of_earlier = 0;
    for (at, span) in spans.iter().enumerate() {
        let last_row = span.first_row.saturating_add(span.num_rows);
        check_rows(OP, "q", last_row, num_heads * cache.head_dim(), q.len())?;
        check_rows(OP, "out", last_row, num_heads * cache.head_dim(), out.len())?;
        if span.num_rows > 0 {
            let length = span.first_position.saturating_add(span.num_rows);
            check_rows(OP, "blocks of a span", length.div_ceil(BLOCK_TOKENS), 1, span.blocks.len())?;
        }
        if let Some(block) = span.blocks.iter().max() {
            check_index(OP, "block", cache.num_blocks(), *block as usize)?;
        }
        check_disjoint(OP, span, &spans[..at], end_of_earlier)?;
        end_of_earlier = end_of_earlier.max(last_row);
    }
    if cache.num_kv_heads() == 0 {
        return Ok(());
    }
    let (dim, num_segments) = (cache.head_dim(), spans.iter().map(segments_of).max().unwrap_or(0));
    let in_segments = num_segments > 1;
    let num_floats = if in_segments { Partials::len(end_of_earlier, num_heads, dim, num_segments) } else { 0 };
    if scratch.partials.len() < num_floats {
        scratch.partials.resize(num_floats, 0.0);
    }
    let partials = Partials { values: SharedMut::new(&mut scratch.partials), num_heads, dim, num_segments };
    let out = SharedMut::new(out);
    let kernel = Attention { q, num_heads, cache, layer, spans, out, partials };
    cpu.launch(kernel.num_chunks(), &kernel);
    if in_segments {
        let join = Join { spans, partials, out };
        cpu.launch(join.num_chunks(), &join);
    }
    Ok(())
}

/// Refuses a span that shares rows with an earlier one: two threads would write them. `end_of_earlier` is the highest
/// end so far; in the usual order nothing else needs a look.
fn check_disjoint(
    op: &'static str,
    span: &AttentionSpan<'_>,
    earlier: &[AttentionSpan<'_>],
    end_of_earlier: usize,
) -> Result<(), KernelError> {
    if span.first_row >= end_of_earlier || span.num_rows == 0 {
        return Ok(());
    }
    let end = span.first_row + span.num_rows;
    let shares = |other: &&AttentionSpan<'_>| {
        let other_end = other.first_row + other.num_rows;
        other.num_rows > 0 && other.first_row < end && span.first_row < other_end
    };
    match earlier.iter().find(shares) {
        Some(other) => Err(KernelError::Limit {
            op,
            what: "end of a span that begins before another",
            limit: span.first_row.max(other.first_row),
            given: end.min(other.first_row + other.num_rows),
        }),
        None => Ok(()),
    }
}
