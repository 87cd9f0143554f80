//! What is wrong is refused with a typed error that says where, what was expected and what was found; nothing panics.

use crate::support::{SEED, bits, data, manifest, plan, train};
use burn::{tensor::Device, train::Interrupter};
use qat_train::{
    FitPlan, FitState, Phase, ProgressStyle, RunDirectory, TrainError,
    data::{ImageSet, Normalize, class_numbers},
    fit, load_model, recipe, save_model,
    zoo::{ZooModel, ZooNet},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::{fs, path::Path, sync::Arc};

const MODEL: ZooModel = ZooModel::Mlp;

/// A finished run of two epochs of two steps.
fn finished(folder: &Path) -> FitPlan {
    let plan = plan(MODEL, 2, 32, 10);
    train(folder, MODEL, &plan, &data(MODEL, 64)).unwrap();
    plan
}

fn net(model: ZooModel) -> ZooNet {
    model.init(&Device::flex(), 1)
}

#[test]
fn a_checkpoint_of_another_model_is_refused_by_name_and_by_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let plan = finished(folder.path());
    let run = RunDirectory::open(folder.path()).unwrap();
    let checkpoint = run.last_checkpoint().unwrap().unwrap();

    let error = checkpoint.load_model(net(ZooModel::LeNet)).unwrap_err();
    assert!(matches!(error, TrainError::WrongParameters { .. }), "{error}");
    assert!(error.to_string().contains("fc1.weight: shape mismatch"), "{error}");

    let other = FitPlan { model: "lenet".into(), ..plan.clone() };
    let (data, device) = (data(MODEL, 64), Device::flex());
    let state = checkpoint.state().unwrap();
    let error = fit(net(MODEL), state, &other, &data, &device, &run, ProgressStyle::Quiet, &Interrupter::new()).unwrap_err();
    let TrainError::Changed { field, expected, found, .. } = &error else { panic!("{error}") };
    assert_eq!((field.as_str(), expected.as_str(), found.as_str()), ("model", "\"mlp\"", "\"lenet\""));
}

#[test]
fn a_checkpoint_of_another_plan_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plan = finished(folder.path());
    let run = RunDirectory::open(folder.path()).unwrap();
    let device = Device::flex();
    let refused = |change: fn(&mut FitPlan), images| {
        let mut plan = plan.clone();
        change(&mut plan);
        let state = run.last_checkpoint().unwrap().unwrap().state().unwrap();
        let data = data(MODEL, images);
        let result = fit(net(MODEL), state, &plan, &data, &device, &run, ProgressStyle::Quiet, &Interrupter::new());
        match result.unwrap_err() {
            TrainError::Changed { field, .. } => field,
            error => panic!("{error}"),
        }
    };
    assert_eq!(refused(|plan| plan.phase = Phase::Qat, 64), "phase");
    assert_eq!(refused(|plan| plan.seed += 1, 64), "seed");
    assert_eq!(refused(|plan| plan.batch_size = 16, 64), "batch_size");
    assert_eq!(refused(|plan| plan.epochs = 3, 64), "total_steps");
    assert_eq!(refused(|_| (), 96), "steps_per_epoch");
}

#[test]
fn hyperparameters_outside_their_domain_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = plan(MODEL, 1, 32, 10);
    let run = RunDirectory::create(folder.path(), manifest(MODEL, &whole)).unwrap();
    let (data, device) = (data(MODEL, 64), Device::flex());
    let refused = |change: fn(&mut FitPlan)| {
        let mut plan = whole.clone();
        change(&mut plan);
        let start = FitState::start();
        fit(net(MODEL), start, &plan, &data, &device, &run, ProgressStyle::Quiet, &Interrupter::new()).unwrap_err().to_string()
    };
    assert_eq!(refused(|plan| plan.batch_size = 0), "batch_size: expected at least 1, found 0");
    assert_eq!(
        refused(|plan| plan.batch_size = 65),
        "batch_size: expected at most the number of training images, found 65 for 64 images"
    );
    assert_eq!(refused(|plan| plan.learning_rate = -1.0), "learning_rate: expected a number in (0, 1], found -1");
    assert_eq!(refused(|plan| plan.checkpoint_every = 0), "checkpoint_every: expected at least 1, found 0");
    assert_eq!(refused(|plan| plan.seed = u64::MAX), format!("seed: expected an integer below 2^63, found {}", u64::MAX));
}

