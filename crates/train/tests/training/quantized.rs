//! The quantized half of a run: parts, stages, judges, and going on wherever it was stopped.

use crate::support::{SEED, bits, metrics};
use crate::tiny::{SHAPE, Tiny, data, manifest, uniform};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use burn::train::Interrupter;
use qat::{Granularity, Mode, ObserverKind, Preset, QConfig, QatLayer, QatModel, Scheme};
use qat_train::best::Best;
use qat_train::data::{DataConfig, Normalize};
use qat_train::recipe::{self, Calibration, Judge, Setting, Trained, finetune, quantize};
use qat_train::report::layer_rows;
use qat_train::schedule::{CalibrationOrder, Distillation, OptimizerKind, Stage};
use qat_train::{Classifier, FitData, ProgressStyle, RunDirectory, Schedule, TrainError};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Fine-tunes the tiny network in `folder` from where it stands; `None` when interrupted.
fn tuned(
    folder: &Path,
    scheme: impl Into<Scheme>,
    schedule: &Schedule,
    data: &FitData,
    interrupter: &Interrupter,
    workers: usize,
    judge: Option<&Judge<'_>>,
) -> Result<Option<Trained<QatModel>>, TrainError> {
    let scheme = scheme.into();
    let config = scheme.config();
    let mut manifest = manifest(scheme, schedule.clone());
    manifest.data.workers = workers;
    let run = match folder.join("run.toml").exists() {
        true => RunDirectory::resume(folder, &manifest)?,
        false => RunDirectory::create(folder, manifest)?,
    };
    let device = Device::flex();
    let setting = Setting { run: &run, device: &device, style: ProgressStyle::Quiet, interrupter, judge };
    finetune(Tiny::prepared(3, &config), None, data, &setting)
}

fn whole(folder: &Path, scheme: impl Into<Scheme>, schedule: &Schedule, data: &FitData) -> Trained<QatModel> {
    tuned(folder, scheme, schedule, data, &Interrupter::new(), 1, None).unwrap().expect("nobody interrupts it")
}

/// Everything at once: float epochs, stages, delayed starts, freezes, averages, teachers, clipped sums of smoothed gradients.
fn everything() -> Schedule {
    Schedule {
        float_epochs: 1,
        float_learning_rate: 1e-2,
        calibration_samples: 16,
        calibration_order: CalibrationOrder::Random,
        qat_epochs: 3,
        qat_learning_rate: 5e-3,
        warmup_steps: 2,
        optimizer: OptimizerKind::AdamW,
        weight_decay: 1e-3,
        range_learning_rate_factor: 0.5,
        gradient_clip: Some(1.0),
        accumulate: 2,
        label_smoothing: 0.1,
        weights_after: 0.1,
        activations_after: 0.2,
        freeze_ranges_after: 0.9,
        freeze_batch_norm_after: 0.7,
        reestimate_batch_norm: 3,
        average_decay: 0.9,
        select_best: true,
        checkpoint_every: 3,
        distillation: Distillation { weight: 0.5, temperature: 2.0, features: vec!["conv2".into()], feature_weight: 0.25 },
        stages: vec![Stage { weights: 8, activations: 8, epochs: 1 }, Stage { weights: 6, activations: 6, epochs: 1 }],
        ..Schedule::default()
    }
}

