//! The messages of `onnx.proto`, under its field names and tags.
//!
//! The schema is proto2: scalar fields are `Option`, where `None` is "not written", and repeated numbers are unpacked except
//! where the schema says otherwise. Fields that no reader here needs (training information, sparse attributes, sequence and
//! map types, quantization annotations) are left out, and skipped when read.

use prost::{Message, Oneof};

use crate::elements::{bf16_to_f32, f16_to_f32, packed_signed, packed_unsigned};

/// A file: one graph, the operator sets it is written in, and who wrote it (`ModelProto`).
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// Version of the file structures, as in 8.
    #[prost(int64, optional, tag = "1")]
    pub ir_version: Option<i64>,
    /// Name of the tool that wrote the file.
    #[prost(string, optional, tag = "2")]
    pub producer_name: Option<String>,
    /// Version of the tool that wrote the file.
    #[prost(string, optional, tag = "3")]
    pub producer_version: Option<String>,
    /// Reverse-DNS namespace of the model.
    #[prost(string, optional, tag = "4")]
    pub domain: Option<String>,
    /// Version of the model itself.
    #[prost(int64, optional, tag = "5")]
    pub model_version: Option<i64>,
    /// For people.
    #[prost(string, optional, tag = "6")]
    pub doc_string: Option<String>,
    /// What is computed; always present in a model that [`read`](super::read) returns.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// Operator sets in use; at least one in a model that [`read`](super::read) returns.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetId>,
    /// Named values beside the graph; names are unique.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntry>,
    /// Operators defined by the model itself.
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<Function>,
}

