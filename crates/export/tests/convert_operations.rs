//! Every operation that can be captured converts to integers, which are *near* the fake-quantized model: a code apart at most, on a
//! declared share of the outputs, for a network of one rounded operation; more where several follow each other.
//!
//! The claim is no equality: a runtime rounds additions, averages and functions in its own way, and the float sums of fake
//! quantization may end on the other side of a tie. Equality of the integers with runtimes is proved elsewhere.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Module, Param};
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::gru::{Gru, GruConfig};
use burn::nn::pool::{AdaptiveAvgPool1dConfig, AvgPool1dConfig, MaxPool1dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, Linear, LinearConfig, Lstm, LstmConfig, PaddingConfig1d,
    PaddingConfig2d,
};
use burn::tensor::activation::{
    gelu, gelu_approximate, hard_sigmoid, hard_swish, leaky_relu, relu, relu6, sigmoid, silu, softmax, tanh,
};
use burn::tensor::module::{adaptive_avg_pool2d, avg_pool2d, interpolate};
use burn::tensor::ops::{AvgPoolOptions, InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Distribution, Int, Tensor, s};
use qat::{IntegerFormat, Mode, QConfig, QatModel};
use qat_export::verify::{Parity, integer_codes};
use qat_export::{CheckError, Target, check, convert};
use qat_runtime::{Codes, Op};

#[derive(Module, Debug)]
struct Parts {
    conv1d: Conv1d,
    conv: Conv2d,
    depthwise: Conv2d,
    transposed: ConvTranspose2d,
    grouped: ConvTranspose2d,
    norm: BatchNorm,
    linear: Linear,
    second: Linear,
    lstm: Lstm,
    gru: Gru,
    attention: MultiHeadAttention,
    embedding: Embedding,
    offset: Param<Tensor<2>>,
}

const SEED: u64 = 0xc0de_0001;
const SAMPLES: usize = 64;

/// Held by who draws, since all tests draw from the numbers of one device.
static DRAWING: Mutex<()> = Mutex::new(());

/// The parts, which are drawn when they are first used, and what keeps other tests from drawing between.
fn parts(device: &Device) -> (Parts, MutexGuard<'static, ()>) {
    let alone = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
    println!("seed {SEED}");
    device.seed(SEED);
    let random = |low, high| Tensor::<1>::random([4], Distribution::Uniform(low, high), device);
    let mut norm = BatchNormConfig::new(4).init(device);
    norm.running_mean.update(random(-0.3, 0.3));
    norm.running_var.update(random(0.5, 1.5));
    norm.gamma = Param::from_tensor(random(0.5, 1.5));
    let parts = Parts {
        conv1d: Conv1dConfig::new(4, 6, 3).with_stride(2).with_padding(PaddingConfig1d::Explicit(1, 2)).init(device),
        conv: Conv2dConfig::new([4, 4], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device),
        depthwise: Conv2dConfig::new([4, 8], [3, 3]).with_groups(4).with_bias(false).init(device),
        transposed: ConvTranspose2dConfig::new([4, 4], [3, 2])
            .with_stride([2, 2])
            .with_padding([1, 0])
            .with_padding_out([1, 0])
            .init(device),
        grouped: ConvTranspose2dConfig::new([4, 6], [2, 2]).with_groups(2).init(device),
        norm,
        linear: LinearConfig::new(4, 4).init(device),
        second: LinearConfig::new(4, 3).init(device),
        lstm: LstmConfig::new(4, 4, true).init(device),
        gru: GruConfig::new(4, 4, true).init(device),
        attention: MultiHeadAttentionConfig::new(4, 2).init(device),
        embedding: EmbeddingConfig::new(20, 4).init(device),
        offset: Param::from_tensor(Tensor::random([1, 4], Distribution::Uniform(-1.0, 1.0), device)),
    };
    (parts, alone)
}

/// How far the integers may be from the fake-quantized model.
#[derive(Clone, Copy)]
struct Tolerance {
    /// In codes.
    difference: u32,
    /// Of the output codes, in percent.
    share: f64,
}