#[test]
fn a_run_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let plan = finished(folder.path());
    let error = RunDirectory::create(folder.path(), manifest(MODEL, &plan)).unwrap_err();
    let place = folder.path().display();
    assert_eq!(error.to_string(), format!("run directory, {place}: expected a new or empty folder, found an earlier run"));
    assert!(error.hint().unwrap().contains("--resume"));

    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("thesis.tex"), "x").unwrap();
    let error = RunDirectory::create(other.path(), manifest(MODEL, &plan)).unwrap_err();
    assert!(matches!(error, TrainError::RunExists { found: "other files", .. }), "{error}");
    let error = RunDirectory::create(other.path().join("thesis.tex"), manifest(MODEL, &plan)).unwrap_err();
    assert!(matches!(error, TrainError::RunExists { found: "a file", .. }), "{error}");
}

#[test]
fn a_run_continues_only_as_it_was_begun() {
    let folder = tempfile::tempdir().unwrap();
    let plan = finished(folder.path());
    let mut other = manifest(MODEL, &plan);
    other.seed += 1;
    let error = RunDirectory::resume(folder.path(), &other).unwrap_err();
    assert!(matches!(&error, TrainError::Changed { field, .. } if field == "seed"), "{error}");
    let mut other = manifest(MODEL, &plan);
    other.schedule.qat_learning_rate = 0.5;
    let error = RunDirectory::resume(folder.path(), &other).unwrap_err();
    assert!(matches!(&error, TrainError::Changed { field, .. } if field == "qat_learning_rate"), "{error}");

    let empty = tempfile::tempdir().unwrap();
    let error = RunDirectory::resume(empty.path(), &other).unwrap_err();
    assert!(matches!(error, TrainError::NoRun { .. }), "{error}");

    let first = RunDirectory::resume(folder.path(), &manifest(MODEL, &plan)).unwrap();
    let error = RunDirectory::resume(folder.path(), &manifest(MODEL, &plan)).unwrap_err();
    assert!(matches!(error, TrainError::RunBusy { .. }), "{error}");
    drop(first);
    RunDirectory::resume(folder.path(), &manifest(MODEL, &plan)).unwrap();
}

