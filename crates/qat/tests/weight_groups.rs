//! Steps for groups of a channel's weights (Q98): what numbers and gradients they give, against the host and closed forms, that a group of
//! a whole channel is the channel, and that a network trains with them, is saved and goes on.

mod draws;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::store::ModuleRecord;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use draws::Draws;
use qat::fake_quantize::WeightQuantizer;
use qat::{
    CodeRange, DeviceName, Granularity, IntegerFormat, Mode, QConfig, QParams, QatModel, WeightScale, quantize,
    with_reference_operations,
};

fn groups(size: usize) -> Granularity {
    Granularity::per_group(size).expect("a size above 0")
}

fn devices() -> Vec<Device> {
    let mut devices = vec![Device::flex().autodiff()];
    devices.extend(DeviceName::NdArray.init().map(Device::autodiff));
    devices
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    values(tensor).into_iter().map(f32::to_bits).collect()
}

/// A weight of 3 channels of K inputs, in a layout, on a grid for groups.
#[derive(Clone, Copy, Debug)]
struct Problem {
    /// A linear layer has its outputs on the last axis.
    channels_last: bool,
    inputs: usize,
    size: usize,
    format: IntegerFormat,
    scale: WeightScale,
}

/// What a [`Problem`] gives: the numbers, and gradients of the weight, of a batch norm's factor and of the reach.
struct Found {
    y: Vec<f32>,
    dw: Vec<f32>,
    df: Vec<f32>,
    d_reach: Vec<f32>,
}

/// Operands of a [`Problem`], of rows of channels.
struct Operands {
    weight: Vec<f32>,
    factor: [f32; 3],
    reach: Vec<f32>,
    upstream: Vec<f32>,
}

impl Problem {
    fn all() -> Vec<Self> {
        let format = |bits, range| IntegerFormat::new(bits, range).unwrap();
        let formats = [format(2, CodeRange::Full), IntegerFormat::INT4_NARROW, IntegerFormat::INT8_NARROW];
        let mut all = Vec::new();
        for channels_last in [false, true] {
            // Groups that divide a channel, that do not, of one weight, and a last one of one weight.
            for (inputs, size) in [(64, 32), (75, 32), (12, 1), (33, 32), (9, 8)] {
                for format in formats {
                    for scale in [WeightScale::Max, WeightScale::Learned] {
                        all.push(Self { channels_last, inputs, size, format, scale });
                    }
                }
            }
        }
        all
    }

    fn of_channel(self) -> usize {
        self.inputs.div_ceil(self.size)
    }

    fn draw(self, draws: &mut Draws) -> Operands {
        let numbers = 3 * self.inputs;
        Operands {
            // The second group of the first channel is zero.
            weight: (0..numbers)
                .map(|at| draws.uniform(-1.5, 1.5) * if (self.size..2 * self.size).contains(&at) { 0.0 } else { 1.0 })
                .collect(),
            factor: [draws.uniform(0.3, 2.0), -draws.uniform(0.3, 2.0), draws.uniform(0.3, 2.0)],
            reach: (0..3 * self.of_channel()).map(|_| draws.uniform(0.5, 1.2)).collect(),
            upstream: (0..numbers).map(|_| draws.uniform(-1.0, 1.0)).collect(),
        }
    }

