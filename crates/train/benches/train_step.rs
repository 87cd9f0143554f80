//! Times training steps of networks of the zoo: forward, loss, backward and Adam, on the CPU, on random images.
//!
//! Alone it prints a table: `cargo bench --workspace --bench train_step`. With `--serve` it obeys lines on standard input, so that
//! `benches/peers/train_step.py` can take turns between it and other frameworks:
//!
//! - `time NET MODE BATCH REPEATS`: nanoseconds of one step, the fastest of the repeats; `none` for a network that is not there
//!
//! Modes are `module` (the network as a Burn module), `float` and `qat` (the network as a [`QatModel`], quantizers off or on), `single`
//! (`qat` with batch statistics of the quantized convolution) and `frozen` (`qat` with batch norms frozen).

use std::io::{self, BufRead};
use std::time::Instant;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Int, Tensor};
use qat::nn::NormStatistics;
use qat::{Mode, QConfig, QatModel};
use qat_train::Classifier;
use qat_train::zoo::ZooModel;

const NETS: [&str; 3] = ["lenet", "resnet8", "resnet20"];
const MODES: [&str; 5] = ["module", "float", "qat", "single", "frozen"];

/// Nanoseconds of the fastest step; `None` for a network that is not there.
fn time(net: &str, mode: &str, batch: usize, repeats: usize) -> Option<u128> {
    let zoo: ZooModel = net.parse().ok()?;
    let device = Device::flex().autodiff();
    let [c, h, w] = zoo.input_shape();
    device.seed(1);
    let images = Tensor::<4>::random([batch, c, h, w], Distribution::Uniform(0.0, 1.0), &device);
    let targets: Vec<i64> = (0..batch as i64).map(|i| i % 10).collect();
    let targets = Tensor::<1, Int>::from_data(targets.as_slice(), &device);
    let module = zoo.init(&device, 1);
    if mode == "module" {
        return Some(steps(module, images, targets, repeats));
    }
    let config = QConfig::int8();
    let plain = module.valid();
    let model = QatModel::prepare(&plain, [1, c, h, w], &config, Classifier::logits).expect("the zoo can be quantized");
    let model = match mode {
        "float" => model,
        _ => {
            let model = model.with_mode(Mode::Observe);
            model.logits(images.clone().inner());
            let statistics = if mode == "single" { NormStatistics::Quantized } else { NormStatistics::Float };
            model.calibrated().expect("finite ranges").with_norm_frozen(mode == "frozen").with_norm_statistics(statistics)
        }
    };
    Some(steps(model.train(), images, targets, repeats))
}

fn steps<M: Classifier>(mut model: M, images: Tensor<4>, targets: Tensor<1, Int>, repeats: usize) -> u128 {
    let mut optimizer = AdamConfig::new().init();
    let mut fastest = u128::MAX;
    for _ in 0..repeats + 2 {
        let start = Instant::now();
        let logits = model.logits(images.clone());
        let loss = CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-4, model, gradients);
        fastest = fastest.min(start.elapsed().as_nanos());
    }
    fastest
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--serve") {
        for line in io::stdin().lock().lines() {
            let line = line.expect("lines on standard input");
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["time", net, mode, batch, repeats] => {
                    let (batch, repeats) = (batch.parse().expect("a batch size"), repeats.parse().expect("a number of repeats"));
                    match time(net, mode, batch, repeats) {
                        Some(nanoseconds) => println!("{nanoseconds}"),
                        None => println!("none"),
                    }
                }
                _ => panic!("expected `time NET MODE BATCH REPEATS`, found {line:?}"),
            }
        }
        return;
    }
    let picked = |all: &[&'static str]| -> Vec<&'static str> {
        let named: Vec<_> = all.iter().copied().filter(|name| arguments.iter().any(|argument| argument == name)).collect();
        if named.is_empty() { all.to_vec() } else { named }
    };
    println!("batch 64; milliseconds of the fastest of 15 steps, images per second");
    for net in picked(&NETS) {
        for mode in picked(&MODES) {
            if let Some(nanoseconds) = time(net, mode, 64, 15) {
                let seconds = nanoseconds as f64 / 1e9;
                println!("{net:9} {mode:7} {:8.2} ms {:8.0} /s", seconds * 1e3, 64.0 / seconds);
            }
        }
    }
}
