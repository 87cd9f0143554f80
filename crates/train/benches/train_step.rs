//! Times training steps: forward, cross entropy, backward and Adam, on random images.
//!
//! ```text
//! cargo bench --workspace --bench train_step -- [NET …] [MODE …]           one table, batch 64
//! cargo bench --workspace --bench train_step -- --batches [NET …]          images a second by batch, and quantized over float
//! cargo bench --workspace --bench train_step -- --grow [NET …]             how a step grows, as ratios
//! cargo bench --workspace --bench train_step -- --launches [NET …] [MODE …]   kernels that a step launches, of wgpu or CUDA
//! cargo bench --workspace --bench train_step -- --serve                    obeys lines on standard input
//! ```
//!
//! With `--device NAME` the device is another than `flex`; `wgpu` and `cuda` have to be built in (`--features qat-train/wgpu`). Their steps
//! are queued, and timed by the eight, after which the device has done its work.
//!
//! A network is one of the zoo, or `convs:C:S`: three convolutions of `C` channels with batch norm and relu on images of `S` by `S`. A
//! mode is `module` (the network as a Burn module, trained by Burn's Adam), `float` and `qat` (the network as a [`QatModel`], quantizers off, or on with the
//! statistics of batch norm that are the default), `two` (`qat` with a second convolution, for statistics of the float weight, (Q13)) or
//! `frozen` (`qat` with batch norms frozen); the last three are `int8`, or another scheme after a colon, as in `qat:w4a4`.
//!
//! The lines of `--serve` let this program and others, such as those of `benches/peers/train_step.py`, take turns:
//! `time NET MODE BATCH REPEATS` gives the nanoseconds of one step, the fastest of the repeats, `none` for a network that is not there.
//! Tables come about the same way: by processes of this program with a number of threads each, which take turns, every measurement once a
//! round; a time is the median over the rounds, a ratio the median of each round's ratio.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Int, Tensor};
use qat::DeviceName;
use qat::nn::NormStatistics;
use qat::optim::AdamConfig;
use qat::{Mode, Preset, QatModel};
use qat_train::Classifier;
use qat_train::zoo::ZooModel;

const NETS: [&str; 5] = ["lenet", "resnet8", "resnet20", "ds-cnn", "mobilenet-v1-025"];
/// Those that are shown to grow where none is named.
const GROWING: [&str; 3] = ["lenet", "resnet8", "mobilenet-v1-025"];
const MODES: [&str; 5] = ["module", "float", "qat", "two", "frozen"];
const ROUNDS: usize = 5;
/// The file, in the folder that a process runs in, of what CubeCL launches.
const LAUNCHES: &str = "launches.log";

/// A stem and two convolutions with batch norm and relu, a mean and a head.
#[derive(Module, Debug)]
struct Convs {
    convs: Vec<Conv2d>,
    norms: Vec<BatchNorm>,
    head: Linear,
}

