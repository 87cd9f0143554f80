//! The learned range learns: gradients of a fake-quantizer's `min`, `max` and input, and what training them alone does to a loss.
//!
//! Each gradient is compared with the closed form of (Q8), with central finite differences of the straight-through surrogate, in
//! which every `round(v)` is `v` plus the rounding error at the base point, and, where the two agree, with finite differences of the
//! quantizer itself. They agree only for clipped values: for a range that begins at 0, and along a common scaling of both ends, which
//! moves no zero point. Elsewhere the true function is a staircase, and the surrogate is the point of the method.

mod draws;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use draws::Draws;
use qat::{FakeQuantize, IntegerFormat, Mode, ObserverKind, QConfig, QParams, QatLayer, QatModel, RangeSign};

const FORMAT: IntegerFormat = IntegerFormat::INT8;
const N: f64 = 255.0;

/// One quantizer and one number that passes through it.
#[derive(Clone, Copy, Debug)]
struct Problem {
    sign: RangeSign,
    min: f32,
    max: f32,
    x: f32,
}

/// Where `x` lies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Below,
    Inside,
    Above,
}

/// Derivatives of the output.
#[derive(Clone, Copy, Debug)]
struct Gradient {
    min: f64,
    max: f64,
    x: f64,
}

impl Problem {
    /// What the quantizer's own autodiff says; a parameter without a gradient counts as 0.
    fn autodiff(self, upstream: f32) -> Gradient {
        let device = Device::flex().autodiff();
        let quantizer = FakeQuantize::new(FORMAT, self.sign, ObserverKind::MinMax, &device)
            .with_range(self.min, self.max)
            .with_mode(Mode::Quantize);
        let x = Tensor::<1>::from_floats([self.x], &device).require_grad();
        let gradients = (quantizer.forward(x.clone()).tensor * upstream).sum().backward();
        let of = |tensor: Tensor<1>| tensor.grad(&gradients).map_or(0.0, |g| f64::from(g.into_scalar::<f32>()));
        Gradient { min: of(quantizer.min.val()), max: of(quantizer.max.val()), x: of(x) }
    }

    fn low(self) -> f64 {
        if self.sign == RangeSign::NonNegative { 0.0 } else { f64::from(self.min.min(0.0)) }
    }

    fn scale(self) -> f64 {
        (f64::from(self.max.max(0.0)) - self.low()) / N
    }

    /// Code above the lowest one, before clipping.
    fn code(self) -> f64 {
        (f64::from(self.x) / self.scale()).round_ties_even() - (self.low() / self.scale()).round_ties_even()
    }

    fn place(self) -> Place {
        match self.code() {
            code if code < 0.0 => Place::Below,
            code if code > N => Place::Above,
            _ => Place::Inside,
        }
    }

    /// Whether f32 could round another way than f64 does: within 0.01 steps of a tie.
    fn is_near_a_tie(self) -> bool {
        [f64::from(self.x) / self.scale(), self.low() / self.scale()].iter().any(|v| ((v - v.floor()) - 0.5).abs() < 0.01)
    }

    /// (Q8).
    fn closed_form(self) -> Gradient {
        let u = f64::from(self.x) / self.scale();
        let inside = (u.round_ties_even() - u) / N;
        let v = self.low() / self.scale();
        let e = v.round_ties_even() - v;
        let (min, max, x) = match self.place() {
            Place::Inside => (-inside, inside, 1.0),
            Place::Above => (-e / N, 1.0 + e / N, 0.0),
            Place::Below => (1.0 - e / N, e / N, 0.0),
        };
        let min_learns = self.sign == RangeSign::Any && self.min < 0.0;
        Gradient { min: if min_learns { min } else { 0.0 }, max: if self.max > 0.0 { max } else { 0.0 }, x }
    }

    /// `s · (clamp(round(x / s) + z) − z)` in f64 at other numbers, `round` given.
    fn value(self, [min, max, x]: [f64; 3], round: impl Fn(f64, f64) -> f64) -> f64 {
        let low = if self.sign == RangeSign::NonNegative { 0.0 } else { min.min(0.0) };
        let scale = (max.max(0.0) - low) / N;
        let zero = round(low / scale, self.low() / self.scale());
        let code = round(x / scale, f64::from(self.x) / self.scale()) - zero;
        scale * (code.clamp(0.0, N) + zero)
    }

