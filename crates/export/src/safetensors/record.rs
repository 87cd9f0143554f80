//! The description of a model: everything that is not a tensor, as the JSON text of the header's metadata.

use qat_runtime::{
    AvgPool2d, Clamp, CodeType, Concat, Conv2d, ConvTranspose2d, Elementwise, Function, Gather, Linear, MatMul, MaxPool2d, Mean,
    Op, Pad, ResizeNearest, Slice, Softmax, SoftmaxTable, Transpose, Unary, WeightBits,
};
use serde::{Deserialize, Serialize};

use super::tensors::File;
use crate::error::CheckpointError;

/// Everything of a model that is not a tensor.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    pub(super) version: u64,
    /// Hexadecimal; empty while it is computed.
    pub(super) sha256: String,
    /// As in `Rules::NAMES`.
    pub(super) rules: String,
    /// Index into `values`.
    pub(super) input: usize,
    /// Index into `values`.
    pub(super) output: usize,
    pub(super) values: Vec<ValueRecord>,
    pub(super) nodes: Vec<NodeRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ValueRecord {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// `int8`, `int16` or `int32`.
    pub(super) codes: String,
}

impl ValueRecord {
    pub(super) fn code_type(&self) -> Result<CodeType, CheckpointError> {
        let all = [CodeType::Int8, CodeType::Int16, CodeType::Int32];
        let found = all.into_iter().find(|code_type| code_type.name() == self.codes);
        found.ok_or_else(|| CheckpointError::CodeType { value: self.name.clone(), found: self.codes.clone() })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeRecord {
    pub(super) inputs: Vec<usize>,
    pub(super) output: usize,
    pub(super) op: OpRecord,
}

/// The name, packing and shape of a layer's codes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayerRecord {
    name: String,
    /// 8, 4 or 2.
    bits: u8,
    /// Of the codes, before they are packed.
    shape: Vec<usize>,
}

impl LayerRecord {
    fn new(name: &str, bits: WeightBits, shape: Vec<usize>) -> Self {
        Self { name: name.to_owned(), bits: bits.bits() as u8, shape }
    }

    fn bits(&self) -> Result<WeightBits, CheckpointError> {
        let found = WeightBits::ALL.into_iter().find(|bits| bits.bits() == usize::from(self.bits));
        found.ok_or_else(|| CheckpointError::Bits { layer: self.name.clone(), found: self.bits })
    }

    /// The shape, which has `N` dimensions.
    fn shape<const N: usize>(&self) -> Result<[usize; N], CheckpointError> {
        self.shape.as_slice().try_into().map_err(|_| CheckpointError::Shape {
            name: self.name.clone(),
            expected: format!("{N} dimensions"),
            found: self.shape.clone(),
        })
    }

    /// Input channels of a convolution of that many groups.
    fn c_in(&self, groups: usize) -> Result<usize, CheckpointError> {
        let [_, c_in_group, ..] = self.shape::<4>()?;
        c_in_group.checked_mul(groups).filter(|&c_in| c_in > 0).ok_or_else(|| CheckpointError::Shape {
            name: self.name.clone(),
            expected: format!("[c_out, c_in / groups, k_h, k_w] with {groups} groups"),
            found: self.shape.clone(),
        })
    }
}

/// Lowest and highest output code.
type Bounds = [i16; 2];

fn bounds(clamp: Clamp) -> Bounds {
    [clamp.min, clamp.max]
}

fn clamp([min, max]: Bounds) -> Clamp {
    Clamp { min, max }
}

/// Which numbers a softmax's table holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TableKind {
    Real,
    Fixed,
    Interpolated,
}

/// An operation without its tensors. All variants are struct-like, because only those refuse unknown fields.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum OpRecord {
    Conv2d {
        layer: LayerRecord,
        stride: [usize; 2],
        padding: [usize; 4],
        dilation: [usize; 2],
        groups: usize,
        clamp: Bounds,
    },
    ConvTranspose2d {
        layer: LayerRecord,
        stride: [usize; 2],
        padding: [usize; 4],
        output_padding: [usize; 2],
        dilation: [usize; 2],
        groups: usize,
        clamp: Bounds,
    },
    Linear {
        layer: LayerRecord,
        clamp: Bounds,
    },
    MatMul {
        transpose_rhs: bool,
        clamp: Bounds,
    },
    Add {
        clamp: Bounds,
    },
    Sub {
        clamp: Bounds,
    },
    Mul {
        clamp: Bounds,
    },
    Concat {
        axis: usize,
    },
    MaxPool2d {
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
        dilation: [usize; 2],
    },
    AvgPool2d {
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
        count_include_pad: bool,
    },
    Mean {
        axes: Vec<usize>,
        keep_dims: bool,
    },
    Clamp {
        clamp: Bounds,
    },
    Sigmoid {},
    Tanh {},
    HardSwish {},
    Gelu {},
    GeluTanh {},
    LeakyRelu {
        /// The bits of the f32, which JSON's decimal numbers would have to spell out.
        slope_bits: u32,
    },
    Softmax {
        table: TableKind,
    },
    Requantize {},
    Reshape {},
    Transpose {
        permutation: Vec<usize>,
    },
    Pad {
        before: Vec<usize>,
        after: Vec<usize>,
    },
    Slice {
        start: Vec<usize>,
        end: Vec<usize>,
        step: Vec<usize>,
    },
    ResizeNearest {
        factor: [usize; 2],
    },
    Gather {
        layer: LayerRecord,
    },
    Constant {},
}

