//! Every operation of the integer engine is captured from ordinary Burn code, computes in float what the module computes, and lies on
//! grids once it is quantized; layers that are applied several times are one.

mod draws;

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::gru::{Gru, GruConfig};
use burn::nn::pool::{AdaptiveAvgPool1dConfig, AvgPool1dConfig, MaxPool1dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, Linear, LinearConfig, Lstm, LstmConfig, PaddingConfig1d,
    PaddingConfig2d,
};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::{
    gelu, gelu_approximate, hard_sigmoid, hard_swish, leaky_relu, relu, relu6, sigmoid, silu, softmax, tanh,
};
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Int, Tensor, s};
use draws::Draws;
use qat::graph::{capture, fuse, place};
use qat::{Activation, IntegerFormat, Mode, QConfig, QatLayer, QatModel, QuantTensor, RangeSource};

/// What the small networks are made of.
#[derive(Module, Debug)]
struct Parts {
    conv1d: Conv1d,
    conv: Conv2d,
    depthwise: Conv2d,
    transposed: ConvTranspose2d,
    grouped: ConvTranspose2d,
    norm: BatchNorm,
    second_norm: BatchNorm,
    linear: Linear,
    second: Linear,
    attention: MultiHeadAttention,
    scale: Param<Tensor<1>>,
    offset: Param<Tensor<2>>,
}

fn parts(device: &Device) -> Parts {
    let mut draws = Draws::new(0x09e1_0001);
    device.seed(11);
    Parts {
        conv1d: Conv1dConfig::new(4, 6, 3).with_stride(2).with_padding(PaddingConfig1d::Explicit(1, 2)).init(device),
        conv: Conv2dConfig::new([4, 4], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device),
        depthwise: Conv2dConfig::new([4, 8], [3, 3]).with_groups(4).with_bias(false).init(device),
        transposed: ConvTranspose2dConfig::new([4, 4], [3, 2])
            .with_stride([2, 2])
            .with_padding([1, 0])
            .with_padding_out([1, 0])
            .init(device),
        grouped: ConvTranspose2dConfig::new([4, 6], [2, 2]).with_groups(2).init(device),
        norm: norm(4, device, &mut draws),
        second_norm: norm(6, device, &mut draws),
        linear: LinearConfig::new(4, 4).init(device),
        second: LinearConfig::new(4, 3).init(device),
        attention: MultiHeadAttentionConfig::new(4, 2).init(device),
        scale: Param::from_tensor(draws.tensor([4], -1.0, 1.0, device)),
        offset: Param::from_tensor(draws.tensor([1, 4], -1.0, 1.0, device)),
    }
}

/// A batch norm with statistics and an affine map of its own.
fn norm(channels: usize, device: &Device, draws: &mut Draws) -> BatchNorm {
    let mut norm = BatchNormConfig::new(channels).init(device);
    norm.running_mean.update(draws.tensor([channels], -0.3, 0.3, device));
    norm.running_var.update(draws.tensor([channels], 0.5, 1.5, device));
    norm.gamma = Param::from_tensor(draws.tensor([channels], 0.5, 1.5, device));
    norm.beta = Param::from_tensor(draws.tensor([channels], -0.5, 0.5, device));
    norm
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn relative_difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().fold(1e-3f64, |max, x| max.max(x.abs()));
    found.iter().zip(expected).fold(0.0f64, |max, (a, b)| max.max((a - b).abs())) / size
}

/// Every activation that has a grid lies on it, to f32 rounding: within 2⁻¹² of a step of a whole number of steps.
fn assert_on_grids(what: &str, model: &QatModel, run: impl Fn(&QatModel, &mut dyn FnMut(qat::graph::ValueId, &Activation))) {
    let (mut on, mut float) = (0, 0);
    run(model, &mut |value, activation| {
        let scale = match activation {
            Activation::Rank2(QuantTensor { scale, .. })
            | Activation::Rank3(QuantTensor { scale, .. })
            | Activation::Rank4(QuantTensor { scale, .. })
            | Activation::Rank5(QuantTensor { scale, .. }) => scale.clone(),
            Activation::Indices(_) => return,
        };
        let Some(scale) = scale else {
            float += 1;
            return;
        };
        on += 1;
        let scale = f64::from(scale.into_scalar::<f32>());
        for x in activation.to_data().iter::<f64>() {
            let steps = x / scale;
            let tolerance = f64::max(1.0 / 4096.0, steps.abs() / 1e6);
            assert!((steps - steps.round()).abs() < tolerance, "{what}, {value:?}: {x} is {steps} steps of {scale}");
        }
    });
    println!("{what}: {on} activations on grids, {float} left to their reader");
    assert!(on > 0 && float <= 3, "{what}: {on} on grids, {float} in float");
}

