//! The range whose codes have the least squared error on what was seen (Q73).

use super::histogram::Bins;
use crate::fake_quantize::RangeSign;
use crate::format::IntegerFormat;
use crate::qparams::QParams;

/// Candidates of a search along one direction.
const CANDIDATES: u32 = 100;

/// Among ranges within `extremes`, the one with the least error: first both ends shrunk by one factor, then each end by itself.
pub(super) fn range(bins: &Bins, extremes: (f32, f32), format: IntegerFormat, sign: RangeSign) -> (f32, f32) {
    let low = if sign == RangeSign::NonNegative { 0.0 } else { extremes.0.min(0.0) };
    let high = extremes.1.max(0.0);
    let values = bins.occupied();
    let error = |low: f32, high: f32| squared_error(&values, QParams::of_range(low, high, format));
    let best = |range: &dyn Fn(f32) -> (f32, f32)| {
        let candidates = (1..=CANDIDATES).rev().map(|i| range(i as f32 / CANDIDATES as f32));
        // The widest of equals, so that nothing is clipped for no gain.
        candidates.fold((f64::INFINITY, (low, high)), |best, (low, high)| {
            let error = error(low, high);
            if error < best.0 { (error, (low, high)) } else { best }
        })
    };
    let (_, joint) = best(&|part| (low * part, high * part));
    if low == 0.0 || high == 0.0 || format.is_symmetric() {
        return joint;
    }
    let (_, upper) = best(&|part| (joint.0, high * part));
    let (_, both) = best(&|part| (low * part, upper.1));
    if error(both.0, both.1) < error(joint.0, joint.1) { both } else { joint }
}

/// `Σ count · (x − fq(x))²`.
fn squared_error(values: &[(f64, f64)], qparams: QParams) -> f64 {
    let (scale, zero_point) = (f64::from(qparams.scale), f64::from(qparams.zero_point));
    let (min, max) = (f64::from(qparams.format.quant_min()) - zero_point, f64::from(qparams.format.quant_max()) - zero_point);
    let error = |(x, count): &(f64, f64)| {
        let difference = x - (x / scale).round_ties_even().clamp(min, max) * scale;
        count * difference * difference
    };
    values.iter().map(error).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::CodeRange;
    use crate::observer::{Observer, ObserverKind};
    use burn::tensor::{Device, Tensor};

    /// About normal: sums of twelve numbers of a linear congruence.
    fn normal(count: usize) -> Vec<f32> {
        let mut state = 12345u64;
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    }

    fn range_of(values: &[f32], format: IntegerFormat, sign: RangeSign) -> (f32, f32) {
        let device = Device::flex();
        let observer = Observer::new(ObserverKind::Mse, &device);
        for batch in values.chunks(1000) {
            observer.observe(Tensor::<1>::from_floats(batch, &device));
        }
        observer.range(format, sign).unwrap()
    }

    fn noise(values: &[f32], (low, high): (f32, f32), format: IntegerFormat) -> f64 {
        let qparams = QParams::of_range(low, high, format);
        values.iter().map(|x| f64::from(x - qparams.dequantize(qparams.quantize(*x))).powi(2)).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn no_range_of_a_fine_grid_is_better() {
        let values = normal(20_000);
        for bits in [2, 3, 4, 8] {
            let format = IntegerFormat::new(bits, CodeRange::Full).unwrap();
            let found = noise(&values, range_of(&values, format, RangeSign::Any), format);
            for i in 1..=60 {
                for j in 1..=60 {
                    let other = noise(&values, (-0.1 * i as f32, 0.1 * j as f32), format);
                    assert!(found <= other * 1.02, "{bits} bits: {found} at the range found, {other} at −{i}/10…{j}/10");
                }
            }
        }
    }

    #[test]
    fn values_that_lie_on_a_grid_are_not_clipped() {
        let values: Vec<f32> = (0..256).map(|i| i as f32).collect();
        let (low, high) = range_of(&values, IntegerFormat::INT8, RangeSign::NonNegative);
        assert_eq!(low, 0.0);
        assert!((254.0..=255.0).contains(&high), "{high}");
    }

    #[test]
    fn the_fewer_bits_the_narrower() {
        let values: Vec<f32> = normal(20_000).into_iter().map(|x| x.max(0.0)).collect();
        let high = |bits| range_of(&values, IntegerFormat::new(bits, CodeRange::Full).unwrap(), RangeSign::NonNegative).1;
        assert!(high(2) < high(3) && high(3) < high(4) && high(4) < high(8), "{} {} {} {}", high(2), high(3), high(4), high(8));
    }
}
