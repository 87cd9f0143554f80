//! Capture takes modules as they are, and says plainly what it cannot take.
//!
//! A captured model in [`Mode::Float`] is *near* the module's own inference, at batch sizes that were not recorded as well, and what
//! it learns can be written back into the module.

mod draws;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor, s};
use draws::Draws;
use qat::graph::{Dim, Graph, capture, fuse};
use qat::{GraphError, Mode, QConfig, QatLayer, QatModel};

#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    downsample: Option<Conv2d>,
}

impl Block {
    fn new(c_in: usize, c_out: usize, device: &Device) -> Self {
        let stride = if c_in == c_out { 1 } else { 2 };
        Self {
            conv1: conv([c_in, c_out], 3, stride, device),
            norm1: norm(c_out, device),
            conv2: conv([c_out, c_out], 3, 1, device),
            norm2: norm(c_out, device),
            downsample: (c_in != c_out).then(|| conv([c_in, c_out], 1, stride, device)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.norm1.forward(self.conv1.forward(x.clone())));
        let y = self.norm2.forward(self.conv2.forward(y));
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.forward(x),
            None => x,
        };
        relu(y + shortcut)
    }
}

/// Residual blocks in a `Vec`, an optional field, two branches, every pool, dropout, a head.
#[derive(Module, Debug)]
struct Net {
    stem: Conv2d,
    norm: BatchNorm,
    max_pool: MaxPool2d,
    blocks: Vec<Block>,
    left: Conv2d,
    right: Conv2d,
    avg_pool: AvgPool2d,
    global_pool: AdaptiveAvgPool2d,
    dropout: Dropout,
    head: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        Self {
            stem: conv([3, 6], 3, 1, device),
            norm: norm(6, device),
            max_pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            blocks: vec![Block::new(6, 6, device), Block::new(6, 10, device)],
            left: conv([10, 10], 1, 1, device),
            right: conv([10, 10], 3, 1, device),
            avg_pool: AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            global_pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            dropout: DropoutConfig::new(0.5).init(),
            head: LinearConfig::new(10, 4).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = self.max_pool.forward(relu(self.norm.forward(self.stem.forward(x))));
        for block in &self.blocks {
            x = block.forward(x);
        }
        let x = self.left.forward(x.clone()) + relu(self.right.forward(x));
        let x = self.global_pool.forward(self.avg_pool.forward(x));
        let [batch, channels, ..] = x.dims();
        self.head.forward(self.dropout.forward(x.reshape([batch, channels])))
    }
}

fn conv(channels: [usize; 2], size: usize, stride: usize, device: &Device) -> Conv2d {
    let pad = size / 2;
    Conv2dConfig::new(channels, [size, size])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(size == 1)
        .init(device)
}

/// A batch norm with statistics of its own.
fn norm(channels: usize, device: &Device) -> BatchNorm {
    let norm = BatchNormConfig::new(channels).init(device);
    let ramp = Tensor::<1>::from_floats(&(0..channels).map(|c| c as f32).collect::<Vec<_>>()[..], device);
    norm.running_mean.update(ramp.clone() * 0.02 - 0.05);
    norm.running_var.update(ramp * 0.1 + 0.5);
    norm
}

const SHAPE: [usize; 4] = [1, 3, 12, 12];