/// Float equality at several batch sizes, grids, closeness of the quantized model, and writing back.
fn check<const I: usize, const O: usize>(
    what: &str,
    config: &QConfig,
    shape: [usize; I],
    forward: impl Fn(&Parts, Tensor<I>) -> Tensor<O>,
) {
    let device = Device::flex();
    let module = parts(&device);
    let model = QatModel::prepare(&module, shape, config, &forward).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut draws = Draws::new(0x09e1_0002);
    let mut batch = |samples| {
        let mut shape = shape;
        shape[0] = samples;
        draws.tensor(shape, -2.0, 2.0, &device)
    };
    for samples in [1, 2, 5] {
        let x = batch(samples);
        let difference = relative_difference(&values::<O>(model.forward(x.clone())), &values(forward(&module, x)));
        assert!(difference < 1e-5, "{what}, batch of {samples}: relative difference {difference:e}");
    }
    let x = batch(16);
    let model = model.with_mode(Mode::Observe);
    model.forward::<I, O>(x.clone());
    let model = model.calibrated().unwrap();
    assert_on_grids(what, &model, |model, visit| model.run(x.clone(), visit));
    let quantized = values::<O>(model.forward(x.clone()));
    let float = values(forward(&module, x.clone()));
    let (signal, noise) = float.iter().zip(&quantized).fold((0.0, 0.0), |(s, n), (x, y)| (s + x * x, n + (x - y) * (x - y)));
    let decibels = 10.0 * (signal / noise).log10();
    println!("{what}: {decibels:.1} dB");
    let floor = if config.weight.bits() < 8 { 2.0 } else { 20.0 };
    assert!(decibels > floor, "{what}: {decibels} dB");
    let written = model.write_back(parts(&device)).unwrap();
    assert_eq!(values(forward(&written, x)), float, "{what}: written back");
}

