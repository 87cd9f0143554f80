//! Steps learn (Q71): their gradients against the closed form and against finite differences of the straight-through surrogate, what
//! they are on a device against the host, and what training them alone does to a loss.

mod draws;

use burn::module::{Module, Param, ParamId};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use draws::Draws;
use qat::fake_quantize::WeightQuantizer;
use qat::{
    CodeRange, FakeQuantize, Granularity, IntegerFormat, Mode, ObserverKind, QConfig, QParams, QatLayer, QatModel, RangeLearner,
    RangeSign, WeightScale, quantize,
};

/// One quantizer and one number that passes through it.
#[derive(Clone, Copy, Debug)]
struct Problem {
    format: IntegerFormat,
    sign: RangeSign,
    /// The calibrated range, which gives the zero point.
    min: f32,
    max: f32,
    step: f32,
    x: f32,
}

impl Problem {
    fn draw(draws: &mut Draws) -> Self {
        let bits = 2 + (draws.bits() % 7) as u8;
        let format = IntegerFormat::new(bits, CodeRange::Full).unwrap();
        let sign = if draws.bits() & 1 == 0 { RangeSign::Any } else { RangeSign::NonNegative };
        let (min, max) = (draws.uniform(-2.0, -0.1), draws.uniform(0.2, 4.0));
        let step = draws.uniform(0.3, 1.5) * (max - min) / format.steps() as f32;
        Self { format, sign, min, max, step, x: draws.uniform(-4.0, 6.0) }
    }

    fn quantizer(self, device: &Device) -> FakeQuantize {
        let mut quantizer = FakeQuantize::new(self.format, self.sign, ObserverKind::MinMax, device)
            .with_learner(RangeLearner::Lsq)
            .with_range(self.min, self.max)
            .with_mode(Mode::Quantize);
        assert!(quantizer.reach.is_some() && !quantizer.max.is_require_grad());
        let (low, high) = self.ends();
        quantizer.reach = Some(Param::from_tensor(Tensor::from_floats([self.step * high.max(-low) as f32], device)));
        quantizer
    }

    /// Lowest and highest code relative to the zero point.
    fn ends(self) -> (f64, f64) {
        let low = if self.sign == RangeSign::NonNegative { 0.0 } else { self.min };
        let zero_point = QParams::affine(low, self.max, self.format).zero_point;
        (f64::from(self.format.quant_min() - zero_point), f64::from(self.format.quant_max() - zero_point))
    }

    fn steps(self) -> f64 {
        f64::from(self.x) / f64::from(self.step)
    }

    /// What the derivative by the step is multiplied by to be the gradient of the reach, `g · p² / p`, for `elements` activations of a
    /// sample.
    fn factor(self, elements: usize) -> f64 {
        let (low, high) = self.ends();
        let p = high.max(-low);
        p / (elements as f64 * p).sqrt()
    }

    /// (Q71) without the factor: of the step and of x.
    fn closed_form(self) -> (f64, f64) {
        let (low, high) = self.ends();
        let u = self.steps();
        match u.round_ties_even() {
            code if code < low => (low, 0.0),
            code if code > high => (high, 0.0),
            code => (code - u, 1.0),
        }
    }

    /// `s · clamp(x / s + e)` with the rounding error of the base point.
    fn surrogate(self, step: f64, x: f64) -> f64 {
        let (low, high) = self.ends();
        let u = self.steps();
        (x / step + (u.round_ties_even() - u)).clamp(low, high) * step
    }

    fn is_near_a_tie(self) -> bool {
        let u = self.steps();
        ((u - u.floor()) - 0.5).abs() < 0.01
    }
}