fn net() -> Net {
    let device = Device::flex();
    device.seed(21);
    Net::new(&device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn assert_near(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1e-3f64, |max, x| max.max(x.abs()));
    let error = found.iter().zip(expected).fold(0.0f64, |max, (a, b)| max.max((a - b).abs())) / size;
    println!("{what}: relative difference {error:.1e}");
    assert!(error < tolerance, "{what}: relative difference {error:e}");
}

#[test]
fn the_listing_of_a_residual_net() {
    let graph = fuse(capture(&net(), SHAPE, Net::forward).unwrap()).unwrap();
    assert_eq!(graph.listing(), LISTING, "\n{}\n", graph.listing());
}

const LISTING: &str = "\
stem = conv2d+batch_norm+relu(input) [6, 12, 12]
max_pool2d_3 = max_pool2d(stem) [6, 6, 6]
blocks.0.conv1 = conv2d+batch_norm+relu(max_pool2d_3) [6, 6, 6]
blocks.0.conv2 = conv2d+batch_norm(blocks.0.conv1) [6, 6, 6]
add_9 = add+relu(blocks.0.conv2, max_pool2d_3) [6, 6, 6]
blocks.1.conv1 = conv2d+batch_norm+relu(add_9) [10, 3, 3]
blocks.1.conv2 = conv2d+batch_norm(blocks.1.conv1) [10, 3, 3]
blocks.1.downsample = conv2d(add_9) [10, 3, 3]
add_17 = add+relu(blocks.1.conv2, blocks.1.downsample) [10, 3, 3]
left = conv2d(add_17) [10, 3, 3]
right = conv2d+relu(add_17) [10, 3, 3]
add_22 = add(left, right) [10, 3, 3]
avg_pool2d_23 = avg_pool2d(add_22) [10, 1, 1]
adaptive_avg_pool2d_24 = adaptive_avg_pool2d(avg_pool2d_23) [10, 1, 1]
reshape_25 = reshape(adaptive_avg_pool2d_24) [10]
head = linear(reshape_25) [4]";

#[test]
fn constants_know_their_paths() {
    let graph = fuse(capture(&net(), SHAPE, Net::forward).unwrap()).unwrap();
    let paths: Vec<&str> = graph.constants.iter().filter_map(|constant| constant.path.as_deref()).collect();
    for path in [
        "stem.weight",
        "norm.gamma",
        "norm.running_var",
        "blocks.0.conv1.weight",
        "blocks.0.norm2.running_mean",
        "blocks.1.norm1.beta",
        "blocks.1.downsample.weight",
        "blocks.1.downsample.bias",
        "head.weight",
        "head.bias",
    ] {
        assert!(paths.contains(&path), "{path} is not among {paths:?}");
    }
    assert!(!paths.iter().any(|path| path.starts_with("blocks.0.downsample")), "{paths:?}");
}

#[test]
fn the_batch_dimension_is_found() {
    let graph = fuse(capture(&net(), SHAPE, Net::forward).unwrap()).unwrap();
    for value in used_values(&graph) {
        assert_eq!(value[0], Dim::Batch(1));
        assert!(value[1..].iter().all(|dim| matches!(dim, Dim::Fixed(_))), "{value:?}");
    }
    assert_eq!(graph.values[graph.input.0].sample_shape(), [3, 12, 12]);
    assert_eq!(graph.values[graph.output.0].sample_shape(), [4]);
}

fn used_values(graph: &Graph) -> Vec<Vec<Dim>> {
    let outputs = graph.nodes.iter().map(|node| node.output);
    [graph.input].into_iter().chain(outputs).map(|value| graph.values[value.0].shape.clone()).collect()
}

#[test]
fn float_mode_is_the_inference_of_the_module() {
    let device = Device::flex();
    let mut draws = Draws::new(0xca97_0001);
    let net = net();
    // The module may stand on a training device, and its batch may be of any size.
    for module in [net.clone(), net.train()] {
        let model = QatModel::prepare(&module, SHAPE, &QConfig::int8(), Net::forward).unwrap();
        for batch in [1, 2, 5, 16] {
            let x = draws.tensor([batch, 3, 12, 12], -1.0, 1.0, &device);
            let y: Tensor<2> = model.forward(x.clone());
            assert_eq!(y.dims(), [batch, 4]);
            assert_near(&format!("batch {batch}"), &values(y), &values(module.valid().forward(x)), 1e-5);
        }
    }
}

#[test]
fn samples_do_not_depend_on_their_batch() {
    let device = Device::flex();
    let mut draws = Draws::new(0xca97_0002);
    let model = QatModel::prepare(&net(), SHAPE, &QConfig::int8(), Net::forward).unwrap().with_mode(Mode::Observe);
    let x = draws.tensor([8, 3, 12, 12], -1.0, 1.0, &device);
    model.forward::<4, 2>(x.clone());
    let model = model.calibrated().unwrap();
    let all = values::<2>(model.forward(x.clone()));
    let each: Vec<f64> = (0..8).flat_map(|i| values::<2>(model.forward(x.clone().narrow(0, i, 1)))).collect();
    assert_near("one by one", &each, &all, 1e-5);
}

#[test]
fn what_is_trained_is_written_back() {
    let device = Device::flex();
    let training = device.clone().autodiff();
    let mut draws = Draws::new(0xca97_0003);
    let net = net();
    let x = draws.tensor([6, 3, 12, 12], -1.0, 1.0, &device);
    let before = values(net.valid().forward(x.clone()));

    let mut model = QatModel::prepare(&net, SHAPE, &QConfig::int8(), Net::forward).unwrap().train();
    let target = draws.tensor([6, 4], -1.0, 1.0, &training);
    let mut optimizer = SgdConfig::new().init();
    for _ in 0..5 {
        let loss = (model.forward::<4, 2>(x.clone().to_device(&training)) - target.clone()).square().mean();
        model = optimizer.step(0.1, model.clone(), GradientsParams::from_grads(loss.backward(), &model));
    }
    let expected = values(model.valid().forward::<4, 2>(x.clone()));
    assert!(expected.iter().zip(&before).any(|(a, b)| (a - b).abs() > 1e-2), "training changes the outputs");

    // On a training device, and with statistics that the module has computed but not taken in yet.
    let net = net.train();
    net.forward(x.clone().to_device(&training));
    let written = model.write_back(net).unwrap();
    let mean = |norm: &BatchNorm| values(norm.running_mean.value_sync());
    let QatLayer::Conv2d(stem) = &model.layers[0] else { panic!("the stem is a convolution") };
    assert_eq!(mean(&written.norm), mean(stem.norm.as_ref().unwrap()));
    assert!(written.stem.weight.val().is_require_grad(), "weights still learn");
    assert_near("written back", &values(written.valid().forward(x)), &expected, 1e-5);
}

#[test]
fn writing_into_another_module_is_refused() {
    let device = Device::flex();
    let model = QatModel::prepare(&net(), SHAPE, &QConfig::int8(), Net::forward).unwrap();
    let mut other = net();
    other.blocks.pop();
    let error = model.write_back(other).unwrap_err();
    assert_eq!(error.to_string(), "another model, blocks.1.conv1.weight: expected [10, 6, 3, 3], found no such parameter",);
    let mut other = net();
    other.head = LinearConfig::new(10, 7).init(&device);
    let error = model.write_back(other).unwrap_err();
    assert_eq!(error.to_string(), "another model, head.weight: expected [10, 4], found [10, 7]");
}

/// A linear layer that is not Burn's: a product and a sum, under a reshape that moves the batch.
#[derive(Module, Debug)]
struct ByHand {
    weight: Param<Tensor<2>>,
    bias: Param<Tensor<1>>,
}

impl ByHand {
    fn new(device: &Device) -> Self {
        let mut draws = Draws::new(0xca97_0004);
        Self {
            weight: Param::from_tensor(draws.tensor([4, 5], -1.0, 1.0, device)),
            bias: Param::from_tensor(draws.tensor([5], -1.0, 1.0, device)),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [n, t, d] = x.dims();
        let y = x.reshape([n * t, d]).matmul(self.weight.val()) + self.bias.val().unsqueeze();
        y.reshape([n, t, 5])
    }

    fn forward_3d(&self, x: Tensor<3>) -> Tensor<3> {
        x.matmul(self.weight.val().unsqueeze()) + self.bias.val().unsqueeze()
    }
}

#[test]
fn a_linear_layer_by_hand_is_one() {
    let device = Device::flex();
    let module = ByHand::new(&device);
    let mut draws = Draws::new(0xca97_0005);
    for (forward, listing) in [
        (
            ByHand::forward as fn(&ByHand, Tensor<3>) -> Tensor<3>,
            "reshape_0 = reshape(input) [4]\nweight = linear(reshape_0) [5]\nreshape_3 = reshape(weight) [3, 5]",
        ),
        (ByHand::forward_3d, "weight = linear(input) [3, 5]"),
    ] {
        let graph = fuse(capture(&module, [1, 3, 4], forward).unwrap()).unwrap();
        assert_eq!(graph.listing(), listing, "\n{}\n", graph.listing());
        let model = QatModel::prepare(&module, [1, 3, 4], &QConfig::int8(), forward).unwrap();
        let x = draws.tensor([7, 3, 4], -1.0, 1.0, &device);
        assert_near("by hand", &values(model.forward::<3, 3>(x.clone())), &values(forward(&module, x)), 1e-5);
        let written = model.write_back(ByHand::new(&device)).unwrap();
        assert_eq!(values(written.weight.val()), values(module.weight.val()));
    }
    let graph = capture(&module, [1, 3, 4], ByHand::forward).unwrap();
    assert_eq!(graph.values[1].shape, [Dim::Batch(3), Dim::Fixed(4)]);
}

/// What the refused nets are made of.
#[derive(Module, Debug)]
struct Parts {
    conv: Conv2d,
    second: Conv2d,
    norm: BatchNorm,
    linear: Linear,
    square: Linear,
    offset: Param<Tensor<2>>,
}

fn parts() -> Parts {
    let device = Device::flex();
    Parts {
        conv: conv([2, 2], 3, 1, &device),
        second: conv([2, 2], 3, 1, &device),
        norm: norm(2, &device),
        linear: LinearConfig::new(6, 6).init(&device),
        square: LinearConfig::new(6, 6).init(&device),
        offset: Param::from_tensor(Tensor::ones([1, 6], &device)),
    }
}

/// The message with which a model is refused; one line, with a hint where `hinted`.
fn refused<const I: usize, const O: usize>(
    shape: [usize; I],
    forward: impl Fn(&Parts, Tensor<I>) -> Tensor<O>,
    hinted: bool,
) -> String {
    let error = QatModel::prepare(&parts(), shape, &QConfig::int8(), forward).expect_err("it is refused");
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    assert_eq!(error.hint().is_some(), hinted, "{message}");
    println!("error: {message}");
    message
}

const KNOWN: &str = "expected a convolution of 1 or 2 dimensions, transposed of 2, linear, matmul, batch_norm, embedding, a pool, \
     mean_dim, add, sub, mul, powers of 2 and 3, cat, relu, clamp, sigmoid, tanh, hard_sigmoid, hard_swish, gelu, \
     gelu_approximate, leaky_relu, softmax, reshape, permute, pad, slice or nearest interpolation";

#[test]
fn unknown_operations_are_named_with_their_place() {
    assert_eq!(
        refused([1, 6], |parts: &Parts, x: Tensor<2>| parts.linear.forward(x).exp(), true),
        format!("unsupported operation, operation 4 of the recording, after linear: {KNOWN}, found Float::Exp"),
    );
    assert_eq!(
        refused([1, 6], |parts: &Parts, x: Tensor<2>| parts.linear.forward(x.sin()), true),
        format!("unsupported operation, operation 1 of the recording, before any layer: {KNOWN}, found Float::Sin"),
    );
}

#[test]
fn a_forward_that_reads_values_is_refused() {
    let message = refused(
        [1, 6],
        |parts: &Parts, x: Tensor<2>| {
            let positive = x.clone().sum().into_scalar::<f32>() > 0.0;
            if positive { parts.linear.forward(x) } else { parts.square.forward(x) }
        },
        true,
    );
    assert!(message.starts_with("forward cannot be recorded, capture: expected operations on tensors alone, found a panic: "));
}

#[test]
fn a_graph_that_depends_on_the_batch_size_is_refused() {
    let message = refused(
        [1, 6],
        |p: &Parts, x: Tensor<2>| if x.dims()[0] > 2 { relu(p.linear.forward(x)) } else { p.linear.forward(x) },
        true,
    );
    assert_eq!(message, "graph depends on the batch size, operations: expected 2, found 3");
    let message =
        refused([1, 6], |p: &Parts, x: Tensor<2>| if x.dims()[0] > 2 { p.linear.forward(x) } else { p.square.forward(x) }, true);
    assert_eq!(message, "graph depends on the batch size, square: expected linear square, found linear linear");
}

#[test]
fn parameters_of_two_layers_are_refused() {
    // One bias under two weights.
    let bias = |p: &Parts, x: Tensor<2>| {
        let bias = p.linear.bias.as_ref().unwrap().val().unsqueeze();
        relu(x.matmul(p.linear.weight.val()) + bias.clone()).matmul(p.square.weight.val()) + bias
    };
    assert_eq!(
        refused([1, 6], bias, true),
        "shared parameter, linear.bias: expected one layer to use it, found linear and square",
    );
    // One weight with its bias and without.
    let without = |p: &Parts, x: Tensor<2>| relu(p.linear.forward(x)).matmul(p.linear.weight.val());
    assert_eq!(
        refused([1, 6], without, true),
        "shared parameter, linear.weight: expected one layer to use it, found linear and linear.1",
    );
    // One batch norm after two convolutions.
    let norm = |p: &Parts, x: Tensor<4>| p.norm.forward(p.second.forward(p.norm.forward(p.conv.forward(x))));
    assert_eq!(
        refused([1, 2, 5, 5], norm, true),
        "shared parameter, norm.gamma: expected one layer to use it, found conv and second",
    );
}

#[test]
fn a_factor_of_other_shapes_is_refused() {
    let batched = |p: &Parts, x: Tensor<4>| x.matmul(p.offset.val().reshape([1, 2, 3, 1]));
    assert_eq!(
        refused([1, 2, 5, 3], batched, true),
        "unsupported operand, matmul, operation 2 of the recording, before any layer: expected one matrix as the right factor, \
         found offset of shape [1, 2, 3, 1]",
    );
    let turned = |p: &Parts, x: Tensor<2>| x.matmul(p.linear.weight.val().transpose());
    assert_eq!(
        refused([1, 6], turned, true),
        "unsupported operand, transpose, operation 1 of the recording, before any layer: expected a parameter as it is, or an \
         activation, found a transposed linear.weight",
    );
}

#[test]
fn what_mixes_samples_is_refused() {
    let mean = |_: &Parts, x: Tensor<2>| x.mean_dim(0);
    assert!(
        refused([1, 6], mean, true).contains("mean, operation 1 of the recording, before any layer: expected axes other than")
    );
    let slice = |_: &Parts, x: Tensor<2>| x.slice([0..1, 0..6]);
    assert!(refused([1, 6], slice, true).contains("expected the whole batch"));
    let cat = |_: &Parts, x: Tensor<2>| Tensor::cat(vec![x.clone(), x], 0);
    assert!(refused([1, 6], cat, true).contains("expected an axis other than the batch axis"));
    let across = |_: &Parts, x: Tensor<2>| x.clone().matmul(x.transpose());
    assert!(refused([1, 6], across, true).contains("expected matrices for each sample"));
}

#[test]
fn other_interpolations_and_axes_are_refused() {
    let mode =
        |_: &Parts, x: Tensor<4>| interpolate(x, InterpolateOptions::new(InterpolateMode::Bilinear).with_output_size([10, 10]));
    assert!(refused([1, 2, 5, 5], mode, true).contains("expected nearest neighbours by whole factors, found Bilinear"));
    let factor =
        |_: &Parts, x: Tensor<4>| interpolate(x, InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([8, 10]));
    assert!(refused([1, 2, 5, 5], factor, true).contains("found Nearest from 5 x 5 to 8 x 10"));
    let axis = |_: &Parts, x: Tensor<3>| softmax(x, 1);
    assert!(refused([1, 4, 4], axis, true).contains("expected the last axis, found axis 1 of 3"));
    let padding = |_: &Parts, x: Tensor<3>| x.pad([(0, 0), (1, 1), (0, 0)], 2.0);
    assert!(refused([1, 4, 4], padding, true).contains("expected zeros around samples"));
    let back = |_: &Parts, x: Tensor<2>| x.slice(s![.., 0..6;-1]);
    assert!(refused([1, 6], back, true).contains("expected a step of at least 1"));
}

#[test]
fn ranks_that_no_layer_takes_are_refused() {
    let flat = |p: &Parts, x: Tensor<6>| p.linear.forward(x.reshape([-1, 6]));
    assert_eq!(
        refused([1, 1, 2, 3, 1, 1], flat, true),
        "unsupported operand, input: expected an activation of rank 2 to 5, batch included, found rank 6",
    );
}

#[test]
fn calibration_has_to_see_finite_numbers() {
    let device = Device::flex();
    let prepare = || {
        let model = QatModel::prepare(&parts(), [1, 6], &QConfig::int8(), |p: &Parts, x: Tensor<2>| p.linear.forward(x));
        model.unwrap().with_mode(Mode::Observe)
    };
    let refuse = |model: QatModel| {
        let error = model.calibrated().unwrap_err();
        assert!(matches!(error, GraphError::NotCalibrated { .. }));
        assert_eq!(error.hint(), Some("calibrate with real samples"));
        error.to_string()
    };
    assert_eq!(refuse(prepare()), "no usable range, output of input: expected finite values during calibration, found nothing");

    let with = |value: f32| {
        let model = prepare();
        model.forward::<2, 2>(Tensor::ones([3, 6], &device));
        model.forward::<2, 2>(Tensor::from_floats([[0.0, 1.0, value, 2.0, 3.0, 4.0]], &device));
        model.forward::<2, 2>(Tensor::ones([3, 6], &device));
        model
    };
    assert_eq!(
        refuse(with(f32::NAN)),
        "no usable range, output of input: expected finite values during calibration, found [NaN, NaN]",
    );
    assert_eq!(
        refuse(with(f32::INFINITY)),
        "no usable range, output of input: expected finite values during calibration, found [0, inf]",
    );
    assert!(with(5.0).calibrated().is_ok());
}

#[test]
fn an_input_of_zeros_is_calibrated_to_the_smallest_scale() {
    let device = Device::flex();
    let model = QatModel::prepare(&net(), SHAPE, &QConfig::int8(), Net::forward).unwrap().with_mode(Mode::Observe);
    model.forward::<4, 2>(Tensor::zeros([2, 3, 12, 12], &device));
    let model = model.calibrated().unwrap();
    assert_eq!(model.input.qparams().scale, qat::MIN_SCALE);
    assert!(values(model.forward::<4, 2>(Tensor::zeros([2, 3, 12, 12], &device))).iter().all(|y| y.is_finite()));
}
