//! What follows an operation, before the result is written: a clamp, or a clamp and a grid, whose numbers are operands.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::NodeGuard;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType};

use super::Operand;
use super::host::Host;
use crate::clamp::Clamp;
use crate::ops::Ending;
use crate::ops::grid::{Finish, Grid, Quantizer};
use crate::ops::range::RangeCodes;

/// What follows an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum After {
    /// A clamp.
    Clamp(Clamp),
    /// A clamp and a grid, whose step and zero point are operands.
    Grid(Grid),
    /// A clamp and the grid of a range, whose ends are operands.
    Range(Grid, RangeCodes),
}

/// The numbers of the grid that follows, `[1]` each.
#[derive(Clone, Debug, ExtensionType)]
pub(crate) struct GridOperands<B: Backend> {
    /// The step, or the lower end of the range.
    #[extension_type]
    pub first: Operand<B>,
    /// The zero point, or the upper end of the range.
    #[extension_type]
    pub second: Operand<B>,
}

impl GridOperands<Dispatch> {
    /// What follows, and the numbers of its grid.
    pub fn of(ending: Ending) -> (After, Self) {
        let (after, first, second) = match ending {
            Ending::Clamp(clamp) => (After::Clamp(clamp), None, None),
            Ending::Grid { grid, scale, zero } => (After::Grid(grid), Some(scale), zero),
            Ending::Range { grid, min, max, codes, .. } => (After::Range(grid, codes), Some(min), Some(max)),
        };
        (after, Self { first: Operand::new(first), second: Operand::new(second) })
    }
}

impl<B: Backend, C: CheckpointStrategy> GridOperands<Autodiff<B, C>> {
    /// The numbers and their nodes.
    pub(super) fn into_parts(self, constant: &FloatTensor<Autodiff<B, C>>) -> (GridOperands<B>, [NodeGuard; 2]) {
        let (first, first_node) = self.first.into_parts(constant);
        let (second, second_node) = self.second.into_parts(constant);
        (GridOperands { first, second }, [first_node, second_node])
    }
}

impl<B: Host> GridOperands<B> {
    fn number(operand: &Operand<B>) -> Option<f32> {
        operand.numbers().first().copied()
    }

    /// What follows, with its numbers.
    pub(super) fn finish(&self, after: After) -> Finish {
        let first = || Self::number(&self.first).expect("a grid has a step, or a range its ends");
        let second = Self::number(&self.second);
        match after {
            After::Clamp(clamp) => Finish::Clamp(clamp),
            After::Grid(grid) => Finish::Quantize(Quantizer { scale: first(), zero: second.unwrap_or(0.0), grid }),
            After::Range(grid, codes) => {
                let (min, max) = (first(), second.expect("a range has two ends"));
                Finish::Quantize(Quantizer { scale: codes.step(min, max), zero: codes.zero(min, max).unwrap_or(0.0), grid })
            }
        }
    }

    /// The gradients of the operands for those of the step and of the zero point.
    pub(super) fn gradients(&self, after: After, d_scale: f32, d_zero: f32) -> [f32; 2] {
        match (after, Self::number(&self.first), Self::number(&self.second)) {
            (After::Range(_, codes), Some(min), Some(max)) => codes.gradients(min, max, d_scale, d_zero),
            _ => [d_scale, d_zero],
        }
    }
}