type Case = (&'static str, Box<dyn Fn(&QConfig)>);

/// One network for each operation.
fn cases() -> Vec<Case> {
    fn case<const I: usize, const O: usize>(
        name: &'static str,
        shape: [usize; I],
        forward: impl Fn(&Parts, Tensor<I>) -> Tensor<O> + Clone + 'static,
    ) -> Case {
        (name, Box::new(move |config| check(name, config, shape, forward.clone())))
    }
    vec![
        case("conv1d", [1, 4, 9], |p, x: Tensor<3>| p.conv1d.forward(x)),
        case("conv1d, norm, relu", [1, 4, 9], |p, x: Tensor<3>| relu(p.second_norm.forward(p.conv1d.forward(x)))),
        case("pools of one dimension", [1, 4, 12], |_, x: Tensor<3>| {
            let x = MaxPool1dConfig::new(3).with_stride(1).init().forward(x);
            let x = AvgPool1dConfig::new(2).with_stride(1).init().forward(x);
            AdaptiveAvgPool1dConfig::new(3).init().forward(x)
        }),
        case("depthwise", [1, 4, 6, 6], |p, x: Tensor<4>| relu6(p.depthwise.forward(x) * 6.0)),
        case("conv, norm, relu6", [1, 4, 6, 6], |p, x: Tensor<4>| relu6(p.norm.forward(p.conv.forward(x)))),
        case("transposed", [1, 4, 4, 5], |p, x: Tensor<4>| p.transposed.forward(x)),
        case("transposed, norm, relu", [1, 4, 4, 5], |p, x: Tensor<4>| relu(p.norm.forward(p.transposed.forward(x)))),
        case("transposed in groups, norm", [1, 4, 4, 5], |p, x: Tensor<4>| p.second_norm.forward(p.grouped.forward(x))),
        case("norm alone", [1, 4, 4, 5], |p, x: Tensor<4>| relu(p.norm.forward(relu(x)))),
        case("norm of rows", [1, 4], |p, x: Tensor<2>| relu(p.norm.forward(p.linear.forward(x)))),
        case("norm read twice", [1, 4, 5, 5], |p, x: Tensor<4>| {
            let y = p.conv.forward(x);
            p.norm.forward(y.clone()) + y
        }),
        case("linear on rows", [1, 5, 4], |p, x: Tensor<3>| p.second.forward(relu(p.linear.forward(x)))),
        case("matmul", [1, 3, 5, 4], |_, x: Tensor<4>| x.clone().matmul(x.swap_dims(2, 3))),
        case("matmul of 3", [1, 5, 4], |p, x: Tensor<3>| relu(p.linear.forward(x.clone()).swap_dims(1, 2).matmul(x))),
        case("add, sub, mul", [1, 4], |p, x: Tensor<2>| {
            let y = p.linear.forward(x.clone());
            relu(x.clone() + y.clone()) * (x - y)
        }),
        case("stretched operands", [1, 4, 3, 3], |_, x: Tensor<4>| {
            let mean = x.clone().mean_dims(&[2, 3]);
            x * sigmoid(mean)
        }),
        case("squares", [1, 4], |_, x: Tensor<2>| x.square()),
        case("numbers", [1, 4], |_, x: Tensor<2>| (relu(x) * 2.5 + 1.0 - 0.25) / 4.0),
        case("one minus", [1, 4], |p, x: Tensor<2>| sigmoid(p.linear.forward(x)).neg() + 1.0),
        case("constants", [1, 4], |p, x: Tensor<2>| {
            let halves = Tensor::<1>::ones([4], &x.device()) * 0.5;
            (relu(x) + p.offset.val()) * halves.unsqueeze()
        }),
        case("a factor that learns", [1, 4], |p, x: Tensor<2>| x * p.scale.val().unsqueeze() - p.offset.val()),
        case("constant minus", [1, 4], |p, x: Tensor<2>| p.offset.val() - x),
        case("concat", [1, 4], |p, x: Tensor<2>| {
            let a = relu(p.linear.forward(x.clone()));
            let b = p.second.forward(x.clone());
            Tensor::cat(vec![a, x, b], 1)
        }),
        case("concat of one grid", [1, 4], |_, x: Tensor<2>| {
            let halves = x.clone().chunk(2, 1);
            Tensor::cat(vec![halves[1].clone(), x, halves[0].clone()], 1)
        }),
        case("concat of images", [1, 4, 5, 5], |p, x: Tensor<4>| {
            let a = relu(p.norm.forward(p.conv.forward(x.clone())));
            Tensor::cat(vec![a.clone(), x], 1).mean_dim(2) + Tensor::cat(vec![a.clone(), a], 1).mean_dim(2)
        }),
        case("stack", [1, 4], |p, x: Tensor<2>| Tensor::stack::<3>(vec![x.clone(), p.linear.forward(x)], 1)),
        case("means", [1, 4, 3, 5], |_, x: Tensor<4>| x.clone().mean_dim(3).mean_dim(1).squeeze_dims::<2>(&[1, 3])),
        case("clamps", [1, 4], |p, x: Tensor<2>| p.linear.forward(x).clamp(-0.7, 0.5)),
        case("clamps in a row", [1, 4], |p, x: Tensor<2>| p.linear.forward(x).clamp_min(-0.5).clamp_max(0.9)),
        case("a clamp of its own", [1, 4], |p, x: Tensor<2>| {
            relu(x.clone()).clamp_max(1.3) + p.linear.forward(x.clamp(-1.0, 1.0))
        }),
        case("relu behind a reshape", [1, 4], |p, x: Tensor<2>| relu(p.linear.forward(x).reshape([-1, 2, 2]))),
        case("sigmoid and tanh", [1, 4], |p, x: Tensor<2>| sigmoid(p.linear.forward(x.clone())) * tanh(x)),
        case("hard swish", [1, 4], |p, x: Tensor<2>| hard_swish(p.linear.forward(x) * 3.0)),
        case("hard sigmoid", [1, 4], |p, x: Tensor<2>| hard_sigmoid(p.linear.forward(x), 0.2, 0.5)),
        case("gelu", [1, 4], |p, x: Tensor<2>| gelu(p.linear.forward(x) * 2.0)),
        case("gelu by tanh", [1, 4], |p, x: Tensor<2>| gelu_approximate(p.linear.forward(x) * 2.0)),
        case("cubes", [1, 4], |_, x: Tensor<2>| x.clone().powi_scalar(3) + x),
        case("silu", [1, 4], |p, x: Tensor<2>| silu(p.linear.forward(x))),
        case("leaky relu", [1, 4], |p, x: Tensor<2>| leaky_relu(p.linear.forward(x), 0.1)),
        case("softmax", [1, 3, 4], |p, x: Tensor<3>| softmax(p.linear.forward(x), 2)),
        case("moves", [1, 3, 4, 5], |_, x: Tensor<4>| {
            x.permute([0, 2, 3, 1]).swap_dims(1, 3).flatten::<3>(1, 2).unsqueeze_dim::<4>(2)
        }),
        case("pad", [1, 3, 4], |p, x: Tensor<3>| p.linear.forward(x).pad([(0, 0), (1, 0), (2, 3)], 0.0)),
        case("slices", [1, 6, 4], |_, x: Tensor<3>| x.clone().slice(s![.., 1..6;2, ..]) + x.slice(s![.., 3.., ..])),
        case("split", [1, 6], |_, x: Tensor<2>| {
            let parts = x.split(2, 1);
            parts[0].clone() * parts[2].clone() + parts[1].clone()
        }),
        case("narrow and squeeze", [1, 6, 4], |p, x: Tensor<3>| p.second.forward(x.narrow(1, 4, 1).squeeze_dim::<2>(1))),
        case("resize", [1, 4, 3, 2], |_, x: Tensor<4>| {
            interpolate(x, InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([6, 6]))
        }),
        case("rank 5", [1, 2, 3, 2, 2], |_, x: Tensor<5>| relu(x.clone()) + x.swap_dims(3, 4)),
        case("attention", [1, 5, 4], |p, x: Tensor<3>| p.attention.forward(MhaInput::self_attn(x)).context),
    ]
}

#[test]
fn every_operation_is_captured_and_quantized() {
    for (_, run) in cases() {
        run(&QConfig::int8());
    }
}

#[test]
fn other_formats_are_quantized() {
    for (name, run) in cases() {
        println!("== {name}");
        run(&QConfig::w8a16());
        // A random layer of 2 bits is hardly that layer; 4 bits are.
        run(&QConfig::w4a8());
    }
}

/// The numbers of an activation and its rank-free shape.
fn host(activation: &Activation) -> Vec<f32> {
    activation.to_data().iter().collect()
}

#[test]
fn a_quantized_step_is_quantize_and_dequantize_of_the_float_one() {
    let device = Device::flex();
    let module = parts(&device);
    let mut draws = Draws::new(0x09e1_0008);
    let forward = |_: &Parts, x: Tensor<3>| {
        let parts = x.chunk(2, 1);
        let (a, b) = (parts[0].clone(), parts[1].clone());
        let y = relu(a.clone() + b.clone()) * (a.clone() - b.clone());
        Tensor::cat(vec![sigmoid(y.clone()) * tanh(a), hard_swish(b), y.clone() - 0.7, leaky_relu(y, 0.2)], 1)
    };
    for config in [QConfig::int8(), QConfig::w8a16()] {
        let model = QatModel::prepare(&module, [1, 2, 9], &config, forward).unwrap().with_mode(Mode::Observe);
        let x = draws.tensor([32, 2, 9], -2.0, 2.0, &device);
        model.forward::<3, 3>(x.clone());
        let model = model.calibrated().unwrap();
        let mut activations = std::collections::HashMap::new();
        model.run(x, |value, activation| {
            activations.insert(value, activation.clone());
        });
        let mut compared = 0;
        for (step, layer) in model.steps() {
            let Some(quantizer) = layer.output().filter(|quantizer| quantizer.source() != RangeSource::Reader) else { continue };
            let inputs: Vec<Vec<f32>> = step.inputs.iter().map(|value| host(&activations[value])).collect();
            let at = |input: usize, index: usize| inputs[input][index % inputs[input].len()];
            let found = host(&activations[&step.output]);
            let params = quantizer.qparams();
            for (index, found) in found.iter().enumerate() {
                let real = match layer {
                    QatLayer::Add(_) => at(0, index) + at(1, index),
                    QatLayer::Sub(_) => at(0, index) - at(1, index),
                    QatLayer::Mul(_) => at(0, index) * at(1, index),
                    _ => break,
                };
                let real = real.clamp(layer.clamp().min, layer.clamp().max);
                assert_eq!(*found, params.dequantize(params.quantize(real)), "{}, element {index}", step.name);
                compared += 1;
            }
        }
        println!("{compared} numbers compared");
        assert!(compared == 3 * 32 * 9, "{compared}");
    }
}

#[test]
fn sixteen_bits_are_much_closer() {
    let device = Device::flex();
    let module = parts(&device);
    let mut draws = Draws::new(0x09e1_0003);
    let forward = |p: &Parts, x: Tensor<2>| sigmoid(p.linear.forward(x.clone())) * tanh(x);
    let x = draws.tensor([64, 4], -2.0, 2.0, &device);
    let noise = |config: QConfig| {
        let model = QatModel::prepare(&module, [1, 4], &config, forward).unwrap().with_mode(Mode::Observe);
        model.forward::<2, 2>(x.clone());
        let model = model.calibrated().unwrap();
        // The weight has 8 bits in both, so the activations are compared with those of a model in which it is quantized alone.
        for (_, _, quantizer) in model.quantizers() {
            if config.activation == IntegerFormat::INT16 {
                assert_eq!(quantizer.qparams().zero_point, 0);
            }
        }
        relative_difference(&values::<2>(model.forward(x.clone())), &values(forward(&module, x.clone())))
    };
    let (eight, sixteen) = (noise(QConfig::int8()), noise(QConfig::w8a16()));
    assert!(sixteen < eight / 2.0, "{sixteen} against {eight}");
}

#[test]
fn listings_of_fused_operations() {
    let device = Device::flex();
    let module = parts(&device);
    let listing = |graph: Result<qat::graph::Graph, qat::GraphError>| {
        let graph = fuse(graph.unwrap()).unwrap();
        format!("{}\n{}", graph.listing(), place(&graph).listing(&graph))
    };
    let graph = capture(&module, [1, 4, 9], |p: &Parts, x: Tensor<3>| relu(p.second_norm.forward(p.conv1d.forward(x))));
    assert_eq!(
        listing(graph),
        "reshape_0 = reshape(input) [4, 1, 9]\n\
         conv1d = conv2d+batch_norm+relu(reshape_0) [6, 1, 5]\n\
         reshape_5 = reshape(conv1d) [6, 5]\n\
         input: own grid, fixed once calibrated\n\
         reshape_0: grid of input\n\
         conv1d: own grid, min = 0\n\
         reshape_5: grid of conv1d"
    );
    let graph = capture(&module, [1, 4], |p: &Parts, x: Tensor<2>| {
        let gate = hard_swish(p.linear.forward(x.clone()));
        Tensor::cat(vec![gate, x.clone(), relu6(p.second.forward(x) * 2.0)], 1)
    });
    assert_eq!(
        listing(graph),
        "linear = linear(input) [4]\n\
         mul_3 = hard_swish(linear) [4]\n\
         second = linear(input) [3]\n\
         mul_6.constant = constant() [1]\n\
         mul_6 = mul+relu6(second, mul_6.constant) [3]\n\
         concat_8 = concat(mul_3, input, mul_6) [11]\n\
         input: own grid, fixed once calibrated\n\
         linear: own grid\n\
         mul_3: grid of concat_8\n\
         second: own grid\n\
         mul_6.constant: grid of its table\n\
         mul_6: grid of concat_8\n\
         concat_8: own grid"
    );
    let graph = capture(&module, [1, 4], |p: &Parts, x: Tensor<2>| gelu_approximate(p.linear.forward(x)));
    assert!(listing(graph).starts_with("linear = linear(input) [4]\nmul_10 = gelu_tanh(linear) [4]\n"));
    let graph = capture(&module, [1, 4], |p: &Parts, x: Tensor<2>| {
        let x = relu6(p.linear.forward(x));
        x.clone() + softmax(x, 1).neg() + 1.0
    });
    assert!(listing(graph).contains("linear: own grid, min = 0, max <= 6\n"));
}

#[test]
fn a_relu6_never_learns_beyond_six() {
    let device = Device::flex();
    let module = parts(&device);
    let forward = |p: &Parts, x: Tensor<2>| relu6(p.linear.forward(x) * 9.0);
    let model = QatModel::prepare(&module, [1, 4], &QConfig::int8(), forward).unwrap().with_mode(Mode::Observe);
    model.forward::<2, 2>(Tensor::ones([4, 4], &device));
    let mut model = model.calibrated().unwrap();
    let last = model.layers.len() - 1;
    let output = model.layers[last].output_mut().unwrap();
    *output = output.clone().with_range(0.0, 9.0);
    assert_eq!(output.qparams().scale, 6.0 / 255.0);
    let y: Vec<f64> = values::<2>(model.forward(Tensor::<2>::ones([1, 4], &device) * 1e3));
    assert!(y.iter().all(|y| (0.0..=6.001).contains(y)), "{y:?}");
}

/// Number of parameters by shape.
fn parameters(model: &QatModel) -> Vec<Vec<usize>> {
    #[derive(Default)]
    struct Shapes(Vec<Vec<usize>>);
    impl ModuleVisitor for Shapes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.shape().to_vec());
        }
    }
    let mut shapes = Shapes::default();
    model.visit(&mut shapes);
    shapes.0
}

