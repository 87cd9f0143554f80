//! Kernels against the compositions that define them: the same values, or near ones where sums have another order; the same numbers
//! with every number of threads.

use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Slice, Tensor, TensorData};

use super::linear::{self, LinearShape};
use super::{
    Ending, Grid, Norm, RangeCodes, RangeEnds, fake_quantize, finish, max_pool2d, norm, pad, range, reference, slice, weight_step,
};
use crate::clamp::Clamp;
use crate::nn::SliceRange;
use crate::tensor::QuantTensor;

/// Seed of every draw of this file.
pub(super) const SEED: u64 = 20_261_124;

/// Numbers that follow from a seed.
pub(super) struct Draws(pub(super) u64);

impl Draws {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    /// In `[-1, 1]`.
    pub(super) fn number(&mut self) -> f32 {
        self.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0
    }

    pub(super) fn tensor<const D: usize>(&mut self, shape: [usize; D], device: &Device) -> Tensor<D> {
        self.scaled(shape, 1.0, 0.0, device)
    }

    /// In `shift ± factor`.
    pub(super) fn scaled<const D: usize>(&mut self, shape: [usize; D], factor: f32, shift: f32, device: &Device) -> Tensor<D> {
        let numbers: Vec<f32> = (0..shape.iter().product()).map(|_| self.number() * factor + shift).collect();
        Tensor::from_data(TensorData::new(numbers, shape), device)
    }
}

pub(super) fn values<const D: usize>(x: &Tensor<D>) -> Vec<f32> {
    x.clone().into_data().try_to_vec().expect("numbers of f32")
}

