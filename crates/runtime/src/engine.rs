//! Running a model: codes in, codes out, any whole number of samples.
//!
//! Values live in buffers shared by those that are never alive together (see `arena`); weights are packed once. Not here: how an
//! operation is computed (see `kernels`), what a model must satisfy (see `validate`).

use alloc::{vec, vec::Vec};
use core::fmt;

use crate::{
    arena::Arena,
    kernels::{
        fast::{self, PackedRows, Scratch},
        reference::{self, Operand},
    },
    model::{IntegerModel, ModelError, Node, Op},
    requantize::{dequantize, quantize},
    validate::lengths,
};

/// Why a run is refused.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RunError {
    /// The codes are not a whole number of samples, or not the one sample that is asked for.
    InputLength {
        /// Codes in one sample.
        sample: usize,
        /// Number of codes given.
        found: usize,
    },
    /// The output does not fit memory.
    OutputSize {
        /// Codes in one sample of the output.
        sample: usize,
        /// Number of samples given.
        found: usize,
    },
    /// The model does not validate.
    Model(ModelError),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InputLength { sample, found } => {
                write!(f, "input, model run: expected whole samples of {sample} codes, found {found} codes")
            }
            Self::OutputSize { sample, found } => {
                write!(f, "output, model run: expected memory for samples of {sample} codes, found {found} samples")
            }
            Self::Model(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RunError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Model(error) => Some(error),
            Self::InputLength { .. } | Self::OutputSize { .. } => None,
        }
    }
}

impl From<ModelError> for RunError {
    fn from(error: ModelError) -> Self {
        Self::Model(error)
    }
}

/// Which implementation computes convolution and linear.
#[derive(Debug)]
enum Kernels {
    /// Plain loops.
    Reference,
    /// Packed weights of each node that has weights, and the buffers of the fast kernels.
    Fast { packed: Vec<Option<PackedRows>>, scratch: Scratch },
}

/// A validated model with everything that running it needs; keep it for many runs.
///
/// ```
/// use qat_runtime::{AvgPool2d, Contract, Engine, IntegerModel, Node, Op, QParams, ValueId, ValueInfo};
///
/// let value = |name: &str, shape: &[usize]| ValueInfo {
///     name: name.into(),
///     shape: shape.into(),
///     qparams: QParams { scale: 0.5, zero_point: -1 },
/// };
/// let pool = AvgPool2d { kernel: [2, 2], stride: [2, 2], padding: [0; 4], count_include_pad: false };
/// let model = IntegerModel {
///     contract: Contract::Fp32Rne,
///     values: vec![value("x", &[1, 2, 2]), value("y", &[1, 1, 1])],
///     nodes: vec![Node { op: Op::AvgPool2d(pool), inputs: vec![ValueId(0)], output: ValueId(1) }],
///     input: ValueId(0),
///     output: ValueId(1),
/// };
/// let mut engine = Engine::new(&model)?;
/// let codes = model.quantize_input(&[1.0, 2.0, 3.0, 4.0]);
/// assert_eq!(model.dequantize_output(&engine.run(&codes)?), [2.5]);
/// # Ok::<(), qat_runtime::RunError>(())
/// ```
#[derive(Debug)]
pub struct Engine<'a> {
    model: &'a IntegerModel,
    kernels: Kernels,
    lengths: Vec<usize>,
    arena: Arena,
    buffers: Vec<Vec<i8>>,
}

impl<'a> Engine<'a> {
    /// Validates the model, packs its weights and allocates the buffers of one sample.
    ///
    /// # Errors
    /// What [`IntegerModel::validate`] refuses.
    pub fn new(model: &'a IntegerModel) -> Result<Self, ModelError> {
        model.validate()?;
        let pack = |node: &Node| match &node.op {
            Op::Conv2d(op) => Some(PackedRows::new(&op.weight, op.c_out)),
            Op::Linear(op) => Some(PackedRows::new(&op.weight, op.d_output)),
            _ => None,
        };
        let packed = model.nodes.iter().map(pack).collect();
        Ok(Self::with_kernels(model, Kernels::Fast { packed, scratch: Scratch::default() }))
    }

    /// As [`Engine::new`], with the slow kernels that define the results.
    ///
    /// # Errors
    /// What [`IntegerModel::validate`] refuses.
    pub fn reference(model: &'a IntegerModel) -> Result<Self, ModelError> {
        model.validate()?;
        Ok(Self::with_kernels(model, Kernels::Reference))
    }

    fn with_kernels(model: &'a IntegerModel, kernels: Kernels) -> Self {
        let lengths = lengths(model);
        let arena = Arena::new(model, &lengths);
        let buffers = arena.length.iter().map(|&length| vec![0; length]).collect();
        Self { model, kernels, lengths, arena, buffers }
    }

