//! Float files made of an integer model, in LiteRT: near the integer model, on every operation and on real images.

mod models;
mod peers;

use std::{fs, path::PathBuf};

use models::{Draw, Random, input_codes, operations};
use peers::{Array, Peer, shared};
use qat_export::{TfliteForm, TfliteOptions, read_tflite, tflite_axes, tflite_obstacles, with_rules, write_tflite};
use qat_runtime::{CodeType, Codes, IntegerModel, Op, Rules, ValueInfo, dequantize};

const FORMS: [TfliteForm; 2] = [TfliteForm::DynamicRange, TfliteForm::Float16];
const ENGINES: [Peer; 2] = [Peer::LiteRt, Peer::LiteRtReference];

fn options(form: TfliteForm) -> TfliteOptions {
    TfliteOptions { form, ..TfliteOptions::default() }
}

/// The real numbers of codes.
fn reals(codes: &Codes, info: &ValueInfo) -> Vec<f32> {
    codes.to_i32s().into_iter().map(|code| dequantize(code, info.qparams)).collect()
}

/// Rewrites an array of samples from the sample's order to the file's, whose axis `i` is axis `axes[i]`.
fn in_file(list: &[f32], shape: &[usize], axes: &[usize]) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let strides: Vec<usize> = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
    let source = |at: usize| {
        let (mut rest, mut source) = (at % count, at / count * count);
        for &axis in axes.iter().rev() {
            source += rest % shape[axis] * strides[axis];
            rest /= shape[axis];
        }
        source
    };
    (0..list.len()).map(|at| list[source(at)]).collect()
}

/// Half the numbers: what a finer grid on the way can still hold, so that nothing saturates there.
fn halved(codes: Codes, zero_point: i32) -> Codes {
    match codes {
        Codes::Int8(codes) => {
            Codes::Int8(codes.into_iter().map(|code| (zero_point + (i32::from(code) - zero_point) / 2) as i8).collect())
        }
        other => other,
    }
}

/// Whether a dynamic-range file computes some layer with activations that it quantizes itself.
fn is_hybrid(model: &IntegerModel) -> bool {
    model.nodes.iter().any(|node| node.op.weights().is_some())
}

#[test]
fn every_operation_is_near_the_integers() {
    const SAMPLES: usize = 4;
    for form in FORMS {
        for engine in ENGINES {
            let Some(python) = engine.python() else { continue };
            let directory = tempfile::tempdir().unwrap();
            let (mut jobs, mut cases) = (Vec::new(), Vec::new());
            for (index, (name, model)) in operations(7, Draw::int8(Rules::LiteRtReference)).into_iter().enumerate() {
                let model = with_rules(&model, Rules::LiteRtReference).unwrap();
                if !tflite_obstacles(&model, &options(form)).unwrap().is_empty() {
                    assert!(["max_pool2d_dilated", "avg_pool2d_padded"].contains(&name), "{name}");
                    continue;
                }
                let path: PathBuf = directory.path().join(format!("{index}.tflite"));
                write_tflite(&model, &options(form), &path).unwrap();
                let axes = tflite_axes(&model);
                let (x, y) = (model.input_info(), model.output_info());
                let codes = halved(input_codes(&model, SAMPLES, &mut Random(7)), x.qparams.zero_point);
                let expected = in_file(&reals(&model.run(&codes).unwrap(), y), &y.shape, &axes.output);
                let shape: Vec<usize> = [SAMPLES].into_iter().chain(axes.input.iter().map(|&axis| x.shape[axis])).collect();
                let input = match x.code_type {
                    CodeType::Int32 => Array::codes(codes.view(), &shape),
                    _ => Array::floats(&in_file(&reals(&codes, x), &x.shape, &axes.input), &shape),
                };
                jobs.push((path, input));
                cases.push((name, model, expected));
            }
            let mut failures = Vec::new();
            for ((name, model, expected), result) in cases.iter().zip(engine.run_all(&python, &jobs, &[])) {
                let found = match result {
                    Ok(found) => found.reals(),
                    Err(reason) => {
                        failures.push(format!("{form:?} {engine:?} {name}: {reason}"));
                        continue;
                    }
                };
                // Integers saturate where floats go on: only numbers inside the range are compared.
                let info = model.output_info();
                let [low, high] = [info.code_type.min(), info.code_type.max()].map(|code| dequantize(code, info.qparams));
                let steps = |(a, b): (&f32, &f32)| ((a.clamp(low, high) - b.clamp(low, high)) / info.qparams.scale).abs();
                assert_eq!(found.len(), expected.len());
                let largest = found.iter().zip(expected).map(steps).fold(0.0, f32::max);
                println!("{form:?} {engine:?} {name}: at most {largest} steps");
                // One step for each rounding of the integers; activations that the runtime quantizes are coarser.
                // The random cells have grids on the way that many of their numbers leave: there the two go apart.
                let allowed = match form {
                    _ if name.ends_with("_cell") => f32::MAX,
                    TfliteForm::DynamicRange if is_hybrid(model) => 4.0,
                    _ => model.nodes.len() as f32 * 1.5,
                };
                if largest.is_nan() || largest > allowed || found.iter().any(|number| !number.is_finite()) {
                    failures.push(format!("{form:?} {engine:?} {name}: {largest} steps"));
                }
            }
            assert!(failures.is_empty(), "{}", failures.join("\n"));
        }
    }
}

/// Place of the first largest number.
fn class(numbers: &[f32]) -> usize {
    (0..numbers.len()).rev().max_by(|&a, &b| numbers[a].total_cmp(&numbers[b])).unwrap()
}

#[test]
fn real_images_keep_their_class() {
    const IMAGES: usize = 300;
    let Some(path) = shared("models/mlperf-tiny-resnet8/pretrainedResnet_quant.tflite") else { return };
    let model = read_tflite(&path, Rules::LiteRt).unwrap();
    assert!(model.nodes.iter().any(|node| matches!(node.op, Op::Softmax(_))));
    let records = fs::read(shared("datasets/cifar10/lossless/test_batch.bin").unwrap()).unwrap();
    let mut pixels = Vec::new();
    for record in records.chunks_exact(3073).take(IMAGES) {
        for pixel in 0..1024 {
            pixels.extend((0..3).map(|channel| record[1 + channel * 1024 + pixel]));
        }
    }
    // The input has scale 1 and zero point −128: the real numbers are the pixels.
    let codes = Codes::Int8(pixels.iter().map(|&pixel| (i16::from(pixel) - 128) as i8).collect());
    let expected = reals(&model.run(&codes).unwrap(), model.output_info());
    let input = Array::floats(&pixels.iter().map(|&pixel| pixel.into()).collect::<Vec<f32>>(), &[IMAGES, 32, 32, 3]);
    for form in FORMS {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("model.tflite");
        write_tflite(&model, &options(form), &file).unwrap();
        println!("{form:?}: {} bytes", fs::metadata(&file).unwrap().len());
        for engine in ENGINES {
            let Some(python) = engine.python() else { continue };
            let found = engine.run(&python, &file, &input, &[]).unwrap().reals();
            assert!(found.iter().all(|number| number.is_finite()));
            let agreeing = found.chunks(10).zip(expected.chunks(10)).filter(|(a, b)| class(a) == class(b)).count();
            println!("{form:?} {engine:?}: {agreeing} of {IMAGES} agree");
            // Where the integers saturate, floats go on; the original float network agrees with the integers on 292 of these.
            assert!(agreeing * 100 >= IMAGES * 95, "{form:?} {engine:?}: {agreeing} of {IMAGES}");
        }
    }
}