/// Largest difference, as a share of the largest expected number.
pub(super) fn distance(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

/// What follows an operation.
#[derive(Clone, Copy, Debug)]
enum After {
    Clamp(Clamp),
    Grid(Grid),
    Range(Grid, RangeCodes, [f32; 2]),
}

impl After {
    /// With the numbers of its grid, which have gradients.
    fn ending(self, scale: f32, zero: Option<f32>, device: &Device) -> (Ending, Vec<Tensor<1>>) {
        let number = |number: f32| Tensor::<1>::from_floats([number], device).require_grad();
        match self {
            Self::Clamp(clamp) => (Ending::Clamp(clamp), Vec::new()),
            Self::Grid(grid) => {
                let (scale, zero) = (number(scale), zero.map(number));
                let numbers = [Some(scale.clone()), zero.clone()].into_iter().flatten().collect();
                (Ending::Grid { grid, scale, zero }, numbers)
            }
            Self::Range(grid, codes, ends) => {
                let [min, max] = ends.map(number);
                (super::range_ending(grid, min.clone(), max.clone(), codes), vec![min, max])
            }
        }
    }
}

/// A convolution whose input is on no grid.
fn conv2d(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, options: ConvOptions<2>) -> Tensor<4> {
    super::conv2d(QuantTensor::float(x), weight, bias, options)
}

/// A convolution with its operands' shapes.
#[derive(Clone, Debug)]
struct Problem {
    x: [usize; 4],
    weight: [usize; 4],
    has_bias: bool,
    options: ConvOptions<2>,
}

impl Problem {
    fn draw(draws: &mut Draws) -> Self {
        let groups = [1, 1, 1, 2, 3][draws.below(5)];
        let (inputs, outputs) = (1 + draws.below(5), 1 + draws.below(10));
        let kernel = [1 + draws.below(4), 1 + draws.below(4)];
        let dilation = [1 + draws.below(2), 1 + draws.below(2)];
        let stride = [1 + draws.below(3), 1 + draws.below(3)];
        let padding = [(draws.below(3), draws.below(3)), (draws.below(3), draws.below(3))];
        let size = [0, 1].map(|axis| (kernel[axis] - 1) * dilation[axis] + 1 + draws.below(20));
        Self {
            x: [1 + draws.below(5), inputs * groups, size[0], size[1]],
            weight: [outputs * groups, inputs, kernel[0], kernel[1]],
            has_bias: draws.below(2) == 0,
            options: ConvOptions { stride, padding, dilation, groups },
        }
    }

    /// One of the networks' own: batch, channels in and out, size, kernel, stride, padding and groups.
    fn of([n, c_in, c_out, size, k, stride, padding, groups]: [usize; 8]) -> Self {
        Self {
            x: [n, c_in, size, size],
            weight: [c_out, c_in / groups, k, k],
            has_bias: true,
            options: ConvOptions::new([stride; 2], [padding; 2], [1, 1], groups),
        }
    }

    /// Output, and gradients of input, weight and bias for a given gradient of the output.
    fn run(
        &self,
        conv: impl Fn(Tensor<4>, Tensor<4>, Option<Tensor<1>>, ConvOptions<2>) -> Tensor<4>,
        seed: u64,
    ) -> Vec<Vec<f32>> {
        let device = Device::flex().autodiff();
        let mut draws = Draws(seed);
        let x = draws.tensor(self.x, &device).require_grad();
        let weight = draws.tensor(self.weight, &device).require_grad();
        let bias = self.has_bias.then(|| draws.tensor([self.weight[0]], &device).require_grad());
        let y = conv(x.clone(), weight.clone(), bias.clone(), self.options.clone());
        let weights = draws.tensor(y.dims(), &device);
        let gradients = (y.clone() * weights).sum().backward();
        let mut found = vec![values(&y), values(&x.grad(&gradients).unwrap()), values(&weight.grad(&gradients).unwrap())];
        found.extend(bias.map(|bias| values(&bias.grad(&gradients).unwrap())));
        found
    }

    fn check(&self, seed: u64) {
        let expected = self.run(burn::tensor::module::conv2d, seed);
        for (what, (got, expected)) in self.run(conv2d, seed).iter().zip(&expected).enumerate() {
            let distance = distance(got, expected);
            assert!(distance < 1e-5, "{self:?}, seed {seed}, result {what}: {distance}");
        }
    }
}

#[test]
fn convolutions_are_near_burns_with_every_geometry() {
    let mut draws = Draws(SEED);
    for seed in 0..150 {
        Problem::draw(&mut draws).check(seed);
    }
}

#[test]
fn convolutions_of_the_networks_are_near_burns() {
    for problem in [
        [3, 1, 12, 28, 5, 1, 0, 1],
        [3, 12, 24, 12, 5, 1, 0, 1],
        [5, 3, 16, 32, 3, 1, 1, 1],
        [5, 16, 16, 32, 3, 1, 1, 1],
        [5, 16, 32, 32, 3, 2, 1, 1],
        [40, 32, 64, 16, 3, 2, 1, 1],
        [40, 64, 64, 8, 3, 1, 1, 1],
        [5, 16, 32, 32, 1, 2, 0, 1],
        [5, 64, 64, 14, 3, 1, 1, 64],
        [5, 64, 64, 14, 3, 2, 1, 64],
        [5, 64, 96, 8, 1, 1, 0, 1],
        [5, 20, 30, 7, 1, 1, 0, 1],
        [1, 64, 64, 7, 3, 1, 1, 64],
        [3, 128, 128, 2, 3, 2, 1, 128],
        [2, 8, 8, 16, 3, 1, 1, 8],
        [4, 128, 256, 1, 1, 1, 0, 1],
        [1, 32, 64, 4, 1, 1, 0, 1],
        [1, 16, 32, 32, 1, 2, 0, 1],
        [2, 64, 64, 5, 3, 2, 1, 1],
    ] {
        Problem::of(problem).check(SEED);
    }
}

#[test]
fn what_has_no_gradient_gets_none() {
    let device = Device::flex().autodiff();
    let mut draws = Draws(SEED);
    let x = draws.tensor([2, 3, 6, 6], &device);
    let weight = draws.tensor([4, 3, 3, 3], &device).require_grad();
    let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let gradients = conv2d(x.clone(), weight.clone(), None, options()).sum().backward();
    assert!(x.grad(&gradients).is_none() && weight.grad(&gradients).is_some());
    let constant = conv2d(x.clone(), weight.clone().detach(), None, options());
    assert!(!constant.is_require_grad());
    // A weight without a graph is a constant to an input that has one.
    let x = x.require_grad();
    let gradients = conv2d(x.clone(), weight.inner(), None, options()).sum().backward();
    assert!(x.grad(&gradients).is_some());
}

#[test]
fn gradients_from_codes_are_those_from_numbers() {
    let device = Device::flex().autodiff();
    for (scale, high) in [(0.02f32, 127.0f64), (0.02, 1e4)] {
        let gradients = |kept: Option<f32>| {
            let mut draws = Draws(SEED);
            let x = draws.scaled([5, 3, 9, 7], 3.0, 0.0, &device);
            let x = ((x / f64::from(scale)).round().clamp(-128.0, high) * f64::from(scale)).require_grad();
            let weight = draws.tensor([4, 3, 3, 3], &device).require_grad();
            let options = ConvOptions::new([2, 1], [1, 1], [1, 1], 1);
            let kept = kept.map(|scale| Tensor::from_floats([scale], &device));
            let y = super::conv2d(QuantTensor { tensor: x.clone(), scale: kept }, weight.clone(), None, options);
            let gradients = (y.clone() * y).sum().backward();
            [values(&x.grad(&gradients).unwrap()), values(&weight.grad(&gradients).unwrap())]
        };
        let expected = gradients(None);
        // A step that the numbers are not multiples of changes nothing either.
        for kept in [scale, scale * 1.01, 0.0] {
            assert_eq!(gradients(Some(kept)), expected, "kept by {kept}, step {scale} up to {high}");
        }
    }
}

#[test]
fn convolutions_of_nothing_are_burns() {
    let device = Device::flex();
    let weight = Tensor::<4>::ones([4, 3, 3, 3], &device);
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let y = conv2d(Tensor::zeros([0, 3, 6, 6], &device), weight, None, options);
    assert_eq!(y.dims(), [0, 4, 6, 6]);
}

/// Bounds that may stand before a quantizer.
const CLAMPS: [Clamp; 5] =
    [Clamp::NONE, Clamp::RELU, Clamp::RELU6, Clamp { min: -0.4, max: 0.3 }, Clamp { min: f32::NEG_INFINITY, max: 0.5 }];

/// Everything that a quantizer does not treat as the numbers between.
fn special(scale: f32) -> Vec<f32> {
    let halves = (-12..=12).map(|i| i as f32 * 0.5 * scale);
    let steps = (-9..=9).map(|i| i as f32 * scale);
    let mut numbers: Vec<f32> = halves.chain(steps).collect();
    numbers.extend([0.0, -0.0, 0.3, -0.4, 0.5, 6.0, 1e-45, -1e-45, 1e30, -1e30, f32::MAX, f32::MIN]);
    let neighbours: Vec<f32> = numbers.iter().flat_map(|x| [x.next_up(), x.next_down()]).filter(|x| x.is_finite()).collect();
    numbers.extend(neighbours);
    numbers
}

/// Output, and gradients of numbers, steps and zero points, of a fake quantization of `x` after its axes were swapped, if so.
fn quantized(
    kernel: bool,
    x: &TensorData,
    scale: &[f32],
    zero: &Option<Vec<f32>>,
    axis: Option<usize>,
    grid: Grid,
    swapped: bool,
) -> Vec<Vec<f32>> {
    let device = Device::flex().autodiff();
    let x = Tensor::<3>::from_data(x.clone(), &device).require_grad();
    let scale = Tensor::<1>::from_floats(scale, &device).require_grad();
    let zero = zero.as_ref().map(|zero| Tensor::<1>::from_floats(zero.as_slice(), &device).require_grad());
    let input = if swapped { x.clone().swap_dims(0, 2) } else { x.clone() };
    let y = match kernel {
        true => fake_quantize(input, scale.clone(), zero.clone(), axis, grid),
        false => reference::fake_quantize(input, scale.clone(), zero.clone(), axis, grid),
    };
    let weights = Draws(SEED).tensor(y.dims(), &device);
    let gradients = (y.clone() * weights).sum().backward();
    let mut found = vec![values(&y), values(&x.grad(&gradients).unwrap()), values(&scale.grad(&gradients).unwrap())];
    found.extend(zero.map(|zero| values(&zero.grad(&gradients).unwrap())));
    found
}

fn check_quantized(x: &TensorData, scale: &[f32], zero: Option<Vec<f32>>, axis: Option<usize>, grid: Grid, swapped: bool) {
    let expected = quantized(false, x, scale, &zero, axis, grid, swapped);
    let got = quantized(true, x, scale, &zero, axis, grid, swapped);
    let place = format!("shape {:?}, axis {axis:?}, {grid:?}, zero {}", x.shape(), zero.is_some());
    assert_eq!(got[0], expected[0], "{place}: values");
    for (what, (got, expected)) in got.iter().zip(&expected).enumerate().skip(1) {
        // The composition takes the difference of two sums for a step, each much larger than it.
        let tolerance = if what == 2 { 5e-3 } else { 1e-5 };
        let distance = distance(got, expected);
        assert!(distance < tolerance, "{place}, gradient {what}: {distance}");
    }
}

#[test]
fn fake_quantization_equals_the_composition() {
    let mut draws = Draws(SEED);
    for clamp in CLAMPS {
        for (zero, [low, high]) in
            [(None, [-7.0, 7.0]), (Some(3.0), [-8.0, 7.0]), (None, [0.0, 255.0]), (Some(-128.0), [-128.0, 127.0])]
        {
            let grid = Grid::new(low, high).after(clamp);
            let scale = 0.0371;
            // Beside the largest numbers, the sums of the others would not be seen.
            let mut numbers: Vec<f32> = special(scale).into_iter().filter(|x| x.abs() < 10.0).collect();
            numbers.extend((0..90_000).map(|_| draws.number()));
            let length = numbers.len();
            let x = TensorData::new(numbers, [1, length, 1]);
            check_quantized(&x, &[scale], zero.map(|zero| vec![zero]), None, grid, false);
        }
    }
}

#[test]
fn channels_have_their_own_steps_on_every_axis() {
    let mut draws = Draws(SEED);
    for (shape, axis) in [
        ([5, 3, 40], 0),
        ([5, 3, 40], 1),
        ([5, 3, 40], 2),
        ([70, 200, 10], 1),
        ([2, 1, 50_000], 0),
        ([3, 4, 1], 1),
        ([1, 7, 5], 0),
    ] {
        for swapped in [false, true] {
            let device = Device::flex();
            let x = draws.tensor(shape, &device).into_data();
            let count = if swapped { [shape[2], shape[1], shape[0]][axis] } else { shape[axis] };
            let scale: Vec<f32> = (0..count).map(|_| 0.05 + 0.04 * draws.number()).collect();
            let zero = vec![2.0; count];
            check_quantized(&x, &scale, Some(zero), Some(axis), Grid::new(-8.0, 7.0), swapped);
            check_quantized(&x, &scale, None, Some(axis), Grid::new(-7.0, 7.0), swapped);
        }
    }
}

#[test]
fn what_is_no_number_is_treated_alike() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        let mut numbers = special(0.1);
        numbers.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        let x = Tensor::<1>::from_floats(numbers.as_slice(), &device);
        let scale = || Tensor::<1>::from_floats([0.1], &device);
        for clamp in CLAMPS {
            let grid = Grid { keeps_infinity: !device.is_autodiff(), ..Grid::new(-8.0, 7.0).after(clamp) };
            let zero = Tensor::<1>::from_floats([-3.0], &device);
            let got = values(&fake_quantize(x.clone(), scale(), Some(zero.clone()), None, grid));
            let expected = values(&reference::fake_quantize(x.clone(), scale(), Some(zero), None, grid));
            for ((x, got), expected) in numbers.iter().zip(got).zip(expected) {
                assert!(got == expected || got.is_nan() && expected.is_nan(), "{clamp:?}, {x}: expected {expected}, found {got}");
            }
        }
    }
    let empty = fake_quantize(
        Tensor::<2>::zeros([0, 3], &Device::flex()),
        Tensor::ones([1], &Device::flex()),
        None,
        None,
        Grid::new(-8.0, 7.0),
    );
    assert_eq!(empty.dims(), [0, 3]);
}