#[test]
fn run_toml_says_everything_and_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let mut written = manifest(MODEL, &finished(folder.path()));
    assert_eq!(RunDirectory::open(folder.path()).unwrap().manifest(), &written);
    let file = folder.path().join("run.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(&format!("seed = {SEED}")) && text.contains("[schedule]"), "{text}");

    for (wrong, expected) in [
        (text.replace("format = 1", "format = 2"), "format 1"),
        (text.replace("batch_size = 32", ""), "TOML"),
        (text.replace("batch_size = 32", "batch_size = -1"), "TOML"),
        (text.replace("model =", "modle ="), "TOML"),
        (text[..text.find("seed = ").unwrap() + 3].into(), "TOML"),
    ] {
        fs::write(&file, wrong).unwrap();
        let error = RunDirectory::open(folder.path()).unwrap_err();
        assert!(matches!(error, TrainError::Malformed { .. }) && error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(RunDirectory::open(folder.path()).is_err());

    written.limit = Some(5);
    assert_eq!(toml::from_str::<qat_train::Manifest>(&toml::to_string(&written).unwrap()).unwrap(), written);
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    finished(folder.path());
    let run = RunDirectory::open(folder.path()).unwrap();
    let checkpoint = run.last_checkpoint().unwrap().unwrap();
    let damage = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = checkpoint.folder().join(name);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        change(&mut bad);
        fs::write(&path, bad).unwrap();
        let error = match run.last_checkpoint() {
            Ok(found) => {
                let found = found.unwrap();
                found.load_model(net(MODEL)).err().or(found.state().err()).expect("the damage is noticed")
            }
            Err(error) => error,
        };
        assert!(matches!(error, TrainError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains(name) && error.hint().is_some(), "{error}");
        fs::write(&path, good).unwrap();
    };
    for name in ["model.bpk", "optimizer.bpk", "checkpoint.toml"] {
        damage(name, &|bytes| bytes.truncate(bytes.len() / 2));
        damage(name, &|bytes| bytes.clear());
        damage(name, &|bytes| bytes[3] ^= 0x40);
    }
    damage("checkpoint.toml", &|bytes| *bytes = b"format = two".to_vec());
    fs::remove_file(checkpoint.folder().join("optimizer.bpk")).unwrap();
    assert!(matches!(checkpoint.state().unwrap_err(), TrainError::Malformed { .. }));
}

#[test]
fn a_checkpoint_of_another_version_is_refused_before_its_other_keys_are_read() {
    let folder = tempfile::tempdir().unwrap();
    finished(folder.path());
    let run = RunDirectory::open(folder.path()).unwrap();
    let file = run.last_checkpoint().unwrap().unwrap().folder().join("checkpoint.toml");
    // The first version did not say what was trained: its float checkpoints are those of modules.
    let text = fs::read_to_string(&file).unwrap().replace("form = \"module\"\n", "");
    assert!(text.starts_with("format = 2\n"), "{text}");
    for format in [1, 3] {
        fs::write(&file, text.replacen("format = 2", &format!("format = {format}"), 1)).unwrap();
        let error = run.last_checkpoint().unwrap_err();
        assert_eq!(error.to_string(), format!("{}: expected format 2, found format {format}", file.display()));
        assert!(error.hint().unwrap().contains("the version that began it"), "{error}");
    }
    fs::write(&file, text).unwrap();
    assert!(matches!(run.last_checkpoint().unwrap_err(), TrainError::Malformed { .. }), "a key is missing");
}

#[test]
fn a_model_file_round_trips_and_a_damaged_one_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("float.bpk");
    let model = net(ZooModel::LeNet);
    save_model(&path, &model).unwrap();
    let loaded = load_model(&path, ZooModel::LeNet.init(&Device::flex(), 2)).unwrap();
    assert_eq!(bits(&loaded), bits(&model));
    assert!(matches!(load_model(&path, net(MODEL)).unwrap_err(), TrainError::WrongParameters { .. }));

    let good = fs::read(&path).unwrap();
    println!("seed {SEED}");
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    for length in (0..64).chain([100, 200, 300, good.len() / 2, good.len() - 1]) {
        fs::write(&path, &good[..length]).unwrap();
        assert!(load_model(&path, net(ZooModel::LeNet)).is_err(), "{length} bytes");
    }
    // The header and the table of tensors are at the beginning; that is where a wrong byte could mislead the reader.
    for _ in 0..300 {
        let mut bad = good.clone();
        for _ in 0..3 {
            let place = rng.next_u32() as usize % 1_000;
            bad[place] = rng.next_u32() as u8;
        }
        fs::write(&path, bad).unwrap();
        let _ = load_model(&path, net(ZooModel::LeNet));
    }
}

#[test]
fn calibration_on_one_color_is_refused_and_settings_that_do_not_suit_the_images_too() {
    let config = qat::Scheme::default().config();
    let prepare = || recipe::prepare(&net(MODEL), [1, 28, 28], &config).unwrap();
    let color = |shades: &[u8]| {
        let images = shades.iter().flat_map(|&shade| vec![shade; 784]).collect();
        let (name, labels) = ("shades".to_owned(), vec![0; shades.len()]);
        Arc::new(ImageSet { name, shape: [1, 28, 28], classes: 10, class_names: class_numbers(10), images, labels })
    };
    let observe = |images, normalize: Normalize| recipe::observe(prepare(), images, &normalize, &Device::flex());
    for shade in [0, 128, 255] {
        let error = observe(color(&[shade; 3]), Normalize::unit()).unwrap_err();
        let text = format!("calibration, shades: expected images that differ within, found all 3 of the one color [{shade}]");
        assert_eq!(error.to_string(), text);
        assert!(error.hint().is_some());
    }
    assert!(observe(color(&[0, 255]), Normalize::unit()).is_ok());
    let error = observe(color(&[0, 255]), Normalize::imagenet()).unwrap_err();
    assert!(error.to_string().contains("normalize, shades: expected a mean and a std for each of 1 channels"), "{error}");
}