impl Convs {
    fn new(channels: usize, device: &Device) -> Self {
        let conv = |c_in: usize| {
            let config = Conv2dConfig::new([c_in, channels], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
            config.with_bias(false).init(device)
        };
        Self {
            convs: [3, channels, channels].map(conv).to_vec(),
            norms: (0..3).map(|_| BatchNormConfig::new(channels).init(device)).collect(),
            head: LinearConfig::new(channels, 10).init(device),
        }
    }

    fn forward(&self, mut x: Tensor<4>) -> Tensor<2> {
        for (conv, norm) in self.convs.iter().zip(&self.norms) {
            x = relu(norm.forward(conv.forward(x)));
        }
        self.head.forward(x.mean_dims(&[2, 3]).flatten(1, 3))
    }
}

/// A training step of a network; `None` for one that is not there.
fn step(device: &Device, net: &str, mode: &str, batch: usize) -> Option<Box<dyn FnMut()>> {
    let (mode, scheme) = mode.split_once(':').unwrap_or((mode, "int8"));
    let config = Preset::named(scheme).unwrap_or_else(|| panic!("expected {}, found {scheme:?}", Preset::LIST)).config();
    let images = |[c, h, w]: [usize; 3]| {
        device.seed(1);
        Tensor::<4>::random([batch, c, h, w], Distribution::Uniform(0.0, 1.0), device)
    };
    let targets: Vec<i64> = (0..batch as i64).map(|i| i % 10).collect();
    let targets = Tensor::<1, Int>::from_data(targets.as_slice(), device);
    if let Some(sizes) = net.strip_prefix("convs:") {
        let (channels, size) = sizes.split_once(':')?;
        let (channels, size) = (channels.parse().ok()?, size.parse().ok()?);
        let shape = [1, 3, size, size];
        let module = Convs::new(channels, device).valid();
        let model = QatModel::prepare(&module, shape, &config, Convs::forward).expect("a network that can be quantized");
        let images = images([3, size, size]);
        return Some(step_of(in_mode(model, mode, &images), AdamConfig::new().init(), images, targets));
    }
    let zoo: ZooModel = net.parse().ok()?;
    let [c, h, w] = zoo.input_shape();
    let images = images([c, h, w]);
    let module = zoo.init(device, 1);
    if mode == "module" {
        return Some(step_of(module, burn::optim::AdamConfig::new().init(), images, targets));
    }
    let model = QatModel::prepare(&module.valid(), [1, c, h, w], &config, Classifier::logits).expect("the zoo can be quantized");
    Some(step_of(in_mode(model, mode, &images), AdamConfig::new().init(), images, targets))
}

fn in_mode(model: QatModel, mode: &str, images: &Tensor<4>) -> QatModel {
    if mode == "float" {
        return model.train();
    }
    let model = model.with_mode(Mode::Observe);
    model.logits(images.clone().inner());
    let model = model.calibrated().expect("finite ranges");
    match mode {
        "qat" => model,
        "two" => model.with_norm_statistics(NormStatistics::Float),
        "frozen" => model.with_norm_frozen(true),
        other => panic!("expected a mode of {MODES:?}, found {other:?}"),
    }
    .train()
}

fn step_of<M: Classifier + 'static>(
    model: M,
    mut optimizer: ModuleOptimizer,
    images: Tensor<4>,
    targets: Tensor<1, Int>,
) -> Box<dyn FnMut()> {
    let mut trained = Some(model);
    Box::new(move || {
        let model = trained.take().expect("the model of the step before");
        let logits = model.logits(images.clone());
        let loss = CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        trained = Some(optimizer.step(1e-4, model, gradients));
    })
}

fn wait_for(device: &Device) {
    device.sync().expect("a device that does its work");
}

/// Nanoseconds of a step, in the fastest of the repeats.
fn time(device: &Device, is_queued: bool, step: &mut dyn FnMut(), repeats: usize) -> u128 {
    let together = if is_queued { 8 } else { 1 };
    let mut fastest = u128::MAX;
    for _ in 0..repeats + 2 {
        let start = Instant::now();
        (0..together).for_each(|_| step());
        wait_for(device);
        fastest = fastest.min(start.elapsed().as_nanos() / together);
    }
    fastest
}

/// Kernels that a step launches, by the lines that CubeCL writes for them into [`LAUNCHES`].
fn launches(device: &Device, step: &mut dyn FnMut()) -> usize {
    const STEPS: usize = 4;
    let mut lines_after_steps = || {
        (0..STEPS).for_each(|_| step());
        wait_for(device);
        // A thread of its own writes them.
        let lines = || fs::read_to_string(LAUNCHES).map_or(0, |text| text.lines().count());
        let mut before = lines();
        loop {
            thread::sleep(Duration::from_millis(300));
            let now = lines();
            if now == before {
                return now;
            }
            before = now;
        }
    };
    // The first steps try kernels out.
    let before = lines_after_steps();
    (lines_after_steps() - before) / STEPS
}