    /// Central difference along `direction` of the numbers `[min, max, x]`.
    fn difference(self, direction: [f64; 3], round: impl Fn(f64, f64) -> f64 + Copy) -> f64 {
        const H: f64 = 1e-6;
        let base = [f64::from(self.min), f64::from(self.max), f64::from(self.x)];
        let at = |h: f64| self.value(std::array::from_fn(|i| base[i] + h * direction[i]), round);
        (at(H) - at(-H)) / (2.0 * H)
    }
}

/// `v`, plus the rounding error at the base point.
fn frozen(v: f64, base: f64) -> f64 {
    v + (base.round_ties_even() - base)
}

/// The rounding of the quantizer itself.
fn real(v: f64, _: f64) -> f64 {
    v.round_ties_even()
}

fn problems(seed: u64) -> Vec<Problem> {
    let mut draws = Draws::new(seed);
    let mut problems = Vec::new();
    while problems.len() < 400 {
        let sign = if draws.bits() & 1 == 0 { RangeSign::Any } else { RangeSign::NonNegative };
        let (min, max) = (draws.uniform(-4.0, 0.5), draws.uniform(0.1, 4.0));
        let x = draws.uniform(-6.0, 6.0);
        let problem = Problem { sign, min, max, x };
        // The derivative has a kink where the range's end meets 0.
        if !problem.is_near_a_tie() && min.abs() > 0.01 {
            problems.push(problem);
        }
    }
    problems
}

fn assert_near(what: &str, problem: Problem, found: f64, expected: f64, tolerance: f64) -> f64 {
    let error = (found - expected).abs();
    assert!(error <= tolerance, "{what}, {problem:?} ({:?}): expected {expected}, found {found}", problem.place());
    error
}

#[test]
fn gradients_are_those_of_the_closed_form() {
    let mut worst = 0.0f64;
    let mut places = [0; 3];
    for problem in problems(0x5eed_0001) {
        let (found, expected) = (problem.autodiff(1.0), problem.closed_form());
        for (what, found, expected) in
            [("dmin", found.min, expected.min), ("dmax", found.max, expected.max), ("dx", found.x, expected.x)]
        {
            worst = worst.max(assert_near(what, problem, found, expected, 2e-6));
        }
        places[problem.place() as usize] += 1;
    }
    println!("largest error {worst:.1e}; below, inside, above: {places:?}");
    assert!(places.iter().all(|count| *count > 40), "{places:?}");
}

#[test]
fn gradients_scale_with_the_gradient_of_the_output() {
    for problem in problems(0x5eed_0002).into_iter().take(50) {
        let expected = problem.closed_form();
        let found = problem.autodiff(-3.0);
        assert_near("dmin", problem, found.min, -3.0 * expected.min, 6e-6);
        assert_near("dmax", problem, found.max, -3.0 * expected.max, 6e-6);
        assert_near("dx", problem, found.x, -3.0 * expected.x, 6e-6);
    }
}

#[test]
fn gradients_are_those_of_the_straight_through_surrogate() {
    let mut compared = 0;
    for problem in problems(0x5eed_0003) {
        // At the lowest and the highest code the surrogate has the kink of its clamp.
        if problem.code() == 0.0 || problem.code() == N {
            continue;
        }
        let found = problem.autodiff(1.0);
        let of = |direction| problem.difference(direction, frozen);
        assert_near("dmin", problem, found.min, of([1.0, 0.0, 0.0]), 5e-6);
        assert_near("dmax", problem, found.max, of([0.0, 1.0, 0.0]), 5e-6);
        assert_near("dx", problem, found.x, of([0.0, 0.0, 1.0]), 5e-6);
        compared += 1;
    }
    assert!(compared > 300, "{compared}");
}

#[test]
fn gradients_of_clipped_values_are_those_of_the_quantizer_itself_where_no_zero_point_moves() {
    let (mut from_zero, mut scaled) = (0, 0);
    for problem in problems(0x5eed_0004).into_iter().filter(|problem| problem.place() != Place::Inside) {
        let found = problem.autodiff(1.0);
        if problem.low() == 0.0 {
            assert_near("dmin", problem, found.min, problem.difference([1.0, 0.0, 0.0], real), 5e-6);
            assert_near("dmax", problem, found.max, problem.difference([0.0, 1.0, 0.0], real), 5e-6);
            from_zero += 1;
        }
        let (min, max) = (f64::from(problem.min), f64::from(problem.max));
        let common = found.min * min + found.max * max;
        assert_near("common scaling", problem, common, problem.difference([min, max, 0.0], real), 1e-5);
        scaled += 1;
    }
    assert!(from_zero > 20 && scaled > 100, "{from_zero} {scaled}");
}

