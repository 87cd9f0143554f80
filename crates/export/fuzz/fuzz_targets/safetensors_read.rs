//! Any bytes are an integer checkpoint or an error; a model is written, and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qat_export::{from_safetensors, to_safetensors};

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = from_safetensors(bytes) else { return };
    let written = to_safetensors(&model).expect("what is read is written");
    // Bytes are compared, since no model with a NaN equals itself.
    let again = from_safetensors(&written).expect("what is written is read");
    assert_eq!(to_safetensors(&again).expect("what was written is written"), written);
});
