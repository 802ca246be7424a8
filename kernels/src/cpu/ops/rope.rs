//! Rotary positions, and storing keys and values in the cache.

use crate::cpu::backend::Cpu;
use crate::cpu::kv_cache::KvCache;
use crate::cpu::lanes::rope::RopeStore;
use crate::cpu::rope_table::RopeTable;
use crate::cpu::shared::SharedMut;
use crate::error::{KernelError, check_equal, check_index, check_rows};
use crate::runs::BLOCK_TOKENS;

/// Fewest rows of a chunk: storing one is a wait for the cache lines of its block, which no other op has brought.
const FEWEST_ROWS_PER_CHUNK: usize = 2;
/// Chunks per thread, where there are rows enough.
const CHUNKS_PER_THREAD: usize = 2;

/// Rotates `q` (`num_heads` heads per row) and `k` in place by `positions` and stores `k` and `v` of each row in its
/// slot (`block * 16 + offset`) of the cache's `layer`. There is one row per position.
#[expect(clippy::too_many_arguments, reason = "one op on three tensors, with where each row goes")]
pub fn rope_store(
    cpu: &Cpu,
    rope: &RopeTable,
    q: &mut [f32],
    k: &mut [f32],
    v: &[f32],
    positions: &[u32],
    slots: &[u32],
    num_heads: usize,
    cache: &mut KvCache,
    layer: usize,
) -> Result<(), KernelError> {
    const OP: &str = "rope_store";
    let (num_kv_heads, head_dim, num_rows) = (cache.num_kv_heads(), cache.head_dim(), positions.len());
    cache.check(OP, layer, num_heads)?;
    check_equal(OP, "head_dim", rope.head_dim(), head_dim)?;
    check_equal(OP, "slots", num_rows, slots.len())?;
    check_rows(OP, "q", num_rows, num_heads * head_dim, q.len())?;
    check_rows(OP, "k", num_rows, num_kv_heads * head_dim, k.len())?;
    check_rows(OP, "v", num_rows, num_kv_heads * head_dim, v.len())?;
    if let Some(position) = positions.iter().max() {
        check_index(OP, "position", rope.max_positions(), *position as usize)?;
    }
    if let Some(slot) = slots.iter().max() {
        check_index(OP, "slot", cache.num_blocks() * BLOCK_TOKENS, *slot as usize)?;
    }
    if num_rows == 0 {
        return Ok(());
    }
    let (first_vector, block_vectors) = (cache.index(layer, 0, 0), cache.block_vectors());
    let kernel = RopeStore {
        rope,
        q: SharedMut::new(q),
        k: SharedMut::new(k),
        v,
        positions,
        slots,
        num_heads,
        num_kv_heads,
        head_dim,
        first_vector,
        block_vectors,
        cache: SharedMut::new(cache.vectors_mut()),
        bounds: &chunk_bounds(cpu, slots),
    };
    cpu.launch(kernel.num_chunks(), &kernel);
    Ok(())
}

/// The rows where chunks begin, and the number of rows. Rows of one block stay together, so that what a chunk stores is
/// its own; where the rows of a block do not follow one another, all are in one chunk. So it is also defined what a
/// slot holds that two rows name: the later one's.
fn chunk_bounds(cpu: &Cpu, slots: &[u32]) -> Vec<usize> {
    let num_rows = slots.len();
    let is_same_block = |row: &usize| slots[row - 1] as usize / BLOCK_TOKENS == slots[*row] as usize / BLOCK_TOKENS;
    let mut bounds = vec![0];
    let rows_per_chunk = num_rows.div_ceil(cpu.num_threads() * CHUNKS_PER_THREAD).max(FEWEST_ROWS_PER_CHUNK);
    if num_rows > rows_per_chunk {
        let firsts = (1..num_rows).filter(|row| !is_same_block(row));
        let mut blocks: Vec<_> = firsts.clone().chain([0]).map(|row| slots[row] as usize / BLOCK_TOKENS).collect();
        let num_runs = blocks.len();
        blocks.sort_unstable();
        blocks.dedup();
        if blocks.len() == num_runs {
            let mut next = rows_per_chunk;
            for row in firsts.filter(|row| num_rows - row >= FEWEST_ROWS_PER_CHUNK) {
                if row >= next {
                    bounds.push(row);
                    next = row + rows_per_chunk;
                }
            }
        }
    }
    bounds.push(num_rows);
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_whole_blocks_or_there_is_one() {
        let cpu = Cpu::new(2);
        let of = |slots: &[u32]| chunk_bounds(&cpu, slots);
        let decode: Vec<u32> = (0..16).map(|row| 64 * row + row).collect();
        assert_eq!(of(&decode), [0, 4, 8, 12, 16]);
        let prompt: Vec<u32> = (8..56).collect();
        assert_eq!(of(&prompt), [0, 24, 40, 48]);
        assert_eq!(of(&[3]), [0, 1]);
        assert_eq!(of(&[3, 20]), [0, 2]);
        assert_eq!(of(&[3, 20, 40, 60, 80]), [0, 2, 5]);
        // A block twice, not in a row.
        assert_eq!(of(&[3, 20, 40, 4, 60, 80]), [0, 6]);
        assert_eq!(of(&[16; 40]), [0, 40]);
    }
}