/// One rounded operation whose rule is the mathematics.
const PRODUCT: Tolerance = Tolerance { difference: 1, share: 2.0 };
/// One operation that runtimes round in their own way.
const ROUNDED: Tolerance = Tolerance { difference: 1, share: 13.0 };
/// A mean: where gemmlowp's second rounding halves, every second result of the first is a tie.
const AVERAGED: Tolerance = Tolerance { difference: 1, share: 30.0 };
/// Codes that are moved.
const MOVED: Tolerance = Tolerance { difference: 0, share: 0.0 };
/// Several operations, the later ones on the differences of the earlier.
const SEVERAL: Tolerance = Tolerance { difference: 4, share: 60.0 };

fn compare<const I: usize, const O: usize>(
    name: &str,
    target: Target,
    config: &QConfig,
    tolerance: Tolerance,
    shape: [usize; I],
    forward: impl Fn(&Parts, Tensor<I>) -> Tensor<O>,
) -> Result<(), String> {
    let device = Device::flex();
    let (module, _alone) = parts(&device);
    let mut batch_shape = shape;
    batch_shape[0] = SAMPLES;
    let batch = Tensor::<I>::random(batch_shape, Distribution::Uniform(-2.0, 2.0), &device);
    let prepared = QatModel::prepare(&module, shape, config, forward).unwrap();
    // What the file formats cannot hold is another matter.
    let is_of_conversion = |error: &CheckError| !matches!(error, CheckError::Format { .. });
    let obstacles: Vec<CheckError> = check(&prepared, target).into_iter().filter(is_of_conversion).collect();
    let what = format!("{name} for {}", target.name());
    let claim = |holds: bool, found: String| if holds { Ok(()) } else { Err(format!("{what}: {found}")) };
    let model = prepared.with_mode(Mode::Observe);
    model.forward::<I, O>(batch.clone());
    let model = model.calibrated().unwrap();
    let integers = match convert(&model, target) {
        Ok(integers) => integers,
        Err(error) => {
            println!("{what}: {error}");
            claim(!obstacles.is_empty(), format!("{error} was not among the obstacles"))?;
            return claim(refused(name, target, config), error.to_string());
        }
    };
    claim(obstacles.is_empty(), format!("{obstacles:?}"))?;
    claim(!refused(name, target, config), "it converts".into())?;
    let samples: Vec<f32> = batch.to_data().iter().collect();
    let codes = integer_codes(&integers, &integers.quantize_input(&samples)).unwrap();
    let scores: Vec<f32> = model.forward::<I, O>(batch).into_data().iter().collect();
    let parity = Parity::of(&integers, &codes, &scores);
    let share = 100.0 * parity.differing_codes as f64 / parity.codes as f64;
    // A code of 16 bits is 1/256 of one of 8 bits, and f32 sums and interpolated tables reach it less often.
    let tolerance = match (config.activation == IntegerFormat::INT16, tolerance.difference) {
        (false, _) | (true, 0) => tolerance,
        (true, difference) => Tolerance { difference: 48 * difference, share: 100.0 },
    };
    println!("{what}: {share:.2} % of {} codes differ, by at most {}", parity.codes, parity.largest_difference);
    claim(parity.largest_difference <= tolerance.difference && share <= tolerance.share, format!("{share:.2} %, {parity:?}"))
}