/// All numbers of parameters and statistics.
fn numbers(model: &QatModel) -> Vec<f64> {
    #[derive(Default)]
    struct Numbers(Vec<f64>);
    impl ModuleVisitor for Numbers {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(values(param.val()));
        }
    }
    let mut numbers = Numbers::default();
    model.visit(&mut numbers);
    numbers.0
}

#[test]
fn a_weight_used_twice_gets_the_sum_of_its_gradients() {
    let device = Device::flex().autodiff();
    let module = parts(&device.clone().inner());
    let forward = |p: &Parts, x: Tensor<2>| {
        let halves = x.chunk(2, 1);
        p.linear.forward(halves[0].clone()) + p.linear.forward(halves[1].clone()) * 3.0
    };
    let model = QatModel::prepare(&module, [1, 8], &QConfig::int8(), forward).unwrap().train();
    assert_eq!(parameters(&model).iter().filter(|shape| **shape == [4, 4]).count(), 1);
    assert_eq!(model.steps().filter(|(_, layer)| matches!(layer, QatLayer::Linear(_))).count(), 2);
    let mut draws = Draws::new(0x09e1_0004);
    let x = draws.tensor([5, 8], -1.0, 1.0, &device);
    let upstream = draws.tensor([5, 4], -1.0, 1.0, &device);
    let gradients = (model.forward::<2, 2>(x.clone()) * upstream.clone()).sum().backward();
    let QatLayer::Linear(linear) = model.layers.iter().find(|layer| matches!(layer, QatLayer::Linear(_))).unwrap() else {
        unreachable!()
    };
    let halves = x.chunk(2, 1);
    let expected =
        halves[0].clone().transpose().matmul(upstream.clone()) + halves[1].clone().transpose().matmul(upstream.clone()) * 3.0;
    let found = values(linear.weight.val().grad(&gradients).unwrap());
    assert!(relative_difference(&found, &values(expected)) < 1e-5);
    let found = values(linear.bias.as_ref().unwrap().val().grad(&gradients).unwrap());
    assert!(relative_difference(&found, &values(upstream.sum_dim(0) * 4.0)) < 1e-5);
    // An optimizer steps it once, by that gradient.
    let before = values(linear.weight.val());
    let gradient = values(linear.weight.val().grad(&gradients).unwrap());
    let stepped = SgdConfig::new().init().step(0.5, model.clone(), GradientsParams::from_grads(gradients, &model));
    let QatLayer::Linear(linear) = stepped.layers.iter().find(|layer| matches!(layer, QatLayer::Linear(_))).unwrap() else {
        unreachable!()
    };
    let expected: Vec<f64> = before.iter().zip(&gradient).map(|(w, g)| w - 0.5 * g).collect();
    assert!(relative_difference(&values(linear.weight.val()), &expected) < 1e-5);
    // And it is written back once.
    let written = stepped.write_back(parts(&Device::flex())).unwrap();
    assert_eq!(values(written.linear.weight.val()), values(linear.weight.val()));
}

