//! Which activation gets which codes: what layers with weights read, copies for those that ask for fewer bits, overrides by name, and
//! coming down in bits.

mod draws;

use std::sync::Mutex;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use draws::Draws;
use qat::{
    CodeRange, ConfigError, GraphError, IntegerFormat, Mode, Override, QConfig, QatLayer, QatModel, RangeLearner, RangeSign,
    WeightScale,
};

#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    conv2: Conv2d,
}

#[derive(Module, Debug)]
struct Net {
    stem: Conv2d,
    blocks: Vec<Block>,
    head: Linear,
}

const SHAPE: [usize; 4] = [1, 2, 6, 6];

/// Held while weights are drawn, since all tests draw from the numbers of one device.
static DRAWING: Mutex<()> = Mutex::new(());

impl Net {
    fn new(device: &Device) -> Self {
        let _alone = DRAWING.lock();
        device.seed(5);
        let conv = |c_in| Conv2dConfig::new([c_in, 4], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device);
        let block = || Block { conv1: conv(4), conv2: conv(4) };
        let net = Self { stem: conv(2), blocks: vec![block(), block()], head: LinearConfig::new(4, 3).init(device) };
        // Parameters are drawn when they are first used.
        net.forward(Tensor::zeros(SHAPE, device));
        net
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.stem.forward(x));
        for block in &self.blocks {
            let y = relu(block.conv1.forward(x.clone()));
            x = relu(block.conv2.forward(y) + x);
        }
        let [n, ..] = x.dims();
        self.head.forward(x.mean_dim(3).mean_dim(2).reshape([n, 4]))
    }
}

fn prepared(config: &QConfig) -> Result<QatModel, GraphError> {
    QatModel::prepare(&Net::new(&Device::flex()), SHAPE, config, Net::forward)
}

/// For each step its name, bits of its weight and bits of its output.
fn bits(model: &QatModel) -> Vec<(String, Option<u8>, u8)> {
    let formats = model.activation_formats();
    let of = |(step, layer): (&qat::Step, &QatLayer)| {
        (step.name.clone(), layer.weight_format().map(IntegerFormat::bits), formats[step.output.0].bits())
    };
    model.steps().map(of).collect()
}

fn listing(model: &QatModel) -> Vec<String> {
    let line = |(name, weight, output): (String, Option<u8>, u8)| match weight {
        Some(weight) => format!("{name}: w{weight}, output {output}"),
        None => format!("{name}: output {output}"),
    };
    bits(model).into_iter().map(line).collect()
}

#[test]
fn layers_read_few_bits_and_sums_read_eight() {
    let model = prepared(&QConfig::w4a4()).unwrap();
    let expected = [
        "stem: w8, output 8",
        "blocks.0.conv1.input: output 4",
        "blocks.0.conv1: w4, output 4",
        "blocks.0.conv2: w4, output 8",
        "add_4: output 8",
        "blocks.1.conv1.input: output 4",
        "blocks.1.conv1: w4, output 4",
        "blocks.1.conv2: w4, output 8",
        "add_9: output 8",
    ];
    let found = listing(&model);
    let without_numbers =
        |line: &str| line.split(": ").map(|part| part.split('_').next().unwrap_or_default().to_owned()).collect::<Vec<_>>();
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(without_numbers(found), without_numbers(expected), "{found:#?}");
    }
    assert_eq!(found.last().unwrap(), "head: w8, output 8");
    assert_eq!(model.input.format(), IntegerFormat::INT8);
    // The copy knows what the activation is known to be.
    for (step, layer) in model.steps().filter(|(_, layer)| matches!(layer, QatLayer::Requantize(_))) {
        assert_eq!(layer.output().unwrap().sign(), RangeSign::NonNegative, "{}", step.name);
    }
    // At 8 bits nobody asks for fewer, and there is no copy.
    let eight = prepared(&QConfig::int8()).unwrap();
    assert!(eight.layers.iter().all(|layer| !matches!(layer, QatLayer::Requantize(_))));
}

#[test]
fn readers_with_the_same_wish_share_a_copy() {
    let device = Device::flex();
    let net = Net::new(&device);
    let forward = |net: &Net, x: Tensor<4>| {
        let x = relu(net.stem.forward(x));
        let (a, b) = (net.blocks[0].conv1.forward(x.clone()), net.blocks[0].conv2.forward(x.clone()));
        let c = net.blocks[1].conv1.forward(x.clone());
        let y = a + b + c + x;
        let [n, ..] = y.dims();
        net.head.forward(y.mean_dim(3).mean_dim(2).reshape([n, 4]))
    };
    let mut config = QConfig::w4a4();
    let three =
        Override { pattern: "blocks.1.*".into(), activation: IntegerFormat::new(3, CodeRange::Full), ..Override::default() };
    config.overrides.insert(0, three);
    let model = QatModel::prepare(&net, SHAPE, &config, forward).unwrap();
    let copies: Vec<u8> = bits(&model).iter().filter(|(name, ..)| name.ends_with(".input")).map(|(.., output)| *output).collect();
    assert_eq!(copies, [4, 3]);
}