#[test]
fn a_run_that_is_stopped_again_and_again_ends_as_if_it_never_was() {
    let folder = tempfile::tempdir().unwrap();
    let (calm, again, stopped) = (folder.path().join("calm"), folder.path().join("again"), folder.path().join("stopped"));
    let (data, schedule) = (data(80), everything());
    let undisturbed = whole(&calm, Preset::W4a4, &schedule, &data);
    let expected = metrics(&calm);
    // 5 steps an epoch; 1 float epoch and 5 quantized ones, each evaluated, these with their average.
    assert_eq!(expected.lines().count(), 1 + 6 + 30 + 5);
    let quantized = undisturbed.quantized.as_ref().unwrap();

    let repeated = whole(&again, Preset::W4a4, &schedule, &data);
    assert_eq!(metrics(&again), expected, "one seed, one run");
    assert_eq!(bits(&repeated.quantized.unwrap().model), bits(&quantized.model));

    let resumed = stopped_again_and_again(&stopped, &Preset::W4a4.into(), &schedule, &data);
    assert_eq!(metrics(&stopped), expected);
    assert_eq!(bits(&resumed.model), bits(&undisturbed.model));
    let resumed = resumed.quantized.unwrap();
    assert_eq!(bits(&resumed.model), bits(&quantized.model));
    assert_eq!((resumed.ptq, resumed.qat), (quantized.ptq, quantized.qat));
    let read = |run: &Path, name: &str| fs::read_to_string(run.join(name)).unwrap();
    assert_eq!(read(&stopped, "ranges.csv"), read(&calm, "ranges.csv"));
    let best = |run: &Path| {
        let best = Best::last(&run.join("best")).unwrap().unwrap();
        (best.info().epoch, best.info().score, best.info().averaged, bits(&best.load_model(quantized.model.valid()).unwrap()))
    };
    assert_eq!(best(&stopped), best(&calm));
}

/// A run that is interrupted after times from a seed and goes on each time.
fn stopped_again_and_again(folder: &Path, scheme: &Scheme, schedule: &Schedule, data: &FitData) -> Trained<QatModel> {
    println!("interruptions from seed {SEED}");
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut interruptions = 0;
    let resumed = loop {
        let interrupter = Interrupter::new();
        let stop = interrupter.clone();
        let pause = Duration::from_micros(u64::from(rng.next_u32() % 20_000));
        let timer = std::thread::spawn(move || {
            std::thread::sleep(pause);
            stop.stop(None);
        });
        // After many interruptions the rest may go through in one piece.
        let interrupter = if interruptions < 40 { interrupter } else { Interrupter::new() };
        let workers = (rng.next_u32() % 4) as usize;
        let result = tuned(folder, scheme.clone(), schedule, data, &interrupter, workers, None).unwrap();
        timer.join().unwrap();
        match result {
            None => interruptions += 1,
            Some(trained) => break trained,
        }
    };
    println!("{interruptions} interruptions");
    assert!(interruptions > 0, "the run was never stopped");
    resumed
}

/// Steps of groups are parameters of checkpoints and rows of the files that a run leaves, as those of channels are.
#[test]
fn a_run_with_groups_goes_on_where_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (calm, stopped) = (folder.path().join("calm"), folder.path().join("stopped"));
    let (data, schedule) = (data(80), everything());
    let config = QConfig { weight_granularity: Granularity::per_group(8).unwrap(), ..QConfig::w4a4() };
    let scheme = Scheme::of(config);
    let undisturbed = whole(&calm, scheme.clone(), &schedule, &data);
    let resumed = stopped_again_and_again(&stopped, &scheme, &schedule, &data);
    assert_eq!(metrics(&stopped), metrics(&calm));
    let quantized = undisturbed.quantized.unwrap().model;
    assert_eq!(bits(&resumed.quantized.unwrap().model), bits(&quantized));
    let read = |run: &Path, name: &str| fs::read_to_string(run.join(name)).unwrap();
    assert_eq!(read(&stopped, "ranges.csv"), read(&calm, "ranges.csv"));
    assert!(read(&calm, "run.toml").contains("weight-granularity = \"per-group:8\""));
    assert_eq!(RunDirectory::open(&calm).unwrap().manifest().scheme, scheme);
    // Channels of 9, 36 and 64 weights.
    let reaches = quantized.layers.iter().filter_map(|layer| layer.quantizer()?.reach.as_ref());
    assert_eq!(reaches.map(|reach| reach.dims()).collect::<Vec<_>>(), [[4 * 2], [4 * 5], [10 * 8]]);
    let steps = layer_rows(&quantized, true).into_iter().filter_map(|row| row.cost?.weight_steps);
    assert_eq!(steps.collect::<Vec<_>>(), [8, 20, 80]);
}

