//! The core of `qat` on every device that is built in: flex, ndarray and, with the feature `wgpu`, the first wgpu device.
//!
//! Each check draws its weights and data on the host, so that all devices get the same numbers. A device without a feature of its own
//! in this build is named and skipped. Arithmetic on a GPU is not IEEE throughout (a division may be a product with a reciprocal, a
//! sum may fuse multiply and add), so there a tolerance takes the place of equality, and a value may fall on the neighbouring code.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Shape, Tensor, TensorData};
use qat::{
    DeviceError, DeviceName, FakeQuantize, IntegerFormat, Mode, ObserverKind, QConfig, QParams, QatModel, RangeSign,
    with_reference_operations,
};

const SEED: u64 = 0xde71_ce50;

/// A device and how near it is to f32 on a CPU.
struct Place {
    name: DeviceName,
    device: Device,
    /// Largest difference, relative to the largest number of the two.
    tolerance: f64,
    /// Whether f32 operations round as IEEE 754 says, so that equality can be asked for.
    exact: bool,
}

/// All devices of this build.
fn places() -> Vec<Place> {
    let mut places = Vec::new();
    for name in [DeviceName::Flex, DeviceName::NdArray, DeviceName::Wgpu(0)] {
        let exact = !matches!(name, DeviceName::Wgpu(_));
        match name.init() {
            Ok(device) => {
                println!("{name}");
                places.push(Place { name, device, tolerance: if exact { 1e-5 } else { 1e-4 }, exact });
            }
            Err(DeviceError::NotBuiltIn { name }) => println!("{name} skipped: built without the feature `{name}`"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
    places
}

/// SplitMix64.
struct Draws(u64);

impl Draws {
    fn new(stream: u64) -> Self {
        println!("seed {}", SEED + stream);
        Self(SEED + stream)
    }

    fn uniform(&mut self, low: f32, high: f32) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32;
        low + (high - low) * unit
    }

    fn tensor<const D: usize>(&mut self, shape: [usize; D], low: f32, high: f32, device: &Device) -> Tensor<D> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.uniform(low, high)).collect();
        Tensor::from_data(TensorData::new(values, Shape::from(shape)), device)
    }

    fn param<const D: usize>(&mut self, shape: [usize; D], size: f32, device: &Device) -> Param<Tensor<D>> {
        Param::from_tensor(self.tensor(shape, -size, size, device))
    }
}

/// Convolution with batch norm, a residual convolution with bias, a pool and a head.
#[derive(Module, Debug)]
struct Net {
    stem: Conv2d,
    norm: BatchNorm,
    branch: Conv2d,
    pool: AdaptiveAvgPool2d,
    head: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        let mut draws = Draws::new(0);
        let conv = |channels, bias| {
            Conv2dConfig::new(channels, [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).with_bias(bias).init(device)
        };
        let (mut stem, mut branch) = (conv([2, 6], false), conv([6, 6], true));
        stem.weight = draws.param([6, 2, 3, 3], 0.4, device);
        branch.weight = draws.param([6, 6, 3, 3], 0.2, device);
        branch.bias = Some(draws.param([6], 0.2, device));
        let mut norm = BatchNormConfig::new(6).init(device);
        norm.gamma = Param::from_tensor(draws.tensor([6], 0.5, 1.5, device));
        norm.beta = draws.param([6], 0.3, device);
        norm.running_mean.update(draws.tensor([6], -0.2, 0.2, device));
        norm.running_var.update(draws.tensor([6], 0.3, 1.0, device));
        let mut head = LinearConfig::new(6, 3).init(device);
        head.weight = draws.param([6, 3], 0.5, device);
        head.bias = Some(draws.param([3], 0.1, device));
        Self { stem, norm, branch, pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(), head }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.stem.forward(x)));
        let x = relu(self.branch.forward(x.clone()) + x);
        self.head.forward(self.pool.forward(x).flatten(1, 3))
    }
}

const SHAPE: [usize; 4] = [8, 2, 6, 6];

fn images(stream: u64, device: &Device) -> Tensor<4> {
    Draws::new(stream).tensor(SHAPE, -1.0, 1.0, device)
}

fn targets(device: &Device) -> Tensor<2> {
    Draws::new(100).tensor([8, 3], -1.0, 1.0, device)
}

fn prepare(net: &Net) -> QatModel {
    QatModel::prepare(net, SHAPE, &QConfig::int8(), Net::forward).expect("the net is supported")
}

/// The model after post-training quantization.
fn calibrated(device: &Device) -> QatModel {
    let model = prepare(&Net::new(device)).with_mode(Mode::Observe);
    model.forward::<4, 2>(images(1, device));
    model.calibrated().expect("it was calibrated")
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Largest difference, relative to the largest number of the two.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let size = a.iter().chain(b).fold(f64::MIN_POSITIVE, |max, x| max.max(x.abs()));
    a.iter().zip(b).fold(0.0f64, |max, (a, b)| max.max((a - b).abs())) / size
}

