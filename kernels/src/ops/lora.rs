//! Grouped LoRA: every row of a batch with its own list of adapters, in two dispatches for any number of them.

use crate::KernelError;
use crate::activations::Activations;
use crate::adapter::LoraPair;
use crate::cpu::Cpu;
use crate::cpu::simd::LANES;
use crate::error::{check_equal, check_limit, check_rows};
use crate::lanes::lora::{Expand, Shrink};
use crate::shared::SharedMut;

/// Rows that a pair acts on.
#[derive(Clone, Copy)]
pub struct LoraRun<'a> {
    /// First row.
    pub first_row: usize,
    /// Rows.
    pub num_rows: usize,
    /// The adapter's matrices for this module. Runs with the same reference share the reading of them.
    pub pair: &'a LoraPair,
    /// Multiplies the contribution.
    pub weight: f32,
}

/// The runs of one module and the output of its matmul.
pub struct LoraTarget<'a> {
    /// Where several runs cover a row, they add up in this order.
    pub runs: &'a [LoraRun<'a>],
    /// `num_rows * out_features` values that hold `W x`; the contributions are added.
    pub out: &'a mut [f32],
    /// Width of `out`.
    pub out_features: usize,
}

/// Work space of [`lora`]; grows to what the largest op needed and is then used again.
#[derive(Default)]
pub struct LoraScratch {
    entries: Vec<Entry>,
    groups: Vec<Group>,
    /// Entry numbers in the order in which groups use them: first for shrink, then for expand.
    order: Vec<u32>,
    units: Vec<ShrinkUnit>,
    shrunk: Vec<f32>,
    base: Vec<f32>,
    seen: Vec<RowSeen>,
}

impl LoraScratch {
    /// Empty.
    pub fn new() -> LoraScratch {
        LoraScratch::default()
    }

    /// Bytes held.
    pub fn size_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.groups.capacity() * size_of::<Group>()
            + self.order.capacity() * size_of::<u32>()
            + self.units.capacity() * size_of::<ShrinkUnit>()
            + (self.shrunk.capacity() + self.base.capacity()) * size_of::<f32>()
            + self.seen.capacity() * size_of::<RowSeen>()
    }
}

/// One run's part on one row.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) row: u32,
    /// Which of the row's runs this is, in the order of the list.
    depth: u32,
    run: u32,
    pub(crate) weight: f32,
    /// Where `A x` of this entry lies.
    pub(crate) shrunk: usize,
    /// Where the row's base output is kept: only for a gain that is not the row's first run.
    pub(crate) base: Option<u32>,
}

/// Entries of one pair (and, for expand, of one depth): a range of `order`.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    pub(crate) run: u32,
    pub(crate) depth: u32,
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// Some ranks of a group.
#[derive(Clone, Copy)]
pub(crate) struct ShrinkUnit {
    pub(crate) group: Group,
    pub(crate) first_rank: u32,
    pub(crate) num_ranks: u32,
}

/// What the plan knows of a row.
#[derive(Clone, Copy, Default)]
struct RowSeen {
    depth: u32,
    base: Option<u32>,
}

/// Ranks per shrink unit: as many as share a pass over `x`.
const RANKS_PER_UNIT: usize = 8;
/// Chunks per thread of each dispatch.
const CHUNKS_PER_THREAD: usize = 6;
/// Multiplications below which a dispatch is one chunk.
const WORK_WORTH_A_FORK: usize = 16 * 1024;