/// What is normalized.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Itself,
    Folded,
    Unfolded,
}

const FORMS: [Form; 3] = [Form::Itself, Form::Folded, Form::Unfolded];

/// Output, statistics, and gradients of everything, of a batch norm.
fn normalized(kernel: bool, shape: [usize; 4], form: Form, after: After, zero: Option<f32>) -> Vec<Vec<f32>> {
    let device = Device::flex().autodiff();
    let mut draws = Draws(SEED);
    let channels = [shape[1]];
    let z = draws.scaled(shape, 2.0, 0.7, &device).require_grad();
    let y: Vec<f32> = values(&z).iter().map(|z| 1.3 * z + 0.02 * draws.number()).collect();
    let y = Tensor::<4>::from_data(TensorData::new(y, shape), &device).require_grad();
    let gamma = draws.tensor(channels, &device).require_grad();
    let beta = draws.tensor(channels, &device).require_grad();
    let sigma = draws.scaled(channels, 0.2, 1.0, &device);
    let (ending, numbers) = after.ending(0.021, zero, &device);
    let signs = draws.scaled(channels, 0.1, 0.4, &device) * Tensor::<1>::from_floats([-1.0], &device);
    let folded = (form == Form::Folded).then(|| (y.clone(), sigma));
    let unfold = (form == Form::Unfolded).then_some(signs);
    let operands = Norm { gamma: gamma.clone(), beta: beta.clone(), epsilon: 1e-2, folded, unfold };
    let run = if kernel { norm } else { reference::norm };
    let (out, (mean, variance)) = run(z.clone(), operands, ending);
    let weights = draws.tensor(shape, &device);
    let gradients = (out.clone() * weights).sum().backward();
    let mut found = vec![values(&out), values(&mean), values(&variance)];
    found.push(values(&z.grad(&gradients).unwrap()));
    found.extend(y.grad(&gradients).map(|dy| values(&dy)));
    found.push(values(&gamma.grad(&gradients).unwrap()));
    found.push(values(&beta.grad(&gradients).unwrap()));
    found.extend(numbers.iter().map(|number| values(&number.grad(&gradients).unwrap())));
    found
}

