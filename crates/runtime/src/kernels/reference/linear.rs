//! Fully connected layer: as convolution, on the last axis.

use super::{Operand, Output};
use crate::{op::Linear, requantize::Scaling, rules::Rules};

/// `x` is `[.., d_input]`, `y` is `[.., d_output]`.
pub(super) fn linear(rules: Rules, op: &Linear, x: Operand, y: &mut Output) {
    for row in 0..x.codes.len() / op.d_input {
        for o in 0..op.d_output {
            let scaling = Scaling::new(rules, x.info.qparams.scale, op.weights.scale[o], y.info.qparams.scale);
            let mut acc = op.weights.bias[o];
            for i in 0..op.d_input {
                let weight = op.weights.codes.get(o * op.d_input + i);
                acc += i64::from(weight) * i64::from(x.centred(row * op.d_input + i));
            }
            y.codes.set(row * op.d_output + o, scaling.code(acc, y.info.qparams.zero_point, op.clamp));
        }
    }
}
