//! Where the time of a step goes, op by op, and what each op had to move and to calculate.

use std::time::{Duration, Instant};

use souk_kernels::cpu::Matrix;

/// A kind of work in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpClass {
    /// Layout of the step, embedding, and what lies between ops.
    Other,
    /// Norms, with the quantising of what follows them.
    Norm,
    /// Queries, keys and values, with their adapters.
    Qkv,
    /// Rotation by position, and storing keys and values.
    Rope,
    /// Attention, and the quantising of its output.
    Attention,
    /// Output projection, with its adapters.
    Output,
    /// Gate and up projection, with their adapters.
    GateUp,
    /// SwiGLU, with the quantising of its output.
    SwiGlu,
    /// Down projection, with its adapters.
    Down,
    /// Last norm, output head and choice.
    Head,
}

/// What an op needs at least.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Bytes of weights, adapters, keys and values that it reads.
    pub bytes: f64,
    /// Multiplications and additions of int8. Activations have two planes, so each weight counts twice per row.
    pub int8_operations: f64,
}

/// One class's share of the steps of a profile.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpFigures {
    /// Wall-clock time that it took.
    pub took: Duration,
    /// What had to be done in it.
    pub work: Work,
}

/// Figures of some steps, summed by class.
#[derive(Clone, Debug, Default)]
pub struct StepProfile {
    /// How many steps the times are summed over.
    pub num_steps: usize,
    ops: [OpFigures; OpClass::ALL.len()],
}

impl OpClass {
    /// Every class, in the order of a step.
    pub const ALL: [Self; 10] = [
        Self::Norm,
        Self::Qkv,
        Self::Rope,
        Self::Attention,
        Self::Output,
        Self::GateUp,
        Self::SwiGlu,
        Self::Down,
        Self::Head,
        Self::Other,
    ];

    /// For tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Norm => "norm + quantise",
            Self::Qkv => "q, k, v",
            Self::Rope => "rope + store",
            Self::Attention => "attention + quantise",
            Self::Output => "o",
            Self::GateUp => "gate, up",
            Self::SwiGlu => "swiglu + quantise",
            Self::Down => "down",
            Self::Head => "head",
            Self::Other => "embedding, layout, other",
        }
    }
}

impl Work {
    /// Products of matrices with `num_rows` rows.
    pub(super) fn products<const N: usize>(num_rows: usize, matrices: [&Matrix; N]) -> Self {
        let mut work = Self::default();
        for matrix in matrices {
            work.bytes += matrix.size_bytes() as f64;
            if matrix.weight_type().block_len() > 1 {
                let num_weights = matrix.out_features() * matrix.in_features();
                work.int8_operations += 2.0 * 2.0 * (num_rows * num_weights) as f64;
            }
        }
        work
    }

    /// The least time that a machine with these rates needs.
    #[must_use]
    pub fn bound(&self, bytes_per_second: f64, int8_operations_per_second: f64) -> Duration {
        let seconds = (self.bytes / bytes_per_second).max(self.int8_operations / int8_operations_per_second);
        Duration::from_secs_f64(seconds)
    }
}

impl StepProfile {
    /// The figures of a class.
    #[must_use]
    pub fn of(&self, class: OpClass) -> OpFigures {
        self.ops[class as usize]
    }

    /// The figures of all classes together.
    #[must_use]
    pub fn total(&self) -> OpFigures {
        let mut total = OpFigures::default();
        self.ops.iter().for_each(|op| total.add(op.took, op.work));
        total
    }
}

impl OpFigures {
    fn add(&mut self, took: Duration, work: Work) {
        self.took += took;
        self.work.bytes += work.bytes;
        self.work.int8_operations += work.int8_operations;
    }
}

/// Books the time between laps. Without a profile it does nothing.
pub(super) struct Laps<'a> {
    profile: Option<(&'a mut StepProfile, Instant)>,
}

impl<'a> Laps<'a> {
    /// Begins a step.
    pub(super) fn begin(profile: Option<&'a mut StepProfile>) -> Self {
        Self { profile: profile.map(|profile| (profile, Instant::now())) }
    }

    /// Books what has passed since the last lap.
    pub(super) fn lap(&mut self, class: OpClass, work: impl FnOnce() -> Work) {
        if let Some((profile, since)) = &mut self.profile {
            let now = Instant::now();
            profile.ops[class as usize].add(now - *since, work());
            *since = now;
        }
    }

    /// Books the rest.
    pub(super) fn end(mut self) {
        self.lap(OpClass::Other, Work::default);
        if let Some((profile, _)) = &mut self.profile {
            profile.num_steps += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_book_all_time_and_work_and_nothing_without_a_profile() {
        let mut profile = StepProfile::default();
        let started = Instant::now();
        let mut laps = Laps::begin(Some(&mut profile));
        std::thread::sleep(Duration::from_millis(2));
        laps.lap(OpClass::Qkv, || Work { bytes: 8.0, int8_operations: 6.0 });
        laps.lap(OpClass::Qkv, || Work { bytes: 1.0, int8_operations: 0.0 });
        laps.end();
        let elapsed = started.elapsed();
        let qkv = profile.of(OpClass::Qkv);
        assert!(qkv.took >= Duration::from_millis(2) && profile.total().took <= elapsed);
        assert_eq!((qkv.work.bytes, qkv.work.int8_operations, profile.num_steps), (9.0, 6.0, 1));
        assert_eq!(qkv.work.bound(9.0, 3.0), Duration::from_secs(2));

        let mut off = Laps::begin(None);
        off.lap(OpClass::Qkv, || unreachable!("nobody asks"));
        off.end();
    }

    #[test]
    fn every_class_has_a_place_of_its_own() {
        let mut places = OpClass::ALL.map(|class| class as usize);
        places.sort_unstable();
        assert_eq!(places, std::array::from_fn(|place| place));
    }
}
