//! A burnpack file is what Burn loads into a plain module, with the model's own integers in it.

mod models;

use std::fs;

use burn::{
    module::{Module, ModuleMapper, Param},
    nn::{
        Embedding, EmbeddingConfig, Linear, LinearConfig, Lstm, LstmConfig,
        conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig},
        pool::{MaxPool2d, MaxPool2dConfig},
    },
    store::ModuleRecord,
    tensor::{
        Bytes, DType, Device, Distribution, Int, Tensor, TensorData,
        activation::relu,
        quantization::{QuantStore, QuantValue},
    },
};
use burn_pack::Reader;
use models::{exact, residual};
use qat::{Granularity, Mode, QConfig, QatModel};
use qat_export::{ExportError, Format, Target, burnpack_obstacles, convert, to_burnpack, write_burnpack};
use qat_runtime::{
    Clamp, IntegerModel, Linear as LinearOp, Node, Op, PackedCodes, QParams, Rules, ValueId, ValueInfo, WeightBits, Weights,
};

const SEED: u64 = 0xb09a_0001;

/// LeNet with 400 numbers into its first linear layer, which no block of Burn spans.
#[derive(Module, Debug)]
struct LeNet {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    fc1: Linear,
    fc2: Linear,
}

impl LeNet {
    fn new(device: &Device) -> Self {
        Self {
            conv1: Conv2dConfig::new([1, 6], [5, 5]).init(device),
            conv2: Conv2dConfig::new([6, 16], [3, 3]).with_groups(2).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            fc1: LinearConfig::new(400, 30).init(device),
            fc2: LinearConfig::new(30, 10).init(device),
        }
    }

    fn features(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.pool.forward(relu(self.conv1.forward(x)));
        self.pool.forward(relu(self.conv2.forward(x))).flatten(1, 3)
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.fc2.forward(relu(self.fc1.forward(self.features(x))))
    }

    /// As `forward`, by plain products: flex quantizes the blocks of a linear layer's weight anew where `Linear` reshapes it.
    fn by_products(&self, x: Tensor<4>) -> Tensor<2> {
        let linear =
            |linear: &Linear, x: Tensor<2>| x.matmul(linear.weight.val()) + linear.bias.as_ref().unwrap().val().unsqueeze();
        linear(&self.fc2, relu(linear(&self.fc1, self.features(x))))
    }
}

/// The largest difference, as a share of the largest number.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    let largest = |numbers: &mut dyn Iterator<Item = f32>| numbers.fold(0.0f32, |max, number| max.max(number.abs()));
    largest(&mut a.iter().zip(b).map(|(a, b)| a - b)) / largest(&mut b.iter().copied())
}

fn images(device: &Device) -> Tensor<4> {
    Tensor::random([32, 1, 28, 28], Distribution::Uniform(0.0, 1.0), device)
}

/// A module trained as far as its first integers.
fn converted<M, const I: usize, const O: usize>(
    module: &M,
    batch: Tensor<I>,
    config: &QConfig,
    forward: impl Fn(&M, Tensor<I>) -> Tensor<O>,
) -> IntegerModel
where
    M: Module,
{
    let mut shape = batch.dims();
    shape[0] = 1;
    let model = QatModel::prepare(module, shape, config, forward).unwrap().with_mode(Mode::Observe);
    model.forward::<I, O>(batch);
    convert(&model.calibrated().unwrap(), Target::natural(config)).unwrap()
}

fn load(model: &IntegerModel) -> ModuleRecord {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.bpk");
    write_burnpack(model, &path).unwrap();
    // A record of a file reads the file as late as when it is applied, and the folder is gone by then.
    ModuleRecord::from_bytes(Bytes::from_bytes_vec(fs::read(path).unwrap())).unwrap()
}

/// Makes floats of quantized parameters, and counts those that were.
struct Dequantize(usize);

impl ModuleMapper for Dequantize {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !matches!(param.val().dtype(), DType::QFloat(_)) {
            return param;
        }
        self.0 += 1;
        Param::from_tensor(param.val().dequantize())
    }
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// The constants of the layer `name`, with its input.
fn constants<'a>(model: &'a IntegerModel, name: &str) -> (&'a Weights, &'a ValueInfo) {
    let node = model.nodes.iter().find(|node| node.op.layer() == Some(name)).unwrap_or_else(|| panic!("no layer {name}"));
    (node.op.weights().unwrap().0, &model.values[node.inputs[0].0])
}