impl OpRecord {
    /// `None` for operations that this version of the format does not have.
    pub(super) fn of(op: &Op) -> Option<Self> {
        Some(match op {
            Op::Conv2d(op) => Self::Conv2d {
                layer: LayerRecord::new(
                    &op.name,
                    op.weights.codes.bits(),
                    vec![op.c_out, op.c_in / op.groups, op.kernel[0], op.kernel[1]],
                ),
                stride: op.stride,
                padding: op.padding,
                dilation: op.dilation,
                groups: op.groups,
                clamp: bounds(op.clamp),
            },
            Op::ConvTranspose2d(op) => Self::ConvTranspose2d {
                layer: LayerRecord::new(
                    &op.name,
                    op.weights.codes.bits(),
                    vec![op.c_out, op.c_in / op.groups, op.kernel[0], op.kernel[1]],
                ),
                stride: op.stride,
                padding: op.padding,
                output_padding: op.output_padding,
                dilation: op.dilation,
                groups: op.groups,
                clamp: bounds(op.clamp),
            },
            Op::Linear(op) => Self::Linear {
                layer: LayerRecord::new(&op.name, op.weights.codes.bits(), vec![op.d_output, op.d_input]),
                clamp: bounds(op.clamp),
            },
            Op::MatMul(op) => Self::MatMul { transpose_rhs: op.transpose_rhs, clamp: bounds(op.clamp) },
            Op::Add(op) => Self::Add { clamp: bounds(op.clamp) },
            Op::Sub(op) => Self::Sub { clamp: bounds(op.clamp) },
            Op::Mul(op) => Self::Mul { clamp: bounds(op.clamp) },
            Op::Concat(op) => Self::Concat { axis: op.axis },
            &Op::MaxPool2d(MaxPool2d { kernel, stride, padding, dilation }) => {
                Self::MaxPool2d { kernel, stride, padding, dilation }
            }
            &Op::AvgPool2d(AvgPool2d { kernel, stride, padding, count_include_pad }) => {
                Self::AvgPool2d { kernel, stride, padding, count_include_pad }
            }
            Op::Mean(op) => Self::Mean { axes: op.axes.clone(), keep_dims: op.keep_dims },
            Op::Clamp(clamp) => Self::Clamp { clamp: bounds(*clamp) },
            Op::Unary(op) => match op.function {
                Function::Sigmoid => Self::Sigmoid {},
                Function::Tanh => Self::Tanh {},
                Function::HardSwish => Self::HardSwish {},
                Function::Gelu => Self::Gelu {},
                Function::GeluTanh => Self::GeluTanh {},
                Function::LeakyRelu { slope } => Self::LeakyRelu { slope_bits: slope.to_bits() },
                _ => return None,
            },
            Op::Softmax(op) => Self::Softmax {
                table: match op.table {
                    SoftmaxTable::Real(_) => TableKind::Real,
                    SoftmaxTable::Fixed(_) => TableKind::Fixed,
                    SoftmaxTable::Interpolated { .. } => TableKind::Interpolated,
                    _ => return None,
                },
            },
            Op::Requantize => Self::Requantize {},
            Op::Reshape => Self::Reshape {},
            Op::Transpose(op) => Self::Transpose { permutation: op.permutation.clone() },
            Op::Pad(op) => Self::Pad { before: op.before.clone(), after: op.after.clone() },
            Op::Slice(op) => Self::Slice { start: op.start.clone(), end: op.end.clone(), step: op.step.clone() },
            Op::ResizeNearest(op) => Self::ResizeNearest { factor: op.factor },
            Op::Gather(op) => Self::Gather { layer: LayerRecord::new(&op.name, op.table.bits(), vec![op.rows, op.width]) },
            Op::Constant(_) => Self::Constant {},
            _ => return None,
        })
    }

    /// The name of the layer that the tensors come from.
    pub(super) fn layer(&self) -> Option<&str> {
        match self {
            Self::Conv2d { layer, .. }
            | Self::ConvTranspose2d { layer, .. }
            | Self::Linear { layer, .. }
            | Self::Gather { layer } => Some(&layer.name),
            _ => None,
        }
    }

