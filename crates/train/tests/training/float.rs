//! The float phase: the layers captured from a module train in its place, and make the module that it would have made of itself.

use crate::support::{SEED, bits, data, metrics, values};
use crate::tiny::{self, SHAPE, Tiny, uniform};
use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use burn::train::Interrupter;
use qat::{Preset, QConfig, QatLayer, QatModel};
use qat_train::checkpoint::{Checkpoint, Form};
use qat_train::recipe::{self, Goal, Setting, Trained};
use qat_train::schedule::{OptimizerKind, RateShape};
use qat_train::zoo::{ZooModel, ZooNet};
use qat_train::{
    Classifier, FitData, FitPlan, FitState, Manifest, Phase, ProgressStyle, RunDirectory, Schedule, TrainError, evaluate, fit,
    load_model,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::path::Path;
use std::time::Duration;

/// Losses in the order of steps.
fn losses(folder: &Path) -> Vec<f64> {
    metrics(folder).lines().skip(1).map(|row| row.split(',').nth(4).unwrap().parse().unwrap()).collect()
}

/// Twenty steps of `model` with everything that a float phase may have: sums of clipped gradients, momentum, decay, smoothed targets.
fn twenty_steps<M: Classifier>(model: M, folder: &Path, zoo: ZooModel, data: &FitData) -> M {
    let mut plan = FitPlan {
        optimizer: OptimizerKind::Sgd,
        shape: RateShape::Constant,
        weight_decay: 1e-3,
        gradient_clip: Some(2.0),
        accumulate: 2,
        ..FitPlan::new(Phase::Float, zoo.name(), 5, 8, 5e-3, SEED)
    };
    plan.objective.label_smoothing = 0.1;
    assert_eq!(plan.total_steps(data.train.len()), 20);
    let schedule = Schedule { float_epochs: 5, ..Schedule::default() };
    let manifest = Manifest::new(zoo.name(), "noise", qat::Scheme::INT8, "flex", SEED, 8, schedule);
    let run = RunDirectory::create(folder, manifest).unwrap();
    fit(model, FitState::start(), &plan, data, &Device::flex(), &run, ProgressStyle::Quiet, &Interrupter::new()).unwrap().model
}

#[test]
fn twenty_steps_of_layers_are_those_of_their_module() {
    let folder = tempfile::tempdir().unwrap();
    for zoo in [ZooModel::ResNet8, ZooModel::LeNet, ZooModel::Tfc, ZooModel::Lstm] {
        let data = data(zoo, 64);
        let path = |name: &str| folder.path().join(format!("{zoo}-{name}"));
        let start = zoo.init(&Device::flex(), SEED);
        let layers = recipe::prepare(&start, zoo.input_shape(), &QConfig::w4a4()).unwrap();
        let module = twenty_steps(start.valid(), &path("module"), zoo, &data);
        let layers = twenty_steps(layers, &path("layers"), zoo, &data);
        let written: ZooNet = layers.valid().write_back(start.valid()).unwrap();

        // Both are float32 with sums in another order, and now and then one number falls on the other side of a relu: losses agree to a
        // thousandth, weights and statistics to a twentieth of the way that they have gone. Backends of Burn's are as far apart.
        let (found, expected) = (losses(&path("layers")), losses(&path("module")));
        assert_eq!(expected.len(), 25, "20 steps and 5 evaluations");
        for (step, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() <= 1e-3 * expected, "{zoo} row {step}: loss {found} for {expected}");
        }
        let norm = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        let way: Vec<f64> = values(&start).iter().zip(&values(&module)).map(|((_, start), (_, end))| norm(start, end)).collect();
        let longest = way.iter().copied().fold(0.0, f64::max);
        for (((path, expected), (_, found)), way) in values(&module).iter().zip(&values(&written)).zip(&way) {
            let apart = norm(expected, found);
            // A bias before a batch norm goes nowhere but for rounding.
            assert!(apart <= 5e-2 * way + 1e-5 * longest, "{zoo} {path}: {apart} apart after a way of {way}");
        }
    }
}