/// Runs all cases that `chosen` takes, and names each failure.
fn run_all(target: Target, config: &QConfig, chosen: impl Fn(&str) -> bool) {
    let failures: Vec<String> =
        cases().into_iter().filter(|(name, _)| chosen(name)).filter_map(|(_, run)| run(target, config).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What a target's rules have not.
fn refused(name: &str, target: Target, config: &QConfig) -> bool {
    let is_wide = config.activation == IntegerFormat::INT16;
    match name {
        "gelu" | "gelu by tanh" => matches!(target, Target::Tflm | Target::Rust),
        "hard swish" => is_wide,
        "transposed in groups" => target != Target::Onnx,
        "mean over axes apart" => target == Target::Onnx,
        _ => false,
    }
}

type Case = (&'static str, Box<dyn Fn(Target, &QConfig) -> Result<(), String>>);

fn cases() -> Vec<Case> {
    fn case<const I: usize, const O: usize>(
        name: &'static str,
        tolerance: Tolerance,
        shape: [usize; I],
        forward: impl Fn(&Parts, Tensor<I>) -> Tensor<O> + Clone + 'static,
    ) -> Case {
        let run = move |target, config: &QConfig| compare(name, target, config, tolerance, shape, forward.clone());
        (name, Box::new(run))
    }
    vec![
        case("conv1d", PRODUCT, [1, 4, 9], |p, x: Tensor<3>| relu(p.conv1d.forward(x))),
        case("conv2d", PRODUCT, [1, 4, 6, 6], |p, x: Tensor<4>| relu6(p.norm.forward(p.conv.forward(x)))),
        case("depthwise", PRODUCT, [1, 4, 6, 6], |p, x: Tensor<4>| p.depthwise.forward(x)),
        case("transposed", PRODUCT, [1, 4, 4, 5], |p, x: Tensor<4>| relu(p.norm.forward(p.transposed.forward(x)))),
        case("transposed in groups", PRODUCT, [1, 4, 4, 5], |p, x: Tensor<4>| p.grouped.forward(x)),
        case("norm alone", PRODUCT, [1, 4, 4, 5], |p, x: Tensor<4>| p.norm.forward(x)),
        case("linear", PRODUCT, [1, 4], |p, x: Tensor<2>| p.linear.forward(x).clamp(-0.9, 1.1)),
        case("linear on rows", PRODUCT, [1, 5, 4], |p, x: Tensor<3>| p.second.forward(x)),
        case("matmul", ROUNDED, [1, 3, 5, 4], |_, x: Tensor<4>| x.clone().matmul(x.swap_dims(2, 3))),
        case("pools of one dimension", SEVERAL, [1, 4, 12], |_, x: Tensor<3>| {
            let x = MaxPool1dConfig::new(3).with_stride(1).init().forward(x);
            let x = AvgPool1dConfig::new(2).with_stride(1).init().forward(x);
            AdaptiveAvgPool1dConfig::new(3).init().forward(x)
        }),
        case("add", ROUNDED, [1, 2, 4], |_, x: Tensor<3>| {
            let halves = x.chunk(2, 1);
            relu(halves[0].clone() + halves[1].clone())
        }),
        case("sub", ROUNDED, [1, 2, 4], |_, x: Tensor<3>| {
            let halves = x.chunk(2, 1);
            halves[0].clone() - halves[1].clone()
        }),
        case("mul", ROUNDED, [1, 2, 4], |_, x: Tensor<3>| {
            let halves = x.chunk(2, 1);
            halves[0].clone() * halves[1].clone()
        }),
        case("constant", ROUNDED, [1, 4], |p, x: Tensor<2>| p.offset.val() - x),
        case("numbers", SEVERAL, [1, 4], |_, x: Tensor<2>| relu(x * 2.5 - 1.25)),
        case("one minus", SEVERAL, [1, 4], |_, x: Tensor<2>| sigmoid(x).neg() + 1.0),
        case("concat", SEVERAL, [1, 4], |p, x: Tensor<2>| {
            Tensor::cat(vec![relu(p.linear.forward(x.clone())), x.clone(), p.second.forward(x)], 1)
        }),
        case("concat of one grid", MOVED, [1, 4], |_, x: Tensor<2>| {
            let halves = x.clone().chunk(2, 1);
            Tensor::cat(vec![halves[1].clone(), x, halves[0].clone()], 1)
        }),
        case("mean", AVERAGED, [1, 4, 3, 5], |_, x: Tensor<4>| x.mean_dims(&[2, 3]).squeeze_dims::<2>(&[2, 3])),
        case("mean over axes apart", AVERAGED, [1, 4, 3, 5], |_, x: Tensor<4>| x.mean_dims(&[1, 3]).squeeze_dims::<2>(&[1, 3])),
        case("average", SEVERAL, [1, 4, 6, 6], |_, x: Tensor<4>| {
            avg_pool2d(x, AvgPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]).with_count_include_pad(true))
        }),
        case("average without padding", SEVERAL, [1, 4, 6, 6], |_, x: Tensor<4>| {
            avg_pool2d(x, AvgPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]).with_count_include_pad(false))
        }),
        case("average of an image", AVERAGED, [1, 4, 6, 6], |_, x: Tensor<4>| adaptive_avg_pool2d(x, [1, 1])),
        case("matmul and relu", ROUNDED, [1, 3, 5, 4], |_, x: Tensor<4>| relu(x.clone().matmul(x.swap_dims(2, 3)))),
        case("clamp", MOVED, [1, 4], |_, x: Tensor<2>| relu(x.clamp_max(1.3).reshape([-1, 2, 2]))),
        case("sigmoid", ROUNDED, [1, 4], |_, x: Tensor<2>| sigmoid(x)),
        case("tanh", ROUNDED, [1, 4], |_, x: Tensor<2>| tanh(x)),
        case("hard swish", ROUNDED, [1, 4], |_, x: Tensor<2>| hard_swish(x)),
        case("hard sigmoid", SEVERAL, [1, 4], |_, x: Tensor<2>| hard_sigmoid(x, 0.2, 0.5)),
        case("gelu", ROUNDED, [1, 4], |_, x: Tensor<2>| gelu(x)),
        case("gelu by tanh", ROUNDED, [1, 4], |_, x: Tensor<2>| gelu_approximate(x)),
        case("silu", SEVERAL, [1, 4], |_, x: Tensor<2>| silu(x)),
        case("leaky relu", ROUNDED, [1, 4], |_, x: Tensor<2>| leaky_relu(x, 0.1)),
        case("softmax", ROUNDED, [1, 3, 4], |_, x: Tensor<3>| softmax(x, 2)),
        case("moves", MOVED, [1, 3, 4, 5], |_, x: Tensor<4>| x.permute([0, 2, 3, 1]).swap_dims(1, 3).flatten::<3>(1, 2)),
        case("pad", MOVED, [1, 3, 4], |_, x: Tensor<3>| x.pad([(0, 0), (1, 0), (2, 3)], 0.0)),
        case("slice", MOVED, [1, 6, 4], |_, x: Tensor<3>| x.slice(s![.., 1..6;2, ..])),
        case("resize", MOVED, [1, 4, 3, 2], |_, x: Tensor<4>| {
            interpolate(x, InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([6, 6]))
        }),
        case("lstm", SEVERAL, [1, 6, 4], |p, x: Tensor<3>| p.second.forward(p.lstm.forward(x, None).1.hidden)),
        case("lstm, all states", SEVERAL, [1, 6, 4], |p, x: Tensor<3>| p.lstm.forward(x, None).0),
        case("gru", SEVERAL, [1, 6, 4], |p, x: Tensor<3>| p.second.forward(p.gru.forward(x, None))),
        case("attention", Tolerance { difference: 12, share: 80.0 }, [1, 5, 4], |p, x: Tensor<3>| {
            p.attention.forward(MhaInput::self_attn(x)).context
        }),
    ]
}

