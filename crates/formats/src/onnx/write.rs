//! A [`Model`] as the bytes of an `.onnx` file.
//!
//! Fields are written in the order of their tags and lists in their own, so that equal models give equal bytes.

use prost::Message;

use super::schema::Model;

/// The bytes of the file that holds `model`.
pub fn write(model: &Model) -> Vec<u8> {
    model.encode_to_vec()
}
