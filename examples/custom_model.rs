//! Residual connections, batch norm, a branch: captured without any change to the model.
//!
//! `cargo run --release -p qat-examples --bin custom_model` prints the layers that were found, calibrates them on random images, trains a
//! few steps with Burn's own optimizer, converts to integers, compares them with the simulation, and writes the trained float weights
//! back into the user's struct.

use std::error::Error;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Int, Tensor, activation::relu, module::adaptive_avg_pool2d};
use qat::{Mode, QConfig, QatModel, graph};
use qat_export::{Target, convert};

/// Convolution, batch norm and perhaps a relu.
#[derive(Module, Debug)]
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

impl ConvNorm {
    fn new(channels: [usize; 2], kernel: usize, device: &Device) -> Self {
        let padding = PaddingConfig2d::Same;
        let conv = Conv2dConfig::new(channels, [kernel, kernel]).with_padding(padding).with_bias(false).init(device);
        Self { conv, norm: BatchNormConfig::new(channels[1]).init(device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.conv.forward(x))
    }
}

/// `relu(x + f(x))`.
#[derive(Module, Debug)]
struct Residual {
    first: ConvNorm,
    second: ConvNorm,
}

impl Residual {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.second.forward(relu(self.first.forward(x.clone())));
        relu(x + y)
    }
}

/// A stem, two residual blocks, and two branches of different kernels that meet in a sum.
#[derive(Module, Debug)]
struct Net {
    stem: ConvNorm,
    blocks: Vec<Residual>,
    narrow: ConvNorm,
    wide: ConvNorm,
    head: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        let block = || Residual { first: ConvNorm::new([8, 8], 3, device), second: ConvNorm::new([8, 8], 3, device) };
        Self {
            stem: ConvNorm::new([3, 8], 3, device),
            blocks: vec![block(), block()],
            narrow: ConvNorm::new([8, 16], 1, device),
            wide: ConvNorm::new([8, 16], 3, device),
            head: LinearConfig::new(16, 4).init(device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.stem.forward(images));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let x = relu(self.narrow.forward(x.clone()) + self.wide.forward(x));
        self.head.forward(adaptive_avg_pool2d(x, [1, 1]).flatten(1, 3))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    device.seed(42);
    let net = Net::new(&device);
    println!("{}\n", graph::fuse(graph::capture(&net, [1, 3, 16, 16], Net::forward)?)?.listing());

    let images = Tensor::<4>::random([32, 3, 16, 16], Distribution::Uniform(0.0, 1.0), &device);
    let labels: Vec<i64> = (0..32).map(|image| image % 4).collect();
    let labels = Tensor::<1, Int>::from_data(labels.as_slice(), &device);

    let model = QatModel::prepare(&net, [1, 3, 16, 16], &QConfig::int8(), Net::forward)?.with_mode(Mode::Observe);
    model.forward::<4, 2>(images.clone());
    let mut model = model.calibrated()?.train();

    // An ordinary Burn training loop: the quantized model is an ordinary module.
    let training = device.clone().autodiff();
    let loss = CrossEntropyLossConfig::new().init(&training);
    let mut optimizer = AdamConfig::new().init();
    for step in 0..20 {
        let batch = Tensor::from_data(images.to_data(), &training);
        let targets = Tensor::from_data(labels.to_data(), &training);
        let loss = loss.forward(model.forward::<4, 2>(batch), targets);
        if step % 5 == 0 {
            println!("step {step:2}  loss {:.4}", loss.clone().into_scalar::<f32>());
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.005, model, gradients);
    }

    let model = model.valid();
    let integers = convert(&model, Target::Onnx)?;
    let codes = integers.run(&integers.quantize_input(&images.to_data().try_to_vec::<f32>()?))?;
    let real = integers.dequantize_output(&codes);
    let simulated: Vec<f32> = model.forward::<4, 2>(images.clone()).into_data().try_to_vec()?;
    let step = integers.output_info().qparams.scale;
    let apart = simulated.iter().zip(&real).filter(|(a, b)| (*a - *b).abs() > step / 2.0).count();
    println!("\nintegers differ from the simulation in {apart} of {} logits", real.len());

    let net = model.write_back(net)?;
    let float: Tensor<2> = net.valid().forward(images);
    println!("the user's own struct now holds the trained weights; its first logits: {:.3}", float.slice([0..1, 0..4]));
    Ok(())
}
