//! The tensors of a checkpoint, to the file and from it.

use std::{borrow::Cow, collections::BTreeSet};

use ::safetensors::{Dtype, SafeTensors, View, tensor::TensorView};
use qat_runtime::{CodeType, Codes, Op, PackedCodes, QParams, SoftmaxTable, ValueInfo, WeightBits, Weights};

use crate::error::CheckpointError;

/// A tensor to be written.
pub(super) struct Elements {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Elements {
    pub(super) fn f32s(shape: &[usize], values: &[f32]) -> Self {
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }

    fn i16s(values: &[i16]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::I16, shape: vec![values.len()], bytes }
    }

    fn i32s(values: &[i32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::I32, shape: vec![values.len()], bytes }
    }

    /// The zero point of a value, in the type of its codes.
    pub(super) fn zero_point(value: &ValueInfo) -> Self {
        let dtype = dtype(value.code_type);
        // Validation keeps the zero point within the code type, so its lowest bytes are the whole of it.
        let bytes = value.qparams.zero_point.to_le_bytes()[..value.code_type.bytes()].to_vec();
        Self { dtype, shape: Vec::new(), bytes }
    }

    fn packed(codes: &PackedCodes, shape: Vec<usize>) -> Self {
        let bytes = codes.as_bytes().to_vec();
        match codes.bits() {
            WeightBits::Eight => Self { dtype: Dtype::I8, shape, bytes },
            WeightBits::Four | WeightBits::Two => Self { dtype: Dtype::U8, shape: vec![bytes.len()], bytes },
        }
    }

