//! A case, and its files: what every engine is given and what it shall answer.

use std::{
    fs,
    num::NonZero,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use qat_export::{
    OnnxForm, OnnxOptions, TfliteOptions, c_obstacles, onnx_obstacles, rust_obstacles, tflite_axes, tflite_obstacles, write_onnx,
    write_tflite,
};
use qat_runtime::{Codes, IntegerModel, Rules};
use serde_json::{Map, Value, json};

use crate::{
    compilers::{Bench, has_gcc},
    peers::Array,
};

/// Programs that are compiled together, at most.
const PROGRAMS: usize = 24;

/// How generated programs are compiled.
#[derive(Clone, Copy)]
pub struct Flags {
    c: &'static [&'static str],
    rust: &'static [&'static str],
}

impl Flags {
    /// For many programs that run for a moment.
    pub const QUICK: Self = Self { c: &["-O1"], rust: &["-C", "opt-level=1"] };
    /// For few programs that run for long.
    pub const OPTIMIZED: Self = Self { c: &["-O2"], rust: &["-O"] };
}

/// One problem under the rules of every runtime; a reason where the rules do not have it.
pub struct Models(Vec<(Rules, Result<IntegerModel, String>)>);

impl Models {
    pub fn by(model: impl Fn(Rules) -> Result<IntegerModel, String>) -> Self {
        Self(Rules::NAMES.iter().map(|&(_, rules)| (rules, model(rules))).collect())
    }

    fn of(&self, rules: Rules) -> Result<&IntegerModel, &String> {
        let (_, model) = self.0.iter().find(|(named, _)| *named == rules).expect("all rules are there");
        model.as_ref()
    }
}

/// One cell of the matrix in one kind of scales, for all engines.
pub struct Case {
    pub op: &'static str,
    pub width: &'static str,
    pub granularity: &'static str,
    pub kind: &'static str,
    pub models: Models,
    pub samples: usize,
    /// Codes of all samples.
    pub x: Codes,
    /// The class of each sample; none for operations.
    pub labels: Vec<u8>,
}

/// Engines and whose arithmetic they have.
const ENGINES: [(&str, Rules); 7] = [
    ("onnx-qdq", Rules::OnnxRuntime),
    ("onnx-qop", Rules::OnnxRuntime),
    ("litert", Rules::LiteRt),
    ("litert-reference", Rules::LiteRtReference),
    ("tflite-micro", Rules::TfliteMicro),
    ("c", Rules::TfliteMicro),
    ("rust", Rules::TfliteMicro),
];

/// Writes every file of every case and `cases.json`, which lists them.
pub fn write(folder: &Path, seed: u64, cases: &[Case], flags: Flags) {
    let mut entries: Vec<Value> = Vec::new();
    // For each case its model and input where C and Rust have it.
    let mut programs: Vec<(usize, &IntegerModel, &Codes)> = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let at = |name: &str| format!("{index:04}.{name}");
        let mut engines = Map::new();
        for (_, model) in &case.models.0 {
            if let Ok(model) = model {
                let y = expected(model, case);
                let shape = [&[case.samples], model.output_info().shape.as_slice()].concat();
                Array::codes(y.view(), &shape).write(&folder.join(at(&format!("{}.y.npy", model.rules.name()))));
                let shape = [&[case.samples], model.input_info().shape.as_slice()].concat();
                Array::codes(case.x.view(), &shape).write(&folder.join(at("x.npy")));
            }
        }
        for (engine, rules) in ENGINES {
            let entry =
                match case.models.of(rules).map_err(String::clone).and_then(|model| file(folder, &at(engine), engine, model)) {
                    Err(refused) => json!({ "refused": refused }),
                    Ok(mut entry) => {
                        entry.insert("y".into(), at(&format!("{}.y.npy", rules.name())).into());
                        Value::Object(entry)
                    }
                };
            if engine == "c" && entry.get("refused").is_none() {
                programs.push((index, case.models.of(rules).expect("it has a file"), &case.x));
            }
            engines.insert(engine.to_owned(), entry);
        }
        let x = at("x.npy");
        let Case { op, width, granularity, kind, labels, .. } = case;
        entries.push(json!({
            "op": op, "width": width, "granularity": granularity, "kind": kind, "x": x, "engines": engines, "labels": labels,
        }));
    }
    println!("{} cases, {} of them as programs", cases.len(), programs.len());
    run_programs(folder, &programs, flags);
    let all = json!({ "seed": seed, "c": has_gcc(), "cases": entries });
    fs::write(folder.join("cases.json"), serde_json::to_vec_pretty(&all).unwrap()).unwrap();
}