/// The recipe of `net` in `folder` from where it stands; `None` when interrupted.
fn trained<M: Classifier>(
    net: M,
    folder: &Path,
    schedule: &Schedule,
    goal: Goal,
    data: &FitData,
    interrupter: &Interrupter,
) -> Result<Option<Trained<M>>, TrainError> {
    let manifest = tiny::manifest(Preset::Int8, schedule.clone());
    let run = match folder.join("run.toml").exists() {
        true => RunDirectory::resume(folder, &manifest)?,
        false => RunDirectory::create(folder, manifest)?,
    };
    let device = Device::flex();
    let setting = Setting { run: &run, device: &device, style: ProgressStyle::Quiet, interrupter, judge: None };
    recipe::train(net, &QConfig::int8(), data, goal, &setting)
}

fn schedule() -> Schedule {
    let rates = Schedule { float_learning_rate: 1e-2, qat_learning_rate: 1e-3, weight_decay: 1e-3, ..Schedule::default() };
    Schedule { float_epochs: 2, qat_epochs: 1, calibration_samples: 16, warmup_steps: 2, checkpoint_every: 3, ..rates }
}

fn form(folder: &Path) -> Form {
    Checkpoint::last(&folder.join("checkpoints")).unwrap().unwrap().info().form
}

#[test]
fn the_module_comes_back_with_what_its_layers_have_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let (data, schedule) = (tiny::data(80), schedule());
    let run = folder.path().join("run");
    let of = |goal| trained(Tiny::init(3), &run, &schedule, goal, &data, &Interrupter::new()).unwrap().unwrap();
    let Trained { model, float, quantized } = of(Goal::Float);
    assert!(quantized.is_none());
    assert_eq!(form(&run), Form::Layers);
    assert_ne!(bits(&model), bits(&Tiny::init(3)));
    assert!(!run.join("layers.csv").exists(), "without quantizers there is nothing to say of grids");
    assert_eq!(bits(&load_model(&run.join("float.bpk"), Tiny::init(4)).unwrap()), bits(&model));
    // The module computes what the layers were last evaluated with.
    assert_eq!(evaluate(&model, &data.valid, &Device::flex()).unwrap(), float);
    let last: f64 = losses(&run).pop().unwrap();
    assert!((f64::from(float.loss) - last).abs() <= 1e-4 * last, "{} for {last}", float.loss);

    // From there on to quantized training, as in one run.
    let on = of(Goal::Quantized);
    let whole = folder.path().join("whole");
    let whole_model = trained(Tiny::init(3), &whole, &schedule, Goal::Quantized, &data, &Interrupter::new()).unwrap().unwrap();
    assert_eq!(bits(&on.model), bits(&model));
    assert_eq!(bits(&on.quantized.unwrap().model), bits(&whole_model.quantized.unwrap().model));
    assert_eq!(metrics(&run), metrics(&whole));
}

#[test]
fn a_run_by_layers_that_is_stopped_again_and_again_ends_as_if_it_never_was() {
    let folder = tempfile::tempdir().unwrap();
    let (data, schedule) = (tiny::data(80), Schedule { accumulate: 2, gradient_clip: Some(1.0), ..schedule() });
    let (calm, stopped) = (folder.path().join("calm"), folder.path().join("stopped"));
    let of = |run: &Path, interrupter: &Interrupter| {
        trained(Tiny::init(3), run, &schedule, Goal::Quantized, &data, interrupter).unwrap()
    };
    let undisturbed = of(&calm, &Interrupter::new()).unwrap();
    println!("interruptions from seed {SEED}");
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let (mut interruptions, mut in_float) = (0, 0);
    let resumed = loop {
        let interrupter = Interrupter::new();
        let stop = interrupter.clone();
        let pause = Duration::from_micros(u64::from(rng.next_u32() % 12_000));
        let timer = std::thread::spawn(move || {
            std::thread::sleep(pause);
            stop.stop(None);
        });
        // After many interruptions the rest may go through in one piece.
        let interrupter = if interruptions < 40 { interrupter } else { Interrupter::new() };
        let result = of(&stopped, &interrupter);
        timer.join().unwrap();
        if let Some(trained) = result {
            break trained;
        }
        interruptions += 1;
        let last = Checkpoint::last(&stopped.join("checkpoints")).unwrap();
        in_float += usize::from(last.is_some_and(|last| last.info().phase == Phase::Float));
    };
    println!("{interruptions} interruptions, {in_float} of them in float");
    assert!(in_float > 0, "the float phase was never stopped");
    assert_eq!(metrics(&stopped), metrics(&calm));
    assert_eq!(bits(&resumed.model), bits(&undisturbed.model));
    assert_eq!(bits(&resumed.quantized.unwrap().model), bits(&undisturbed.quantized.unwrap().model));
}

