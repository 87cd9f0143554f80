//! A layer that is one operation is the composition that defines it, of kernels both: outputs and running statistics are equal, gradients
//! equal or near where sums have another order, and the same parameters have one.

use burn::module::Param;
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData};

use super::{QuantConv2d, QuantConv2dConfig, QuantLinear, QuantLinearConfig};
use crate::clamp::Clamp;
use crate::fake_quantize::{FakeQuantize, Mode, RangeLearner, RangeSign, WeightQuantizer, WeightScale};
use crate::format::{Granularity, IntegerFormat};
use crate::observer::ObserverKind;
use crate::tensor::QuantTensor;

/// Largest difference of gradients, as a share of the largest expected one.
const TOLERANCE: f32 = 1e-5;

/// The step of the grid that inputs are on.
const INPUT_STEP: f32 = 0.0625;

/// Numbers that follow from a seed.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// In `shift ± 1`, off every grid.
    fn tensor<const D: usize>(&mut self, shape: [usize; D], shift: f32, device: &Device) -> Tensor<D> {
        let numbers: Vec<f32> =
            (0..shape.iter().product()).map(|_| self.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0 + shift).collect();
        Tensor::from_data(TensorData::new(numbers, shape), device)
    }
}

/// What a layer is made with, drawn.
#[derive(Clone, Copy, Debug)]
struct Case {
    mode: Mode,
    scale: WeightScale,
    granularity: Granularity,
    format: IntegerFormat,
    learner: RangeLearner,
    sign: RangeSign,
    output_format: IntegerFormat,
    clamp: Clamp,
    has_bias: bool,
    is_on_grid: bool,
    input_learns: bool,
    weight_learns: bool,
    is_inference: bool,
}

impl Case {
    fn draw(draws: &mut Draws) -> Self {
        let (sign, clamp) = draws.pick(&[
            (RangeSign::Any, Clamp::NONE),
            (RangeSign::NonNegative, Clamp::RELU),
            (RangeSign::Any, Clamp { min: -0.5, max: 1.0 }),
        ]);
        Self {
            mode: draws.pick(&[
                Mode::Float,
                Mode::Observe,
                Mode::Weights,
                Mode::Activations,
                Mode::Quantize,
                Mode::Quantize,
                Mode::Quantize,
            ]),
            scale: draws.pick(&[WeightScale::Max, WeightScale::Max, WeightScale::Learned, WeightScale::Mse, WeightScale::Real]),
            granularity: draws.pick(&[Granularity::PerChannel, Granularity::PerTensor]),
            format: draws.pick(&[IntegerFormat::INT8_NARROW, IntegerFormat::INT4_NARROW, IntegerFormat::INT8]),
            learner: draws.pick(&[RangeLearner::MinMax, RangeLearner::MinMax, RangeLearner::Lsq]),
            sign,
            output_format: draws.pick(&[IntegerFormat::INT8, IntegerFormat::INT16, IntegerFormat::INT4_NARROW]),
            clamp,
            has_bias: draws.below(2) == 0,
            is_on_grid: draws.below(3) > 0,
            input_learns: draws.below(4) > 0,
            weight_learns: draws.below(4) > 0,
            is_inference: draws.below(8) == 0,
        }
    }

    fn device(&self) -> Device {
        if self.is_inference { Device::flex() } else { Device::flex().autodiff() }
    }

    fn output(&self, device: &Device) -> FakeQuantize {
        let output = FakeQuantize::new(self.output_format, self.sign, ObserverKind::MinMax, device);
        output.with_range(-0.7, 1.3).with_learner(self.learner).with_mode(self.mode)
    }

    fn quantizer<const D: usize>(&self, weight: &Tensor<D>, axis: usize, device: &Device) -> WeightQuantizer {
        let (channels, elements) = (weight.dims()[axis], weight.shape().num_elements());
        WeightQuantizer::new(self.format, self.granularity, self.scale, [channels, elements / channels], device)
            .with_steps_for(weight.clone(), axis)
    }

    fn input<const D: usize>(&self, draws: &mut Draws, shape: [usize; D], device: &Device) -> QuantTensor<D> {
        let x = draws.tensor(shape, 0.2, device);
        let step = f64::from(INPUT_STEP);
        let tensor = if self.is_on_grid { (x / step).round() * step } else { x };
        let tensor = if self.is_inference { tensor } else { tensor.set_require_grad(self.input_learns) };
        QuantTensor { tensor, scale: self.is_on_grid.then(|| Tensor::from_floats([INPUT_STEP], device)) }
    }

    fn weight<const D: usize>(&self, weight: Tensor<D>) -> Param<Tensor<D>> {
        let weight = Param::from_tensor(weight);
        if self.is_inference { weight } else { weight.set_require_grad(self.weight_learns) }
    }

