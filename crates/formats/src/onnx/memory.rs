//! What the messages of an ONNX file take in memory, estimated from its bytes before they are decoded.
//!
//! An empty message is two bytes in a file and up to some hundred as a struct, so that a file of nothing but these would take a
//! hundred times its length. This goes through the file as the decoder does, without building anything.

use super::schema::{
    Attribute, Dimension, Function, Graph, Model, Node, OperatorSetId, SparseTensor, StringStringEntry, Tensor, TensorShape,
    TensorType, Type, ValueInfo,
};

/// Messages nested deeper are refused by the decoder.
const MAX_DEPTH: usize = 100;

/// The messages that hold other messages, and those that hold none.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Function,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    TensorType,
    TensorShape,
    Dimension,
    OperatorSetId,
    StringStringEntry,
}

impl Message {
    /// The message that the field with this tag is; `None` for a field that is none.
    fn child(self, tag: u64) -> Option<Self> {
        match (self, tag) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 8) | (Self::Function, 9) => Some(Self::OperatorSetId),
            (Self::Model, 14) | (Self::Tensor, 13) => Some(Self::StringStringEntry),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => Some(Self::Tensor),
            (Self::Graph, 11..=13) => Some(Self::ValueInfo),
            (Self::Graph, 15) => Some(Self::SparseTensor),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            (Self::ValueInfo, 2) => Some(Self::Type),
            (Self::Type, 1) => Some(Self::TensorType),
            (Self::TensorType, 2) => Some(Self::TensorShape),
            (Self::TensorShape, 1) => Some(Self::Dimension),
            _ => None,
        }
    }

    /// Bytes of its struct.
    fn size(self) -> usize {
        match self {
            Self::Model => size_of::<Model>(),
            Self::Graph => size_of::<Graph>(),
            Self::Node => size_of::<Node>(),
            Self::Function => size_of::<Function>(),
            Self::Attribute => size_of::<Attribute>(),
            Self::Tensor => size_of::<Tensor>(),
            Self::SparseTensor => size_of::<SparseTensor>(),
            Self::ValueInfo => size_of::<ValueInfo>(),
            Self::Type => size_of::<Type>(),
            Self::TensorType => size_of::<TensorType>(),
            Self::TensorShape => size_of::<TensorShape>(),
            Self::Dimension => size_of::<Dimension>(),
            Self::OperatorSetId => size_of::<OperatorSetId>(),
            Self::StringStringEntry => size_of::<StringStringEntry>(),
        }
    }
}

/// Bytes that the model in `bytes` takes in memory, at least up to the place where decoding fails if it does. Lists are counted
/// without the room that they keep for more.
pub(super) fn memory(bytes: &[u8]) -> usize {
    Message::Model.size().saturating_add(of_fields(Message::Model, bytes, 0))
}

fn of_fields(message: Message, mut bytes: &[u8], depth: usize) -> usize {
    let mut sum = 0usize;
    // Where this ends early, the decoder ends with an error.
    while let Some(key) = varint(&mut bytes) {
        let (tag, wire_type) = (key >> 3, key & 7);
        let field = match wire_type {
            0 => varint(&mut bytes).map(|_| size_of::<i64>()),
            1 => bytes.split_off(..8).map(|_| size_of::<i64>()),
            5 => bytes.split_off(..4).map(|_| size_of::<f32>()),
            2 => length_delimited(&mut bytes).map(|field| match message.child(tag) {
                Some(_) if depth == MAX_DEPTH => 0,
                Some(child) => child.size().saturating_add(of_fields(child, field, depth + 1)),
                // A text or bytes, or packed numbers of which each may be one byte here and eight in memory.
                None => size_of::<Vec<u8>>() + field.len().saturating_mul(packed_factor(message, tag)),
            }),
            // The ends of a group, which the decoder skips; what is in it is counted, for want of a reason not to.
            3 | 4 => Some(0),
            _ => None,
        };
        let Some(field) = field else { break };
        sum = sum.saturating_add(field);
    }
    sum
}

