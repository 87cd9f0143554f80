//! Fake quantization and its gradients, (Q90) and (Q91), as CubeCL kernels.
//!
//! Forward is one launch. Backward is one launch that gives `dx` and, of each part of a channel, the sums that the gradients of step and
//! zero point are made of; where channels are longer than one part, a second launch adds the parts. Sums run in an order that the shape
//! alone decides, so they are the same in every run on one device. Nothing is read back.
//!
//! A tensor without gaps is walked in the order it lies in memory, whatever its axes' order is: a convolution's channels-last output is
//! not copied. The result lies as `x` does.
//!
//! Operations are those of [`Quantizer`](super::super::grid::Quantizer). A division is as exact as the device's: CUDA rounds as IEEE 754
//! says, Vulkan and WebGPU allow 2.5 ulp, so that next to a tie the neighbouring code may come out. What is not finite is tested for
//! explicitly, as shader compilers may assume that there is no such number.

#![allow(
    unsafe_code,
    reason = "kernels are launched without bounds checks; every index is below the length that is passed along"
)]

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::{calculate_cube_count_elemwise, cube};

use super::super::grid::{Channels, Grid};
use super::channels::{ChannelArgs, SIDE_BY_SIDE, UNITS, channel_of_unit, cubes, in_memory, place};
use super::memory::{buffer, is_dense, lies_as, like, number_or_zero, numbers_beside};
use crate::clamp::Clamp;

/// Numbers that a unit adds before another part is begun.
const NUMBERS_OF_A_UNIT: usize = 8;

/// Cubes that a launch is divided into, at most, unless there are more channels.
const CUBES: usize = 1024;

/// A [`Grid`] as a kernel's argument.
#[derive(CubeLaunch, CubeType)]
struct GridArgs {
    low: f32,
    high: f32,
    min: f32,
    max: f32,
    /// Not a number; a kernel cannot write it as a constant.
    nan: f32,
    #[cube(comptime)]
    keeps_infinity: bool,
    /// No gradient passes at `min` either.
    #[cube(comptime)]
    is_relu: bool,
}

/// `clamp(x, a, b)` and its quotient by the step.
#[cube]
fn quotient(x: f32, scale: f32, grid: &GridArgs) -> f32 {
    let v = select(x <= grid.min, grid.min, x);
    let v = select(v > grid.max, grid.max, v);
    v / scale
}

