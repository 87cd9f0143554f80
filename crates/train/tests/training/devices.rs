//! Training on two devices at once: the same as on one but for the order of sums, and the same ranges on both.
#![cfg(feature = "ndarray")]

use crate::support::{SEED, bits, data};
use burn::{module::Module, tensor::Device, tensor::Tensor, train::Interrupter};
use qat::{DeviceName, Mode, QConfig, QatModel, Scheme};
use qat_train::{
    Classifier, Ending, FitPlan, FitState, Manifest, Phase, ProgressStyle, RunDirectory, Schedule, TrainError,
    data::Normalize,
    fit,
    recipe::{self, Goal, Setting},
    zoo::ZooModel,
};
use std::{
    fmt, fs,
    path::Path,
    sync::{Arc, Mutex},
};

const MODEL: ZooModel = ZooModel::LeNet;

fn manifest(more: &[&str]) -> Manifest {
    let schedule = Schedule { float_epochs: 1, qat_epochs: 1, calibration_samples: 64, warmup_steps: 0, ..Schedule::default() };
    let mut manifest = Manifest::new(MODEL.name(), "noise", Scheme::default(), "flex", SEED, 25, schedule);
    manifest.more_devices = more.iter().map(|name| (*name).to_owned()).collect();
    manifest
}

/// Rows of numbers of a table, the cells that `keep` says.
fn numbers(folder: &Path, name: &str, keep: std::ops::Range<usize>) -> Vec<Vec<f64>> {
    let text = fs::read_to_string(folder.join(name)).unwrap();
    text.lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>()[keep.clone()].iter().map(|x| x.parse().unwrap()).collect())
        .collect()
}

#[test]
fn a_recipe_on_two_devices_is_that_on_one() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let data = data(MODEL, 200);
    let run = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let run = RunDirectory::create(&path, manifest(more)).unwrap();
        let interrupter = Interrupter::new();
        let setting = Setting { run: &run, device: &device, style: ProgressStyle::Quiet, interrupter: &interrupter, judge: None };
        recipe::train(MODEL.init(&device, SEED), &QConfig::int8(), &data, Goal::Quantized, &setting).unwrap().unwrap();
        path
    };
    let (one, two) = (run("one", &[]), run("two", &["ndarray"]));
    // Losses of 8 steps and an evaluation of each phase.
    let (found, expected) = (numbers(&two, "metrics.csv", 4..5), numbers(&one, "metrics.csv", 4..5));
    assert_eq!(expected.len(), 18);
    for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found[0] - expected[0]).abs() <= 2e-3 * expected[0], "row {step}: loss {} for {}", found[0], expected[0]);
    }
    // Ends of ranges, after calibration and after the epoch.
    let (found, expected) = (numbers(&two, "ranges.csv", 5..7), numbers(&one, "ranges.csv", 5..7));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() <= 1e-2 * expected.abs().max(0.1), "range {found} for {expected}");
    }
    assert_ne!(fs::read(two.join("qat.bpk")).unwrap(), fs::read(one.join("qat.bpk")).unwrap(), "another order of sums");
}

/// Says which device each forward of a training ran on, and with what ranges.
#[derive(Module, Debug)]
struct Watched {
    model: QatModel,
    #[module(skip)]
    seen: Seen,
}

/// Kind of device, and bits of each range.
type Sight = (String, Vec<(u32, u32)>);

#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Vec<Sight>>>);

impl Classifier for Watched {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        let device = images.device();
        if device.is_autodiff() {
            let bits = |quantizer: &qat::FakeQuantize| {
                let (min, max) = quantizer.range();
                (min.to_bits(), max.to_bits())
            };
            let ranges = self.model.quantizers().iter().map(|(.., quantizer)| bits(quantizer)).collect();
            self.seen.0.lock().unwrap().push((format!("{:?}", device.inner()), ranges));
        }
        self.model.logits(images)
    }
}

fn watched(data: &qat_train::FitData) -> Watched {
    let device = Device::flex();
    let prepared = recipe::prepare(&MODEL.init(&device, SEED), MODEL.input_shape(), &QConfig::int8()).unwrap();
    let model = recipe::observe(prepared, data.train.clone(), &Normalize::unit(), &device).unwrap();
    assert_eq!(model.input.mode(), Mode::Quantize);
    Watched { model, seen: Seen::default() }
}

fn plan() -> FitPlan {
    let plan = FitPlan::new(Phase::Qat, MODEL.name(), 1, 25, 1e-2, SEED);
    FitPlan { more_devices: vec![DeviceName::NdArray.init().unwrap()], checkpoint_every: 3, ..plan }
}

#[test]
fn every_step_has_the_same_ranges_on_both_devices() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(MODEL, 150);
    let run = RunDirectory::create(folder.path().join("run"), manifest(&["ndarray"])).unwrap();
    let model = watched(&data);
    let seen = model.seen.clone();
    let device = Device::flex();
    fit(model, FitState::start(), &plan(), &data, &device, &run, ProgressStyle::Quiet, &Interrupter::new()).unwrap();
    let seen = seen.0.lock().unwrap();
    // Six steps on two devices.
    assert_eq!(seen.len(), 12);
    for step in seen.chunks(2) {
        assert_ne!(step[0].0, step[1].0, "each device has its part");
        assert_eq!(step[0].1, step[1].1);
    }
    assert_ne!(seen[0].1, seen[11].1, "ranges learn");
}

#[test]
fn a_run_on_two_devices_continues_as_if_it_had_not_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(MODEL, 150);
    let device = Device::flex();
    let train = |name: &str, stops: &[Option<usize>]| {
        let run = RunDirectory::create(folder.path().join(name), manifest(&["ndarray"])).unwrap();
        let (mut model, mut state) = (watched(&data), FitState::start());
        for &stop_at_step in stops {
            let plan = FitPlan { stop_at_step, ..plan() };
            let fitted = fit(model, state, &plan, &data, &device, &run, ProgressStyle::Quiet, &Interrupter::new()).unwrap();
            assert_eq!(fitted.ending, if stop_at_step.is_some() { Ending::Stopped } else { Ending::Completed });
            (model, state) = (fitted.model, fitted.state);
        }
        bits(&model)
    };
    assert_eq!(train("parts", &[Some(2), None]), train("whole", &[None]));
}

#[test]
fn devices_are_named_once_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    for more in [&["flex"][..], &["ndarray", "ndarray"]] {
        let error = RunDirectory::create(folder.path().join("twice"), manifest(more)).unwrap_err();
        assert!(matches!(error, TrainError::Hyperparameter { field: "more_devices", .. }), "{error}");
    }
    drop(RunDirectory::create(folder.path().join("run"), manifest(&["ndarray"])).unwrap());
    let error = RunDirectory::resume(folder.path().join("run"), &manifest(&[])).unwrap_err();
    assert!(matches!(&error, TrainError::Changed { field, .. } if field == "more_devices"), "{error}");
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} forwards", self.0.lock().map_or(0, |seen| seen.len()))
    }
}