/// Bytes in memory for each of a field without messages.
fn packed_factor(message: Message, tag: u64) -> usize {
    match (message, tag) {
        // `int32_data`, `int64_data` and `uint64_data`; `dims` and `ints`, which may be packed too.
        (Message::Tensor, 1 | 5 | 7 | 11) | (Message::Attribute, 8) | (Message::SparseTensor, 3) => size_of::<i64>(),
        _ => 1,
    }
}

/// Takes a number of seven bits to a byte, the lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Takes a length and as many bytes.
fn length_delimited<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    bytes.split_off(..length)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::super::{DataType, DimensionValue};
    use super::*;

    #[test]
    fn every_message_is_counted() {
        let tensor = Tensor::new("w", DataType::Int8, &[3], vec![1, 2, 3]);
        let sparse = SparseTensor { values: Some(tensor.clone()), indices: Some(tensor.clone()), dims: vec![9] };
        let value = ValueInfo::tensor("x", DataType::Float, vec![DimensionValue::DimValue(1), DimensionValue::DimValue(2)]);
        let inner = Graph { input: vec![value.clone()], ..Graph::default() };
        let attribute = Attribute { g: Some(Box::new(inner)), t: Some(Box::new(tensor.clone())), ..Attribute::default() };
        let node = Node::default().with(attribute);
        let function = Function { node: vec![node.clone()], opset_import: vec![OperatorSetId::default()], ..Function::default() };
        let model = Model {
            graph: Some(Graph {
                node: vec![node],
                initializer: vec![tensor],
                sparse_initializer: vec![sparse],
                output: vec![value],
                ..Graph::default()
            }),
            opset_import: vec![OperatorSetId::default()],
            metadata_props: vec![StringStringEntry::default()],
            functions: vec![function],
            ..Model::default()
        };
        let value = size_of::<ValueInfo>()
            + size_of::<Type>()
            + size_of::<TensorType>()
            + size_of::<TensorShape>()
            + 2 * (size_of::<Dimension>() + 8)
            // The name and the element type.
            + size_of::<String>() + 1 + 8;
        // The dimension, the type, the name and the elements.
        let tensor = size_of::<Tensor>() + 8 + 8 + size_of::<String>() + 1 + size_of::<Vec<u8>>() + 3;
        let node = size_of::<Node>() + size_of::<Attribute>() + tensor + size_of::<Graph>() + value;
        let function = size_of::<Function>() + node + size_of::<OperatorSetId>();
        let graph = size_of::<Graph>() + node + tensor + size_of::<SparseTensor>() + 2 * tensor + 8 + value;
        let rest = size_of::<OperatorSetId>() + size_of::<StringStringEntry>();
        assert_eq!(memory(&model.encode_to_vec()), size_of::<Model>() + graph + rest + function);
    }

    #[test]
    fn packed_numbers_are_counted_as_numbers() {
        let tensor = Tensor { int64_data: vec![1; 1000], ..Tensor::default() };
        let graph = Graph { initializer: vec![tensor], ..Graph::default() };
        let model = Model { graph: Some(graph), ..Model::default() };
        assert!(memory(&model.encode_to_vec()) > 8000);
    }

    #[test]
    fn what_is_cut_off_is_counted_so_far() {
        let node = [0x0a, 0x00];
        let graph = [&[0x3a, 0x80, 0x01], node.repeat(64).as_slice()].concat();
        let whole = size_of::<Model>() + size_of::<Graph>() + 64 * size_of::<Node>();
        assert_eq!(memory(&graph), whole);
        assert_eq!(memory(&[graph.as_slice(), &[0xff]].concat()), whole);
        assert_eq!(memory(&graph[..100]), size_of::<Model>());
        assert_eq!(memory(&[0xff; 20]), size_of::<Model>());
        // A group that is opened and never closed.
        assert_eq!(memory(&[&[0x0b], graph.as_slice()].concat()), whole);
    }
}
