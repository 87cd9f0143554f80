//! ONNX: the protobuf messages of `onnx.proto` (IR versions up to 14), read and written.
//!
//! [`read`](read()) checks what a reader of the structures relies on (a graph, an operator set, tensors whose bytes fill their
//! shape, names that are defined once and before they are read); [`write()`] gives the same bytes for the same [`Model`]. Not
//! here: operators, shape inference, opening external data files, text formats.
//!
//! ```
//! use qat_formats::onnx::{self, DataType, Graph, Model, Node, OperatorSetId, ValueInfo};
//!
//! let input = vec![ValueInfo::tensor("x", DataType::Float, vec![])];
//! let graph = Graph { node: vec![Node::new("Relu", "relu", &["x"], &["y"])], input, ..Graph::default() };
//! let opset_import = vec![OperatorSetId { domain: None, version: Some(13) }];
//! let model = Model { ir_version: Some(8), graph: Some(graph), opset_import, ..Model::default() };
//! assert_eq!(onnx::read(&onnx::write(&model)).unwrap(), model);
//! ```

mod external;
mod memory;
mod names;
mod read;
mod schema;
mod write;

pub use external::ExternalData;
pub use read::{ReadError, read, read_tensor};
pub use schema::{
    Attribute, AttributeKind, DataType, Dimension, DimensionValue, Function, Graph, Model, Node, OperatorSetId, SparseTensor,
    StringStringEntry, Tensor, TensorShape, TensorType, Type, ValueInfo,
};
pub use write::write;