    /// Output codes of any whole number of samples, concatenated batch first as the input is.
    ///
    /// # Errors
    /// [`RunError::InputLength`] where `codes` is not a whole number of samples, [`RunError::OutputSize`] where memory is short.
    pub fn run(&mut self, codes: &[i8]) -> Result<Vec<i8>, RunError> {
        let (sample, output) = (self.lengths[self.model.input.0], self.model.output.0);
        if !codes.len().is_multiple_of(sample) {
            return Err(RunError::InputLength { sample, found: codes.len() });
        }
        let (samples, length) = (codes.len() / sample, self.lengths[output]);
        let mut result = Vec::new();
        if samples.checked_mul(length).is_none_or(|total| result.try_reserve_exact(total).is_err()) {
            return Err(RunError::OutputSize { sample: length, found: samples });
        }
        for codes in codes.chunks_exact(sample) {
            self.forward(codes, |_, _| ());
            result.extend_from_slice(&self.buffers[self.arena.slot[output]][..length]);
        }
        Ok(result)
    }

    /// The codes of all values of one sample, indexed by [`ValueId`](crate::ValueId): for comparing runtimes layer by layer.
    ///
    /// # Errors
    /// [`RunError::InputLength`] where `codes` is not exactly one sample.
    pub fn trace(&mut self, codes: &[i8]) -> Result<Vec<Vec<i8>>, RunError> {
        let sample = self.lengths[self.model.input.0];
        if codes.len() != sample {
            return Err(RunError::InputLength { sample, found: codes.len() });
        }
        let mut values = vec![Vec::new(); self.lengths.len()];
        self.forward(codes, |value, codes| values[value] = codes.to_vec());
        Ok(values)
    }

    /// Computes one sample; `seen` is called with the index and codes of every value as it is defined.
    fn forward(&mut self, codes: &[i8], mut seen: impl FnMut(usize, &[i8])) {
        let input = self.model.input.0;
        self.buffers[self.arena.slot[input]][..self.lengths[input]].copy_from_slice(codes);
        seen(input, codes);
        for (index, node) in self.model.nodes.iter().enumerate() {
            let output = node.output.0;
            // Inputs and output never share a buffer, so the output's can be taken out while the inputs are read.
            let mut buffer = core::mem::take(&mut self.buffers[self.arena.slot[output]]);
            self.compute(index, node, &mut buffer[..self.lengths[output]]);
            seen(output, &buffer[..self.lengths[output]]);
            self.buffers[self.arena.slot[output]] = buffer;
        }
    }

    fn compute(&mut self, index: usize, node: &Node, y: &mut [i8]) {
        let (model, lengths, arena, buffers) = (self.model, &self.lengths, &self.arena, &self.buffers);
        let operand = |position: usize| {
            let value = node.inputs[position].0;
            Operand { codes: &buffers[arena.slot[value]][..lengths[value]], info: &model.values[value] }
        };
        let (x, y_info) = (operand(0), &model.values[node.output.0]);
        match (&node.op, &mut self.kernels) {
            (Op::Conv2d(op), Kernels::Fast { packed, scratch }) => {
                let packed = packed[index].as_ref().expect("weights are packed for every convolution");
                fast::conv2d(op, packed, scratch, x, y_info, y);
            }
            (Op::Linear(op), Kernels::Fast { packed, scratch }) => {
                let packed = packed[index].as_ref().expect("weights are packed for every linear layer");
                fast::linear(op, packed, scratch, x, y_info, y);
            }
            (Op::Conv2d(op), Kernels::Reference) => reference::conv2d(op, x, y_info, y),
            (Op::Linear(op), Kernels::Reference) => reference::linear(op, x, y_info, y),
            (Op::Add(op), _) => reference::add(op, x, operand(1), y_info, y),
            (Op::MaxPool2d(op), _) => reference::max_pool2d(op, x, y_info, y),
            (Op::AvgPool2d(op), _) => reference::avg_pool2d(op, x, y_info, y),
            (Op::Relu, _) => reference::relu(x, y),
            (Op::Reshape, _) => reference::reshape(x, y),
        }
    }
}

impl IntegerModel {
    /// Output codes of any whole number of samples, concatenated batch first (NCHW). For many runs keep an [`Engine`].
    ///
    /// # Errors
    /// The model does not validate, or `codes` is not a whole number of samples.
    pub fn run(&self, codes: &[i8]) -> Result<Vec<i8>, RunError> {
        Engine::new(self)?.run(codes)
    }

    /// As [`IntegerModel::run`], with the slow kernels that define the results.
    ///
    /// # Errors
    /// As [`IntegerModel::run`].
    pub fn run_reference(&self, codes: &[i8]) -> Result<Vec<i8>, RunError> {
        Engine::reference(self)?.run(codes)
    }

    /// The codes of all values of one sample, indexed by [`ValueId`](crate::ValueId).
    ///
    /// # Errors
    /// The model does not validate, or `codes` is not exactly one sample.
    pub fn trace(&self, codes: &[i8]) -> Result<Vec<Vec<i8>>, RunError> {
        Engine::new(self)?.trace(codes)
    }

    /// Codes of real inputs, element by element: see [`quantize`]. Panics on a model that does not validate.
    pub fn quantize_input(&self, real: &[f32]) -> Vec<i8> {
        let qparams = self.input_info().qparams;
        real.iter().map(|&x| quantize(x, qparams)).collect()
    }

    /// Real values of output codes, element by element: see [`dequantize`]. Panics on a model that does not validate.
    pub fn dequantize_output(&self, codes: &[i8]) -> Vec<f32> {
        let qparams = self.output_info().qparams;
        codes.iter().map(|&q| dequantize(q, qparams)).collect()
    }
}