/// A version of an operator set (`OperatorSetIdProto`).
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetId {
    /// `None` or empty for the standard operators, `ai.onnx`.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// As in 13.
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// A named text (`StringStringEntryProto`).
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntry {
    /// The name.
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    /// The text.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// Nodes in execution order, their constants, and what comes in and goes out (`GraphProto`).
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// Each node stands after those that define its inputs.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Required by the ONNX checker.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// Constants, each under the name by which nodes refer to it.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// For people.
    #[prost(string, optional, tag = "10")]
    pub doc_string: Option<String>,
    /// What the caller supplies. Up to IR version 3 the initializers are listed here as well.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// What the caller receives.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
    /// Types of values in between.
    #[prost(message, repeated, tag = "13")]
    pub value_info: Vec<ValueInfo>,
    /// Constants of mostly zeros, each under the name of its `values`.
    #[prost(message, repeated, tag = "15")]
    pub sparse_initializer: Vec<SparseTensor>,
}

/// A constant of mostly zeros (`SparseTensorProto`).
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensor {
    /// The elements that are not zero; its name is that of the whole.
    #[prost(message, optional, tag = "1")]
    pub values: Option<Tensor>,
    /// Where they are.
    #[prost(message, optional, tag = "2")]
    pub indices: Option<Tensor>,
    /// Shape of the whole.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

/// One application of an operator (`NodeProto`).
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of values; an empty name is an optional input left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the values it defines.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// For people and tools; may be absent.
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    /// As in `Conv`.
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    /// Named constants of the operator.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    /// For people.
    #[prost(string, optional, tag = "6")]
    pub doc_string: Option<String>,
    /// Operator set of `op_type`; `None` or empty for the standard one.
    #[prost(string, optional, tag = "7")]
    pub domain: Option<String>,
    /// Distinguishes overloads of a model's own functions.
    #[prost(string, optional, tag = "8")]
    pub overload: Option<String>,
}

impl Node {
    /// A node of the standard operator set without attributes.
    pub fn new(op_type: &str, name: &str, input: &[&str], output: &[&str]) -> Self {
        Self {
            op_type: Some(op_type.to_owned()),
            name: Some(name.to_owned()),
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: output.iter().map(|&name| name.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The same node with one attribute more.
    pub fn with(mut self, attribute: Attribute) -> Self {
        self.attribute.push(attribute);
        self
    }

    /// The attribute called `name`.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attribute.iter().find(|attribute| attribute.name() == name)
    }
}

/// An operator defined by the model as a graph of others (`FunctionProto`).
#[derive(Clone, PartialEq, Message)]
pub struct Function {
    /// The `op_type` it defines.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Names of the formal inputs.
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    /// Names of the formal outputs.
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    /// Names of attributes without default.
    #[prost(string, repeated, tag = "6")]
    pub attribute: Vec<String>,
    /// The body, in execution order.
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<Node>,
    /// Operator sets of the body.
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetId>,
    /// The domain it defines its operator in.
    #[prost(string, optional, tag = "10")]
    pub domain: Option<String>,
    /// Attributes with their defaults.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<Attribute>,
    /// Distinguishes overloads.
    #[prost(string, optional, tag = "13")]
    pub overload: Option<String>,
}

/// A named constant of a node (`AttributeProto`). `kind` says which of the value fields holds it.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// As in `strides`.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Value of a [`AttributeKind::Float`].
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// Value of an [`AttributeKind::Int`].
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// Value of an [`AttributeKind::String`], UTF-8 by convention.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub s: Option<Vec<u8>>,
    /// Value of an [`AttributeKind::Tensor`].
    #[prost(message, optional, boxed, tag = "5")]
    pub t: Option<Box<Tensor>>,
    /// Value of an [`AttributeKind::Graph`].
    #[prost(message, optional, boxed, tag = "6")]
    pub g: Option<Box<Graph>>,
    /// Value of an [`AttributeKind::Floats`].
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Value of an [`AttributeKind::Ints`].
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Value of an [`AttributeKind::Strings`].
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    /// Value of an [`AttributeKind::Tensors`].
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<Tensor>,
    /// Value of an [`AttributeKind::Graphs`].
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<Graph>,
    /// Inside a [`Function`]: the function's attribute that gives the value.
    #[prost(string, optional, tag = "21")]
    pub ref_attr_name: Option<String>,
    /// An [`AttributeKind`] as its number.
    #[prost(enumeration = "AttributeKind", optional, tag = "20")]
    pub r#type: Option<i32>,
}

impl Attribute {
    /// An attribute of one integer.
    pub fn int(name: &str, value: i64) -> Self {
        Self { name: Some(name.to_owned()), i: Some(value), r#type: Some(AttributeKind::Int.into()), ..Self::default() }
    }

    /// An attribute of one number.
    pub fn float(name: &str, value: f32) -> Self {
        Self { name: Some(name.to_owned()), f: Some(value), r#type: Some(AttributeKind::Float.into()), ..Self::default() }
    }

    /// An attribute of several integers.
    pub fn ints(name: &str, values: &[i64]) -> Self {
        Self { name: Some(name.to_owned()), ints: values.to_vec(), r#type: Some(AttributeKind::Ints.into()), ..Self::default() }
    }

    /// An attribute of one text.
    pub fn string(name: &str, value: &str) -> Self {
        let s = Some(value.as_bytes().to_vec());
        Self { name: Some(name.to_owned()), s, r#type: Some(AttributeKind::String.into()), ..Self::default() }
    }
}

/// Which value field of an [`Attribute`] holds it (`AttributeProto.AttributeType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AttributeKind {
    /// Not said: files of IR version 1.
    Undefined = 0,
    /// `f`
    Float = 1,
    /// `i`
    Int = 2,
    /// `s`
    String = 3,
    /// `t`
    Tensor = 4,
    /// `g`
    Graph = 5,
    /// `floats`
    Floats = 6,
    /// `ints`
    Ints = 7,
    /// `strings`
    Strings = 8,
    /// `tensors`
    Tensors = 9,
    /// `graphs`
    Graphs = 10,
    /// A sparse tensor, whose field is not read here.
    SparseTensor = 11,
    /// Sparse tensors, whose field is not read here.
    SparseTensors = 12,
    /// A type, whose field is not read here.
    TypeProto = 13,
    /// Types, whose field is not read here.
    TypeProtos = 14,
}

/// A constant (`TensorProto`). Its elements are in `raw_data`, little-endian, or in the typed field of its data type.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Row-major; empty for a scalar.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// A [`DataType`] as its number.
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    /// Elements of [`DataType::Float`], and pairs of [`DataType::Complex64`].
    #[prost(float, repeated, packed = "true", tag = "4")]
    pub float_data: Vec<f32>,
    /// Elements of 32 bits and fewer other than [`DataType::Float`], one to a number; 16-bit floats as their bits; elements of
    /// fewer than 8 bits packed as in `raw_data`, a byte to a number.
    #[prost(int32, repeated, packed = "true", tag = "5")]
    pub int32_data: Vec<i32>,
    /// Elements of [`DataType::String`].
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub string_data: Vec<Vec<u8>>,
    /// Elements of [`DataType::Int64`].
    #[prost(int64, repeated, packed = "true", tag = "7")]
    pub int64_data: Vec<i64>,
    /// The name by which nodes refer to it.
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    /// Elements as little-endian bytes; those of fewer than 8 bits packed from the lowest bits upwards.
    #[prost(bytes = "vec", optional, tag = "9")]
    pub raw_data: Option<Vec<u8>>,
    /// Elements of [`DataType::Double`], and pairs of [`DataType::Complex128`].
    #[prost(double, repeated, packed = "true", tag = "10")]
    pub double_data: Vec<f64>,
    /// Elements of [`DataType::Uint32`] and [`DataType::Uint64`].
    #[prost(uint64, repeated, packed = "true", tag = "11")]
    pub uint64_data: Vec<u64>,
    /// For people.
    #[prost(string, optional, tag = "12")]
    pub doc_string: Option<String>,
    /// Where the bytes are, for [`Tensor::is_external`]; [`ExternalData::of`](super::ExternalData::of) understands it.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntry>,
    /// 1 when the elements are in another file.
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
}

impl Tensor {
    /// A constant of little-endian bytes `raw_data`, which fill `dims`.
    pub fn new(name: &str, data_type: DataType, dims: &[i64], raw_data: Vec<u8>) -> Self {
        Self {
            name: Some(name.to_owned()),
            data_type: Some(data_type.into()),
            dims: dims.to_vec(),
            raw_data: Some(raw_data),
            ..Self::default()
        }
    }

    /// The elements are in another file, named by `external_data`.
    pub fn is_external(&self) -> bool {
        self.data_location == Some(1)
    }

    /// What the elements are; `None` for a number that names no type of IR version 14.
    pub fn element_type(&self) -> Option<DataType> {
        DataType::try_from(self.data_type.unwrap_or_default()).ok()
    }

    /// Number of elements, the product of `dims`; `None` if a dimension is negative or the product overflows.
    pub fn element_count(&self) -> Option<usize> {
        // A zero anywhere makes the tensor empty, whatever the other dimensions multiply to.
        let dims = self.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect::<Option<Vec<_>>>()?;
        if dims.contains(&0) {
            return Some(0);
        }
        dims.into_iter().try_fold(1, usize::checked_mul)
    }

    /// Elements of a [`DataType::Float`] tensor, or of a [`DataType::Float16`] or [`DataType::Bfloat16`] one, widened exactly,
    /// from whichever field has them; `None` for other types and for external data.
    pub fn to_f32s(&self) -> Option<Vec<f32>> {
        let data_type = self.element_type()?;
        if self.is_external() {
            return None;
        }
        let halves = |to_f32: fn(u16) -> f32| match &self.raw_data {
            Some(raw) => raw.as_chunks().0.iter().map(|&bytes| to_f32(u16::from_le_bytes(bytes))).collect(),
            None => self.int32_data.iter().map(|&bits| to_f32(bits as u16)).collect(),
        };
        match (data_type, &self.raw_data) {
            (DataType::Float, Some(raw)) => Some(raw.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()),
            (DataType::Float, None) => Some(self.float_data.clone()),
            (DataType::Float16, _) => Some(halves(f16_to_f32)),
            (DataType::Bfloat16, _) => Some(halves(bf16_to_f32)),
            _ => None,
        }
    }

    /// Elements of an integer or [`DataType::Bool`] tensor, those of 2 and 4 bits unpacked, widened, from whichever field has
    /// them; `None` for other types, for external data and for a [`DataType::Uint64`] element beyond [`i64::MAX`].
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        let data_type = self.element_type()?;
        if self.is_external() {
            return None;
        }
        let count = self.element_count()?;
        let Some(raw) = &self.raw_data else {
            // Elements that share a byte share a number.
            let packed = || self.int32_data.iter().map(|&byte| byte as u8).collect::<Vec<_>>();
            return match data_type {
                DataType::Int64 => Some(self.int64_data.clone()),
                DataType::Uint64 | DataType::Uint32 => self.uint64_data.iter().map(|&value| value.try_into().ok()).collect(),
                DataType::Int32 | DataType::Int16 | DataType::Uint16 | DataType::Int8 | DataType::Uint8 | DataType::Bool => {
                    Some(self.int32_data.iter().map(|&value| value.into()).collect())
                }
                _ => unpacked(data_type, &packed(), count),
            };
        };
        match data_type {
            DataType::Int64 => Some(raw.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect()),
            DataType::Uint64 => raw.as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes).try_into().ok()).collect(),
            DataType::Int32 => Some(raw.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes).into()).collect()),
            DataType::Uint32 => Some(raw.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes).into()).collect()),
            DataType::Int16 => Some(raw.as_chunks().0.iter().map(|&bytes| i16::from_le_bytes(bytes).into()).collect()),
            DataType::Uint16 => Some(raw.as_chunks().0.iter().map(|&bytes| u16::from_le_bytes(bytes).into()).collect()),
            DataType::Int8 => Some(raw.iter().map(|&byte| byte.cast_signed().into()).collect()),
            DataType::Uint8 | DataType::Bool => Some(raw.iter().map(|&byte| byte.into()).collect()),
            _ => unpacked(data_type, raw, count),
        }
    }
}

