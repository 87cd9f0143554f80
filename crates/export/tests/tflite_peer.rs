//! LiteRT, its reference kernels and TFLite-Micro against the integer engine, code for code.

mod low_bits_net;
mod models;
mod peers;

use std::path::{Path, PathBuf};

use models::{Draw, Random, Scales, exact, input_codes, mlp, operations, residual};
use peers::{Array, Peer, compare};
use qat_export::{Edges, Target, TfliteOptions, convert, read_tflite, tflite_axes, tflite_obstacles, with_rules, write_tflite};
use qat_formats::tflite::TensorType;
use qat_runtime::{CodeType, Codes, IntegerModel, ValueInfo, WeightBits, dequantize};

const SAMPLES: usize = 24;

/// Samples of a shape with their axes in the order of the file: axis `i` there is axis `axes[i]` here.
fn in_file(codes: &Codes, shape: &[usize], axes: &[usize]) -> Codes {
    fn pick<T: Copy>(list: &[T], shape: &[usize], axes: &[usize]) -> Vec<T> {
        let count: usize = shape.iter().product();
        let strides: Vec<usize> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        (0..list.len())
            .map(|at| {
                let (mut rest, mut source) = (at % count, at / count * count);
                for &axis in axes.iter().rev() {
                    source += rest % shape[axis] * strides[axis];
                    rest /= shape[axis];
                }
                list[source]
            })
            .collect()
    }
    match codes {
        Codes::Int8(codes) => Codes::Int8(pick(codes, shape, axes)),
        Codes::Int16(codes) => Codes::Int16(pick(codes, shape, axes)),
        Codes::Int32(codes) => Codes::Int32(pick(codes, shape, axes)),
    }
}

/// A model, what goes in and what the engine gives, both as they stand in the file.
struct Case {
    name: String,
    model: IntegerModel,
    input: Array,
    expected: Codes,
}

impl Case {
    fn new(name: String, model: IntegerModel, seed: u64) -> Self {
        let axes = tflite_axes(&model);
        let (x, y) = (&model.input_info().shape, &model.output_info().shape);
        let input = input_codes(&model, SAMPLES, &mut Random(seed));
        let expected = in_file(&model.run(&input).unwrap(), y, &axes.output);
        let shape: Vec<usize> = [SAMPLES].into_iter().chain(axes.input.iter().map(|&axis| x[axis])).collect();
        let input = Array::codes(in_file(&input, x, &axes.input).view(), &shape);
        Self { name, model, input, expected }
    }
}

