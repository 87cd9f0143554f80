//! Times the engine on LeNet, ResNet-8 and ResNet-20 with random weights.
//!
//! Alone it prints a table: `cargo bench -p qat-runtime --bench engine`. With `--serve` it obeys lines on standard input, so that
//! `benches/peers/compare.py` can take turns between it and another runtime:
//!
//! - `model NAME`: describes the model, line by line, up to `end`
//! - `run NAME SAMPLES`: the codes of an input and of its output, each a line of hexadecimal
//! - `time NAME SAMPLES THREADS REPEATS`: nanoseconds of one run, the fastest of the repeats, and the mean of those that the
//!   program's first thread was on a processor, or 0 where the system does not tell

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    fmt::Write as _,
    io::{self, BufRead, Write as _},
    time::Instant,
};

use common::{Random, lenet_wide, resnet};
use qat_runtime::{Engine, IntegerModel, Level, Op, Rules, Weights};

const NETS: [&str; 3] = ["lenet", "resnet8", "resnet20"];
const SEED: u64 = 20_261_124;

fn net(name: &str) -> IntegerModel {
    match name {
        "lenet" => lenet_wide(SEED),
        "resnet8" => resnet(1, SEED),
        "resnet20" => resnet(3, SEED),
        other => panic!("expected one of {NETS:?}, found {other:?}"),
    }
}

/// Products of a sample.
fn products(model: &IntegerModel) -> usize {
    let node = |node: &qat_runtime::Node| match &node.op {
        Op::Conv2d(op) => {
            let positions: usize = model.values[node.output.0].shape[1..].iter().product();
            op.weights.codes.len() * positions
        }
        Op::Linear(op) => op.weights.codes.len(),
        _ => 0,
    };
    model.nodes.iter().map(node).sum()
}

/// Nanoseconds of the fastest of some runs: what other programs on the machine take away only adds.
fn time(engine: &mut Engine, codes: &[i8], repeats: usize) -> u128 {
    let mut once = || {
        let start = Instant::now();
        std::hint::black_box(engine.run(std::hint::black_box(codes)).expect("whole samples"));
        start.elapsed().as_nanos()
    };
    once();
    (0..repeats.max(1)).map(|_| once()).min().expect("at least one repeat")
}

/// Nanoseconds that this thread has been on a processor.
fn busy() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn hex(bytes: impl IntoIterator<Item = u8>) -> String {
    bytes.into_iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("strings take all text");
        text
    })
}

fn numbers(list: &[usize]) -> String {
    list.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

fn constants(weights: &Weights) -> String {
    let codes = hex(weights.codes.unpack().into_iter().map(i8::cast_unsigned));
    let scale = hex(weights.scale.iter().flat_map(|scale| scale.to_le_bytes()));
    let bias = hex(weights.bias.iter().flat_map(|&bias| (bias as i32).to_le_bytes()));
    format!("weight={codes} weight_scale={scale} bias={bias}")
}

/// One line for each value and node: words and `key=value` pairs.
fn describe(model: &IntegerModel) -> String {
    let mut text = format!("input {}\noutput {}\n", model.input.0, model.output.0);
    let mut line = |line: String| text.extend([line.as_str(), "\n"]);
    for value in &model.values {
        let scale = hex(value.qparams.scale.to_le_bytes());
        line(format!("value scale={scale} zero_point={} shape={}", value.qparams.zero_point, numbers(&value.shape)));
    }
    for node in &model.nodes {
        let attributes = match &node.op {
            Op::Conv2d(op) => {
                let (kernel, stride, padding) = (numbers(&op.kernel), numbers(&op.stride), numbers(&op.padding));
                format!("kernel={kernel} stride={stride} padding={padding} c_out={} {}", op.c_out, constants(&op.weights))
            }
            Op::Linear(op) => format!("c_out={} {}", op.d_output, constants(&op.weights)),
            Op::MaxPool2d(op) => format!("kernel={} stride={}", numbers(&op.kernel), numbers(&op.stride)),
            _ => String::new(),
        };
        let inputs: Vec<usize> = node.inputs.iter().map(|id| id.0).collect();
        line(format!("node {} inputs={} output={} {attributes}", node.op.kind(), numbers(&inputs), node.output.0));
    }
    text + "end\n"
}

fn engine(model: &IntegerModel, threads: usize) -> Engine<'_> {
    Engine::new(model).expect("a valid model").with_threads(threads)
}