    /// Biases of a layer whose input has that type of codes.
    fn bias(bias: &[i64], input: Option<CodeType>) -> Self {
        if input == Some(CodeType::Int16) {
            let bytes = bias.iter().flat_map(|bias| bias.to_le_bytes()).collect();
            return Self { dtype: Dtype::I64, shape: vec![bias.len()], bytes };
        }
        // Validation keeps biases on int8 inputs within int32.
        let narrow: Vec<i32> = bias.iter().map(|&bias| bias as i32).collect();
        Self::i32s(&narrow)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl View for Elements {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn dtype(code_type: CodeType) -> Dtype {
    match code_type {
        CodeType::Int8 => Dtype::I8,
        CodeType::Int16 => Dtype::I16,
        CodeType::Int32 => Dtype::I32,
    }
}

/// The tensors of an operation, by what follows the dot in their names; `input` is the type of its input's codes.
pub(super) fn of(op: &Op, input: Option<CodeType>) -> Vec<(&'static str, Elements)> {
    let layer = |weights: &Weights, shape: Vec<usize>| {
        vec![
            ("weight", Elements::packed(&weights.codes, shape)),
            ("weight_scale", Elements::f32s(&[weights.scale.len()], &weights.scale)),
            ("bias", Elements::bias(&weights.bias, input)),
        ]
    };
    match op {
        Op::Conv2d(op) => layer(&op.weights, vec![op.c_out, op.c_in / op.groups, op.kernel[0], op.kernel[1]]),
        Op::ConvTranspose2d(op) => layer(&op.weights, vec![op.c_out, op.c_in / op.groups, op.kernel[0], op.kernel[1]]),
        Op::Linear(op) => layer(&op.weights, vec![op.d_output, op.d_input]),
        Op::Gather(op) => vec![("table", Elements::packed(&op.table, vec![op.rows, op.width]))],
        Op::Unary(op) => vec![("table", Elements::i16s(&op.table))],
        Op::Softmax(op) => match &op.table {
            SoftmaxTable::Real(table) => vec![("table", Elements::f32s(&[table.len()], table))],
            SoftmaxTable::Fixed(table) => vec![("table", Elements::i32s(table))],
            SoftmaxTable::Interpolated { exp, reciprocal } => {
                vec![("exp", Elements::i16s(exp)), ("reciprocal", Elements::i16s(reciprocal))]
            }
            _ => Vec::new(),
        },
        Op::Constant(Codes::Int8(codes)) => vec![("codes", Elements::packed(&PackedCodes::eight(codes), vec![codes.len()]))],
        Op::Constant(Codes::Int16(codes)) => vec![("codes", Elements::i16s(codes))],
        Op::Constant(Codes::Int32(codes)) => vec![("codes", Elements::i32s(codes))],
        _ => Vec::new(),
    }
}

/// The tensors of a file, each of which is read once.
pub(super) struct File<'a> {
    tensors: SafeTensors<'a>,
    unread: BTreeSet<String>,
}

impl<'a> File<'a> {
    pub(super) fn new(tensors: SafeTensors<'a>) -> Self {
        let unread = tensors.names().into_iter().map(str::to_owned).collect();
        Self { tensors, unread }
    }

    /// The first tensor that was not read.
    pub(super) fn unread(mut self) -> Option<String> {
        self.unread.pop_first()
    }

    /// The tensor `name` of type `dtype`, whose shape satisfies `is_expected`, described by `expected`.
    fn take(
        &mut self,
        name: &str,
        dtype: Dtype,
        expected: &str,
        is_expected: impl Fn(&[usize]) -> bool,
    ) -> Result<TensorView<'a>, CheckpointError> {
        if !self.unread.remove(name) {
            return Err(CheckpointError::MissingTensor { name: name.to_owned() });
        }
        let tensor = self.tensors.tensor(name).map_err(|source| CheckpointError::Format { source })?;
        if tensor.dtype() != dtype {
            return Err(CheckpointError::DataType { name: name.to_owned(), expected: dtype, found: tensor.dtype() });
        }
        if !is_expected(tensor.shape()) {
            let (expected, found) = (expected.to_owned(), tensor.shape().to_vec());
            return Err(CheckpointError::Shape { name: name.to_owned(), expected, found });
        }
        Ok(tensor)
    }

    /// The elements of a list.
    fn list<const N: usize, T>(
        &mut self,
        name: &str,
        dtype: Dtype,
        element: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, CheckpointError> {
        let tensor = self.take(name, dtype, "[length]", |shape| shape.len() == 1)?;
        Ok(tensor.data().as_chunks().0.iter().map(|&bytes| element(bytes)).collect())
    }

    pub(super) fn f32s(&mut self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        self.list(name, Dtype::F32, f32::from_le_bytes)
    }

    pub(super) fn i32s(&mut self, name: &str) -> Result<Vec<i32>, CheckpointError> {
        self.list(name, Dtype::I32, i32::from_le_bytes)
    }

    pub(super) fn i16s(&mut self, name: &str) -> Result<Vec<i16>, CheckpointError> {
        self.list(name, Dtype::I16, i16::from_le_bytes)
    }

    pub(super) fn codes(&mut self, name: &str, code_type: CodeType) -> Result<Codes, CheckpointError> {
        Ok(match code_type {
            CodeType::Int8 => Codes::Int8(self.list(name, Dtype::I8, i8::from_le_bytes)?),
            CodeType::Int16 => Codes::Int16(self.i16s(name)?),
            CodeType::Int32 => Codes::Int32(self.i32s(name)?),
        })
    }

    /// Scale and zero point of a value.
    pub(super) fn value(&mut self, name: &str, shape: &[usize], code_type: CodeType) -> Result<ValueInfo, CheckpointError> {
        let scalar = |shape: &[usize]| shape.is_empty();
        let scale = self.take(&format!("{name}.scale"), Dtype::F32, "[]", scalar)?;
        let scale = scale.data().first_chunk().map_or(f32::NAN, |&bytes| f32::from_le_bytes(bytes));
        let zero_point = self.take(&format!("{name}.zero_point"), dtype(code_type), "[]", scalar)?;
        let zero_point = match *zero_point.data() {
            [a] => i8::from_le_bytes([a]).into(),
            [a, b] => i16::from_le_bytes([a, b]).into(),
            [a, b, c, d] => i32::from_le_bytes([a, b, c, d]),
            _ => 0,
        };
        Ok(ValueInfo { name: name.to_owned(), shape: shape.to_vec(), code_type, qparams: QParams { scale, zero_point } })
    }

    /// Codes of `shape`, packed where they have fewer than 8 bits.
    pub(super) fn packed(&mut self, name: &str, bits: WeightBits, shape: &[usize]) -> Result<PackedCodes, CheckpointError> {
        let tensor = match bits {
            WeightBits::Eight => self.take(name, Dtype::I8, &format!("{shape:?}"), |found| found == shape)?,
            WeightBits::Four | WeightBits::Two => self.take(name, Dtype::U8, "[bytes]", |found| found.len() == 1)?,
        };
        let length = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size)).filter(|&length| length > 0);
        let codes = length.and_then(|length| PackedCodes::from_bytes(tensor.data().to_vec(), length, bits));
        codes.ok_or_else(|| CheckpointError::Shape {
            name: name.to_owned(),
            expected: format!("the bytes of {shape:?} codes of {} bits, unused bits 0 and no dimension 0", bits.bits()),
            found: tensor.shape().to_vec(),
        })
    }

    /// The constants of a layer whose input has that type of codes.
    pub(super) fn weights(
        &mut self,
        prefix: &str,
        bits: WeightBits,
        shape: &[usize],
        input: Option<CodeType>,
    ) -> Result<Weights, CheckpointError> {
        let codes = self.packed(&format!("{prefix}.weight"), bits, shape)?;
        let name = format!("{prefix}.bias");
        let bias = match input {
            Some(CodeType::Int16) => self.list(&name, Dtype::I64, i64::from_le_bytes)?,
            _ => self.list(&name, Dtype::I32, |bytes| i32::from_le_bytes(bytes).into())?,
        };
        Ok(Weights { codes, scale: self.f32s(&format!("{prefix}.weight_scale"))?, bias })
    }
}
