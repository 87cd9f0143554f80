//! How often which values were seen, in a fixed number of bins that cover a growing range.
//!
//! Bins are `2^e` wide and lie at multiples of their width on both sides of 0, so that a wider range is had by joining pairs of them:
//! the counts are those that the wide bins would have had from the beginning, whatever the order of the batches. The largest
//! magnitude takes at least half of the bins of its sign; real 0, which every grid has, is counted by itself. Counting is done
//! on the host, which makes the counts the same on every device; the result is a buffer.

use burn::module::{Module, RunningState};
use burn::tensor::{Device, Tensor, TensorData};

/// Bins on either side of 0.
const SIDE: usize = 2048;

/// Counts of values.
#[derive(Module, Debug)]
pub(super) struct Histogram {
    /// Counts of the bins from the lowest on, then that of 0, then the exponent `e`, which is −∞ while nothing is counted;
    /// `[2 · SIDE + 2]`.
    counts: RunningState<Tensor<1>>,
}

/// The counts as host numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bins {
    /// From the lowest bin on.
    pub(super) counts: Vec<f64>,
    /// How often 0 was seen.
    pub(super) zeros: f64,
    /// Width of a bin; 0 while only zeros were seen.
    pub(super) width: f64,
}

impl Histogram {
    /// Nothing counted.
    pub(super) fn new(device: &Device) -> Self {
        let mut state = vec![0.0f32; 2 * SIDE + 2];
        state[2 * SIDE + 1] = f32::NEG_INFINITY;
        Self { counts: RunningState::new(Tensor::from_data(TensorData::new(state, [2 * SIDE + 2]), device)) }
    }

    /// Counts the values of a batch; those that are not finite are left out.
    pub(super) fn count<const D: usize>(&self, batch: Tensor<D>) {
        let device = self.counts.value_sync().device();
        let values: Vec<f32> = batch.into_data().iter::<f32>().filter(|x| x.is_finite()).collect();
        let mut state: Vec<f32> = self.counts.value_sync().into_data().iter::<f32>().collect();
        let largest = values.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let mut exponent = state[2 * SIDE + 1];
        if largest > 0.0 {
            let needed = exponent_for(largest);
            if exponent == f32::NEG_INFINITY {
                exponent = needed;
            }
            while exponent < needed {
                join(&mut state[..2 * SIDE]);
                exponent += 1.0;
            }
            state[2 * SIDE + 1] = exponent;
        }
        let scale = (-f64::from(exponent)).exp2();
        // A batch's counts are whole numbers that f64 holds; f32, the buffer's type, takes them in at once.
        let mut batch_counts = vec![0u32; 2 * SIDE + 1];
        for x in values {
            let bin = if x == 0.0 { 2 * SIDE } else { ((f64::from(x) * scale).floor() as i64 + SIDE as i64) as usize };
            batch_counts[bin] += 1;
        }
        for (count, more) in state.iter_mut().zip(batch_counts) {
            *count += more as f32;
        }
        self.counts.update(Tensor::from_data(TensorData::new(state, [2 * SIDE + 2]), &device));
    }

    /// The counts as host numbers.
    pub(super) fn bins(&self) -> Bins {
        let state: Vec<f64> = self.counts.value_sync().into_data().iter::<f32>().map(f64::from).collect();
        let width = state[2 * SIDE + 1].exp2();
        Bins { counts: state[..2 * SIDE].to_vec(), zeros: state[2 * SIDE], width }
    }
}

impl Bins {
    /// The lower end of the bin at `index`.
    pub(super) fn edge(&self, index: usize) -> f64 {
        (index as f64 - SIDE as f64) * self.width
    }

    /// Middle and count of every bin that is not empty; 0 is among them.
    pub(super) fn occupied(&self) -> Vec<(f64, f64)> {
        let bins = self.counts.iter().enumerate().filter(|(_, count)| **count > 0.0);
        let mut all: Vec<(f64, f64)> = bins.map(|(index, count)| (self.edge(index) + self.width / 2.0, *count)).collect();
        if self.zeros > 0.0 {
            all.push((0.0, self.zeros));
        }
        all
    }

    /// How many values were counted.
    pub(super) fn total(&self) -> f64 {
        self.counts.iter().sum::<f64>() + self.zeros
    }
}

/// The least exponent with `largest < SIDE · 2^e`.
fn exponent_for(largest: f32) -> f32 {
    let mut exponent = (f64::from(largest) / SIDE as f64).log2().floor();
    while f64::from(largest) >= SIDE as f64 * exponent.exp2() {
        exponent += 1.0;
    }
    exponent as f32
}

/// Joins pairs of bins into bins twice as wide, around 0.
fn join(bins: &mut [f32]) {
    let side = bins.len() / 2;
    let old = bins.to_vec();
    bins.fill(0.0);
    for (index, count) in old.into_iter().enumerate() {
        let wide = (index as i64 - side as i64).div_euclid(2) + side as i64;
        bins[wide as usize] += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(batches: &[&[f32]]) -> Bins {
        let device = Device::flex();
        let histogram = Histogram::new(&device);
        for batch in batches {
            histogram.count(Tensor::<1>::from_floats(*batch, &device));
        }
        histogram.bins()
    }

    #[test]
    fn the_order_of_batches_does_not_matter() {
        let (a, b, c) = ([0.1f32, -0.2, 0.0].as_slice(), [3.0f32, -0.001, 0.5].as_slice(), [-1000.0f32, 1e-9, 0.1].as_slice());
        let bins = counted(&[a, b, c]);
        assert_eq!(bins, counted(&[c, b, a]));
        assert_eq!(bins.total(), 9.0);
        assert_eq!((bins.zeros, bins.width), (1.0, 0.5));
    }

    #[test]
    fn every_value_lies_in_its_bin() {
        let values: Vec<f32> = (1..400).map(|i| (i as f32 * 0.731).sin() * 10.0).collect();
        let bins = counted(&[&values]);
        for (index, count) in bins.counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            let (low, high) = (bins.edge(index), bins.edge(index + 1));
            let inside = values.iter().filter(|x| (low..high).contains(&f64::from(**x))).count();
            assert_eq!(inside as f64, *count, "bin {low}..{high}");
        }
    }

    #[test]
    fn powers_of_two_and_infinity_have_a_place() {
        let bins = counted(&[&[2048.0, f32::INFINITY, f32::NAN], &[-4096.0]]);
        assert_eq!((bins.total(), bins.width), (2.0, 4.0));
        assert_eq!(counted(&[&[0.0, 0.0]]).total(), 2.0);
        assert_eq!(counted(&[&[f32::MAX]]).total(), 1.0);
        assert_eq!(counted(&[&[f32::MIN_POSITIVE / 64.0]]).total(), 1.0);
    }
}