    /// The operation with its tensors, whose names start with `prefix`; `input` and `output` are the types of the node's codes.
    pub(super) fn build(
        &self,
        file: &mut File<'_>,
        prefix: &str,
        input: Option<CodeType>,
        output: CodeType,
    ) -> Result<Op, CheckpointError> {
        let unary = |function, file: &mut File<'_>| {
            let table = file.i16s(&format!("{prefix}.table"))?;
            Ok::<_, CheckpointError>(Op::Unary(Unary { function, table }))
        };
        Ok(match self {
            &Self::Conv2d { ref layer, stride, padding, dilation, groups, clamp: codes } => {
                let [c_out, _, k_h, k_w] = layer.shape()?;
                Op::Conv2d(Conv2d {
                    name: layer.name.clone(),
                    c_out,
                    c_in: layer.c_in(groups)?,
                    kernel: [k_h, k_w],
                    stride,
                    padding,
                    dilation,
                    groups,
                    clamp: clamp(codes),
                    weights: file.weights(prefix, layer.bits()?, &layer.shape, input)?,
                })
            }
            &Self::ConvTranspose2d { ref layer, stride, padding, output_padding, dilation, groups, clamp: codes } => {
                let [c_out, _, k_h, k_w] = layer.shape()?;
                Op::ConvTranspose2d(ConvTranspose2d {
                    name: layer.name.clone(),
                    c_out,
                    c_in: layer.c_in(groups)?,
                    kernel: [k_h, k_w],
                    stride,
                    padding,
                    output_padding,
                    dilation,
                    groups,
                    clamp: clamp(codes),
                    weights: file.weights(prefix, layer.bits()?, &layer.shape, input)?,
                })
            }
            Self::Linear { layer, clamp: codes } => {
                let [d_output, d_input] = layer.shape()?;
                Op::Linear(Linear {
                    name: layer.name.clone(),
                    d_input,
                    d_output,
                    clamp: clamp(*codes),
                    weights: file.weights(prefix, layer.bits()?, &layer.shape, input)?,
                })
            }
            &Self::MatMul { transpose_rhs, clamp: codes } => Op::MatMul(MatMul { transpose_rhs, clamp: clamp(codes) }),
            &Self::Add { clamp: codes } => Op::Add(Elementwise { clamp: clamp(codes) }),
            &Self::Sub { clamp: codes } => Op::Sub(Elementwise { clamp: clamp(codes) }),
            &Self::Mul { clamp: codes } => Op::Mul(Elementwise { clamp: clamp(codes) }),
            &Self::Concat { axis } => Op::Concat(Concat { axis }),
            &Self::MaxPool2d { kernel, stride, padding, dilation } => {
                Op::MaxPool2d(MaxPool2d { kernel, stride, padding, dilation })
            }
            &Self::AvgPool2d { kernel, stride, padding, count_include_pad } => {
                Op::AvgPool2d(AvgPool2d { kernel, stride, padding, count_include_pad })
            }
            Self::Mean { axes, keep_dims } => Op::Mean(Mean { axes: axes.clone(), keep_dims: *keep_dims }),
            &Self::Clamp { clamp: codes } => Op::Clamp(clamp(codes)),
            Self::Sigmoid {} => unary(Function::Sigmoid, file)?,
            Self::Tanh {} => unary(Function::Tanh, file)?,
            Self::HardSwish {} => unary(Function::HardSwish, file)?,
            Self::Gelu {} => unary(Function::Gelu, file)?,
            Self::GeluTanh {} => unary(Function::GeluTanh, file)?,
            Self::LeakyRelu { slope_bits } => unary(Function::LeakyRelu { slope: f32::from_bits(*slope_bits) }, file)?,
            Self::Softmax { table } => Op::Softmax(Softmax {
                table: match table {
                    TableKind::Real => SoftmaxTable::Real(file.f32s(&format!("{prefix}.table"))?),
                    TableKind::Fixed => SoftmaxTable::Fixed(file.i32s(&format!("{prefix}.table"))?),
                    TableKind::Interpolated => SoftmaxTable::Interpolated {
                        exp: file.i16s(&format!("{prefix}.exp"))?,
                        reciprocal: file.i16s(&format!("{prefix}.reciprocal"))?,
                    },
                },
            }),
            Self::Requantize {} => Op::Requantize,
            Self::Reshape {} => Op::Reshape,
            Self::Transpose { permutation } => Op::Transpose(Transpose { permutation: permutation.clone() }),
            Self::Pad { before, after } => Op::Pad(Pad { before: before.clone(), after: after.clone() }),
            Self::Slice { start, end, step } => Op::Slice(Slice { start: start.clone(), end: end.clone(), step: step.clone() }),
            &Self::ResizeNearest { factor } => Op::ResizeNearest(ResizeNearest { factor }),
            Self::Gather { layer } => {
                let [rows, width] = layer.shape()?;
                let table = file.packed(&format!("{prefix}.table"), layer.bits()?, &layer.shape)?;
                Op::Gather(Gather { name: layer.name.clone(), table, rows, width })
            }
            Self::Constant {} => Op::Constant(file.codes(&format!("{prefix}.codes"), output)?),
        })
    }
}