/// What the engine gives, whose fast kernels must agree with the reference ones.
fn expected(model: &IntegerModel, case: &Case) -> Codes {
    let y = qat_export::verify::integer_codes(model, &case.x).unwrap();
    if case.labels.is_empty() {
        assert!(y == model.run_reference(&case.x).unwrap(), "{}: kernels differ", case.op);
    }
    y
}

/// Writes the engine's file; what the format says where it cannot hold the model.
fn file(folder: &Path, name: &str, engine: &str, model: &IntegerModel) -> Result<Map<String, Value>, String> {
    let first = |obstacles: Vec<qat_export::Obstacle>| match obstacles.into_iter().next() {
        Some(obstacle) => Err(obstacle.to_string()),
        None => Ok(()),
    };
    let mut entry = Map::new();
    match engine {
        "onnx-qdq" | "onnx-qop" => {
            let form = if engine == "onnx-qdq" { OnnxForm::Qdq } else { OnnxForm::QOperator };
            let options = OnnxOptions { form, ..OnnxOptions::default() };
            first(onnx_obstacles(model, &options))?;
            let name = format!("{name}.onnx");
            write_onnx(model, &options, &folder.join(&name)).unwrap();
            entry.insert("file".into(), name.into());
        }
        "c" => {
            first(c_obstacles(model))?;
            entry.insert("found".into(), format!("{name}.npy").into());
        }
        "rust" => {
            first(rust_obstacles(model))?;
            entry.insert("found".into(), format!("{name}.npy").into());
        }
        _ => {
            let options = TfliteOptions::default();
            first(tflite_obstacles(model, &options).unwrap())?;
            let name = format!("{name}.tflite");
            write_tflite(model, &options, &folder.join(&name)).unwrap();
            let axes = tflite_axes(model);
            entry.insert("file".into(), name.into());
            entry.insert("input_axes".into(), axes.input.into());
            entry.insert("output_axes".into(), axes.output.into());
        }
    }
    Ok(entry)
}

/// Compiles and runs the programs of both languages, some at a time on each core, and writes what they give.
fn run_programs(folder: &Path, programs: &[(usize, &IntegerModel, &Codes)], flags: Flags) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let chunks: Vec<_> = programs.chunks(programs.len().div_ceil(4 * threads).clamp(1, PROGRAMS)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let place = tempfile::tempdir().unwrap();
            let models: Vec<IntegerModel> = chunk.iter().map(|(_, model, _)| (*model).clone()).collect();
            let inputs: Vec<Codes> = chunk.iter().map(|(_, _, x)| (*x).clone()).collect();
            let bench = Bench { folder: place.path(), models: &models, inputs: &inputs };
            bench.write_inputs();
            let keep = |engine: &str, found: Vec<Codes>| {
                for ((index, model, x), found) in chunk.iter().zip(found) {
                    let samples = x.len() / model.input_info().elements().unwrap();
                    let shape = [&[samples], model.output_info().shape.as_slice()].concat();
                    Array::codes(found.view(), &shape).write(&folder.join(format!("{index:04}.{engine}.npy")));
                }
            };
            if has_gcc() {
                keep("c", bench.c(flags.c));
            }
            keep("rust", bench.rust(flags.rust));
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}
