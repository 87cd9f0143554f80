//! ONNX Runtime's float execution of operators that it does not fuse: f32 sums of real numbers in the order of its kernels.
//!
//! A transposed convolution and every product of int16 codes stay DequantizeLinear, float operator, QuantizeLinear there. (Q50) is
//! a sum of fused multiply-adds that starts anew after a number of terms that depends on the columns of the product (Q51); a
//! product of one row adds rounded products in fours (Q52). This is the order of one thread. A linear layer of one row, and a
//! convolution whose output is one pixel, have an order that is not known: the codes of one in a few hundred outputs may differ by
//! one there.

use alloc::vec::Vec;

use super::{Operand, Output, conv_transpose2d::source, image, mat_mul, tap};
use crate::{
    fma::fma,
    op::{Conv2d, ConvTranspose2d, Linear, MatMul, Weights},
    requantize::code_of_steps,
};

/// Terms of a transposed convolution's partial sums.
const TRANSPOSED_TERMS: usize = 128;

/// (Q51): terms of the partial sums of a product of `columns` columns.
fn partial_terms(columns: usize) -> usize {
    match columns {
        ..=16 => 1024,
        17..=32 => 512,
        33..=64 => 256,
        _ => 128,
    }
}

/// (Q50): fused multiply-adds of pairs in order, in partial sums of `terms`; `first` is added to the first partial sum.
fn product(pairs: &[(f32, f32)], terms: usize, first: f32) -> f32 {
    let mut partial = pairs.chunks(terms).map(|chunk| chunk.iter().fold(0.0, |sum, &(a, b)| fma(a, b, sum)));
    let start = partial.next().unwrap_or(0.0) + first;
    partial.fold(start, |sum, part| sum + part)
}

/// (Q52): rounded products, added in fours, the rest as a pair and alone.
fn product_by_four(pairs: &[(f32, f32)]) -> f32 {
    let fours = pairs.chunks_exact(4);
    let twos = fours.remainder().chunks_exact(2);
    let one = twos.remainder().chunks(1);
    fours.chain(twos).chain(one).fold(0.0, |sum, chunk| {
        let part = chunk.iter().map(|&(a, b)| a * b).reduce(|part, product| part + product);
        part.unwrap_or(0.0) + sum
    })
}

impl Operand<'_> {
    /// What DequantizeLinear makes of the code at `index`.
    fn real(&self, index: usize) -> f32 {
        self.info.qparams.scale * self.centred(index) as f32
    }
}

/// What DequantizeLinear makes of a weight.
fn weight(weights: &Weights, channel: usize, index: usize) -> f32 {
    weights.scale[channel] * f32::from(weights.codes.get(index))
}

/// What DequantizeLinear makes of a bias.
fn bias(weights: &Weights, channel: usize, x: &Operand) -> f32 {
    (x.info.qparams.scale * weights.scale[channel]) * weights.bias[channel] as f32
}

/// QuantizeLinear.
fn set(y: &mut Output, index: usize, real: f32, clamp: crate::op::Clamp) {
    let code = code_of_steps(real / y.info.qparams.scale, y.info.qparams.zero_point, clamp);
    y.codes.set(index, code);
}

/// `y` is `[c_out, h_out, w_out]`. The product's columns are output positions; padding gives terms of 0.
pub(super) fn conv2d(op: &Conv2d, x: Operand, y: &mut Output) {
    let ([_, h, w], [_, h_out, w_out]) = (image(x.info), image(y.info));
    let ([k_h, k_w], [top, left, ..]) = (op.kernel, op.padding);
    let (c_in_group, c_out_group) = (op.c_in / op.groups, op.c_out / op.groups);
    for c_out in 0..op.c_out {
        let first_channel = c_out / c_out_group * c_in_group;
        for position in 0..h_out * w_out {
            let pair = |at: usize| {
                let (c, ky, kx) = (at / (k_h * k_w), at / k_w % k_h, at % k_w);
                let iy = tap(position / w_out, op.stride[0], ky, op.dilation[0], top, h);
                let ix = tap(position % w_out, op.stride[1], kx, op.dilation[1], left, w);
                let real = match (iy, ix) {
                    (Some(iy), Some(ix)) => x.real(((first_channel + c) * h + iy) * w + ix),
                    _ => 0.0,
                };
                (real, weight(&op.weights, c_out, c_out * c_in_group * k_h * k_w + at))
            };
            let pairs: Vec<_> = (0..c_in_group * k_h * k_w).map(pair).collect();
            let sum = match c_out_group {
                1 => product_by_four(&pairs),
                _ => product(&pairs, partial_terms(h_out * w_out), 0.0),
            };
            set(y, c_out * h_out * w_out + position, sum + bias(&op.weights, c_out, &x), op.clamp);
        }
    }
}