/// `out[row] += weight * delta(row)` for every run that covers the row, where `delta = B A x`, or with a gain `g` (DoRA)
/// `g * (base + B A x) - base` with `base` the output as it was before the op.
///
/// A and B of a pair are read once for all rows and runs of a target that use it.
pub fn lora(
    cpu: &Cpu,
    x: &Activations,
    num_rows: usize,
    targets: &mut [LoraTarget<'_>],
    scratch: &mut LoraScratch,
) -> Result<(), KernelError> {
    const OP: &str = "lora";
    check_limit(OP, "num_rows", x.max_rows(), num_rows)?;
    for target in &*targets {
        check_rows(OP, "out", num_rows, target.out_features, target.out.len())?;
        for run in target.runs {
            check_limit(OP, "end of a run", num_rows, run.first_row.saturating_add(run.num_rows))?;
            check_equal(OP, "in_features of a pair", x.cols(), run.pair.in_features())?;
            check_equal(OP, "out_features of a pair", target.out_features, run.pair.out_features())?;
        }
    }
    for target in targets {
        if target.runs.iter().any(|run| run.num_rows > 0) {
            run_target(cpu, x, num_rows, target, scratch);
        }
    }
    Ok(())
}

fn run_target(cpu: &Cpu, x: &Activations, num_rows: usize, target: &mut LoraTarget<'_>, scratch: &mut LoraScratch) {
    let runs = target.runs;
    scratch.plan(runs, num_rows, target.out_features);
    let work_per_feature: usize = scratch.entries.iter().map(|entry| runs[entry.run as usize].pair.rank()).sum();

    let num_units = scratch.units.len();
    let units_per_chunk = per_chunk(cpu, num_units, work_per_feature * x.cols());
    let shrink = Shrink {
        x,
        runs,
        entries: &scratch.entries,
        order: &scratch.order,
        units: &scratch.units,
        units_per_chunk,
        shrunk: SharedMut::new(&mut scratch.shrunk),
    };
    cpu.launch(num_units.div_ceil(units_per_chunk), &shrink);

    let num_tiles = target.out_features.div_ceil(LANES);
    let work = work_per_feature * target.out_features;
    for groups in scratch.groups.chunk_by(|a, b| a.depth == b.depth) {
        // A whole B to a chunk where there are many: long streams are read faster.
        let enough_chunks = if work < WORK_WORTH_A_FORK { 1 } else { cpu.num_threads() * CHUNKS_PER_THREAD };
        let pieces_per_group = enough_chunks.div_ceil(groups.len()).clamp(1, num_tiles.max(1));
        let num_units = groups.len() * pieces_per_group;
        let units_per_chunk = per_chunk(cpu, num_units, work);
        let expand = Expand {
            runs,
            entries: &scratch.entries,
            order: &scratch.order,
            groups,
            pieces_per_group,
            units_per_chunk,
            shrunk: &scratch.shrunk,
            out: SharedMut::new(target.out),
            out_features: target.out_features,
            base: SharedMut::new(&mut scratch.base),
        };
        cpu.launch(num_units.div_ceil(units_per_chunk), &expand);
    }
}

/// How many of `count` pieces of work make a chunk.
fn per_chunk(cpu: &Cpu, count: usize, work: usize) -> usize {
    if work < WORK_WORTH_A_FORK { count.max(1) } else { count.div_ceil(cpu.num_threads() * CHUNKS_PER_THREAD).max(1) }
}

impl LoraScratch {
    /// Lays out entries, groups and units of a target. Which entries stand together does not change any result: each
    /// entry's operations are its own, and those of a row happen in the order of depth.
    fn plan(&mut self, runs: &[LoraRun<'_>], num_rows: usize, out_features: usize) {
        self.list_entries(runs, num_rows, out_features);
        let key = |entry: u32, entries: &[Entry]| {
            let entry = entries[entry as usize];
            (std::ptr::from_ref(runs[entry.run as usize].pair), entry.row, entry.run)
        };
        let num_entries = self.entries.len() as u32;

        self.order.clear();
        self.order.extend(0..num_entries);
        self.order.sort_unstable_by_key(|entry| key(*entry, &self.entries));
        self.groups.clear();
        group(&mut self.groups, &self.entries, &self.order, 0, |a, b| same_pair(runs, &self.entries, a, b));
        self.units.clear();
        for group in &self.groups {
            let rank = runs[group.run as usize].pair.rank();
            self.units.extend((0..rank).step_by(RANKS_PER_UNIT).map(|first_rank| ShrinkUnit {
                group: *group,
                first_rank: first_rank as u32,
                num_ranks: RANKS_PER_UNIT.min(rank - first_rank) as u32,
            }));
        }

        self.order.extend(0..num_entries);
        let by_depth = &mut self.order[num_entries as usize..];
        by_depth.sort_unstable_by_key(|entry| (self.entries[*entry as usize].depth, key(*entry, &self.entries)));
        self.groups.clear();
        group(&mut self.groups, &self.entries, by_depth, num_entries, |a, b| {
            same_pair(runs, &self.entries, a, b) && self.entries[a as usize].depth == self.entries[b as usize].depth
        });
    }

    /// One entry per run and row, in the order of the list.
    fn list_entries(&mut self, runs: &[LoraRun<'_>], num_rows: usize, out_features: usize) {
        self.entries.clear();
        self.seen.clear();
        self.seen.resize(num_rows, RowSeen::default());
        let (mut num_shrunk, mut num_bases) = (0, 0);
        for (at, run) in runs.iter().enumerate() {
            for row in run.first_row..run.first_row + run.num_rows {
                let seen = &mut self.seen[row];
                let needs_base = run.pair.gain().is_some() && seen.depth > 0;
                if needs_base && seen.base.is_none() {
                    seen.base = Some(num_bases);
                    num_bases += 1;
                }
                self.entries.push(Entry {
                    row: row as u32,
                    depth: seen.depth,
                    run: at as u32,
                    weight: run.weight,
                    shrunk: num_shrunk,
                    base: None,
                });
                seen.depth += 1;
                num_shrunk += run.pair.rank();
            }
        }
        if num_bases > 0 {
            for entry in &mut self.entries {
                entry.base = self.seen[entry.row as usize].base;
            }
        }
        grow(&mut self.shrunk, num_shrunk);
        grow(&mut self.base, num_bases as usize * out_features);
    }
}

impl Entry {
    /// Whether this is the first run of its row.
    pub(crate) fn is_first(&self) -> bool {
        self.depth == 0
    }
}

/// Splits an order into ranges of entries that belong together.
fn group(groups: &mut Vec<Group>, entries: &[Entry], order: &[u32], offset: u32, belongs: impl Fn(u32, u32) -> bool) {
    let mut first = offset;
    for members in order.chunk_by(|a, b| belongs(*a, *b)) {
        let Entry { run, depth, .. } = entries[members[0] as usize];
        groups.push(Group { run, depth, first, count: members.len() as u32 });
        first += members.len() as u32;
    }
}

fn same_pair(runs: &[LoraRun<'_>], entries: &[Entry], a: u32, b: u32) -> bool {
    let pair = |entry: u32| runs[entries[entry as usize].run as usize].pair;
    std::ptr::eq(pair(a), pair(b))
}

fn grow(values: &mut Vec<f32>, len: usize) {
    if values.len() < len {
        values.resize(len, 0.0);
    }
}
