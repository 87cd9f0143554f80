//! Step and zero point of a learned range, and the gradients of its ends, (Q2), (Q3), (Q8), (Q60), as launches of one unit.
//!
//! Operations are those of [`RangeCodes`], which tests hold them against.

#![allow(unsafe_code, reason = "kernels are launched without bounds checks; every tensor has one number")]

use burn::tensor::{DType, Shape};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cube;
use cubecl::prelude::*;

use super::super::backend::RangeValue;
use super::super::range::{RangeCodes, RangeEnds};
use super::memory::buffer;

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

/// The gradients of both ends for those of the step and of the zero point; rounding passes the latter straight through.
#[cube(launch_unchecked)]
fn gradients_kernel(
    min: &[f32],
    max: &[f32],
    d_step: &[f32],
    d_zero: &[f32],
    d_min: &mut [f32],
    d_max: &mut [f32],
    range: RangeArgs,
) {
    if ABSOLUTE_POS == 0 {
        let low = low_end(min[0]);
        let high = high_end(max[0], &range);
        let step = step(low, high, &range);
        let mut of_step = d_step[0];
        let mut of_low = 0.0f32;
        if comptime![range.ends == RangeEnds::Both] {
            of_low = -(d_zero[0] / step);
            of_step += d_zero[0] * low / step / step;
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

fn like_end(end: &CubeTensor) -> CubeTensor {
    empty_device_contiguous_dtype(end.client.clone(), end.device.clone(), Shape::new([1]), DType::F32)
}

/// The step or the zero point of a range, all of shape `[1]`.
pub(in super::super) fn range_value(min: CubeTensor, max: CubeTensor, codes: RangeCodes, value: RangeValue) -> CubeTensor {
    let found = like_end(&min);
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

/// The gradients of both ends, all of shape `[1]`.
pub(in super::super) fn range_gradients(
    min: CubeTensor,
    max: CubeTensor,
    d_step: CubeTensor,
    d_zero: CubeTensor,
    codes: RangeCodes,
) -> [CubeTensor; 2] {
    let (d_min, d_max) = (like_end(&min), like_end(&max));
    // SAFETY: every tensor has one number.
    unsafe {
        gradients_kernel::launch_unchecked(
            &d_min.client.clone(),
            CubeCount::new_single(),
            CubeDim::new_1d(1),
            buffer(min),
            buffer(max),
            buffer(d_step),
            buffer(d_zero),
            buffer(d_min.clone()),
            buffer(d_max.clone()),
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
                    let (d_step, d_zero) = (0.37, -0.021);
                    // Gradients are differences of parts that may be much larger.
                    let part = (d_zero / codes.step(min, max)).abs();
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
                    let found = range_gradients(tensor(min), tensor(max), tensor(d_step), tensor(d_zero), codes);
                    for (end, (found, expected)) in found.into_iter().zip(codes.gradients(min, max, d_step, d_zero)).enumerate() {
                        near(["d_min", "d_max"][end], found, expected, part);
                    }
                }
            }
        }
    }
}
