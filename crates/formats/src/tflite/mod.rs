//! TFLite: the flatbuffer tables of `tflite/schema.fbs`, schema version 3, read and written.
//!
//! [`read`](read()) follows no offset that it has not checked and returns models whose parts fit together, as [`check`](check())
//! says; [`write()`] gives the same bytes for the same [`Model`]. Not here: what operators compute, sparse tensors, StableHLO,
//! constants in other files. What a file has of these is noted in `unread`, not dropped.
//!
//! ```
//! use qat_formats::tflite::{self, BuiltinOperator, Model, Operator, OperatorCode, SubGraph, Tensor};
//!
//! let mut model = Model::default();
//! let opcode_index = model.intern_operator(OperatorCode::builtin(BuiltinOperator::RELU, 1));
//! let tensor = |name: &str| Tensor { shape: vec![1, 4], name: name.to_owned(), ..Tensor::default() };
//! model.subgraphs.push(SubGraph {
//!     tensors: vec![tensor("x"), tensor("y")],
//!     inputs: vec![0],
//!     outputs: vec![1],
//!     operators: vec![Operator { opcode_index, inputs: vec![0], outputs: vec![1], ..Operator::default() }],
//!     ..SubGraph::default()
//! });
//! assert_eq!(tflite::read(&tflite::write(&model).unwrap()).unwrap(), model);
//! ```

mod check;
mod flatbuffer;
mod options;
pub mod order;
pub mod padding;
mod read;
mod schema;
mod write;

pub use check::{CheckError, check};
pub use options::{
    AddOptions, ArgMaxOptions, ArgMinOptions, BatchMatMulOptions, BuiltinOptions, CastOptions, ConcatenationOptions,
    Conv2DOptions, CumsumOptions, DepthToSpaceOptions, DepthwiseConv2DOptions, DivOptions, FakeQuantOptions,
    FullyConnectedOptions, GatherOptions, GeluOptions, L2NormOptions, LeakyReluOptions, LstmOptions, MirrorPadOptions,
    MulOptions, PackOptions, Pool2DOptions, ReducerOptions, ReshapeOptions, ResizeBilinearOptions, ResizeNearestNeighborOptions,
    ShapeOptions, SoftmaxOptions, SpaceToDepthOptions, SplitOptions, SplitVOptions, SqueezeOptions, StridedSliceOptions,
    SubOptions, TransposeConvOptions, UnidirectionalSequenceLstmOptions, UnpackOptions,
};
pub use read::{ReadError, read};
pub use schema::{
    ActivationFunctionType, Buffer, BuiltinOperator, LstmKernelType, Metadata, MirrorPadMode, Model, Operator, OperatorCode,
    Padding, QuantizationParameters, SignatureDef, SubGraph, Tensor, TensorMap, TensorType, WeightsFormat,
};
pub use write::{WriteError, write};
