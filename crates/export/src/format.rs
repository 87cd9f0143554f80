//! The file formats, by name: what each is written for, what keeps a model from it, and its writer with the usual choices.

use std::path::{Path, PathBuf};

use qat_runtime::IntegerModel;

use crate::{
    burnpack::{burnpack_obstacles, write_burnpack},
    c::{COptions, c_obstacles, write_c},
    encodings::{EncodingsOptions, encodings_obstacles, write_encodings},
    error::ExportError,
    obstacle::Obstacle,
    onnx::{self, OnnxOptions, write_onnx},
    rust::{rust_obstacles, write_rust},
    safetensors::write_safetensors,
    target::Target,
    tflite::{TfliteOptions, tflite_obstacles, write_tflite},
};

/// A file format for integer models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ONNX with float operators between QuantizeLinear and DequantizeLinear.
    Onnx,
    /// ONNX with the standard's operators on codes.
    OnnxQop,
    /// TensorFlow Lite.
    Tflite,
    /// The integer checkpoint.
    Safetensors,
    /// Burn's own record, with quantized weights.
    Burnpack,
    /// Every number of the model as JSON.
    Encodings,
    /// C99 source.
    C,
    /// `no_std` Rust source.
    Rust,
}

impl Format {
    /// All formats, by the names that the command line uses.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("onnx", Self::Onnx),
        ("onnx-qop", Self::OnnxQop),
        ("tflite", Self::Tflite),
        ("safetensors", Self::Safetensors),
        ("burnpack", Self::Burnpack),
        ("encodings", Self::Encodings),
        ("c", Self::C),
        ("rust", Self::Rust),
    ];

    /// The name in [`Format::NAMES`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::OnnxQop => "onnx-qop",
            Self::Tflite => "tflite",
            Self::Safetensors => "safetensors",
            Self::Burnpack => "burnpack",
            Self::Encodings => "encodings",
            Self::C => "c",
            Self::Rust => "rust",
        }
    }

    /// The targets whose arithmetic a file of this format runs with, the usual one first; none where the format says whose
    /// arithmetic it is and any will do.
    pub fn targets(self) -> &'static [Target] {
        match self {
            Self::Onnx | Self::OnnxQop => &[Target::Onnx],
            Self::Tflite => &[Target::Tflite, Target::Tflm],
            Self::C | Self::Rust => &[Target::Rust, Target::Tflm],
            Self::Safetensors | Self::Burnpack | Self::Encodings => &[],
        }
    }

    /// Everything that keeps `model`, which validates and follows the rules of one of [`Format::targets`], from this format.
    ///
    /// # Errors
    ///
    /// [`ExportError::Model`] if the model contradicts itself.
    pub fn obstacles(self, model: &IntegerModel) -> Result<Vec<Obstacle>, ExportError> {
        model.validate()?;
        match self {
            Self::Onnx | Self::OnnxQop => Ok(onnx::obstacles(model, &self.onnx())),
            Self::Tflite => tflite_obstacles(model, &TfliteOptions::default()),
            Self::Burnpack => Ok(burnpack_obstacles(model)),
            Self::Encodings => Ok(encodings_obstacles(model)),
            Self::C => Ok(c_obstacles(model)),
            Self::Rust => Ok(rust_obstacles(model)),
            Self::Safetensors => Ok(Vec::new()),
        }
    }

    /// Writes `model` as the file `path`, made or replaced as a whole, and names the files written; equal models give equal bytes.
    ///
    /// # Errors
    ///
    /// The first of [`Format::obstacles`], and [`ExportError::Write`] or [`ExportError::NotAFile`] if a file cannot be written.
    pub fn write(self, model: &IntegerModel, path: &Path) -> Result<Vec<PathBuf>, ExportError> {
        match self {
            Self::Onnx | Self::OnnxQop => write_onnx(model, &self.onnx(), path)?,
            Self::Tflite => write_tflite(model, &TfliteOptions::default(), path)?,
            Self::Safetensors => write_safetensors(model, path)?,
            Self::Burnpack => write_burnpack(model, path)?,
            Self::Encodings => write_encodings(model, &EncodingsOptions::default(), path)?,
            Self::Rust => write_rust(model, path)?,
            Self::C => return write_c(model, &COptions::default(), path),
        }
        Ok(vec![path.to_owned()])
    }

    fn onnx(self) -> OnnxOptions {
        let form = if self == Self::OnnxQop { onnx::Form::QOperator } else { onnx::Form::Qdq };
        OnnxOptions { form, ..OnnxOptions::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_list() {
        for (name, format) in Format::NAMES {
            assert_eq!(format.name(), name);
        }
    }
}
