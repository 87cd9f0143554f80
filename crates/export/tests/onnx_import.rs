//! Float ONNX models, trained elsewhere: imported, calibrated, converted and written, they stay as good and are what the runtimes run.
//!
//! The models come from PyTorch's exporters and from Keras (see `crates/qat/tests/data/onnx/README.md`); the images are MNIST's own.
//! ONNX Runtime and LiteRT need a Python, named by `QAT_PYTHON` (see `peers`).

mod peers;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::{Device, Tensor, TensorData};
use peers::{Array, Peer, compare};
use qat::graph::import_onnx;
use qat::{Activation, Mode, QConfig, QatModel};
use qat_export::{OnnxOptions, Target, TfliteOptions, convert, read_safetensors, write_onnx, write_safetensors, write_tflite};
use qat_formats::{onnx, tflite};
use qat_runtime::{Codes, IntegerModel, quantize};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The payload of an IDX file of MNIST, behind a header of `skip` bytes.
fn idx(name: &str, skip: usize) -> Vec<u8> {
    let file = fs::File::open(root().join("datasets/mnist").join(name)).unwrap();
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes.split_off(skip)
}

/// Pixels in `[0, 1]` of the first `count` images, and their labels.
fn images(kind: &str, count: usize) -> (Vec<f32>, Vec<u8>) {
    let pixels = idx(&format!("{kind}-images-idx3-ubyte.gz"), 16);
    let labels = idx(&format!("{kind}-labels-idx1-ubyte.gz"), 8);
    (pixels[..count * 784].iter().map(|pixel| f32::from(*pixel) / 255.0).collect(), labels[..count].to_vec())
}

fn imported(name: &str) -> QatModel {
    let path = root().join("crates/qat/tests/data/onnx").join(format!("{name}.onnx"));
    QatModel::from_imported(import_onnx(&path).unwrap(), &QConfig::int8(), &Device::flex()).unwrap()
}

/// The logits of images of one channel, whichever order of axes the model has.
fn logits(model: &QatModel, x: &[f32]) -> Vec<f32> {
    let topology = model.topology();
    let sample = topology.values[topology.input.0].sample_shape();
    let mut y = Vec::new();
    for batch in x.chunks(250 * 784) {
        let shape = [&[batch.len() / 784], &sample[..]].concat();
        let data = TensorData::new(batch.to_vec(), shape);
        model.run(Tensor::<4>::from_data(data, &Device::flex()), |value, activation: &Activation| {
            if value == topology.output {
                y.extend(activation.to_data().iter::<f32>());
            }
        });
    }
    y
}

fn hits<T: PartialOrd>(scores: &[T], labels: &[u8]) -> usize {
    let class = |scores: &[T]| (0..scores.len()).fold(0, |best, at| if scores[at] > scores[best] { at } else { best });
    scores.chunks(10).zip(labels).filter(|(scores, label)| class(scores) == usize::from(**label)).count()
}

/// What ONNX Runtime gives for real samples, as codes.
fn onnxruntime(python: &std::ffi::OsStr, file: &Path, x: &Array) -> Vec<i32> {
    let directory = tempfile::tempdir().unwrap();
    let [input, output] = ["x.npy", "y.npy"].map(|name| directory.path().join(name));
    x.write(&input);
    let script = root().join("tests/peers/run_onnx.py");
    let run = Command::new(python).arg(script).args([file, &input, &output]).arg("--codes").output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Array::read(&output).integers()
}

#[test]
fn trained_models_are_as_good_in_integers_and_equal_in_the_runtimes() {
    let (calibration, _) = images("train", 512);
    let (x, labels) = images("t10k", 2000);
    for (name, input, output) in
        [("mnist_cnn_dynamo", "x", "y"), ("mnist_cnn_script", "image.1", "logits"), ("keras_cnn", "x", "Identity:0")]
    {
        let float = imported(name);
        let observing = float.clone().with_mode(Mode::Observe);
        logits(&observing, &calibration);
        let quantized = observing.calibrated().unwrap();
        let [of_float, simulated] = [&float, &quantized].map(|model| hits(&logits(model, &x), &labels));

        for target in [Target::Onnx, Target::Tflite] {
            let integers = convert(&quantized, target).unwrap();
            let info = integers.input_info();
            assert_eq!((info.name.as_str(), integers.output_info().name.as_str()), (input, output));
            let codes = Codes::Int8(x.iter().map(|pixel| quantize(*pixel, info.qparams)).collect());
            let found = integers.run(&codes).unwrap();
            let right = hits(&found.to_i32s(), &labels);
            println!("{name}, {target:?}: of 2000 right: float {of_float}, fake-quantized {simulated}, integers {right}");
            assert!(of_float > 1940, "{name}: a model that was trained");
            assert!(right + 10 >= of_float && right.abs_diff(simulated) <= 4, "{name}: {right}");

            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("model");
            checkpoint_keeps_names(&integers, &path.with_extension("safetensors"));
            let shape = [&[labels.len()], &info.shape[..]].concat();
            if target == Target::Onnx {
                let path = path.with_extension("onnx");
                write_onnx(&integers, &OnnxOptions::default(), &path).unwrap();
                let graph = onnx::read(&fs::read(&path).unwrap()).unwrap().graph.unwrap();
                assert_eq!((graph.input[0].name(), graph.output[0].name()), (input, output));
                let Some(python) = Peer::LiteRt.python() else { continue };
                let theirs = onnxruntime(&python, &path, &Array::floats(&x, &shape));
                let different = found.to_i32s().iter().zip(&theirs).filter(|(a, b)| a != b).count();
                assert_eq!((theirs.len(), different), (20_000, 0), "{name} in ONNX Runtime");
            } else {
                let path = path.with_extension("tflite");
                write_tflite(&integers, &TfliteOptions::default(), &path).unwrap();
                let file = tflite::read(&fs::read(&path).unwrap()).unwrap();
                let subgraph = &file.subgraphs[0];
                let name_of = |ends: &[i32]| subgraph.tensors[ends[0] as usize].name.clone();
                assert_eq!((name_of(&subgraph.inputs).as_str(), name_of(&subgraph.outputs).as_str()), (input, output));
                let Some(python) = Peer::LiteRt.python() else { continue };
                // An image of one channel has the same numbers in either order of axes.
                let theirs =
                    Peer::LiteRt.run(&python, &path, &Array::codes(codes.view(), &[labels.len(), 28, 28, 1]), &[]).unwrap();
                assert_eq!(compare(format!("{name} in LiteRT"), &found, &theirs), (0, 0));
            }
        }
    }
}

