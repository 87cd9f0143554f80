//! The bytes of an `.onnx` file as a [`Model`], or what is wrong with them.
//!
//! Protobuf decoding refuses lengths that leave the buffer and messages nested deeper than 100. Beyond that, every tensor's
//! elements must fill its shape, so that a reader may index by shape without checking again. Protobuf carries no checksum: a
//! changed byte inside a weight is read as another weight.

use prost::Message;
use thiserror::Error;

use super::schema::{Attribute, DataType, Function, Graph, Model, Node, Tensor};

/// What is wrong with the bytes of an ONNX file.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes are no protobuf message of this schema: not ONNX, cut short, or changed.
    #[error("ONNX file: expected a ModelProto message, found {length} bytes that are not one ({source})")]
    Decode {
        /// Length of the file in bytes.
        length: usize,
        /// Where decoding stopped.
        source: prost::DecodeError,
    },
    /// A message lacks a part that every ONNX file has.
    #[error("ONNX file: expected {part}, found none among {length} bytes")]
    Missing {
        /// The part, as in `a graph`.
        part: &'static str,
        /// Length of the file in bytes.
        length: usize,
    },
    /// A tensor's data type is not one of [`DataType`].
    #[error("ONNX data type, tensor {name:?}: expected a TensorProto.DataType in 1..=26, found {data_type}")]
    DataType {
        /// Name of the tensor.
        name: String,
        /// The number in the file.
        data_type: i32,
    },
    /// A tensor's dimensions are negative or multiply to more than can be addressed.
    #[error("ONNX shape, tensor {name:?}: expected dimensions that are sizes, found {dims:?}")]
    Shape {
        /// Name of the tensor.
        name: String,
        /// The dimensions in the file.
        dims: Vec<i64>,
    },
    /// A tensor's elements do not fill its shape.
    #[error("ONNX tensor, {name:?} of shape {dims:?}: expected {expected} {unit}, found {found}")]
    Length {
        /// Name of the tensor.
        name: String,
        /// The dimensions in the file.
        dims: Vec<i64>,
        /// `bytes` of raw data or `numbers` in the typed field.
        unit: &'static str,
        /// What the shape asks for.
        expected: usize,
        /// What the file has.
        found: usize,
    },
}

/// Reads the bytes of an `.onnx` file.
///
/// The model has a graph and at least one operator set, and every tensor that is not external, in nested graphs too, has as
/// many elements as its shape says. Fields that the schema leaves out are skipped.
///
/// # Errors
///
/// [`ReadError`] for bytes that are no ONNX model, are cut short, or contradict themselves. Memory use is bounded by a constant
/// multiple of `bytes.len()`.
pub fn read(bytes: &[u8]) -> Result<Model, ReadError> {
    let length = bytes.len();
    let model = Model::decode(bytes).map_err(|source| ReadError::Decode { length, source })?;
    let graph = model.graph.as_ref().ok_or(ReadError::Missing { part: "a graph", length })?;
    if model.opset_import.is_empty() {
        return Err(ReadError::Missing { part: "an operator set (opset_import)", length });
    }
    check_graph(graph)?;
    model.functions.iter().try_for_each(check_function)?;
    Ok(model)
}

fn check_graph(graph: &Graph) -> Result<(), ReadError> {
    graph.initializer.iter().try_for_each(check_tensor)?;
    graph.node.iter().try_for_each(check_node)
}

fn check_function(function: &Function) -> Result<(), ReadError> {
    function.attribute_proto.iter().try_for_each(check_attribute)?;
    function.node.iter().try_for_each(check_node)
}

fn check_node(node: &Node) -> Result<(), ReadError> {
    node.attribute.iter().try_for_each(check_attribute)
}

fn check_attribute(attribute: &Attribute) -> Result<(), ReadError> {
    attribute.t.as_deref().into_iter().chain(&attribute.tensors).try_for_each(check_tensor)?;
    attribute.g.as_deref().into_iter().chain(&attribute.graphs).try_for_each(check_graph)
}