/// `y` is `[c_out, h_out, w_out]`. One product over channels for each tap; the taps' results are added in order, then the bias.
pub(super) fn conv_transpose2d(op: &ConvTranspose2d, x: Operand, y: &mut Output) {
    let ([_, h, w], [_, h_out, w_out]) = (image(x.info), image(y.info));
    let ([k_h, k_w], [top, left, ..]) = (op.kernel, op.padding);
    let (c_in_group, c_out_group) = (op.c_in / op.groups, op.c_out / op.groups);
    for c_out in 0..op.c_out {
        let first_channel = c_out / c_out_group * c_in_group;
        for position in 0..h_out * w_out {
            let mut sum = 0.0;
            for ky in 0..k_h {
                let Some(iy) = source(position / w_out, op.stride[0], ky, op.dilation[0], top, h) else { continue };
                for kx in 0..k_w {
                    let Some(ix) = source(position % w_out, op.stride[1], kx, op.dilation[1], left, w) else { continue };
                    let pair = |c: usize| {
                        let index = ((c_out * c_in_group + c) * k_h + ky) * k_w + kx;
                        (x.real(((first_channel + c) * h + iy) * w + ix), weight(&op.weights, c_out, index))
                    };
                    let pairs: Vec<_> = (0..c_in_group).map(pair).collect();
                    sum += product(&pairs, TRANSPOSED_TERMS, 0.0);
                }
            }
            set(y, c_out * h_out * w_out + position, sum + bias(&op.weights, c_out, &x), op.clamp);
        }
    }
}

/// `x` is `[.., d_input]`, `y` is `[.., d_output]`; the order of a product of at least two rows.
pub(super) fn linear(op: &Linear, x: Operand, y: &mut Output) {
    for at in 0..y.codes.len() {
        let (row, o) = (at / op.d_output, at % op.d_output);
        let pair = |i: usize| (x.real(row * op.d_input + i), weight(&op.weights, o, o * op.d_input + i));
        let pairs: Vec<_> = (0..op.d_input).map(pair).collect();
        let sum = product(&pairs, partial_terms(op.d_output), bias(&op.weights, o, &x));
        set(y, at, sum, op.clamp);
    }
}

/// `lhs` is `[.., m, k]`, `rhs` `[.., k, n]` or `[.., n, k]`, `y` `[.., m, n]`.
pub(super) fn mat_mul(op: MatMul, lhs: Operand, rhs: Operand, y: &mut Output) {
    let sides @ [rows, terms, columns] = mat_mul::sides(&lhs, y);
    for at in 0..y.codes.len() {
        let (matrix, row, column) = (at / (rows * columns), at / columns % rows, at % columns);
        let pair = |k: usize| {
            let a = lhs.real((matrix * rows + row) * terms + k);
            (a, rhs.real(matrix * terms * columns + mat_mul::position(op, k, column, sides)))
        };
        let pairs: Vec<_> = (0..terms).map(pair).collect();
        let sum = if rows == 1 { product_by_four(&pairs) } else { product(&pairs, partial_terms(columns), 0.0) };
        set(y, at, sum, op.clamp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2^24 + 1 is not an f32: added one at a time ones are lost, added among themselves first they are not.
    const BIG: f32 = 16_777_216.0;

    #[test]
    fn partial_sums_begin_anew() {
        let mut pairs = [(1.0, 1.0); 130];
        pairs[0] = (BIG, 1.0);
        // In one sum all ones are lost; in blocks of 128 the two ones of the second block are added together and survive.
        assert_eq!(product(&pairs, 1024, 0.0), BIG);
        assert_eq!(product(&pairs, 128, 0.0), BIG + 2.0);
        assert_eq!(product(&pairs[1..], 1024, 0.5), 129.5);
    }

    #[test]
    fn products_are_fused_or_rounded() {
        // (1 + 2⁻²³)² = 1 + 2⁻²² + 2⁻⁴⁶: the last term survives in a fused sum with −(1 + 2⁻²²) alone.
        let x = 1.0 + f32::EPSILON;
        let pairs = [(-(1.0 + 2.0 * f32::EPSILON), 1.0), (x, x)];
        assert_eq!(product(&pairs, 128, 0.0), 2f32.powi(-46));
        assert_eq!(product_by_four(&pairs), 0.0);
    }

    #[test]
    fn four_products_are_added_before_the_sum() {
        let pairs = |values: &[f32]| values.iter().map(|&value| (value, 1.0)).collect::<Vec<_>>();
        assert_eq!(product_by_four(&pairs(&[BIG, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0])), BIG + 2.0);
        // A pair is added before the sum too, a single one is lost.
        assert_eq!(product_by_four(&pairs(&[BIG, 0.0, 0.0, 0.0, 1.0, 1.0])), BIG + 2.0);
        assert_eq!(product_by_four(&pairs(&[BIG, 0.0, 0.0, 0.0, 1.0])), BIG);
        assert_eq!(product_by_four(&pairs(&[BIG, 1.0, 1.0, 0.0])), BIG);
        assert_eq!(product_by_four(&[]), 0.0);
    }
}
