//! The meaning of every operation, in plain loops that are never optimized; faster code is judged against them.
//!
//! The rules stand in the header of `kernels`. Operands are one sample's codes with their [`ValueInfo`]; the model has passed
//! [`IntegerModel::validate`](crate::IntegerModel::validate), so shapes agree and no sum exceeds int32.

use crate::{
    fma::fma,
    model::{Add, AvgPool2d, Conv2d, Linear, MaxPool2d, QParams, ValueInfo},
    requantize::{requantize, round_half_even_f32},
};

/// One sample's codes and their meaning.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a> {
    pub(crate) codes: &'a [i8],
    pub(crate) info: &'a ValueInfo,
}

/// `[c, h, w]` of an image value.
pub(crate) fn image(info: &ValueInfo) -> [usize; 3] {
    [info.shape[0], info.shape[1], info.shape[2]]
}

/// The input coordinate under a kernel tap, or `None` in the padding.
fn tap(output: usize, stride: usize, offset: usize, dilation: usize, before: usize, size: usize) -> Option<usize> {
    (output * stride + offset * dilation).checked_sub(before).filter(|&position| position < size)
}

/// Convolution; `y` is `[c_out, h_out, w_out]`. Padding contributes real 0, that is nothing.
pub(crate) fn conv2d(op: &Conv2d, x: Operand, y_info: &ValueInfo, y: &mut [i8]) {
    let ([_, h, w], [_, h_out, w_out]) = (image(x.info), image(y_info));
    let ([k_h, k_w], [top, left, ..]) = (op.kernel, op.padding);
    let (c_in_group, c_out_group) = (op.c_in / op.groups, op.c_out / op.groups);
    for c_out in 0..op.c_out {
        let first_channel = c_out / c_out_group * c_in_group;
        for oy in 0..h_out {
            for ox in 0..w_out {
                let mut acc = op.bias[c_out];
                for c in 0..c_in_group {
                    for ky in 0..k_h {
                        let Some(iy) = tap(oy, op.stride[0], ky, op.dilation[0], top, h) else { continue };
                        for kx in 0..k_w {
                            let Some(ix) = tap(ox, op.stride[1], kx, op.dilation[1], left, w) else { continue };
                            let weight = op.weight[((c_out * c_in_group + c) * k_h + ky) * k_w + kx];
                            let code = x.codes[((first_channel + c) * h + iy) * w + ix];
                            acc += i32::from(weight) * (i32::from(code) - x.info.qparams.zero_point);
                        }
                    }
                }
                let rule = &op.requantize;
                y[(c_out * h_out + oy) * w_out + ox] =
                    requantize(acc, rule.multiplier[c_out], y_info.qparams.zero_point, rule.min, rule.max);
            }
        }
    }
}

/// Fully connected layer; `y` is `[d_output]`.
pub(crate) fn linear(op: &Linear, x: Operand, y_info: &ValueInfo, y: &mut [i8]) {
    let rule = &op.requantize;
    for (o, q) in y.iter_mut().enumerate() {
        let mut acc = op.bias[o];
        for i in 0..op.d_input {
            acc += i32::from(op.weight[o * op.d_input + i]) * (i32::from(x.codes[i]) - x.info.qparams.zero_point);
        }
        *q = requantize(acc, rule.multiplier[o], y_info.qparams.zero_point, rule.min, rule.max);
    }
}

/// A code or zero point in the uint8 numbering, as f32.
fn unsigned(code: i32) -> f32 {
    (code + 128) as f32
}

/// Element-wise sum; `a`, `b` and `y` have one shape.
pub(crate) fn add(op: &Add, a: Operand, b: Operand, y_info: &ValueInfo, y: &mut [i8]) {
    let (a_params, b_params, y_params) = (a.info.qparams, b.info.qparams, y_info.qparams);
    let ratio_a = a_params.scale / y_params.scale;
    let ratio_b = b_params.scale / y_params.scale;
    let offset = fma(ratio_a, unsigned(a_params.zero_point), ratio_b * unsigned(b_params.zero_point));
    let fixed = unsigned(y_params.zero_point) - offset;
    for ((&qa, &qb), q) in a.codes.iter().zip(b.codes).zip(y) {
        let with_b = fma(unsigned(i32::from(qb)), ratio_b, fixed);
        *q = from_unsigned(fma(unsigned(i32::from(qa)), ratio_a, with_b), op.min, op.max);
    }
}

/// The int8 code nearest to a real number in the uint8 numbering, ties to even.
fn from_unsigned(real: f32, min: i8, max: i8) -> i8 {
    let code = round_half_even_f32(real.clamp(0.0, 255.0)) as i32 - 128;
    code.clamp(i32::from(min), i32::from(max)) as i8
}