#[test]
fn a_layer_with_and_without_relu_is_one_layer() {
    let module = parts(&Device::flex());
    let forward = |p: &Parts, x: Tensor<2>| p.linear.forward(relu(p.linear.forward(x)));
    let graph = fuse(capture(&module, [1, 4], forward).unwrap()).unwrap();
    assert_eq!(graph.listing(), "linear = linear(input) [4]\nrelu_2 = relu(linear) [4]\nlinear.1 = linear(relu_2) [4]");
    let both = |p: &Parts, x: Tensor<2>| relu(p.linear.forward(relu(p.linear.forward(x))));
    let graph = fuse(capture(&module, [1, 4], both).unwrap()).unwrap();
    assert_eq!(graph.listing(), "linear = linear+relu(input) [4]\nlinear.1 = linear+relu(linear) [4]");
    check("a layer twice", &QConfig::int8(), [1, 4], forward);
    check("a layer twice with relu", &QConfig::int8(), [1, 4], both);
    check("a convolution and its norm twice", &QConfig::int8(), [1, 4, 5, 5], |p: &Parts, x: Tensor<4>| {
        let twice = |x| relu(p.norm.forward(p.conv.forward(x)));
        twice(twice(x))
    });
}

#[derive(Module, Debug)]
struct Recurrent {
    lstm: Lstm,
    gru: Gru,
    head: Linear,
}

