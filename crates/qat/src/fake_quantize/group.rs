//! The channels of a weight in groups that have a step each.
//!
//! With K inputs of an output channel, in the order in which the weight lies in memory (for a convolution `c_in / groups`, `k_h`, `k_w`),
//! group j of a channel is its inputs `j · size … min((j + 1) · size, K) − 1` (Q98). As rows `[c_out · ⌈K / size⌉, size]` groups are what
//! channels are elsewhere, so that their quantizers are the same. A last group that is shorter has zeros behind it, which change neither
//! its largest weight nor the gradient of its step.

use std::num::NonZeroUsize;

use burn::tensor::Tensor;

use crate::nn::SliceRange;
use crate::ops::{pad, slice};

/// How the channels of a weight are divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Groups {
    channels: usize,
    /// Weights of a channel.
    inputs: usize,
    /// Weights of a group, but of the last one of a channel where it does not divide them.
    size: usize,
}

impl Groups {
    pub fn new(channels: usize, inputs: usize, size: NonZeroUsize) -> Self {
        Self { channels, inputs, size: size.get() }
    }

    /// Those of `weight`, whose channels are on `channel_axis`.
    pub fn of<const D: usize>(weight: &Tensor<D>, channel_axis: usize, size: NonZeroUsize) -> Self {
        let channels = weight.dims()[channel_axis];
        Self::new(channels, weight.shape().num_elements() / channels.max(1), size)
    }

    /// Groups of a channel.
    pub fn of_channel(self) -> usize {
        self.inputs.div_ceil(self.size)
    }

    /// Groups of all channels.
    pub fn count(self) -> usize {
        self.channels * self.of_channel()
    }

    /// For each group of a channel its weights.
    pub fn sizes(self) -> impl Iterator<Item = usize> {
        (0..self.of_channel()).map(move |group| self.size.min(self.inputs - group * self.size))
    }

    /// A number for each channel, `[channels]`, as one for each group, `[groups]`.
    pub fn repeat(self, of_channels: Tensor<1>) -> Tensor<1> {
        let (channels, groups) = (self.channels, self.of_channel());
        of_channels.reshape([channels, 1]).expand([channels, groups]).reshape([channels * groups])
    }

    /// The weight as a row for each group, `[groups, size]`.
    pub fn split<const D: usize>(self, weight: Tensor<D>, channel_axis: usize) -> Tensor<2> {
        let mut rows = weight.swap_dims(0, channel_axis).reshape([self.channels, self.inputs]);
        let missing = self.padded() - self.inputs;
        if missing > 0 {
            rows = pad(rows, [(0, 0), (0, missing)]);
        }
        rows.reshape([self.count(), self.size])
    }

    /// The weight of shape `dims` whose rows these are.
    pub fn join<const D: usize>(self, rows: Tensor<2>, dims: [usize; D], channel_axis: usize) -> Tensor<D> {
        let mut rows = rows.reshape([self.channels, self.padded()]);
        if self.padded() > self.inputs {
            rows = slice(rows, &[SliceRange { start: 0, end: self.inputs, step: 1 }]);
        }
        let mut turned = dims;
        turned.swap(0, channel_axis);
        rows.reshape(turned).swap_dims(0, channel_axis)
    }

    /// Numbers of a channel's rows.
    fn padded(self) -> usize {
        self.of_channel() * self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn groups_run_along_the_inputs_of_an_output() {
        let device = Device::flex();
        // Burn's linear layer has the outputs last: output 0 reads 0, 2, 4, 6, 8.
        let weight = Tensor::<1>::from_floats([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], &device).reshape([5, 2]);
        let groups = Groups::of(&weight, 1, NonZeroUsize::new(2).unwrap());
        assert_eq!((groups.of_channel(), groups.count(), groups.sizes().collect::<Vec<_>>()), (3, 6, vec![2, 2, 1]));
        let rows = groups.split(weight.clone(), 1);
        assert_eq!(rows.dims(), [6, 2]);
        assert_eq!(values(rows.clone()), [0.0, 2.0, 4.0, 6.0, 8.0, 0.0, 1.0, 3.0, 5.0, 7.0, 9.0, 0.0]);
        assert_eq!(values(groups.join(rows, [5, 2], 1)), values(weight));
        let repeated = groups.repeat(Tensor::from_floats([3.0, 4.0], &device));
        assert_eq!(values(repeated), [3.0, 3.0, 3.0, 4.0, 4.0, 4.0]);
    }

    #[test]
    fn a_convolution_keeps_its_order() {
        let device = Device::flex();
        let numbers: Vec<f32> = (0..3 * 2 * 3 * 3).map(|i| i as f32).collect();
        let weight = Tensor::<1>::from_floats(&numbers[..], &device).reshape([3, 2, 3, 3]);
        for size in [1, 2, 6, 7, 9, 17] {
            let groups = Groups::of(&weight, 0, NonZeroUsize::new(size).unwrap());
            let rows = groups.split(weight.clone(), 0);
            let found: Vec<Vec<f32>> = values(rows.clone()).chunks(size).map(<[f32]>::to_vec).collect();
            let mut expected = Vec::new();
            for channel in numbers.chunks(18) {
                expected.extend(channel.chunks(size).map(|group| [group, &vec![0.0; size - group.len()]].concat()));
            }
            assert_eq!(found, expected, "groups of {size}");
            assert_eq!(values(groups.join(rows, [3, 2, 3, 3], 0)), numbers);
        }
    }
}
