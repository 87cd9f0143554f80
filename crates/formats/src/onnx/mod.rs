//! ONNX: the protobuf messages of `onnx.proto` (IR versions up to 14), read and written.
//!
//! [`read`] checks what a reader of the structures relies on (a graph, an operator set, tensors whose bytes fill their shape);
//! [`write()`] gives the same bytes for the same [`Model`]. Not here: operators, shape inference, external data files, text
//! formats.
//!
//! ```
//! use qat_formats::onnx::{self, Graph, Model, Node, OperatorSetId};
//!
//! let graph = Graph { node: vec![Node::new("Relu", "relu", &["x"], &["y"])], ..Graph::default() };
//! let opset_import = vec![OperatorSetId { domain: None, version: Some(13) }];
//! let model = Model { ir_version: Some(8), graph: Some(graph), opset_import, ..Model::default() };
//! assert_eq!(onnx::read(&onnx::write(&model)).unwrap(), model);
//! ```

mod read;
mod schema;
mod write;

pub use read::{ReadError, read};
pub use schema::{
    Attribute, AttributeKind, DataType, Dimension, DimensionValue, Function, Graph, Model, Node, OperatorSetId,
    StringStringEntry, Tensor, TensorShape, TensorType, Type, ValueInfo,
};
pub use write::write;