/// A network whose batch norm has a momentum that a recording does not see.
#[derive(Module, Debug)]
struct Slow {
    norm: BatchNorm,
    linear: Linear,
}

impl Slow {
    fn init() -> Self {
        let device = Device::flex();
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let mut net = Self {
            norm: BatchNormConfig::new(1).with_momentum(0.02).init(&device),
            linear: LinearConfig::new(64, 10).init(&device),
        };
        net.linear.weight = uniform(&mut rng, [64, 10], 0.2);
        net.linear.bias = Some(uniform(&mut rng, [10], 0.2));
        net
    }
}

impl Classifier for Slow {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.linear.forward(self.norm.forward(images).flatten(1, 3))
    }
}

#[test]
fn a_module_that_does_more_in_training_trains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (data, schedule) = (tiny::data(80), Schedule { weight_decay: 0.0, warmup_steps: 0, ..schedule() });
    let run = folder.path().join("run");
    let of = |run: &Path| trained(Slow::init(), run, &schedule, Goal::Float, &data, &Interrupter::new()).unwrap().unwrap();
    let model = of(&run).model;
    assert_eq!(form(&run), Form::Module);
    // As the loop over steps trains it alone.
    let alone = RunDirectory::create(folder.path().join("alone"), tiny::manifest(Preset::Int8, schedule.clone())).unwrap();
    let plan = FitPlan { checkpoint_every: 3, ..tiny::plan(2) };
    let (device, interrupter) = (Device::flex(), Interrupter::new());
    let fitted = fit(Slow::init(), FitState::start(), &plan, &data, &device, &alone, ProgressStyle::Quiet, &interrupter).unwrap();
    assert_eq!(bits(&model), bits(&fitted.model));
    assert_eq!(metrics(&run), metrics(alone.path()));
    // Continued, it is still the module that is loaded.
    assert_eq!(bits(&of(&run).model), bits(&model));
}

#[test]
fn a_parameter_that_is_not_finite_has_the_name_of_its_layer() {
    let folder = tempfile::tempdir().unwrap();
    let mut model: QatModel = recipe::prepare(&Tiny::init(3), SHAPE, &QConfig::int8()).unwrap();
    // It reaches no loss before the last step, after which there is nothing but the checkpoint.
    let QatLayer::Conv2d(conv) = &mut model.layers[1] else { panic!("the second layer is a convolution") };
    let norm = conv.norm.as_mut().expect("it has a batch norm");
    norm.running_mean = burn::module::RunningState::new(Tensor::full([4], f32::INFINITY, &Device::flex()));
    let run = RunDirectory::create(folder.path().join("run"), tiny::manifest(Preset::Int8, Schedule::default())).unwrap();
    let (plan, data) = (FitPlan { checkpoint_every: 1, ..tiny::plan(1) }, tiny::data(80));
    let error = fit(model, FitState::start(), &plan, &data, &Device::flex(), &run, ProgressStyle::Quiet, &Interrupter::new())
        .unwrap_err();
    let TrainError::NonFinite { phase: Phase::Float, culprit: Some(culprit), .. } = &error else { panic!("{error}") };
    assert_eq!(culprit.to_string(), "norm.running_mean of conv2 (conv2d)");
}