/// Obeys lines on standard input.
fn serve(name: DeviceName) {
    let is_queued = !matches!(name, DeviceName::Flex | DeviceName::NdArray);
    let device = name.init().unwrap_or_else(|error| panic!("{error}")).autodiff();
    for line in io::stdin().lock().lines() {
        let line = line.expect("lines on standard input");
        let words = line.split_whitespace().collect::<Vec<_>>();
        let (&[what, net, mode, batch], repeats) = words.split_first_chunk().expect("`WHAT NET MODE BATCH`");
        let step = step(&device, net, mode, batch.parse().expect("a batch size"));
        let answer = step.map(|mut step| match (what, repeats) {
            ("time", [repeats]) => time(&device, is_queued, &mut *step, repeats.parse().expect("a number of repeats")),
            ("launches", []) => launches(&device, &mut *step) as u128,
            _ => panic!("expected `time NET MODE BATCH REPEATS` or `launches NET MODE BATCH`, found {line:?}"),
        });
        println!("{}", answer.map_or("none".to_owned(), |answer| answer.to_string()));
    }
}

/// A process of this program with a number of threads.
struct Server {
    process: Child,
    lines: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Server {
    fn new(device: &DeviceName, threads: usize) -> Self {
        Self::started(device, |command| command.env("RAYON_NUM_THREADS", threads.to_string()))
    }

    /// One whose CubeCL writes a line for every kernel that it launches.
    fn that_counts(device: &DeviceName, folder: &Path) -> Self {
        let config = format!("[profiling.logger]\nlevel = \"minimal\"\nfile = \"{LAUNCHES}\"\n");
        fs::write(folder.join("cubecl.toml"), config).expect("a folder that can be written to");
        Self::started(device, |command| command.current_dir(folder))
    }

    fn started(device: &DeviceName, setting: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut command = Command::new(env::current_exe().expect("this program has a path"));
        setting(&mut command).args(["--serve", "--device", &device.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("this program starts");
        let lines = process.stdin.take().expect("its input is a pipe");
        let answers = BufReader::new(process.stdout.take().expect("its output is a pipe"));
        Self { process, lines, answers }
    }

    /// Milliseconds of a step.
    fn milliseconds(&mut self, case: &Case) -> f64 {
        // Enough steps for a fastest one, and no more than a round can wait for.
        let repeats = (512 / case.batch).clamp(2, 30);
        self.answer(&format!("time {} {} {} {repeats}", case.net, case.mode, case.batch)) / 1e6
    }

    fn answer(&mut self, line: &str) -> f64 {
        writeln!(self.lines, "{line}").expect("it reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        answer.trim().parse().expect("a network that is there")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One thing that is timed.
#[derive(Clone, PartialEq)]
struct Case {
    net: String,
    mode: String,
    batch: usize,
    threads: usize,
}

impl Case {
    fn new(net: impl Into<String>, mode: impl Into<String>, batch: usize, threads: usize) -> Self {
        Self { net: net.into(), mode: mode.into(), batch, threads }
    }
}

/// The times of cases, each once a round.
struct Times {
    cases: Vec<Case>,
    rounds: Vec<Vec<f64>>,
}

impl Times {
    fn of(device: &DeviceName, cases: Vec<Case>) -> Self {
        let mut servers = [1, 2].map(|threads| Server::new(device, threads));
        let mut round = |round: usize| {
            eprint!("\rround {} of {ROUNDS}, {} measurements each ", round + 1, cases.len());
            cases.iter().map(|case| servers[case.threads - 1].milliseconds(case)).collect()
        };
        let rounds = (0..ROUNDS).map(&mut round).collect();
        eprintln!();
        Self { cases, rounds }
    }

    fn place(&self, case: &Case) -> usize {
        self.cases.iter().position(|c| c == case).expect("a case that was timed")
    }

    /// Milliseconds of a step.
    fn milliseconds(&self, case: &Case) -> f64 {
        let place = self.place(case);
        median(self.rounds.iter().map(|round| round[place]))
    }

    fn ratio(&self, over: &Case, under: &Case) -> f64 {
        let (over, under) = (self.place(over), self.place(under));
        median(self.rounds.iter().map(|round| round[over] / round[under]))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn head(columns: &[&str]) {
    println!("| {} |\n|{}", columns.join(" | "), " ---: |".repeat(columns.len()).replacen(" ---: |", " --- |", 1));
}

fn row(name: &str, cells: impl IntoIterator<Item = String>) {
    println!("| {name} | {} |", cells.into_iter().collect::<Vec<_>>().join(" | "));
}

/// Networks in modes at batch 64 on two threads.
fn table(device: &DeviceName, nets: &[&str], modes: &[&str]) {
    let case = |net: &str, mode: &str| Case::new(net, mode, 64, 2);
    let times = Times::of(device, nets.iter().flat_map(|net| modes.iter().map(|mode| case(net, mode))).collect());
    println!("Milliseconds of a step, batch 64, two threads, medians of {ROUNDS} rounds:\n");
    head(&[&["network"], modes].concat());
    for net in nets {
        row(net, modes.iter().map(|mode| format!("{:.2}", times.milliseconds(&case(net, mode)))));
    }
    if !modes.contains(&"float") {
        return;
    }
    println!("\nImages a second of `float`, and times of a step over those of `float`:\n");
    head(&[&["network", "float, images/s"], modes].concat());
    for net in nets {
        let float = case(net, "float");
        let images = format!("{:.0}", 64e3 / times.milliseconds(&float));
        let ratios = modes.iter().map(|mode| format!("{:.2}", times.ratio(&case(net, mode), &float)));
        row(net, [images].into_iter().chain(ratios));
    }
}

/// Float and quantized steps of large batches, which fill a device.
fn batches(device: &DeviceName, nets: &[&str]) {
    const BATCHES: [usize; 3] = [64, 256, 1024];
    let case = |net: &str, mode: &str, batch: usize| Case::new(net, mode, batch, 2);
    let cases = |net| BATCHES.into_iter().flat_map(move |batch| ["float", "qat"].map(|mode| case(net, mode, batch)));
    let times = Times::of(device, nets.iter().flat_map(|net| cases(net)).collect());
    println!("Images a second of a quantized step by batch, then quantized over float, medians of {ROUNDS} rounds:\n");
    let of_batches = |what: &str| BATCHES.map(|batch| format!("{what}{batch}"));
    let columns = [of_batches(""), of_batches("qat / float, ")].concat();
    head(&[&["network"], &columns.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    for net in nets {
        let images = BATCHES.map(|batch| format!("{:.0}", 1e3 * batch as f64 / times.milliseconds(&case(net, "qat", batch))));
        let ratios = BATCHES.map(|batch| format!("{:.2}", times.ratio(&case(net, "qat", batch), &case(net, "float", batch))));
        row(net, images.into_iter().chain(ratios));
    }
}

/// Kernels that a step launches, batch 64.
fn count_launches(device: &DeviceName, nets: &[&str], modes: &[&str]) {
    println!("Kernels that a step launches, batch 64:\n");
    head(&[&["network"], modes].concat());
    for net in nets {
        let launches = |mode: &&str| {
            let folder = tempfile::tempdir().expect("a folder for the log");
            let mut server = Server::that_counts(device, folder.path());
            format!("{}", server.answer(&format!("launches {net} {mode} 64")))
        };
        row(net, modes.iter().map(launches));
    }
}

/// How a step grows with the batch, threads, channels, size of images and bits.
fn grow(device: &DeviceName, nets: &[&str]) {
    const BATCHES: [usize; 4] = [1, 8, 64, 512];
    const CHANNELS: [usize; 4] = [8, 16, 32, 64];
    const SIZES: [usize; 4] = [8, 16, 32, 64];
    let schemes: Vec<&str> = Preset::NAMES.iter().map(|(name, _)| *name).collect();
    let quantized = |net: &str, batch: usize, threads: usize| Case::new(net, "qat", batch, threads);
    let scheme = |net: &str, scheme: &str| Case::new(net, format!("qat:{scheme}"), 64, 2);
    let wide = |channels: usize, mode: &str| Case::new(format!("convs:{channels}:16"), mode, 64, 2);
    let large = |size: usize, mode: &str| Case::new(format!("convs:16:{size}"), mode, 64, 2);
    let mut cases = Vec::new();
    for net in nets {
        for batch in BATCHES {
            cases.extend([quantized(net, batch, 1), quantized(net, batch, 2), Case::new(*net, "float", batch, 2)]);
        }
    }
    for net in nets {
        cases.extend(schemes.iter().map(|name| scheme(net, name)));
    }
    for mode in ["float", "qat"] {
        cases.extend(CHANNELS.map(|channels| wide(channels, mode)));
        cases.extend(SIZES.map(|size| large(size, mode)));
    }
    let times = Times::of(device, cases);

    println!(
        "Microseconds of a quantized step for each image, two threads, by batch; then, of the same batches, one thread over two, and"
    );
    println!("quantized over float on two:\n");
    let batches = BATCHES.map(|batch| batch.to_string());
    let batches: Vec<&str> = batches.iter().map(String::as_str).collect();
    let one_over_two = batches.iter().map(|batch| format!("1 / 2 threads, {batch}"));
    let over_float = batches.iter().map(|batch| format!("qat / float, {batch}"));
    let columns: Vec<String> = one_over_two.chain(over_float).collect();
    head(&[&["network"], &batches[..], &columns.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    for net in nets {
        let images = BATCHES.map(|batch| format!("{:.0}", 1e3 * times.milliseconds(&quantized(net, batch, 2)) / batch as f64));
        let threads = BATCHES.map(|batch| format!("{:.2}", times.ratio(&quantized(net, batch, 1), &quantized(net, batch, 2))));
        let float = |batch| times.ratio(&quantized(net, batch, 2), &Case::new(*net, "float", batch, 2));
        row(net, images.into_iter().chain(threads).chain(BATCHES.map(|batch| format!("{:.2}", float(batch)))));
    }

    println!("\nTimes of a quantized step over those of `int8`, batch 64, two threads:\n");
    head(&[&["network"], &schemes[..]].concat());
    for net in nets {
        row(net, schemes.iter().map(|name| format!("{:.2}", times.ratio(&scheme(net, name), &scheme(net, "int8")))));
    }

    let growth = |what: &str, sizes: [usize; 4], case: &dyn Fn(usize, &str) -> Case| {
        println!("\nMilliseconds of a step by {what}, batch 64, two threads; in brackets the ratio to the column before:\n");
        let sizes_text = sizes.map(|size| size.to_string());
        head(&[&["mode"], &sizes_text.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
        for mode in ["float", "qat"] {
            row(
                mode,
                sizes.iter().enumerate().map(|(index, size)| {
                    let time = format!("{:.2}", times.milliseconds(&case(*size, mode)));
                    match index.checked_sub(1) {
                        Some(before) => format!("{time} ({:.2})", times.ratio(&case(*size, mode), &case(sizes[before], mode))),
                        None => time,
                    }
                }),
            );
        }
    };
    growth("channels (`convs`, 16 by 16)", CHANNELS, &wide);
    growth("width and height of the image (`convs`, 16 channels)", SIZES, &large);
}

fn main() {
    // As the command `qat` does.
    qat::keep_freed_memory();
    let arguments: Vec<String> = env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let named = arguments.iter().position(|argument| argument == "--device");
    let device = named.and_then(|at| arguments.get(at + 1)).map_or(Ok(DeviceName::Flex), |name| name.parse());
    let device = device.unwrap_or_else(|error| panic!("{error}"));
    if has("--serve") {
        return serve(device);
    }
    let picked = |all: &[&'static str]| -> Vec<&'static str> {
        let named: Vec<_> = all.iter().copied().filter(|name| has(name)).collect();
        if named.is_empty() { all.to_vec() } else { named }
    };
    if has("--grow") {
        return grow(&device, &picked(if NETS.iter().any(|net| has(net)) { &NETS } else { &GROWING }));
    }
    if has("--batches") {
        return batches(&device, &picked(&NETS));
    }
    if has("--launches") {
        return count_launches(&device, &picked(&NETS), &picked(&MODES));
    }
    table(&device, &picked(&NETS), &picked(&MODES));
}
