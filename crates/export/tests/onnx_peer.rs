//! ONNX Runtime against the integer engine, code for code.
//!
//! Needs a Python with `tests/peers/requirements.txt`, named by `QAT_PYTHON`; without it each test says that it is skipped.

mod low_bits_net;
mod models;

use std::{env, fs, path::Path, process::Command};

use models::{Builder, Draw, Random, Scales, averages, chain, exact, input_codes, mlp, operations, residual};
use qat_export::{ActivationCodes, Interface, OnnxForm as Form, OnnxOptions, Target, WeightCodes, convert, write_onnx};
use qat_runtime::{CodeType, Codes, IntegerModel, Rules, WeightBits};

const SAMPLES: usize = 64;

/// Both forms.
const FORMS: [(&str, Form); 2] = [("qdq", Form::Qdq), ("qop", Form::QOperator)];

/// Writes codes as version 1.0 of NumPy's format.
fn write_npy(path: &Path, shape: &[usize], codes: &Codes) {
    let (kind, data): (&str, Vec<u8>) = match codes {
        Codes::Int8(codes) => ("|i1", codes.iter().map(|code| code.cast_unsigned()).collect()),
        Codes::Int16(codes) => ("<i2", codes.iter().flat_map(|code| code.to_le_bytes()).collect()),
        Codes::Int32(codes) => ("<i4", codes.iter().flat_map(|code| code.to_le_bytes()).collect()),
    };
    let shape: String = shape.iter().map(|size| format!("{size},")).collect();
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    // Magic, version, length and header fill a multiple of 64 bytes.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header = format!("{header:<width$}\n", width = length - 1);
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

/// Files of models with the codes that go in and come out, and the run of them all in ONNX Runtime.
struct Peer {
    directory: tempfile::TempDir,
    flags: Vec<&'static str>,
}

impl Peer {
    /// `None`, said aloud, where no Python is named.
    fn new(flags: &[&'static str]) -> Option<Self> {
        if env::var_os("QAT_PYTHON").is_none() {
            println!("skipped: QAT_PYTHON names no Python");
            return None;
        }
        Some(Self { directory: tempfile::tempdir().unwrap(), flags: flags.to_vec() })
    }

    fn add(&self, name: &str, model: &IntegerModel, seed: u64, options: &OnnxOptions) {
        let is_wide = model.values.iter().any(|value| value.code_type == CodeType::Int16);
        if options.form == Form::QOperator && is_wide {
            return println!("{name}: skipped: integer operators take no 16-bit codes");
        }
        let path = |end: &str| self.directory.path().join(format!("{name}.{end}"));
        println!("{name}: input seed {seed}");
        let codes = input_codes(model, SAMPLES, &mut Random(seed));
        let expected = model.run(&codes).unwrap();
        let batch = |shape: &[usize]| [&[SAMPLES], shape].concat();
        write_onnx(model, options, &path("onnx")).unwrap();
        write_npy(&path("x.npy"), &batch(&model.input_info().shape), &codes);
        write_npy(&path("y.npy"), &batch(&model.output_info().shape), &expected);
    }

    /// Every file passes the checker, every layer fuses, and every output code is the engine's.
    fn compare(self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/onnx_codes.py");
        let python = env::var_os("QAT_PYTHON").unwrap();
        let output = Command::new(python).arg(script).arg(self.directory.path()).args(&self.flags).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{text}");
        print!("{text}");
    }
}

#[test]
fn nets_equal_onnx_runtime() {
    let Some(peer) = Peer::new(&[]) else { return };
    type Net = fn(u64) -> IntegerModel;
    let nets: [(&str, Net); 4] = [("residual", residual), ("mlp", mlp), ("exact", exact), ("averages", averages)];
    for (name, net) in nets {
        for seed in 0..5 {
            let model = net(seed);
            for (form, option) in FORMS {
                peer.add(&format!("{name}-{seed}-{form}"), &model, seed, &OnnxOptions { form: option, ..Default::default() });
            }
        }
    }
    peer.compare();
}

/// Codes of fewer bits than 8 are confined behind an operator that is still fused, and by the same codes as in the engine.
#[test]
fn nets_of_few_bits_equal_onnx_runtime() {
    let Some(peer) = Peer::new(&[]) else { return };
    for (name, config) in low_bits_net::schemes() {
        for seed in [70, 80, 90] {
            let model = convert(&low_bits_net::trained(&config, seed), Target::Onnx).unwrap();
            for (form, option) in FORMS {
                let options = OnnxOptions { form: option, ..Default::default() };
                peer.add(&format!("{}-{seed}-{form}", name.replace(' ', "-")), &model, seed, &options);
            }
        }
    }
    peer.compare();
}

#[test]
fn int8_activations_equal_onnx_runtime_where_it_takes_them() {
    let Some(peer) = Peer::new(&["--int8-allowed"]) else { return };
    for seed in 0..5 {
        for (form, option) in FORMS {
            let options = OnnxOptions { form: option, activation: ActivationCodes::Int8, ..Default::default() };
            peer.add(&format!("exact-{seed}-{form}"), &exact(seed), seed, &options);
        }
    }
    for (name, model) in operations(7, Draw::int8(Rules::OnnxRuntime)) {
        // ONNX Runtime sums and averages uint8 codes in f32 with their zero points, so that int8 codes round otherwise.
        if matches!(name, "add" | "constant" | "avg_pool2d" | "avg_pool2d_padded" | "avg_pool2d_padding_counted") {
            continue;
        }
        for (form, option) in FORMS {
            let options = OnnxOptions { form: option, activation: ActivationCodes::Int8, ..Default::default() };
            peer.add(&format!("{name}-{form}"), &model, 7, &options);
        }
    }
    peer.compare();
}

#[test]
fn int8_activations_fuse_where_the_session_takes_them() {
    let Some(peer) = Peer::new(&["--int8-allowed", "--near", "3"]) else { return };
    let options = OnnxOptions { activation: ActivationCodes::Int8, ..Default::default() };
    for seed in 0..3 {
        peer.add(&format!("residual-{seed}"), &residual(seed), seed, &options);
        peer.add(&format!("averages-{seed}"), &averages(seed), seed, &options);
    }
    for (name, model) in operations(29, Draw::int8(Rules::OnnxRuntime)) {
        peer.add(name, &model, 29, &options);
    }
    peer.compare();
}

#[test]
fn every_operation_equals_onnx_runtime() {
    let Some(peer) = Peer::new(&[]) else { return };
    let all = [("random", Scales::Random), ("ties", Scales::Ties), ("saturating", Scales::Saturating)];
    for (kind, scales) in all {
        for (granularity, per_tensor) in [("channel", false), ("tensor", true)] {
            let draw = Draw { scales, per_tensor, ..Draw::int8(Rules::OnnxRuntime) };
            for (name, model) in operations(11, draw) {
                for (form, option) in FORMS {
                    let options = OnnxOptions { form: option, ..Default::default() };
                    peer.add(&format!("{name}-{kind}-{granularity}-{form}"), &model, 11, &options);
                }
            }
        }
    }
    peer.compare();
}

#[test]
fn chains_of_operations_equal_onnx_runtime() {
    let Some(peer) = Peer::new(&[]) else { return };
    for seed in 0..40 {
        let model = chain(seed, Draw::int8(Rules::OnnxRuntime));
        for (form, option) in FORMS {
            peer.add(&format!("chain-{seed}-{form}"), &model, seed, &OnnxOptions { form: option, ..Default::default() });
        }
    }
    peer.compare();
}

#[test]
fn narrow_weights_fuse_as_int8() {
    let Some(peer) = Peer::new(&[]) else { return };
    for bits in [WeightBits::Two, WeightBits::Four] {
        let draw = Draw { bits, ..Draw::int8(Rules::OnnxRuntime) };
        for (name, model) in operations(13, draw) {
            if model.nodes.iter().any(|node| node.op.weights().is_some()) {
                for (form, option) in FORMS {
                    let options = OnnxOptions { form: option, ..Default::default() };
                    peer.add(&format!("{name}-{}bit-{form}", bits.bits()), &model, 13, &options);
                }
            }
        }
    }
    peer.compare();
}

#[test]
fn files_whose_input_and_output_are_codes_give_the_same_codes() {
    let Some(peer) = Peer::new(&[]) else { return };
    let (nothing, input) = Builder::new(4, &[5]);
    let nothing = ("nothing", nothing.finish(input));
    for (name, model) in operations(17, Draw::int8(Rules::OnnxRuntime)).into_iter().chain([nothing]) {
        for (form, option) in FORMS {
            let options = OnnxOptions { form: option, interface: Interface::Codes, ..Default::default() };
            peer.add(&format!("{name}-{form}"), &model, 17, &options);
        }
    }
    peer.compare();
}

/// ONNX Runtime computes these layers in float, and rounds what the engine sums exactly.
#[test]
fn packed_weights_are_near() {
    let Some(peer) = Peer::new(&["--allow-float", "--near", "1"]) else { return };
    for bits in [WeightBits::Two, WeightBits::Four] {
        let draw = Draw { bits, ..Draw::int8(Rules::OnnxRuntime) };
        for (name, model) in operations(19, draw) {
            if model.nodes.iter().any(|node| node.op.weights().is_some()) {
                let options = OnnxOptions { weights: WeightCodes::Packed, ..Default::default() };
                peer.add(&format!("{name}-{}bit", bits.bits()), &model, 19, &options);
            }
        }
    }
    peer.compare();
}

/// ONNX Runtime computes all of these in float.
#[test]
fn int16_activations_are_near() {
    let Some(peer) = Peer::new(&["--allow-float", "--near", "1"]) else { return };
    for bits in WeightBits::ALL {
        let draw = Draw { code_type: CodeType::Int16, bits, ..Draw::int8(Rules::OnnxRuntime) };
        for (name, model) in operations(23, draw) {
            peer.add(&format!("{name}-{}bit", bits.bits()), &model, 23, &OnnxOptions::default());
        }
    }
    peer.compare();
}

#[test]
fn a_layer_left_in_float_is_found() {
    let Some(peer) = Peer::new(&[]) else { return };
    let path = peer.directory.path().join("residual.onnx");
    // The default session converts int8 codes to uint8, and misses those with two readers.
    let options = OnnxOptions { activation: ActivationCodes::Int8, ..Default::default() };
    write_onnx(&residual(0), &options, &path).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/check_fusion.py");
    let output = Command::new(env::var_os("QAT_PYTHON").unwrap()).arg(script).arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && text.contains("expected an integer operator, found float Conv"), "{text}");
}
