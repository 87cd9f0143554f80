//! Persistence is proved by behaviour: however a run was stopped, continuing it gives the same next steps, bit for bit on Flex.

use crate::support::{bits, completed, data, images, manifest, metrics, plan, train};
use burn::{
    module::Module,
    nn::{Dropout, DropoutConfig, Linear, LinearConfig},
    tensor::{Device, Tensor},
    train::Interrupter,
};
use qat_train::{
    Classifier, Ending, FitPlan, FitState, Phase, ProgressStyle, RunDirectory, TrainError, fit,
    zoo::{ZooModel, ZooNet},
};
use std::{
    env, fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

/// Where [`child`] trains; it does nothing without.
const RUN: &str = "QAT_TRAIN_TEST_RUN";

/// Images of the child's problem; 100 steps an epoch.
const IMAGES: usize = 3_200;

fn child_plan() -> FitPlan {
    plan(ZooModel::Mlp, 3, 32, 30)
}

/// Not a test: the process that the tests below kill or starve.
#[test]
#[ignore = "a process for other tests"]
fn child() {
    if let Some(folder) = env::var_os(RUN) {
        match train(Path::new(&folder), ZooModel::Mlp, &child_plan(), &data(ZooModel::Mlp, IMAGES)) {
            Ok(fitted) => completed(&fitted),
            Err(error) => println!("error: {error}\nhint: {}", error.hint().unwrap_or_default()),
        }
    }
}

/// The arguments that make this very program run [`child`].
const CHILD: [&str; 4] = ["--exact", "resume::child", "--ignored", "--nocapture"];

fn lines(folder: &Path) -> usize {
    fs::read_to_string(folder.join("metrics.csv")).map_or(0, |text| text.lines().count())
}

#[cfg(unix)]
#[test]
fn a_run_killed_in_the_middle_of_an_epoch_ends_as_if_nothing_had_happened() {
    use std::os::unix::process::ExitStatusExt;
    let folder = tempfile::tempdir().unwrap();
    let (calm, killed) = (folder.path().join("calm"), folder.path().join("killed"));
    let data = data(ZooModel::Mlp, IMAGES);
    let undisturbed = train(&calm, ZooModel::Mlp, &child_plan(), &data).unwrap();
    completed(&undisturbed);

    // Once before the first checkpoint, once in the middle of the first epoch and once in the middle of the second.
    for rows in [10, 50, 155] {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(CHILD)
            .env(RUN, &killed)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while lines(&killed) < rows {
            assert_eq!(child.try_wait().unwrap(), None, "the child ended by itself");
            thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        let left = lines(&killed);
        println!("killed after {left} lines");
        assert!(left < 300, "the child was killed too late to prove anything");
    }

    let resumed = train(&killed, ZooModel::Mlp, &child_plan(), &data).unwrap();
    completed(&resumed);
    assert_eq!(metrics(&killed), metrics(&calm));
    assert_eq!(bits(&resumed.model), bits(&undisturbed.model));
    assert_eq!(resumed.evaluation, undisturbed.evaluation);
    assert!(undisturbed.evaluation.unwrap().accuracy() > 90.0, "the problem is learned: {:?}", undisturbed.evaluation);
    // A header, 300 steps and 3 evaluations; nothing of Burn's own, and nothing unfinished.
    assert_eq!(lines(&calm), 304);
    let names = |path: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(
        names(&killed),
        ["checkpoints", "metrics.csv", "ranges.csv", "report.html", "run.lock", "run.toml", "tensorboard"]
    );
    let checkpoints = names(&killed.join("checkpoints"));
    assert_eq!(checkpoints.len(), qat_train::checkpoint::KEPT, "{checkpoints:?}");
    assert!(checkpoints[1].ends_with("-float-300"), "{checkpoints:?}");
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_a_typed_error_and_the_last_checkpoint_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (calm, full) = (folder.path().join("calm"), folder.path().join("full"));
    let data = data(ZooModel::Mlp, IMAGES);
    completed(&train(&calm, ZooModel::Mlp, &child_plan(), &data).unwrap());
    let begun = FitPlan { stop_at_step: Some(40), ..child_plan() };
    assert_eq!(train(&full, ZooModel::Mlp, &begun, &data).unwrap().ending, Ending::Stopped);

    // Files of more than 800 blocks, of 512 or 1024 bytes as the shell counts, cannot be written: the metrics can, the model cannot.
    let shell = "trap '' XFSZ; ulimit -f 800; exec \"$@\"";
    let Output { stdout, status, .. } = Command::new("sh")
        .args(["-c", shell, "sh"])
        .arg(env::current_exe().unwrap())
        .args(CHILD)
        .env(RUN, &full)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&stdout);
    println!("{text}");
    assert!(status.success(), "the child must not be killed or panic: {status}");
    assert!(text.contains("error: write checkpoint, ") && text.contains("model.bpk: expected success, found "), "{text}");
    assert!(text.contains("hint: make room on the disk"), "{text}");

    let run = RunDirectory::open(&full).unwrap();
    let checkpoint = run.last_checkpoint().unwrap().unwrap();
    assert_eq!(checkpoint.info().step, 30);
    assert_eq!(fs::read_dir(run.checkpoints()).unwrap().count(), 1, "nothing unfinished is left");
    completed(&train(&full, ZooModel::Mlp, &child_plan(), &data).unwrap());
    assert_eq!(metrics(&full), metrics(&calm));
}

/// Continues `plan` of a network with batch norm at `step`, from memory or from a checkpoint, and compares with an undisturbed run.
#[test]
fn segments_in_memory_and_from_disk_join_without_a_seam() {
    let model = ZooModel::ResNet8;
    let data = data(model, 48);
    // Six steps an epoch.
    let plan = plan(model, 2, 8, 4);
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let whole = train(&folder.path().join("whole"), model, &plan, &data).unwrap();
    completed(&whole);
    let expected = metrics(&folder.path().join("whole"));

    // The middle of an epoch, its end, the step after, and the middle of the next.
    let path = folder.path().join("segments");
    let run = RunDirectory::create(&path, manifest(model, &plan)).unwrap();
    let (mut net, mut state) = (model.init(&device, plan.seed), FitState::start());
    for stop in [Some(3), Some(6), Some(7), Some(10), None] {
        let plan = FitPlan { stop_at_step: stop, ..plan.clone() };
        let fitted = fit(net, state, &plan, &data, &device, &run, ProgressStyle::Quiet, &Interrupter::new()).unwrap();
        assert_eq!(fitted.state.step(), stop.unwrap_or(12));
        (net, state) = (fitted.model, fitted.state);
    }
    assert_eq!(metrics(&path), expected);
    assert_eq!(bits(&net), bits(&whole.model));

    // From the checkpoint of step 4, whose running statistics must be those of that very step.
    let path = folder.path().join("disk");
    let begun = FitPlan { stop_at_step: Some(5), ..plan.clone() };
    train(&path, model, &begun, &data).unwrap();
    let resumed = train(&path, model, &plan, &data).unwrap();
    assert_eq!(metrics(&path), expected);
    assert_eq!(bits(&resumed.model), bits(&whole.model));

    // A run that is complete comes back at once, with the same model.
    let again = train(&path, model, &plan, &data).unwrap();
    completed(&again);
    assert_eq!(metrics(&path), expected);
    assert_eq!(bits(&again.model), bits(&whole.model));
}

/// A classifier that draws random numbers in each step.
#[derive(Module, Debug)]
struct Noisy {
    dropout: Dropout,
    linear: Linear,
}

impl Classifier for Noisy {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.linear.forward(self.dropout.forward(images.flatten(1, 3)))
    }
}

