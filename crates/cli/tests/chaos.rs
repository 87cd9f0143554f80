//! Real SIGKILLs of the built command at random moments: each time the run is resumed, and it ends as if nothing had happened.
//!
//! `QAT_CHAOS_KILLS` says how often (a few by default; `just chaos` does it 50 times), `QAT_CHAOS_SEED` when. Both are printed.

#![cfg(unix)]

mod command;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use qat_train::zoo::ZooModel;
use qat_train::{RunDirectory, load_model, recipe};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tempfile::TempDir;

/// Everything that has a state: stages, averages, teachers, sums of gradients, and checkpoints every other step.
const SETTINGS: &str = r#"
model = "lenet"
scheme = "w4a4"
limit = 384
seed = 5
batch_size = 16

[data]
workers = 2

[data.augment]
crop = 2

[schedule]
float_epochs = 2
qat_epochs = 2
calibration_samples = 64
calibration_order = "random"
warmup_steps = 3
accumulate = 2
gradient_clip = 5.0
label_smoothing = 0.1
activations_after = 0.2
freeze_ranges_after = 0.8
average_decay = 0.95
select_best = true
checkpoint_every = 2
distillation = { weight = 0.5, temperature = 2.0 }
stages = [{ weights = 8, activations = 8, epochs = 1 }]
"#;

/// The command that begins or continues the run in `out`.
fn training(settings: &Path, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qat"));
    command.args(["--quiet", "train", "mnist", "--config"]).arg(settings).arg("--out").arg(out);
    if out.join("run.toml").exists() {
        command.arg("--resume");
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Bits of all parameters and running statistics.
fn bits<M: Module>(model: &M) -> Vec<Vec<u32>> {
    struct Bits(Vec<Vec<u32>>);
    impl ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values: Vec<f32> = param.val().into_data().try_to_vec().expect("f32");
            self.0.push(values.into_iter().map(f32::to_bits).collect());
        }
    }
    let mut bits = Bits(Vec::new());
    model.valid().visit(&mut bits);
    bits.0
}

/// Bits of the float model, of the quantized one, integers, metrics, ranges.
type Outcome = (Vec<Vec<u32>>, Vec<Vec<u32>>, Vec<u8>, String, String);

/// What a run ends with: the bits of its models, its integers, its metrics without times, its ranges.
fn outcome(out: &Path) -> Outcome {
    let run = RunDirectory::open(out).unwrap();
    let net = ZooModel::LeNet.init(&Device::flex(), 1);
    let float = load_model(&run.float_model(), net).unwrap();
    let config = run.manifest().scheme.config();
    let quantized = recipe::load_quantized(&float, ZooModel::LeNet.input_shape(), &config, &run).unwrap();
    let text = fs::read_to_string(run.metrics()).unwrap();
    let metrics = text.lines().map(|line| format!("{}\n", line.rsplit_once(',').unwrap().0)).collect();
    let ranges = fs::read_to_string(run.ranges()).unwrap();
    (bits(&float), bits(&quantized), fs::read(run.integer_model()).unwrap(), metrics, ranges)
}

#[test]
fn a_run_killed_at_random_moments_ends_bit_for_bit_as_an_undisturbed_one() {
    let (kills, seed) = (number("QAT_CHAOS_KILLS", 4), number("QAT_CHAOS_SEED", 20_261_124));
    println!("{kills} kills from seed {seed}");
    let folder = TempDir::new().unwrap();
    let settings = folder.path().join("settings.toml");
    fs::write(&settings, SETTINGS).unwrap();
    let (calm, killed) = (folder.path().join("calm"), folder.path().join("killed"));

    let began = Instant::now();
    let output = training(&settings, &calm).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let whole = began.elapsed();

    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut done, mut early, mut runs) = (0, 0, 0);
    while done < kills {
        // Over the whole of a run at first, so that every kind of work is hit; a run that has come to its end begins anew.
        let share = f64::from(rng.next_u32()) / f64::from(u32::MAX);
        let moment = Duration::from_secs_f64(whole.as_secs_f64() * share * if kills > 10 { 0.5 } else { 0.4 });
        let mut child = training(&settings, &killed).spawn().unwrap();
        let killed_at = Instant::now() + moment;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() >= killed_at {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        match status.signal() {
            Some(9) => {
                done += 1;
                early += u64::from(!killed.join("run.toml").exists());
                println!("kill {done} after {} ms", moment.as_millis());
            }
            None if status.success() => {
                assert!(outcome(&killed) == outcome(&calm), "a run of seed {seed} differs after {done} kills");
                fs::remove_dir_all(&killed).unwrap();
                runs += 1;
            }
            _ => {
                use std::io::Read;
                let mut text = String::new();
                child.stderr.take().expect("it is piped").read_to_string(&mut text).unwrap();
                panic!("after {done} kills the run could not go on: {status}, {text}");
            }
        }
    }
    let output = training(&settings, &killed).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{done} kills, {early} of them before the run was there; {} runs compared", runs + 1);
    let (found, expected) = (outcome(&killed), outcome(&calm));
    assert!(found.3 == expected.3, "the metrics of a run of seed {seed} differ");
    assert!(found == expected, "the models of a run of seed {seed} differ");
    let left: Vec<_> = fs::read_dir(&killed).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".tmp")), "nothing unfinished is left: {left:?}");
}
