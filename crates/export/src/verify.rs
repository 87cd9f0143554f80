//! What the integers answer, and whether they answer as the trained model does.
//!
//! [`integer_codes`] runs an integer model on all cores; [`Parity`] compares its answers with those of the fake-quantized model,
//! sample by sample and code by code. The answer of a classifier is its highest score, the first of several equal ones. Not here:
//! reading samples (the `train` crate), running other people's runtimes (`tests/peers`).

use std::collections::BTreeSet;
use std::num::NonZero;
use std::thread;

use burn::tensor::{Device, ExecutionError, Tensor, TensorData};
use qat_runtime::{CodeType, Codes, CodesRef, Engine, IntegerModel, RunError, ValueInfo, quantize, quantize_int16};

/// Samples that a device computes at a time.
const BATCH: usize = 200;

/// Output codes of `model` for any whole number of samples, batch first; all cores share the samples.
///
/// # Errors
/// As [`Engine::run`], and what [`IntegerModel::validate`] refuses.
pub fn integer_codes<'c>(model: &IntegerModel, codes: impl Into<CodesRef<'c>>) -> Result<Codes, RunError> {
    model.validate()?;
    let codes = codes.into();
    let sample = model.input_info().elements().unwrap_or(usize::MAX);
    if !codes.len().is_multiple_of(sample) {
        return Err(RunError::InputLength { sample, found: codes.len() });
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let share = (codes.len() / sample).div_ceil(threads).max(1) * sample;
    let parts: Vec<Result<Codes, RunError>> = thread::scope(|scope| {
        let run = |start: usize| {
            let part = codes.slice(start, share.min(codes.len() - start));
            move || Engine::new(model)?.run(part)
        };
        let workers: Vec<_> = (0..codes.len()).step_by(share).map(|start| scope.spawn(run(start))).collect();
        let join =
            |worker: thread::ScopedJoinHandle<'_, _>| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        workers.into_iter().map(join).collect()
    });
    let mut all = Codes::zeros(model.output_info().code_type, 0);
    for part in parts {
        all.extend(part?.view());
    }
    Ok(all)
}

/// Output numbers of `forward` for any whole number of samples of `shape`, `[C, H, W]`, batch first.
///
/// # Errors
/// What the device says when it cannot compute.
///
/// # Panics
/// If `samples` is not a whole number of samples.
pub fn real_outputs(
    forward: impl Fn(Tensor<4>) -> Tensor<2>,
    samples: &[f32],
    shape: [usize; 3],
    device: &Device,
) -> Result<Vec<f32>, ExecutionError> {
    let [c, h, w] = shape;
    let sample = c * h * w;
    assert!(samples.len().is_multiple_of(sample), "samples of {sample} numbers were expected, found {}", samples.len());
    let mut outputs = Vec::new();
    for batch in samples.chunks(BATCH * sample) {
        let data = TensorData::new(batch.to_vec(), [batch.len() / sample, c, h, w]);
        outputs.extend(forward(Tensor::from_data(data, device)).try_into_data()?.iter::<f32>());
    }
    Ok(outputs)
}

/// The class of each sample: the place of its highest score, the first of several equal ones.
///
/// # Panics
/// If `classes` is 0.
pub fn top1<T: PartialOrd + Copy>(scores: &[T], classes: usize) -> Vec<usize> {
    let highest = |row: &[T]| row.iter().enumerate().fold(0, |best, (at, score)| if *score > row[best] { at } else { best });
    scores.chunks_exact(classes).map(highest).collect()
}

/// Share of samples, in percent, whose class is their label; NaN for no samples.
///
/// # Panics
/// If there are not as many labels as classes.
pub fn accuracy(classes: &[usize], labels: &[u8]) -> f64 {
    assert_eq!(classes.len(), labels.len(), "{} labels for {} samples", labels.len(), classes.len());
    let correct = classes.iter().zip(labels).filter(|(class, label)| **class == usize::from(**label)).count();
    100.0 * correct as f64 / labels.len() as f64
}

/// How an integer model answered, compared with the model that it was converted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parity {
    /// Samples compared.
    pub samples: usize,
    /// Samples of one class in both.
    pub agreeing: usize,
    /// Output codes compared.
    pub codes: usize,
    /// Output codes that differ.
    pub differing_codes: usize,
    /// Largest difference of two codes.
    pub largest_difference: u32,
}

impl Parity {
    /// Compares `codes`, output of `integers`, with `scores`, output of the fake-quantized model, for the same samples.
    ///
    /// # Panics
    /// If there are not as many scores as codes.
    pub fn of(integers: &IntegerModel, codes: &Codes, scores: &[f32]) -> Self {
        let codes = codes.to_i32s();
        assert_eq!(codes.len(), scores.len(), "{} codes were compared with {} scores", codes.len(), scores.len());
        let output = integers.output_info();
        let classes = output.elements().unwrap_or(usize::MAX).max(1);
        let (theirs, ours) = (top1(scores, classes), top1(&codes, classes));
        let differences = codes.iter().zip(scores).map(|(code, score)| code.abs_diff(quantize_output(output, *score)));
        let (mut differing_codes, mut largest_difference) = (0, 0);
        for difference in differences.filter(|difference| *difference > 0) {
            differing_codes += 1;
            largest_difference = largest_difference.max(difference);
        }
        Self {
            samples: ours.len(),
            agreeing: ours.iter().zip(&theirs).filter(|(a, b)| a == b).count(),
            codes: codes.len(),
            differing_codes,
            largest_difference,
        }
    }