#[test]
fn batch_norm_is_near_the_composition() {
    for shape in [[6, 5, 7, 9], [33, 4, 1, 1], [4, 3, 32, 32], [1, 2, 3, 3]] {
        for form in FORMS {
            for clamp in [Clamp::NONE, Clamp::RELU, Clamp::RELU6] {
                let expected = normalized(false, shape, form, After::Clamp(clamp), None);
                let got = normalized(true, shape, form, After::Clamp(clamp), None);
                assert_eq!(got.len(), expected.len());
                for (what, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    let distance = distance(got, expected);
                    assert!(distance < 2e-5, "{shape:?}, {form:?}, {clamp:?}, result {what}: {distance}");
                }
            }
        }
    }
}

#[test]
fn a_grid_after_batch_norm_is_the_composition_of_the_two() {
    for shape in [[6, 5, 7, 9], [4, 3, 32, 32]] {
        for form in FORMS {
            for (zero, clamp, [low, high]) in [(None, Clamp::RELU, [0.0, 60.0]), (Some(5.0), Clamp::NONE, [-32.0, 31.0])] {
                let after = After::Grid(Grid::new(low, high).after(clamp));
                let expected = normalized(false, shape, form, after, zero);
                let got = normalized(true, shape, form, after, zero);
                assert_eq!(got.len(), expected.len());
                // A number at the edge of two codes, or of the range, may fall to either side: by a step each, and few of them.
                let off = got[0].iter().zip(&expected[0]).filter(|(a, b)| a != b).count();
                assert!(off * 1000 <= got[0].len(), "{shape:?}: {off} codes of {} differ", got[0].len());
                assert!(got[0].iter().zip(&expected[0]).all(|(a, b)| (a - b).abs() < 0.022));
                for (what, (got, expected)) in got.iter().zip(&expected).enumerate().skip(1) {
                    let distance = distance(got, expected);
                    assert!(distance < 2e-3, "{shape:?}, {form:?}, zero {zero:?}, result {what}: {distance}");
                }
            }
        }
    }
}

