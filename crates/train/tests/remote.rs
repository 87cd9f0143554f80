//! Training on a device of another process, over the loopback interface, with Burn's remote backend.

use burn::{
    server::{RemoteServer, WebSocketTransport},
    tensor::Device,
    train::Interrupter,
};
use qat::{DeviceError, DeviceName, QConfig, Scheme};
use qat_train::{
    FitData, Manifest, ProgressStyle, RunDirectory, Schedule,
    data::{ImageSet, class_numbers},
    recipe::{self, Goal, Setting},
    zoo::ZooModel,
};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

const MODEL: ZooModel = ZooModel::LeNet;
const SEED: u64 = 20_261_124;

/// Tells [`serve`] that it is to serve.
const SERVE: &str = "QAT_TRAIN_TEST_SERVE";

/// Not a test: the process that the tests below compute in.
#[test]
#[ignore = "a process for other tests"]
fn serve() {
    if env::var_os(SERVE).is_some() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        println!("\nserving at {}", listener.local_addr().unwrap());
        RemoteServer::new([Device::flex()]).serve(WebSocketTransport::from_listener(listener)).unwrap();
    }
}

/// A process that serves Flex; it ends with this.
struct Server {
    child: Child,
    name: String,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "serve", "--ignored", "--nocapture"])
            .env(SERVE, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("serving at ").map(str::to_owned));
        Self { child, name: format!("remote:ws://{}", address.expect("the server says where it is")) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `count` images in ten classes: class `k` is brighter in every tenth pixel from `k` on.
fn images(count: usize) -> Arc<ImageSet> {
    let shape = MODEL.input_shape();
    let pixels: usize = shape.iter().product();
    let brightness = |index: usize, pixel: usize| {
        let noise = (index * 7919 + pixel * 104_729) % 151 % 97;
        noise as u8 + if pixel % 10 == index % 10 { 60 } else { 0 }
    };
    let images = (0..count).flat_map(|index| (0..pixels).map(move |pixel| brightness(index, pixel))).collect();
    let labels = (0..count).map(|index| (index % 10) as u8).collect();
    Arc::new(ImageSet { name: "noise".into(), shape, classes: 10, class_names: class_numbers(10), images, labels })
}

/// Float training, calibration and quantized training on `device` and those beside it.
fn train(path: PathBuf, device: &str, more: &[&str]) -> PathBuf {
    println!("seed {SEED}, {device} and {more:?}");
    let schedule = Schedule { float_epochs: 1, qat_epochs: 1, calibration_samples: 32, warmup_steps: 0, ..Schedule::default() };
    let mut manifest = Manifest::new(MODEL.name(), "noise", Scheme::default(), device, SEED, 20, schedule);
    manifest.more_devices = more.iter().map(|name| (*name).to_owned()).collect();
    let device = device.parse::<DeviceName>().unwrap().init().unwrap();
    let run = RunDirectory::create(&path, manifest).unwrap();
    let interrupter = Interrupter::new();
    let setting = Setting { run: &run, device: &device, style: ProgressStyle::Quiet, interrupter: &interrupter, judge: None };
    let data = FitData { train: images(120), valid: images(40) };
    recipe::train(MODEL.init(&Device::flex(), SEED), &QConfig::int8(), &data, Goal::Quantized, &setting).unwrap().unwrap();
    path
}

/// One column of a table.
fn column(folder: &Path, name: &str, column: usize) -> Vec<f64> {
    let text = fs::read_to_string(folder.join(name)).unwrap();
    text.lines().skip(1).map(|line| line.split(',').nth(column).unwrap().parse().unwrap()).collect()
}

/// Losses within `loss` of each other and ranges within `range`, relative to their size.
fn assert_near(found: &Path, expected: &Path, loss: f64, range: f64) {
    for (name, index, tolerance, count) in
        [("metrics.csv", 4, loss, 14), ("ranges.csv", 5, range, 10), ("ranges.csv", 6, range, 10)]
    {
        let (found, expected) = (column(found, name, index), column(expected, name, index));
        assert_eq!((found.len(), expected.len()), (count, count), "{name}");
        for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let difference = (found - expected).abs();
            assert!(difference <= tolerance * expected.abs().max(0.1), "{name} {row}: {found} for {expected}");
        }
    }
}

#[test]
fn training_in_another_process_is_training_here() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let here = train(folder.path().join("here"), "flex", &[]);
    let there = train(folder.path().join("there"), &server.name, &[]);
    assert_near(&there, &here, 1e-4, 1e-3);
}

#[test]
fn another_process_takes_its_part_of_each_batch() {
    let (server, folder) = (Server::start(), tempfile::tempdir().unwrap());
    let alone = train(folder.path().join("alone"), "flex", &[]);
    let together = train(folder.path().join("together"), "flex", &[&server.name]);
    assert_near(&together, &alone, 2e-3, 1e-2);
}

#[test]
fn nobody_there_is_a_typed_error() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name: DeviceName = format!("remote:ws://127.0.0.1:{port}").parse().unwrap();
    let error = name.init().unwrap_err();
    assert!(matches!(&error, DeviceError::Unreachable { address, .. } if address.ends_with(&port.to_string())), "{error}");
}