/// Runs every case in the peer; panics if there are refusals or differences.
fn equal(peer: Peer, cases: &[Case], options: &TfliteOptions, arguments: &[&str]) {
    let Some(python) = peer.python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut jobs = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let path: PathBuf = directory.path().join(format!("{index}.tflite"));
        write_tflite(&case.model, options, &path).unwrap();
        jobs.push((path, case.input.clone()));
    }
    let mut failures = Vec::new();
    for (case, result) in cases.iter().zip(peer.run_all(&python, &jobs, arguments)) {
        let name = format!("{peer:?} {}", case.name);
        match result {
            Ok(found) => match compare(&name, &case.expected, &found) {
                (0, 0) => {}
                // Their tables of 513 points come from the C library's f32 functions, which are a bit off now and then.
                (different, 1) if case.name.starts_with("gelu") && case.model.input_info().code_type == CodeType::Int16 => {
                    assert!(different * 100 < case.expected.len(), "{name}: {different} differ");
                }
                (different, largest) => failures.push(format!("{name}: {different} differ, by up to {largest}")),
            },
            Err(reason) => failures.push(format!("{name}: refused: {reason}")),
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// Adds a case for every operation that the peer's rules and the format have, for every seed and kind of scale; `without` are
/// those that they have not, `rarely` those that they have not for some scales.
fn add_cases(cases: &mut Vec<Case>, peer: Peer, draw: Draw, without: &[&str], rarely: &[&str]) {
    for seed in 0..3 {
        for scales in [Scales::Random, Scales::Ties, Scales::Saturating] {
            for (name, model) in operations(seed, Draw { scales, ..draw }) {
                let refusal = match with_rules(&model, peer.rules()) {
                    Err(error) => error.to_string(),
                    Ok(model) => match &tflite_obstacles(&model, &TfliteOptions::default()).unwrap()[..] {
                        [] => {
                            cases.push(Case::new(format!("{name}, seed {seed}"), model, seed));
                            continue;
                        }
                        [obstacle, ..] => obstacle.to_string(),
                    },
                };
                assert!([without, rarely].concat().contains(&name), "{peer:?} {name}: {refusal}");
            }
        }
    }
    let is_there = |name: &&&str| cases.iter().any(|case| case.name.starts_with(&format!("{name},")));
    assert_eq!(without.iter().find(is_there), None, "{peer:?} has it");
    assert_eq!(rarely.iter().find(|name| !is_there(name)), None, "{peer:?} has it not");
}

/// Pools that TFLite has not: with dilation, and with a padding of its own that does not count.
const NO_POOLS: [&str; 2] = ["max_pool2d_dilated", "avg_pool2d_padded"];

#[test]
fn every_operation_in_8_bits() {
    for peer in Peer::ALL {
        let gelu: &[&str] = if peer == Peer::TfliteMicro { &["gelu", "gelu_tanh"] } else { &[] };
        let mut cases = Vec::new();
        for per_tensor in [false, true] {
            let draw = Draw { per_tensor, ..Draw::int8(peer.rules()) };
            add_cases(&mut cases, peer, draw, &[&NO_POOLS, gelu].concat(), &[]);
        }
        equal(peer, &cases, &TfliteOptions::default(), &[]);
    }
}

#[test]
fn every_operation_in_16_bits() {
    for peer in Peer::ALL {
        let gelu: &[&str] = if peer == Peer::TfliteMicro { &["gelu", "gelu_tanh"] } else { &[] };
        let mut cases = Vec::new();
        let draw = Draw { code_type: CodeType::Int16, ..Draw::int8(peer.rules()) };
        // For steps of some powers of two LiteRT has a kernel with a rule of its own.
        let rarely: &[&str] = if peer == Peer::LiteRt { &["sigmoid", "tanh"] } else { &[] };
        add_cases(&mut cases, peer, draw, &[&NO_POOLS, gelu, &["hard_swish"]].concat(), rarely);
        equal(peer, &cases, &TfliteOptions::default(), &[]);
    }
}

#[test]
fn narrow_weights() {
    for peer in Peer::ALL {
        for bits in [WeightBits::Four, WeightBits::Two] {
            for code_type in [CodeType::Int8, CodeType::Int16] {
                let mut cases = Vec::new();
                for per_tensor in [false, true] {
                    let draw = Draw { bits, per_tensor, code_type, ..Draw::int8(peer.rules()) };
                    for seed in 0..3 {
                        for (name, model) in operations(seed, draw) {
                            if model.nodes.iter().any(|node| node.op.weights().is_some()) {
                                let model = with_rules(&model, peer.rules()).unwrap();
                                cases.push(Case::new(format!("{name}, {bits:?} bits, seed {seed}"), model, seed));
                            }
                        }
                    }
                }
                equal(peer, &cases, &TfliteOptions::default(), &[]);
            }
        }
    }
}

/// Codes of fewer bits than 8 are confined by MAXIMUM and MINIMUM.
#[test]
fn networks_of_few_bits() {
    for (peer, target) in [(Peer::LiteRt, Target::Tflite), (Peer::TfliteMicro, Target::Tflm)] {
        let mut cases = Vec::new();
        for (name, config) in low_bits_net::schemes() {
            let model = convert(&low_bits_net::trained(&config, 70), target).unwrap();
            assert!(tflite_obstacles(&model, &TfliteOptions::default()).unwrap().is_empty(), "{name}");
            cases.push(Case::new(name.into(), model, 70));
        }
        equal(peer, &cases, &TfliteOptions::default(), &[]);
    }
}

#[test]
fn whole_networks() {
    for peer in Peer::ALL {
        let mut cases = Vec::new();
        for seed in 0..3 {
            for (name, model) in [("residual", residual(seed)), ("exact", exact(seed)), ("mlp", mlp(seed))] {
                let Ok(model) = with_rules(&model, peer.rules()) else { panic!("{name}") };
                if tflite_obstacles(&model, &TfliteOptions::default()).unwrap().is_empty() {
                    cases.push(Case::new(format!("{name}, seed {seed}"), model, seed));
                }
            }
        }
        equal(peer, &cases, &TfliteOptions::default(), &[]);
        equal(peer, &cases, &TfliteOptions { edges: Edges::Uint8, ..TfliteOptions::default() }, &[]);
        if peer != Peer::TfliteMicro {
            equal(peer, &cases, &TfliteOptions::default(), &["--resize"]);
        }
    }
}

/// Files of other tools, in the folder that `QAT_TFLITE_FILES` names: those that are read equal every runtime that runs them.
#[test]
fn files_of_other_tools() {
    let Some(folder) = std::env::var_os("QAT_TFLITE_FILES") else {
        println!("skipped: QAT_TFLITE_FILES names no folder");
        return;
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "tflite"));
    files.sort();
    let mut failures = Vec::new();
    for peer in Peer::ALL {
        let Some(python) = peer.python() else { continue };
        let (mut jobs, mut expected) = (Vec::new(), Vec::new());
        for path in &files {
            let model = match read_tflite(path, peer.rules()) {
                Ok(model) => model,
                Err(error) => {
                    println!("{peer:?}: {error}");
                    continue;
                }
            };
            let (x, y) = (model.input_info(), model.output_info());
            let samples = if x.elements().unwrap() > 50_000 { 1 } else { 16 };
            let codes = input_codes(&model, samples, &mut Random(9));
            let shape = [&[samples], x.shape.as_slice()].concat();
            let real = |codes: &Codes, info: &ValueInfo| -> Vec<f32> {
                codes.to_i32s().into_iter().map(|code| dequantize(code, info.qparams)).collect()
            };
            let [input, output] = edge_types(path);
            let input = match input {
                TensorType::FLOAT32 => Array::floats(&real(&codes, x), &shape),
                _ => Array::codes(codes.view(), &shape),
            };
            jobs.push((path.clone(), input));
            let found = model.run(&codes).unwrap();
            let reals = (output == TensorType::FLOAT32).then(|| real(&found, y));
            expected.push((found, reals));
        }
        for (((path, _), expected), result) in jobs.iter().zip(&expected).zip(peer.run_all(&python, &jobs, &[])) {
            let name = format!("{peer:?} {}", path.file_name().unwrap().display());
            match result {
                Ok(found) => {
                    let is_equal = match &expected.1 {
                        Some(reals) => found.reals() == *reals,
                        None => compare(&name, &expected.0, &found) == (0, 0),
                    };
                    if !is_equal {
                        failures.push(name);
                    }
                }
                Err(reason) => println!("{name} refused: {reason}"),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Types of a file's input and output.
fn edge_types(path: &Path) -> [TensorType; 2] {
    let file = qat_formats::tflite::read(&std::fs::read(path).unwrap()).unwrap();
    let graph = &file.subgraphs[0];
    [graph.inputs[0], graph.outputs[0]].map(|tensor| graph.tensors[tensor as usize].r#type)
}