/// Output, and gradients of both operands, step and zero point, of a sum and what follows it.
fn finished(kernel: bool, numbers: [&[f32]; 2], shapes: [[usize; 3]; 2], after: After, zero: Option<f32>) -> Vec<Vec<f32>> {
    let device = Device::flex().autodiff();
    let operand = |i: usize| Tensor::<3>::from_data(TensorData::new(numbers[i].to_vec(), shapes[i]), &device).require_grad();
    let (x, y) = (operand(0), (!numbers[1].is_empty()).then(|| operand(1)));
    let (ending, of_grid) = after.ending(0.0371, zero, &device);
    let run = if kernel { finish } else { reference::finish };
    let out = run(x.clone(), y.clone(), ending);
    let weights = Draws(SEED).tensor(out.dims(), &device);
    let gradients = (out.clone() * weights).sum().backward();
    let mut found = vec![values(&out), values(&x.grad(&gradients).unwrap())];
    found.extend(y.and_then(|y| y.grad(&gradients)).map(|dy| values(&dy)));
    found.extend(of_grid.iter().map(|number| values(&number.grad(&gradients).unwrap())));
    found
}

#[test]
fn sums_and_what_follows_them_equal_the_composition() {
    let mut draws = Draws(SEED);
    let mut x: Vec<f32> = special(0.0371).into_iter().filter(|x| x.abs() < 10.0).collect();
    x.extend((0..90_000).map(|_| draws.number()));
    let full = [1, x.len(), 1];
    let y: Vec<f32> = x.iter().map(|x| if draws.below(4) == 0 { 0.0 } else { 0.5 * draws.number() - 0.25 * x }).collect();
    let operands: [(&[f32], [usize; 3]); 3] = [(&[], full), (&y, full), (&y[..1], [1, 1, 1])];
    let grids = [(None, Grid::new(-7.0, 7.0)), (Some(-3.0), Grid::new(-8.0, 7.0)), (None, Grid::new(0.0, 255.0))];
    for (y, shape) in operands {
        for clamp in CLAMPS {
            let grids = grids.map(|(zero, grid)| (zero, After::Grid(grid.after(clamp))));
            let codes = RangeCodes { quant_min: -8.0, steps: 15.0, min_scale: 1e-6, limit: 6.0, ends: RangeEnds::Both };
            let range = After::Range(Grid::new(-8.0, 7.0).after(clamp), codes, [-0.3, 0.25]);
            for (zero, after) in [(None, After::Clamp(clamp)), (None, range)].into_iter().chain(grids) {
                let expected = finished(false, [&x, y], [full, shape], after, zero);
                let got = finished(true, [&x, y], [full, shape], after, zero);
                assert_eq!(got.len(), expected.len());
                assert_eq!(got[0], expected[0], "{shape:?}, {after:?}: values");
                for (what, (got, expected)) in got.iter().zip(&expected).enumerate().skip(1) {
                    // The composition takes the difference of two sums for a step, each much larger than it.
                    let tolerance = if got.len() == 1 { 5e-3 } else { 1e-5 };
                    let distance = distance(got, expected);
                    assert!(distance < tolerance, "{shape:?}, {after:?}, zero {zero:?}, gradient {what}: {distance}");
                }
            }
        }
    }
}

