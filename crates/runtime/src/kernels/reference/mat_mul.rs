//! Products of two activations, each with a zero point of its own: `acc = Σ (a − z_a) · (b − z_b)` (Q49).

use super::{Operand, Output};
use crate::{op::MatMul, requantize::Scaling};

/// Rows, terms and columns of each product of a validated node.
pub(super) fn sides(lhs: &Operand, y: &Output) -> [usize; 3] {
    let ([.., m, k], [.., n]) = (lhs.info.shape.as_slice(), y.info.shape.as_slice()) else {
        unreachable!("validation keeps both operands of rank 2 and more")
    };
    [*m, *k, *n]
}

/// Where the element of term `k` and column `n` stands in one matrix of the second operand.
pub(super) fn position(op: MatMul, k: usize, n: usize, [_, terms, columns]: [usize; 3]) -> usize {
    if op.transpose_rhs { n * terms + k } else { k * columns + n }
}

/// `lhs` is `[.., m, k]`, `rhs` `[.., k, n]` or `[.., n, k]`, `y` `[.., m, n]`.
pub(super) fn mat_mul(scaling: Scaling, op: MatMul, lhs: Operand, rhs: Operand, y: &mut Output) {
    let sides @ [rows, terms, columns] = sides(&lhs, y);
    for at in 0..y.codes.len() {
        let (matrix, row, column) = (at / (rows * columns), at / columns % rows, at % columns);
        let acc = (0..terms)
            .map(|k| {
                let a = lhs.centred((matrix * rows + row) * terms + k);
                let b = rhs.centred(matrix * terms * columns + position(op, k, column, sides));
                i64::from(a) * i64::from(b)
            })
            .sum();
        y.codes.set(at, scaling.code(acc, y.info.qparams.zero_point, op.clamp));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{int8, run};
    use crate::{
        op::{Clamp, MatMul, Op},
        rules::Rules,
    };

    #[test]
    fn both_zero_points_are_subtracted() {
        // Reals [[1, 2], [3, 4]] with codes one higher, times [[1, 0], [−1, 2]] with codes two lower, in two ways.
        let (a, b, y) = (int8(&[2, 2], 1.0, 1), int8(&[2, 2], 1.0, -2), int8(&[2, 2], 1.0, 5));
        for rules in [Rules::OnnxRuntime, Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro] {
            for (transpose_rhs, codes) in [(false, [-1, -2, -3, 0]), (true, [-1, -3, -2, 0])] {
                let op = Op::MatMul(MatMul { transpose_rhs, clamp: Clamp::INT8 });
                assert_eq!(run(rules, &op, &[(&[2, 3, 4, 5], &a), (&codes, &b)], &y), [4, 9, 4, 13]);
            }
        }
    }

    #[test]
    fn leading_axes_are_products_of_their_own() {
        let (a, b, y) = (int8(&[2, 1, 2], 1.0, 0), int8(&[2, 2, 1], 1.0, 0), int8(&[2, 1, 1], 1.0, 0));
        let op = Op::MatMul(MatMul { transpose_rhs: false, clamp: Clamp::INT8 });
        assert_eq!(run(Rules::TfliteMicro, &op, &[(&[1, 2, 3, 4], &a), (&[5, 6, 7, 8], &b)], &y), [17, 53]);
    }
}
