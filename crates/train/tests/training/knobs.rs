//! Each setting of a phase does what its formula says, seen from the parameters before and after.

use crate::support::{bits, values};
use crate::tiny::{SHAPE, Tiny, data, manifest, plan};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn::train::Interrupter;
use qat::{Mode, Preset, QConfig, QatModel};
use qat_train::schedule::{OptimizerKind, RateShape};
use qat_train::{
    Classifier, FitData, FitPlan, FitState, Fitted, Objective, ProgressStyle, RunDirectory, Schedule, Teacher, TrainError, fit,
};

/// A parameter's numbers under its path.
type Named = (String, Vec<f32>);

fn trained<M: Classifier>(model: M, plan: &FitPlan, data: &FitData) -> Result<Fitted<M>, TrainError> {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDirectory::create(folder.path().join("run"), manifest(Preset::Int8, Schedule::default())).unwrap();
    fit(model, FitState::start(), plan, data, &Device::flex(), &run, ProgressStyle::Quiet, &Interrupter::new())
}

/// Plain gradient descent.
fn descent(epochs: usize) -> FitPlan {
    let shape = RateShape::Constant;
    FitPlan { optimizer: OptimizerKind::Sgd, momentum: 0.0, shape, learning_rate: 0.25, ..plan(epochs) }
}

/// The same linear classifier, which has no batch norm to see the size of a batch.
fn linear() -> QatModel {
    qat_train::recipe::prepare(&Flat { linear: Tiny::init(3).linear }, SHAPE, &QConfig::int8()).unwrap()
}

#[derive(Module, Debug)]
struct Flat {
    linear: burn::nn::Linear,
}

impl Classifier for Flat {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.linear.forward(images.flatten(1, 3))
    }
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    let data = data(64);
    let of = |batch_size, accumulate| {
        let plan = FitPlan { batch_size, accumulate, ..descent(2) };
        assert_eq!((plan.steps_per_epoch(64), plan.total_steps(64)), (2, 4));
        let fitted = trained(linear(), &plan, &data).unwrap();
        (values(&fitted.model), fitted.evaluation.unwrap())
    };
    let ((large, of_large), (small, of_small)) = (of(32, 1), of(8, 4));
    for ((path, large), (_, small)) in large.iter().zip(&small) {
        for (large, small) in large.iter().zip(small) {
            assert!(large == small || (large - small).abs() < 1e-5, "{path}: {large} and {small}");
        }
    }
    assert_eq!(of_large.correct, of_small.correct);
    let error = trained(linear(), &FitPlan { accumulate: 9, ..descent(1) }, &data).unwrap_err();
    let text = "batch_size: expected at most the number of training images, found 9 times 8 for 64 images";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_clipped_step_is_as_long_as_its_bound_and_a_high_bound_changes_nothing() {
    let data = data(8);
    let before = values(&linear());
    let distance = |after: &[(String, Vec<f32>)]| {
        let squares = |(a, b): (&Named, &Named)| {
            a.1.iter().zip(&b.1).filter(|(a, b)| a != b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
        };
        before.iter().zip(after).map(squares).sum::<f64>().sqrt()
    };
    let free = trained(linear(), &descent(1), &data).unwrap();
    let high = trained(linear(), &FitPlan { gradient_clip: Some(1e9), ..descent(1) }, &data).unwrap();
    assert_eq!(bits(&high.model), bits(&free.model));
    let low = trained(linear(), &FitPlan { gradient_clip: Some(1e-2), ..descent(1) }, &data).unwrap();
    let (free, low) = (distance(&values(&free.model)), distance(&values(&low.model)));
    // One step of rate 0.25 along a gradient of norm 0.01.
    assert!(free > 0.02, "{free}");
    assert!((low - 0.25e-2).abs() < 1e-5, "{low}");
}

#[test]
fn decay_is_for_weights_alone() {
    let data = data(8);
    let before = values(&linear());
    for optimizer in [OptimizerKind::Sgd, OptimizerKind::AdamW] {
        let of = |weight_decay| {
            let plan = FitPlan { optimizer, weight_decay, ..descent(1) };
            values(&trained(linear(), &plan, &data).unwrap().model)
        };
        for ((path, start), ((_, without), (_, with))) in before.iter().zip(of(0.0).iter().zip(&of(0.1))) {
            let decays = path.ends_with("weight");
            for (start, (without, with)) in start.iter().zip(without.iter().zip(with)) {
                // One step of rate 0.25 takes 0.25 · 0.1 of the weight away.
                let expected = if decays { without - 0.025 * start } else { *without };
                assert!(expected == *with || (expected - with).abs() < 1e-6, "{optimizer:?} {path}: {with}, expected {expected}");
            }
        }
    }
}

/// A model that has seen its ranges.
fn calibrated(data: &FitData) -> QatModel {
    let calibration = qat_train::recipe::Calibration::of(&Schedule::default(), 1, qat_train::data::Normalize::unit());
    qat_train::recipe::quantize(Tiny::prepared(3, &QConfig::int8()), &data.train, &calibration, &Device::flex()).unwrap()
}

#[test]
fn ranges_have_a_rate_of_their_own_and_freeze() {
    let data = data(64);
    let start = values(&calibrated(&data));
    let moved = |plan: FitPlan| {
        let after = values(&trained(calibrated(&data), &plan, &data).unwrap().model);
        let is_range = |path: &str| path.ends_with("output.max");
        let moved = |wanted: bool| {
            let of = |(a, b): (&Named, &Named)| is_range(&a.0) == wanted && a.1 != b.1;
            start.iter().zip(&after).any(of)
        };
        (moved(false), moved(true), after)
    };
    let (weights, ranges, after) = moved(plan(1));
    assert!(weights && ranges);
    let (weights, ranges, _) = moved(FitPlan { range_factor: 0.0, ..plan(1) });
    assert!(weights && !ranges);
    let (weights, ranges, _) = moved(FitPlan { ranges_frozen_from: Some(0), ..plan(1) });
    assert!(weights && !ranges);
    let (_, ranges, early) = moved(FitPlan { ranges_frozen_from: Some(1), ..plan(1) });
    assert!(ranges && early != after);
    // The first step of Adam goes as far as the rate, whatever the gradient.
    let one = FitPlan { stop_at_step: Some(1), range_factor: 2.5, shape: RateShape::Constant, ..plan(1) };
    let (.., after) = moved(one);
    for ((path, start), (_, after)) in start.iter().zip(&after).filter(|(a, _)| a.0.ends_with("output.max")) {
        let distance = (start[0] - after[0]).abs();
        assert!(distance == 0.0 || (distance - 2.5e-2).abs() < 1e-3, "{path}: {distance}");
    }
}

#[test]
fn numbers_do_not_depend_on_how_many_steps_are_read_together() {
    let data = data(64);
    let of = |read_every| {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path().join("run"), manifest(Preset::Int8, Schedule::default())).unwrap();
        let plan = FitPlan { read_every, checkpoint_every: 5, average_decay: Some(0.9), ..plan(2) };
        let (device, interrupter) = (Device::flex(), Interrupter::new());
        let fitted =
            fit(calibrated(&data), FitState::start(), &plan, &data, &device, &run, ProgressStyle::Quiet, &interrupter).unwrap();
        (crate::support::metrics(run.path()), bits(&fitted.model), bits(&fitted.average.unwrap()), fitted.average_evaluation)
    };
    let one = of(1);
    assert!(one.0.contains(",average,") && one.1 != one.2);
    assert_eq!(of(3), one);
    assert_eq!(of(100), one);
}

