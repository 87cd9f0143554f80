//! The int8 ResNet-8 of MLPerf Tiny, made by TensorFlow's converter, in our engine and in the runtimes it was made for.
//!
//! Needs the shared folder, named by `QAT_SHARED`; a comparison needs the runtime's Python besides (see `peers`).

mod peers;

use std::fs;

use peers::{Array, Peer, compare, shared};
use qat_export::{TfliteOptions, from_tflite, read_tflite, to_tflite};
use qat_runtime::{Codes, Rules};

const MODEL: &str = "models/mlperf-tiny-resnet8/pretrainedResnet_quant.tflite";
const RECORDS: &str = "datasets/cifar10/lossless/test_batch.bin";
/// Label, then three planes of 32 × 32 pixels.
const RECORD: usize = 1 + 3 * 32 * 32;

/// Labels, and images `[height, width, channel]` as codes: the model's input has scale 1 and zero point −128.
fn images() -> Option<(Vec<u8>, Codes)> {
    let path = shared(RECORDS)?;
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut labels, mut codes) = (Vec::new(), Vec::new());
    for record in bytes.chunks_exact(RECORD) {
        labels.push(record[0]);
        for pixel in 0..32 * 32 {
            codes.extend((0..3).map(|channel| (i16::from(record[1 + channel * 1024 + pixel]) - 128) as i8));
        }
    }
    Some((labels, Codes::Int8(codes)))
}

/// Place of the first largest code.
fn class(codes: &[i32]) -> usize {
    (0..codes.len()).rev().max_by_key(|&at| codes[at]).unwrap()
}

#[test]
fn the_engine_equals_every_runtime_on_every_image() {
    let Some((labels, x)) = images() else { return };
    assert_eq!(labels.len(), 1017);
    let path = shared(MODEL).unwrap();
    let input = Array::codes(x.view(), &[labels.len(), 32, 32, 3]);
    for peer in Peer::ALL {
        let model = read_tflite(&path, peer.rules()).unwrap();
        assert_eq!((model.input_info().shape.as_slice(), model.output_info().shape.as_slice()), (&[32, 32, 3][..], &[10][..]));
        let y = model.run(&x).unwrap();
        let hits = y.to_i32s().chunks(10).zip(&labels).filter(|(codes, label)| class(codes) == usize::from(**label)).count();
        println!("{:?}: {hits} of {} right", peer, labels.len());
        // 87.71 % with XNNPACK's rounding.
        assert_eq!(hits, if peer == Peer::LiteRt { 892 } else { 894 });
        let Some(python) = peer.python() else { continue };
        let found = peer.run(&python, &path, &input, &[]).unwrap();
        assert_eq!(compare(format!("{peer:?}"), &y, &found), (0, 0));
    }
}

#[test]
fn written_again_it_is_the_same_model() {
    let Some(path) = shared(MODEL) else { return };
    for rules in [Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro] {
        let model = read_tflite(&path, rules).unwrap();
        let file = to_tflite(&model, &TfliteOptions::default()).unwrap();
        // No operator was added: what TensorFlow's converter wrote are as many.
        assert_eq!(file.subgraphs[0].operators.len(), 16);
        let again = from_tflite(&qat_formats::tflite::write(&file).unwrap(), rules).unwrap();
        assert_eq!(again, model);
    }
}
