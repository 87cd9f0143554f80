//! What an integer model is: values, nodes and the integers in them.
//!
//! Values are activations; each has a name, a shape without the batch dimension (NCHW order, so `[C, H, W]` or `[D]`), the type of
//! its codes and their quantization parameters: `real = scale · (q − zero_point)` (Q1). Nodes stand in execution order and own
//! their constants. Not here: the operations (see `op`), how one is computed (see `kernels`), what makes a model well-formed
//! (see `validate`), where the integers come from (the `export` crate).

use alloc::{string::String, vec::Vec};

use crate::{codes::CodeType, op::Op, rules::Rules};

/// Quantization parameters of one activation tensor (Q1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QParams {
    /// The step between two neighbouring codes, in real units, > 0 and finite.
    pub scale: f32,
    /// The code of real 0: an integer in `[-128, 127]` for int8 codes, 0 for others, subtracted before scaling.
    pub zero_point: i32,
}

/// Index of a value in [`IntegerModel::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// One activation tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// Unique within the model, as in `conv1.output`.
    pub name: String,
    /// Shape of one sample, without the batch dimension: `[C, H, W]` or `[D]`.
    pub shape: Vec<usize>,
    /// Which integers the codes are.
    pub code_type: CodeType,
    /// Meaning of the codes.
    pub qparams: QParams,
}

impl ValueInfo {
    /// A value with int8 codes.
    pub fn int8(name: &str, shape: &[usize], qparams: QParams) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), code_type: CodeType::Int8, qparams }
    }

    /// Number of codes in one sample, or `None` where the product of the dimensions exceeds `usize`.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, &dimension| product.checked_mul(dimension))
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Operands, in order.
    pub inputs: Vec<ValueId>,
    /// The value it defines; each value is defined once.
    pub output: ValueId,
}

/// An integer model: topology, integers and their scales, nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct IntegerModel {
    /// Whose arithmetic it follows; its tables are made for it.
    pub rules: Rules,
    /// All activations.
    pub values: Vec<ValueInfo>,
    /// In execution order.
    pub nodes: Vec<Node>,
    /// The value the caller supplies.
    pub input: ValueId,
    /// The value the caller receives.
    pub output: ValueId,
}

impl IntegerModel {
    /// The value the caller supplies. Panics if [`IntegerModel::validate`] would refuse the index.
    pub fn input_info(&self) -> &ValueInfo {
        &self.values[self.input.0]
    }

    /// The value the caller receives. Panics if [`IntegerModel::validate`] would refuse the index.
    pub fn output_info(&self) -> &ValueInfo {
        &self.values[self.output.0]
    }
}