fn recurrent(device: &Device) -> Recurrent {
    device.seed(12);
    Recurrent {
        lstm: LstmConfig::new(3, 5, true).init(device),
        gru: GruConfig::new(3, 5, true).init(device),
        head: LinearConfig::new(5, 2).init(device),
    }
}

fn last_hidden(net: &Recurrent, x: Tensor<3>) -> Tensor<2> {
    net.head.forward(net.lstm.forward(x, None).1.hidden)
}

fn all_hidden(net: &Recurrent, x: Tensor<3>) -> Tensor<3> {
    net.head.forward(net.lstm.forward(x, None).0)
}

fn gru(net: &Recurrent, x: Tensor<3>) -> Tensor<3> {
    net.head.forward(net.gru.forward(x, None))
}

fn gru_last(net: &Recurrent, x: Tensor<3>) -> Tensor<2> {
    let [_, steps, _] = x.dims();
    net.head.forward(net.gru.forward(x, None).slice(s![.., steps - 1, ..]).squeeze_dim(1))
}

fn check_recurrent<const O: usize>(what: &str, forward: fn(&Recurrent, Tensor<3>) -> Tensor<O>, weights: usize) {
    let device = Device::flex();
    let training = device.clone().autodiff();
    let net = recurrent(&device);
    let mut draws = Draws::new(0x09e1_0005);
    for config in [QConfig::int8(), QConfig::w8a16()] {
        let model = QatModel::prepare(&net, [1, 7, 3], &config, forward).unwrap();
        for samples in [1, 4] {
            let x = draws.tensor([samples, 7, 3], -1.0, 1.0, &device);
            let difference = relative_difference(&values::<O>(model.forward(x.clone())), &values(forward(&net, x)));
            assert!(difference < 1e-5, "{what}: relative difference {difference:e}");
        }
        let linear = model.layers.iter().filter(|layer| matches!(layer, QatLayer::Linear(_))).count();
        assert_eq!(linear, weights, "{what}: each weight is one layer");
        // The grids are shared over the time steps: fewer than for one step each.
        println!(
            "{what}: {} layers, {} steps, {} quantizers",
            model.layers.len(),
            model.topology().steps.len(),
            model.quantizers().len()
        );
        assert!(model.quantizers().len() < 45, "{what}");

        let x = draws.tensor([32, 7, 3], -1.0, 1.0, &device);
        let model = model.with_mode(Mode::Observe);
        model.forward::<3, O>(x.clone());
        let mut model = model.calibrated().unwrap();
        assert_on_grids(what, &model, |model, visit| model.run(x.clone(), visit));
        assert!(numbers(&model).iter().all(|x| x.is_finite()), "{what}: every number is finite once it is calibrated");
        let difference = relative_difference(&values::<O>(model.forward(x.clone())), &values(forward(&net, x.clone())));
        println!("{what}: quantized within {difference:.4}");
        assert!(difference < 0.1, "{what}: {difference}");

        // It learns.
        model = model.train();
        let target = draws.tensor(model.forward::<3, O>(x.clone().to_device(&training)).dims(), -0.5, 0.5, &training);
        let mut optimizer = SgdConfig::new().init();
        let mut losses = Vec::new();
        for _ in 0..8 {
            let loss = (model.forward::<3, O>(x.clone().to_device(&training)) - target.clone()).square().mean();
            losses.push(loss.clone().into_scalar::<f32>());
            model = optimizer.step(0.2, model.clone(), GradientsParams::from_grads(loss.backward(), &model));
        }
        assert!(losses[7] < 0.9 * losses[0], "{what}: {losses:?}");
        let written = model.write_back(recurrent(&device)).unwrap();
        let float = model.valid().with_mode(Mode::Float);
        let difference = relative_difference(&values(forward(&written, x.clone())), &values::<O>(float.forward(x)));
        assert!(difference < 1e-5, "{what}, written back: relative difference {difference:e}");
    }
}

