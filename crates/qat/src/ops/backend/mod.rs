//! The kernels as operations of Burn's backends, with their gradients.
//!
//! Each file holds one operation: its trait, which Burn's dispatch calls; the kernel on backends whose numbers lie in host memory
//! ([`Host`]); and the operation on `Autodiff` of any backend that has the kernel. Those that wgpu and CUDA have are in [`cube`]. Not
//! here: the kernels themselves.

#![allow(deprecated, reason = "ndarray is deprecated and still offered")]

mod adam;
mod after;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
mod fake_quantize;
mod finish;
mod host;
mod layer;
mod max_pool2d;
mod norm;
mod range;
mod region;
mod weight_step;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::NodeGuard;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType};
use burn::tensor::Tensor;

pub(super) use adam::{AdamOperands, AdamOps, AdamOutput};
pub(super) use after::GridOperands;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(super) use cube::{QueuedAdamOps, RangeQuantizeOps};
pub(super) use fake_quantize::FakeQuantizeOps;
pub(super) use finish::{FinishOperands, FinishOps};
pub(super) use layer::{Layer, LayerNorm, LayerOperands, LayerOps, LayerOutput};
pub(super) use max_pool2d::MaxPool2dOps;
pub(super) use norm::{NormOperands, NormOps, NormOutput};
pub(super) use range::{RangeOps, RangeValue};
pub(super) use region::RegionOps;
pub(super) use weight_step::WeightStepOps;

/// An operand that may be absent.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion: cfg(any(feature = "wgpu", feature = "cuda")))]
pub(crate) enum Operand<B: Backend> {
    Given(FloatTensor<B>),
    Absent,
}

impl Operand<Dispatch> {
    /// The operand of an operation.
    pub fn new<const D: usize>(tensor: Option<Tensor<D>>) -> Self {
        tensor.map_or(Self::Absent, |tensor| Self::Given(tensor.into_dispatch()))
    }
}

impl<B: Backend, C: CheckpointStrategy> Operand<Autodiff<B, C>> {
    /// The tensor and its node; that of a constant where it is absent.
    fn into_parts(self, constant: &FloatTensor<Autodiff<B, C>>) -> (Operand<B>, NodeGuard) {
        match self {
            Self::Given(tensor) => {
                let (tensor, node) = tensor.into_parts();
                (Operand::Given(tensor), node)
            }
            Self::Absent => (Operand::Absent, constant.node()),
        }
    }
}
