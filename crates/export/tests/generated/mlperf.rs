//! The int8 ResNet-8 of MLPerf Tiny, made by TensorFlow's converter, as C and Rust: the engine's codes on real images.
//!
//! Needs the shared folder, named by `QAT_SHARED`. That the engine's codes are TFLite-Micro's, and the fast kernels' the
//! reference's, are other tests' business.

use std::{env, fs, path::PathBuf};

use qat_export::read_tflite;
use qat_runtime::{Codes, Rules};

use crate::{Build, compare_with};

/// Label, then three planes of 32 × 32 pixels.
const RECORD: usize = 1 + 3 * 32 * 32;

/// Images that are run.
const IMAGES: usize = 1000;

#[test]
fn resnet8_gives_the_codes_of_the_engine_on_a_thousand_images() {
    let Some(shared) = env::var_os("QAT_SHARED").map(PathBuf::from) else {
        println!("SKIPPED: QAT_SHARED is not set, so there is neither the model nor its images");
        return;
    };
    let path = shared.join("models/mlperf-tiny-resnet8/pretrainedResnet_quant.tflite");
    let model = read_tflite(&path, Rules::TfliteMicro).unwrap();
    // The model takes images as [height, width, channel], with scale 1 and zero point −128.
    let records = fs::read(shared.join("datasets/cifar10/lossless/test_batch.bin")).unwrap();
    let pixel = |record: &[u8], at: usize, channel: usize| (i16::from(record[1 + channel * 1024 + at]) - 128) as i8;
    let codes: Vec<i8> = records
        .chunks_exact(RECORD)
        .take(IMAGES)
        .flat_map(|record| (0..1024).flat_map(move |at| (0..3).map(move |channel| pixel(record, at, channel))))
        .collect();
    assert_eq!(codes.len(), IMAGES * 3072);
    let expected = model.run(&codes).unwrap();
    compare_with(&[expected], &["resnet8".to_owned()], &[model], &[Codes::Int8(codes)], Build::Optimized);
}
