//! Running a model: codes in, codes out, any whole number of samples.
//!
//! Values live in buffers shared by those that are never alive together (see `arena`); weights are packed once. Not here: how an
//! operation is computed (see `kernels`), what a model must satisfy (see `validate`).

use alloc::{vec, vec::Vec};
use core::fmt;

use crate::{
    arena::Arena,
    codes::{CodeType, Codes, CodesMut, CodesRef},
    error::ModelError,
    kernels::{
        fast::{self, PackedRows, Scratch},
        reference::{self, Operand, Output},
    },
    model::{IntegerModel, Node},
    op::Op,
    requantize::{dequantize, quantize, quantize_int16},
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
    /// The codes have another type than the model's input.
    CodeType {
        /// The input's.
        expected: CodeType,
        /// That of the codes.
        found: CodeType,
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
            Self::CodeType { expected, found } => {
                write!(f, "input, model run: expected {} codes, found {}", expected.name(), found.name())
            }
            Self::Model(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RunError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Model(error) => Some(error),
            Self::InputLength { .. } | Self::OutputSize { .. } | Self::CodeType { .. } => None,
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
/// use qat_runtime::{AvgPool2d, Engine, IntegerModel, Node, Op, QParams, Rules, ValueId, ValueInfo};
///
/// let value = |name: &str, shape: &[usize]| ValueInfo::int8(name, shape, QParams { scale: 0.5, zero_point: -1 });
/// let pool = AvgPool2d { kernel: [2, 2], stride: [2, 2], padding: [0; 4], count_include_pad: false };
/// let model = IntegerModel {
///     rules: Rules::OnnxRuntime,
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
    buffers: Vec<Codes>,
}

impl<'a> Engine<'a> {
    /// Validates the model, packs its weights and allocates the buffers of one sample.
    ///
    /// # Errors
    /// What [`IntegerModel::validate`] refuses.
    pub fn new(model: &'a IntegerModel) -> Result<Self, ModelError> {
        model.validate()?;
        let pack = |node: &Node| match &node.op {
            Op::Conv2d(op) => Some(PackedRows::new(&op.weights.codes, op.c_out)),
            Op::Linear(op) => Some(PackedRows::new(&op.weights.codes, op.d_output)),
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
        let buffers = arena.slots.iter().map(|slot| Codes::zeros(slot.code_type, slot.length)).collect();
        Self { model, kernels, lengths, arena, buffers }
    }

    /// Output codes of any whole number of samples, concatenated batch first as the input is.
    ///
    /// # Errors
    /// [`RunError::CodeType`] where `codes` are not of the input's type, [`RunError::InputLength`] where they are not a whole
    /// number of samples, [`RunError::OutputSize`] where memory is short.
    pub fn run<'c>(&mut self, codes: impl Into<CodesRef<'c>>) -> Result<Codes, RunError> {
        let codes = codes.into();
        self.check_type(codes)?;
        let (sample, output) = (self.lengths[self.model.input.0], self.model.output.0);
        if !codes.len().is_multiple_of(sample) {
            return Err(RunError::InputLength { sample, found: codes.len() });
        }
        let (samples, length) = (codes.len() / sample, self.lengths[output]);
        let mut result = Codes::zeros(self.model.output_info().code_type, 0);
        if samples.checked_mul(length).is_none_or(|total| !result.try_reserve(total)) {
            return Err(RunError::OutputSize { sample: length, found: samples });
        }
        for index in 0..samples {
            self.forward(codes.slice(index * sample, sample), |_, _| ());
            result.extend(self.buffers[self.arena.slot[output]].view().slice(0, length));
        }
        Ok(result)
    }

    /// The codes of all values of one sample, indexed by [`ValueId`](crate::ValueId): for comparing runtimes layer by layer.
    ///
    /// # Errors
    /// [`RunError::CodeType`] where `codes` are not of the input's type, [`RunError::InputLength`] where they are not exactly
    /// one sample.
    pub fn trace<'c>(&mut self, codes: impl Into<CodesRef<'c>>) -> Result<Vec<Codes>, RunError> {
        let codes = codes.into();
        self.check_type(codes)?;
        let sample = self.lengths[self.model.input.0];
        if codes.len() != sample {
            return Err(RunError::InputLength { sample, found: codes.len() });
        }
        let mut values = vec![Codes::zeros(CodeType::Int8, 0); self.lengths.len()];
        self.forward(codes, |value, codes| values[value] = codes.to_owned());
        Ok(values)
    }

    fn check_type(&self, codes: CodesRef) -> Result<(), RunError> {
        let (expected, found) = (self.model.input_info().code_type, codes.code_type());
        if expected == found { Ok(()) } else { Err(RunError::CodeType { expected, found }) }
    }

    /// Computes one sample; `seen` is called with the index and codes of every value as it is defined.
    fn forward(&mut self, codes: CodesRef, mut seen: impl FnMut(usize, CodesRef)) {
        let input = self.model.input.0;
        self.buffers[self.arena.slot[input]].fill_from(codes);
        seen(input, codes);
        for (index, node) in self.model.nodes.iter().enumerate() {
            let output = node.output.0;
            // Inputs and output never share a buffer, so the output's can be taken out while the inputs are read.
            let placeholder = Codes::Int8(Vec::new());
            let mut buffer = core::mem::replace(&mut self.buffers[self.arena.slot[output]], placeholder);
            self.compute(index, node, buffer.view_mut().first(self.lengths[output]));
            seen(output, buffer.view().slice(0, self.lengths[output]));
            self.buffers[self.arena.slot[output]] = buffer;
        }
    }

    fn compute(&mut self, index: usize, node: &Node, codes: CodesMut) {
        let (model, lengths, arena, buffers) = (self.model, &self.lengths, &self.arena, &self.buffers);
        let operand = |id: &crate::model::ValueId| Operand {
            codes: buffers[arena.slot[id.0]].view().slice(0, lengths[id.0]),
            info: &model.values[id.0],
        };
        let inputs: Vec<Operand> = node.inputs.iter().map(operand).collect();
        let mut y = Output { codes, info: &model.values[node.output.0] };
        if let Kernels::Fast { packed, scratch } = &mut self.kernels
            && let Some(packed) = &packed[index]
            && let (CodesRef::Int8(x), CodesMut::Int8(codes)) = (inputs[0].codes, &mut y.codes)
        {
            match &node.op {
                Op::Conv2d(op) => return fast::conv2d(model.rules, op, packed, scratch, (x, inputs[0].info), y.info, codes),
                Op::Linear(op) => return fast::linear(model.rules, op, packed, scratch, (x, inputs[0].info), y.info, codes),
                _ => {}
            }
        }
        reference::compute(model.rules, &node.op, &inputs, &mut y);
    }
}

impl IntegerModel {
    /// Output codes of any whole number of samples, concatenated batch first (NCHW). For many runs keep an [`Engine`].
    ///
    /// # Errors
    /// The model does not validate, or `codes` are of another type than its input, or no whole number of samples.
    pub fn run<'c>(&self, codes: impl Into<CodesRef<'c>>) -> Result<Codes, RunError> {
        Engine::new(self)?.run(codes)
    }

    /// As [`IntegerModel::run`], with the slow kernels that define the results.
    ///
    /// # Errors
    /// As [`IntegerModel::run`].
    pub fn run_reference<'c>(&self, codes: impl Into<CodesRef<'c>>) -> Result<Codes, RunError> {
        Engine::reference(self)?.run(codes)
    }

    /// The codes of all values of one sample, indexed by [`ValueId`](crate::ValueId).
    ///
    /// # Errors
    /// As [`IntegerModel::run`], or `codes` are not exactly one sample.
    pub fn trace<'c>(&self, codes: impl Into<CodesRef<'c>>) -> Result<Vec<Codes>, RunError> {
        Engine::new(self)?.trace(codes)
    }

    /// Codes of real inputs, element by element: see [`quantize`]. An input of indices takes each number's nearest integer.
    /// Panics on a model that does not validate.
    pub fn quantize_input(&self, real: &[f32]) -> Codes {
        let info = self.input_info();
        match info.code_type {
            CodeType::Int8 => Codes::Int8(real.iter().map(|&x| quantize(x, info.qparams)).collect()),
            CodeType::Int16 => Codes::Int16(real.iter().map(|&x| quantize_int16(x, info.qparams)).collect()),
            CodeType::Int32 => Codes::Int32(real.iter().map(|&x| crate::round_half_even_f32(x) as i32).collect()),
        }
    }

    /// Real values of output codes, element by element: see [`dequantize`]. Panics on a model that does not validate.
    pub fn dequantize_output<'c>(&self, codes: impl Into<CodesRef<'c>>) -> Vec<f32> {
        let (codes, qparams) = (codes.into(), self.output_info().qparams);
        (0..codes.len()).map(|index| dequantize(codes.at(index), qparams)).collect()
    }
}