/// One step of SGD towards the targets; gives the loss.
fn step<M: Module>(
    model: M,
    optimizer: &mut ModuleOptimizer,
    images: Tensor<4>,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<2>,
) -> (M, f64) {
    let targets = targets(&images.device());
    let loss = (forward(&model, images) - targets).square().mean();
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    (optimizer.step(0.1, model, gradients), value)
}

#[test]
fn capture_computes_what_the_module_computes() {
    let reference = values(prepare(&Net::new(&Device::flex())).forward::<4, 2>(images(1, &Device::flex())));
    for Place { name, device, tolerance, .. } in places() {
        let net = Net::new(&device);
        let x = images(1, &device);
        let found = values(prepare(&net).forward::<4, 2>(x.clone()));
        let (own, flex) = (difference(&found, &values(net.forward(x))), difference(&found, &reference));
        println!("{name}: {own:.1e} from the module, {flex:.1e} from flex");
        assert!(own < tolerance && flex < tolerance, "{name}: {own:e} from the module, {flex:e} from flex");
    }
}

#[test]
fn post_training_quantization_is_that_of_flex() {
    let flex = Device::flex();
    let reference = calibrated(&flex);
    let expected = values(reference.forward::<4, 2>(images(2, &flex)));
    let float = values(Net::new(&flex).valid().forward(images(1, &flex)));
    for Place { name, device, tolerance, .. } in places() {
        let model = calibrated(&device);
        for ((place, _, found), (_, _, expected)) in model.quantizers().into_iter().zip(reference.quantizers()) {
            let (found, expected) = (found.qparams(), expected.qparams());
            assert_eq!(found.zero_point, expected.zero_point, "{name}, {place}");
            assert!(difference(&[found.scale.into()], &[expected.scale.into()]) < tolerance, "{name}, {place}");
        }
        let scale = f64::from(model.quantizers().last().expect("the head has a grid").2.qparams().scale);
        let steps = |stream, other: &[f64]| {
            let found = values(model.forward::<4, 2>(images(stream, &device)));
            found.iter().zip(other).fold(0.0f64, |max, (a, b)| max.max((a - b).abs())) / scale
        };
        // The calibration batch is the one that no range clips.
        let (from_flex, from_float) = (steps(2, &expected), steps(1, &float));
        println!("{name}: {from_flex:.2} steps from flex, {from_float:.2} from float");
        // Values on the boundary between two codes may fall either way, and another sum may follow from it.
        assert!(from_flex < 2.01, "{name}: {from_flex} steps from flex");
        assert!(from_float < 2.0, "{name}: {from_float} steps from float");
    }
}

#[test]
fn fake_quantization_equals_the_host() {
    for Place { name, device, exact, .. } in places() {
        let mut draws = Draws::new(3);
        for _ in 0..20 {
            let (min, max) = (draws.uniform(-3.0, 0.0), draws.uniform(0.1, 3.0));
            let quantizer = FakeQuantize::new(IntegerFormat::INT8, RangeSign::Any, ObserverKind::MinMax, &device)
                .with_range(min, max)
                .with_mode(Mode::Quantize);
            let params = quantizer.qparams();
            let inputs: Vec<f32> = (0..500).map(|_| draws.uniform(-4.0, 4.0)).collect();
            let found = values(quantizer.forward(Tensor::<1>::from_floats(&inputs[..], &device)).tensor);
            for (x, y) in inputs.iter().zip(found) {
                let expected = f64::from(params.dequantize(params.quantize(*x)));
                if exact {
                    assert_eq!(y, expected, "{name}, x = {x}");
                } else {
                    // Next to a tie the neighbouring code is right as well.
                    let steps = f64::from(*x) / f64::from(params.scale);
                    let is_tie = ((steps - steps.floor()) - 0.5).abs() < 1e-3;
                    let allowed = f64::from(params.scale) * if is_tie { 1.001 } else { 1e-3 };
                    assert!((y - expected).abs() < allowed, "{name}, x = {x}: expected {expected}, found {y}");
                }
            }
        }
    }
}

