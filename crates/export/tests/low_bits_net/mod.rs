//! A small residual network with every kind of reader, in 4, 3 and 2 bits, with steps that have learned a little.

#![allow(dead_code, reason = "each test binary uses some of it")]

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::module::{adaptive_avg_pool2d, max_pool2d};
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Distribution, Tensor};
use qat::{CodeRange, Granularity, IntegerFormat, Mode, ObserverKind, QConfig, QatModel, RangeLearner, WeightScale};

/// Samples that it is calibrated and compared on.
pub const SAMPLES: usize = 96;
/// One sample.
pub const SHAPE: [usize; 4] = [1, 2, 8, 8];

/// A stem, a residual block whose sum is read by a convolution and by the next sum, pools, and a head.
#[derive(Module, Debug)]
pub struct Net {
    stem: Conv2d,
    stem_norm: BatchNorm,
    first: Conv2d,
    first_norm: BatchNorm,
    second: Conv2d,
    second_norm: BatchNorm,
    third: Conv2d,
    wide: Conv2d,
    pooled: Conv2d,
    head: Linear,
}

impl Net {
    /// Random parameters of a seed.
    pub fn new(seed: u64, device: &Device) -> Self {
        println!("seed {seed}");
        device.seed(seed);
        let conv = |c_in, c_out, kernel: usize| {
            let padding = PaddingConfig2d::Explicit(kernel / 2, kernel / 2, kernel / 2, kernel / 2);
            Conv2dConfig::new([c_in, c_out], [kernel, kernel]).with_padding(padding).init(device)
        };
        let norm = || {
            let mut norm = BatchNormConfig::new(8).init(device);
            let random = |low, high| Tensor::<1>::random([8], Distribution::Uniform(low, high), device);
            norm.running_mean.update(random(-0.1, 0.1));
            norm.running_var.update(random(0.1, 0.4));
            // Factors of both signs, since they turn codes around.
            norm.gamma = Param::from_tensor(random(-1.5, 1.5));
            norm.beta = Param::from_tensor(random(-0.3, 0.5));
            norm
        };
        Self {
            stem: conv(2, 8, 3),
            stem_norm: norm(),
            first: conv(8, 8, 3),
            first_norm: norm(),
            second: conv(8, 8, 3),
            second_norm: norm(),
            third: conv(8, 8, 3),
            wide: conv(8, 12, 1),
            pooled: conv(12, 12, 1),
            head: LinearConfig::new(12, 5).init(device),
        }
    }

    /// Scores of images.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.stem_norm.forward(self.stem.forward(x)));
        let y = relu(self.first_norm.forward(self.first.forward(x.clone())));
        let x = relu(self.second_norm.forward(self.second.forward(y)) + x);
        let x = relu(self.third.forward(x.clone()) + x);
        let x = max_pool2d(x, MaxPoolOptions::new([2, 2]).with_stride([2, 2]));
        let x = adaptive_avg_pool2d(relu(self.wide.forward(x)), [2, 2]);
        let x = relu(self.pooled.forward(x)).mean_dim(2).mean_dim(3);
        let [n, c, ..] = x.dims();
        self.head.forward(x.reshape([n, c]))
    }
}

/// The schemes: presets, and what they leave out.
pub fn schemes() -> Vec<(&'static str, QConfig)> {
    let without_exceptions = |mut config: QConfig| {
        config.overrides.clear();
        config
    };
    let calibrated_alone = QConfig {
        weight: IntegerFormat::new(3, CodeRange::Narrow).expect("3 bits"),
        weight_scale: WeightScale::Mse,
        activation: IntegerFormat::new(5, CodeRange::Full).expect("5 bits"),
        observer: ObserverKind::PERCENTILE,
        learner: RangeLearner::Fixed,
        ..QConfig::int8()
    };
    let per_tensor = QConfig { weight_granularity: Granularity::PerTensor, ..QConfig::w4a4() };
    let learned_ends = QConfig { learner: RangeLearner::MinMax, weight_scale: WeightScale::Max, ..QConfig::w4a4() };
    vec![
        ("w4a4", QConfig::w4a4()),
        ("w3a3", QConfig::w3a3()),
        ("w2a2", QConfig::w2a2()),
        ("w4a4 from input to output", without_exceptions(QConfig::w4a4())),
        ("w2a2 from input to output", without_exceptions(QConfig::w2a2())),
        ("w3a5 fixed", calibrated_alone),
        ("w4a4 per tensor", per_tensor),
        ("w4a4 with learned ends", learned_ends),
    ]
}

/// Images that a seed gives.
pub fn images(seed: u64, device: &Device) -> Tensor<4> {
    device.seed(seed);
    Tensor::random([SAMPLES, SHAPE[1], SHAPE[2], SHAPE[3]], Distribution::Uniform(-1.0, 1.0), device)
}

/// The network, calibrated, and trained for some steps towards what it computes in float.
pub fn trained(config: &QConfig, seed: u64) -> QatModel {
    let device = Device::flex();
    let net = Net::new(seed, &device);
    let batch = images(seed + 1, &device);
    let model = QatModel::prepare(&net, SHAPE, config, Net::forward).expect("it is supported").with_mode(Mode::Observe);
    let target: Tensor<2> = model.forward(batch.clone());
    let mut model = model.calibrated().expect("it has seen images").with_norm_frozen(true).train();
    let training = device.autodiff();
    let (batch, target) = (batch.to_device(&training), target.to_device(&training));
    let mut optimizer = AdamConfig::new().init();
    for _ in 0..8 {
        let difference = model.forward::<4, 2>(batch.clone()) - target.clone();
        let gradients = GradientsParams::from_grads((difference.clone() * difference).mean().backward(), &model);
        model = optimizer.step(0.003, model, gradients);
    }
    model.valid()
}