impl Noisy {
    fn init(device: &Device) -> Self {
        device.seed(1);
        let linear = LinearConfig::new(784, 10).init(device);
        linear.weight.val();
        Self { dropout: DropoutConfig::new(0.5).init(), linear }
    }
}

/// The kernels of Flex draw from a generator of the whole process, so this runs in a process of its own.
#[test]
#[ignore = "run by random_numbers_follow_from_the_step"]
fn dropout_child() {
    let data = data(ZooModel::Mlp, 200);
    let plan = FitPlan::new(Phase::Qat, "noisy", 2, 20, 1e-2, crate::support::SEED);
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let run = |name: &str, stops: &[Option<usize>]| {
        let run = RunDirectory::create(folder.path().join(name), manifest(ZooModel::Mlp, &plan)).unwrap();
        let (mut net, mut state) = (Noisy::init(&device), FitState::start());
        for &stop in stops {
            let plan = FitPlan { stop_at_step: stop, ..plan.clone() };
            let fitted = fit(net, state, &plan, &data, &device, &run, ProgressStyle::Quiet, &Interrupter::new()).unwrap();
            (net, state) = (fitted.model, fitted.state);
            // What somebody else draws in between must not matter.
            Tensor::<1>::random([17], burn::tensor::Distribution::Default, &device).into_data();
        }
        (metrics(run.path()), bits(&net))
    };
    let whole = run("whole", &[None]);
    assert_eq!(run("parts", &[Some(4), Some(15), None]), whole);
    println!("dropout child done");
}

