//! Whole networks on real images: trained for a moment, calibrated, converted for every target.

use std::{path::PathBuf, sync::Arc};

use burn::{
    module::Module,
    nn::loss::CrossEntropyLossConfig,
    optim::{AdamConfig, GradientsParams},
    tensor::Device,
};
use qat::{Mode, QConfig, QatModel};
use qat_export::{Target, convert, with_rules};
use qat_runtime::{IntegerModel, Rules};
use qat_train::{
    Classifier,
    data::{DataSource, ImageLoader, ImageSet, LoaderConfig, Split, resolve},
    zoo::{ZooModel, ZooNet},
};

use crate::cases::{Case, Models};

/// Images of a training step.
const BATCH: usize = 32;
/// Images that ranges are taken from.
const CALIBRATION: usize = 512;

/// A network, its name, steps of training and the schemes that it is quantized by.
struct Plan {
    name: &'static str,
    model: ZooModel,
    steps: usize,
}

const PLANS: [Plan; 4] = [
    Plan { name: "LeNet", model: ZooModel::LeNet, steps: 120 },
    Plan { name: "ResNet-8", model: ZooModel::ResNet8, steps: 150 },
    Plan { name: "DS-CNN", model: ZooModel::DsCnn, steps: 100 },
    Plan { name: "LSTM", model: ZooModel::Lstm, steps: 120 },
];

/// Activations and weights, and their granularity.
const SCHEMES: [(&str, &str, fn() -> QConfig); 4] = [
    ("8×8", "channel", QConfig::int8),
    ("8×8", "tensor", QConfig::int8_per_tensor),
    ("8×4", "channel", QConfig::w4a8),
    ("16×8", "channel", QConfig::w8a16),
];

/// Every network under every scheme on the first `count` test images. Without `cifar` there is no network for its images.
pub fn cases(seed: u64, count: usize, cifar: Option<PathBuf>) -> Vec<Case> {
    let mnist = resolve("mnist").unwrap();
    let cifar = cifar.map(|folder| resolve(folder.to_str().expect("a path in UTF-8")).unwrap());
    let mut cases = Vec::new();
    for plan in PLANS {
        let source = match plan.model.input_shape() {
            [1, ..] => Some(&mnist),
            _ => cifar.as_ref(),
        };
        let Some(source) = source else {
            println!("skipped: {}, for which no folder of images was named", plan.name);
            continue;
        };
        cases.extend(of_network(&plan, source, seed, count));
    }
    cases
}

fn of_network(plan: &Plan, source: &DataSource, seed: u64, count: usize) -> Vec<Case> {
    let device = Device::flex();
    let train = Arc::new(source.load(Split::Train).unwrap().truncated(plan.steps * BATCH + CALIBRATION));
    let test = source.load(Split::Test).unwrap().truncated(count);
    let net = trained(plan, &train, seed, &device);
    let of_scheme = |(width, granularity, config): (&'static str, &'static str, fn() -> QConfig)| {
        let model = calibrated(plan, &net, &train, &config(), &device);
        let integers = |target| convert(&model, target).map_err(|error| error.to_string());
        let of_rules = |rules| match rules {
            Rules::OnnxRuntime => integers(Target::Onnx),
            Rules::LiteRt => integers(Target::Tflite),
            Rules::TfliteMicro => integers(Target::Tflm),
            rules => with_rules(&integers(Target::Tflm)?, rules).map_err(|error| error.to_string()),
        };
        // The grid of the input is the same for all targets, and so are the codes of the images.
        let of_all: Vec<_> = Rules::NAMES.iter().map(|(_, rules)| of_rules(*rules)).collect();
        let takers: Vec<&IntegerModel> = of_all.iter().flatten().collect();
        assert!(!takers.is_empty(), "{} {width}: {of_all:?}", plan.name);
        assert!(takers.windows(2).all(|pair| pair[0].input_info() == pair[1].input_info()), "{}: input grids differ", plan.name);
        let x = takers[0].quantize_input(&test.to_f32());
        let (op, labels) = (plan.name, test.labels.clone());
        Case { op, width, granularity, kind: "images", models: Models::by(of_rules), samples: test.len(), x, labels }
    };
    SCHEMES.into_iter().map(of_scheme).collect()
}

/// A float network that has seen some images: its scores spread, which is all that is asked of it here.
fn trained(plan: &Plan, set: &Arc<ImageSet>, seed: u64, device: &Device) -> ZooNet {
    let training = device.clone().autodiff();
    let loader = ImageLoader::new(set.clone(), LoaderConfig::train(BATCH, seed), &training);
    let loss = CrossEntropyLossConfig::new().init(&training);
    let mut optimizer = AdamConfig::new().init();
    let mut net = plan.model.init(device, seed).train();
    for batch in loader.epoch(0, 0).take(plan.steps) {
        let batch = batch.unwrap();
        let loss = loss.forward(net.logits(batch.images), batch.targets);
        let gradients = GradientsParams::from_grads(loss.backward(), &net);
        net = optimizer.step(0.003, net, gradients);
    }
    net.valid()
}

fn calibrated(plan: &Plan, net: &ZooNet, set: &Arc<ImageSet>, config: &QConfig, device: &Device) -> QatModel {
    let [c, h, w] = plan.model.input_shape();
    let model = QatModel::prepare(net, [1, c, h, w], config, |net: &ZooNet, x| net.logits(x)).unwrap().with_mode(Mode::Observe);
    let images = Arc::new(set.first(CALIBRATION));
    for batch in ImageLoader::new(images, LoaderConfig::test(BATCH), device).epoch(0, 0) {
        model.forward::<4, 2>(batch.unwrap().images);
    }
    model.calibrated().unwrap()
}
