//! What a run leaves for people to look at, and that it is the same however often the run was stopped.

use crate::support::{SEED, data, metrics};
use burn::{tensor::Device, train::Interrupter};
use qat::{QConfig, Scheme};
use qat_train::{
    Manifest, ProgressStyle, RunDirectory, Schedule,
    recipe::{self, Goal, Setting},
    report::{Confusion, write_report},
    zoo::ZooModel,
};
use std::{env, fs, path::Path, process::Command, thread, time::Duration};

const MODEL: ZooModel = ZooModel::Mlp;
/// 25 steps an epoch.
const IMAGES: usize = 800;
const EPOCHS: usize = 2;

/// Runs the recipe in `folder`, from the beginning or from the last checkpoint; false when it was interrupted, which happens once
/// `metrics.csv` has `lines` lines.
fn train(folder: &Path, lines: usize) -> bool {
    let schedule =
        Schedule { float_epochs: EPOCHS, qat_epochs: EPOCHS, calibration_samples: 64, warmup_steps: 0, ..Schedule::default() };
    let manifest = Manifest::new(MODEL.name(), "noise & <more>", Scheme::default(), "flex", SEED, 32, schedule);
    let run = match folder.join("run.toml").exists() {
        true => RunDirectory::resume(folder, &manifest).unwrap(),
        false => RunDirectory::create(folder, manifest).unwrap(),
    };
    let (device, interrupter) = (Device::flex(), Interrupter::new());
    let data = data(MODEL, IMAGES);
    thread::scope(|scope| {
        let training = scope.spawn(|| {
            let setting =
                Setting { run: &run, device: &device, style: ProgressStyle::Quiet, interrupter: &interrupter, judge: None };
            recipe::train(MODEL.init(&device, SEED), &QConfig::int8(), &data, Goal::Quantized, &setting).unwrap().is_some()
        });
        while !training.is_finished() {
            if fs::read_to_string(folder.join("metrics.csv")).is_ok_and(|text| text.lines().count() >= lines) {
                interrupter.stop(Some("a test"));
            }
            thread::sleep(Duration::from_micros(200));
        }
        training.join().unwrap()
    })
}

/// Contents of the records of an event file, without the time of day at the beginning of each.
fn events(folder: &Path, split: &str) -> Vec<Vec<u8>> {
    let bytes = fs::read(folder.join(format!("tensorboard/{split}/events.out.tfevents.0000000000.qat"))).unwrap();
    let mut rest = bytes.as_slice();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let (record, after) = rest.split_at(length + 16);
        // Field 1, eight bytes.
        assert_eq!(record[12], 0x09);
        found.push(record[21..12 + length].to_vec());
        rest = after;
    }
    found
}

fn text(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn a_run_that_was_stopped_shows_its_whole_history() {
    let folder = tempfile::tempdir().unwrap();
    let (calm, stopped) = (folder.path().join("calm"), folder.path().join("stopped"));
    assert!(train(&calm, usize::MAX));

    // In the first phase, in its last epoch, after calibration, and in the last epoch of all.
    let mut interruptions = 0;
    for lines in [10, 40, 60, 90] {
        interruptions += usize::from(!train(&stopped, lines));
    }
    println!("{interruptions} interruptions");
    assert!(interruptions >= 2, "interrupted too seldom to prove anything");
    assert!(train(&stopped, usize::MAX));

    assert_eq!(metrics(&stopped), metrics(&calm));
    for name in ["ranges.csv", "layers.csv", "report.html"] {
        assert_eq!(text(&stopped, name), text(&calm, name), "{name}");
    }
    for split in ["train", "valid"] {
        assert_eq!(events(&stopped, split), events(&calm, split), "{split}");
    }

    let steps = IMAGES / 32 * EPOCHS;
    // The version, and one for each step of both phases.
    assert_eq!(events(&calm, "train").len(), 1 + 2 * steps);
    let ranges = text(&calm, "ranges.csv");
    let quantizers = ranges.lines().filter(|line| line.starts_with("qat,0,0,")).count();
    assert!(quantizers >= 4, "{ranges}");
    assert_eq!(ranges.lines().count(), 1 + quantizers * (1 + EPOCHS));
    assert_eq!(events(&calm, "valid").len(), 1 + 2 * EPOCHS + quantizers * (1 + EPOCHS));
    assert_ne!(
        ranges.lines().nth(2),
        ranges.lines().nth(2 + quantizers).map(|line| line.replace("qat,1,25,", "qat,0,0,")).as_deref()
    );
}

#[test]
fn the_page_says_everything_and_loads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(train(folder.path(), usize::MAX));
    let page = text(folder.path(), "report.html");
    assert!(page.contains("The run is not finished."), "there are no results yet");

    let run = RunDirectory::open(folder.path()).unwrap();
    let results = qat_train::Results {
        samples: Some(50),
        float_accuracy: Some(98.0),
        ptq_accuracy: Some(94.0),
        fake_quant_accuracy: Some(96.0),
        integer_accuracy: Some(96.125),
        float_bytes: Some(941_096),
        integer_bytes: Some(238_418),
        ..Default::default()
    };
    run.write_results(&results).unwrap();
    let names = vec!["<b>cat</b>".to_owned(), "dog".to_owned()];
    run.write_confusion(&Confusion::of("integer", names, &[0, 0, 1], &[0, 1, 1])).unwrap();
    write_report(&run).unwrap();

    let page = text(folder.path(), "report.html");
    let expected = [
        "<title>mlp on noise &amp; &lt;more&gt;, scheme int8</title>",
        "<tr><td>integer</td><td>96.12 %</td><td>238,418</td></tr>",
        "<h2>Float training</h2>",
        "<h2>Quantization-aware training</h2>",
        "<th>&lt;b&gt;cat&lt;/b&gt;</th>",
        "<td>50.0 %</td>",
        "<td>linear+relu</td>",
        "qat_epochs = 2",
    ];
    for text in expected {
        assert!(page.contains(text), "{text} in {page}");
    }
    assert!(!page.contains("not finished"));
    // Loss, accuracy and learning rate of both phases, and the input's and three layers' ranges.
    assert_eq!(page.matches("<svg").count(), 6 + 4);
    for way_out in ["<script", "<b>", "src=", "href=", "url(", "@import", "<link"] {
        assert!(!page.contains(way_out), "{way_out} in the page");
    }
    let others = page.matches("http").count() - page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count();
    assert_eq!(others, 0, "no address but the name of SVG");
}

/// Needs `tensorboard`, whose version `tests/peers/requirements.txt` gives, in the Python that `QAT_PYTHON` names.
#[test]
fn tensorboard_reads_what_metrics_csv_says() {
    let python = env::var_os("QAT_PYTHON").filter(|python| {
        Command::new(python).args(["-c", "import tensorboard"]).output().is_ok_and(|output| output.status.success())
    });
    let Some(python) = python else {
        println!("skipped: QAT_PYTHON names no Python with tensorboard");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    assert!(train(folder.path(), usize::MAX));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/tensorboard_events.py");
    let output = Command::new(python).arg(script).arg(folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success());
    assert!(text.contains("104 rows agree"), "50 steps and 2 evaluations of each phase");
}