#[test]
fn an_lstm_is_captured_with_shared_weights() {
    check_recurrent("lstm, last state", last_hidden, 9);
    check_recurrent("lstm, all states", all_hidden, 9);
}

#[test]
fn a_gru_is_captured_with_shared_weights() {
    check_recurrent("gru, all states", gru, 7);
    check_recurrent("gru, last state", gru_last, 7);
}

#[derive(Module, Debug)]
struct Words {
    embedding: Embedding,
    linear: Linear,
}

#[test]
fn an_embedding_takes_indices() {
    let device = Device::flex();
    device.seed(13);
    let words = Words { embedding: EmbeddingConfig::new(20, 6).init(&device), linear: LinearConfig::new(6, 3).init(&device) };
    let forward = |net: &Words, x: Tensor<2, Int>| net.linear.forward(net.embedding.forward(x).mean_dim(1).squeeze_dim::<2>(1));
    let model = QatModel::prepare_indices(&words, [1, 5], &QConfig::int8(), forward).unwrap();
    let indices = |samples: usize| {
        let mut draws = Draws::new(0x09e1_0006);
        let all: Vec<i64> = (0..samples * 5).map(|_| (draws.bits() % 20) as i64).collect();
        Tensor::<1, Int>::from_ints(&all[..], &device).reshape([samples, 5])
    };
    for samples in [1, 3] {
        let x = indices(samples);
        let difference = relative_difference(&values::<2>(model.forward_indices(x.clone())), &values(forward(&words, x)));
        assert!(difference < 1e-5, "{difference}");
    }
    let model = model.with_mode(Mode::Observe);
    model.forward_indices::<2>(indices(16));
    let model = model.calibrated().unwrap();
    assert_on_grids("embedding", &model, |model, visit| model.run_indices(indices(4), visit));
    let difference = relative_difference(&values::<2>(model.forward_indices(indices(16))), &values(forward(&words, indices(16))));
    assert!(difference < 0.05, "{difference}");
    let (training, target) = (device.clone().autodiff(), Tensor::<2>::ones([16, 3], &device.clone().autodiff()));
    let mut model = model.train();
    let mut optimizer = SgdConfig::new().init();
    let mut losses = Vec::new();
    for _ in 0..5 {
        let loss = (model.forward_indices::<2>(indices(16).to_device(&training)) - target.clone()).square().mean();
        losses.push(loss.clone().into_scalar::<f32>());
        model = optimizer.step(0.1, model.clone(), GradientsParams::from_grads(loss.backward(), &model));
    }
    assert!(losses[4] < losses[0], "{losses:?}");
    let written = model.write_back(words.clone()).unwrap();
    assert!(values(written.embedding.weight.val()) != values(words.embedding.weight.val()), "the table has learned");
}

#[test]
fn batch_norm_without_a_convolution_learns_from_its_batch() {
    let device = Device::flex().autodiff();
    let module = parts(&device.clone().inner());
    let forward = |p: &Parts, x: Tensor<4>| p.norm.forward(relu(x));
    let model = QatModel::prepare(&module, [1, 4, 4, 5], &QConfig::int8(), forward).unwrap().train();
    let mut draws = Draws::new(0x09e1_0007);
    let x = draws.tensor([6, 4, 4, 5], -1.0, 1.0, &device);
    let mut expected = parts(&device.clone().inner()).train();
    expected.norm.gamma = Param::from_tensor(module.norm.gamma.val().to_device(&device));
    expected.norm.beta = Param::from_tensor(module.norm.beta.val().to_device(&device));
    let expected = values(forward(&expected, x.clone()));
    assert!(relative_difference(&values::<4>(model.forward(x)), &expected) < 1e-5);
}
