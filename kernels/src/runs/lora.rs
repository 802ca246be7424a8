//! Grouped LoRA: every row of a product with its own list of adapters. Which rows are shrunk together, and where an
//! expand finds what was shrunk. The same for every backend: what a pair is made of is the backend's.

/// A LoRA pair in the memory of a backend.
pub trait Pair {
    /// Rows of A.
    fn rank(&self) -> usize;
}

/// Rows that a pair acts on.
pub struct LoraRun<'a, P> {
    /// The first of its rows, counted within the step.
    pub first_row: usize,
    /// How many rows follow one another.
    pub num_rows: usize,
    /// The adapter's matrices for this module. Runs with the same reference share the reading of them.
    pub pair: &'a P,
    /// The adapter's weight in the request: a factor on what the pair adds.
    pub weight: f32,
}

impl<P> Clone for LoraRun<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for LoraRun<'_, P> {}

/// Who works on what: the same whatever the number of threads.
#[derive(Default)]
pub(crate) struct LoraPlan {
    /// By module, row and place in the list of runs.
    pub(crate) entries: Vec<LoraEntry>,
    /// For each module where the entries of each row begin, and where those of the last one end.
    pub(crate) row_starts: Vec<u32>,
    /// By module.
    groups: Vec<Group>,
    /// The group of each run of a module.
    run_groups: Vec<u32>,
    /// LoraEntry numbers, group by group.
    pub(crate) order: Vec<u32>,
    pub(crate) shrink_units: Vec<ShrinkUnit>,
}

/// One run's part on one row.
#[derive(Clone, Copy, Default)]
pub(crate) struct LoraEntry {
    pub(crate) row: u32,
    /// Which of the module's runs.
    pub(crate) run: u32,
    pub(crate) weight: f32,
    group: u32,
    /// Where `A x` of this entry lies.
    pub(crate) shrunk: usize,
}

/// Entries of one pair of a module: a range of `order`.
#[derive(Clone, Copy)]
struct Group {
    module: u32,
    /// The first run with the pair.
    run: u32,
    rank: u32,
    first: u32,
    count: u32,
}

/// Some ranks of a pair for some entries, which are a range of `order`.
#[derive(Clone, Copy)]
pub(crate) struct ShrinkUnit {
    pub(crate) module: u32,
    pub(crate) run: u32,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) first_rank: u32,
    pub(crate) num_ranks: u32,
}

/// Modules that one plan takes.
pub(crate) const MODULES_PER_PLAN: usize = 4;
/// Ranks per shrink unit: as many as share a pass over `x`.
const RANKS_PER_UNIT: usize = 8;
/// Most entries of a shrink unit: their activations stay in the second-level cache while the ranks pass by.
const ENTRIES_PER_UNIT: usize = 64;

impl LoraPlan {
    /// Bytes held.
    pub(crate) fn size_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<LoraEntry>()
            + self.groups.capacity() * size_of::<Group>()
            + (self.row_starts.capacity() + self.run_groups.capacity() + self.order.capacity()) * size_of::<u32>()
            + self.shrink_units.capacity() * size_of::<ShrinkUnit>()
    }

    /// Lays out entries, groups and units of some modules. Which entries stand together does not change any result:
    /// each entry's operations are its own. Returns how many values shrink writes.
    pub(crate) fn lay_out<P: Pair>(&mut self, num_rows: usize, modules: &[&[LoraRun<'_, P>]]) -> usize {
        self.entries.clear();
        self.row_starts.clear();
        self.groups.clear();
        let mut group_starts = [0; MODULES_PER_PLAN + 1];
        for (module, runs) in modules.iter().enumerate() {
            self.list_groups(module, runs);
            self.list_entries(num_rows, runs);
            group_starts[module + 1] = self.groups.len();
        }
        self.order_entries();
        // A row's pairs of all modules one after another, and rows in order, so that a thread shrinks what it
        // normalised.
        self.shrink_units.clear();
        let of_module = |module: usize| &self.groups[group_starts[module]..group_starts[module + 1]];
        let most_groups = (0..modules.len()).map(|module| of_module(module).len()).max().unwrap_or(0);
        for at in 0..most_groups {
            let groups = (0..modules.len()).filter_map(|module| of_module(module).get(at));
            groups.for_each(|group| group.cut(&mut self.shrink_units));
        }
        let mut num_shrunk = 0;
        for entry in &mut self.entries {
            entry.shrunk = num_shrunk;
            num_shrunk += self.groups[entry.group as usize].rank as usize;
        }
        num_shrunk
    }

    /// Groups of a module in the order in which their pairs first appear.
    fn list_groups<P: Pair>(&mut self, module: usize, runs: &[LoraRun<'_, P>]) {
        self.run_groups.clear();
        let first_group = self.groups.len();
        for (at, run) in runs.iter().enumerate() {
            // From the back: a pair is mostly that of the run before, or a new one. There are few.
            let same = |group: &Group| std::ptr::eq(runs[group.run as usize].pair, run.pair);
            let group = self.groups[first_group..].iter().rposition(same).unwrap_or_else(|| {
                let (module, run, rank) = (module as u32, at as u32, run.pair.rank() as u32);
                self.groups.push(Group { module, run, rank, first: 0, count: 0 });
                self.groups.len() - 1 - first_group
            });
            self.groups[first_group + group].count += run.num_rows as u32;
            self.run_groups.push((first_group + group) as u32);
        }
    }

    /// One entry per run and row of a module.
    fn list_entries<P>(&mut self, num_rows: usize, runs: &[LoraRun<'_, P>]) {
        let rows = |run: &LoraRun<'_, P>| run.first_row..run.first_row + run.num_rows;
        let first_start = self.row_starts.len();
        self.row_starts.resize(first_start + num_rows + 1, 0);
        let starts = &mut self.row_starts[first_start..];
        runs.iter().flat_map(rows).for_each(|row| starts[row] += 1);
        let mut end = self.entries.len() as u32;
        for start in &mut *starts {
            end += *start;
            *start = end;
        }
        self.entries.resize(end as usize, LoraEntry::default());
        // From the ends of the rows backwards, which leaves their beginnings.
        for (at, run) in runs.iter().enumerate().rev() {
            let (group, weight) = (self.run_groups[at], run.weight);
            for row in rows(run) {
                starts[row] -= 1;
                let entry = LoraEntry { row: row as u32, run: at as u32, weight, group, shrunk: 0 };
                self.entries[starts[row] as usize] = entry;
            }
        }
    }

    /// Gives each group its range of `order`.
    fn order_entries(&mut self) {
        let mut end = 0;
        for group in &mut self.groups {
            group.first = end;
            end += group.count;
            group.count = 0;
        }
        self.order.clear();
        self.order.resize(self.entries.len(), 0);
        for (at, entry) in self.entries.iter().enumerate() {
            let group = &mut self.groups[entry.group as usize];
            self.order[(group.first + group.count) as usize] = at as u32;
            group.count += 1;
        }
    }
}

impl Group {
    fn cut(&self, units: &mut Vec<ShrinkUnit>) {
        let Group { module, run, rank, first, count } = *self;
        let end = first + count;
        for first in (first..end).step_by(ENTRIES_PER_UNIT) {
            let count = (end - first).min(ENTRIES_PER_UNIT as u32);
            for first_rank in (0..rank).step_by(RANKS_PER_UNIT) {
                let num_ranks = (rank - first_rank).min(RANKS_PER_UNIT as u32);
                units.push(ShrinkUnit { module, run, first, count, first_rank, num_ranks });
            }
        }
    }
}