#[test]
fn stages_come_down_to_the_formats_of_the_scheme() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(32);
    let stages = vec![Stage { weights: 8, activations: 8, epochs: 1 }];
    let schedule = Schedule { float_epochs: 0, qat_epochs: 1, calibration_samples: 16, stages, ..Schedule::default() };
    let trained = whole(&folder.path().join("run"), Preset::W2a2, &schedule, &data).quantized.unwrap();
    let expected = Tiny::prepared(3, &QConfig::w2a2());
    let formats = |model: &QatModel| -> Vec<_> { model.quantizers().iter().map(|(.., quantizer)| quantizer.format()).collect() };
    assert_eq!(formats(&trained.model), formats(&expected));
    assert!(formats(&expected).iter().any(|format| format.bits() == 2), "{:?}", formats(&expected));
    let weights = |model: &QatModel| -> Vec<_> { model.layers.iter().map(QatLayer::weight_format).collect() };
    assert_eq!(weights(&trained.model), weights(&expected));
    assert_eq!(trained.model.input.mode(), Mode::Quantize);
}

#[test]
fn the_judge_chooses_the_epoch_and_patience_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(32);
    let schedule = Schedule {
        float_epochs: 0,
        qat_epochs: 6,
        qat_learning_rate: 1e-2,
        calibration_samples: 16,
        average_decay: 0.5,
        select_best: true,
        patience: Some(2),
        ..Schedule::default()
    };
    // First the model as it is calibrated; the average of the second epoch is the best; from then on it is in vain.
    let scores = [6.0, 10.0, 20.0, 5.0, 50.0, 50.0, 50.0, 4.0, 3.0];
    let (asked, seen) = (Cell::new(0), std::cell::RefCell::new(Vec::new()));
    let judge = |model: &QatModel| {
        let number = asked.replace(asked.get() + 1);
        seen.borrow_mut().push(bits(model));
        Ok(scores[number])
    };
    let run = folder.path().join("run");
    let trained = tuned(&run, Preset::Int8, &schedule, &data, &Interrupter::new(), 1, Some(&judge)).unwrap().unwrap();
    assert_eq!(asked.get(), 9, "the calibrated model, and four epochs with and without average");
    assert_eq!(metrics(&run).lines().last().unwrap().split(',').nth(1), Some("4"));
    let model = trained.quantized.unwrap().model;
    assert_eq!(bits(&model), seen.borrow()[4]);
    let best = Best::last(&run.join("best")).unwrap().unwrap();
    assert_eq!((best.info().epoch, best.info().score, best.info().averaged), (2, 50.0, true));

    let failing = |_: &QatModel| Err("no integers today".into());
    let error = tuned(&folder.path().join("other"), Preset::Int8, &schedule, &data, &Interrupter::new(), 1, Some(&failing));
    let text = "integer accuracy: expected a number, found no integers today";
    assert_eq!(error.unwrap_err().to_string(), text);
}

#[test]
fn without_selection_the_last_epoch_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(32);
    let average_decay = 0.9;
    let last = Schedule { float_epochs: 0, qat_epochs: 3, calibration_samples: 16, average_decay, ..Schedule::default() };
    let asked = Cell::new(0);
    let judge = |_: &QatModel| {
        asked.set(asked.get() + 1);
        Ok(1.0)
    };
    let run = folder.path().join("run");
    tuned(&run, Preset::Int8, &last, &data, &Interrupter::new(), 1, Some(&judge)).unwrap().unwrap();
    assert_eq!(asked.get(), 2, "the last model and its average");
    let best = Best::last(&run.join("best")).unwrap().unwrap();
    assert_eq!((best.info().epoch, best.info().averaged), (3, false), "a tie is not for the average");

    // Without an average there is nothing to choose, and nothing is kept.
    let run = folder.path().join("alone");
    let alone = Schedule { average_decay: 0.0, ..last };
    tuned(&run, Preset::Int8, &alone, &data, &Interrupter::new(), 1, Some(&judge)).unwrap().unwrap();
    assert_eq!(asked.get(), 2);
    assert!(!run.join("best").exists());
}