/// Largest code under the window. A window whose taps all lie in the padding gives −128.
pub(crate) fn max_pool2d(op: &MaxPool2d, x: Operand, y_info: &ValueInfo, y: &mut [i8]) {
    let ([channels, h, w], [_, h_out, w_out]) = (image(x.info), image(y_info));
    for c in 0..channels {
        for oy in 0..h_out {
            for ox in 0..w_out {
                let mut largest = i8::MIN;
                for ky in 0..op.kernel[0] {
                    let Some(iy) = tap(oy, op.stride[0], ky, op.dilation[0], op.padding[0], h) else { continue };
                    for kx in 0..op.kernel[1] {
                        let Some(ix) = tap(ox, op.stride[1], kx, op.dilation[1], op.padding[1], w) else { continue };
                        largest = largest.max(x.codes[(c * h + iy) * w + ix]);
                    }
                }
                y[(c * h_out + oy) * w_out + ox] = largest;
            }
        }
    }
}

/// Mean under the window: of integers where the window is the whole image, else of reals.
pub(crate) fn avg_pool2d(op: &AvgPool2d, x: Operand, y_info: &ValueInfo, y: &mut [i8]) {
    if op.is_global(&x.info.shape) { avg_pool2d_global(x, y_info.qparams, y) } else { avg_pool2d_windowed(op, x, y_info, y) }
}

/// `y` is `[c, 1, 1]`.
fn avg_pool2d_global(x: Operand, y_params: QParams, y: &mut [i8]) {
    let [_, h, w] = image(x.info);
    let x_params = x.info.qparams;
    let multiplier = x_params.scale / (y_params.scale * (h * w) as f32);
    for (plane, q) in x.codes.chunks_exact(h * w).zip(y) {
        let sum = plane.iter().map(|&code| i32::from(code) - x_params.zero_point).sum();
        *q = requantize(sum, multiplier, y_params.zero_point, i8::MIN, i8::MAX);
    }
}

/// `y` is `[c, h_out, w_out]`. Validation keeps every window touching the image, so the divisor is at least 1.
fn avg_pool2d_windowed(op: &AvgPool2d, x: Operand, y_info: &ValueInfo, y: &mut [i8]) {
    let ([channels, h, w], [_, h_out, w_out]) = (image(x.info), image(y_info));
    let (x_params, y_params) = (x.info.qparams, y_info.qparams);
    for c in 0..channels {
        for oy in 0..h_out {
            for ox in 0..w_out {
                let (mut sum, mut inside) = (0f32, 0usize);
                for ky in 0..op.kernel[0] {
                    let Some(iy) = tap(oy, op.stride[0], ky, 1, op.padding[0], h) else { continue };
                    for kx in 0..op.kernel[1] {
                        let Some(ix) = tap(ox, op.stride[1], kx, 1, op.padding[1], w) else { continue };
                        let code = i32::from(x.codes[(c * h + iy) * w + ix]);
                        sum += x_params.scale * (code - x_params.zero_point) as f32;
                        inside += 1;
                    }
                }
                let count = if op.count_include_pad { op.kernel[0] * op.kernel[1] } else { inside };
                let steps = sum / count as f32 / y_params.scale;
                y[(c * h_out + oy) * w_out + ox] = from_unsigned(steps + unsigned(y_params.zero_point), i8::MIN, i8::MAX);
            }
        }
    }
}

/// Codes below the zero point become the zero point.
pub(crate) fn relu(x: Operand, y: &mut [i8]) {
    for (&code, q) in x.codes.iter().zip(y) {
        // Validation keeps the zero point within int8.
        *q = code.max(x.info.qparams.zero_point as i8);
    }
}

