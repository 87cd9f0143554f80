//! A user's own Burn module, from float weights to integers in files.
//!
//! `cargo run --release -p qat-examples --bin mnist -- OUT [IMAGES]` trains on MNIST, or on its first IMAGES images, and writes the run
//! directory OUT: `integer.safetensors`, which this project's engine loads, and `model.onnx`, which ONNX Runtime runs on integers.

use std::{error::Error, path::PathBuf, sync::Arc};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::relu, module::adaptive_avg_pool2d};
use burn::train::Interrupter;
use qat::{QConfig, Scheme};
use qat_export::{OnnxOptions, Target, convert, write_onnx, write_safetensors};
use qat_runtime::Engine;
use qat_train::data::{Split, resolve};
use qat_train::recipe::{Goal, Setting, train};
use qat_train::{Classifier, FitData, Manifest, ProgressStyle, RunDirectory, Schedule};

/// An ordinary Burn module: nothing in it knows of quantization.
#[derive(Module, Debug)]
struct Net {
    conv1: Conv2d,
    norm1: BatchNorm,
    conv2: Conv2d,
    norm2: BatchNorm,
    head: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        Self {
            conv1: Conv2dConfig::new([1, 8], [5, 5]).with_stride([2, 2]).with_bias(false).init(device),
            norm1: BatchNormConfig::new(8).init(device),
            conv2: Conv2dConfig::new([8, 16], [3, 3]).with_bias(false).init(device),
            norm2: BatchNormConfig::new(16).init(device),
            head: LinearConfig::new(16 * 5 * 5, 10).init(device),
        }
    }
}

impl Classifier for Net {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm1.forward(self.conv1.forward(images)));
        let x = relu(self.norm2.forward(self.conv2.forward(x)));
        self.head.forward(adaptive_avg_pool2d(x, [5, 5]).flatten(1, 3))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let out = PathBuf::from(args.next().ok_or("usage: mnist OUT [IMAGES]")?);
    let limit = args.next().map_or(Ok(usize::MAX), |count| count.parse())?;

    let mnist = resolve("mnist")?;
    let load = |split| Ok::<_, qat_train::data::DataError>(Arc::new(mnist.load(split)?.truncated(limit)));
    let data = FitData { train: load(Split::Train)?, valid: load(Split::Test)? };

    // Float training, calibration, quantization-aware training; interrupted runs continue with RunDirectory::resume.
    let device = Device::flex();
    device.seed(7);
    let schedule = Schedule { float_epochs: 2, qat_epochs: 1, ..Schedule::default() };
    let run = RunDirectory::create(&out, Manifest::new("example", "mnist", Scheme::INT8, "flex", 7, 64, schedule))?;
    let interrupter = Interrupter::new();
    let setting = Setting { run: &run, device: &device, style: ProgressStyle::Auto, interrupter: &interrupter, judge: None };
    let trained = train(Net::new(&device), &QConfig::int8(), &data, Goal::Quantized, &setting)?.ok_or("interrupted")?;
    let quantized = trained.quantized.ok_or("the goal was a quantized model")?;

    // From here on there are only integers.
    let integers = convert(&quantized.model, Target::Onnx)?;
    write_safetensors(&integers, &run.integer_model())?;
    write_onnx(&integers, &OnnxOptions::default(), &run.onnx_model())?;

    let codes = Engine::new(&integers)?.run(&integers.quantize_input(&data.valid.to_f32()))?;
    let codes = codes.to_i32s();
    let right = codes.chunks(10).zip(&data.valid.labels).filter(|(logits, label)| argmax(logits) == usize::from(**label)).count();
    println!("float    {:.2} %", trained.float.accuracy());
    println!("PTQ      {:.2} %", quantized.ptq.accuracy());
    println!("QAT      {:.2} %", quantized.qat.accuracy());
    println!("integer  {:.2} %", 100.0 * right as f64 / data.valid.len() as f64);
    println!("written  {}", run.onnx_model().display());
    Ok(())
}

fn argmax(logits: &[i32]) -> usize {
    (0..logits.len()).max_by_key(|index| (logits[*index], std::cmp::Reverse(*index))).unwrap_or(0)
}
