//! Clamp and fake quantization (Q90), (Q91).

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};

use super::Operand;
use super::host::{Host, for_hosts};
use crate::ops::grid::{self, Channels, Grid};

/// Clamp and fake quantization.
#[backend_extension(
    Flex,
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(any(feature = "wgpu", feature = "cuda")),
    Fusion: cfg(any(feature = "wgpu", feature = "cuda")),
    Autodiff
)]
pub(crate) trait FakeQuantizeOps: Backend {
    /// The numbers on the grid; `scale` and `zero` have one number for each channel.
    #[fusion(dtype = x, shape = x)]
    fn training_fake_quantize(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        #[extension_type] zero: Operand<Self>,
        channels: Channels,
        grid: Grid,
    ) -> FloatTensor<Self>;
}

/// The gradients of [`FakeQuantizeOps`].
pub(crate) trait FakeQuantizeGradients: Backend {
    /// Gradients of the numbers, of each channel's step and of its zero point.
    fn fake_quantize_gradients(state: FakeQuantizeState<Self>, dy: FloatTensor<Self>) -> [FloatTensor<Self>; 3]
    where
        Self: Sized;
}

/// What fake quantization was applied to.
#[derive(Clone, Debug)]
pub(crate) struct FakeQuantizeState<B: Backend> {
    pub x: FloatTensor<B>,
    /// A number for each channel.
    pub scale: FloatTensor<B>,
    /// A number for each channel.
    pub zero: Operand<B>,
    pub channels: Channels,
    pub grid: Grid,
}

for_hosts!(FakeQuantizeOps {
    fn training_fake_quantize(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        zero: Operand<Self>,
        channels: Channels,
        grid: Grid,
    ) -> FloatTensor<Self> {
        let y = grid::fake_quantize(&Self::numbers(&x), &Self::numbers(&scale), &zero.numbers(), channels, grid);
        Self::tensor(y, x.shape())
    }
});

for_hosts!(FakeQuantizeGradients {
    fn fake_quantize_gradients(state: FakeQuantizeState<Self>, dy: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        let FakeQuantizeState { x, scale, zero, channels, grid } = state;
        let (numbers, dy) = (Self::numbers(&x), Self::numbers(&dy));
        let found = grid::fake_quantize_gradients(&numbers, &dy, &Self::numbers(&scale), &zero.numbers(), channels, grid);
        let of_channels = |gradient| Self::tensor(gradient, [channels.count]);
        [Self::tensor(found.dx, x.shape()), of_channels(found.d_scale), of_channels(found.d_zero)]
    }
});

impl<B: FakeQuantizeOps + FakeQuantizeGradients, C: CheckpointStrategy> FakeQuantizeOps for Autodiff<B, C> {
    fn training_fake_quantize(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        zero: Operand<Self>,
        channels: Channels,
        grid: Grid,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (scale, scale_node) = scale.into_parts();
        let (zero, zero_node) = zero.into_parts(&<FloatTensor<Self>>::new(x.clone()));
        let y = B::training_fake_quantize(x.clone(), scale.clone(), zero.clone(), channels, grid);
        match FakeQuantizeBackward.prepare::<C>([x_node, scale_node, zero_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(FakeQuantizeState { x, scale, zero, channels, grid }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// Gradients of the numbers, the steps and the zero points.
#[derive(Debug)]
struct FakeQuantizeBackward;

impl<B: FakeQuantizeGradients> Backward<B, 3> for FakeQuantizeBackward {
    type State = FakeQuantizeState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        if let ([Some(x), None, None], true) = (&ops.parents, ops.state.grid.clips_nothing()) {
            return grads.register::<B>(x.id, dy);
        }
        let gradients = B::fake_quantize_gradients(ops.state, dy);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