fn checkpoint_keeps_names(model: &IntegerModel, path: &Path) {
    write_safetensors(model, path).unwrap();
    let read = read_safetensors(path).unwrap();
    assert_eq!((read.input_info(), read.output_info()), (model.input_info(), model.output_info()));
}

/// Real numbers for the input of any model, seeded by their places; the same as `crates/qat/tests/import_onnx.rs` has.
fn element(index: usize) -> f32 {
    (((index * 7919) % 2003) as f64 / 1001.5 - 1.0) as f32
}

fn run_any(model: &QatModel, x: &[f32], shape: &[usize], keep: &mut dyn FnMut(qat::graph::ValueId, &Activation)) {
    let device = Device::flex();
    let data = TensorData::new(x.to_vec(), shape.to_vec());
    match shape.len() {
        2 => model.run(Tensor::<2>::from_data(data, &device), keep),
        3 => model.run(Tensor::<3>::from_data(data, &device), keep),
        _ => model.run(Tensor::<4>::from_data(data, &device), keep),
    }
}

#[test]
fn every_imported_model_goes_the_whole_way() {
    const SAMPLES: usize = 16;
    let folder = root().join("crates/qat/tests/data/onnx");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "onnx"));
    files.sort();
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let float = imported(&name);
        let topology = float.topology();
        if topology.input_is_indices {
            continue;
        }
        let shape = [&[SAMPLES], &topology.values[topology.input.0].sample_shape()[..]].concat();
        let x: Vec<f32> = (0..shape.iter().product()).map(element).collect();
        let observing = float.clone().with_mode(Mode::Observe);
        run_any(&observing, &x, &shape, &mut |_, _| ());
        let quantized = observing.calibrated().unwrap();
        for target in [Target::Onnx, Target::Tflite] {
            let integers = match convert(&quantized, target) {
                Ok(integers) => integers,
                Err(error) => panic!("{name}, {target:?}: {error}"),
            };
            let info = integers.input_info();
            let codes = Codes::Int8(x.iter().map(|number| quantize(*number, info.qparams)).collect());
            let found = integers.run(&codes).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("model");
            if target == Target::Onnx {
                write_onnx(&integers, &OnnxOptions::default(), &path).unwrap();
                let Some(python) = Peer::LiteRt.python() else { continue };
                let theirs = onnxruntime(&python, &path, &Array::floats(&x, &shape));
                let largest = found.to_i32s().iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                println!("{name} in ONNX Runtime: {} compared, at most {largest} LSB", theirs.len());
                assert_eq!((theirs.len(), largest), (found.to_i32s().len(), 0), "{name}");
                continue;
            }
            if let Err(error) = write_tflite(&integers, &TfliteOptions::default(), &path) {
                // TFLite has no average whose padding is on both sides and not counted.
                assert!(name.starts_with("pools") && error.to_string().contains("SAME padding"), "{name}: {error}");
                continue;
            }
            let Some(python) = Peer::LiteRt.python() else { continue };
            let file = tflite::read(&fs::read(&path).unwrap()).unwrap();
            let subgraph = &file.subgraphs[0];
            let shape_of =
                |ends: &[i32]| subgraph.tensors[ends[0] as usize].shape[1..].iter().map(|size| *size as usize).collect();
            let [of_input, of_output]: [Vec<usize>; 2] = [shape_of(&subgraph.inputs), shape_of(&subgraph.outputs)];
            let Codes::Int8(codes) = &codes else { panic!("int8 codes") };
            let array = Array {
                descr: "|i1".into(),
                shape: [&[SAMPLES], &of_input[..]].concat(),
                bytes: channels_last(codes, &info.shape, &of_input).into_iter().map(i8::cast_unsigned).collect(),
            };
            let theirs = Peer::LiteRt.run(&python, &path, &array, &[]).unwrap().integers();
            let ours = channels_last(&found.to_i32s(), &integers.output_info().shape, &of_output);
            println!("{name} in LiteRT: {} compared", theirs.len());
            assert_eq!(ours, theirs, "{name}");
        }
    }
}

/// Samples `[c, h, w]` as a file has them that has images `[h, w, c]`; others as they are.
fn channels_last<T: Copy>(values: &[T], shape: &[usize], of_file: &[usize]) -> Vec<T> {
    let &[c, h, w] = shape else { return values.to_vec() };
    if of_file != [h, w, c] || shape == of_file {
        return values.to_vec();
    }
    let sample = |values: &[T]| {
        (0..h * w).flat_map(|pixel| (0..c).map(move |channel| channel * h * w + pixel)).map(|at| values[at]).collect::<Vec<_>>()
    };
    values.chunks(c * h * w).flat_map(sample).collect()
}
