//! An addition and what follows it, or what follows alone (Q90), (Q91).

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, TensorMetadata, backend_extension};

use super::Operand;
use super::after::After;
use super::host::{Host, for_hosts};
use crate::ops::finish;

/// An addition and what follows it.
#[backend_extension(Flex, NdArray: cfg(feature = "ndarray"), Autodiff)]
pub(crate) trait FinishOps: Backend {
    /// What follows, of the sum of the operands.
    fn training_finish(#[extension_type] operands: FinishOperands<Self>, after: After) -> FloatTensor<Self>
    where
        Self: Sized;
}

/// What is added, and the grid that follows.
#[derive(Clone, Debug, ExtensionType)]
pub(crate) struct FinishOperands<B: Backend> {
    pub x: FloatTensor<B>,
    /// Of the shape of `x`.
    #[extension_type]
    pub y: Operand<B>,
    /// `[1]`, the step of the grid that follows.
    #[extension_type]
    pub scale: Operand<B>,
    /// `[1]`, its zero point.
    #[extension_type]
    pub zero: Operand<B>,
}

for_hosts!(FinishOps {
    fn training_finish(operands: FinishOperands<Self>, after: After) -> FloatTensor<Self> {
        let FinishOperands { x, y, scale, zero } = operands;
        let out = finish::finish(&Self::numbers(&x), &y.numbers(), after.finish(&scale, &zero));
        Self::tensor(out, x.shape())
    }
});

impl<B: FinishOps + Host, C: CheckpointStrategy> FinishOps for Autodiff<B, C> {
    fn training_finish(operands: FinishOperands<Self>, after: After) -> FloatTensor<Self> {
        let (x, x_node) = operands.x.into_parts();
        let (y, y_node) = operands.y.into_parts(&x);
        let (scale, scale_node) = operands.scale.into_parts(&x);
        let (zero, zero_node) = operands.zero.into_parts(&x);
        let operands = FinishOperands { x, y, scale, zero };
        let out = B::training_finish(operands.clone(), after);
        match FinishBackward.prepare::<C>([x_node, y_node, scale_node, zero_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((operands, after), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

/// Gradients of both operands, step and zero point.
#[derive(Debug)]
struct FinishBackward;

impl<B: Host> Backward<B, 4> for FinishBackward {
    type State = (FinishOperands<B>, After);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<B>(&ops.node);
        let (FinishOperands { x, y, scale, zero }, after) = ops.state;
        let finish = after.finish(&scale, &zero);
        let found = finish::finish_gradients(&B::numbers(&x), &y.numbers(), &B::numbers(&d_out), finish);
        let dx = B::tensor(found.dx, x.shape());
        let gradients = [dx.clone(), dx, B::tensor(vec![found.d_scale], [1]), B::tensor(vec![found.d_zero], [1])];
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
