//! Mean over axes of the sample.
//!
//! | rules | codes | arithmetic |
//! | --- | --- | --- |
//! | `OnnxRuntime` | both | (Q27), real values summed in f32 in the order that the place of the axes gives |
//! | `LiteRt` | int8 | (Q28), raw codes summed, the zero points brought in before rounding |
//! | others | both | (Q29), the division folded into a multiplier |
//!
//! (Q27) is that of a batch of one: in larger ones ONNX Runtime may sum in another order.

use alloc::vec::Vec;

use super::{
    Operand, Output,
    index::{offset, strides},
};
use crate::{
    codes::CodeType,
    fixed_point::Multiplier,
    model::{QParams, ValueInfo},
    op::{Clamp, Mean},
    requantize::{code_of_steps, dequantize, round_half_even_f32},
    rules::Rules,
};

/// Where the axes of a mean stand among the others, neighbours of one kind taken together and axes of size 1 left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AxesPlace {
    /// Nothing is summed.
    Nowhere,
    /// All axes, or the first ones.
    First,
    /// The last axes, with others before.
    Last,
    /// Between others.
    Middle,
    /// In several places.
    Scattered,
}

impl AxesPlace {
    /// For an input of this shape.
    pub(crate) fn new(op: &Mean, shape: &[usize]) -> Self {
        let mut kinds: Vec<bool> = Vec::new();
        for (axis, &size) in shape.iter().enumerate() {
            let reduced = op.axes.contains(&axis);
            if size > 1 && kinds.last() != Some(&reduced) {
                kinds.push(reduced);
            }
        }
        match kinds.as_slice() {
            [] | [false] => Self::Nowhere,
            // A single run is contiguous, which is summed as the last axes are.
            [true] | [false, true] => Self::Last,
            [true, false] => Self::First,
            [false, true, false] => Self::Middle,
            _ => Self::Scattered,
        }
    }
}

/// Where the inputs of the means stand: the first one of each mean, and the distances of all from the first.
fn places(op: &Mean, input: &[usize]) -> [Vec<usize>; 2] {
    let strides = strides(input);
    let kept: Vec<usize> = (0..input.len()).filter(|axis| !op.axes.contains(axis)).collect();
    [&kept, &op.axes].map(|axes| {
        let sizes: Vec<usize> = axes.iter().map(|&axis| input[axis]).collect();
        let at = |flat| offset(flat, &sizes, |i, coordinate| coordinate * strides[axes[i]]);
        (0..sizes.iter().product()).map(at).collect()
    })
}

/// Contiguous numbers that begin `position` places after an aligned one: four running sums from the first aligned place on, with
/// every second four summed apart; then the edges.
fn sum_of_row(row: &[f32], position: usize) -> f32 {
    let start = (position.wrapping_neg() % 4).min(row.len());
    let (head, rest) = row.split_at(start);
    let (fours, tail) = rest.as_chunks::<4>();
    let Some((&first, others)) = fours.split_first() else {
        return row[1..].iter().fold(row[0], |sum, x| sum + x);
    };
    let plus = |a: [f32; 4], b: [f32; 4]| [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]];
    let mut lanes = first;
    if let Some((&second, others)) = others.split_first() {
        let mut odd = second;
        let (pairs, last) = others.as_chunks::<2>();
        for &[even_four, odd_four] in pairs {
            lanes = plus(lanes, even_four);
            odd = plus(odd, odd_four);
        }
        lanes = plus(lanes, odd);
        for &four in last {
            lanes = plus(lanes, four);
        }
    }
    let sum = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
    head.iter().chain(tail).fold(sum, |sum, x| sum + x)
}

/// Numbers that are rows of a matrix product with ones: four at a time, then two, then one.
fn sum_of_column(column: &[f32]) -> f32 {
    let (mut sum, mut rest) = (None, column);
    for size in [4, 2, 1] {
        while rest.len() >= size {
            let (group, others) = rest.split_at(size);
            let part = group[1..].iter().fold(group[0], |part, x| part + x);
            sum = Some(sum.map_or(part, |sum: f32| sum + part));
            rest = others;
        }
    }
    sum.unwrap_or(0.0)
}