#[test]
fn gradients_are_those_of_the_closed_form() {
    const N: f64 = 255.0;
    for Place { name, device, .. } in places() {
        let device = device.autodiff();
        let mut draws = Draws::new(4);
        for _ in 0..10 {
            let (min, max) = (draws.uniform(-3.0, -0.1), draws.uniform(0.1, 3.0));
            let params = QParams::affine(min, max, IntegerFormat::INT8);
            let scale = f64::from(params.scale);
            let low = f64::from(min) / scale;
            let e = low.round_ties_even() - low;
            // Away from ties, where another rounding of a division would change the code.
            let inputs: Vec<f32> = (0..200)
                .map(|_| draws.uniform(-4.0, 4.0))
                .filter(|x| ((f64::from(*x) / scale).fract().abs() - 0.5).abs() > 0.01)
                .collect();
            let weights: Vec<f32> = inputs.iter().map(|_| draws.uniform(-1.0, 1.0)).collect();

            let (mut dmin, mut dmax, mut dx) = (0.0, 0.0, Vec::new());
            for (x, w) in inputs.iter().zip(&weights) {
                let (u, w) = (f64::from(*x) / scale, f64::from(*w));
                let code = u.round_ties_even() - low.round_ties_even();
                let inside = (u.round_ties_even() - u) / N;
                let (min, max, x) = match code {
                    code if code < 0.0 => (1.0 - e / N, e / N, 0.0),
                    code if code > N => (-e / N, 1.0 + e / N, 0.0),
                    _ => (-inside, inside, 1.0),
                };
                dmin += w * min;
                dmax += w * max;
                dx.push(w * x);
            }

            let quantizer = FakeQuantize::new(IntegerFormat::INT8, RangeSign::Any, ObserverKind::MinMax, &device)
                .with_range(min, max)
                .with_mode(Mode::Quantize);
            let x = Tensor::<1>::from_floats(&inputs[..], &device).require_grad();
            let y = quantizer.forward(x.clone()).tensor * Tensor::from_floats(&weights[..], &device);
            let gradients = y.sum().backward();
            let of = |tensor: Tensor<1>| values(tensor.grad(&gradients).expect("a gradient"));
            let near = |what: &str, found: f64, expected: f64| {
                let error = (found - expected).abs();
                assert!(error < 1e-4, "{name}, {what} of range {min}..{max}: expected {expected}, found {found}");
            };
            near("dmin", of(quantizer.min.val())[0], dmin);
            near("dmax", of(quantizer.max.val())[0], dmax);
            for (found, expected) in of(x).into_iter().zip(dx) {
                near("dx", found, expected);
            }
        }
    }
}

#[test]
fn folding_changes_no_training_step() {
    for Place { name, device, tolerance, .. } in places() {
        let training = device.clone().autodiff();
        let mut net = Net::new(&device).train();
        let mut model = prepare(&net).train();
        let (mut net_optimizer, mut model_optimizer) = (SgdConfig::new().init(), SgdConfig::new().init());
        let mut worst = 0.0f64;
        for number in 0..5 {
            let x = images(10 + number, &training);
            let (original, folded);
            (net, original) = step(net, &mut net_optimizer, x.clone(), Net::forward);
            (model, folded) = step(model, &mut model_optimizer, x, |model, x| model.forward(x));
            worst = worst.max(difference(&[original], &[folded]));
        }
        let x = images(20, &device);
        let inference = difference(&values(net.valid().forward(x.clone())), &values(model.valid().forward::<4, 2>(x)));
        let written = model.write_back(Net::new(&device)).expect("the same net");
        let variance = |net: &Net| values(net.norm.running_var.value_sync());
        let statistics = difference(&variance(&net), &variance(&written));
        println!("{name}: losses {worst:.1e}, inference {inference:.1e}, statistics {statistics:.1e}");
        assert!(worst < tolerance && inference < tolerance && statistics < tolerance, "{name}");
    }
}

/// Losses of six quantized steps from the weights that every device gets.
fn losses(device: &Device) -> Vec<f64> {
    let training = device.clone().autodiff();
    let mut model = calibrated(device).train();
    let mut optimizer = SgdConfig::new().init();
    let mut losses = Vec::new();
    for _ in 0..6 {
        let loss;
        (model, loss) = step(model, &mut optimizer, images(1, &training), |model, x| model.forward(x));
        losses.push(loss);
    }
    losses
}

#[test]
fn five_quantized_steps_lower_the_loss() {
    let mut all: Vec<(DeviceName, Vec<f64>)> = Vec::new();
    for Place { name, device, .. } in places() {
        let losses = losses(&device);
        println!("{name}: {losses:?}");
        assert!(losses[5] < 0.9 * losses[0], "{name}: {losses:?}");
        all.push((name, losses));
    }
    // A value that falls on the neighbouring code changes what follows a little.
    for (name, losses) in &all {
        assert!(difference(losses, &all[0].1) < 0.02, "{name}: {losses:?}, flex: {:?}", all[0].1);
    }
}

#[test]
fn steps_on_kernels_are_near_steps_on_compositions() {
    for Place { name, device, .. } in places() {
        let (kernels, composed) = (losses(&device), with_reference_operations(|| losses(&device)));
        let difference = difference(&kernels, &composed);
        println!("{name}: {difference:.1e}");
        assert!(difference < 0.02, "{name}: {kernels:?}, composed: {composed:?}");
    }
}
