//! How much memory a training step takes at its peak: quantized it takes no more than the network as a Burn module, and no more than float
//! training on the same kernels but for the weights on their grids, which are kept besides the weights.
//!
//! The allocator of this test counts the bytes that are alive. A step is forward, cross entropy, backward and Adam, which for the Burn module is Burn's, at batch 64 on the
//! CPU's kernels, after two steps that leave behind what stays: moments of the optimizer and scratch memory. Its peak is that of the
//! living bytes during the step, less those alive before it. `--nocapture` shows the table.

#![allow(unsafe_code, reason = "an allocator that counts is an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Int, Tensor};
use qat::nn::NormStatistics;
use qat::optim::AdamConfig;
use qat::{Mode, QConfig, QatModel};
use qat_train::Classifier;
use qat_train::zoo::ZooModel;

/// The system's allocator, which counts.
struct Counting;

static ALIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn taken(bytes: usize) {
    let alive = ALIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(alive, Ordering::Relaxed);
}

// SAFETY: all is left to the system's allocator, and counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        ALIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both places may be alive while numbers move from one to the other.
        taken(size);
        ALIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BATCH: usize = 64;

/// What is trained.
#[derive(Clone, Copy, Debug)]
enum Training {
    /// The network as a Burn module.
    Module,
    /// As a [`QatModel`] whose quantizers are off.
    Float,
    /// As a [`QatModel`], quantized.
    Quantized(NormStatistics),
    /// With batch norms frozen.
    Frozen,
}

/// Bytes that a step takes at its peak.
fn peak(zoo: ZooModel, training: Training) -> usize {
    let device = Device::flex().autodiff();
    let [c, h, w] = zoo.input_shape();
    device.seed(1);
    let images = Tensor::<4>::random([BATCH, c, h, w], Distribution::Uniform(0.0, 1.0), &device);
    let module = zoo.init(&device, 1);
    if matches!(training, Training::Module) {
        return peak_of_step(module, burn::optim::AdamConfig::new().init(), images);
    }
    let model = QatModel::prepare(&module.valid(), [1, c, h, w], &QConfig::int8(), Classifier::logits).expect("a net of the zoo");
    let observed = |model: QatModel| {
        let model = model.with_mode(Mode::Observe);
        model.logits(images.clone().inner());
        model.calibrated().expect("finite ranges")
    };
    let model = match training {
        Training::Module | Training::Float => model,
        Training::Quantized(statistics) => observed(model).with_norm_statistics(statistics),
        Training::Frozen => observed(model).with_norm_frozen(true),
    };
    peak_of_step(model.train(), AdamConfig::new().init(), images)
}

fn peak_of_step<M: Classifier>(mut model: M, mut optimizer: ModuleOptimizer, images: Tensor<4>) -> usize {
    let targets: Vec<i64> = (0..BATCH as i64).map(|i| i % 10).collect();
    let targets = Tensor::<1, Int>::from_data(targets.as_slice(), &images.device());
    let mut taken = 0;
    for _ in 0..3 {
        let before = ALIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let logits = model.logits(images.clone());
        let loss = CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-4, model, gradients);
        taken = PEAK.load(Ordering::Relaxed) - before;
    }
    taken
}

#[test]
fn a_quantized_step_takes_no_more_than_a_float_step() {
    let trainings = [
        Training::Module,
        Training::Float,
        Training::Quantized(NormStatistics::Quantized),
        Training::Quantized(NormStatistics::Float),
        Training::Frozen,
    ];
    println!("| network, MiB | {} |", trainings.map(|training| format!("{training:?}")).join(" | "));
    println!("|{}", " --- |".repeat(1 + trainings.len()));
    for zoo in [ZooModel::LeNet, ZooModel::ResNet8, ZooModel::ResNet20, ZooModel::DsCnn, ZooModel::MobileNet] {
        let peaks = trainings.map(|training| peak(zoo, training));
        println!("| {} | {} |", zoo.name(), peaks.map(|bytes| format!("{:.1}", bytes as f64 / 1048576.0)).join(" | "));
        let [module, float, quantized, _, frozen] = peaks;
        let weights = size_of::<f32>() * zoo.init(&Device::flex(), 1).num_params();
        for (name, peak) in [("quantized", quantized), ("frozen", frozen)] {
            let name = format!("{}, {name}", zoo.name());
            assert!(peak <= module, "{name}: expected at most the {module} bytes of the Burn module, found {peak}");
            assert!(
                peak <= float + weights,
                "{name}: expected at most {float} bytes in float and {weights} of weights, found {peak}"
            );
        }
    }
}
