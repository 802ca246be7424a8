//! Which numbers a node can hold: those of a pair are packed in two bytes each, at the least as brain floats, which
//! reach as far as single precision but for the last rounding.

use half::bf16;

use super::effect::EffectSums;
use super::plan::AdapterPlan;
use super::problem::{ProblemCode, ProblemList};

/// Whether a number of A, or the scale times one of B, stays finite when it is packed. The publisher is refused by the
/// same rule that would fail at the node.
#[must_use]
pub fn is_packable(value: f32) -> bool {
    bf16::from_f32(value).is_finite()
}

/// Adds a problem for each half of a pair that has a number which is not packable.
pub(super) fn check(plan: &AdapterPlan, sums: &EffectSums, problems: &mut ProblemList) {
    for pair in &plan.pairs {
        let (largest_a, largest_b) = sums.largest_of(pair.site);
        let scaled = pair.scale * largest_b;
        if !is_packable(largest_a) {
            let message = format!("its largest number is {largest_a:e}, and nodes hold numbers up to {:e}", bf16::MAX);
            problems.add(ProblemCode::OutOfRange, &pair.a.name, message);
        }
        if !is_packable(scaled) {
            let message = format!(
                "its largest number {largest_b:e} times the scale {} is {scaled:e}, and nodes hold numbers up to {:e}",
                pair.scale,
                bf16::MAX
            );
            problems.add(ProblemCode::OutOfRange, &pair.b.name, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rounds_to_infinity_is_not_packable() {
        for good in [0.0, -1.0, 65504.0, 3.38e38, -bf16::MAX.to_f32()] {
            assert!(is_packable(good), "{good}");
        }
        for bad in [f32::MAX, -3.4e38, f32::INFINITY, f32::NAN] {
            assert!(!is_packable(bad), "{bad}");
        }
    }
}
