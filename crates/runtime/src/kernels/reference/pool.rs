//! Max and average pools.
//!
//! | rules | codes | arithmetic of the average |
//! | --- | --- | --- |
//! | `OnnxRuntime` | int8 | (Q16) over the whole image, else (Q17) |
//! | others | both | (Q26), raw codes, ties away from zero |

use super::{
    Operand, Output,
    add::{from_unsigned, unsigned},
    image, tap,
};
use crate::{
    op::{AvgPool2d, Clamp, MaxPool2d},
    requantize::requantize,
    rules::Rules,
};

/// Largest code under the window. A window whose taps all lie in the padding gives the lowest code.
pub(super) fn max_pool2d(op: &MaxPool2d, x: Operand, y: &mut Output) {
    let ([channels, h, w], [_, h_out, w_out]) = (image(x.info), image(y.info));
    for c in 0..channels {
        for oy in 0..h_out {
            for ox in 0..w_out {
                let mut largest = x.info.code_type.min();
                for ky in 0..op.kernel[0] {
                    let Some(iy) = tap(oy, op.stride[0], ky, op.dilation[0], op.padding[0], h) else { continue };
                    for kx in 0..op.kernel[1] {
                        let Some(ix) = tap(ox, op.stride[1], kx, op.dilation[1], op.padding[1], w) else { continue };
                        largest = largest.max(x.codes.at((c * h + iy) * w + ix));
                    }
                }
                y.codes.set((c * h_out + oy) * w_out + ox, largest);
            }
        }
    }
}

/// Mean under the window.
pub(super) fn avg_pool2d(rules: Rules, op: &AvgPool2d, x: Operand, y: &mut Output) {
    match rules {
        Rules::OnnxRuntime if op.is_global(&x.info.shape) => avg_pool2d_global(x, y),
        Rules::OnnxRuntime => avg_pool2d_windowed(op, x, y),
        Rules::LiteRt | Rules::LiteRtReference | Rules::TfliteMicro => avg_pool2d_raw(op, x, y),
    }
}

/// Raw codes over the number of those under the window; `x` and `y` share their parameters, so the zero point stays in.
fn avg_pool2d_raw(op: &AvgPool2d, x: Operand, y: &mut Output) {
    let ([channels, h, w], [_, h_out, w_out]) = (image(x.info), image(y.info));
    for c in 0..channels {
        for oy in 0..h_out {
            for ox in 0..w_out {
                let (mut sum, mut inside) = (0i64, 0i64);
                for ky in 0..op.kernel[0] {
                    let Some(iy) = tap(oy, op.stride[0], ky, 1, op.padding[0], h) else { continue };
                    for kx in 0..op.kernel[1] {
                        let Some(ix) = tap(ox, op.stride[1], kx, 1, op.padding[1], w) else { continue };
                        sum += i64::from(x.codes.at((c * h + iy) * w + ix));
                        inside += 1;
                    }
                }
                // Division truncates.
                let half = if sum > 0 { inside / 2 } else { -(inside / 2) };
                y.codes.set((c * h_out + oy) * w_out + ox, ((sum + half) / inside) as i32);
            }
        }
    }
}

/// `y` is `[c, 1, 1]`.
fn avg_pool2d_global(x: Operand, y: &mut Output) {
    let [channels, h, w] = image(x.info);
    let multiplier = x.info.qparams.scale / (y.info.qparams.scale * (h * w) as f32);
    for c in 0..channels {
        let sum = (0..h * w).map(|at| x.centred(c * h * w + at)).sum();
        y.codes.set(c, requantize(sum, multiplier, y.info.qparams.zero_point, i8::MIN, i8::MAX).into());
    }
}

