//! TensorFlow Lite files: an integer model written for LiteRT and TFLite-Micro, and full-integer files read.
//!
//! In the file a sample `[C, H, W]` stands as `[batch, H, W, C]`, which is what runtimes of TFLite files expect; samples of other
//! ranks stand in their own order. No numbers are moved where another order of reading will do: a transpose is written only where
//! an operator needs its operand in an order that it does not have, and a linear layer on a flattened image has its weights'
//! columns in the order of the file.
//!
//! Not here: the arithmetic (see `qat_runtime`), the tables of the file (see `qat_formats`).

mod graph;
mod half;
mod read;
mod version;
mod write;

use std::path::Path;

use qat_formats::tflite::{self, Model, order, padding};
use qat_runtime::{IntegerModel, Rules};

use crate::{
    error::{ExportError, TfliteError},
    file::{read_file, write_atomically},
    obstacle::Obstacle,
};

/// The format's name in messages.
const FORMAT: &str = "TFLite";

/// What the numbers of a file are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The integer model itself: codes from end to end.
    #[default]
    Integer,
    /// Weights are the model's int8 codes with their scales, activations float: runtimes quantize these as they come.
    DynamicRange,
    /// Weights are the real numbers of the codes in float16, activations float.
    Float16,
}

/// What the caller of an integer file supplies and receives. Indices into a table are int32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edges {
    /// The codes of the model: int8, or int16 where its activations are.
    #[default]
    Codes,
    /// uint8 codes, 128 above the model's, with a QUANTIZE at either end.
    Uint8,
    /// Real numbers, with a QUANTIZE before and a DEQUANTIZE after.
    Float32,
}

/// Choices of the TFLite writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TfliteOptions {
    /// What the numbers of the file are. Default: integers.
    pub form: Form,
    /// What goes in and comes out of an integer file. Default: the model's codes.
    pub edges: Edges,
}

/// Writes `model` as the TFLite file `path`, made or replaced as a whole. Equal models give equal bytes.
///
/// # Errors
///
/// Those of [`to_tflite`], and [`ExportError::Write`] or [`ExportError::NotAFile`] if the file cannot be written.
pub fn write_tflite(model: &IntegerModel, options: &TfliteOptions, path: &Path) -> Result<(), ExportError> {
    let file = to_tflite(model, options)?;
    let bytes = tflite::write(&file).map_err(|error| {
        let found = error.to_string();
        Obstacle { place: "model".into(), expected: "a file within the format's limits", found }.into_error(FORMAT)
    })?;
    write_atomically(path, &bytes)
}

/// The file that holds `model`.
///
/// # Errors
///
/// [`ExportError::Model`] if the model contradicts itself, [`ExportError::Unsupported`] for the first of
/// [`tflite_obstacles`].
pub fn to_tflite(model: &IntegerModel, options: &TfliteOptions) -> Result<Model, ExportError> {
    model.validate()?;
    write::write(model, options).map_err(|mut obstacles| obstacles.swap_remove(0).into_error(FORMAT))
}

/// In which order the axes of a model's samples stand in its file: for each axis of the tensor after the batch, the axis of the
/// sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TfliteAxes {
    /// Of the input.
    pub input: Vec<usize>,
    /// Of the output.
    pub output: Vec<usize>,
}

/// The order of axes in the file that [`to_tflite`] makes of a valid model.
///
/// It is `[1, 2, 0]` for samples of three axes and the sample's own for others. A model that turns its input by a transpose `[2, 0,
/// 1]` first, as one read from a TFLite file does, takes what the file takes; and gives what the file gives where a transpose
/// `[1, 2, 0]` comes last.
pub fn tflite_axes(model: &IntegerModel) -> TfliteAxes {
    let [input, output] = write::edge_orders(model).map(|order| order.axes());
    TfliteAxes { input, output }
}

/// Everything in a valid model that a TFLite file cannot hold; empty if it can be written.
///
/// # Errors
///
/// [`ExportError::Model`] if the model contradicts itself.
pub fn tflite_obstacles(model: &IntegerModel, options: &TfliteOptions) -> Result<Vec<Obstacle>, ExportError> {
    model.validate()?;
    Ok(write::write(model, options).err().unwrap_or_default())
}

/// The integer model in the full-integer TFLite file `path`, with the arithmetic of `rules`.
///
/// An input `[1, H, W, C]` is a sample `[H, W, C]`, and so is an output. Files with float or uint8 inputs and outputs are read
/// as the int8 codes behind them, which are 128 below uint8 codes.
///
/// # Errors
///
/// [`ExportError::Tflite`] for a file that is damaged, has operators or types that integer models have not, or whose parts make no
/// model under these rules; [`ExportError::Read`] or [`ExportError::NotAFile`] if there is nothing to read.
pub fn read_tflite(path: &Path, rules: Rules) -> Result<IntegerModel, ExportError> {
    let bytes = read_file(path)?;
    from_tflite(&bytes, rules).map_err(|source| ExportError::Tflite { path: path.to_owned(), source })
}

/// The integer model in the bytes of a full-integer TFLite file, as [`read_tflite`] says.
///
/// # Errors
///
/// One [`TfliteError`] variant for each kind of reason.
pub fn from_tflite(bytes: &[u8], rules: Rules) -> Result<IntegerModel, TfliteError> {
    read::read(&tflite::read(bytes)?, rules)
}
