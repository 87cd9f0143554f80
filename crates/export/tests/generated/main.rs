//! Generated C and Rust, compiled and run, give the very codes of the engine: the arithmetic of TFLite-Micro, 0 codes different.

mod compilers;
mod deploy;
mod mlperf;
mod problems;
mod texts;

use compilers::{Bench, has_gcc};
use problems::{Random, codes};
use qat_runtime::{CodeType, Codes, IntegerModel, WeightBits};

/// Input codes of `samples` samples, the first ones all lowest, all highest and all zero.
fn inputs(model: &IntegerModel, seed: u64, samples: usize) -> Codes {
    let info = model.input_info();
    let length: usize = info.shape.iter().product();
    let mut random = Random(seed);
    let mut all = Codes::zeros(info.code_type, 0);
    for code in [info.code_type.min(), info.code_type.max(), 0] {
        let constant = match info.code_type {
            CodeType::Int8 => Codes::Int8(vec![code as i8; length]),
            CodeType::Int16 => Codes::Int16(vec![code as i16; length]),
            CodeType::Int32 => Codes::Int32(vec![code; length]),
        };
        all.extend(constant.view());
    }
    all.extend(codes(&mut random, info.code_type, length * samples).view());
    all
}

/// How programs are compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Build {
    /// With every check that the compilers have.
    Checked,
    /// As a user would.
    Optimized,
    /// Both.
    Both,
}

/// Compares programs of the models with the engine on codes of all kinds.
fn compare(names: &[String], models: &[IntegerModel], samples: usize, build: Build) {
    let inputs: Vec<Codes> = models.iter().enumerate().map(|(index, model)| inputs(model, 77 + index as u64, samples)).collect();
    let expected: Vec<Codes> = models.iter().zip(&inputs).map(|(model, inputs)| model.run_reference(inputs).unwrap()).collect();
    compare_with(&expected, names, models, &inputs, build);
}

/// Compiles the models in both languages and compares all outputs with the engine's, which are expected.
fn compare_with(expected: &[Codes], names: &[String], models: &[IntegerModel], inputs: &[Codes], build: Build) {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench { folder: folder.path(), models, inputs };
    bench.write_inputs();
    let check = |how: &str, found: &[Codes]| {
        let mut compared = 0;
        for ((name, expected), found) in names.iter().zip(expected).zip(found) {
            let (expected, found) = (expected.to_i32s(), found.to_i32s());
            assert_eq!(expected.len(), found.len(), "{how}: {name}");
            let different = expected.iter().zip(&found).filter(|(a, b)| a != b).count();
            let first = expected.iter().zip(&found).position(|(a, b)| a != b);
            let first = first.map(|at| (at, expected[at], found[at]));
            assert_eq!(different, 0, "{how}: {name}: of {} codes; the first: {first:?}", expected.len());
            compared += expected.len();
        }
        println!("{how}: {} models, {compared} codes compared, 0 different", names.len());
    };
    let (checked, optimized) = (build != Build::Optimized, build != Build::Checked);
    if has_gcc() && checked {
        check("C with sanitizers", &bench.c(&["-O0", "-fsanitize=undefined,address", "-fno-sanitize-recover=all"]));
    }
    if has_gcc() && optimized {
        check("C", &bench.c(&["-O3"]));
    }
    if checked {
        check("Rust with overflow checks", &bench.rust(&["-C", "overflow-checks=on", "-C", "debug-assertions=on"]));
    }
    if optimized {
        check("Rust", &bench.rust(&["-O"]));
    }
}

#[test]
fn every_operation_gives_the_codes_of_the_engine() {
    let seed = 20_261_124;
    println!("seed {seed}");
    let problems = problems::operations(seed);
    let names: Vec<String> = problems.iter().map(|problem| problem.name.clone()).collect();
    let models: Vec<IntegerModel> = problems.into_iter().map(|problem| problem.model).collect();
    compare(&names, &models, 20, Build::Checked);
}

#[test]
fn whole_networks_give_the_codes_of_the_engine() {
    let networks = [
        ("lenet", problems::lenet(1, CodeType::Int8, WeightBits::Eight)),
        ("lenet of 4-bit weights", problems::lenet(2, CodeType::Int8, WeightBits::Four)),
        ("lenet of 16-bit codes", problems::lenet(3, CodeType::Int16, WeightBits::Eight)),
        ("residual", problems::residual(4)),
        ("separable", problems::separable(5)),
        ("recurrent", problems::recurrent(6)),
        ("mixed", problems::mixed(7)),
    ];
    let (names, models): (Vec<_>, Vec<_>) = networks.into_iter().map(|(name, model)| (name.to_owned(), model)).unzip();
    compare(&names, &models, 50, Build::Both);
}
