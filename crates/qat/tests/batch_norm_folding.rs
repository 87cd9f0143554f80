//! Folding changes nothing until quantization is switched on.
//!
//! A Burn module with batch norm and the [`QatModel`] prepared from it, in [`Mode::Float`], are trained alike and stay *near* each
//! other: losses, weights and running statistics, step by step. In inference the folded convolution is near the batch norm, and in
//! [`Mode::Quantize`] what it computes *equals* a convolution with the host's quantization of `γ · w / σ`.

mod draws;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig, momentum::MomentumConfig};
use burn::tensor::activation::relu;
use burn::tensor::module::conv2d;
use burn::tensor::{Device, Int, Tensor};
use draws::Draws;
use qat::nn::{NormStatistics, QuantConv2d};
use qat::{Mode, QConfig, QParams, QatLayer, QatModel, quantize};

/// Largest relative difference that the order of f32 operations may make, per step and in inference.
const TOLERANCE: f64 = 1e-5;

#[derive(Module, Debug)]
struct Net {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    pool: AdaptiveAvgPool2d,
    head: Linear,
}

impl Net {
    /// Batch norms with statistics, γ and β that are not those of an untrained one.
    fn new(bias: bool, draws: &mut Draws, device: &Device) -> Self {
        let conv = |channels, stride: usize| {
            Conv2dConfig::new(channels, [3, 3])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(bias)
                .init(device)
        };
        let mut norm = |channels| {
            let mut norm = BatchNormConfig::new(channels).init(device);
            norm.gamma = Param::from_tensor(draws.tensor([channels], 0.5, 1.5, device));
            norm.beta = Param::from_tensor(draws.tensor([channels], -0.5, 0.5, device));
            norm.running_mean.update(draws.tensor([channels], -0.3, 0.3, device));
            norm.running_var.update(draws.tensor([channels], 0.3, 1.2, device));
            norm
        };
        Self {
            conv1: conv([3, 8], 1),
            norm1: norm(8),
            conv2: conv([8, 12], 2),
            norm2: norm(12),
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            head: LinearConfig::new(12, 5).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm1.forward(self.conv1.forward(x)));
        let x = relu(self.norm2.forward(self.conv2.forward(x)));
        self.head.forward(self.pool.forward(x).flatten(1, 3))
    }
}

fn prepare(net: &Net) -> QatModel {
    QatModel::prepare(net, [1, 3, 8, 8], &QConfig::int8(), Net::forward).expect("the net is supported")
}

fn optimizer() -> ModuleOptimizer {
    SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init()
}

/// One step of SGD; gives the loss.
fn step<M: Module>(
    model: M,
    optimizer: &mut ModuleOptimizer,
    images: Tensor<4>,
    targets: Tensor<1, Int>,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<2>,
) -> (M, f64) {
    let loss = CrossEntropyLossConfig::new().init(&images.device()).forward(forward(&model, images), targets);
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    (optimizer.step(0.05, model, gradients), value)
}

fn batch(draws: &mut Draws, device: &Device) -> (Tensor<4>, Tensor<1, Int>) {
    let targets: Vec<i32> = (0..16).map(|_| (draws.bits() % 5) as i32).collect();
    // Samples of a class share an offset, so that there is something to learn.
    let offset: Vec<f32> = targets.iter().map(|target| *target as f32 * 0.3).collect();
    let offset = Tensor::<1>::from_floats(&offset[..], device).reshape([16, 1, 1, 1]);
    (draws.tensor([16, 3, 8, 8], -1.0, 1.0, device) + offset, Tensor::from_ints(&targets[..], device))
}

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

/// Largest difference, relative to the largest number of the two.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let size = a.iter().chain(b).fold(0.0f64, |max, x| max.max(x.abs()));
    a.iter().zip(b).fold(0.0f64, |max, (a, b)| max.max((a - b).abs())) / size.max(f64::MIN_POSITIVE)
}

fn conv(model: &QatModel, index: usize) -> &QuantConv2d {
    match &model.layers[index] {
        QatLayer::Conv2d(conv) => conv,
        other => panic!("layer {index}: expected a convolution, found {other:?}"),
    }
}

/// Weights, γ, β and statistics of both convolutions, in turn, of the original and of the quantized model.
fn pairs(net: &Net, model: &QatModel) -> Vec<(&'static str, f64)> {
    let mut pairs = Vec::new();
    for (index, (original, original_norm)) in [(&net.conv1, &net.norm1), (&net.conv2, &net.norm2)].into_iter().enumerate() {
        let conv = conv(model, index);
        let norm = conv.norm.as_ref().expect("batch norm was folded");
        let mut put = |what, a: Vec<f64>, b: Vec<f64>| pairs.push((what, difference(&a, &b)));
        put("weight", values(&original.weight.val()), values(&conv.weight.val()));
        put("gamma", values(&original_norm.gamma.val()), values(&norm.gamma.val()));
        put("beta", values(&original_norm.beta.val()), values(&norm.beta.val()));
        put("mean", values(&original_norm.running_mean.value_sync()), values(&norm.running_mean.value_sync()));
        put("variance", values(&original_norm.running_var.value_sync()), values(&norm.running_var.value_sync()));
    }
    pairs
}