/// The code of a rounded number, less the zero point.
#[cube]
fn code(rounded: f32, zero: f32, grid: &GridArgs) -> f32 {
    let q = rounded + zero;
    let q = select(q < grid.low, grid.low, q);
    let q = select(q > grid.high, grid.high, q);
    q - zero
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn forward_kernel(x: &[f32], scale: &[f32], zero: ComptimeOption<&[f32]>, y: &mut [f32], channels: ChannelArgs, grid: GridArgs) {
    let at = ABSOLUTE_POS;
    if at >= y.len() {
        terminate!();
    }
    let channel = if comptime![channels.is_one] { 0usize.runtime() } else { at / channels.inner % channels.count };
    let number = x[at];
    let scale = scale[channel];
    let t = quotient(number, scale, &grid);
    let on_grid = code(t.round(), number_or_zero(zero, channel), &grid) * scale;
    let is_nan = number.is_nan() || t.is_nan();
    let becomes_nan = if comptime![grid.keeps_infinity] { is_nan } else { is_nan || t.is_inf() };
    y[at] = select(becomes_nan, grid.nan, on_grid);
}

/// How the numbers of each channel are divided into parts, one for each cube.
#[derive(CubeLaunch, CubeType)]
struct PartArgs {
    /// Numbers of a channel.
    length: usize,
    /// Numbers of a part.
    part: usize,
    /// Channels that a cube sums side by side.
    #[cube(comptime)]
    width: u32,
    /// Whether a channel is one part, and its sums become the gradients.
    #[cube(comptime)]
    is_whole: bool,
}

/// Gives `dx`, and for each part and channel `[parts, channels]` the sum of the gradients of the step and that of the gradients of what
/// was clipped, 0 without zero points; where a channel is one part, the latter times `-scale`.
#[cube(launch_unchecked, address_type = "dynamic")]
fn backward_kernel(
    x: &[f32],
    dy: &[f32],
    scale: &[f32],
    zero: ComptimeOption<&[f32]>,
    dx: &mut [f32],
    of_scale: &mut [f32],
    of_zero: &mut [f32],
    channels: ChannelArgs,
    parts: PartArgs,
    grid: GridArgs,
) {
    let width = comptime![parts.width];
    let has_zero = comptime![zero.is_some()];
    let channel = channel_of_unit(width);
    let mut scale_sum = 0.0f32;
    let mut zero_sum = 0.0f32;
    if channel < channels.count {
        let step = scale[channel];
        let zero = number_or_zero(zero, channel);
        let mut index = CUBE_POS_X as usize * parts.part + (UNIT_POS / width) as usize;
        let mut end = (CUBE_POS_X as usize + 1) * parts.part;
        if end > parts.length {
            end = parts.length;
        }
        while index < end {
            let at = place(index, channel, &channels, width);
            let number = x[at];
            let gradient = dy[at];
            let t = quotient(number, step, &grid);
            let rounded = t.round();
            let q = rounded + zero;
            let is_nan = t.is_nan() || number.is_nan();
            let is_clipped = !is_nan && (q < grid.low || q > grid.high);
            let is_below = if comptime![grid.is_relu] { number <= grid.min } else { number < grid.min };
            let passes = !is_clipped && (number.is_nan() || !(is_below || number > grid.max));
            dx[at] = select(passes, gradient, 0.0f32);
            let share = code(rounded, zero, &grid) - select(is_clipped, 0.0f32, t);
            scale_sum += gradient * select(is_nan, grid.nan, share);
            if has_zero {
                zero_sum += select(is_clipped, gradient, 0.0f32);
            }
            index += comptime![(UNITS / width) as usize];
        }
    }
    let mut scale_sums = Shared::<[f32]>::new_slice(comptime![UNITS as usize]);
    let mut zero_sums = Shared::<[f32]>::new_slice(comptime![UNITS as usize]);
    scale_sums[UNIT_POS as usize] = scale_sum;
    zero_sums[UNIT_POS as usize] = zero_sum;
    sum_over_units(&mut scale_sums, &mut zero_sums, width);
    if UNIT_POS < width && channel < channels.count {
        let at = CUBE_POS_X as usize * channels.count + channel;
        of_scale[at] = scale_sums[UNIT_POS as usize];
        let clipped = zero_sums[UNIT_POS as usize];
        of_zero[at] = if comptime![parts.is_whole] { -(scale[channel] * clipped) } else { clipped };
    }
}

/// Adds the sums of all parts `[parts, channels]` of each channel, and makes the gradients of step and zero point of them.
#[cube(launch_unchecked, address_type = "dynamic")]
fn add_parts_kernel(
    scale_parts: &[f32],
    zero_parts: &[f32],
    scale: &[f32],
    d_scale: &mut [f32],
    d_zero: &mut [f32],
    parts: usize,
    #[comptime] width: u32,
) {
    let count = d_scale.len();
    let channel = channel_of_unit(width);
    let mut scale_sum = 0.0f32;
    let mut zero_sum = 0.0f32;
    if channel < count {
        let mut part = (UNIT_POS / width) as usize;
        while part < parts {
            scale_sum += scale_parts[part * count + channel];
            zero_sum += zero_parts[part * count + channel];
            part += comptime![(UNITS / width) as usize];
        }
    }
    let mut scale_sums = Shared::<[f32]>::new_slice(comptime![UNITS as usize]);
    let mut zero_sums = Shared::<[f32]>::new_slice(comptime![UNITS as usize]);
    scale_sums[UNIT_POS as usize] = scale_sum;
    zero_sums[UNIT_POS as usize] = zero_sum;
    sum_over_units(&mut scale_sums, &mut zero_sums, width);
    if UNIT_POS < width && channel < count {
        d_scale[channel] = scale_sums[UNIT_POS as usize];
        d_zero[channel] = -(scale[channel] * zero_sums[UNIT_POS as usize]);
    }
}

/// Adds the numbers of all units of a cube that are a multiple of `width` apart; the first `width` hold the sums.
#[cube]
pub(super) fn sum_over_units(a: &mut Shared<[f32]>, b: &mut Shared<[f32]>, #[comptime] width: u32) {
    let unit = UNIT_POS;
    let mut half = comptime![UNITS / 2].runtime();
    sync_cube();
    while half >= width {
        if unit < half {
            let other_a = a[(unit + half) as usize];
            let other_b = b[(unit + half) as usize];
            a[unit as usize] += other_a;
            b[unit as usize] += other_b;
        }
        half /= 2;
        sync_cube();
    }
}

impl Grid {
    fn args(self) -> GridArgsLaunch {
        let Self { low, high, clamp, keeps_infinity } = self;
        GridArgsLaunch::new(low, high, clamp.min, clamp.max, f32::NAN, keeps_infinity, clamp == Clamp::RELU)
    }
}

/// The fake-quantized numbers of `x`; `scale` and `zero` hold one number for each channel.
pub(in super::super) fn fake_quantize(
    x: CubeTensor,
    scale: CubeTensor,
    zero: Option<CubeTensor>,
    channels: Channels,
    grid: Grid,
) -> CubeTensor {
    let numbers = x.shape().num_elements();
    if numbers == 0 {
        return x;
    }
    let x = if is_dense(&x) { x } else { into_contiguous(x) };
    let channels = in_memory(&x, channels);
    let y = like(&x);
    let cube_dim = CubeDim::new(&x.client, numbers);
    let cube_count = calculate_cube_count_elemwise(&x.client, numbers, cube_dim);
    let address = x.required_address_type();
    // SAFETY: all indices are below the number of numbers or of channels.
    unsafe {
        forward_kernel::launch_unchecked(
            &y.client.clone(),
            cube_count,
            cube_dim,
            address,
            buffer(x),
            buffer(scale),
            zero.map(buffer).into(),
            buffer(y.clone()),
            channels.args(),
            grid.args(),
        );
    }
    y
}

/// The gradients of [`fake_quantize`]: of `x`, and for each channel of `scale` and of the zero point; the latter are 0 where there are no
/// zero points.
pub(in super::super) fn fake_quantize_gradients(
    x: CubeTensor,
    dy: CubeTensor,
    scale: CubeTensor,
    zero: Option<CubeTensor>,
    channels: Channels,
    grid: Grid,
) -> [CubeTensor; 3] {
    let client = scale.client.clone();
    if x.shape().num_elements() == 0 {
        let none = || zeros_client(client.clone(), scale.device.clone(), Shape::new([channels.count]), DType::F32);
        return [x, none(), none()];
    }
    let Sums { dx, of_scale, of_zero, parts } = sums(x, dy, scale.clone(), zero, channels, grid, true);
    if parts == 1 {
        return [dx, of_scale, of_zero];
    }
    let [d_scale, d_zero] = [(); 2].map(|()| numbers_beside(&scale, channels.count));
    // The sums of a part lie side by side.
    let width = if channels.count == 1 { 1 } else { SIDE_BY_SIDE };
    // SAFETY: all indices are below the number of channels, or of parts times channels.
    unsafe {
        add_parts_kernel::launch_unchecked(
            &client,
            cubes(1, channels.count.div_ceil(width as usize)),
            CubeDim::new_1d(UNITS),
            of_scale.required_address_type(),
            buffer(of_scale),
            buffer(of_zero),
            buffer(scale),
            buffer(d_scale.clone()),
            buffer(d_zero.clone()),
            parts,
            width,
        );
    }
    [dx, d_scale, d_zero]
}

/// What the numbers of a tensor give: their gradients, and for each part and channel `[parts, channels]` the sum of the gradients of the
/// step and that of the gradients of what was clipped.
pub(super) struct Sums {
    pub dx: CubeTensor,
    pub of_scale: CubeTensor,
    pub of_zero: CubeTensor,
    pub parts: usize,
}

/// The gradients of `x`, which is not empty, and what those of step and zero point are made of; where `is_final` and there is one part,
/// these gradients themselves.
pub(super) fn sums(
    x: CubeTensor,
    dy: CubeTensor,
    scale: CubeTensor,
    zero: Option<CubeTensor>,
    channels: Channels,
    grid: Grid,
    is_final: bool,
) -> Sums {
    let (x, dy) = if is_dense(&x) && lies_as(&x, &dy) { (x, dy) } else { (into_contiguous(x), into_contiguous(dy)) };
    let channels = in_memory(&x, channels);
    let length = x.shape().num_elements() / channels.count;
    let width = channels.width();
    let groups = channels.count.div_ceil(width as usize);
    let units = (UNITS / width) as usize;
    let parts = length.div_ceil(units * NUMBERS_OF_A_UNIT).min(CUBES / groups).max(1);
    let part = length.div_ceil(parts);
    let dx = like(&x);
    let [of_scale, of_zero] = [(); 2].map(|()| numbers_beside(&scale, parts * channels.count));
    let (client, address) = (x.client.clone(), x.required_address_type());
    // SAFETY: all indices are below the number of numbers, of channels, or of parts times channels.
    unsafe {
        backward_kernel::launch_unchecked(
            &client,
            cubes(parts, groups),
            CubeDim::new_1d(UNITS),
            address,
            buffer(x),
            buffer(dy),
            buffer(scale),
            zero.map(buffer).into(),
            buffer(dx.clone()),
            buffer(of_scale.clone()),
            buffer(of_zero.clone()),
            channels.args(),
            PartArgsLaunch::new(length, part, width, is_final && parts == 1),
            grid.args(),
        );
    }
    Sums { dx, of_scale, of_zero, parts }
}

#[cfg(test)]
mod tests {
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;
    use burn_cubecl::ops::{into_data_sync, permute};
    use burn_cubecl::{CubeBackend, CubeDevice};

    use super::super::super::grid;
    use super::super::super::tests::{Draws, SEED};
    use super::*;

    /// A tensor by its axes, the channels', and a grid with or without zero points.
    #[derive(Clone, Debug)]
    struct Problem {
        shape: Vec<usize>,
        axis: Option<usize>,
        has_zero: bool,
        grid: Grid,
    }

    /// Operands of a [`Problem`]; none of its numbers is so near a tie that another division would change the code.
    struct Operands {
        x: Vec<f32>,
        dy: Vec<f32>,
        scale: Vec<f32>,
        zero: Vec<f32>,
    }

    impl Problem {
        fn channels(&self) -> Channels {
            match self.axis {
                Some(axis) => Channels { count: self.shape[axis], inner: self.shape[axis + 1..].iter().product() },
                None => Channels { count: 1, inner: self.shape.iter().product() },
            }
        }

        fn draw(&self, draws: &mut Draws) -> Operands {
            let Channels { count, inner } = self.channels();
            let numbers: usize = self.shape.iter().product();
            let levels = self.grid.high - self.grid.low;
            let scale: Vec<f32> = (0..count).map(|_| 0.01 + 0.1 * draws.number().abs()).collect();
            let zero: Vec<f32> = if self.has_zero {
                (0..count).map(|_| draws.below(levels as usize + 1) as f32 + self.grid.low).collect()
            } else {
                vec![]
            };
            let mut x = Vec::with_capacity(numbers);
            for at in 0..numbers {
                let channel = at / inner % count;
                // From below the lowest to above the highest code.
                let code = self.grid.low - 2.0 + (levels + 4.0) * (0.5 + 0.5 * draws.number());
                let code = code - zero.get(channel).copied().unwrap_or(0.0);
                let from_tie = (code - code.floor() - 0.5).abs();
                let code = if from_tie < 1e-3 { code + 0.01 } else { code };
                x.push(code * scale[channel]);
            }
            let dy = (0..numbers).map(|_| draws.number()).collect();
            Operands { x, dy, scale, zero }
        }
    }

    fn tensor(numbers: &[f32], shape: &[usize]) -> CubeTensor {
        CubeBackend::float_from_data(TensorData::new(numbers.to_vec(), shape.to_vec()), &CubeDevice::default())
    }

    fn operand(numbers: &[f32]) -> CubeTensor {
        tensor(numbers, &[numbers.len()])
    }

    fn zeros(numbers: &[f32]) -> Option<CubeTensor> {
        (!numbers.is_empty()).then(|| operand(numbers))
    }

    fn values(tensor: CubeTensor) -> Vec<f32> {
        into_data_sync(tensor).try_to_vec().expect("numbers of f32")
    }

    /// What `x` and `dy`, which may lie in any order, give: y, dx and the gradients of step and zero point.
    fn run(problem: &Problem, x: CubeTensor, dy: CubeTensor, operands: &Operands) -> [Vec<f32>; 4] {
        let (scale, zero) = (operand(&operands.scale), zeros(&operands.zero));
        let y = fake_quantize(x.clone(), scale.clone(), zero.clone(), problem.channels(), problem.grid);
        let [dx, d_scale, d_zero] = fake_quantize_gradients(x, dy, scale, zero, problem.channels(), problem.grid);
        [y, dx, d_scale, d_zero].map(values)
    }

    fn check(problem: &Problem, seed: u64) {
        let operands = problem.draw(&mut Draws(seed));
        let Operands { x, dy, scale, zero } = &operands;
        let (channels, grid) = (problem.channels(), problem.grid);
        let expected_y = grid::fake_quantize(x, scale, zero, channels, grid);
        let expected = grid::fake_quantize_gradients(x, dy, scale, zero, channels, grid);
        let found = run(problem, tensor(x, &problem.shape), tensor(dy, &problem.shape), &operands);
        let again = run(problem, tensor(x, &problem.shape), tensor(dy, &problem.shape), &operands);
        assert!(found == again, "{problem:?}, seed {seed}: two runs differ");
        let [y, dx, d_scale, d_zero] = found;
        let differ = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        assert_eq!(differ(&y, &expected_y), 0, "{problem:?}, seed {seed}: codes that differ");
        assert_eq!(differ(&dx, &expected.dx), 0, "{problem:?}, seed {seed}: gradients that differ");
        let near = |what: &str, found: &[f32], expected: &[f32]| {
            assert_eq!(found.len(), channels.count);
            for (channel, (found, expected)) in found.iter().zip(expected).enumerate() {
                // Each term is at most the highest code.
                let allowed = 2e-6 * grid.high.abs().max(grid.low.abs()) * (x.len() / channels.count) as f32;
                let error = (found - expected).abs();
                assert!(error <= allowed, "{problem:?}, seed {seed}, {what}[{channel}]: expected {expected}, found {found}");
            }
        };
        near("d_scale", &d_scale, &expected.d_scale);
        near("d_zero", &d_zero, &expected.d_zero);
    }

    fn grids() -> [Grid; 5] {
        [
            Grid::new(-128.0, 127.0),
            Grid::new(-7.0, 7.0),
            Grid::new(0.0, 15.0),
            Grid::new(0.0, 255.0).after(Clamp::RELU),
            Grid::new(-128.0, 127.0).after(Clamp { min: -0.5, max: 0.75 }),
        ]
    }

    #[test]
    fn tensors_of_one_step_get_the_codes_and_gradients_of_the_host() {
        for (number, grid) in grids().into_iter().enumerate() {
            for (size, numbers) in [1, 31, 256, 2049, 100_003, 1_000_000].into_iter().enumerate() {
                for has_zero in [false, true] {
                    let seed = SEED + (number * 100 + size * 2) as u64 + u64::from(has_zero);
                    check(&Problem { shape: vec![numbers], axis: None, has_zero, grid }, seed);
                }
            }
        }
    }

    #[test]
    fn channels_get_the_codes_and_gradients_of_the_host() {
        let shapes: [(&[usize], usize); 12] = [
            (&[7, 1], 1),
            (&[5, 2], 1),
            (&[300, 31], 1),
            (&[1000, 32], 1),
            (&[9, 33], 1),
            (&[4000, 130], 1),
            (&[130, 9], 0),
            (&[64, 3, 3, 3], 0),
            (&[16, 12, 5, 5], 1),
            (&[2, 3, 70, 70], 1),
            (&[3, 40_000], 0),
            (&[1, 129, 1, 1], 1),
        ];
        for (number, grid) in grids().into_iter().enumerate() {
            for (index, (shape, axis)) in shapes.into_iter().enumerate() {
                let problem = Problem { shape: shape.to_vec(), axis: Some(axis), has_zero: index % 2 == 0, grid };
                check(&problem, SEED + 10_000 + (number * 100 + index) as u64);
            }
        }
    }

    #[test]
    fn any_order_in_memory_gives_the_same() {
        let grid = Grid::new(-128.0, 127.0);
        for axis in [None, Some(0), Some(1), Some(3)] {
            let problem = Problem { shape: vec![4, 6, 10, 5], axis, has_zero: true, grid };
            let operands = problem.draw(&mut Draws(SEED + 20_000));
            let contiguous = |numbers: &[f32]| tensor(numbers, &problem.shape);
            let channels_last = |numbers: &[f32]| {
                let moved = into_contiguous(permute(contiguous(numbers), &[0, 2, 3, 1]));
                permute(moved, &[0, 3, 1, 2])
            };
            assert!(!channels_last(&operands.x).is_contiguous());
            let (x, dy) = (&operands.x, &operands.dy);
            let [y, dx, d_scale, d_zero] = run(&problem, contiguous(x), contiguous(dy), &operands);
            for (x, dy) in
                [(channels_last(x), channels_last(dy)), (channels_last(x), contiguous(dy)), (contiguous(x), channels_last(dy))]
            {
                let found = run(&problem, x, dy, &operands);
                assert!(found[0] == y && found[1] == dx, "axis {axis:?}");
                for (found, expected) in found[2].iter().zip(&d_scale).chain(found[3].iter().zip(&d_zero)) {
                    assert!((found - expected).abs() < 1e-2, "axis {axis:?}: expected {expected}, found {found}");
                }
            }
        }
    }

    #[test]
    fn a_tensor_without_numbers_has_gradients_of_zero() {
        let problem = Problem { shape: vec![0, 3], axis: Some(1), has_zero: true, grid: Grid::new(-8.0, 7.0) };
        let operands = Operands { x: vec![], dy: vec![], scale: vec![0.1; 3], zero: vec![0.0; 3] };
        let found = run(&problem, tensor(&[], &[0, 3]), tensor(&[], &[0, 3]), &operands);
        assert_eq!(found, [vec![], vec![], vec![0.0; 3], vec![0.0; 3]]);
    }

    #[test]
    fn ties_go_to_even() {
        // A quotient by a power of two is exact on every device.
        let x: Vec<f32> = (-9..9).map(|k| (k as f32 + 0.5) * 0.25).collect();
        let y =
            fake_quantize(operand(&x), operand(&[0.25]), None, Channels { count: 1, inner: x.len() }, Grid::new(-128.0, 127.0));
        let expected: Vec<f32> = x.iter().map(|x| (x / 0.25).round_ties_even() * 0.25).collect();
        assert_eq!(values(y), expected);
    }

    #[test]
    fn what_is_not_finite_is_as_on_the_host() {
        let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0, 1e38, -1e38, 0.0, -0.0];
        let dy = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];
        let channels = Channels { count: 1, inner: x.len() };
        let equal = |a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len());
            assert!(a.iter().zip(b).all(|(a, b)| a == b || (a.is_nan() && b.is_nan())), "expected {b:?}, found {a:?}");
        };
        for clamp in [Clamp::NONE, Clamp::RELU, Clamp::RELU6] {
            for keeps_infinity in [false, true] {
                for scale in [0.5, f32::NAN] {
                    let grid = Grid { keeps_infinity, ..Grid::new(-128.0, 127.0).after(clamp) };
                    let y = fake_quantize(operand(&x), operand(&[scale]), None, channels, grid);
                    equal(&values(y), &grid::fake_quantize(&x, &[scale], &[], channels, grid));
                    let found = fake_quantize_gradients(operand(&x), operand(&dy), operand(&[scale]), None, channels, grid);
                    let expected = grid::fake_quantize_gradients(&x, &dy, &[scale], &[], channels, grid);
                    for (found, expected) in found.into_iter().zip([&expected.dx, &expected.d_scale, &expected.d_zero]) {
                        equal(&values(found), expected);
                    }
                }
            }
        }
    }
}
