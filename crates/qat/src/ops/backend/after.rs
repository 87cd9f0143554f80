//! What follows an addition or a batch norm, before the result is written.

use super::Operand;
use super::host::Host;
use crate::clamp::Clamp;
use crate::ops::grid::{Finish, Grid, Quantizer};

/// What follows an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum After {
    /// A clamp.
    Clamp(Clamp),
    /// A clamp and a grid, whose step is an operand.
    Grid(Grid),
}

impl After {
    /// With the step and the zero point of its grid.
    pub(super) fn finish<B: Host>(self, scale: &Operand<B>, zero: &Operand<B>) -> Finish {
        let number = |operand: &Operand<B>| operand.numbers().first().copied();
        match self {
            Self::Clamp(clamp) => Finish::Clamp(clamp),
            Self::Grid(grid) => Finish::Quantize(Quantizer {
                scale: number(scale).expect("a grid has a step"),
                zero: number(zero).unwrap_or(0.0),
                grid,
            }),
        }
    }
}
