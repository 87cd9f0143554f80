//! Step and zero point of a learned range, and the gradients of its ends, (Q2), (Q3), (Q8), (Q60), as one launch each.
//!
//! Operations are those of [`RangeCodes`], which tests hold them against.

#![allow(unsafe_code, reason = "kernels are launched without bounds checks; every index is below the number of parts, or 0")]

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cube;
use cubecl::prelude::*;

use super::super::backend::RangeValue;
use super::super::grid::{Channels, Grid};
use super::super::range::{RangeCodes, RangeEnds};
use super::channels::UNITS;
use super::fake_quantize::{Sums, sum_over_units, sums};
use super::memory::{buffer, numbers_beside};

/// [`RangeCodes`] as a kernel's argument.
#[derive(CubeLaunch, CubeType)]
struct RangeArgs {
    quant_min: f32,
    steps: f32,
    min_scale: f32,
    limit: f32,
    /// Not a number; a kernel cannot write it as a constant.
    nan: f32,
    #[cube(comptime)]
    ends: RangeEnds,
    /// No gradient passes to an upper end of 0 either.
    #[cube(comptime)]
    is_relu: bool,
}

/// The lower end as it counts.
#[cube]
fn low_end(min: f32) -> f32 {
    select(min > 0.0, 0.0f32, min)
}

/// The upper end as it counts.
#[cube]
fn high_end(max: f32, range: &RangeArgs) -> f32 {
    let high = select(max <= 0.0, 0.0f32, max);
    select(high > range.limit, range.limit, high)
}

/// The length that is divided into steps.
#[cube]
fn length(low: f32, high: f32, range: &RangeArgs) -> f32 {
    if comptime![range.ends == RangeEnds::Upper] {
        high
    } else if comptime![range.ends == RangeEnds::Both] {
        high - low
    } else {
        select(high < -low, -low, high)
    }
}

#[cube]
fn step(low: f32, high: f32, range: &RangeArgs) -> f32 {
    let step = length(low, high, range) / range.steps;
    select(step < range.min_scale, range.min_scale, step)
}

#[cube(launch_unchecked)]
fn value_kernel(min: &[f32], max: &[f32], value: &mut [f32], range: RangeArgs, #[comptime] is_step: bool) {
    if ABSOLUTE_POS == 0 {
        let low = low_end(min[0]);
        let step = step(low, high_end(max[0], &range), &range);
        value[0] = if comptime![is_step] {
            step
        } else {
            let t = low / step;
            select(t.is_nan() || t.is_inf(), range.nan, range.quant_min - t.round())
        };
    }
}

/// Adds the sums of all parts, and makes the gradients of both ends of them; rounding passes that of the zero point straight through.
#[cube(launch_unchecked, address_type = "dynamic")]
fn gradients_kernel(
    scale_parts: &[f32],
    zero_parts: &[f32],
    min: &[f32],
    max: &[f32],
    d_min: &mut [f32],
    d_max: &mut [f32],
    parts: usize,
    range: RangeArgs,
) {
    let mut scale_sum = 0.0f32;
    let mut zero_sum = 0.0f32;
    let mut part = UNIT_POS as usize;
    while part < parts {
        scale_sum += scale_parts[part];
        zero_sum += zero_parts[part];
        part += comptime![UNITS as usize];
    }
    let mut scale_sums = Shared::<[f32]>::new_slice(comptime![UNITS as usize]);
    let mut zero_sums = Shared::<[f32]>::new_slice(comptime![UNITS as usize]);
    scale_sums[UNIT_POS as usize] = scale_sum;
    zero_sums[UNIT_POS as usize] = zero_sum;
    sum_over_units(&mut scale_sums, &mut zero_sums, 1u32);
    if UNIT_POS == 0 {
        let low = low_end(min[0]);
        let high = high_end(max[0], &range);
        let step = step(low, high, &range);
        let mut of_step = scale_sums[0];
        let mut of_low = 0.0f32;
        if comptime![range.ends == RangeEnds::Both] {
            // The zero point's gradient is -step times the sum of what was clipped.
            of_low = zero_sums[0];
            of_step -= zero_sums[0] * low / step;
        }
        let d = select(length(low, high, &range) / range.steps < range.min_scale, 0.0f32, of_step / range.steps);
        let mut of_high = d;
        if comptime![range.ends == RangeEnds::Both] {
            of_low -= d;
        }
        if comptime![range.ends == RangeEnds::Farther] {
            let is_low = high < -low;
            of_low = select(is_low, -d, 0.0f32);
            of_high = select(is_low, 0.0f32, d);
        }
        let is_below = if comptime![range.is_relu] { max[0] <= 0.0 } else { max[0] < 0.0 };
        d_min[0] = select(min[0] > 0.0, 0.0f32, of_low);
        d_max[0] = select(is_below || max[0] > range.limit, 0.0f32, of_high);
    }
}

impl RangeCodes {
    fn args(self) -> RangeArgsLaunch {
        let Self { quant_min, steps, min_scale, limit, ends } = self;
        RangeArgsLaunch::new(quant_min, steps, min_scale, limit, f32::NAN, ends, limit == f32::INFINITY)
    }
}