fn train_alike(bias: bool, seed: u64) {
    let plain = Device::flex();
    let device = plain.clone().autodiff();
    plain.seed(seed);
    let mut draws = Draws::new(seed);
    let mut net = Net::new(bias, &mut draws, &plain).train();
    let mut model = prepare(&net).train();
    let (mut net_optimizer, mut model_optimizer) = (optimizer(), optimizer());

    let (mut worst_loss, mut worst_state) = (0.0f64, 0.0f64);
    let mut losses = Vec::new();
    for number in 0..20 {
        let (images, targets) = batch(&mut draws, &device);
        let (original, folded);
        (net, original) = step(net, &mut net_optimizer, images.clone(), targets.clone(), Net::forward);
        (model, folded) = step(model, &mut model_optimizer, images, targets, |model, x| model.forward(x));
        let error = difference(&[original], &[folded]);
        assert!(error < TOLERANCE, "loss of step {number}: expected {original}, found {folded}");
        worst_loss = worst_loss.max(error);
        for (what, error) in pairs(&net, &model) {
            assert!(error < TOLERANCE, "{what} after step {number}: relative difference {error:e}");
            worst_state = worst_state.max(error);
        }
        losses.push(original);
    }
    println!("bias {bias}: loss {} to {}; worst: loss {worst_loss:.1e}, state {worst_state:.1e}", losses[0], losses[19]);
    assert!(losses[19] < losses[0], "the run trains: {losses:?}");

    // Inference after training.
    let (images, _) = batch(&mut draws, &plain);
    let expected = values(&net.valid().forward(images.clone()));
    let error = difference(&values(&model.valid().forward::<4, 2>(images)), &expected);
    println!("inference: {error:.1e}");
    assert!(error < TOLERANCE, "inference: relative difference {error:e}");
}

#[test]
fn training_without_quantization_is_that_of_the_original() {
    train_alike(false, 0xf01d_0001);
}

#[test]
fn training_without_quantization_is_that_of_the_original_with_a_bias_under_the_norm() {
    train_alike(true, 0xf01d_0002);
}

#[test]
fn frozen_statistics_stay_and_are_those_that_training_uses() {
    let plain = Device::flex();
    let device = plain.clone().autodiff();
    let mut draws = Draws::new(0xf01d_0003);
    plain.seed(3);
    let net = Net::new(true, &mut draws, &plain);
    let model = prepare(&net).train();
    let statistics = |model: &QatModel| -> Vec<Vec<f64>> {
        let norms = [0, 1].map(|index| conv(model, index).norm.clone().expect("batch norm was folded"));
        norms.iter().flat_map(|norm| [values(&norm.running_mean.value_sync()), values(&norm.running_var.value_sync())]).collect()
    };
    let (images, targets) = batch(&mut draws, &device);

    let before = statistics(&model);
    let mut model = model.with_norm_frozen(true);
    // With frozen statistics, training computes what inference does.
    let training = values(&model.forward::<4, 2>(images.clone()));
    let inference = values(&net.valid().forward(images.clone().inner()));
    assert!(difference(&training, &inference) < TOLERANCE);

    let weight = values(&conv(&model, 0).weight.val());
    let gamma = values(&conv(&model, 1).norm.as_ref().unwrap().gamma.val());
    let mut optimizer = optimizer();
    for _ in 0..3 {
        (model, _) = step(model, &mut optimizer, images.clone(), targets.clone(), |model, x| model.forward(x));
    }
    assert_eq!(statistics(&model), before, "frozen statistics moved");
    assert_ne!(values(&conv(&model, 0).weight.val()), weight, "weights learn all the same");
    assert_ne!(values(&conv(&model, 1).norm.as_ref().unwrap().gamma.val()), gamma, "γ learns all the same");

    let (model, _) = step(model.with_norm_frozen(false), &mut optimizer, images, targets, |model, x| model.forward(x));
    let after = statistics(&model);
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "thawed statistics did not move");
}

#[test]
fn inference_leaves_the_statistics_alone() {
    let plain = Device::flex();
    let mut draws = Draws::new(0xf01d_0004);
    let net = Net::new(false, &mut draws, &plain);
    let model = prepare(&net);
    let mean = |model: &QatModel| values(&conv(model, 0).norm.as_ref().unwrap().running_mean.value_sync());
    let before = mean(&model);
    let (images, _) = batch(&mut draws, &plain);
    model.forward::<4, 2>(images.clone());
    model.clone().train().valid().forward::<4, 2>(images);
    assert_eq!(mean(&model), before);
}

