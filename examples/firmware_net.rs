//! Makes the network of `examples/firmware`: training on MNIST, then Rust source.
//!
//! `cargo run --release -p qat-examples --bin firmware_net -- examples/firmware` writes `src/net.rs` there, and in `tests/data` the
//! first images of the test set, their labels and the integer engine's codes for them.

use std::{error::Error, fs, path::PathBuf, sync::Arc};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::relu};
use burn::train::Interrupter;
use qat::{QConfig, Scheme};
use qat_export::{Target, convert, write_rust};
use qat_runtime::Engine;
use qat_train::data::{Split, resolve};
use qat_train::recipe::{Goal, Setting, train};
use qat_train::{Classifier, FitData, Manifest, ProgressStyle, RunDirectory, Schedule};

/// Images of the test set that go into the firmware's test.
const IMAGES: usize = 60;

/// Small enough for the flash of any microcontroller: about 4,000 weights.
#[derive(Module, Debug)]
struct Net {
    conv1: Conv2d,
    norm1: BatchNorm,
    pool: MaxPool2d,
    conv2: Conv2d,
    norm2: BatchNorm,
    head: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        Self {
            conv1: Conv2dConfig::new([1, 8], [5, 5]).with_stride([2, 2]).with_bias(false).init(device),
            norm1: BatchNormConfig::new(8).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            conv2: Conv2dConfig::new([8, 16], [3, 3]).with_bias(false).init(device),
            norm2: BatchNormConfig::new(16).init(device),
            head: LinearConfig::new(16 * 4 * 4, 10).init(device),
        }
    }
}

impl Classifier for Net {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm1.forward(self.conv1.forward(images)));
        let x = self.pool.forward(x);
        let x = relu(self.norm2.forward(self.conv2.forward(x)));
        self.head.forward(x.flatten(1, 3))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::args().nth(1).ok_or("usage: firmware_net OUT")?);
    let mnist = resolve("mnist")?;
    let data = FitData { train: Arc::new(mnist.load(Split::Train)?), valid: Arc::new(mnist.load(Split::Test)?) };

    let device = Device::flex();
    device.seed(7);
    let schedule = Schedule { float_epochs: 2, qat_epochs: 1, ..Schedule::default() };
    let folder = std::env::temp_dir().join(format!("firmware_net-{}", std::process::id()));
    let run = RunDirectory::create(&folder, Manifest::new("firmware", "mnist", Scheme::INT8, "flex", 7, 64, schedule))?;
    let interrupter = Interrupter::new();
    let setting = Setting { run: &run, device: &device, style: ProgressStyle::Auto, interrupter: &interrupter, judge: None };
    let trained = train(Net::new(&device), &QConfig::int8(), &data, Goal::Quantized, &setting)?.ok_or("interrupted")?;
    fs::remove_dir_all(&folder)?;
    let quantized = trained.quantized.ok_or("the goal was a quantized model")?;

    // Convolutions, pools and linear layers have the same integers under all rules; only the rounding of sums is the target's.
    let integers = convert(&quantized.model, Target::Rust)?;
    write_rust(&integers, &out.join("src/net.rs"))?;

    let test = mnist.load(Split::Test)?.truncated(IMAGES);
    let scores = Engine::new(&integers)?.run(&integers.quantize_input(&test.to_f32()))?.to_i32s();
    let folder = out.join("tests/data");
    fs::create_dir_all(&folder)?;
    let images: Vec<u8> = test.to_f32().iter().map(|pixel| (pixel * 255.0).round() as u8).collect();
    fs::write(folder.join("images.bin"), images)?;
    fs::write(folder.join("labels.bin"), &test.labels)?;
    fs::write(folder.join("scores.bin"), scores.iter().map(|&score| score as u8).collect::<Vec<_>>())?;

    let codes = Engine::new(&integers)?.run(&integers.quantize_input(&data.valid.to_f32()))?.to_i32s();
    let right = codes.chunks(10).zip(&data.valid.labels).filter(|(logits, label)| argmax(logits) == usize::from(**label)).count();
    println!("integers {:.2} %, QAT {:.2} %", 100.0 * right as f64 / data.valid.len() as f64, quantized.qat.accuracy());
    Ok(())
}

fn argmax(logits: &[i32]) -> usize {
    (0..logits.len()).max_by_key(|index| (logits[*index], std::cmp::Reverse(*index))).unwrap_or(0)
}