#[test]
fn overrides_are_for_the_layers_they_name() {
    let with = |exception: Override| {
        let mut config = QConfig::w4a4();
        config.overrides.push(exception);
        prepared(&config)
    };
    let three = IntegerFormat::new(3, CodeRange::Narrow);
    let model = with(Override { pattern: "blocks.*.conv2".into(), weight: three, ..Override::default() }).unwrap();
    let weights: Vec<u8> = bits(&model).into_iter().filter_map(|(_, weight, _)| weight).collect();
    assert_eq!(weights, [8, 4, 3, 4, 3, 8]);
    let fixed = with(Override { pattern: "blocks.1.conv2".into(), learner: Some(RangeLearner::Fixed), ..Override::default() });
    let model = fixed.unwrap();
    let learners: Vec<RangeLearner> = model
        .steps()
        .filter(|(step, _)| step.name.ends_with("conv1"))
        .map(|(_, layer)| layer.output().unwrap().learner())
        .collect();
    assert_eq!(learners, [RangeLearner::Lsq, RangeLearner::Fixed]);

    let error = with(Override { pattern: "blocks.1.conv3".into(), ..Override::default() }).unwrap_err();
    let GraphError::NoSuchLayer { pattern, near } = &error else { panic!("{error}") };
    assert_eq!((pattern.as_str(), near.len()), ("blocks.1.conv3", 3));
    assert!(near[..2].contains(&"blocks.1.conv1".to_owned()) && near[..2].contains(&"blocks.1.conv2".to_owned()), "{near:?}");
    assert!(error.to_string().starts_with("override of the scheme, blocks.1.conv3: expected"), "{error}");
    let error = with(Override { pattern: "head".into(), activation: Some(IntegerFormat::INT16), ..Override::default() });
    assert!(matches!(error, Err(GraphError::Config(ConfigError::Activation { .. }))), "{error:?}");
}

#[test]
fn a_layer_left_in_float_computes_in_float() {
    let device = Device::flex();
    let mut config = QConfig::w2a2();
    config.overrides.push(Override { pattern: "**".into(), weight_scale: Some(WeightScale::Real), ..Override::default() });
    config.activation = IntegerFormat::INT8;
    let model = prepared(&config).unwrap().with_mode(Mode::Observe);
    let batch = Draws::new(3).tensor([8, 2, 6, 6], -1.0, 1.0, &device);
    let float: Tensor<2> = model.forward(batch.clone());
    let quantized: Tensor<2> = model.calibrated().unwrap().forward(batch);
    let largest = float.clone().abs().max().into_scalar::<f32>();
    let noise = (float - quantized).abs().max().into_scalar::<f32>();
    // Only activations of 8 bits round.
    assert!(noise > 0.0 && noise < 0.05 * largest, "{noise} of {largest}");
}

#[test]
fn bits_come_down_to_the_scheme() {
    let device = Device::flex();
    let batch = Draws::new(4).tensor([32, 2, 6, 6], -1.0, 1.0, &device);
    for config in [QConfig::w2a2(), QConfig { weight_scale: WeightScale::Max, learner: RangeLearner::MinMax, ..QConfig::w2a2() }]
    {
        let model = prepared(&config).unwrap().with_mode(Mode::Observe);
        let float: Tensor<2> = model.forward(batch.clone());
        let model = model.calibrated().unwrap();
        let at = |model: &QatModel| {
            let difference = model.forward::<4, 2>(batch.clone()) - float.clone();
            (difference.clone() * difference).mean().into_scalar::<f32>()
        };
        let whole = bits(&model);
        let noise = at(&model);
        let mut last = f32::INFINITY;
        let mut stage = model.clone().with_bits(8, 8).unwrap();
        let all: Vec<u8> = bits(&stage).into_iter().flat_map(|(_, weight, output)| weight.into_iter().chain([output])).collect();
        assert!(all.iter().all(|bits| *bits == 8), "{all:?}");
        for bits_now in [2, 3, 4, 8] {
            stage = stage.with_bits(bits_now, bits_now).unwrap();
            let noise = at(&stage);
            println!("{bits_now} bits: {noise}");
            assert!(noise < last, "{bits_now} bits: {noise}, with fewer {last}");
            last = noise;
        }
        // Back at the scheme it is the model that it was, and the first and last layer have never changed.
        let back = stage.with_bits(2, 2).unwrap();
        assert_eq!(bits(&back), whole);
        assert!((at(&back) - noise).abs() <= 1e-5 * noise, "{} and {noise}", at(&back));
        let error = back.with_bits(1, 8).unwrap_err().to_string();
        assert!(error.contains("expected 2 to 8 bits"), "{error}");
    }
}

#[test]
fn parameters_have_their_groups() {
    let model = prepared(&QConfig::w4a4()).unwrap();
    let (ranges, biases) = (model.range_parameters(), model.norm_and_bias_parameters());
    // Input, six layers with an output, two sums, two copies, the mean or means: ends and a step each; and a step for each weight.
    let quantizers = 1 + model.layers.iter().filter(|layer| layer.output().is_some()).count();
    assert_eq!(ranges.len(), 3 * quantizers + 6);
    assert_eq!(biases.len(), 6);
    let mut all: Vec<_> = ranges.iter().chain(&biases).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), ranges.len() + biases.len(), "no parameter is in both");
    let QatLayer::Conv2d(stem) = &model.layers[0] else { panic!("the stem comes first") };
    assert!(!all.contains(&&stem.weight.id) && ranges.contains(&stem.quantizer.reach.as_ref().unwrap().id));
}
