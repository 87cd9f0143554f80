//! Step and zero point of a learned range (Q2), (Q3), (Q8).

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, backend_extension};

use super::host::{Host, for_hosts};
use crate::ops::range::RangeCodes;

/// What follows from a range, shape `[1]`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RangeValue {
    /// The step.
    Step,
    /// The zero point, of a range with both ends.
    ZeroPoint,
}

/// Step and zero point.
#[backend_extension(Flex, NdArray: cfg(feature = "ndarray"), Autodiff)]
pub(crate) trait RangeOps: Backend {
    /// The step or zero point of a range, all of shape `[1]`.
    fn training_range(min: FloatTensor<Self>, max: FloatTensor<Self>, codes: RangeCodes, value: RangeValue) -> FloatTensor<Self>;
}

for_hosts!(RangeOps {
    fn training_range(min: FloatTensor<Self>, max: FloatTensor<Self>, codes: RangeCodes, value: RangeValue) -> FloatTensor<Self> {
        let (min, max) = (Self::numbers(&min)[0], Self::numbers(&max)[0]);
        let found = match value {
            RangeValue::Step => codes.step(min, max),
            RangeValue::ZeroPoint => codes.zero_point(min, max),
        };
        Self::tensor(vec![found], [1])
    }
});

impl<B: RangeOps + Host, C: CheckpointStrategy> RangeOps for Autodiff<B, C> {
    fn training_range(min: FloatTensor<Self>, max: FloatTensor<Self>, codes: RangeCodes, value: RangeValue) -> FloatTensor<Self> {
        let (min, min_node) = min.into_parts();
        let (max, max_node) = max.into_parts();
        let (low, high) = (B::numbers(&min)[0], B::numbers(&max)[0]);
        let found = B::training_range(min, max, codes, value);
        match RangeBackward.prepare::<C>([min_node, max_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(RangeState { min: low, max: high, codes, value }, found),
            OpsKind::UnTracked(prep) => prep.finish(found),
        }
    }
}

/// What a step or zero point was found of.
#[derive(Clone, Debug)]
struct RangeState {
    min: f32,
    max: f32,
    codes: RangeCodes,
    value: RangeValue,
}

/// Gradients of both ends.
#[derive(Debug)]
struct RangeBackward;

impl<B: Host> Backward<B, 2> for RangeBackward {
    type State = RangeState;

    fn backward(self, ops: Ops<RangeState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d = grads.consume::<B>(&ops.node);
        let d = B::numbers(&d)[0];
        let RangeState { min, max, codes, value } = ops.state;
        let gradients = match value {
            RangeValue::Step => codes.step_gradients(min, max, d),
            RangeValue::ZeroPoint => codes.zero_point_gradients(min, max, d),
        };
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, B::tensor(vec![gradient], [1]));
            }
        }
    }
}
