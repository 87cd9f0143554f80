//! The steps that follow the largest weights (Q4).

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, backend_extension};

use super::host::{Host, for_hosts};
use crate::ops::grid::Channels;
use crate::ops::largest::largest;

/// Steps of weights.
#[backend_extension(
    Flex,
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(any(feature = "wgpu", feature = "cuda")),
    Autodiff
)]
pub(crate) trait WeightStepOps: Backend {
    /// `max |w| / steps` of each channel, `[channels]`, or where that is less `min_scale`; without a gradient.
    #[fusion(meta = |_weight, channels, _steps, _min_scale| super::cube::of_channels(*channels))]
    fn training_weight_step(weight: FloatTensor<Self>, channels: Channels, steps: f32, min_scale: f32) -> FloatTensor<Self>;
}

for_hosts!(WeightStepOps {
    fn training_weight_step(weight: FloatTensor<Self>, channels: Channels, steps: f32, min_scale: f32) -> FloatTensor<Self> {
        let mut found = largest(&Self::numbers(&weight), channels);
        for step in &mut found {
            *step /= steps;
            *step = if *step < min_scale { min_scale } else { *step };
        }
        Self::tensor(found, [channels.count])
    }
});

impl<B: WeightStepOps, C: CheckpointStrategy> WeightStepOps for Autodiff<B, C> {
    fn training_weight_step(weight: FloatTensor<Self>, channels: Channels, steps: f32, min_scale: f32) -> FloatTensor<Self> {
        <FloatTensor<Self>>::new(B::training_weight_step(weight.into_primitive(), channels, steps, min_scale))
    }
}