#[test]
fn ranges_equal_the_composition() {
    let device = Device::flex().autodiff();
    // The gradients of both ends for those of step and zero point, after both.
    let of_ends = |[low, high]: [f32; 2], codes: RangeCodes| {
        let end = |end: f32| Tensor::<1>::from_floats([end], &device).require_grad();
        let (scale, zero) = range(end(low), end(high), codes);
        let mut found = vec![values(&scale)];
        found.extend(zero.map(|zero| values(&zero)));
        found.extend(codes.gradients(low, high, 3.0, 0.7).map(|gradient| vec![gradient]));
        found
    };
    let of_composition = |[low, high]: [f32; 2], codes: RangeCodes| {
        let ends = [low, high].map(|end| Tensor::<1>::from_floats([end], &device).require_grad());
        let [min, max] = &ends;
        let (scale, zero) = reference::range(min.clone(), max.clone(), codes);
        let mut found = vec![values(&scale)];
        let mut loss = scale * 3.0;
        if let Some(zero) = zero {
            found.push(values(&zero));
            loss = loss + zero * 0.7;
        }
        let gradients = loss.backward();
        // The composition has none where an end does not take part; that is 0.
        found.extend(ends.map(|end| end.grad(&gradients).map_or(vec![0.0], |gradient| values(&gradient))));
        found
    };
    let numbers = [-1.7f32, -0.3, -1e-9, 0.0, 1e-9, 0.2, 1.7, 5.9, 6.0, 7.0];
    for ends in [RangeEnds::Upper, RangeEnds::Both, RangeEnds::Farther] {
        for limit in [6.0, f32::INFINITY] {
            for steps in [15.0, 255.0] {
                let codes = RangeCodes { quant_min: -8.0, steps, min_scale: 1e-6, limit, ends };
                for bounds in numbers.iter().flat_map(|min| numbers.map(|max| [*min, max])) {
                    let (got, expected) = (of_ends(bounds, codes), of_composition(bounds, codes));
                    let count = got.len() - 2;
                    assert_eq!(got[..count], expected[..count], "{bounds:?}, {codes:?}: values");
                    // Those of a zero point are differences of numbers of this size.
                    let size = 3.0 / steps + 0.7 / got[0][0];
                    for (got, expected) in got[count..].iter().zip(&expected[count..]) {
                        let tolerance = 1e-5 * expected[0].abs() + 1e-6 * size;
                        assert!(
                            (got[0] - expected[0]).abs() <= tolerance,
                            "{bounds:?}, {codes:?}: {got:?}, expected {expected:?}"
                        );
                    }
                }
                let nothing = [f32::NAN, f32::NAN];
                let (got, expected) = (of_ends(nothing, codes), of_composition(nothing, codes));
                assert_eq!(got[0][0].is_nan(), expected[0][0].is_nan(), "{codes:?}");
            }
        }
    }
}

