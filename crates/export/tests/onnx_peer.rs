//! ONNX Runtime against the integer engine, code for code.
//!
//! Needs a Python with `tests/peers/requirements.txt`, named by `QAT_PYTHON`; without it each test says that it is skipped.

mod models;

use std::{env, ffi::OsStr, fs, path::Path, process::Command};

use models::{Random, averages, exact, mlp, residual};
use qat_export::{ActivationCodes, OnnxOptions, write_onnx};
use qat_runtime::IntegerModel;

const SAMPLES: usize = 256;

/// Runs a script of `tests/peers`, and fails if the script does.
fn script(python: &OsStr, name: &str, arguments: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers").join(name);
    let output = Command::new(python).arg(path).args(arguments).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} {arguments:?}: {text}");
    print!("{name}: {text}");
}

/// Writes int8 codes as version 1.0 of NumPy's format.
fn write_npy(path: &Path, shape: &[usize], codes: &[i8]) {
    let shape: String = shape.iter().map(|size| format!("{size},")).collect();
    let mut header = format!("{{'descr': '|i1', 'fortran_order': False, 'shape': ({shape}), }}");
    // Magic, version, length and header fill a multiple of 64 bytes.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header = format!("{header:<width$}\n", width = length - 1);
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(codes.iter().map(|code| code.cast_unsigned()));
    fs::write(path, bytes).unwrap();
}

/// Every layer fuses, and every output code is the engine's.
fn equal(model: &IntegerModel, seed: u64, activation: ActivationCodes) {
    let Some(python) = env::var_os("QAT_PYTHON") else {
        println!("skipped: QAT_PYTHON names no Python");
        return;
    };
    println!("input seed {seed}");
    let mut random = Random(seed);
    let input = &model.values[model.input.0].shape;
    let count = SAMPLES * input.iter().product::<usize>();
    let codes: Vec<i8> = (0..count).map(|_| random.int(-128, 127) as i8).collect();
    let expected = model.run(&codes).unwrap().as_int8().unwrap().to_vec();

    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let [onnx, x, engine, runtime] = ["model.onnx", "x.npy", "engine.npy", "runtime.npy"].map(path);
    write_onnx(model, &OnnxOptions { activation }, onnx.as_ref()).unwrap();
    let batch = |shape: &[usize]| [&[SAMPLES], shape].concat();
    write_npy(x.as_ref(), &batch(input), &codes);
    write_npy(engine.as_ref(), &batch(&model.values[model.output.0].shape), &expected);

    let flags: &[&str] = match activation {
        ActivationCodes::Uint8 => &[],
        ActivationCodes::Int8 => &["--int8-allowed"],
    };
    script(&python, "check_fusion.py", &[&[onnx.as_str()], flags].concat());
    script(&python, "run_onnx.py", &[&[onnx.as_str(), &x, &runtime, "--codes"], flags].concat());
    script(&python, "compare_codes.py", &[&engine, &runtime]);
}

#[test]
fn a_residual_net_equals_onnx_runtime() {
    for seed in 0..5 {
        equal(&residual(seed), seed, ActivationCodes::Uint8);
    }
}

#[test]
fn fully_connected_layers_equal_onnx_runtime() {
    for seed in 0..5 {
        equal(&mlp(seed), seed, ActivationCodes::Uint8);
    }
}

#[test]
fn layers_with_every_attribute_equal_onnx_runtime() {
    for seed in 0..5 {
        equal(&exact(seed), seed, ActivationCodes::Uint8);
        equal(&exact(seed), seed, ActivationCodes::Int8);
    }
}

#[test]
fn padded_averages_equal_onnx_runtime() {
    for seed in 0..5 {
        equal(&averages(seed), seed, ActivationCodes::Uint8);
    }
}