/// Asserts that a bias is `f32(s_in · s_w[c]) · b`.
fn assert_bias(model: &IntegerModel, name: &str, bias: &Param<Tensor<1>>) {
    let (weights, input) = constants(model, name);
    let expected = weights.scale.iter().zip(&weights.bias);
    let expected: Vec<f32> =
        expected.map(|(scale, &code)| (f64::from(input.qparams.scale * scale) * code as f64) as f32).collect();
    assert_eq!(bits(&floats(bias.val())), bits(&expected), "bias of {name}");
}

/// Asserts that a convolution, whose weight has the order of the model's, is `s_w[c] · code`.
fn assert_convolution<const D: usize>(model: &IntegerModel, name: &str, weight: &Param<Tensor<D>>) {
    let (weights, _) = constants(model, name);
    let codes = weights.codes.unpack();
    let row = codes.len() / weights.scale.len();
    let expected: Vec<f32> = codes.iter().enumerate().map(|(i, &code)| weights.scale[i / row] * f32::from(code)).collect();
    assert_eq!(bits(&floats(weight.val().dequantize())), bits(&expected), "weight of {name}");
}

/// Asserts that a linear layer is `s_w[o] · code`, `[d_input, d_output]`.
fn assert_linear(model: &IntegerModel, name: &str, linear: &Linear) {
    let (weights, _) = constants(model, name);
    let [d_input, d_output] = linear.weight.val().dims();
    let code = |i: usize, o: usize| weights.scale[o] * f32::from(weights.codes.get(o * d_input + i));
    let expected: Vec<f32> = (0..d_input * d_output).map(|at| code(at / d_output, at % d_output)).collect();
    assert_eq!(bits(&floats(linear.weight.val().dequantize())), bits(&expected), "weight of {name}");
}

#[test]
fn a_plain_module_runs_the_integers() {
    println!("seed {SEED}");
    let device = Device::flex();
    for config in [QConfig::int8(), QConfig::int8_per_tensor(), QConfig::w4a8(), QConfig::w2a8(), QConfig::w8a16()] {
        device.seed(SEED);
        let model = converted(&LeNet::new(&device), images(&device), &config, LeNet::forward);
        assert!(Format::Burnpack.obstacles(&model).unwrap().is_empty());
        // Weights of its own, which the record must replace.
        device.seed(SEED + 1);
        let loaded = LeNet::new(&device).load_record(load(&model));

        for (name, conv) in [("conv1", &loaded.conv1), ("conv2", &loaded.conv2)] {
            assert_convolution(&model, name, &conv.weight);
            assert_bias(&model, name, conv.bias.as_ref().unwrap());
        }
        for (name, linear) in [("fc1", &loaded.fc1), ("fc2", &loaded.fc2)] {
            assert_linear(&model, name, linear);
            assert_bias(&model, name, linear.bias.as_ref().unwrap());
        }

        let batch = images(&device);
        let [forward, by_products] = [loaded.forward(batch.clone()), loaded.by_products(batch.clone())].map(floats);
        let mut dequantize = Dequantize(0);
        let float = loaded.map(&mut dequantize);
        assert_eq!(dequantize.0, 4, "every weight is quantized, and no bias");
        assert_eq!(bits(&by_products), bits(&floats(float.by_products(batch.clone()))));
        let expected = floats(float.forward(batch));
        let difference = difference(&forward, &expected);
        println!("{config:?}: {difference} of the largest score");
        if config.weight_granularity == Granularity::PerTensor {
            assert_eq!(bits(&forward), bits(&expected));
        } else {
            assert!(difference < 0.01, "{difference}");
        }
    }
}

