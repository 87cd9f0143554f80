//! Boxes of samples, taken out or put among zeros.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};
use burn::tensor::Shape;

use super::host::{Host, for_hosts};
use crate::ops::region::{Move, Region, moved};

/// Moves of boxes.
#[backend_extension(Flex, NdArray: cfg(feature = "ndarray"), Autodiff)]
pub(crate) trait RegionOps: Backend {
    /// All samples after a move; `shape` is that of the result.
    fn training_region(x: FloatTensor<Self>, region: Region, to: Move, shape: Shape) -> FloatTensor<Self>;
}

for_hosts!(RegionOps {
    fn training_region(x: FloatTensor<Self>, region: Region, to: Move, shape: Shape) -> FloatTensor<Self> {
        Self::tensor(moved(&Self::numbers(&x), &region, to), shape)
    }
});

impl<B: RegionOps + Host, C: CheckpointStrategy> RegionOps for Autodiff<B, C> {
    fn training_region(x: FloatTensor<Self>, region: Region, to: Move, shape: Shape) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let before = x.shape();
        let y = B::training_region(x, region, to, shape);
        match RegionBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((region, to, before), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// The gradient of the input.
#[derive(Debug)]
struct RegionBackward;

impl<B: RegionOps> Backward<B, 1> for RegionBackward {
    type State = (Region, Move, Shape);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (region, to, shape) = ops.state;
        let [parent] = ops.parents;
        if let Some(node) = parent {
            grads.register::<B>(node.id, B::training_region(dy, region, to.back(), shape));
        }
    }
}
