//! Batch norm by the batch's statistics, and what follows it (Q92), (Q93).

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, TensorMetadata, backend_extension};

use super::Operand;
use super::after::{After, GridOperands};
use super::host::{Host, for_hosts};
use crate::ops::norm::{self, Affine, NormInputs, NormShape, Statistics};

/// Batch norm in training.
#[backend_extension(Flex, NdArray: cfg(feature = "ndarray"), Autodiff)]
pub(crate) trait NormOps: Backend {
    /// Batch norm by the batch's statistics, and what follows it.
    fn training_norm(#[extension_type] operands: NormOperands<Self>, epsilon: f32, after: After) -> NormOutput<Self>
    where
        Self: Sized;
}

/// What a batch norm in training works on.
#[derive(Clone, Debug, ExtensionType)]
pub(crate) struct NormOperands<B: Backend> {
    /// `[N, C, H, W]`, what the statistics are those of.
    pub z: FloatTensor<B>,
    /// `[N, C, H, W]`, what is normalized where that is not `z`.
    #[extension_type]
    pub y: Operand<B>,
    /// `[C]`.
    pub gamma: FloatTensor<B>,
    /// `[C]`.
    pub beta: FloatTensor<B>,
    /// `[C]`, the σ that the weight of `y` was folded by; it gets no gradient.
    #[extension_type]
    pub sigma: Operand<B>,
    /// `[C]`, what the weight of `z` was multiplied by, where that is to be undone; it gets no gradient.
    #[extension_type]
    pub unfold: Operand<B>,
    /// Of the grid that follows.
    #[extension_type]
    pub grid: GridOperands<B>,
}

/// What a batch norm in training gives.
#[derive(ExtensionType)]
pub(crate) struct NormOutput<B: Backend> {
    /// `[N, C, H, W]`.
    pub out: FloatTensor<B>,
    /// `[C]`, detached.
    pub mean: FloatTensor<B>,
    /// `[C]`, biased, detached.
    pub variance: FloatTensor<B>,
}

for_hosts!(NormOps {
    fn training_norm(operands: NormOperands<Self>, epsilon: f32, after: After) -> NormOutput<Self> {
        let shape = norm_shape::<Self>(&operands.z);
        let z = Self::numbers(&operands.z);
        let statistics = norm::statistics(&z, shape);
        let gamma = Self::numbers(&operands.gamma);
        let batch_sigma = norm::batch_sigma(&statistics, &operands.unfold.numbers(), epsilon);
        let affine = Affine::new(&statistics, &batch_sigma, &gamma, &Self::numbers(&operands.beta), &operands.sigma.numbers());
        let finish = operands.grid.finish(after);
        let y = operands.y.numbers();
        let out = norm::normalize(if y.is_empty() { &z } else { &y }, &affine, finish, shape);
        NormOutput {
            out: Self::tensor(out, operands.z.shape()),
            mean: Self::tensor(statistics.mean, [shape.channels]),
            variance: Self::tensor(statistics.variance, [shape.channels]),
        }
    }
});

impl<B: NormOps + Host, C: CheckpointStrategy> NormOps for Autodiff<B, C> {
    fn training_norm(operands: NormOperands<Self>, epsilon: f32, after: After) -> NormOutput<Self> {
        let (z, z_node) = operands.z.into_parts();
        let constant = <FloatTensor<Self>>::new(z.clone());
        let (y, y_node) = operands.y.into_parts(&constant);
        let (gamma, gamma_node) = operands.gamma.into_parts();
        let (beta, beta_node) = operands.beta.into_parts();
        let (sigma, _) = operands.sigma.into_parts(&constant);
        let (unfold, _) = operands.unfold.into_parts(&constant);
        let (grid, [first, second]) = operands.grid.into_parts(&constant);
        let operands = NormOperands { z, y, gamma, beta, sigma, unfold, grid };
        let NormOutput { out, mean, variance } = B::training_norm(operands.clone(), epsilon, after);
        let nodes = [z_node, y_node, gamma_node, beta_node, first, second];
        let out = match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish(NormState { operands, mean: mean.clone(), variance: variance.clone(), epsilon, after }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        };
        NormOutput { out, mean: <FloatTensor<Self>>::new(mean), variance: <FloatTensor<Self>>::new(variance) }
    }
}

/// What the gradients of a batch norm are made of.
#[derive(Clone, Debug)]
struct NormState<B: Backend> {
    operands: NormOperands<B>,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    epsilon: f32,
    after: After,
}

/// Gradients of `z`, `y`, γ, β, and of the numbers of the grid.
#[derive(Debug)]
struct NormBackward;

impl<B: Host> Backward<B, 6> for NormBackward {
    type State = NormState<B>;

    fn backward(self, ops: Ops<NormState<B>, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<B>(&ops.node);
        let NormState { operands, mean, variance, epsilon, after } = ops.state;
        let shape = norm_shape::<B>(&operands.z);
        let statistics = Statistics { mean: B::numbers(&mean).into_owned(), variance: B::numbers(&variance).into_owned() };
        let (gammas, sigma, normalized) = (B::numbers(&operands.gamma), operands.sigma.numbers(), operands.y.numbers());
        let batch_sigma = norm::batch_sigma(&statistics, &operands.unfold.numbers(), epsilon);
        let inputs = NormInputs {
            z: &B::numbers(&operands.z),
            y: (!normalized.is_empty()).then_some(&*normalized),
            statistics: &statistics,
            gamma: &gammas,
            affine: &Affine::new(&statistics, &batch_sigma, &gammas, &B::numbers(&operands.beta), &sigma),
            batch_sigma: &batch_sigma,
            folded_sigma: &sigma,
            finish: operands.grid.finish(after),
        };
        let found = norm::normalize_gradients(&inputs, &B::numbers(&d_out), shape);
        let [z, y, gamma, beta, first, second] = ops.parents;
        let [d_first, d_second] = operands.grid.gradients(after, found.d_scale, found.d_zero).map(|d| B::tensor(vec![d], [1]));
        let (all, channels) = (|numbers| B::tensor(numbers, operands.z.shape()), [shape.channels]);
        let gradients = [
            (z, all(found.dz)),
            (gamma, B::tensor(found.d_gamma, channels)),
            (beta, B::tensor(found.d_beta, channels)),
            (first, d_first),
            (second, d_second),
        ];
        for (node, gradient) in gradients {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
        if let Some(node) = y {
            grads.register::<B>(node.id, all(found.dy));
        }
    }
}

fn norm_shape<B: Backend>(z: &FloatTensor<B>) -> NormShape {
    let shape = z.shape();
    NormShape { batch: shape[0], channels: shape[1], area: shape[2] * shape[3] }
}
