//! Step and zero point of a range (Q2), (Q3).

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, backend_extension};

use super::host::{Host, for_hosts};
use crate::ops::range::RangeCodes;

/// What follows from a range, shape `[1]`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RangeValue {
    /// The step.
    Step,
    /// The zero point; 0 where that of the grid is 0 or the lowest code.
    ZeroPoint,
}

/// Step and zero point.
#[backend_extension(
    Flex,
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(any(feature = "wgpu", feature = "cuda")),
    Autodiff
)]
pub(crate) trait RangeOps: Backend {
    /// The step or zero point of a range, all of shape `[1]`; without a gradient.
    #[fusion(dtype = min, shape = min)]
    fn training_range(min: FloatTensor<Self>, max: FloatTensor<Self>, codes: RangeCodes, value: RangeValue) -> FloatTensor<Self>;
}

for_hosts!(RangeOps {
    fn training_range(min: FloatTensor<Self>, max: FloatTensor<Self>, codes: RangeCodes, value: RangeValue) -> FloatTensor<Self> {
        let (min, max) = (Self::numbers(&min)[0], Self::numbers(&max)[0]);
        let found = match value {
            RangeValue::Step => codes.step(min, max),
            RangeValue::ZeroPoint => codes.zero(min, max).unwrap_or(0.0),
        };
        Self::tensor(vec![found], [1])
    }
});

impl<B: RangeOps, C: CheckpointStrategy> RangeOps for Autodiff<B, C> {
    fn training_range(min: FloatTensor<Self>, max: FloatTensor<Self>, codes: RangeCodes, value: RangeValue) -> FloatTensor<Self> {
        <FloatTensor<Self>>::new(B::training_range(min.into_primitive(), max.into_primitive(), codes, value))
    }
}