    fn bias(&self, draws: &mut Draws, channels: usize, device: &Device) -> Option<Param<Tensor<1>>> {
        let bias = draws.tensor([channels], 0.0, device);
        self.has_bias.then(|| Param::from_tensor(bias))
    }
}

fn values<const D: usize>(x: &Tensor<D>) -> Vec<f32> {
    x.clone().into_data().try_to_vec().expect("numbers of f32")
}

/// A gradient by name, where there is one.
type Gradient = (&'static str, Option<Vec<f32>>);

/// What a layer gives: what is to be equal, and gradients, by name.
#[derive(Debug, Default)]
struct Found {
    values: Vec<(&'static str, Vec<f32>)>,
    gradients: Vec<Gradient>,
}

impl Found {
    /// Those of an output, for a gradient that follows from its numbers.
    fn of<const D: usize>(
        case: &Case,
        y: &QuantTensor<D>,
        gradients: &dyn Fn(&burn::tensor::Gradients) -> Vec<Gradient>,
    ) -> Self {
        let mut values_of = vec![("output", values(&y.tensor))];
        values_of.extend(y.scale.as_ref().map(|scale| ("step", values(scale))));
        let weights = Draws(7).tensor(y.tensor.dims(), 0.0, &y.tensor.device());
        let loss = (y.tensor.clone() * weights).sum();
        // A layer of which nothing learns has gradients too: none.
        let tracked = || Tensor::<1>::zeros([1], &loss.device()).require_grad();
        let gradients = if case.is_inference { Vec::new() } else { gradients(&(loss.clone() + tracked()).backward()) };
        Self { values: values_of, gradients }
    }

    fn assert_is(&self, expected: &Self, tolerance: f32, what: &dyn std::fmt::Debug) {
        for ((name, got), (_, expected)) in self.values.iter().zip(&expected.values) {
            let differ = got.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            assert_eq!(differ, 0, "{what:?}: {name}, {differ} of {} numbers", got.len());
        }
        assert_eq!(self.values.len(), expected.values.len(), "{what:?}");
        assert_eq!(self.gradients.len(), expected.gradients.len(), "{what:?}");
        for ((name, got), (_, expected)) in self.gradients.iter().zip(&expected.gradients) {
            assert_eq!(got.is_some(), expected.is_some(), "{what:?}: whether {name} has a gradient");
            let (Some(got), Some(expected)) = (got, expected) else { continue };
            let largest = expected.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
            let distance = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
            assert!(distance <= tolerance, "{what:?}: {name} {distance}, {got:?} for {expected:?}");
        }
    }
}

/// A batch norm whose running statistics and parameters are drawn; some factors are negative, and one may be 0.
fn batch_norm(draws: &mut Draws, channels: usize, device: &Device) -> BatchNorm {
    let mut norm = BatchNormConfig::new(channels).with_epsilon(1e-3).init(device);
    let mut gamma = values(&draws.tensor([channels], 0.3, device));
    if draws.below(4) == 0 {
        gamma[0] = 0.0;
    }
    norm.gamma = Param::from_tensor(Tensor::from_floats(gamma.as_slice(), device));
    norm.beta = Param::from_tensor(draws.tensor([channels], 0.0, device));
    norm.running_mean.update(draws.tensor([channels], 0.0, device));
    norm.running_var.update(draws.tensor([channels], 1.5, device));
    norm
}

/// A convolution: whether it is one operation, of a case, with a batch norm that is there, or frozen.
fn convolved(as_one: bool, case: &Case, norm: Option<bool>, groups: usize, seed: u64) -> Found {
    let (device, mut draws) = (case.device(), Draws(seed));
    let per_group = draws.pick(&[1, 2, 4]);
    let (c_in, c_out) = (per_group * groups, draws.pick(&[1, 3, 5]) * groups);
    let options = ConvOptions::new([draws.pick(&[1, 2]), 1], [1, draws.below(2)], [1, 1], groups);
    let weight = draws.tensor([c_out, per_group, 3, 3], 0.0, &device);
    let quantizer = case.quantizer(&weight, 0, &device);
    let weight = case.weight(weight);
    let bias = case.bias(&mut draws, c_out, &device);
    let batch_norm = batch_norm(&mut draws, c_out, &device);
    let config = QuantConv2dConfig { options, clamp: case.clamp };
    let layer = QuantConv2d::new(weight, bias, norm.map(|_| batch_norm), quantizer, case.output(&device), config);
    let layer = layer.with_norm_frozen(norm == Some(true));
    let shape = [3, c_in, 4 + draws.below(9), 5 + draws.below(9)];
    let input = case.input(&mut draws, shape, &device);
    let takes_batch = norm == Some(false) && !case.is_inference;
    let y = if as_one {
        layer.forward_as_one(input.clone(), takes_batch, layer.codes().expect("no groups"))
    } else {
        layer.forward_composed(input.clone(), takes_batch)
    };
    let mut found = Found::of(case, &y, &|gradients| {
        let of = |x: &Tensor<1>| x.grad(gradients).map(|gradient| values(&gradient));
        let param = |param: &Param<Tensor<1>>| of(&param.val());
        let (norm, output) = (layer.norm.as_ref(), &layer.output);
        vec![
            ("input", input.tensor.grad(gradients).map(|gradient| values(&gradient))),
            ("weight", layer.weight.val().grad(gradients).map(|gradient| values(&gradient))),
            ("bias", layer.bias.as_ref().and_then(param)),
            ("γ", norm.and_then(|norm| param(&norm.gamma))),
            ("β", norm.and_then(|norm| param(&norm.beta))),
            ("reach of the weight", layer.quantizer.reach.as_ref().and_then(param)),
            ("min", param(&output.min)),
            ("max", param(&output.max)),
            ("reach", output.reach.as_ref().and_then(param)),
        ]
    });
    if let Some(norm) = &layer.norm {
        found.values.push(("running mean", values(&norm.running_mean.value_sync())));
        found.values.push(("running variance", values(&norm.running_var.value_sync())));
    }
    found
}

#[test]
fn a_convolution_as_one_operation_is_its_composition() {
    let mut draws = Draws(20_261_124);
    for norm in [None, Some(false), Some(true)] {
        for seed in 0..150 {
            let case = Case::draw(&mut draws);
            let groups = draws.pick(&[1, 1, 2, 6]);
            let [got, expected] = [true, false].map(|as_one| convolved(as_one, &case, norm, groups, seed));
            got.assert_is(&expected, TOLERANCE, &(case, norm, groups, seed));
        }
    }
}

/// A linear layer: how it is applied, of a case, to an input of so many axes.
fn multiplied<const D: usize>(how: How, case: &Case, shape: [usize; D], seed: u64) -> Found {
    let (device, mut draws) = (case.device(), Draws(seed));
    let (d_input, d_output) = (shape[D - 1], draws.pick(&[1, 3, 10]));
    let weight = draws.tensor([d_input, d_output], 0.0, &device);
    let quantizer = case.quantizer(&weight, 1, &device);
    let weight = case.weight(weight);
    let bias = case.bias(&mut draws, d_output, &device);
    let layer = QuantLinear::new(weight, bias, quantizer, case.output(&device), QuantLinearConfig { clamp: case.clamp });
    let input = case.input(&mut draws, shape, &device);
    let y = match how {
        How::One => layer.forward(input.clone()),
        How::OneWithWeight => layer.forward_with(input.clone(), layer.quantized_weight()),
        How::Composed => layer.forward_composed(input.clone(), layer.quantized_weight()),
    };
    Found::of(case, &y, &|gradients| {
        let param = |param: &Param<Tensor<1>>| param.val().grad(gradients).map(|gradient| values(&gradient));
        vec![
            ("input", input.tensor.grad(gradients).map(|gradient| values(&gradient))),
            ("weight", layer.weight.val().grad(gradients).map(|gradient| values(&gradient))),
            ("bias", layer.bias.as_ref().and_then(param)),
            ("reach of the weight", layer.quantizer.reach.as_ref().and_then(param)),
            ("min", param(&layer.output.min)),
            ("max", param(&layer.output.max)),
            ("reach", layer.output.reach.as_ref().and_then(param)),
        ]
    })
}

/// How a linear layer is applied.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    One,
    OneWithWeight,
    Composed,
}

#[test]
fn a_linear_layer_as_one_operation_is_its_composition() {
    let mut draws = Draws(20_261_125);
    for seed in 0..150 {
        let case = Case::draw(&mut draws);
        let (rows, d_input) = (draws.pick(&[1, 2, 33]), draws.pick(&[1, 7, 20]));
        let expected = multiplied(How::Composed, &case, [rows, d_input], seed);
        let expected_of_three = multiplied(How::Composed, &case, [rows, 3, d_input], seed);
        for how in [How::One, How::OneWithWeight] {
            multiplied(how, &case, [rows, d_input], seed).assert_is(&expected, TOLERANCE, &(case, how, seed));
            let of_three = multiplied(how, &case, [rows, 3, d_input], seed);
            of_three.assert_is(&expected_of_three, TOLERANCE, &(case, how, seed, "three axes"));
        }
    }
}