#[test]
fn ends_of_the_range_keep_their_gradient_up_to_half_a_step_outside() {
    let step = 2.0f32 / 255.0;
    let at = |steps: f32| Problem { sign: RangeSign::NonNegative, min: 0.0, max: 2.0, x: steps * step }.autodiff(1.0).x;
    assert_eq!([at(-0.6), at(-0.4), at(0.0), at(255.0), at(255.4), at(255.6)], [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
}

#[test]
fn infinities_saturate_in_inference_and_stop_a_training_and_nan_does_in_both() {
    let (low, high) = QParams::affine(-1.0, 3.0, FORMAT).real_range();
    let values = |device: Device| -> Vec<f32> {
        let quantizer = FakeQuantize::new(FORMAT, RangeSign::Any, ObserverKind::MinMax, &device)
            .with_range(-1.0, 3.0)
            .with_mode(Mode::Quantize);
        let x = Tensor::<1>::from_floats([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e35, -1e35], &device);
        quantizer.forward(x).tensor.into_data().try_to_vec().unwrap()
    };
    let inference = values(Device::flex());
    assert!(inference[0].is_nan());
    assert_eq!(inference[1..], [high, low, high, low]);
    let training = values(Device::flex().autodiff());
    assert!(training[..3].iter().all(|y| y.is_nan()), "{training:?}");
    assert_eq!(training[3..], [high, low]);
}

#[derive(Module, Debug)]
struct Mlp {
    hidden: Linear,
    logits: Linear,
}

impl Mlp {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.logits.forward(relu(self.hidden.forward(x)))
    }
}

#[derive(Module, Debug)]
struct ConvNet {
    conv: Conv2d,
    norm: BatchNorm,
    logits: Linear,
}

impl ConvNet {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.conv.forward(x)));
        self.logits.forward(x.flatten(1, 3))
    }
}

/// Trains nothing but ranges, which begin too narrow by `factor`, to reproduce the float model's outputs; gives all losses.
fn train_ranges<const I: usize>(model: QatModel, batch: Tensor<I>, target: Tensor<2>, factor: f32, steps: usize) -> Vec<f32> {
    let narrow = |quantizer: FakeQuantize| {
        let (min, max) = quantizer.range();
        let mut quantizer = quantizer.with_range(min * factor, max * factor);
        quantizer.min = quantizer.min.set_require_grad(true);
        quantizer.max = quantizer.max.set_require_grad(true);
        quantizer
    };
    let mut model = model.freeze();
    model.layers = model
        .layers
        .into_iter()
        .map(|layer| match layer {
            QatLayer::Conv2d(mut conv) => {
                conv.output = narrow(conv.output);
                QatLayer::Conv2d(conv)
            }
            QatLayer::Linear(mut linear) => {
                linear.output = narrow(linear.output);
                QatLayer::Linear(linear)
            }
            layer => layer,
        })
        .collect();
    let mut model = model.train();
    let before = weights(&model);
    let ranges_before: Vec<_> = model.quantizers().iter().map(|(_, _, quantizer)| quantizer.range()).collect();

    let device = batch.device().autodiff();
    let (batch, target) = (batch.to_device(&device), target.to_device(&device));
    let mut optimizer = AdamConfig::new().init();
    let mut losses = Vec::new();
    for _ in 0..steps {
        let loss = (model.forward::<I, 2>(batch.clone()) - target.clone()).square().mean();
        losses.push(loss.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.02, model, gradients);
    }

    assert_eq!(before, weights(&model), "weights changed");
    let ranges: Vec<_> = model.quantizers().iter().map(|(_, _, quantizer)| quantizer.range()).collect();
    assert_eq!(ranges_before[0], ranges[0], "the input's range is fixed");
    assert!(ranges_before[1..].iter().zip(&ranges[1..]).all(|(before, after)| before != after), "{ranges_before:?} {ranges:?}");
    losses
}