#[test]
fn for_onnx() {
    run_all(Target::Onnx, &QConfig::int8(), |_| true);
}

#[test]
fn for_tflite() {
    run_all(Target::Tflite, &QConfig::int8(), |_| true);
}

#[test]
fn for_tflite_micro() {
    run_all(Target::Tflm, &QConfig::int8(), |_| true);
}

#[test]
fn with_activations_of_sixteen_bits() {
    for target in [Target::Tflite, Target::Tflm] {
        run_all(target, &QConfig::w8a16(), |_| true);
    }
}

#[test]
fn with_weights_of_fewer_bits() {
    let weighted = ["conv1d", "conv2d", "depthwise", "transposed", "linear", "linear on rows", "lstm"];
    for config in [QConfig::w4a8(), QConfig::w2a8(), QConfig::int8_per_tensor()] {
        run_all(Target::Onnx, &config, |name| weighted.contains(&name));
    }
}

#[test]
fn an_embedding_becomes_a_gather() {
    let device = Device::flex();
    let (module, _alone) = parts(&device);
    let forward = |p: &Parts, x: Tensor<2, Int>| p.second.forward(p.embedding.forward(x));
    let indices: Vec<i64> = (0..SAMPLES as i64 * 5).map(|index| index * 7 % 20).collect();
    let batch = Tensor::<1, Int>::from_ints(&indices[..], &device).reshape([SAMPLES, 5]);
    let prepared = QatModel::prepare_indices(&module, [1, 5], &QConfig::int8(), forward).unwrap();
    assert!(check(&prepared, Target::Onnx).is_empty());
    let model = prepared.with_mode(Mode::Observe);
    model.forward_indices::<3>(batch.clone());
    let model = model.calibrated().unwrap();
    let integers = convert(&model, Target::Onnx).unwrap();
    assert!(integers.nodes.iter().any(|node| matches!(node.op, Op::Gather(_))));
    let codes = Codes::Int32(indices.iter().map(|index| *index as i32).collect());
    let codes = integer_codes(&integers, &codes).unwrap();
    let scores: Vec<f32> = model.forward_indices::<3>(batch).into_data().iter().collect();
    let parity = Parity::of(&integers, &codes, &scores);
    assert!(parity.largest_difference <= 1 && parity.differing_codes * 200 <= parity.codes, "{parity:?}");
}