#[test]
fn random_numbers_follow_from_the_step() {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "resume::dropout_child", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("dropout child done"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_interrupted_run_saves_where_it_stood_and_continues() {
    let model = ZooModel::Mlp;
    let (data, plan) = (data(model, IMAGES), plan(model, 2, 32, 1_000));
    let folder = tempfile::tempdir().unwrap();
    let (calm, path) = (folder.path().join("calm"), folder.path().join("stopped"));
    completed(&train(&calm, model, &plan, &data).unwrap());

    let device = Device::flex();
    let run = RunDirectory::create(&path, manifest(model, &plan)).unwrap();
    let interrupter = Interrupter::new();
    let watch = {
        let (interrupter, path) = (interrupter.clone(), path.clone());
        thread::spawn(move || {
            while lines(&path) < 20 {
                thread::sleep(Duration::from_millis(1));
            }
            interrupter.stop(Some("a test"));
        })
    };
    let net = model.init(&device, plan.seed);
    let fitted = fit(net, FitState::start(), &plan, &data, &device, &run, ProgressStyle::Quiet, &interrupter).unwrap();
    watch.join().unwrap();
    assert_eq!(fitted.ending, Ending::Interrupted);
    let checkpoint = run.last_checkpoint().unwrap().unwrap();
    assert_eq!(checkpoint.info().step, fitted.state.step());
    assert!(fitted.state.step() >= 19 && fitted.state.step() < 200, "{}", fitted.state.step());
    drop(run);
    completed(&train(&path, model, &plan, &data).unwrap());
    assert_eq!(metrics(&path), metrics(&calm));
}

#[test]
fn nan_stops_the_run_names_the_parameter_and_keeps_the_checkpoint() {
    let model = ZooModel::Mlp;
    let (data, plan) = (data(model, 320), plan(model, 2, 32, 4));
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let run = RunDirectory::create(folder.path().join("run"), manifest(model, &plan)).unwrap();
    let begun = FitPlan { stop_at_step: Some(12), ..plan.clone() };
    let interrupter = Interrupter::new();
    let net = model.init(&device, plan.seed);
    let fitted = fit(net, FitState::start(), &begun, &data, &device, &run, ProgressStyle::Quiet, &interrupter).unwrap();

    let ZooNet::Mlp(mut net) = fitted.model else { unreachable!("a network keeps its name") };
    net.fc2.weight = net.fc2.weight.map(|weight| weight * f32::NAN);
    let error = fit(ZooNet::Mlp(net), fitted.state, &plan, &data, &device, &run, ProgressStyle::Quiet, &interrupter).unwrap_err();
    let TrainError::NonFinite { phase: Phase::Float, epoch: 2, step: 13, loss, culprit } = &error else { panic!("{error}") };
    assert!(loss.is_nan());
    assert_eq!(culprit.as_ref().unwrap().to_string(), "weight of fc2 (linear)");
    let text = "training, float epoch 2 step 13: expected finite numbers, found loss NaN; \
                the first number that is not finite is in weight of fc2 (linear)";
    assert_eq!(error.to_string(), text);
    assert_eq!(run.last_checkpoint().unwrap().unwrap().info().step, 12);
}

/// A classifier with a parameter that does not reach the loss.
#[derive(Module, Debug)]
struct Spoilt {
    linear: Linear,
    unused: Linear,
}

impl Classifier for Spoilt {
    fn logits(&self, images: Tensor<4>) -> Tensor<2> {
        self.linear.forward(images.flatten(1, 3))
    }
}

#[test]
fn a_model_with_nan_is_not_saved_even_when_its_loss_is_finite() {
    let data = data(ZooModel::Mlp, 64);
    let plan = FitPlan::new(Phase::Float, "spoilt", 1, 32, 1e-3, crate::support::SEED);
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    let run = RunDirectory::create(folder.path().join("run"), manifest(ZooModel::Mlp, &plan)).unwrap();
    let mut net = Spoilt { linear: LinearConfig::new(784, 10).init(&device), unused: LinearConfig::new(1, 1).init(&device) };
    net.unused.weight = net.unused.weight.map(|weight| weight * f32::INFINITY);
    let error = fit(net, FitState::start(), &plan, &data, &device, &run, ProgressStyle::Quiet, &Interrupter::new()).unwrap_err();
    let TrainError::NonFinite { culprit, loss, .. } = &error else { panic!("{error}") };
    assert!(loss.is_finite());
    assert_eq!(culprit.as_ref().unwrap().to_string(), "unused.weight");
    assert!(run.last_checkpoint().unwrap().is_none());
}

#[test]
fn training_without_validation_images_writes_no_evaluation() {
    let model = ZooModel::Mlp;
    let mut data = data(model, 64);
    data.valid = images(model.input_shape(), 0, 1);
    let folder = tempfile::tempdir().unwrap();
    let fitted = train(&folder.path().join("run"), model, &plan(model, 1, 32, 10), &data).unwrap();
    completed(&fitted);
    assert_eq!(fitted.evaluation, None);
    assert!(!metrics(&folder.path().join("run")).contains("valid"));
}