    fn run(self, operands: &Operands, device: &Device) -> Found {
        let mut grid = WeightQuantizer::new(self.format, groups(self.size), self.scale, [3, self.inputs], device);
        if self.scale == WeightScale::Learned {
            assert_eq!(grid.reach.as_ref().unwrap().dims(), [3 * self.of_channel()]);
            grid.reach = Some(Param::from_tensor(Tensor::from_floats(&operands.reach[..], device)));
        }
        let rows = |numbers: &[f32]| Tensor::<1>::from_floats(numbers, device).reshape([3, self.inputs]);
        let w = rows(&operands.weight).require_grad();
        let f = Tensor::<1>::from_floats(operands.factor, device).require_grad();
        let folded = w.clone() * f.clone().reshape([3, 1]);
        let (y, steps) = match self.channels_last {
            true => {
                let (y, steps) = grid.apply(folded.transpose(), 1, Some(f.clone()));
                (y.transpose(), steps)
            }
            false => grid.apply(folded, 0, Some(f.clone())),
        };
        assert!(steps.is_none(), "a channel has several steps");
        let gradients = (y.clone() * rows(&operands.upstream)).sum().backward();
        let d_reach = grid.reach.map_or(Vec::new(), |reach| values(reach.val().grad(&gradients).unwrap()));
        Found { y: values(y), dw: values(w.grad(&gradients).unwrap()), df: values(f.grad(&gradients).unwrap()), d_reach }
    }

    /// The same by one number after another.
    fn closed_form(self, operands: &Operands) -> Found {
        let (low, high) = (f64::from(self.format.quant_min()), f64::from(self.format.quant_max()));
        let mut found = Found { y: vec![], dw: vec![], df: vec![], d_reach: vec![] };
        for (channel, row) in operands.weight.chunks(self.inputs).enumerate() {
            let factor = operands.factor[channel];
            let (f, mut df) = (f64::from(factor), 0.0);
            for (group, weights) in row.chunks(self.size).enumerate() {
                let learned = operands.reach[channel * self.of_channel() + group] / self.format.quant_max() as f32;
                let step = match self.scale {
                    WeightScale::Max => {
                        let largest = weights.iter().fold(0.0f32, |largest, w| largest.max((w * factor).abs()));
                        QParams::symmetric_scale(largest, self.format)
                    }
                    _ => (learned * factor.abs()).max(self.format.min_scale()),
                };
                let mut d_step = 0.0;
                for (at, w) in weights.iter().enumerate() {
                    let upstream = operands.upstream[channel * self.inputs + group * self.size + at];
                    let u = f64::from(w * factor) / f64::from(step);
                    let code = quantize(w * factor, step, 0, self.format);
                    found.y.push(code as f32 * step);
                    let inside = (low..=high).contains(&u.round_ties_even());
                    let (g, w) = (f64::from(upstream), f64::from(*w));
                    found.dw.push(if inside { (g * f) as f32 } else { 0.0 });
                    if inside {
                        df += g * w;
                    }
                    d_step += g * (f64::from(code) - if inside { u } else { 0.0 });
                }
                if self.scale == WeightScale::Learned {
                    // The folded step follows the factor.
                    df += d_step * f64::from(learned) * f.signum();
                    // g · p², and 1 / p for the derivative by the reach (Q71); N is what the group has.
                    found.d_reach.push((d_step * f.abs() * high / (weights.len() as f64 * high).sqrt()) as f32);
                }
            }
            found.df.push(df as f32);
        }
        found
    }
}

fn assert_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{what}[{at}]: {found} and {expected}");
    }
}

#[test]
fn numbers_and_gradients_of_groups_are_the_closed_form() {
    for device in devices() {
        let mut draws = Draws::new(0x5eed_0098);
        for problem in Problem::all() {
            let operands = problem.draw(&mut draws);
            let expected = problem.closed_form(&operands);
            for by_kernel in [true, false] {
                let found = match by_kernel {
                    true => problem.run(&operands, &device),
                    false => with_reference_operations(|| problem.run(&operands, &device)),
                };
                let what = |of: &str| format!("{of} of {problem:?}, by kernel: {by_kernel}");
                assert_eq!(found.y, expected.y, "{}", what("numbers"));
                assert_near(&what("dw"), &found.dw, &expected.dw, 1e-4);
                assert_near(&what("df"), &found.df, &expected.df, 1e-3);
                assert_near(&what("reach"), &found.d_reach, &expected.d_reach, 1e-3);
            }
        }
    }
}

