//! Any bytes are an ONNX model or an error; a model is written, and read again as the same, unless the file was long for what is
//! in it: without the bytes that the reader skips, it may be too short for the memory that it asks for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qat_formats::onnx::{self, ReadError};

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = onnx::read(bytes) else { return };
    for tensor in model.graph.iter().flat_map(|graph| &graph.initializer) {
        let _ = (tensor.to_f32s(), tensor.to_i64s());
    }
    // Bytes are compared, since no model with a NaN equals itself.
    let written = onnx::write(&model);
    let again = match onnx::read(&written) {
        Ok(again) => again,
        Err(ReadError::Budget { .. }) if written.len() < bytes.len() => return,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(onnx::write(&again), written);
});