/// `count` integers of 2 or 4 bits; `None` for other types.
fn unpacked(data_type: DataType, bytes: &[u8], count: usize) -> Option<Vec<i64>> {
    match data_type {
        DataType::Int4 => Some(packed_signed(bytes, 4, count).map(i64::from).collect()),
        DataType::Uint4 => Some(packed_unsigned(bytes, 4, count).map(i64::from).collect()),
        DataType::Int2 => Some(packed_signed(bytes, 2, count).map(i64::from).collect()),
        DataType::Uint2 => Some(packed_unsigned(bytes, 2, count).map(i64::from).collect()),
        _ => None,
    }
}

/// What the elements of a tensor are (`TensorProto.DataType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DataType {
    /// Not said.
    Undefined = 0,
    /// 32-bit float.
    Float = 1,
    /// Unsigned 8-bit integer.
    Uint8 = 2,
    /// Signed 8-bit integer.
    Int8 = 3,
    /// Unsigned 16-bit integer.
    Uint16 = 4,
    /// Signed 16-bit integer.
    Int16 = 5,
    /// Signed 32-bit integer.
    Int32 = 6,
    /// Signed 64-bit integer.
    Int64 = 7,
    /// Text.
    String = 8,
    /// One byte, 0 or 1.
    Bool = 9,
    /// IEEE half precision.
    Float16 = 10,
    /// 64-bit float.
    Double = 11,
    /// Unsigned 32-bit integer.
    Uint32 = 12,
    /// Unsigned 64-bit integer.
    Uint64 = 13,
    /// Two 32-bit floats.
    Complex64 = 14,
    /// Two 64-bit floats.
    Complex128 = 15,
    /// Upper half of a 32-bit float.
    Bfloat16 = 16,
    /// 8-bit float without infinities.
    Float8E4m3fn = 17,
    /// 8-bit float without infinities and negative zero.
    Float8E4m3fnuz = 18,
    /// 8-bit float.
    Float8E5m2 = 19,
    /// 8-bit float without infinities and negative zero.
    Float8E5m2fnuz = 20,
    /// Unsigned 4-bit integer.
    Uint4 = 21,
    /// Signed 4-bit integer.
    Int4 = 22,
    /// 4-bit float.
    Float4E2m1 = 23,
    /// 8-bit power of two.
    Float8E8m0 = 24,
    /// Unsigned 2-bit integer.
    Uint2 = 25,
    /// Signed 2-bit integer.
    Int2 = 26,
}

