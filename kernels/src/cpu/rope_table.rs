//! The angles of rotary positions, computed once.

/// Cosines and sines of every position: angle `position * theta^(-2i / head_dim)` for pair `i` of a head, which is its
/// elements `i` and `i + head_dim / 2`.
pub struct RopeTable {
    half_dim: usize,
    max_positions: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// The sines and cosines of all positions, computed in f64 and rounded once.
    pub fn new(head_dim: usize, theta: f32, max_positions: usize) -> RopeTable {
        let half_dim = head_dim / 2;
        let frequencies: Vec<f64> =
            (0..half_dim).map(|pair| f64::from(theta).powf(-2.0 * pair as f64 / head_dim as f64)).collect();
        Self::with_frequencies(&frequencies, max_positions)
    }

    /// For models that scale the frequencies of some pairs: one frequency per pair.
    pub fn with_frequencies(frequencies: &[f64], max_positions: usize) -> RopeTable {
        let angles = (0..max_positions).flat_map(|at| frequencies.iter().map(move |frequency| at as f64 * frequency));
        let (cos, sin) = angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        RopeTable { half_dim: frequencies.len(), max_positions, cos, sin }
    }

    /// Width of the heads that it rotates.
    pub fn head_dim(&self) -> usize {
        2 * self.half_dim
    }

    /// Positions in the table.
    pub fn max_positions(&self) -> usize {
        self.max_positions
    }

    /// Bytes of the table.
    pub fn size_bytes(&self) -> usize {
        size_of_val(self.cos.as_slice()) + size_of_val(self.sin.as_slice())
    }

    /// Cosines and sines of a position.
    #[inline(always)]
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let first = position * self.half_dim;
        (&self.cos[first..][..self.half_dim], &self.sin[first..][..self.half_dim])
    }
}
