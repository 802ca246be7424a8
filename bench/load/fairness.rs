//! How evenly a service was shared.

/// Jain's index of a service that ought to be in proportion to `weights`: 1 if it is, 1/n if one of n gets all.
/// `None` if there was no service.
pub(crate) fn fairness_index(service: &[f64], weights: &[f64]) -> Option<f64> {
    let normal: Vec<f64> = service.iter().zip(weights).map(|(service, weight)| service / weight).collect();
    let sum: f64 = normal.iter().sum();
    let squares: f64 = normal.iter().map(|value| value * value).sum();
    (squares > 0.0).then(|| sum * sum / (normal.len() as f64 * squares))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close_to(given: Option<f64>, expected: f64) -> bool {
        given.is_some_and(|given| (given - expected).abs() < 1e-12)
    }

    #[test]
    fn the_fairness_index_has_its_textbook_values() {
        assert!(close_to(fairness_index(&[5.0, 5.0, 5.0], &[1.0; 3]), 1.0));
        assert!(close_to(fairness_index(&[9.0, 0.0, 0.0], &[1.0; 3]), 1.0 / 3.0));
        // (1 + 3)^2 / (2 * (1 + 9)).
        assert!(close_to(fairness_index(&[1.0, 3.0], &[1.0, 1.0]), 0.8));
        assert!(close_to(fairness_index(&[1.0, 3.0], &[1.0, 3.0]), 1.0));
        assert_eq!(fairness_index(&[0.0, 0.0], &[1.0, 1.0]), None);
        assert_eq!(fairness_index(&[], &[]), None);
    }
}
