//! Any bytes are an ONNX model or an error; a model is written, and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qat_formats::onnx;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = onnx::read(bytes) else { return };
    for tensor in model.graph.iter().flat_map(|graph| &graph.initializer) {
        let _ = (tensor.to_f32s(), tensor.to_i64s());
    }
    // Bytes are compared, since no model with a NaN equals itself.
    let written = onnx::write(&model);
    let again = onnx::read(&written).expect("what is written is read");
    assert_eq!(onnx::write(&again), written);
});
