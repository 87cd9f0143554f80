//! The range without outliers (Q72).

use super::histogram::Bins;

/// The values below which, and above which, `percentile` percent of all values lie, to within a bin, and within `extremes`.
pub(super) fn range(bins: &Bins, percentile: f32, extremes: (f32, f32)) -> (f32, f32) {
    let outside = bins.total() * (1.0 - f64::from(percentile) / 100.0);
    let side = bins.counts.len() / 2;
    let negative: f64 = bins.counts[..side].iter().sum();
    let positive: f64 = bins.counts[side..].iter().sum();
    // Each end is walked from the outside in, until the values passed are as many as may stay outside. What lies beyond 0 is not
    // asked for: every range contains 0.
    let low = if negative <= outside { 0.0 } else { end(bins, 0..side, outside) };
    let high = if positive <= outside { 0.0 } else { end(bins, (side..bins.counts.len()).rev(), outside) };
    ((low as f32).max(extremes.0.min(0.0)), (high as f32).min(extremes.1.max(0.0)))
}

/// Where `outside` values have been passed, within the bin in which that is so.
fn end(bins: &Bins, indices: impl Iterator<Item = usize>, outside: f64) -> f64 {
    let mut passed = 0.0;
    for index in indices {
        let count = bins.counts[index];
        if passed + count > outside {
            let part = (outside - passed) / count;
            let (low, high) = (bins.edge(index), bins.edge(index + 1));
            return if low < 0.0 { low + part * (high - low) } else { high - part * (high - low) };
        }
        passed += count;
    }
    0.0
}

#[cfg(test)]
mod tests {
    use crate::fake_quantize::RangeSign;
    use crate::format::IntegerFormat;
    use crate::observer::{Observer, ObserverKind};
    use burn::tensor::{Device, Tensor};

    fn range(percentile: f32, values: &[f32]) -> (f32, f32) {
        let device = Device::flex();
        let observer = Observer::new(ObserverKind::Percentile { percentile }, &device);
        for batch in values.chunks(97) {
            observer.observe(Tensor::<1>::from_floats(batch, &device));
        }
        observer.range(IntegerFormat::INT8, RangeSign::Any).unwrap()
    }

    #[test]
    fn ends_are_those_of_the_sorted_values() {
        // 10,001 values from −1 to 3, shuffled by a step that is prime to their number.
        let values: Vec<f32> = (0..10_001u32).map(|i| -1.0 + 4.0 * ((i * 7919) % 10_001) as f32 / 10_000.0).collect();
        for (percentile, expected) in [(100.0, (-1.0, 3.0)), (99.0, (-0.96, 2.96)), (90.0, (-0.6, 2.6))] {
            let (low, high) = range(percentile, &values);
            // A bin is 2⁻⁹ wide.
            assert!((low - expected.0).abs() < 0.003 && (high - expected.1).abs() < 0.003, "{percentile}: [{low}, {high}]");
        }
    }

    #[test]
    fn one_outlier_does_not_widen_the_range() {
        let mut values: Vec<f32> = (0..100_000u32).map(|i| ((i * 7919) % 100_000) as f32 / 100_000.0).collect();
        values[5] = 1000.0;
        let (low, high) = range(99.99, &values);
        assert!(low == 0.0 && (0.5..1.6).contains(&high), "[{low}, {high}]");
        assert_eq!(range(100.0, &values).1, 1000.0);
    }

    #[test]
    fn zeros_count() {
        // 99.9 % are zero, so nothing has to be covered at 99.
        let mut values = vec![0.0f32; 10_000];
        values[..10].fill(5.0);
        assert_eq!(range(99.0, &values), (0.0, 0.0));
        assert_eq!(range(100.0, &values), (0.0, 5.0));
    }
}
