//! Conversion of trained `qat` models to integers, and the files that hold them.
//!
//! [`convert`] turns a calibrated [`qat::QatModel`] into a [`qat_runtime::IntegerModel`]; every writer takes the integer model alone
//! and none looks back at the trained one.

mod check;
mod convert;
mod error;
mod file;
mod lower;
mod names;
mod obstacle;
mod onnx;
mod safetensors;
mod target;
mod tflite;
pub mod verify;

pub use check::{CheckError, check};
pub use convert::{ConvertError, convert};
pub use error::{CheckpointError, ExportError, TfliteError};
pub use file::{read_file, write_atomically};
pub use lower::{for_target, with_rules};
pub use obstacle::Obstacle;
pub use onnx::{ActivationCodes, Form, Interface, OnnxOptions, WeightCodes, obstacles as onnx_obstacles, to_onnx, write_onnx};
pub use safetensors::{read_safetensors, write_safetensors};
pub use target::Target;
pub use tflite::{
    Edges, Form, TfliteAxes, TfliteOptions, from_tflite, read_tflite, tflite_axes, tflite_obstacles, to_tflite, write_tflite,
};
