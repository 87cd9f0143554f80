//! Max pooling without padding.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};

use super::host::{Host, for_hosts};
use crate::ops::max_pool::{self, PoolShape};

/// Max pooling.
#[backend_extension(Flex, NdArray: cfg(feature = "ndarray"), Autodiff)]
pub(crate) trait MaxPool2dOps: Backend {
    /// The largest number of each window.
    fn training_max_pool2d(x: FloatTensor<Self>, kernel: [usize; 2], stride: [usize; 2]) -> FloatTensor<Self>;
}

for_hosts!(MaxPool2dOps {
    fn training_max_pool2d(x: FloatTensor<Self>, kernel: [usize; 2], stride: [usize; 2]) -> FloatTensor<Self> {
        let shape = pool_shape::<Self>(&x, kernel, stride);
        let y = max_pool::max_pool(&Self::numbers(&x), shape);
        let ([height, width], dims) = (shape.output(), x.shape());
        Self::tensor(y, [dims[0], dims[1], height, width])
    }
});

impl<B: MaxPool2dOps + Host, C: CheckpointStrategy> MaxPool2dOps for Autodiff<B, C> {
    fn training_max_pool2d(x: FloatTensor<Self>, kernel: [usize; 2], stride: [usize; 2]) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let y = B::training_max_pool2d(x.clone(), kernel, stride);
        match MaxPoolBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, kernel, stride), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// The gradient of the input.
#[derive(Debug)]
struct MaxPoolBackward;

impl<B: Host> Backward<B, 1> for MaxPoolBackward {
    type State = (FloatTensor<B>, [usize; 2], [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, kernel, stride) = ops.state;
        let [parent] = ops.parents;
        if let Some(node) = parent {
            let shape = pool_shape::<B>(&x, kernel, stride);
            let dx = max_pool::max_pool_gradient(&B::numbers(&x), &B::numbers(&dy), shape);
            grads.register::<B>(node.id, B::tensor(dx, x.shape()));
        }
    }
}

fn pool_shape<B: Backend>(x: &FloatTensor<B>, kernel: [usize; 2], stride: [usize; 2]) -> PoolShape {
    let x = x.shape();
    PoolShape { planes: x[0] * x[1], input: [x[2], x[3]], kernel, stride }
}