#[test]
fn running_statistics_are_the_means_of_the_batches() {
    let data = data(32);
    let model = Tiny::prepared(3, &QConfig::int8());
    // Four batches of eight are every image once.
    let loader = DataConfig::default().train(&data.train, 8, SEED);
    let estimated = recipe::reestimate(&model, &data.train, 4, loader, &Device::flex()).unwrap();
    let QatLayer::Conv2d(first) = &estimated.layers[0] else { panic!("the first layer is a convolution") };
    let device = Device::flex();
    let images = Tensor::<1>::from_floats(data.train.to_f32().as_slice(), &device).reshape([32, 1, 8, 8]);
    let options = burn::tensor::ops::ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let bias = first.bias.as_ref().map(|bias| bias.val());
    let y = burn::tensor::module::conv2d(images, first.weight.val(), bias, options);
    let expected: Vec<f32> = y.swap_dims(0, 1).reshape([4, 32 * 64]).mean_dim(1).into_data().try_to_vec().unwrap();
    let norm = first.norm.as_ref().expect("it has a batch norm");
    let found: Vec<f32> = norm.running_mean.value_sync().into_data().try_to_vec().unwrap();
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
    }
    assert_eq!(norm.momentum, 0.1, "training goes on as before");
    let QatLayer::Conv2d(untouched) = &model.layers[0] else { panic!("the first layer is a convolution") };
    let mean: Vec<f32> = untouched.norm.as_ref().unwrap().running_mean.value_sync().into_data().try_to_vec().unwrap();
    assert_eq!(mean, [0.0; 4]);
}

#[test]
fn calibration_takes_the_images_and_the_observer_it_is_told() {
    let data = data(64);
    let of = |order, seed| Calibration { samples: 16, order, seed, observer: None, normalize: Normalize::unit() };
    let first = of(CalibrationOrder::First, 1).chosen(&data.train);
    assert_eq!(first, data.train.first(16));
    let random = |seed| of(CalibrationOrder::Random, seed).chosen(&data.train);
    assert_eq!(random(1), random(1));
    assert!(random(1) != random(2) && random(1) != first && random(1).len() == 16);
    let image = |set: &qat_train::data::ImageSet, index| set.image(index).to_vec();
    let mut distinct: Vec<_> = (0..16).map(|index| image(&random(1), index)).collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 16, "no image twice");
    let all = Calibration { samples: 999, ..of(CalibrationOrder::Random, 1) }.chosen(&data.train);
    assert_eq!(all.len(), 64);

    let ranges = |observer| {
        let calibration = Calibration { samples: 64, observer, ..of(CalibrationOrder::First, 1) };
        let model = quantize(Tiny::prepared(3, &QConfig::int8()), &data.train, &calibration, &Device::flex()).unwrap();
        let ranges: Vec<_> = model.quantizers().iter().map(|(.., quantizer)| quantizer.range()).collect();
        ranges
    };
    let (extremes, percentile) = (ranges(None), ranges(Some(ObserverKind::Percentile { percentile: 99.0 })));
    assert!(extremes.iter().zip(&percentile).skip(1).all(|(all, most)| most.1 < all.1), "{extremes:?} {percentile:?}");
}

/// A classifier that ends in a softmax, as imported ones do.
#[derive(Module, Debug)]
struct Soft {
    linear: Linear,
}

impl Classifier for Soft {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        softmax(self.linear.forward(images.flatten(1, 3)), 1)
    }
}

#[test]
fn scores_are_those_before_a_softmax() {
    let device = Device::flex();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut soft = Soft { linear: LinearConfig::new(64, 10).init(&device) };
    soft.linear.weight = uniform(&mut rng, [64, 10], 0.5);
    soft.linear.bias = Some(uniform(&mut rng, [10], 0.5));
    let model = recipe::prepare(&soft, SHAPE, &QConfig::int8()).unwrap();
    let images = uniform(&mut rng, [3, 1, 8, 8], 1.0).val();
    let expected: Tensor<2> = soft.linear.forward(images.clone().flatten(1, 3));
    model
        .logits(images.clone())
        .into_data()
        .assert_approx_eq::<f32>(&expected.into_data(), burn::tensor::Tolerance::absolute(1e-5));
    let sums = model.forward::<4, 2>(images).sum_dim(1);
    sums.into_data().assert_approx_eq::<f32>(&[[1.0f32]; 3].into(), burn::tensor::Tolerance::absolute(1e-5));
}
