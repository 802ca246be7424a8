//! A histogram as an exporter of figures ships it, read back.

use std::collections::BTreeMap;

/// How many were counted up to each bound, in nanoseconds; the last has all of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets(BTreeMap<u64, f64>);

impl Buckets {
    /// The buckets of `metric`, in seconds, among figures in Prometheus' text format, of the line with `label`, as `stage="reserve"`.
    ///
    /// # Panics
    /// If a line is none of that format.
    #[must_use]
    pub fn of(figures: &str, metric: &str, label: &str) -> Self {
        let start = format!("{metric}_bucket{{");
        let lines = figures.lines().filter_map(|line| line.strip_prefix(&start)?.rsplit_once("} "));
        let lines = lines.filter(|(labels, _)| labels.split(',').any(|one| one == label));
        let bucket = |(labels, count): (&str, &str)| {
            let bound =
                labels.split(',').find_map(|one| one.strip_prefix("le=\"")?.strip_suffix('"')).expect("a bound");
            let bound =
                if bound == "+Inf" { u64::MAX } else { (bound.parse::<f64>().expect("a number") * 1e9).round() as u64 };
            (bound, count.parse().expect("a number"))
        };
        Self(lines.map(bucket).collect())
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let came = |(bound, count): (&u64, &f64)| (*bound, count - before.0.get(bound).unwrap_or(&0.0));
        Self(self.0.iter().map(came).collect())
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.0.values().next_back().copied().unwrap_or_default()
    }

    /// The microseconds below which a `share` of them are, straight between the bounds of a bucket.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let (rank, mut low, mut below) = (share * self.count(), 0, 0.0);
        for (&bound, &count) in &self.0 {
            if count >= rank {
                let part = if count > below { (rank - below) / (count - below) } else { 0.0 };
                return (low as f64 + part * (bound - low) as f64) / 1000.0;
            }
            (low, below) = (bound, count);
        }
        f64::INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_straight_between_the_bounds_of_its_bucket() {
        let figures = "# TYPE t histogram\n\
                       t_bucket{stage=\"a\",le=\"0.00001\"} 2\nt_bucket{stage=\"a\",le=\"0.00003\"} 10\n\
                       t_bucket{stage=\"a\",le=\"+Inf\"} 10\nt_bucket{stage=\"b\",le=\"+Inf\"} 7\nt_sum{stage=\"a\"} 1\n";
        let all = Buckets::of(figures, "t", "stage=\"a\"");
        assert_eq!((all.count(), all.quantile(0.2), all.quantile(0.6)), (10.0, 10.0, 20.0));
        assert_eq!(Buckets::of(figures, "t", "stage=\"b\"").count(), 7.0);
        let none = all.since(&all);
        assert_eq!((none.count(), all.since(&Buckets::default())), (0.0, all));
    }
}