#[test]
fn steps_follow_the_largest_weights_as_the_composition_does() {
    let device = Device::flex().autodiff();
    for (shape, axis) in [([16, 3, 25], Some(0)), ([40, 1, 30], Some(2)), ([2, 70, 600], Some(1)), ([5, 6, 7], None)] {
        let weight = Draws(SEED).tensor(shape, &device).require_grad();
        for weight in [weight.clone(), weight.swap_dims(0, 2)] {
            let axis = axis.filter(|axis| *axis < 3);
            let (got, expected) = (weight_step(weight.clone(), axis, 7.0, 0.1), reference::weight_step(weight, axis, 7.0, 0.1));
            assert_eq!(values(&got), values(&expected), "{shape:?}, {axis:?}");
            assert!(!got.is_require_grad());
        }
    }
}

#[test]
fn pads_and_slices_are_burns() {
    let device = Device::flex().autodiff();
    let whole = |end: usize| SliceRange { start: 0, end, step: 1 };
    let shape = [9, 6, 14, 15];
    let x = || Draws(SEED).tensor(shape, &device).require_grad();
    let check = |what: &str, x: [Tensor<4>; 2], y: [Tensor<4>; 2]| {
        let weights = Draws(SEED).tensor(y[0].dims(), &device);
        let [got, expected] = [0, 1].map(|i| {
            let gradients = (y[i].clone() * weights.clone()).sum().backward();
            (y[i].dims(), values(&y[i]), values(&x[i].grad(&gradients).unwrap()))
        });
        assert!(got == expected, "{what}");
    };
    for padding in [[(0, 0), (5, 5), (0, 0), (0, 0)], [(0, 0), (1, 0), (2, 3), (0, 4)], [(0, 0); 4]] {
        let operands = [x(), x()];
        let results = [pad(operands[0].clone(), padding), operands[1].clone().pad(padding, 0.0)];
        check(&format!("{padding:?}"), operands, results);
    }
    let stepped = |start, end, step| SliceRange { start, end, step };
    for ranges in [
        [whole(6), stepped(0, 14, 2), stepped(0, 15, 2)],
        [stepped(1, 5, 3), stepped(3, 4, 1), stepped(2, 15, 4)],
        [whole(6), whole(14), whole(15)],
    ] {
        let slices: [Slice; 4] = std::array::from_fn(|axis| match axis.checked_sub(1).map(|axis| ranges[axis]) {
            Some(SliceRange { start, end, step }) => Slice::new(start as isize, Some(end as isize), step as isize),
            None => Slice::full(),
        });
        let operands = [x(), x()];
        let results = [slice(operands[0].clone(), &ranges), operands[1].clone().slice(slices)];
        check(&format!("{ranges:?}"), operands, results);
    }
    // Fewer axes, and an axis that is not in order.
    let x = Draws(SEED).tensor([70, 11, 30], &device);
    let ranges = [stepped(2, 9, 2), stepped(1, 30, 3)];
    let turned = x.clone().swap_dims(1, 2).swap_dims(1, 2);
    assert_eq!(
        values(&slice(turned, &ranges)),
        values(&x.clone().slice([0..70, 2..9, 1..30]).slice([Slice::full(), Slice::new(0, None, 2), Slice::new(0, None, 3)]))
    );
    let row = x.reshape([70, 330]);
    assert_eq!(values(&pad(row.clone(), [(0, 0), (3, 1)])), values(&row.pad([(0, 0), (3, 1)], 0.0)));
}