#[test]
fn an_explosion_stops_the_run_and_names_the_largest_activation() {
    let data = data(320);
    let folder = tempfile::tempdir().unwrap();
    let (device, interrupter) = (Device::flex(), Interrupter::new());
    let run = RunDirectory::create(folder.path().join("run"), manifest(Preset::Int8, Schedule::default())).unwrap();
    let begun = FitPlan { stop_at_step: Some(25), ..plan(2) };
    let fitted = fit(linear(), FitState::start(), &begun, &data, &device, &run, ProgressStyle::Quiet, &interrupter).unwrap();
    let mut model = fitted.model;
    for layer in &mut model.layers {
        if let qat::QatLayer::Linear(linear) = layer {
            linear.weight = linear.weight.clone().map(|weight| weight * 1e4);
        }
    }
    let plan = plan(2);
    let error = fit(model, fitted.state, &plan, &data, &device, &run, ProgressStyle::Quiet, &interrupter).unwrap_err();
    let TrainError::Exploding { epoch: 1, step: 26, loss, limit, largest: Some(largest), .. } = &error else { panic!("{error}") };
    let (culprit, value) = &**largest;
    assert!(f64::from(*loss) > *limit && *limit >= 20.0 && *value > 100.0);
    assert_eq!(culprit.operation, "linear");
    assert!(error.hint().is_some() && error.to_string().contains("expected a loss of at most"), "{error}");
}

