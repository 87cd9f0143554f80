//! A network with batch norm that trains in no time.

use crate::support::{SEED, images};
use burn::{
    module::{Module, Param},
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor, TensorData, activation::relu},
};
use qat::{QConfig, QatModel, Scheme};
use qat_train::{Classifier, FitData, FitPlan, Manifest, Phase, Schedule, recipe};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// The images it sees.
pub const SHAPE: [usize; 3] = [1, 8, 8];

/// Convolution, batch norm and relu twice, then a linear layer.
#[derive(Module, Debug)]
pub struct Tiny {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    pub linear: Linear,
}

impl Tiny {
    /// With weights from `seed`.
    pub fn init(seed: u64) -> Self {
        let device = Device::flex();
        let conv = |channels| Conv2dConfig::new(channels, [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        let mut net = Self {
            conv1: conv([1, 4]).init(&device),
            norm1: BatchNormConfig::new(4).init(&device),
            conv2: conv([4, 4]).with_stride([2, 2]).init(&device),
            norm2: BatchNormConfig::new(4).init(&device),
            linear: LinearConfig::new(64, 10).init(&device),
        };
        // The device's own random numbers are shared with tests on other threads.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        net.conv1.weight = uniform(&mut rng, [4, 1, 3, 3], 0.33);
        net.conv1.bias = Some(uniform(&mut rng, [4], 0.33));
        net.conv2.weight = uniform(&mut rng, [4, 4, 3, 3], 0.17);
        net.conv2.bias = Some(uniform(&mut rng, [4], 0.17));
        net.linear.weight = uniform(&mut rng, [64, 10], 0.13);
        net.linear.bias = Some(uniform(&mut rng, [10], 0.13));
        net
    }

    /// With quantizers, in float.
    pub fn prepared(seed: u64, config: &QConfig) -> QatModel {
        recipe::prepare(&Self::init(seed), SHAPE, config).unwrap()
    }
}

impl Classifier for Tiny {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm1.forward(self.conv1.forward(images)));
        let x = relu(self.norm2.forward(self.conv2.forward(x)));
        self.linear.forward(x.flatten(1, 3))
    }
}

/// A parameter with numbers in `[-bound, bound]`.
pub fn uniform<const D: usize>(rng: &mut ChaCha8Rng, shape: [usize; D], bound: f32) -> Param<Tensor<D>> {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| (rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0) * bound).collect();
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &Device::flex()))
}

/// `count` images to learn from, and 40 to be judged on.
pub fn data(count: usize) -> FitData {
    FitData { train: images(SHAPE, count, SEED), valid: images(SHAPE, 40, SEED + 1) }
}

/// A run of a schedule, in batches of 8.
pub fn manifest(scheme: impl Into<Scheme>, schedule: Schedule) -> Manifest {
    Manifest::new("tiny", "noise", scheme.into(), "flex", SEED, 8, schedule)
}

/// A float phase in batches of 8.
pub fn plan(epochs: usize) -> FitPlan {
    FitPlan::new(Phase::Float, "tiny", epochs, 8, 1e-2, SEED)
}