#[test]
fn max_pools_are_burns() {
    let device = Device::flex().autodiff();
    for (shape, kernel, stride) in [
        ([3, 5, 24, 24], [2, 2], [2, 2]),
        ([2, 3, 9, 11], [3, 2], [2, 3]),
        ([1, 2, 7, 7], [3, 3], [1, 1]),
        ([2, 2, 3, 3], [3, 3], [2, 2]),
    ] {
        // Few values, so that there are ties.
        let mut draws = Draws(SEED);
        let numbers: Vec<f32> = (0..shape.iter().product()).map(|_| draws.below(5) as f32 - 2.0).collect();
        let run = |pool: fn(Tensor<4>, MaxPoolOptions<2>) -> Tensor<4>| {
            let x = Tensor::<4>::from_data(TensorData::new(numbers.clone(), shape), &device).require_grad();
            let y = pool(x.clone(), MaxPoolOptions { stride, ..MaxPoolOptions::new(kernel) });
            let weights = Draws(SEED).tensor(y.dims(), &device);
            let gradients = (y.clone() * weights).sum().backward();
            [values(&y), values(&x.grad(&gradients).unwrap())]
        };
        let (got, expected) = (run(max_pool2d), run(burn::tensor::module::max_pool2d));
        assert_eq!(got[0], expected[0], "{shape:?}");
        assert!(distance(&got[1], &expected[1]) < 1e-6, "{shape:?}");
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let mut found = Problem::of([9, 16, 24, 11, 3, 1, 1, 1]).run(conv2d, SEED);
            found.extend(Problem::of([7, 12, 12, 16, 3, 2, 1, 12]).run(conv2d, SEED));
            found.extend(Problem::of([1, 64, 64, 8, 3, 1, 1, 1]).run(conv2d, SEED));
            found.extend(normalized(
                true,
                [37, 5, 7, 9],
                Form::Folded,
                After::Grid(Grid::new(0.0, 60.0).after(Clamp::RELU)),
                None,
            ));
            let x = Draws(SEED).tensor([70, 200, 10], &Device::flex()).into_data();
            found.extend(quantized(true, &x, &[0.04], &Some(vec![3.0]), None, Grid::new(-8.0, 7.0), false));
            let numbers = x.as_slice::<f32>().expect("numbers of f32");
            let after = After::Grid(Grid::new(-8.0, 7.0).after(Clamp::RELU6));
            found.extend(finished(true, [numbers, numbers], [[70, 200, 10]; 2], after, Some(3.0)));
            // Products that are divided among threads, and sums of rows that are divided into parts.
            let shape = LinearShape { rows: 700, inputs: 200, outputs: 100 };
            let [x, weight] = [&numbers[..140_000], &numbers[..20_000]];
            let y = linear::linear(shape, x, weight, &numbers[..100]);
            found.push(linear::linear_input_gradient(shape, weight, &y));
            found.push(linear::linear_weight_gradient(shape, x, &y));
            found.push(linear::linear_bias_gradient(shape, &y));
            found.push(y);
            found
        })
    };
    let bits = |results: Vec<Vec<f32>>| -> Vec<u32> { results.iter().flatten().map(|x| x.to_bits()).collect() };
    let alone = bits(run(1));
    for threads in [1, 2, 3, 8] {
        assert!(bits(run(threads)) == alone, "{threads} threads gave other numbers");
    }
}
