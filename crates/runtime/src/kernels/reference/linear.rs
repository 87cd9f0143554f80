//! Fully connected layer: as convolution, on the last axis.

use super::{Operand, Output};
use crate::{op::Linear, requantize::Scaling};

/// `x` is `[.., d_input]`, `y` is `[.., d_output]`.
pub(super) fn linear(scalings: &[Scaling], op: &Linear, x: Operand, y: &mut Output) {
    for row in 0..x.codes.len() / op.d_input {
        for (o, scaling) in scalings.iter().enumerate() {
            let mut acc = op.weights.bias[o];
            for i in 0..op.d_input {
                let weight = op.weights.codes.get(o * op.d_input + i);
                acc += i64::from(weight) * i64::from(x.centred(row * op.d_input + i));
            }
            y.codes.set(row * op.d_output + o, scaling.code(acc, y.info.qparams.zero_point, op.clamp));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{int8, run};
    use crate::{
        op::{Clamp, Linear, Op, Weights},
        packed::{PackedCodes, WeightBits},
        rules::Rules,
    };
    use alloc::{string::String, vec, vec::Vec};

    fn linear(codes: PackedCodes, scale: Vec<f32>, bias: Vec<i64>) -> Op {
        let (d_input, d_output) = (codes.len() / bias.len(), bias.len());
        let weights = Weights { codes, scale, bias };
        Op::Linear(Linear { name: String::new(), weights, d_input, d_output, clamp: Clamp::INT8 })
    }

    #[test]
    fn each_row_meets_each_channel() {
        let op = linear(PackedCodes::eight(&[1, 2, 3, -1, 0, 1]), vec![1.0, 1.0], vec![10, -10]);
        let (x, y) = (int8(&[2, 3], 1.0, -1), int8(&[2, 2], 1.0, 2));
        // Reals [1, 2, 3] and [0, 0, −4].
        for rules in [Rules::OnnxRuntime, Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro] {
            assert_eq!(run(rules, &op, &[(&[0, 1, 2, -1, -1, -5], &x)], &y), [26, -6, 0, -12]);
        }
    }

    #[test]
    fn a_negative_tie_parts_the_rules() {
        // A sum of −3 in steps of 1/2 is −1.5; (−1.5, −0.5, 0.5, 1.5) from sums (−3, −1, 1, 3).
        let op = linear(PackedCodes::eight(&[-3, -1, 1, 3]), vec![0.5; 4], vec![0; 4]);
        let (x, y) = (int8(&[1], 1.0, 0), int8(&[4], 1.0, 0));
        let codes = |rules| run(rules, &op, &[(&[1], &x)], &y);
        // To even; in f64 away from zero; m0 = 2^30 and no shift, so that the one rounding is that of the product, up.
        assert_eq!(codes(Rules::OnnxRuntime), [-2, 0, 0, 2]);
        assert_eq!(codes(Rules::LiteRt), [-2, 0, 0, 2]);
        assert_eq!(codes(Rules::LiteRtReference), [-2, -1, 1, 2]);
        assert_eq!(codes(Rules::TfliteMicro), [-1, 0, 1, 2]);
    }

    #[test]
    fn narrow_rows_that_do_not_fill_bytes_go_to_another_kernel() {
        // Sums ±2 in steps of 1/4 are ties of ±1/2: XNNPACK rounds them to even, the built-in kernel up.
        let y = int8(&[2], 1.0, 0);
        let codes = |width: usize| {
            let row = |sign: i8| (0..width).map(move |i| if i == 0 { 2 * sign } else { 0 });
            let weight: Vec<i8> = row(1).chain(row(-1)).collect();
            let op = linear(PackedCodes::pack(&weight, WeightBits::Four).unwrap(), vec![0.25; 2], vec![0; 2]);
            let input: Vec<i8> = vec![1; width];
            run(Rules::LiteRt, &op, &[(&input, &int8(&[width], 1.0, 0))], &y)
        };
        assert_eq!(codes(2), [0, 0]);
        assert_eq!(codes(3), [1, 0]);
    }
}
