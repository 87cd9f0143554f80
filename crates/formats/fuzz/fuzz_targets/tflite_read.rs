//! Any bytes are a TFLite model or an error; a model is written, and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qat_formats::tflite::{self, WriteError};

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = tflite::read(bytes) else { return };
    for tensor in model.subgraphs.iter().flat_map(|subgraph| &subgraph.tensors) {
        let data = model.data(tensor);
        let _ = (tensor.to_f32s(data), tensor.to_i64s(data));
    }
    let written = match tflite::write(&model) {
        Ok(written) => written,
        Err(WriteError::Unread { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    // Bytes are compared, since no model with a NaN equals itself.
    let again = tflite::read(&written).expect("what is written is read");
    assert_eq!(tflite::write(&again).expect("what was written is written"), written);
});
