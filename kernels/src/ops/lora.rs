//! Grouped LoRA: every row of a batch with its own list of adapters, in two dispatches for any number of them.

use crate::KernelError;
use crate::activations::Activations;
use crate::adapter::LoraPair;
use crate::cpu::Cpu;
use crate::cpu::simd::LANES;
use crate::error::{check_equal, check_limit, check_rows};
use crate::lanes::lora::{Expand, Module, Shrink};
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

/// Work space of [`lora`] and [`adapted_matmul`](super::adapted_matmul); grows to what the largest op needed and is then
/// used again.
#[derive(Default)]
pub struct LoraScratch {
    pub(crate) plan: LoraPlan,
    pub(crate) shrunk: Vec<f32>,
    base: Vec<f32>,
}

/// Who works on what: the same whatever the number of threads.
#[derive(Default)]
pub(crate) struct LoraPlan {
    pub(crate) entries: Vec<Entry>,
    groups: Vec<Group>,
    /// Entry numbers in the order in which groups use them: first for shrink, then for expand.
    pub(crate) order: Vec<u32>,
    pub(crate) shrink_units: Vec<ShrinkUnit>,
    expand_units: Vec<ExpandUnit>,
    seen: Vec<RowSeen>,
}

impl LoraScratch {
    /// Empty.
    pub fn new() -> LoraScratch {
        LoraScratch::default()
    }

    /// Bytes held.
    pub fn size_bytes(&self) -> usize {
        let plan = &self.plan;
        plan.entries.capacity() * size_of::<Entry>()
            + plan.groups.capacity() * size_of::<Group>()
            + plan.order.capacity() * size_of::<u32>()
            + plan.shrink_units.capacity() * size_of::<ShrinkUnit>()
            + plan.expand_units.capacity() * size_of::<ExpandUnit>()
            + plan.seen.capacity() * size_of::<RowSeen>()
            + (self.shrunk.capacity() + self.base.capacity()) * size_of::<f32>()
    }
}

/// One run's part on one row.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    /// Which module of the op.
    pub(crate) module: u32,
    pub(crate) row: u32,
    /// Which of the row's runs in the module this is, in the order of the list.
    depth: u32,
    run: u32,
    pub(crate) weight: f32,
    /// Where `A x` of this entry lies.
    pub(crate) shrunk: usize,
    /// Where the row's base output is kept: only for a gain that is not the row's first run.
    pub(crate) base: Option<usize>,
}

/// Entries of one pair (and, for expand, of one depth): a range of `order`.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    pub(crate) module: u32,
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

/// Some tiles of outputs of a group.
#[derive(Clone, Copy)]
pub(crate) struct ExpandUnit {
    pub(crate) group: Group,
    pub(crate) first_tile: u32,
    pub(crate) num_tiles: u32,
}

/// What the plan knows of a row of a module.
#[derive(Clone, Copy, Default)]
struct RowSeen {
    depth: u32,
    base: Option<usize>,
}

/// Modules that one plan takes; a longer list takes several.
pub(crate) const MODULES_PER_PLAN: usize = 4;
/// Ranks per shrink unit: as many as share a pass over `x`.
const RANKS_PER_UNIT: usize = 8;
/// Chunks per thread of each dispatch.
const CHUNKS_PER_THREAD: usize = 6;
/// Multiplications below which a dispatch is one chunk.
const WORK_WORTH_A_FORK: usize = 16 * 1024;

/// `out[row] += weight * delta(row)` for every run that covers the row, where `delta = B A x`, or with a gain `g` (DoRA)
/// `g * (base + B A x) - base` with `base` the output as it was before the op.
///
/// A and B of a pair are read once for all rows and runs of a target that use it. Targets share their dispatches.
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
        check_runs(OP, x, num_rows, target.out_features, target.runs)?;
    }
    for targets in targets.chunks_mut(MODULES_PER_PLAN) {
        let mut modules = [Module::EMPTY; MODULES_PER_PLAN];
        for (module, target) in modules.iter_mut().zip(targets) {
            let (runs, out_features) = (target.runs, target.out_features);
            *module = Module { runs, out: SharedMut::new(target.out), out_features };
        }
        if modules.iter().all(Module::is_idle) {
            continue;
        }
        scratch.prepare(cpu, num_rows, &modules);
        let shrink = Shrink::new(cpu, x, &modules, &scratch.plan, &mut scratch.shrunk);
        cpu.launch(shrink.num_chunks(), &shrink);
        scratch.expand(cpu, &modules);
    }
    Ok(())
}