/// `y` is `[c, h_out, w_out]`. Validation keeps every window touching the image, so the divisor is at least 1.
fn avg_pool2d_windowed(op: &AvgPool2d, x: Operand, y: &mut Output) {
    let ([channels, h, w], [_, h_out, w_out]) = (image(x.info), image(y.info));
    let (x_params, y_params) = (x.info.qparams, y.info.qparams);
    for c in 0..channels {
        for oy in 0..h_out {
            for ox in 0..w_out {
                let (mut sum, mut inside) = (0f32, 0usize);
                for ky in 0..op.kernel[0] {
                    let Some(iy) = tap(oy, op.stride[0], ky, 1, op.padding[0], h) else { continue };
                    for kx in 0..op.kernel[1] {
                        let Some(ix) = tap(ox, op.stride[1], kx, 1, op.padding[1], w) else { continue };
                        sum += x_params.scale * x.centred((c * h + iy) * w + ix) as f32;
                        inside += 1;
                    }
                }
                let count = if op.count_include_pad { op.kernel[0] * op.kernel[1] } else { inside };
                let steps = sum / count as f32 / y_params.scale;
                let code = from_unsigned(steps + unsigned(y_params.zero_point), Clamp::INT8);
                y.codes.set((c * h_out + oy) * w_out + ox, code);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{int8, run};
    use crate::{
        op::{AvgPool2d, MaxPool2d, Op},
        rules::Rules,
    };

    #[test]
    fn padding_never_wins_a_maximum() {
        let (x, y) = (int8(&[1, 1, 2], 1.0, 0), int8(&[1, 1, 3], 1.0, 0));
        let op = Op::MaxPool2d(MaxPool2d { kernel: [1, 2], stride: [1, 1], padding: [0, 1, 0, 1], dilation: [1, 1] });
        assert_eq!(run(Rules::OnnxRuntime, &op, &[(&[-100, -90], &x)], &y), [-100, -90, -90]);
    }

    #[test]
    fn average_pools_round_ties_to_even_in_their_own_place() {
        // Reals 1 and 2: the mean 1.5 is a tie. Over the whole image it is rounded before the zero point 1 is added: 2 + 1.
        let whole = Op::AvgPool2d(AvgPool2d { kernel: [1, 2], stride: [1, 1], padding: [0; 4], count_include_pad: false });
        let y = run(Rules::OnnxRuntime, &whole, &[(&[1, 2], &int8(&[1, 1, 2], 1.0, 0))], &int8(&[1, 1, 1], 1.0, 1));
        assert_eq!(y, [3]);
        // With a window of part of the image the zero point comes first: 2.5 goes to 2.
        let y = run(Rules::OnnxRuntime, &whole, &[(&[1, 2, 5], &int8(&[1, 1, 3], 1.0, 0))], &int8(&[1, 1, 2], 1.0, 1));
        assert_eq!(y, [2, 4]);
    }

    #[test]
    fn raw_averages_round_ties_away_from_zero_and_divide_by_what_is_inside() {
        let info = int8(&[1, 1, 4], 1.0, 1);
        let op = Op::AvgPool2d(AvgPool2d { kernel: [1, 2], stride: [1, 1], padding: [0, 1, 0, 1], count_include_pad: false });
        for rules in [Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro] {
            let y = run(rules, &op, &[(&[1, 2, -3, -4], &info)], &int8(&[1, 1, 5], 1.0, 1));
            assert_eq!(y, [1, 2, -1, -4, -4], "{rules}");
        }
    }

    #[test]
    fn average_divisor_follows_count_include_pad() {
        for (count_include_pad, expected) in [(false, [8, 6, 4]), (true, [4, 6, 2])] {
            let op = Op::AvgPool2d(AvgPool2d { kernel: [1, 2], stride: [1, 1], padding: [0, 1, 0, 1], count_include_pad });
            let y = run(Rules::OnnxRuntime, &op, &[(&[8, 4], &int8(&[1, 1, 2], 1.0, 0))], &int8(&[1, 1, 3], 1.0, 0));
            assert_eq!(y, expected);
        }
    }
}
