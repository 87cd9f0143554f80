//! Conversion of trained `qat` models to integers, and the files that hold them.
//!
//! [`convert`] turns a calibrated [`qat::QatModel`] into a [`qat_runtime::IntegerModel`]; every writer takes the integer model alone
//! and none looks back at the trained one.

mod burnpack;
mod c;
mod check;
mod convert;
mod encodings;
mod error;
mod file;
mod format;
mod generate;
mod lower;
mod names;
mod obstacle;
mod onnx;
mod rust;
mod safetensors;
mod scale;
mod target;
mod tflite;
pub mod verify;

pub use burnpack::{burnpack_obstacles, to_burnpack, write_burnpack};
pub use c::{COptions, CProgram, c_obstacles, to_c, write_c};
pub use check::{CheckError, check, check_integers};
pub use convert::{ConvertError, convert};
pub use encodings::{EncodingsOptions, Integers, encodings_obstacles, to_encodings, write_encodings};
pub use error::{CheckpointError, ExportError, TfliteError};
pub use file::{read_file, write_atomically};
pub use format::Format;
pub use lower::{for_target, with_rules};
pub use obstacle::Obstacle;
pub use onnx::{
    ActivationCodes, Form as OnnxForm, Interface, OnnxOptions, WeightCodes, obstacles as onnx_obstacles, to_onnx, write_onnx,
};
pub use rust::{rust_obstacles, to_rust, write_rust};
pub use safetensors::{from_safetensors, read_safetensors, to_safetensors, write_safetensors};
pub use target::Target;
pub use tflite::{
    Edges, Form as TfliteForm, TfliteAxes, TfliteOptions, from_tflite, read_tflite, tflite_axes, tflite_obstacles, to_tflite,
    write_tflite,
};