/// (Q27).
fn mean_of_reals(place: AxesPlace, reals: &[f32], index: usize) -> f32 {
    let sum = match place {
        AxesPlace::Last => sum_of_row(reals, index * reals.len()),
        AxesPlace::Middle => sum_of_column(reals),
        AxesPlace::First | AxesPlace::Nowhere | AxesPlace::Scattered => reals[1..].iter().fold(reals[0], |sum, x| sum + x),
    };
    sum / reals.len() as f32
}

/// (Q29): the multiplier of a sum of centred codes.
pub(crate) fn multiplier(x: &ValueInfo, y: &ValueInfo, count: usize) -> Multiplier {
    Multiplier::new(f64::from(x.qparams.scale) / f64::from(y.qparams.scale)).divided(count as i64)
}

/// The constants of one mean, made from the scales once.
#[derive(Clone, Debug)]
pub(crate) struct MeanPlan {
    /// The first input of each mean.
    firsts: Vec<usize>,
    /// Distances of a mean's inputs from its first.
    distances: Vec<usize>,
    rule: Rule,
    zero_point: i32,
    clamp: Clamp,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    /// (Q27), the parameters of input and output.
    Real(AxesPlace, [QParams; 2]),
    /// (Q28): `q = rne(sum · factor + offset)`.
    Raw { factor: f32, offset: f32 },
    /// (Q29).
    Gemmlowp(Multiplier),
}

impl MeanPlan {
    /// For input and output of one code type.
    pub(crate) fn new(rules: Rules, op: &Mean, x: &ValueInfo, y: &ValueInfo) -> Self {
        let count = op.count(&x.shape);
        let rule = match (rules, x.code_type) {
            (Rules::OnnxRuntime, _) => Rule::Real(AxesPlace::new(op, &x.shape), [x.qparams, y.qparams]),
            (Rules::LiteRt, CodeType::Int8) => {
                let factor = (x.qparams.scale / y.qparams.scale) * (1.0 / count as f32);
                let zero = (count as i32 * x.qparams.zero_point) as f32;
                Rule::Raw { factor, offset: y.qparams.zero_point as f32 - zero * factor }
            }
            _ => Rule::Gemmlowp(multiplier(x, y, count)),
        };
        let [firsts, distances] = places(op, &x.shape);
        Self { firsts, distances, rule, zero_point: y.qparams.zero_point, clamp: Clamp::full(y.code_type) }
    }

    /// The code of the mean that is the output's element `index`.
    fn code(&self, x: Operand, index: usize) -> i32 {
        let places = self.distances.iter().map(|distance| self.firsts[index] + distance);
        match self.rule {
            Rule::Real(place, [from, to]) => {
                let reals: Vec<f32> = places.map(|at| dequantize(x.codes.at(at), from)).collect();
                code_of_steps(mean_of_reals(place, &reals, index) / to.scale, to.zero_point, self.clamp)
            }
            Rule::Raw { factor, offset } => {
                let sum: i32 = places.map(|at| x.codes.at(at)).sum();
                round_half_even_f32((sum as f32 * factor + offset).clamp(-128.0, 127.0)) as i32
            }
            Rule::Gemmlowp(multiplier) => {
                let sum: i64 = places.map(|at| i64::from(x.centred(at))).sum();
                let scaled = multiplier.scale(sum).saturating_add(self.zero_point);
                scaled.clamp(self.clamp.min.into(), self.clamp.max.into())
            }
        }
    }
}

