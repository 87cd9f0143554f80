//! Integers do not depend on the kernels that a model was trained, calibrated or run on.
//!
//! The integers of one model are *equal*, byte for byte, whether kernels or the compositions that define them compute what conversion
//! asks of it, and on any device. Two trainings, one on each, are only *near*: sums have another order there, and a weight at the edge of two
//! codes may fall to either side. How many codes of weights may differ is declared here; `--nocapture` shows how many do.

mod low_bits_net;

use std::sync::Mutex;

use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use low_bits_net::{Net, SHAPE, images};
use qat::nn::NormStatistics;
use qat::{Mode, QConfig, QatModel, with_reference_operations};
use qat_export::verify::integer_codes;
use qat_export::{Target, convert, to_safetensors};
use qat_runtime::{IntegerModel, Op};

const SEED: u64 = 20_261_124;

/// That of quantized training after float training.
const LEARNING_RATE: f64 = 1e-4;

/// What two trainings of 200 steps may differ by.
struct Tolerance {
    /// The largest part of the codes of weights that differ.
    weights: f64,
    /// The largest difference of two codes of weights.
    largest: i32,
    /// The mean difference of outputs, in codes of the output.
    output: f64,
}

const TOLERANCE: Tolerance = Tolerance { weights: 0.1, largest: 8, output: 3.0 };

/// Random numbers of a device are those of all that use it, one test at a time.
static DEVICE: Mutex<()> = Mutex::new(());

/// A calibrated network, images, and what it computes of them in float.
struct Problem {
    model: QatModel,
    images: Tensor<4>,
    target: Tensor<2>,
}

impl Problem {
    fn new(config: &QConfig) -> Self {
        let _alone = DEVICE.lock();
        let device = Device::flex();
        let net = Net::new(SEED, &device);
        let images = images(SEED + 1, &device);
        let model = QatModel::prepare(&net, SHAPE, config, Net::forward).expect("it is supported").with_mode(Mode::Observe);
        let target = model.forward(images.clone());
        Self { model: model.calibrated().expect("it has seen images"), images, target }
    }

    /// The network trained towards what it computes in float; batch norms are frozen for the last steps.
    fn trained(&self, statistics: NormStatistics, steps: usize) -> QatModel {
        let mut model = self.model.clone().with_norm_statistics(statistics).train();
        let training = Device::flex().autodiff();
        let (images, target) = (self.images.clone().to_device(&training), self.target.clone().to_device(&training));
        let mut optimizer = AdamConfig::new().init();
        for step in 0..steps {
            if step == steps * 3 / 4 {
                model = model.with_norm_frozen(true);
            }
            let difference = model.forward::<4, 2>(images.clone()) - target.clone();
            let gradients = GradientsParams::from_grads((difference.clone() * difference).mean().backward(), &model);
            model = optimizer.step(LEARNING_RATE, model, gradients);
        }
        model.valid()
    }
}

/// Codes of all weights.
fn weights(model: &IntegerModel) -> Vec<i8> {
    let codes = model.nodes.iter().flat_map(|node| match &node.op {
        Op::Conv2d(op) => op.weights.codes.unpack(),
        Op::Linear(op) => op.weights.codes.unpack(),
        _ => Vec::new(),
    });
    codes.collect()
}

#[test]
fn integers_of_a_model_are_equal_on_kernels_and_on_compositions() {
    for config in [QConfig::int8(), QConfig::w4a4()] {
        let model = Problem::new(&config).trained(NormStatistics::Quantized, 8);
        for target in [Target::Onnx, Target::Tflite, Target::Tflm] {
            let integers = convert(&model, target).expect("it is supported");
            let bytes = to_safetensors(&integers).expect("it can be kept");
            let composed = with_reference_operations(|| convert(&model, target)).expect("it is supported");
            assert_eq!(to_safetensors(&composed).expect("it can be kept"), bytes, "{target:?}: compositions");
            #[allow(deprecated, reason = "ndarray is deprecated and still offered")]
            let elsewhere = convert(&model.clone().fork(&Device::ndarray()), target).expect("it is supported");
            assert_eq!(to_safetensors(&elsewhere).expect("it can be kept"), bytes, "{target:?}: ndarray");
        }
    }
}

#[test]
fn integers_of_two_trainings_are_near() {
    for (name, config) in [("int8", QConfig::int8()), ("w4a4", QConfig::w4a4())] {
        let problem = Problem::new(&config);
        let samples: Vec<f32> = problem.images.to_data().iter().collect();
        for statistics in [NormStatistics::Quantized, NormStatistics::Float] {
            let fused = problem.trained(statistics, 200);
            let composed = with_reference_operations(|| problem.trained(statistics, 200));
            let [fused, composed] = [fused, composed].map(|model| convert(&model, Target::Onnx).expect("it is supported"));
            let (left, right) = (weights(&fused), weights(&composed));
            assert_eq!(left.len(), right.len());
            let differences: Vec<i32> =
                left.iter().zip(&right).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs()).filter(|d| *d > 0).collect();
            let largest = differences.iter().copied().max().unwrap_or(0);
            let codes = |model: &IntegerModel| integer_codes(model, &model.quantize_input(&samples)).expect("it runs").to_i32s();
            let outputs: Vec<i32> = codes(&fused).iter().zip(codes(&composed)).map(|(a, b)| (a - b).abs()).collect();
            let output = f64::from(outputs.iter().sum::<i32>()) / outputs.len() as f64;
            println!(
                "{name}, {statistics:?}: {} of {} weights differ, by {largest} at most; outputs by {output:.3} codes in the mean",
                differences.len(),
                left.len(),
            );
            let part = differences.len() as f64 / left.len() as f64;
            assert!(part <= TOLERANCE.weights, "{name}, {statistics:?}: {part} of the weights differ");
            assert!(largest <= TOLERANCE.largest, "{name}, {statistics:?}: a weight differs by {largest}");
            assert!(output <= TOLERANCE.output, "{name}, {statistics:?}: outputs differ by {output} codes");
        }
    }
}
