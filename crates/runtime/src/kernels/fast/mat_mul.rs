//! Products of two activations as dot products of int16: codes are centred, and the second operand's columns become rows.

use super::{
    level::Level,
    scratch::{Scratch, ScratchSize},
};
use crate::{model::ValueInfo, op, requantize::Scaling, rules::Rules, sum_rule::SumRule};

/// A product of matrices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatMul {
    op: op::MatMul,
    /// Rows, terms and columns.
    sides: [usize; 3],
    /// Zero points of both operands and of the result.
    zero_points: [i32; 3],
    scaling: Scaling,
}

impl MatMul {
    pub(super) fn new(rules: Rules, op: op::MatMul, a: &ValueInfo, b: &ValueInfo, y: &ValueInfo) -> Self {
        let ([.., rows, terms], [.., columns]) = (a.shape.as_slice(), y.shape.as_slice()) else {
            unreachable!("validation keeps both operands of rank 2 and more")
        };
        let rule = SumRule::mat_mul(rules, a.code_type, b);
        Self {
            op,
            sides: [*rows, *terms, *columns],
            zero_points: [a, b, y].map(|info| info.qparams.zero_point),
            scaling: Scaling::new(rule, a.qparams.scale, b.qparams.scale, y.qparams.scale),
        }
    }

    /// One row of the first operand and one matrix of the second.
    pub(super) fn scratch(&self) -> ScratchSize {
        let [_, terms, columns] = self.sides;
        ScratchSize { words: terms * (columns + 1), ..ScratchSize::default() }
    }

    /// Any number of matrices one after another: `[m, k]` by `[k, n]` or `[n, k]`, to `[m, n]`.
    pub(super) fn compute(&self, level: Level, scratch: &mut Scratch, a: &[i8], b: &[i8], y: &mut [i8]) {
        level.run(
            #[inline(always)]
            || self.plain(scratch, a, b, y),
        );
    }

    #[inline(always)]
    fn plain(&self, scratch: &mut Scratch, a: &[i8], b: &[i8], y: &mut [i8]) {
        let ([rows, terms, columns], [a_zero, b_zero, y_zero]) = (self.sides, self.zero_points);
        let (row, right) = scratch.words[..terms * (columns + 1)].split_at_mut(terms);
        let matrices = a.chunks_exact(rows * terms).zip(b.chunks_exact(terms * columns)).zip(y.chunks_exact_mut(rows * columns));
        for ((a, b), y) in matrices {
            if self.op.transpose_rhs {
                centre(b, b_zero, right);
            } else {
                for (k, codes) in b.chunks_exact(columns).enumerate() {
                    right[k..].iter_mut().step_by(terms).zip(codes).for_each(|(to, &code)| *to = i16::from(code) - b_zero as i16);
                }
            }
            for (a, y) in a.chunks_exact(terms).zip(y.chunks_exact_mut(columns)) {
                centre(a, a_zero, row);
                for (column, y) in right.chunks_exact(terms).zip(y) {
                    // Validation keeps sums of int8 products within int32.
                    let sum: i32 = row.iter().zip(column).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
                    *y = self.scaling.code(sum.into(), y_zero, self.op.clamp) as i8;
                }
            }
        }
    }
}

#[inline(always)]
fn centre(codes: &[i8], zero_point: i32, to: &mut [i16]) {
    for (to, &code) in to.iter_mut().zip(codes) {
        *to = i16::from(code) - zero_point as i16;
    }
}