/// The same codes.
pub(crate) fn reshape(x: Operand, y: &mut [i8]) {
    y.copy_from_slice(x.codes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Requantize;
    use alloc::{string::String, vec, vec::Vec};

    fn info(shape: &[usize], scale: f32, zero_point: i32) -> ValueInfo {
        ValueInfo { name: String::new(), shape: shape.to_vec(), qparams: QParams { scale, zero_point } }
    }

    fn conv(weight: Vec<i8>, padding: [usize; 4], dilation: [usize; 2], stride: [usize; 2]) -> Conv2d {
        Conv2d {
            name: String::new(),
            weight,
            weight_scale: vec![1.0],
            bias: vec![10],
            c_out: 1,
            c_in: 1,
            kernel: [2, 2],
            stride,
            padding,
            dilation,
            groups: 1,
            requantize: Requantize { multiplier: vec![1.0], min: -128, max: 127 },
        }
    }

    #[test]
    fn conv2d_places_taps_padding_and_zero_point() {
        // Codes 1..9 with zero point 1 are the reals 0..8. Worked by hand.
        let codes: Vec<i8> = (1..=9).collect();
        let x_info = info(&[1, 3, 3], 1.0, 1);
        let x = Operand { codes: &codes, info: &x_info };
        let mut y = [0i8; 4];
        conv2d(&conv(vec![1, 2, 3, -4], [0; 4], [1, 1], [1, 1]), x, &info(&[1, 2, 2], 1.0, 5), &mut y);
        assert_eq!(y, [15 + 2 + 9 - 16, 15 + 1 + 4 + 12 - 20, 15 + 3 + 8 + 18 - 28, 15 + 4 + 10 + 21 - 32]);
        let mut y = [0i8; 1];
        conv2d(&conv(vec![1, 2, 3, -4], [0; 4], [2, 2], [1, 1]), x, &info(&[1, 1, 1], 1.0, 0), &mut y);
        assert_eq!(y, [10 + 2 * 2 + 3 * 6 - 4 * 8]);
        // One row of padding above and stride 2: taps (2, 3) of row 0 only, then rows 1 and 2.
        let mut y = [0i8; 2];
        conv2d(&conv(vec![1, 2, 3, -4], [1, 0, 0, 0], [1, 1], [2, 2]), x, &info(&[1, 2, 1], 1.0, 0), &mut y);
        assert_eq!(y, [10 - 4, 10 + 3 + 2 * 4 + 3 * 6 - 4 * 7]);
    }

    #[test]
    fn padding_never_wins_a_maximum() {
        let x_info = info(&[1, 1, 2], 1.0, 0);
        let mut y = [0i8; 3];
        let op = MaxPool2d { kernel: [1, 2], stride: [1, 1], padding: [0, 1, 0, 1], dilation: [1, 1] };
        max_pool2d(&op, Operand { codes: &[-100, -90], info: &x_info }, &info(&[1, 1, 3], 1.0, 0), &mut y);
        assert_eq!(y, [-100, -90, -90]);
    }

    #[test]
    fn average_pools_round_ties_to_even_in_their_own_place() {
        // Reals 1 and 2: the mean 1.5 is a tie. Over the whole image it is rounded before the zero point 1 is added: 2 + 1.
        let x_info = info(&[1, 1, 2], 1.0, 0);
        let mut y = [0i8; 1];
        let whole = AvgPool2d { kernel: [1, 2], stride: [1, 1], padding: [0; 4], count_include_pad: false };
        avg_pool2d(&whole, Operand { codes: &[1, 2], info: &x_info }, &info(&[1, 1, 1], 1.0, 1), &mut y);
        assert_eq!(y, [3]);
        // With a window of part of the image the zero point comes first: 2.5 goes to 2.
        let x_info = info(&[1, 1, 3], 1.0, 0);
        let mut y = [0i8; 2];
        avg_pool2d(&whole, Operand { codes: &[1, 2, 5], info: &x_info }, &info(&[1, 1, 2], 1.0, 1), &mut y);
        assert_eq!(y, [2, 4]);
    }

    #[test]
    fn average_divisor_follows_count_include_pad() {
        let x_info = info(&[1, 1, 2], 1.0, 0);
        for (count_include_pad, expected) in [(false, [8, 6, 4]), (true, [4, 6, 2])] {
            let op = AvgPool2d { kernel: [1, 2], stride: [1, 1], padding: [0, 1, 0, 1], count_include_pad };
            let mut y = [0i8; 3];
            avg_pool2d(&op, Operand { codes: &[8, 4], info: &x_info }, &info(&[1, 1, 3], 1.0, 0), &mut y);
            assert_eq!(y, expected);
        }
    }

    #[test]
    fn add_applies_each_scale_and_clamps() {
        let (a_info, b_info) = (info(&[3], 0.5, 1), info(&[3], 0.25, -2));
        let mut y = [0i8; 3];
        let (a, b) = (Operand { codes: &[3, 127, -128], info: &a_info }, Operand { codes: &[2, 127, -128], info: &b_info });
        // Reals 1 + 1, 63 + 32.25 and −64.5 − 31.5 in steps of 1 around zero point 7.
        add(&Add { min: 7, max: 100 }, a, b, &info(&[3], 1.0, 7), &mut y);
        assert_eq!(y, [9, 100, 7]);
    }

    #[test]
    fn relu_raises_codes_to_the_zero_point() {
        let x_info = info(&[3], 1.0, -5);
        let mut y = [0i8; 3];
        relu(Operand { codes: &[-6, -5, 4], info: &x_info }, &mut y);
        assert_eq!(y, [-5, -5, 4]);
    }
}