/// Bits of all weights, biases and statistics.
fn weights(model: &QatModel) -> Vec<u32> {
    let mut bits = Vec::new();
    let mut put = |data: burn::tensor::TensorData| bits.extend(data.iter::<f32>().map(f32::to_bits));
    for layer in &model.layers {
        match layer {
            QatLayer::Conv2d(conv) => {
                put(conv.weight.val().into_data());
                if let Some(bias) = &conv.bias {
                    put(bias.val().into_data());
                }
                if let Some(norm) = &conv.norm {
                    put(norm.gamma.val().into_data());
                    put(norm.beta.val().into_data());
                    put(norm.running_mean.value_sync().into_data());
                    put(norm.running_var.value_sync().into_data());
                }
            }
            QatLayer::Linear(linear) => {
                put(linear.weight.val().into_data());
                if let Some(bias) = &linear.bias {
                    put(bias.val().into_data());
                }
            }
            _ => {}
        }
    }
    bits
}

fn assert_learnt(losses: &[f32]) {
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    let rises = losses.windows(2).filter(|pair| pair[1] > pair[0]).count();
    println!("loss {first} to {last} in {} steps, {rises} of them upwards", losses.len());
    assert!(last < 0.8 * first, "loss {first} to {last}");
    assert!(rises * 4 < losses.len(), "{rises} of {} steps went upwards", losses.len());
}

#[test]
fn ranges_alone_learn_in_a_perceptron() {
    let device = Device::flex();
    device.seed(11);
    let mut draws = Draws::new(0x5eed_0005);
    let net = Mlp { hidden: LinearConfig::new(8, 16).init(&device), logits: LinearConfig::new(16, 4).init(&device) };
    let batch = draws.tensor([64, 8], -1.0, 1.0, &device);
    let model = QatModel::prepare(&net, [1, 8], &QConfig::int8(), Mlp::forward).unwrap().with_mode(Mode::Observe);
    let target: Tensor<2> = model.forward(batch.clone());
    let model = model.calibrated().unwrap();
    assert_learnt(&train_ranges(model, batch, target, 0.3, 60));
}

#[test]
fn ranges_alone_learn_in_a_convolutional_net_with_batch_norm() {
    let device = Device::flex();
    device.seed(12);
    let mut draws = Draws::new(0x5eed_0006);
    let net = ConvNet {
        conv: Conv2dConfig::new([2, 6], [3, 3]).init(&device),
        norm: BatchNormConfig::new(6).init(&device),
        logits: LinearConfig::new(6 * 16, 3).init(&device),
    };
    let batch = draws.tensor([32, 2, 6, 6], -1.0, 1.0, &device);
    let model = QatModel::prepare(&net, [1, 2, 6, 6], &QConfig::int8(), ConvNet::forward).unwrap().with_mode(Mode::Observe);
    let target: Tensor<2> = model.forward(batch.clone());
    let model = model.calibrated().unwrap();
    assert_learnt(&train_ranges(model, batch, target, 0.3, 60));
}

/// (Q60): the end that is farther from 0 learns, the other gets nothing.
#[test]
fn sixteen_bits_learn_their_farther_end() {
    let device = Device::flex().autodiff();
    let quant_max = 32767.0f64;
    for (min, max) in [(-0.5f32, 1.0f32), (-1.5, 1.0), (0.0, 2.0)] {
        let scale = f64::from(max.max(-min)) / quant_max;
        for x in [0.123_456f32, -0.4, 0.0, 7.0, -7.0] {
            let quantizer = FakeQuantize::new(IntegerFormat::INT16, RangeSign::Any, ObserverKind::MinMax, &device)
                .with_range(min, max)
                .with_mode(Mode::Quantize);
            let input = Tensor::<1>::from_floats([x], &device).require_grad();
            let gradients = quantizer.forward(input.clone()).tensor.sum().backward();
            let of = |tensor: Tensor<1>| tensor.grad(&gradients).map_or(0.0, |g| f64::from(g.into_scalar::<f32>()));
            let steps = f64::from(x) / scale;
            let (dx, dscale) = match steps.round_ties_even() {
                above if above > quant_max => (0.0, quant_max),
                below if below < -quant_max - 1.0 => (0.0, -quant_max - 1.0),
                inside => (1.0, inside - steps),
            };
            let (dmin, dmax) = if -min > max { (-dscale / quant_max, 0.0) } else { (0.0, dscale / quant_max) };
            let near = |found: f64, expected: f64| (found - expected).abs() < 1e-4 * expected.abs().max(1.0);
            let found = (of(input), of(quantizer.min.val()), of(quantizer.max.val()));
            assert!(
                near(found.0, dx) && near(found.1, dmin) && near(found.2, dmax),
                "{x} in {min}..{max}: expected {:?}, found {found:?}",
                (dx, dmin, dmax)
            );
        }
    }
}