#[test]
fn shared_weights_are_the_same_at_every_step() {
    let device = Device::flex();
    let (module, _alone) = parts(&device);
    let forward = |p: &Parts, x: Tensor<3>| p.lstm.forward(x, None).1.hidden;
    let model = QatModel::prepare(&module, [1, 6, 4], &QConfig::int8(), forward).unwrap().with_mode(Mode::Observe);
    model.forward::<3, 2>(Tensor::random([SAMPLES, 6, 4], Distribution::Uniform(-1.0, 1.0), &device));
    let integers = convert(&model.calibrated().unwrap(), Target::Onnx).unwrap();
    let gate = |node: &qat_runtime::Node| match &node.op {
        Op::Linear(linear) if linear.name == "lstm.input_gate.hidden_transform" => Some(linear.clone()),
        _ => None,
    };
    let steps: Vec<_> = integers.nodes.iter().filter_map(gate).collect();
    assert_eq!(steps.len(), 6);
    assert!(
        steps.iter().all(|step| step.weights.codes == steps[0].weights.codes && step.weights.scale == steps[0].weights.scale)
    );
    // From the second step on the state has its own grid, and so the biases are the same too.
    assert!(steps[1..].iter().all(|step| step == &steps[1]));
}

#[test]
fn all_obstacles_are_listed_at_once() {
    let device = Device::flex();
    let (module, _alone) = parts(&device);
    let forward = |_: &Parts, x: Tensor<4>| {
        let x = adaptive_avg_pool2d(x, [4, 4]);
        let x = adaptive_avg_pool2d(x, [3, 3]);
        x.swap_dims(0, 1)
    };
    let model = QatModel::prepare(&module, [1, 4, 6, 6], &QConfig::int8(), forward).unwrap();
    let obstacles: Vec<String> = check(&model, Target::Onnx).iter().map(ToString::to_string).collect();
    println!("{obstacles:#?}");
    for expected in ["[4, 4] from [6, 6]", "[3, 3] from [4, 4]", "expected the batch as first dimension"] {
        assert!(obstacles.iter().any(|obstacle| obstacle.contains(expected)), "{expected} is not among {obstacles:?}");
    }
}