#[test]
fn nan_with_fake_quantization_names_the_layer() {
    let data = data(64);
    let folder = tempfile::tempdir().unwrap();
    let (device, interrupter) = (Device::flex(), Interrupter::new());
    let run = RunDirectory::create(folder.path().join("run"), manifest(Preset::Int8, Schedule::default())).unwrap();
    let begun = FitPlan { stop_at_step: Some(3), ..plan(2) };
    let start = calibrated(&data);
    for read_every in [1, 4] {
        let fitted =
            fit(start.valid(), FitState::start(), &begun, &data, &device, &run, ProgressStyle::Quiet, &interrupter).unwrap();
        let mut model = fitted.model;
        let mut seen = 0;
        for layer in &mut model.layers {
            if let qat::QatLayer::Conv2d(conv) = layer {
                seen += 1;
                if seen == 2 {
                    conv.weight = conv.weight.clone().map(|weight| weight * f32::NAN);
                }
            }
        }
        let plan = FitPlan { read_every, ..plan(2) };
        let error = fit(model, fitted.state, &plan, &data, &device, &run, ProgressStyle::Quiet, &interrupter).unwrap_err();
        let TrainError::NonFinite { step: 4, culprit: Some(culprit), .. } = &error else { panic!("{error}") };
        assert_eq!(culprit.to_string(), "weight of conv2 (conv2d)");
    }
}

#[test]
fn a_teacher_that_is_the_student_has_nothing_to_say() {
    use qat_train::schedule::Distillation;
    let data = data(8);
    let model = Tiny::prepared(3, &QConfig::int8());
    let features = vec!["conv1".to_owned(), "linear".to_owned()];
    let only = |weight, features| Distillation { weight, temperature: 3.0, features, feature_weight: 1.0 };
    // A student with its running statistics frozen computes as the teacher does.
    let of = |student: QatModel, distillation| {
        let objective = Objective { label_smoothing: 0.0, teacher: Some(Teacher::new(&model, distillation).unwrap()) };
        let plan = FitPlan { objective, stop_at_step: Some(1), shape: RateShape::Constant, ..descent(2) };
        values(&trained(student, &plan, &data).unwrap().model)
    };
    let start = values(&model);
    let same = of(model.valid().with_norm_frozen(true), only(1.0, features.clone()));
    for ((path, start), (_, same)) in start.iter().zip(&same) {
        let near = start.iter().zip(same).all(|(a, b)| a == b || (a - b).abs() < 1e-6);
        assert!(near, "{path} moved without a reason");
    }
    // Another student is drawn to it.
    let other = || Tiny::prepared(4, &QConfig::int8()).with_norm_frozen(true);
    assert_ne!(of(other(), only(1.0, Vec::new())), values(&other()));
    assert_ne!(of(other(), only(1.0, features)), of(other(), only(1.0, Vec::new())));
    let error = Teacher::new(&model, only(0.5, vec!["conv9".into()])).unwrap_err();
    assert!(error.to_string().starts_with("distillation.features, \"conv9\": expected one of conv1, "), "{error}");
    // Of another network, the scores have the same shape, but the activation of that name has not, or there is none.
    let teacher = |features: Vec<String>| Teacher::new(&model, only(0.5, features)).unwrap();
    teacher(Vec::new()).suits(&linear()).unwrap();
    let error = teacher(vec!["conv1".into()]).suits(&linear()).unwrap_err();
    assert!(matches!(error, TrainError::UnknownFeature { .. }), "{error}");
    let mut narrow = Tiny::init(3);
    narrow.linear = burn::nn::LinearConfig::new(64, 4).init(&Device::flex());
    let narrow = qat_train::recipe::prepare(&narrow, SHAPE, &QConfig::int8()).unwrap();
    let error = teacher(Vec::new()).suits(&narrow).unwrap_err().to_string();
    assert_eq!(error, "distillation, scores: expected [4], as the student gives, found [10]");
}

#[test]
fn weights_and_activations_are_quantized_apart() {
    let data = data(8);
    let model = calibrated(&data);
    let device = Device::flex();
    let images = Tensor::<1>::from_floats(data.train.to_f32().as_slice(), &device).reshape([8, 1, 8, 8]);
    let of = |mode| -> Vec<f32> { model.clone().with_mode(mode).logits(images.clone()).into_data().try_to_vec().unwrap() };
    let all = [Mode::Float, Mode::Weights, Mode::Activations, Mode::Quantize].map(of);
    for (index, one) in all.iter().enumerate() {
        assert!(all[index + 1..].iter().all(|other| other != one), "no two modes compute alike");
    }
    // Without quantized activations nothing lies on the grids; with them everything does, whatever the weights are.
    let on_grid = |mode: Mode| {
        let model = model.clone().with_mode(mode);
        let mut all = true;
        model.run(images.clone(), |value, activation| {
            let quantizer = model.quantizers().into_iter().find(|(_, of, _)| *of == value);
            if let Some((.., quantizer)) = quantizer {
                let scale = quantizer.qparams().scale;
                all &= activation.to_data().iter::<f32>().all(|x| ((x / scale).round() * scale - x).abs() <= x.abs() * 1e-5);
            }
        });
        all
    };
    assert_eq!([Mode::Float, Mode::Weights, Mode::Activations, Mode::Quantize].map(on_grid), [false, false, true, true]);
}