#[test]
fn gradients_of_activations_are_the_closed_form_and_the_differences() {
    let device = Device::flex().autodiff();
    let mut draws = Draws::new(0x5eed_0071);
    let mut places = [0; 3];
    for _ in 0..600 {
        let problem = Problem::draw(&mut draws);
        if problem.is_near_a_tie() {
            continue;
        }
        let (dstep, dx) = problem.closed_form();
        // Within the base point's piece the surrogate is smooth.
        const H: f64 = 1e-6;
        let (s, x) = (f64::from(problem.step), f64::from(problem.x));
        let by_step = (problem.surrogate(s + H, x) - problem.surrogate(s - H, x)) / (2.0 * H);
        let by_x = (problem.surrogate(s, x + H) - problem.surrogate(s, x - H)) / (2.0 * H);
        let (low, high) = problem.ends();
        let u = problem.steps().round_ties_even();
        let on_an_end = u == low || u == high;
        if !on_an_end {
            assert!((by_step - dstep).abs() < 1e-4 * dstep.abs().max(1.0), "{problem:?}: {by_step} and {dstep}");
            assert!((by_x - dx).abs() < 1e-6, "{problem:?}: {by_x} and {dx}");
        }
        places[if u < low {
            0
        } else if u > high {
            1
        } else {
            2
        }] += 1;

        // Two samples of three numbers, of which one is the problem's; the others are 0, where nothing depends on the step.
        let input = Tensor::<2>::from_floats([[0.0, problem.x, 0.0], [0.0, 0.0, 0.0]], &device).require_grad();
        let quantizer = problem.quantizer(&device);
        let gradients = (quantizer.forward(input.clone()).tensor * 3.0).sum().backward();
        let step = quantizer.reach.as_ref().unwrap().val().grad(&gradients).unwrap().into_scalar::<f32>();
        let expected = 3.0 * dstep * problem.factor(3);
        // The difference of two numbers as large as the code, in f32.
        let tolerance = 3.0 * problem.factor(3) * 1e-6 * (problem.steps().abs() + 1.0) + 1e-5 * expected.abs();
        assert!((f64::from(step) - expected).abs() < tolerance, "{problem:?}: {step} and {expected}");
        let dx_found: Vec<f32> = input.grad(&gradients).unwrap().into_data().try_to_vec().unwrap();
        assert!((f64::from(dx_found[1]) - 3.0 * dx).abs() < 1e-5, "{problem:?}: {dx_found:?}");
        assert!(quantizer.max.val().grad(&gradients).is_none(), "the calibrated range learns nothing");
    }
    assert!(places.iter().all(|count| *count > 30), "{places:?}");
}

#[test]
fn the_size_of_a_batch_does_not_change_a_factor() {
    let device = Device::flex().autodiff();
    let gradient = |batch: usize| {
        let problem = Problem {
            format: IntegerFormat::new(4, CodeRange::Full).unwrap(),
            sign: RangeSign::NonNegative,
            min: 0.0,
            max: 1.5,
            step: 0.1,
            x: 9.0,
        };
        let quantizer = problem.quantizer(&device);
        let x = Tensor::<3>::full([batch, 2, 8], 9.0, &device);
        let gradients = quantizer.forward(x).tensor.mean().backward();
        quantizer.reach.as_ref().unwrap().val().grad(&gradients).unwrap().into_scalar::<f32>()
    };
    // All are clipped at 15: the mean's derivative by the step is 15, by the reach 1, and its factor 15² / √(16 · 15).
    for batch in [1, 4] {
        assert!((gradient(batch) - 225.0 / 240.0f32.sqrt()).abs() < 1e-4, "{}", gradient(batch));
    }
}

#[test]
fn learned_steps_quantize_on_a_device_as_on_the_host() {
    let mut draws = Draws::new(0x5eed_0072);
    for device in [Device::flex(), Device::flex().autodiff()] {
        for _ in 0..60 {
            let problem = Problem::draw(&mut draws);
            let quantizer = problem.quantizer(&device);
            let qparams = quantizer.qparams();
            assert!((qparams.scale / problem.step - 1.0).abs() < 1e-6 && qparams.format == problem.format, "{qparams:?}");
            let values: Vec<f32> = (0..200).map(|_| draws.uniform(-6.0, 6.0)).collect();
            let y = quantizer.forward(Tensor::<1>::from_floats(values.as_slice(), &device).reshape([10, 20]));
            assert_eq!(y.scale.unwrap().into_scalar::<f32>(), qparams.scale);
            let found: Vec<f32> = y.tensor.into_data().try_to_vec().unwrap();
            for (x, found) in values.iter().zip(found) {
                assert_eq!(found, qparams.dequantize(qparams.quantize(*x)), "{x} by {qparams:?}");
            }
        }
    }
}

#[test]
fn a_limit_holds_for_a_learned_step() {
    let device = Device::flex();
    let format = IntegerFormat::new(2, CodeRange::Full).unwrap();
    let mut quantizer = FakeQuantize::new(format, RangeSign::NonNegative, ObserverKind::MinMax, &device)
        .with_limit(6.0)
        .with_learner(RangeLearner::Lsq)
        .with_range(0.0, 5.0)
        .with_mode(Mode::Quantize);
    assert!((quantizer.qparams().scale - 5.0 / 3.0).abs() < 1e-6);
    quantizer.reach = Some(Param::from_tensor(Tensor::from_floats([12.0], &device)));
    assert_eq!((quantizer.qparams().scale, quantizer.range()), (2.0, (0.0, 6.0)));
    assert_eq!(quantizer.forward(Tensor::<1>::from_floats([100.0], &device)).tensor.into_scalar::<f32>(), 6.0);
}

