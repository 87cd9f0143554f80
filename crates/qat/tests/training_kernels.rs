//! Training on kernels is training on the compositions that define them.
//!
//! The same network is trained with kernels on Flex and on `ndarray`, and with compositions on Flex: 200 steps of quantized training,
//! whose losses stay *near* each other. Sums have another order there, and a number at the edge of two codes may fall to either side, so
//! that trajectories part slowly; the tolerance is declared here.

mod draws;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};
use draws::Draws;
use qat::nn::NormStatistics;
use qat::{Mode, QConfig, QatModel, with_reference_operations};

/// Images of a batch.
const BATCH: usize = 16;

/// Largest difference of the losses of one step, and of their means over all steps.
const TOLERANCE: [f64; 2] = [0.05, 0.005];

#[derive(Module, Debug)]
struct Net {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    pool: MaxPool2d,
    head: Linear,
}

impl Net {
    /// Weights from draws: those of the device would depend on what else uses it.
    fn new(draws: &mut Draws, device: &Device) -> Self {
        let mut conv = |channels: [usize; 2], stride: usize, groups: usize| {
            let mut conv = Conv2dConfig::new(channels, [3, 3])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_groups(groups)
                .with_bias(false)
                .init(device);
            conv.weight = Param::from_tensor(draws.tensor([channels[1], channels[0] / groups, 3, 3], -0.4, 0.4, device));
            conv
        };
        let (conv1, conv2) = (conv([2, 8], 1, 1), conv([8, 8], 2, 4));
        let mut head = LinearConfig::new(8 * 3 * 3, 4).with_bias(false).init(device);
        head.weight = Param::from_tensor(draws.tensor([8 * 3 * 3, 4], -0.2, 0.2, device));
        Self {
            conv1,
            norm1: BatchNormConfig::new(8).init(device),
            conv2,
            norm2: BatchNormConfig::new(8).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            head,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm1.forward(self.conv1.forward(x)));
        let x = self.pool.forward(self.norm2.forward(self.conv2.forward(x)));
        self.head.forward(x.flatten::<2>(1, 3))
    }
}

/// Images whose class is the quarter that is brightest.
fn batch(draws: &mut Draws, device: &Device) -> (Tensor<4>, Tensor<1, Int>) {
    let images: Tensor<4> = draws.tensor([BATCH, 2, 12, 12], 0.0, 1.0, device);
    let quarters = |y: usize, x: usize| {
        images.clone().slice([0..BATCH, 0..2, 6 * y..6 * y + 6, 6 * x..6 * x + 6]).reshape([BATCH, 72]).sum_dim(1)
    };
    let targets = Tensor::cat(vec![quarters(0, 0), quarters(0, 1), quarters(1, 0), quarters(1, 1)], 1).argmax(1).reshape([BATCH]);
    (images, targets)
}

/// Losses of 200 steps on `device`, from weights that are the same on every device.
fn losses(device: &Device, statistics: NormStatistics) -> Vec<f64> {
    let flex = Device::flex();
    let mut draws = Draws::new(20_261_124);
    let net = Net::new(&mut draws, &flex);
    let model = QatModel::prepare(&net, [1, 2, 12, 12], &QConfig::int8(), Net::forward).expect("a net that can be quantized");
    let model = model.with_mode(Mode::Observe);
    model.forward::<4, 2>(batch(&mut draws, &flex).0);
    let model = model.calibrated().expect("finite ranges").with_norm_statistics(statistics);
    let device = device.clone().autodiff();
    let mut model = model.fork(&device).train();
    let mut optimizer = SgdConfig::new().init();
    (0..200)
        .map(|step| {
            if step == 150 {
                model = model.clone().with_norm_frozen(true);
            }
            let (images, targets) = batch(&mut draws, &device);
            let loss = CrossEntropyLossConfig::new().init(&device).forward(model.forward::<4, 2>(images), targets);
            let value = f64::from(loss.clone().into_scalar::<f32>());
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(0.05, model.clone(), gradients);
            value
        })
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn two_hundred_steps_on_kernels_are_those_on_compositions() {
    for statistics in [NormStatistics::Float, NormStatistics::Quantized] {
        let fused = losses(&Device::flex(), statistics);
        let composed = with_reference_operations(|| losses(&Device::flex(), statistics));
        assert_ne!(fused, composed, "{statistics:?}: one of the two ran both times");
        compare(&fused, &composed, statistics);
        #[cfg(feature = "ndarray")]
        #[allow(deprecated, reason = "ndarray is deprecated and still offered")]
        compare(&losses(&Device::ndarray(), statistics), &composed, statistics);
        assert!(mean(&fused[150..]) < mean(&fused[..50]), "{statistics:?}: it does not learn");
    }
}

fn compare(fused: &[f64], composed: &[f64], statistics: NormStatistics) {
    for (step, (fused, composed)) in fused.iter().zip(composed).enumerate() {
        assert!((fused - composed).abs() < TOLERANCE[0], "{statistics:?}, step {step}: {fused} and {composed}");
    }
    let difference = (mean(fused) - mean(composed)).abs();
    assert!(difference < TOLERANCE[1], "{statistics:?}: mean losses differ by {difference}");
}

#[test]
fn two_runs_are_the_same_bit_for_bit() {
    let run = || losses(&Device::flex(), NormStatistics::Float).iter().map(|loss| loss.to_bits()).collect::<Vec<_>>();
    assert_eq!(run(), run());
}