/// The step or the zero point of a range, all of shape `[1]`.
pub(in super::super) fn range_value(min: CubeTensor, max: CubeTensor, codes: RangeCodes, value: RangeValue) -> CubeTensor {
    let found = numbers_beside(&min, 1);
    // SAFETY: every tensor has one number.
    unsafe {
        value_kernel::launch_unchecked(
            &found.client.clone(),
            CubeCount::new_single(),
            CubeDim::new_1d(1),
            buffer(min),
            buffer(max),
            buffer(found.clone()),
            codes.args(),
            matches!(value, RangeValue::Step),
        );
    }
    found
}

/// The gradients of [`fake_quantize`](super::fake_quantize::fake_quantize) by a range: of `x`, and of both ends, `[1]`; `scale` and `zero`
/// are those of the range.
pub(in super::super) fn range_quantize_gradients(
    x: CubeTensor,
    dy: CubeTensor,
    [min, max]: [CubeTensor; 2],
    scale: CubeTensor,
    zero: Option<CubeTensor>,
    codes: RangeCodes,
    grid: Grid,
) -> [CubeTensor; 3] {
    let numbers = x.shape().num_elements();
    if numbers == 0 {
        let none = || zeros_client(min.client.clone(), min.device.clone(), Shape::new([1]), DType::F32);
        return [x, none(), none()];
    }
    let Sums { dx, of_scale, of_zero, parts } = sums(x, dy, scale, zero, Channels { count: 1, inner: numbers }, grid, false);
    let [d_min, d_max] = add_parts(of_scale, of_zero, parts, [min, max], codes);
    [dx, d_min, d_max]
}

/// The gradients of both ends for the sums of all parts: of the gradients of the step, and of those of what was clipped.
fn add_parts(
    of_scale: CubeTensor,
    of_zero: CubeTensor,
    parts: usize,
    [min, max]: [CubeTensor; 2],
    codes: RangeCodes,
) -> [CubeTensor; 2] {
    let [d_min, d_max] = [(); 2].map(|()| numbers_beside(&min, 1));
    // SAFETY: all indices are below the number of parts, or 0.
    unsafe {
        gradients_kernel::launch_unchecked(
            &d_min.client.clone(),
            CubeCount::new_single(),
            CubeDim::new_1d(UNITS),
            of_scale.required_address_type(),
            buffer(of_scale),
            buffer(of_zero),
            buffer(min),
            buffer(max),
            buffer(d_min.clone()),
            buffer(d_max.clone()),
            parts,
            codes.args(),
        );
    }
    [d_min, d_max]
}

#[cfg(test)]
mod tests {
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;
    use burn_cubecl::ops::into_data_sync;
    use burn_cubecl::{CubeBackend, CubeDevice};

    use super::*;

    #[test]
    fn values_and_gradients_are_those_of_the_host() {
        let tensor = |number: f32| CubeBackend::float_from_data(TensorData::new(vec![number], [1]), &CubeDevice::default());
        let number = |tensor: CubeTensor| into_data_sync(tensor).try_to_vec::<f32>().expect("numbers of f32")[0];
        let ranges =
            [(-1.03, 2.5), (-3.1, 0.7), (0.4, 5.0), (-2.2, -0.3), (0.0, 0.0), (-1e-12, 1e-12), (-7.3, 9.0), (f32::NAN, 1.0)];
        for ends in [RangeEnds::Upper, RangeEnds::Both, RangeEnds::Farther] {
            for limit in [f32::INFINITY, 6.0] {
                let codes = RangeCodes { quant_min: -128.0, steps: 255.0, min_scale: 1e-8, limit, ends };
                for (min, max) in ranges {
                    // Of 700 parts.
                    let (d_step, clipped) = (0.37f32, 0.21f32);
                    let d_zero = -codes.step(min, max) * clipped;
                    let near = |what: &str, found: CubeTensor, expected: f32, part: f32| {
                        let found = number(found);
                        let is_near = (found - expected).abs() <= 1e-5 * expected.abs() + 1e-6 * part;
                        let is_same = is_near || (found.is_nan() && expected.is_nan());
                        assert!(is_same, "{codes:?}, {min} to {max}, {what}: expected {expected}, found {found}");
                    };
                    let value = |value| range_value(tensor(min), tensor(max), codes, value);
                    near("step", value(RangeValue::Step), codes.step(min, max), 0.0);
                    if ends == RangeEnds::Both {
                        near("zero point", value(RangeValue::ZeroPoint), codes.zero(min, max).expect("both ends"), 0.0);
                    }
                    let parts = |sum: f32| {
                        let data = TensorData::new(vec![sum / 700.0; 700], [700]);
                        CubeBackend::float_from_data(data, &CubeDevice::default())
                    };
                    let found = add_parts(parts(d_step), parts(clipped), 700, [tensor(min), tensor(max)], codes);
                    for (end, (found, expected)) in found.into_iter().zip(codes.gradients(min, max, d_step, d_zero)).enumerate() {
                        near(["d_min", "d_max"][end], found, expected, 10.0 * clipped);
                    }
                }
            }
        }
    }
}