#[test]
fn calibration_finds_the_step_of_each_group() {
    let device = Device::flex();
    let format = IntegerFormat::INT4_NARROW;
    // Two outputs of five inputs: each group is a multiple of codes up to 7, which its step alone gives back.
    let steps = [0.5f32, 0.01, 3.0, 0.125, 20.0, 0.004];
    let codes = [7.0, -3.0, 7.0, 1.0, -7.0, 2.0, 7.0, -7.0, 5.0, 7.0];
    let group = |at: usize| 3 * (at / 5) + at % 5 / 2;
    let rows: Vec<f32> = codes.iter().enumerate().map(|(at, code)| code * steps[group(at)]).collect();
    let weight = Tensor::<1>::from_floats(&rows[..], &device).reshape([2, 5]).transpose();
    for scale in [WeightScale::Mse, WeightScale::Learned] {
        let grid = WeightQuantizer::new(format, groups(2), scale, [2, 5], &device).with_steps_for(weight.clone(), 1);
        assert_near("steps", &values(grid.folded_steps(10, 2, None).unwrap()), &steps, 1e-6);
        assert_near("weight", &values(grid.apply(weight.clone(), 1, None).0.transpose()), &rows, 1e-6);
    }
    assert_eq!(WeightQuantizer::new(format, groups(2), WeightScale::Mse, [2, 5], &device).count([2, 5]), 6);
    assert_eq!(WeightQuantizer::new(format, groups(2), WeightScale::Real, [2, 5], &device).count([2, 5]), 0);
}

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    up: ConvTranspose2d,
    logits: Linear,
}

impl Net {
    /// All numbers from draws, with weights of very different size, as groups are for.
    fn new(draws: &mut Draws, device: &Device) -> Self {
        let norm = BatchNormConfig::new(6).init(device);
        norm.running_var.update(Tensor::full([6], 0.4, device));
        let mut conv = Conv2dConfig::new([4, 6], [3, 3]).init(device);
        conv.weight = Param::from_tensor(draws.tensor([6, 4, 3, 3], -1.0, 1.0, device).powi_scalar(3));
        conv.bias = Some(Param::from_tensor(draws.tensor([6], -0.2, 0.2, device)));
        let mut up = ConvTranspose2dConfig::new([6, 4], [2, 2]).init(device);
        up.weight = Param::from_tensor(draws.tensor([6, 4, 2, 2], -1.0, 1.0, device).powi_scalar(3));
        up.bias = Some(Param::from_tensor(draws.tensor([4], 0.0, 0.3, device)));
        let mut logits = LinearConfig::new(100, 3).init(device);
        let size = Tensor::<1>::from_floats(&(0..100).map(|at| if at < 8 { 1.0 } else { 0.1 }).collect::<Vec<_>>()[..], device);
        logits.weight = Param::from_tensor(draws.tensor([100, 3], -1.0, 1.0, device) * size.reshape([100, 1]));
        logits.bias = Some(Param::from_tensor(draws.tensor([3], -0.1, 0.1, device)));
        Self { conv, norm, up, logits }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.conv.forward(x)));
        let x = relu(self.up.forward(x));
        self.logits.forward(x.flatten(1, 3))
    }
}

const SHAPE: [usize; 4] = [1, 4, 6, 6];

fn batch(draws: &mut Draws) -> Tensor<4> {
    draws.tensor([32, 4, 6, 6], -1.0, 1.0, &Device::flex())
}

fn config(granularity: Granularity, weight_scale: WeightScale) -> QConfig {
    QConfig { weight_granularity: granularity, weight_scale, ..QConfig::w4a8() }
}

/// The calibrated model, and what the float one gives.
fn calibrated(config: &QConfig, batch: Tensor<4>) -> (QatModel, Tensor<2>) {
    let net = Net::new(&mut Draws::new(98), &Device::flex());
    let model = QatModel::prepare(&net, SHAPE, config, Net::forward).unwrap().with_mode(Mode::Observe);
    let target = model.forward(batch);
    (model.calibrated().unwrap(), target)
}