/// Of a weight `[2, 3]` with rows as channels, by a factor for each channel.
#[test]
fn gradients_of_weight_steps_are_the_closed_form() {
    let device = Device::flex().autodiff();
    let mut draws = Draws::new(0x5eed_0073);
    for granularity in [Granularity::PerChannel, Granularity::PerTensor] {
        for bits in [2, 3, 4, 8] {
            let range = if bits == 8 { CodeRange::Narrow } else { CodeRange::Full };
            let format = IntegerFormat::new(bits, range).unwrap();
            let (low, high) = (f64::from(format.quant_min()), f64::from(format.quant_max()));
            let channels = if granularity == Granularity::PerChannel { 2 } else { 1 };
            let mut grid = WeightQuantizer::new(format, granularity, WeightScale::Learned, [2, 3], &device);
            let steps: Vec<f32> = (0..channels).map(|_| draws.uniform(0.5, 1.2) / format.quant_max() as f32).collect();
            let reach: Vec<f32> = steps.iter().map(|step| step * format.quant_max() as f32).collect();
            grid.reach = Some(Param::from_tensor(Tensor::from_floats(reach.as_slice(), &device)));
            let weight: Vec<f32> = (0..6).map(|_| draws.uniform(-1.5, 1.5)).collect();
            let factors = [draws.uniform(0.3, 2.0), -draws.uniform(0.3, 2.0)];
            let upstream: Vec<f32> = (0..6).map(|_| draws.uniform(-1.0, 1.0)).collect();

            let w = Tensor::<1>::from_floats(weight.as_slice(), &device).reshape([2, 3]).require_grad();
            let factor = Tensor::<1>::from_floats(factors, &device).require_grad();
            let folded = w.clone() * factor.clone().reshape([2, 1]);
            let (y, _) = grid.apply(folded, 0, Some(factor.clone()));
            let values: Vec<f32> = y.clone().into_data().try_to_vec().unwrap();
            let gradients = (y * Tensor::<1>::from_floats(upstream.as_slice(), &device).reshape([2, 3])).sum().backward();

            let mut expected = vec![0.0f64; channels];
            let mut of_factor = [0.0f64; 2];
            for i in 0..6 {
                let (row, by_channel) = (i / 3, granularity == Granularity::PerChannel);
                let (w, f, g) = (f64::from(weight[i]), f64::from(factors[row]), f64::from(upstream[i]));
                let step = f64::from(steps[if by_channel { row } else { 0 }]);
                // Per channel the step is folded as the weight is, so that codes are those of the weight before, with the factor's sign.
                let deployed = if by_channel { step * f.abs() } else { step };
                let u = w * f / deployed;
                let code = u.round_ties_even().clamp(low, high);
                assert!((f64::from(values[i]) - code * deployed).abs() < 1e-6, "{code} at {deployed}: {}", values[i]);
                let inside = u.round_ties_even() == code;
                let ds = if inside { code - u } else { code };
                let (of_step, through_weight) = if by_channel { (ds * f.abs(), 0.0) } else { (ds, 1.0) };
                expected[if by_channel { row } else { 0 }] += g * of_step;
                // A folded step follows the factor: its codes stay, its numbers grow with it.
                of_factor[row] += match (by_channel, inside) {
                    (true, _) => g * code * step * f.signum(),
                    (false, true) => g * w * through_weight,
                    (false, false) => 0.0,
                };
            }
            let per_step = if channels == 2 { 3.0 } else { 6.0 };
            // g · p², and 1 / p for the derivative by the reach.
            let g = high / (per_step * high).sqrt();
            let found: Vec<f32> = grid.reach.as_ref().unwrap().val().grad(&gradients).unwrap().into_data().try_to_vec().unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (f64::from(*found) - g * expected).abs() < 2e-4 * (g * expected).abs().max(1.0),
                    "{granularity:?}, {bits} bits: {found} and {}",
                    g * expected
                );
            }
            let found: Vec<f32> = factor.grad(&gradients).unwrap().into_data().try_to_vec().unwrap();
            for (found, expected) in found.iter().zip(&of_factor) {
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{granularity:?}, {bits} bits: {found} and {expected}");
            }
        }
    }
}

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    middle: Conv2d,
    logits: Linear,
}