/// Checks the runs of one module.
pub(crate) fn check_runs(
    op: &'static str,
    x: &Activations,
    num_rows: usize,
    out_features: usize,
    runs: &[LoraRun<'_>],
) -> Result<(), KernelError> {
    for run in runs {
        check_limit(op, "end of a run", num_rows, run.first_row.saturating_add(run.num_rows))?;
        check_equal(op, "in_features of a pair", x.cols(), run.pair.in_features())?;
        check_equal(op, "out_features of a pair", out_features, run.pair.out_features())?;
    }
    Ok(())
}

/// How many of `count` pieces of work make a chunk.
pub(crate) fn per_chunk(cpu: &Cpu, count: usize, work: usize) -> usize {
    if work < WORK_WORTH_A_FORK { count.max(1) } else { count.div_ceil(cpu.num_threads() * CHUNKS_PER_THREAD).max(1) }
}

impl LoraScratch {
    /// Plans an op and makes room for what passes between its dispatches.
    pub(crate) fn prepare(&mut self, cpu: &Cpu, num_rows: usize, modules: &[Module<'_>]) {
        let (num_shrunk, num_base) = self.plan.lay_out(cpu, num_rows, modules);
        grow(&mut self.shrunk, num_shrunk);
        grow(&mut self.base, num_base);
    }

    /// The dispatches after shrink: one for each depth.
    pub(crate) fn expand(&mut self, cpu: &Cpu, modules: &[Module<'_>]) {
        let plan = &self.plan;
        for units in plan.expand_units.chunk_by(|a, b| a.group.depth == b.group.depth) {
            let work = |unit: &ExpandUnit| {
                unit.num_tiles as usize * LANES * unit.group.count as usize * unit.group.pair(modules).rank()
            };
            let units_per_chunk = per_chunk(cpu, units.len(), units.iter().map(work).sum());
            let expand = Expand {
                modules,
                plan,
                units,
                units_per_chunk,
                shrunk: &self.shrunk,
                base: SharedMut::new(&mut self.base),
            };
            cpu.launch(units.len().div_ceil(units_per_chunk), &expand);
        }
    }
}

impl LoraPlan {
    /// Lays out entries, groups and units of some modules. Which entries stand together does not change any result: each
    /// entry's operations are its own, and those of a row happen in the order of depth. Returns how many values shrink
    /// writes and how many base outputs are kept.
    fn lay_out(&mut self, cpu: &Cpu, num_rows: usize, modules: &[Module<'_>]) -> (usize, usize) {
        let sizes = self.list_entries(num_rows, modules);
        let key = |entry: u32, entries: &[Entry]| {
            let entry = entries[entry as usize];
            (entry.module, std::ptr::from_ref(entry.pair(modules)), entry.row, entry.run)
        };
        let num_entries = self.entries.len() as u32;

        self.order.clear();
        self.order.extend(0..num_entries);
        self.order.sort_unstable_by_key(|entry| key(*entry, &self.entries));
        self.groups.clear();
        group(&mut self.groups, &self.entries, &self.order, 0, |a, b| a.shares_pair(b, modules));
        self.shrink_units.clear();
        for group in &self.groups {
            let rank = group.pair(modules).rank();
            self.shrink_units.extend((0..rank).step_by(RANKS_PER_UNIT).map(|first_rank| ShrinkUnit {
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
            a.depth == b.depth && a.shares_pair(b, modules)
        });
        self.expand_units.clear();
        for groups in self.groups.chunk_by(|a, b| a.depth == b.depth) {
            // A whole B to a unit where there are many: long streams are read faster.
            let pieces = (cpu.num_threads() * CHUNKS_PER_THREAD).div_ceil(groups.len());
            for group in groups {
                let num_tiles = modules[group.module as usize].out_features.div_ceil(LANES);
                let tiles_per_piece = num_tiles.div_ceil(pieces).max(1);
                self.expand_units.extend((0..num_tiles).step_by(tiles_per_piece).map(|first_tile| ExpandUnit {
                    group: *group,
                    first_tile: first_tile as u32,
                    num_tiles: tiles_per_piece.min(num_tiles - first_tile) as u32,
                }));
            }
        }
        sizes
    }

    /// One entry per run and row, in the order of the modules and their lists.
    fn list_entries(&mut self, num_rows: usize, modules: &[Module<'_>]) -> (usize, usize) {
        self.entries.clear();
        let (mut num_shrunk, mut num_base) = (0, 0);
        for (module, Module { runs, out_features, .. }) in modules.iter().enumerate() {
            let first_entry = self.entries.len();
            self.seen.clear();
            self.seen.resize(num_rows, RowSeen::default());
            let mut keeps_base = false;
            for (at, run) in runs.iter().enumerate() {
                for row in run.first_row..run.first_row + run.num_rows {
                    let seen = &mut self.seen[row];
                    if run.pair.gain().is_some() && seen.depth > 0 && seen.base.is_none() {
                        seen.base = Some(num_base);
                        num_base += out_features;
                        keeps_base = true;
                    }
                    self.entries.push(Entry {
                        module: module as u32,
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
            if keeps_base {
                for entry in &mut self.entries[first_entry..] {
                    entry.base = self.seen[entry.row as usize].base;
                }
            }
        }
        (num_shrunk, num_base)
    }
}

impl Group {
    #[inline(always)]
    pub(crate) fn pair<'a>(&self, modules: &[Module<'a>]) -> &'a LoraPair {
        modules[self.module as usize].runs[self.run as usize].pair
    }
}

impl Entry {
    /// Whether this is the first run of its row.
    pub(crate) fn is_first(&self) -> bool {
        self.depth == 0
    }

    fn pair<'a>(&self, modules: &[Module<'a>]) -> &'a LoraPair {
        modules[self.module as usize].runs[self.run as usize].pair
    }

    fn shares_pair(&self, other: &Entry, modules: &[Module<'_>]) -> bool {
        self.module == other.module && std::ptr::eq(self.pair(modules), other.pair(modules))
    }
}

/// Splits an order into ranges of entries that belong together.
fn group(
    groups: &mut Vec<Group>,
    entries: &[Entry],
    order: &[u32],
    offset: u32,
    belongs: impl Fn(&Entry, &Entry) -> bool,
) {
    let mut first = offset;
    for members in order.chunk_by(|a, b| belongs(&entries[*a as usize], &entries[*b as usize])) {
        let Entry { module, run, depth, .. } = entries[members[0] as usize];
        groups.push(Group { module, run, depth, first, count: members.len() as u32 });
        first += members.len() as u32;
    }
}

fn grow(values: &mut Vec<f32>, len: usize) {
    if values.len() < len {
        values.resize(len, 0.0);
    }
}