/// Trains all parameters towards `target`, and returns the losses.
fn train(model: QatModel, batch: &Tensor<4>, target: &Tensor<2>, steps: usize) -> (QatModel, Vec<f32>) {
    let device = Device::flex().autodiff();
    let (batch, target) = (batch.clone().to_device(&device), target.clone().to_device(&device));
    let mut model = model.with_norm_frozen(true).train();
    let mut optimizer = AdamConfig::new().init();
    let mut losses = Vec::new();
    for _ in 0..steps {
        let difference = model.forward::<4, 2>(batch.clone()) - target.clone();
        let loss = (difference.clone() * difference).mean();
        losses.push(loss.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-3, model, gradients);
    }
    (model.valid(), losses)
}

const SCALES: [WeightScale; 3] = [WeightScale::Max, WeightScale::Mse, WeightScale::Learned];

/// The longest channel is that of the linear layer, 100; the convolutions have 36 and 24.
#[test]
fn a_group_of_a_channel_is_the_channel() {
    let batch = batch(&mut Draws::new(0x5eed_0099));
    for scale in SCALES {
        let run = |granularity| {
            let (model, target) = calibrated(&config(granularity, scale), batch.clone());
            assert_eq!(model.layers.iter().filter_map(|layer| layer.quantizer()).count(), 3);
            let (model, losses) = train(model, &batch, &target, 3);
            (losses, bits(model.forward::<4, 2>(batch.clone())))
        };
        let expected = run(Granularity::PerChannel);
        for size in [100, 101, usize::MAX] {
            assert_eq!(run(groups(size)), expected, "{scale:?}, groups of {size}");
        }
        assert_ne!(run(groups(99)), expected, "{scale:?}");
    }
}

#[test]
fn training_with_groups_is_near_the_composition() {
    let batch = batch(&mut Draws::new(0x5eed_009a));
    for scale in SCALES {
        let run = || {
            let (model, target) = calibrated(&config(groups(8), scale), batch.clone());
            train(model, &batch, &target, 20).1
        };
        // Sums have another order, and a number at the edge of two codes may fall to either side, so that the two part slowly.
        let (found, expected) = (run(), with_reference_operations(run));
        assert_near(&format!("first losses, {scale:?}"), &found[..2], &expected[..2], 1e-4);
        assert_near(&format!("losses, {scale:?}"), &found, &expected, 0.01);
    }
}

#[test]
fn finer_steps_lose_less() {
    let batch = batch(&mut Draws::new(0x5eed_009b));
    for scale in SCALES {
        let last = |granularity| {
            let (model, target) = calibrated(&config(granularity, scale), batch.clone());
            let losses = train(model, &batch, &target, 60).1;
            let last = losses[50..].iter().sum::<f32>() / 10.0;
            println!("{scale:?}, {granularity}: loss {} to {last}", losses[0]);
            assert!(last < losses[0], "{scale:?}, {granularity} learns");
            [losses[0], last]
        };
        let (of_tensor, of_group) = (last(Granularity::PerTensor), last(groups(8)));
        assert!((0..2).all(|at| of_group[at] < of_tensor[at]), "{scale:?}: {of_group:?} and {of_tensor:?}");
    }
}

#[test]
fn a_saved_model_goes_on_as_it_would_have() {
    let batch = batch(&mut Draws::new(0x5eed_009c));
    for scale in SCALES {
        let config = config(groups(8), scale);
        let (model, target) = calibrated(&config, batch.clone());
        let (model, _) = train(model, &batch, &target, 5);
        let bytes = model.clone().into_record().into_bytes().unwrap();
        let (fresh, _) = calibrated(&config, batch.clone() * 0.5);
        let loaded = fresh.load_record(ModuleRecord::from_bytes(bytes).unwrap());
        let next = |model: QatModel| train(model, &batch, &target, 3).1;
        assert_eq!(next(loaded), next(model), "{scale:?}");
    }
}
