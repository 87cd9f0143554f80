//! LiteRT, its reference kernels and TFLite-Micro against the integer engine, code for code.

mod models;
mod peers;

use std::path::PathBuf;

use models::{Draw, Random, Scales, input_codes, operations};
use peers::{Array, Peer, compare};
use qat_export::{TfliteOptions, tflite_obstacles, with_rules, write_tflite};
use qat_runtime::{Codes, IntegerModel};

const SAMPLES: usize = 24;

/// The order of the file: an image `[c, h, w]` stands as `[h, w, c]`, and back where `to_file` is false.
fn turned(codes: &Codes, shape: &[usize], to_file: bool) -> Codes {
    let &[c, h, w] = shape else { return codes.clone() };
    let count = c * h * w;
    let source = |at: usize| {
        let (sample, at) = (at / count * count, at % count);
        sample
            + match to_file {
                true => at % c * h * w + at / c,
                false => at % (h * w) * c + at / (h * w),
            }
    };
    fn pick<T: Copy>(list: &[T], source: impl Fn(usize) -> usize) -> Vec<T> {
        (0..list.len()).map(|at| list[source(at)]).collect()
    }
    match codes {
        Codes::Int8(codes) => Codes::Int8(pick(codes, source)),
        Codes::Int16(codes) => Codes::Int16(pick(codes, source)),
        Codes::Int32(codes) => Codes::Int32(pick(codes, source)),
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
        let input = input_codes(&model, SAMPLES, &mut Random(seed));
        let expected = turned(&model.run(&input).unwrap(), &model.output_info().shape, true);
        let shape = [&[SAMPLES], model.input_info().shape.as_slice()].concat();
        let input = Array::codes(turned(&input, &model.input_info().shape, true).view(), &shape);
        Self { name, model, input, expected }
    }
}

/// Runs every case in the peer; panics if there are refusals or differences.
fn equal(peer: Peer, cases: &[Case], options: &TfliteOptions) {
    let Some(python) = peer.python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut jobs = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let path: PathBuf = directory.path().join(format!("{index}.tflite"));
        write_tflite(&case.model, options, &path).unwrap();
        jobs.push((path, case.input.clone()));
    }
    let mut failures = Vec::new();
    for (case, result) in cases.iter().zip(peer.run_all(&python, &jobs, &[])) {
        let name = format!("{peer:?} {}", case.name);
        match result {
            Ok(found) if compare(&name, &case.expected, &found) == (0, 0) => {}
            Ok(found) => failures.push(format!("{name}: {:?}", compare("", &case.expected, &found))),
            Err(reason) => failures.push(format!("{name}: refused: {reason}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// One case for every operation that the peer's rules and the format have; the others are named in `without`.
fn cases(peer: Peer, draw: Draw, seed: u64, without: &[&str]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, model) in operations(seed, draw) {
        let model = match with_rules(&model, peer.rules()) {
            Ok(model) => model,
            Err(error) => {
                assert!(without.contains(&name), "{name}: {error}");
                continue;
            }
        };
        let obstacles = tflite_obstacles(&model, &TfliteOptions::default()).unwrap();
        if !obstacles.is_empty() {
            assert!(without.contains(&name), "{name}: {}", obstacles[0]);
            continue;
        }
        assert!(!without.contains(&name), "{name} has neither an error nor an obstacle");
        cases.push(Case::new(format!("{name}, seed {seed}"), model, seed));
    }
    cases
}

const NO_FILE: [&str; 2] = ["max_pool2d", "avg_pool2d_padded"];

#[test]
fn every_operation_in_8_bits() {
    for peer in Peer::ALL {
        let mut all = Vec::new();
        for seed in 0..3 {
            for scales in [Scales::Random, Scales::Ties, Scales::Saturating] {
                for per_tensor in [false, true] {
                    let draw = Draw { scales, per_tensor, ..Draw::int8(peer.rules()) };
                    all.extend(cases(peer, draw, seed, &NO_FILE));
                }
            }
        }
        equal(peer, &all, &TfliteOptions::default());
    }
}