/// One mean for each element of `y`.
pub(super) fn mean(plan: &MeanPlan, x: Operand, y: &mut Output) {
    for index in 0..y.codes.len() {
        y.codes.set(index, plan.code(x, index));
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::{
        super::testing::{int8, run},
        *,
    };
    use crate::op::Op;

    #[test]
    fn axes_are_found_wherever_they_stand() {
        // Element (c, h, w) is 100 c + 10 h + w − 100.
        let x = int8(&[2, 2, 3], 1.0, 0);
        let codes: Vec<i8> = (0..12).map(|i| (100 * (i / 6) + 10 * (i / 3 % 2) + i % 3 - 100) as i8).collect();
        for (axes, shape, expected) in [
            (vec![1, 2], vec![2], vec![-94, 6]),
            (vec![0], vec![2, 3], vec![-50, -49, -48, -40, -39, -38]),
            (vec![1], vec![2, 3], vec![-95, -94, -93, 5, 6, 7]),
            (vec![0, 1, 2], vec![1], vec![-44]),
        ] {
            let y = int8(&shape, 1.0, 0);
            for rules in [Rules::OnnxRuntime, Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro] {
                let op = Op::Mean(Mean { axes: axes.clone(), keep_dims: false });
                assert_eq!(run(rules, &op, &[(&codes, &x)], &y), expected, "{rules} {axes:?}");
            }
        }
    }

    #[test]
    fn ties_go_where_each_runtime_sends_them() {
        // Means ±0.5 and ±1.5; zero point 1.
        let (x, y) = (int8(&[4, 2], 1.0, 0), int8(&[4], 1.0, 1));
        let op = Op::Mean(Mean { axes: vec![1], keep_dims: false });
        let operand: (&[i8], _) = (&[-2, -1, -1, 0, 0, 1, 1, 2], &x);
        assert_eq!(run(Rules::OnnxRuntime, &op, &[operand], &y), [-1, 1, 1, 3]);
        assert_eq!(run(Rules::LiteRt, &op, &[operand], &y), [0, 0, 2, 2]);
        // A multiplier of 1/2 has one rounding, which sends ties up.
        assert_eq!(run(Rules::LiteRtReference, &op, &[operand], &y), [0, 1, 2, 3]);
    }

    #[test]
    fn rows_are_summed_from_their_first_aligned_place() {
        // Large numbers cancel in the lanes; what is left tells the order.
        let big = 16_777_216.0;
        // Lanes (big, 1, −big, 1) sum to (big − big) + (1 + 1).
        assert_eq!(sum_of_row(&[big, 1.0, -big, 1.0], 0), 2.0);
        // From position 1 three numbers come before the first aligned one; there is no whole four: in order.
        assert_eq!(sum_of_row(&[big, 1.0, -big, 1.0], 1), 1.0);
        // A four, then the edges after it, head first.
        assert_eq!(sum_of_row(&[1.0, 0.0, 0.0, 0.0, big, 1.0], 3), big + 1.0 + 1.0);
        assert_eq!(sum_of_column(&[1.0, 1.0, 1.0, 1.0, big, -big, 3.0]), 4.0 + 3.0);
        assert_eq!(sum_of_column(&[1.0, 1.0, 1.0, 1.0, big, 1.0, -big]), big + 4.0 - big);
    }

    #[test]
    fn places_of_axes() {
        let place = |axes: &[usize], shape: &[usize]| AxesPlace::new(&Mean { axes: axes.to_vec(), keep_dims: true }, shape);
        assert_eq!(place(&[0], &[3, 4]), AxesPlace::First);
        assert_eq!(place(&[1], &[3, 4]), AxesPlace::Last);
        assert_eq!(place(&[0, 1], &[3, 4]), AxesPlace::Last);
        assert_eq!(place(&[1], &[1, 3, 4]), AxesPlace::First);
        assert_eq!(place(&[1], &[2, 3, 4]), AxesPlace::Middle);
        assert_eq!(place(&[0, 2], &[2, 3, 4]), AxesPlace::Scattered);
        assert_eq!(place(&[0], &[1, 4]), AxesPlace::Nowhere);
    }
}