#[test]
fn the_record_is_near_the_integers() {
    let device = Device::flex();
    device.seed(SEED);
    let batch = images(&device);
    let model = converted(&LeNet::new(&device), batch.clone(), &QConfig::int8(), LeNet::forward);
    let loaded = LeNet::new(&device).load_record(load(&model));
    let codes = model.run_reference(&model.quantize_input(&floats(batch.clone()))).unwrap().to_i32s();
    let QParams { scale, zero_point } = model.output_info().qparams;
    // Activations are floats in one and codes in the other.
    for (real, code) in floats(loaded.forward(batch)).into_iter().zip(codes) {
        let steps = (real - scale * (code - zero_point) as f32).abs() / scale;
        assert!(steps < 6.0, "{real} is {steps} steps from code {code}");
    }
}

#[derive(Module, Debug)]
struct Others {
    conv1d: Conv1d,
    depthwise: Conv2d,
    pointwise: Conv2d,
    transposed: ConvTranspose2d,
    grouped: ConvTranspose2d,
}

impl Others {
    fn new(device: &Device) -> Self {
        Self {
            conv1d: Conv1dConfig::new(4, 6, 3).init(device),
            depthwise: Conv2dConfig::new([6, 6], [1, 1]).with_groups(6).init(device),
            pointwise: Conv2dConfig::new([6, 4], [1, 3]).init(device),
            transposed: ConvTranspose2dConfig::new([4, 6], [3, 2]).with_stride([2, 2]).init(device),
            grouped: ConvTranspose2dConfig::new([6, 4], [2, 3]).with_groups(2).init(device),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<4> {
        let x = relu(self.conv1d.forward(x)).reshape([-1, 6, 3, 4]);
        let x = self.pointwise.forward(relu(self.depthwise.forward(x)));
        self.grouped.forward(relu(self.transposed.forward(x)))
    }
}

/// Asserts that a transposed convolution is `s_w[c] · code`, input channels first.
fn assert_transposed(model: &IntegerModel, name: &str, conv: &ConvTranspose2d) {
    let (weights, _) = constants(model, name);
    let [c_in, c_out_group, k_h, k_w] = conv.weight.val().dims();
    let (c_in_group, area) = (c_in / conv.groups, k_h * k_w);
    let found = floats(conv.weight.val().dequantize());
    for input in 0..c_in {
        for output in 0..c_out_group {
            let channel = input / c_in_group * c_out_group + output;
            for tap in 0..area {
                let code = weights.codes.get((channel * c_in_group + input % c_in_group) * area + tap);
                let expected = weights.scale[channel] * f32::from(code);
                assert_eq!(found[(input * c_out_group + output) * area + tap].to_bits(), expected.to_bits(), "{name}");
            }
        }
    }
}

#[test]
fn every_convolution_has_the_order_of_burn() {
    println!("seed {SEED}");
    let device = Device::flex();
    for config in [QConfig::int8(), QConfig::int8_per_tensor()] {
        device.seed(SEED);
        let batch = Tensor::<3>::random([16, 4, 14], Distribution::Uniform(-1.0, 1.0), &device);
        let model = converted(&Others::new(&device), batch.clone(), &config, Others::forward);
        let loaded = Others::new(&device).load_record(load(&model));
        assert_convolution(&model, "conv1d", &loaded.conv1d.weight);
        assert_convolution(&model, "depthwise", &loaded.depthwise.weight);
        assert_convolution(&model, "pointwise", &loaded.pointwise.weight);
        assert_transposed(&model, "transposed", &loaded.transposed);
        assert_transposed(&model, "grouped", &loaded.grouped);
        let quantized = floats(loaded.forward(batch.clone()));
        assert_eq!(bits(&quantized), bits(&floats(loaded.map(&mut Dequantize(0)).forward(batch))));
    }
}

#[derive(Module, Debug)]
struct Sequence {
    embedding: Embedding,
    lstm: Lstm,
    head: Linear,
}

impl Sequence {
    fn new(device: &Device) -> Self {
        Self {
            embedding: EmbeddingConfig::new(20, 4).init(device),
            lstm: LstmConfig::new(4, 5, true).init(device),
            head: LinearConfig::new(5, 3).init(device),
        }
    }

    fn forward(&self, x: Tensor<2, Int>) -> Tensor<2> {
        self.head.forward(self.lstm.forward(self.embedding.forward(x), None).1.hidden)
    }
}

#[test]
fn a_layer_of_every_step_is_written_once() {
    println!("seed {SEED}");
    let device = Device::flex();
    device.seed(SEED);
    let indices: Vec<i64> = (0..96).map(|index| index * 7 % 20).collect();
    let batch = Tensor::<1, Int>::from_ints(&indices[..], &device).reshape([16, 6]);
    let module = Sequence::new(&device);
    let model = QatModel::prepare_indices(&module, [1, 6], &QConfig::int8(), Sequence::forward).unwrap();
    let model = model.with_mode(Mode::Observe);
    model.forward_indices::<2>(batch.clone());
    let model = convert(&model.calibrated().unwrap(), Target::Onnx).unwrap();
    let hidden = "lstm.input_gate.hidden_transform";
    assert!(model.nodes.iter().filter(|node| node.op.layer() == Some(hidden)).count() > 1);

    let loaded = Sequence::new(&device).load_record(load(&model));
    assert_linear(&model, hidden, &loaded.lstm.input_gate.hidden_transform);
    assert_linear(&model, "head", &loaded.head);
    let table = model.nodes.iter().find_map(|node| match &node.op {
        Op::Gather(gather) => Some((gather.table.unpack(), model.values[node.output.0].qparams)),
        _ => None,
    });
    let (codes, QParams { scale, zero_point }) = table.unwrap();
    let expected: Vec<f32> = codes.into_iter().map(|code| scale * (i32::from(code) - zero_point) as f32).collect();
    assert_eq!(bits(&floats(loaded.embedding.weight.val().dequantize())), bits(&expected));
    let quantized = floats(loaded.forward(batch.clone()));
    let expected = floats(loaded.map(&mut Dequantize(0)).forward(batch));
    assert!(difference(&quantized, &expected) < 0.01);
}

/// `layers` linear layers of two numbers, one after another, with these names, inputs of these steps and these biases;
/// the second number's bias is twice as many steps, of half the size.
fn chain(layers: &[(&str, f32, i64)]) -> IntegerModel {
    let value = |index: usize, scale| ValueInfo::int8(&format!("v{index}"), &[2], QParams { scale, zero_point: 3 });
    let mut values: Vec<ValueInfo> = layers.iter().enumerate().map(|(index, (_, scale, _))| value(index, *scale)).collect();
    values.push(value(layers.len(), 0.5));
    let node = |(index, (name, _, bias)): (usize, &(&str, f32, i64))| {
        let codes = PackedCodes::pack(&[1, -7, 5, 7], WeightBits::Four).unwrap();
        let weights = Weights { codes, scale: vec![0.25, 0.125], bias: vec![*bias, 2 * bias] };
        let op = LinearOp { name: (*name).to_owned(), weights, d_input: 2, d_output: 2, clamp: Clamp::INT8 };
        Node { op: Op::Linear(op), inputs: vec![ValueId(index)], output: ValueId(index + 1) }
    };
    let nodes = layers.iter().enumerate().map(node).collect();
    IntegerModel { rules: Rules::LiteRt, values, nodes, input: ValueId(0), output: ValueId(layers.len()) }
}

/// The tensors of a record by their names, and the text of its metadata.
fn opened(model: &IntegerModel) -> (Vec<(String, TensorData)>, serde_json::Value) {
    let reader = Reader::from_bytes(Bytes::from_bytes_vec(to_burnpack(model).unwrap())).unwrap();
    let text = serde_json::from_str(&reader.metadata()["qat"]).unwrap();
    let tensors = reader.into_tensors().unwrap().into_iter().map(|tensor| {
        let (name, dtype, shape, id, bytes) = tensor.into_parts().unwrap();
        assert_eq!(id, None);
        (name, TensorData::from_bytes(bytes, shape, dtype))
    });
    (tensors.collect(), text)
}

#[test]
fn layers_of_any_name_are_kept_apart() {
    let names = ["a", "a.weight", "", "weight", "a\0b", "ä/../\n\"", &"n".repeat(5000)];
    let layers: Vec<_> = names.iter().map(|name| (*name, 0.5, 1)).collect();
    let model = chain(&layers);
    // A layer without a name is the module itself; another's is no part of it.
    let (tensors, _) = opened(&model);
    let mut found: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    let prefix = |name: &str| if name.is_empty() { String::new() } else { format!("{name}.") };
    let mut expected: Vec<String> = names.iter().flat_map(|name| ["weight", "bias"].map(|part| prefix(name) + part)).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);

    let device = Device::flex();
    let loaded = LinearConfig::new(2, 2).init(&device).load_record(load(&chain(&[("", 0.5, 1)])));
    assert_eq!(floats(loaded.weight.val().dequantize()), [0.25, 0.625, -1.75, 0.875]);
    assert_eq!(floats(loaded.bias.unwrap().val()), [0.125, 0.125]);
}

#[test]
fn the_metadata_say_what_integers_need() {
    let model = chain(&[("fc", 0.1, 1)]);
    let (tensors, text) = opened(&model);
    assert_eq!((&text["rules"], &text["input"], &text["output"]), (&"litert".into(), &"v0".into(), &"v1".into()));
    let value = &text["values"][0];
    assert_eq!((&value["codes"], &value["zero_point"], &value["shape"]), (&"int8".into(), &3.into(), &vec![2].into()));
    assert_eq!(value["scale"].to_string(), "0.1");
    assert_eq!(text["layers"], serde_json::json!([{ "name": "fc", "bits": 4 }]));
    let (_, weight) = tensors.iter().find(|(name, _)| name == "fc.weight").unwrap();
    let DType::QFloat(scheme) = weight.dtype() else { panic!("{:?}", weight.dtype()) };
    assert_eq!((scheme.value, scheme.store), (QuantValue::Q8S, QuantStore::Native));
}

#[test]
fn uses_of_a_layer_must_agree() {
    // Biases of 0.4 on grids of steps 1/8 and 1/40, of which the finer has it.
    let model = chain(&[("fc", 0.5, 3), ("fc", 0.1, 16)]);
    let (tensors, _) = opened(&model);
    assert_eq!(tensors.len(), 2);
    let bias: Vec<f32> = tensors.iter().find(|(name, _)| name == "fc.bias").unwrap().1.iter().collect();
    assert_eq!(bias[0], (f64::from(0.1f32 * 0.25) * 16.0) as f32);

    let mut other = chain(&[("fc", 0.5, 3), ("fc", 0.5, 3)]);
    assert!(burnpack_obstacles(&other).is_empty());
    let Op::Linear(linear) = &mut other.nodes[1].op else { unreachable!() };
    linear.weights.codes = PackedCodes::pack(&[1, -7, 5, 6], WeightBits::Four).unwrap();
    for model in [other, chain(&[("fc", 0.5, 3), ("fc", 0.5, 5)])] {
        let obstacles = burnpack_obstacles(&model);
        assert_eq!(obstacles.len(), 1, "{obstacles:?}");
        assert_eq!(obstacles[0].place, "layer \"fc\"");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.bpk");
        assert!(matches!(write_burnpack(&model, &path), Err(ExportError::Unsupported { format: "burnpack", .. })));
        assert!(!path.exists());
    }
}

#[test]
fn equal_models_give_equal_bytes() {
    for seed in 0..3 {
        assert_eq!(to_burnpack(&residual(seed)).unwrap(), to_burnpack(&residual(seed)).unwrap());
    }
    assert_ne!(to_burnpack(&residual(0)).unwrap(), to_burnpack(&residual(1)).unwrap());
}

#[test]
fn what_is_written_is_read_or_refused() {
    // The net applies one module to two inputs, with biases that no number rounds to.
    let obstacles = burnpack_obstacles(&exact(1));
    assert!(obstacles.iter().all(|obstacle| obstacle.place == "layer \"shared\""), "{obstacles:?}");
    assert_eq!(obstacles.is_empty(), to_burnpack(&exact(1)).is_ok());
    let mut model = residual(1);
    let Op::Conv2d(conv) = &mut model.nodes[0].op else { unreachable!() };
    conv.weights.bias.pop();
    assert!(matches!(to_burnpack(&model), Err(ExportError::Model { .. })));
}