fn check_tensor(tensor: &Tensor) -> Result<(), ReadError> {
    let name = || tensor.name().to_owned();
    let number = tensor.data_type.unwrap_or_default();
    let data_type = match tensor.element_type() {
        None | Some(DataType::Undefined) => return Err(ReadError::DataType { name: name(), data_type: number }),
        Some(data_type) => data_type,
    };
    let shape_error = || ReadError::Shape { name: name(), dims: tensor.dims.clone() };
    let count = tensor.element_count().ok_or_else(shape_error)?;
    if tensor.is_external() {
        return Ok(());
    }
    let (unit, expected, found) = match (&tensor.raw_data, data_type.bits()) {
        (Some(raw), Some(bits)) => ("bytes of raw data", count.checked_mul(bits).ok_or_else(shape_error)?.div_ceil(8), raw.len()),
        _ => ("numbers", typed_expected(data_type, count).ok_or_else(shape_error)?, typed_found(tensor, data_type)),
    };
    if expected != found {
        return Err(ReadError::Length { name: name(), dims: tensor.dims.clone(), unit, expected, found });
    }
    Ok(())
}

/// Entries that `count` elements take in the typed field: complex numbers take two, sub-byte elements share one.
fn typed_expected(data_type: DataType, count: usize) -> Option<usize> {
    match data_type {
        DataType::Complex64 | DataType::Complex128 => count.checked_mul(2),
        DataType::Uint4 | DataType::Int4 | DataType::Float4E2m1 => Some(count.div_ceil(2)),
        DataType::Uint2 | DataType::Int2 => Some(count.div_ceil(4)),
        _ => Some(count),
    }
}

