//! An addition and what follows it, or what follows alone (Q90), (Q91).

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, TensorMetadata, backend_extension};

use super::Operand;
use super::after::{After, GridOperands};
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
    /// Of the grid that follows.
    #[extension_type]
    pub grid: GridOperands<B>,
}

for_hosts!(FinishOps {
    fn training_finish(operands: FinishOperands<Self>, after: After) -> FloatTensor<Self> {
        let FinishOperands { x, y, grid } = operands;
        let out = finish::finish(&Self::numbers(&x), &y.numbers(), grid.finish(after));
        Self::tensor(out, x.shape())
    }
});

impl<B: FinishOps + Host, C: CheckpointStrategy> FinishOps for Autodiff<B, C> {
    fn training_finish(operands: FinishOperands<Self>, after: After) -> FloatTensor<Self> {
        let (x, x_node) = operands.x.into_parts();
        let constant = <FloatTensor<Self>>::new(x.clone());
        let (y, y_node) = operands.y.into_parts(&constant);
        let (grid, [first, second]) = operands.grid.into_parts(&constant);
        let operands = FinishOperands { x, y, grid };
        let out = B::training_finish(operands.clone(), after);
        match FinishBackward.prepare::<C>([x_node, y_node, first, second]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((operands, after), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

/// Gradients of both operands, and of the numbers of the grid.
#[derive(Debug)]
struct FinishBackward;

impl<B: Host> Backward<B, 4> for FinishBackward {
    type State = (FinishOperands<B>, After);

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<B>(&ops.node);
        let (FinishOperands { x, y, grid }, after) = ops.state;
        let found = finish::finish_gradients(&B::numbers(&x), &y.numbers(), &B::numbers(&d_out), grid.finish(after));
        let dx = B::tensor(found.dx, x.shape());
        let [first, second] = grid.gradients(after, found.d_scale, found.d_zero).map(|d| B::tensor(vec![d], [1]));
        let gradients = [dx.clone(), dx, first, second];
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
