//! Operations on codes, whose grid stays that of their input.

use super::{Operand, Output};
use crate::{codes::Codes, op::Clamp};

/// Codes outside the clamp become its ends.
pub(super) fn clamp(clamp: Clamp, x: Operand, y: &mut Output) {
    for index in 0..y.codes.len() {
        y.codes.set(index, x.codes.at(index).clamp(clamp.min.into(), clamp.max.into()));
    }
}

/// The same codes.
pub(super) fn reshape(x: Operand, y: &mut Output) {
    for index in 0..y.codes.len() {
        y.codes.set(index, x.codes.at(index));
    }
}

/// The node's own codes.
pub(super) fn constant(codes: &Codes, y: &mut Output) {
    for index in 0..y.codes.len() {
        y.codes.set(index, codes.view().at(index));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{int8, run};
    use crate::{
        op::{Clamp, Op},
        rules::Rules,
    };

    #[test]
    fn a_relu_raises_codes_to_the_zero_point() {
        let info = int8(&[3], 1.0, -5);
        let relu = Op::Clamp(Clamp { min: -5, max: 127 });
        assert_eq!(run(Rules::OnnxRuntime, &relu, &[(&[-6, -5, 4], &info)], &info), [-5, -5, 4]);
    }
}