fn typed_found(tensor: &Tensor, data_type: DataType) -> usize {
    match data_type {
        DataType::Float | DataType::Complex64 => tensor.float_data.len(),
        DataType::Double | DataType::Complex128 => tensor.double_data.len(),
        DataType::Int64 => tensor.int64_data.len(),
        DataType::Uint32 | DataType::Uint64 => tensor.uint64_data.len(),
        DataType::String => tensor.string_data.len(),
        _ => tensor.int32_data.len(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::RngSeed};

    use super::super::{AttributeKind, DimensionValue, OperatorSetId, StringStringEntry, ValueInfo, write};
    use super::*;

    /// `y = Relu(x) + [1, -2]`, with one of everything that nests.
    fn model() -> Model {
        let dims = || vec![DimensionValue::DimParam("batch".to_owned()), DimensionValue::DimValue(2)];
        let bytes = [1.0f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let inner = Graph { initializer: vec![Tensor::new("k", DataType::Int8, &[3], vec![1, 2, 255])], ..Graph::default() };
        let body = Attribute {
            name: Some("body".to_owned()),
            g: Some(Box::new(inner)),
            r#type: Some(AttributeKind::Graph.into()),
            ..Attribute::default()
        };
        let graph = Graph {
            name: Some("graph".to_owned()),
            node: vec![
                Node::new("Relu", "relu", &["x"], &["r"]).with(body),
                Node::new("Add", "add", &["r", "bias"], &["y"])
                    .with(Attribute::ints("ints", &[-1, 0, 300]))
                    .with(Attribute::int("zero", 0))
                    .with(Attribute::float("alpha", 0.1))
                    .with(Attribute::string("mode", "constant")),
            ],
            initializer: vec![Tensor::new("bias", DataType::Float, &[2], bytes)],
            input: vec![ValueInfo::tensor("x", DataType::Float, dims())],
            output: vec![ValueInfo::tensor("y", DataType::Float, dims())],
            ..Graph::default()
        };
        Model {
            ir_version: Some(8),
            producer_name: Some("test".to_owned()),
            graph: Some(graph),
            opset_import: vec![OperatorSetId { domain: Some(String::new()), version: Some(13) }],
            metadata_props: vec![StringStringEntry { key: Some("k".to_owned()), value: Some("v".to_owned()) }],
            ..Model::default()
        }
    }

    /// The model of [`model`] with the tensor `bias` changed.
    fn with_bias(change: impl FnOnce(&mut Tensor)) -> Vec<u8> {
        let mut model = model();
        change(&mut model.graph.as_mut().unwrap().initializer[0]);
        write(&model)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = write(&model());
        assert_eq!(read(&bytes).unwrap(), model());
        assert_eq!(write(&read(&bytes).unwrap()), bytes);
    }

    #[test]
    fn a_zero_attribute_is_present() {
        let model = read(&write(&model())).unwrap();
        let add = &model.graph.unwrap().node[1];
        assert_eq!(add.attribute("zero").unwrap().i, Some(0));
        assert_eq!(add.attribute("absent"), None);
    }

    #[test]
    fn every_truncation_that_loses_the_graph_or_opset_is_refused() {
        let mut bare = model();
        bare.metadata_props.clear();
        let bytes = write(&bare);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "a prefix of {length} of {} bytes was read", bytes.len());
        }
    }

    #[test]
    fn elements_must_fill_the_shape() {
        let short = read(&with_bias(|bias| bias.raw_data = Some(vec![0; 7]))).unwrap_err();
        assert!(matches!(short, ReadError::Length { expected: 8, found: 7, .. }), "{short}");
        let typed = read(&with_bias(|bias| {
            bias.raw_data = None;
            bias.float_data = vec![1.0];
        }))
        .unwrap_err();
        assert!(matches!(typed, ReadError::Length { expected: 2, found: 1, .. }), "{typed}");
        let absent = read(&with_bias(|bias| bias.raw_data = None)).unwrap_err();
        assert!(matches!(absent, ReadError::Length { expected: 2, found: 0, .. }), "{absent}");
    }

    #[test]
    fn hostile_shapes_and_types_are_refused() {
        let negative = read(&with_bias(|bias| bias.dims = vec![-2, -1])).unwrap_err();
        assert!(matches!(negative, ReadError::Shape { .. }), "{negative}");
        let huge = read(&with_bias(|bias| bias.dims = vec![i64::MAX, i64::MAX])).unwrap_err();
        assert!(matches!(huge, ReadError::Shape { .. }), "{huge}");
        let bits = read(&with_bias(|bias| bias.dims = vec![i64::MAX])).unwrap_err();
        assert!(matches!(bits, ReadError::Shape { .. }), "{bits}");
        let empty = read(&with_bias(|bias| {
            bias.dims = vec![i64::MAX, i64::MAX, 0];
            bias.raw_data = Some(Vec::new());
        }));
        assert!(empty.is_ok(), "an empty tensor has no elements: {empty:?}");
        let unknown = read(&with_bias(|bias| bias.data_type = Some(99))).unwrap_err();
        assert!(matches!(unknown, ReadError::DataType { data_type: 99, .. }), "{unknown}");
    }

    #[test]
    fn four_bit_elements_share_bytes() {
        let int4 = |raw: Vec<u8>| with_bias(|bias| *bias = Tensor::new("bias", DataType::Int4, &[3], raw));
        assert!(read(&int4(vec![0x21, 0x03])).is_ok());
        assert!(read(&int4(vec![1, 2, 3])).is_err());
    }

    #[test]
    fn tensors_in_nested_graphs_are_checked() {
        let mut model = model();
        let nested = model.graph.as_mut().unwrap().node[0].attribute[0].g.as_mut().unwrap();
        nested.initializer[0].dims = vec![4];
        let error = read(&write(&model)).unwrap_err();
        assert!(matches!(error, ReadError::Length { expected: 4, found: 3, .. }), "{error}");
    }

    #[test]
    fn endless_nesting_is_refused() {
        let mut graph = Graph::default();
        for _ in 0..1000 {
            let attribute = Attribute { g: Some(Box::new(graph)), ..Attribute::default() };
            graph = Graph { node: vec![Node::default().with(attribute)], ..Graph::default() };
        }
        let bytes = write(&Model { graph: Some(graph), ..model() });
        assert!(matches!(read(&bytes), Err(ReadError::Decode { .. })));
    }

    #[test]
    fn elements_are_taken_from_either_field() {
        let raw = [5i64, -6].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(Tensor::new("a", DataType::Int64, &[2], raw).to_i64s(), Some(vec![5, -6]));
        assert_eq!(Tensor::new("a", DataType::Int8, &[2], vec![255, 3]).to_i64s(), Some(vec![-1, 3]));
        assert_eq!(Tensor::new("a", DataType::Uint8, &[2], vec![255, 3]).to_i64s(), Some(vec![255, 3]));
        let typed = Tensor { data_type: Some(DataType::Float.into()), float_data: vec![0.5], ..Tensor::default() };
        assert_eq!((typed.to_f32s(), typed.to_i64s()), (Some(vec![0.5]), None));
    }

    proptest! {
        // The seed is fixed, so that a failure is seen again by running the test again.
        #![proptest_config(ProptestConfig {
            cases: 5000,
            rng_seed: RngSeed::Fixed(20261123),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }

        #[test]
        fn changed_bytes_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
            let mut bytes = write(&model());
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] ^= value;
            }
            if let Ok(model) = read(&bytes) {
                for tensor in model.graph.iter().flat_map(|graph| &graph.initializer) {
                    let _ = (tensor.to_f32s(), tensor.to_i64s());
                }
                // What was understood is written and understood again.
                prop_assert!(read(&write(&model)).is_ok());
            }
        }
    }
}