#[test]
fn quantized_inference_equals_the_host_quantization_of_the_folded_weights() {
    let plain = Device::flex();
    let mut draws = Draws::new(0xf01d_0005);
    plain.seed(5);
    for (bias, config) in [(true, QConfig::int8()), (false, QConfig::int8()), (true, QConfig::int8_per_tensor())] {
        let net = Net::new(bias, &mut draws, &plain);
        let model = QatModel::prepare(&net, [1, 3, 8, 8], &config, Net::forward).unwrap().with_mode(Mode::Observe);
        let (images, _) = batch(&mut draws, &plain);
        model.forward::<4, 2>(images.clone());
        let model = model.calibrated().unwrap();

        let layer = conv(&model, 0);
        let norm = layer.norm.as_ref().unwrap();
        let f32s = |tensor: Tensor<1>| -> Vec<f32> { tensor.to_data().iter::<f32>().collect() };
        let (gamma, beta) = (f32s(norm.gamma.val()), f32s(norm.beta.val()));
        let (mean, variance) = (f32s(norm.running_mean.value_sync()), f32s(norm.running_var.value_sync()));
        let bias: Vec<f32> = layer.bias.as_ref().map_or(vec![0.0; 8], |bias| f32s(bias.val()));
        let weight: Vec<f32> = layer.weight.val().to_data().iter::<f32>().collect();
        let input = model.input.forward(images.clone());
        let input_scale = input.scale.clone().expect("a grid").into_scalar::<f32>();

        // γ · w / σ, its scales, codes and reals, in f32 on the host.
        let factor: Vec<f32> = gamma.iter().zip(&variance).map(|(gamma, v)| gamma / (v + norm.epsilon as f32).sqrt()).collect();
        let folded: Vec<f32> = weight.iter().enumerate().map(|(i, w)| w * factor[i / 27]).collect();
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |max, w| max.max(w.abs()));
        let scales: Vec<f32> = match config.weight_granularity {
            qat::Granularity::PerTensor => vec![QParams::symmetric_scale(largest(&folded), config.weight); 8],
            _ => folded.chunks(27).map(|w| QParams::symmetric_scale(largest(w), config.weight)).collect(),
        };
        let on_grid: Vec<f32> = folded
            .iter()
            .enumerate()
            .map(|(i, w)| quantize(*w, scales[i / 27], 0, config.weight) as f32 * scales[i / 27])
            .collect();
        let biases: Vec<f32> = (0..8)
            .map(|c| {
                let (folded, step) = (beta[c] - (mean[c] - bias[c]) * factor[c], input_scale * scales[c]);
                (folded / step).round_ties_even() * step
            })
            .collect();

        let y = conv2d(
            input.tensor.clone(),
            Tensor::<1>::from_floats(&on_grid[..], &plain).reshape([8, 3, 3, 3]),
            Some(Tensor::from_floats(&biases[..], &plain)),
            layer.config().options.clone(),
        );
        let expected = layer.output.forward(relu(y)).tensor;
        let found = layer.forward(input).tensor;
        assert_eq!(values(&found), values(&expected));
        assert!(values(&found).iter().any(|y| *y > 0.0));
    }
}

#[test]
fn quantized_training_quantizes_the_same_folded_weights() {
    let plain = Device::flex();
    let device = plain.clone().autodiff();
    let mut draws = Draws::new(0xf01d_0006);
    plain.seed(6);
    let net = Net::new(true, &mut draws, &plain);
    let model = prepare(&net).with_mode(Mode::Observe);
    let (images, _) = batch(&mut draws, &plain);
    model.forward::<4, 2>(images.clone());
    let mut model = model.calibrated().unwrap();

    // Running statistics that are those of the batch make the correction of (Q13), and the batch norm of (Q94), the identity, up to
    // rounding: training then is inference. The weight of (Q94) depends on them, so that they are reached in some steps.
    let QatLayer::Conv2d(layer) = &mut model.layers[0] else { panic!("the first layer is a convolution") };
    let input = model.input.forward(images);
    layer.norm.as_mut().unwrap().momentum = 1.0;
    for statistics in [NormStatistics::Float, NormStatistics::Quantized] {
        let layer = layer.clone().with_norm_statistics(statistics);
        let learner = layer.clone().train();
        let batch = input.clone().map(|x| Tensor::from_inner(x).to_device(&device));
        for _ in 0..20 {
            learner.forward(batch.clone());
        }
        let training = values(&learner.forward(batch).tensor);
        let inference = values(&learner.valid().forward(input.clone()).tensor);
        compare(&inference, &training, f64::from(layer.output.qparams().scale), statistics);
    }
}

/// Codes that differ; the bias is on its grid in inference only, which may move a value across the boundary between two codes.
fn compare(inference: &[f64], training: &[f64], scale: f64, statistics: NormStatistics) {
    let (mut differ, mut worst) = (0, 0.0f64);
    for (a, b) in inference.iter().zip(training) {
        let distance = (a - b).abs() / scale;
        worst = worst.max(distance);
        differ += usize::from(distance > 0.5);
    }
    println!("{statistics:?}: {differ} of {} codes differ, by at most {worst:.3} steps", inference.len());
    assert!(worst < 1.01 && differ * 50 < inference.len(), "{differ} of {} codes differ, by {worst} steps", inference.len());
}