    /// Share of samples of one class in both, in percent; NaN for no samples.
    pub fn agreement(&self) -> f64 {
        100.0 * self.agreeing as f64 / self.samples as f64
    }
}

/// The code of a real output.
fn quantize_output(output: &ValueInfo, real: f32) -> i32 {
    match output.code_type {
        CodeType::Int16 => quantize_int16(real, output.qparams).into(),
        CodeType::Int8 | CodeType::Int32 => quantize(real, output.qparams).into(),
    }
}

/// Bytes of a model's constants: packed weights and, for each output channel, 4 for the bias and 4 for the multiplier. A layer that is
/// applied several times counts once.
pub fn parameter_bytes(model: &IntegerModel) -> u64 {
    let mut seen = BTreeSet::new();
    let layers = model.nodes.iter().filter(|node| node.op.layer().is_some_and(|name| seen.insert(name)));
    let bytes = layers.map(|node| match (node.op.weights(), &node.op) {
        (Some((weights, channels)), _) => weights.codes.as_bytes().len() + 8 * channels,
        (None, qat_runtime::Op::Gather(gather)) => gather.table.as_bytes().len(),
        _ => 0,
    });
    bytes.sum::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        module::Module,
        nn::{
            BatchNorm, BatchNormConfig, Linear, LinearConfig,
            conv::{Conv2d, Conv2dConfig},
        },
        tensor::{Distribution, activation::relu},
    };
    use qat::{Mode, QConfig, QatModel, analysis::layer_costs};

    #[derive(Module, Debug)]
    struct Net {
        conv: Conv2d,
        norm: BatchNorm,
        logits: Linear,
    }

    impl Net {
        fn forward(&self, x: Tensor<4>) -> Tensor<2> {
            self.logits.forward(relu(self.norm.forward(self.conv.forward(x))).flatten(1, 3))
        }
    }

    const SEED: u64 = 11;
    const SHAPE: [usize; 3] = [2, 6, 6];

    /// A calibrated model, its integers and samples for both.
    fn converted(device: &Device) -> (QatModel, IntegerModel, Vec<f32>) {
        println!("seed {SEED}");
        device.seed(SEED);
        let net = Net {
            conv: Conv2dConfig::new([2, 4], [3, 3]).init(device),
            norm: BatchNormConfig::new(4).init(device),
            logits: LinearConfig::new(4 * 4 * 4, 5).init(device),
        };
        let batch = Tensor::<4>::random([301, 2, 6, 6], Distribution::Uniform(0.0, 1.0), device);
        let model = QatModel::prepare(&net, [1, 2, 6, 6], &QConfig::int8(), Net::forward).unwrap().with_mode(Mode::Observe);
        model.forward::<4, 2>(batch.clone());
        let model = model.calibrated().unwrap();
        let integers = crate::convert(&model, crate::Target::Onnx).unwrap();
        (model, integers, batch.into_data().iter().collect())
    }

    #[test]
    fn all_cores_together_say_what_one_says() {
        let (_, integers, samples) = converted(&Device::flex());
        let codes = integers.quantize_input(&samples);
        assert_eq!(integer_codes(&integers, &codes).unwrap(), integers.run(&codes).unwrap());
        assert!(integer_codes(&integers, [0i8; 0].as_slice()).unwrap().is_empty());
        let expected = RunError::InputLength { sample: 72, found: 71 };
        assert_eq!(integer_codes(&integers, codes.view().slice(0, 71)).unwrap_err(), expected);
    }

    #[test]
    fn integers_and_fake_quantization_agree() {
        let device = Device::flex();
        let (model, integers, samples) = converted(&device);
        let codes = integer_codes(&integers, &integers.quantize_input(&samples)).unwrap();
        let scores = real_outputs(|x| model.forward(x), &samples, SHAPE, &device).unwrap();
        let parity = Parity::of(&integers, &codes, &scores);
        assert_eq!((parity.samples, parity.codes), (301, 1505));
        // The float sums of fake quantization may end on the other side of a tie.
        assert!(parity.largest_difference <= 1 && parity.differing_codes <= 3, "{parity:?}");
        assert!(parity.agreement() > 99.0, "{parity:?}");

        let mut wrong = codes.as_int8().unwrap().to_vec();
        wrong[0] = wrong[0].wrapping_add(7);
        let wrong = Codes::Int8(wrong);
        let parity = Parity::of(&integers, &wrong, &scores);
        assert!(parity.differing_codes >= 1 && parity.largest_difference >= 6, "{parity:?}");
    }

    #[test]
    fn sizes_are_those_of_the_cost_table() {
        let (model, integers, _) = converted(&Device::flex());
        assert_eq!(parameter_bytes(&integers), layer_costs(&model).iter().map(|cost| cost.integer_bytes).sum::<u64>());
        assert_eq!(parameter_bytes(&integers), 72 + 8 * 4 + 320 + 8 * 5);
    }

    #[test]
    fn the_first_of_equal_scores_wins() {
        assert_eq!(top1(&[1, 3, 3, 2, 2, 2, -1, -1, 0], 3), [1, 0, 2]);
        assert_eq!(accuracy(&[1, 0, 2], &[1, 1, 2]), 200.0 / 3.0);
        assert!(accuracy(&[], &[]).is_nan());
    }
}