impl DataType {
    /// Bits an element takes in `raw_data`; `None` for text and [`DataType::Undefined`].
    pub fn bits(self) -> Option<usize> {
        match self {
            Self::Undefined | Self::String => None,
            Self::Uint2 | Self::Int2 => Some(2),
            Self::Uint4 | Self::Int4 | Self::Float4E2m1 => Some(4),
            Self::Uint8 | Self::Int8 | Self::Bool => Some(8),
            Self::Float8E4m3fn | Self::Float8E4m3fnuz | Self::Float8E5m2 | Self::Float8E5m2fnuz | Self::Float8E8m0 => Some(8),
            Self::Uint16 | Self::Int16 | Self::Float16 | Self::Bfloat16 => Some(16),
            Self::Float | Self::Int32 | Self::Uint32 => Some(32),
            Self::Int64 | Self::Uint64 | Self::Double | Self::Complex64 => Some(64),
            Self::Complex128 => Some(128),
        }
    }
}

/// Name and type of a value (`ValueInfoProto`).
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    /// The name by which nodes refer to it.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// What it holds.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
    /// For people.
    #[prost(string, optional, tag = "3")]
    pub doc_string: Option<String>,
}

impl ValueInfo {
    /// A tensor whose every dimension has a size or a name.
    pub fn tensor(name: &str, data_type: DataType, dims: Vec<DimensionValue>) -> Self {
        let dim = dims.into_iter().map(|value| Dimension { value: Some(value) }).collect();
        let tensor_type = TensorType { elem_type: Some(data_type.into()), shape: Some(TensorShape { dim }) };
        Self { name: Some(name.to_owned()), r#type: Some(Type { tensor_type: Some(tensor_type) }), doc_string: None }
    }
}

/// The type of a value (`TypeProto`); sequences, maps and optionals read as `tensor_type: None`.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    /// A dense tensor.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

/// Type of a dense tensor (`TypeProto.Tensor`).
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// A [`DataType`] as its number.
    #[prost(int32, optional, tag = "1")]
    pub elem_type: Option<i32>,
    /// `None` where not even the rank is known.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
}

/// Shape of a tensor (`TensorShapeProto`).
#[derive(Clone, PartialEq, Message)]
pub struct TensorShape {
    /// Outermost first.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// One dimension (`TensorShapeProto.Dimension`).
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// `None` where nothing is known.
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    pub value: Option<DimensionValue>,
}

/// What is known of a dimension.
#[derive(Clone, PartialEq, Oneof)]
pub enum DimensionValue {
    /// Its size.
    #[prost(int64, tag = "1")]
    DimValue(i64),
    /// A name for a size that varies, as in `batch`.
    #[prost(string, tag = "2")]
    DimParam(String),
}