fn serve() -> io::Result<()> {
    let models: Vec<(&str, IntegerModel)> = NETS.iter().map(|&name| (name, net(name))).collect();
    let model = |name: &str| &models.iter().find(|(other, _)| *other == name).expect("a known net").1;
    let mut engines: Vec<((String, usize), Engine)> = Vec::new();
    let input = |model: &IntegerModel, samples: usize| {
        Random::quiet(SEED).codes(samples * model.input_info().elements().expect("a valid model"))
    };
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| word.parse::<usize>().expect("a number");
        let answer = match words.as_slice() {
            ["model", name] => describe(model(name)),
            ["run", name, samples] => {
                let codes = input(model(name), number(samples));
                let output = model(name).run(&codes).expect("whole samples");
                let output = output.as_int8().expect("int8 codes").to_vec();
                [codes, output].map(|codes| hex(codes.into_iter().map(i8::cast_unsigned)) + "\n").concat()
            }
            ["time", name, samples, threads, repeats] => {
                let key = ((*name).to_owned(), number(threads));
                if !engines.iter().any(|(other, _)| *other == key) {
                    engines.push((key.clone(), engine(model(name), key.1)));
                }
                let (_, engine) = engines.iter_mut().find(|(other, _)| *other == key).expect("it was just made");
                let (codes, repeats) = (input(model(name), number(samples)), number(repeats));
                let before = busy();
                let fastest = time(engine, &codes, repeats);
                // One run more warms up.
                let mean = busy().zip(before).map_or(0, |(after, before)| (after - before) / (repeats as u64 + 1));
                format!("{fastest} {mean}\n")
            }
            other => panic!("expected model, run or time, found {other:?}"),
        };
        print!("{answer}");
        io::stdout().flush()?;
    }
    Ok(())
}

/// Products per nanosecond of one core that does nothing but dot products in registers; `None` without such instructions.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "instructions that were detected are called")]
fn peak() -> Option<f64> {
    use std::arch::x86_64::{
        _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512,
    };

    const CHAINS: usize = 12;
    const TURNS: usize = 1_000_000;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn turns(seed: i8) -> i32 {
        let (codes, weights) = (_mm512_set1_epi8(seed), _mm512_set1_epi8(seed / 2));
        let mut sums = [_mm512_setzero_si512(); CHAINS];
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, codes, weights);
            }
        }
        let all = sums.iter().fold(_mm512_setzero_si512(), |all, &sum| _mm512_add_epi32(all, sum));
        _mm512_reduce_add_epi32(all)
    }

    let found = ["avx512f", "avx512bw", "avx512vnni"];
    let has = std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512vnni");
    if !has {
        eprintln!("the processor has not all of {found:?}");
        return None;
    }
    let once = || {
        let start = Instant::now();
        // SAFETY: the instructions have been detected.
        std::hint::black_box(unsafe { turns(std::hint::black_box(3)) });
        start.elapsed().as_nanos()
    };
    let nanoseconds = (0..20).map(|_| once()).min().expect("some turns");
    Some((CHAINS * TURNS * 64) as f64 / nanoseconds as f64)
}

#[cfg(not(target_arch = "x86_64"))]
fn peak() -> Option<f64> {
    None
}

fn main() -> io::Result<()> {
    if std::env::args().any(|argument| argument == "--serve") {
        return serve();
    }
    if let Some(peak) = peak() {
        println!("dot products in registers, one core: {peak:.0} GMAC/s");
    }
    println!("{:10} {:16} {:12} {:>7} {:>7} {:>10} {:>8}", "net", "rules", "level", "samples", "threads", "us/sample", "GMAC/s");
    for name in NETS {
        let mut model = net(name);
        for (rules_name, rules) in Rules::NAMES {
            model.rules = rules;
            if let Err(error) = model.validate() {
                eprintln!("{name} is left out: {error}");
                continue;
            }
            for level in Level::available() {
                // Rules other than the first differ in their roundings alone.
                let all = [(1, 1), (64, 1), (1, 2), (64, 2)];
                for &(samples, threads) in if rules == Rules::OnnxRuntime { &all[..] } else { &all[..1] } {
                    let mut engine = Engine::with_level(&model, level).expect("a valid model").with_threads(threads);
                    let codes = Random::quiet(SEED).codes(samples * model.input_info().elements().expect("a valid model"));
                    let repeats = if samples == 1 { 400 } else { 15 };
                    let nanoseconds = time(&mut engine, &codes, repeats) as f64 / samples as f64;
                    let (rate, level) = (products(&model) as f64 / nanoseconds, level.name());
                    let time = nanoseconds / 1000.0;
                    println!("{name:10} {rules_name:16} {level:12} {samples:7} {threads:7} {time:10.2} {rate:8.1}");
                }
            }
        }
    }
    Ok(())
}