impl Net {
    fn new(seed: u64, device: &Device) -> Self {
        println!("seed {seed}");
        device.seed(seed);
        let norm = BatchNormConfig::new(6).init(device);
        norm.running_var.update(Tensor::full([6], 0.05, device));
        Self {
            conv: Conv2dConfig::new([2, 6], [3, 3]).init(device),
            norm,
            middle: Conv2dConfig::new([6, 6], [3, 3]).init(device),
            logits: LinearConfig::new(24, 3).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.conv.forward(x)));
        let x = relu(self.middle.forward(x));
        let [n, ..] = x.dims();
        self.logits.forward(x.reshape([n, 24]))
    }
}

fn calibrated(config: &QConfig, batch: Tensor<4>) -> (QatModel, Tensor<2>) {
    let net = Net::new(17, &Device::flex());
    let model = QatModel::prepare(&net, [1, 2, 6, 6], config, Net::forward).unwrap().with_mode(Mode::Observe);
    let target = model.forward(batch);
    (model.calibrated().unwrap(), target)
}

/// Trains all ranges and steps that are `chosen` towards `target`, and returns the losses.
fn train(
    model: QatModel,
    batch: &Tensor<4>,
    target: &Tensor<2>,
    (steps, rate): (usize, f64),
    chosen: impl Fn(ParamId) -> bool,
) -> (QatModel, Vec<f32>) {
    let device = Device::flex().autodiff();
    let (batch, target) = (batch.clone().to_device(&device), target.clone().to_device(&device));
    let mut model = model.with_norm_frozen(true).train();
    let chosen: Vec<ParamId> = model.range_parameters().into_iter().filter(|id| chosen(*id)).collect();
    let mut optimizer = AdamConfig::new().init();
    let mut losses = Vec::new();
    for _ in 0..steps {
        let difference = model.forward::<4, 2>(batch.clone()) - target.clone();
        let loss = (difference.clone() * difference).mean();
        losses.push(loss.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_params(&mut loss.backward(), &model, &chosen);
        model = optimizer.step(rate, model, gradients);
    }
    (model.valid(), losses)
}

/// Trains what is `chosen`, from where it is too large, and checks that it comes down with the loss.
fn assert_learns(model: QatModel, batch: &Tensor<4>, target: &Tensor<2>, rate: f64, chosen: &[ParamId]) {
    let weight = |model: &QatModel| match &model.layers[0] {
        QatLayer::Conv2d(conv) => conv.weight.val().into_data(),
        _ => panic!("the first layer is a convolution"),
    };
    let before = weight(&model);
    let (model, losses) = train(model, batch, target, (200, rate), |id| chosen.contains(&id));
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
    let (first, last) = (losses[0], mean(&losses[190..]));
    println!("loss {first} to {last}");
    assert!(last < 0.7 * first, "loss {first} to {last}");
    weight(&model).assert_eq(&before, true);
}

#[test]
fn steps_of_activations_learn() {
    for config in [QConfig::w4a4(), QConfig::w3a3(), QConfig::w2a2()] {
        let batch = Draws::new(0x5eed_0074).tensor([48, 2, 6, 6], -1.0, 1.0, &Device::flex());
        let config = QConfig { observer: ObserverKind::MinMax, weight: IntegerFormat::INT8_NARROW, ..config };
        let (_, target) = calibrated(&config, batch.clone());
        let (model, _) = calibrated(&config, batch.clone() * 4.0);
        let chosen: Vec<ParamId> = model.quantizers().iter().filter_map(|(.., q)| Some(q.reach.as_ref()?.id)).collect();
        assert_learns(model, &batch, &target, 0.1, &chosen);
    }
}

#[test]
fn steps_of_weights_learn() {
    for config in [QConfig::w4a4(), QConfig::w3a3(), QConfig::w2a2()] {
        let batch = Draws::new(0x5eed_0078).tensor([48, 2, 6, 6], -1.0, 1.0, &Device::flex());
        let config = QConfig { activation: IntegerFormat::INT8, overrides: Vec::new(), ..config };
        let (mut model, target) = calibrated(&config, batch.clone());
        let mut chosen = Vec::new();
        for layer in &mut model.layers {
            let quantizer = match layer {
                QatLayer::Conv2d(conv) => &mut conv.quantizer,
                QatLayer::Linear(linear) => &mut linear.quantizer,
                _ => continue,
            };
            let reach = Param::from_tensor(quantizer.reach.take().unwrap().val() * 2.0);
            chosen.push(reach.id);
            quantizer.reach = Some(reach);
        }
        assert_learns(model, &batch, &target, 0.003, &chosen);
    }
}

#[derive(Module, Debug)]
struct One {
    linear: Linear,
}

#[test]
fn least_squared_steps_are_better_than_the_largest_weight() {
    let device = Device::flex();
    let mut draws = Draws::new(0x5eed_0075);
    let mut net = One { linear: LinearConfig::new(64, 32).init(&device) };
    // Weights of trained networks have tails, where those of an initialisation are uniform.
    net.linear.weight = Param::from_tensor(draws.tensor([64, 32], -1.0, 1.0, &device).powi_scalar(3));
    let batch = draws.tensor([256, 64], -1.0, 1.0, &device);
    let noise = |weight_scale, granularity, weight| {
        let config = QConfig { weight_scale, weight_granularity: granularity, weight, ..QConfig::int8() };
        let model = QatModel::prepare(&net, [1, 64], &config, |net: &One, x| net.linear.forward(x)).unwrap();
        let model = model.with_mode(Mode::Observe);
        let target: Tensor<2> = model.forward(batch.clone());
        let difference = model.calibrated().unwrap().forward::<2, 2>(batch.clone()) - target;
        (difference.clone() * difference).mean().into_scalar::<f32>()
    };
    for granularity in [Granularity::PerChannel, Granularity::PerTensor] {
        for bits in [2, 3, 4] {
            let weight = IntegerFormat::new(bits, CodeRange::Narrow).unwrap();
            let noise = |scale| noise(scale, granularity, weight);
            let (largest, least, learned) = (noise(WeightScale::Max), noise(WeightScale::Mse), noise(WeightScale::Learned));
            println!("{bits} bits {granularity:?}: {largest} by the largest weight, {least} by least squares");
            assert!(least < 0.95 * largest, "{bits} bits {granularity:?}: {largest} and {least}");
            assert_eq!(least, learned, "calibration finds the steps that learning begins with");
        }
    }
}

/// The steps are part of the record, and the next step of training is the same.
#[test]
fn a_saved_model_goes_on_as_it_would_have() {
    let batch = Draws::new(0x5eed_0076).tensor([16, 2, 6, 6], -1.0, 1.0, &Device::flex());
    let (model, target) = calibrated(&QConfig::w3a3(), batch.clone());
    let (model, _) = train(model, &batch, &target, (5, 0.001), |_| true);
    let bytes = model.clone().into_record().into_bytes().unwrap();
    let (fresh, _) = calibrated(&QConfig::w3a3(), batch.clone() * 0.5);
    let loaded = fresh.load_record(burn::store::ModuleRecord::from_bytes(bytes).unwrap());
    let next = |model: QatModel| train(model, &batch, &target, (3, 0.001), |_| true).1;
    assert_eq!(next(loaded.clone()), next(model.clone()));
    // What was observed is part of it too: calibrating the loaded model again gives the same ranges.
    let ranges = |model: QatModel| -> Vec<(f32, f32)> {
        model.calibrated().unwrap().quantizers().iter().map(|(_, _, quantizer)| quantizer.range()).collect()
    };
    assert_eq!(ranges(loaded), ranges(model));
}

#[test]
fn weights_lie_on_their_learned_grid() {
    let batch = Draws::new(0x5eed_0077).tensor([16, 2, 6, 6], -1.0, 1.0, &Device::flex());
    let (model, _) = calibrated(&QConfig::w2a2(), batch);
    let middle = model.steps().find(|(step, _)| step.name == "middle").unwrap().1;
    let QatLayer::Conv2d(middle) = middle else { panic!("middle is a convolution") };
    let steps: Vec<f32> = middle.folded_steps().unwrap().into_data().try_to_vec().unwrap();
    assert_eq!(steps.len(), 6);
    let weight: Vec<f32> = middle.weight.val().into_data().try_to_vec().unwrap();
    let format = middle.quantizer.format();
    assert_eq!((format.quant_min(), format.quant_max()), (-2, 1));
    let used: std::collections::BTreeSet<i32> =
        weight.chunks(54).zip(&steps).flat_map(|(row, step)| row.iter().map(|w| quantize(*w, *step, 0, format))).collect();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), [-2, -1, 0, 1]);
}
