//! Running a model: codes in, codes out, any whole number of samples.
//!
//! The model is planned once (see `plan`), its weights packed and its buffers allocated; batches are computed some samples at a
//! time. Not here: how steps follow each other (see `forward`), how an operation is computed (see `kernels`), what a model must
//! satisfy (see `validate`).

use alloc::{vec, vec::Vec};
use core::fmt;

#[cfg(feature = "threads")]
use crate::team::Team;
use crate::{
    codes::{CodeType, Codes, CodesMut, CodesRef},
    error::ModelError,
    forward::{forward, leave},
    kernels::fast::Level,
    memory::Memory,
    model::IntegerModel,
    plan::Plan,
    requantize::{dequantize, quantize, quantize_int16},
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
    plan: Kept<Plan>,
    /// One for each thread.
    memories: Vec<Memory>,
    threads: usize,
    #[cfg(feature = "threads")]
    team: Option<Team>,
}

/// What threads of the engine keep as well.
#[cfg(feature = "threads")]
type Kept<T> = alloc::sync::Arc<T>;
#[cfg(not(feature = "threads"))]
type Kept<T> = alloc::boxed::Box<T>;

/// Bytes that an engine has allocated, beside the model that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// For codes of values, shared by those that are never alive together.
    pub activations: usize,
    /// For what kernels need while they compute one node.
    pub scratch: usize,
    /// For weights, biases, multipliers and tables as kernels read them.
    pub constants: usize,
}

impl<'a> Engine<'a> {
    /// Validates the model, packs its weights and allocates the buffers of one sample. The instructions are the fastest of
    /// this processor.
    ///
    /// # Errors
    /// What [`IntegerModel::validate`] refuses.
    pub fn new(model: &'a IntegerModel) -> Result<Self, ModelError> {
        Self::with_level(model, Level::best())
    }

    /// As [`Engine::new`], with instructions of the caller's choice; the codes are the same.
    ///
    /// # Errors
    /// What [`IntegerModel::validate`] refuses.
    pub fn with_level(model: &'a IntegerModel, level: Level) -> Result<Self, ModelError> {
        model.validate()?;
        Ok(Self::planned(model, Plan::new(model, Some(level))))
    }

    /// As [`Engine::new`], with the slow kernels that define the results.
    ///
    /// # Errors
    /// What [`IntegerModel::validate`] refuses.
    pub fn reference(model: &'a IntegerModel) -> Result<Self, ModelError> {
        model.validate()?;
        Ok(Self::planned(model, Plan::new(model, None)))
    }

    fn planned(model: &'a IntegerModel, plan: Plan) -> Self {
        let memories = vec![Memory::new(&plan, 1)];
        Self {
            model,
            plan: Kept::new(plan),
            memories,
            threads: 1,
            #[cfg(feature = "threads")]
            team: None,
        }
    }

    /// Uses so many threads, at least 1, where there is enough to do; the codes are the same. A batch is computed sample by
    /// sample, on threads that live as long as the run. One sample is computed by rows of its large convolutions, with threads
    /// that live as long as the engine.
    #[cfg(feature = "threads")]
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self.team = if self.threads > 1 { Team::new(&self.plan, self.threads) } else { None };
        self
    }

    /// What is allocated now. Running several samples at once takes the buffers of several samples, which are then kept.
    pub fn allocated(&self) -> Allocated {
        #[cfg(feature = "threads")]
        let team = self.team.as_ref().map_or([0; 2], Team::allocated);
        #[cfg(not(feature = "threads"))]
        let team = [0; 2];
        Allocated {
            activations: self.memories.iter().map(Memory::allocated).sum::<usize>() + team[0],
            scratch: self.memories.iter().map(|memory| memory.scratch.allocated()).sum::<usize>() + team[1],
            constants: self.plan.packed(),
        }
    }

    /// Bytes of all buffers that runs so far have needed: activations and scratch.
    pub fn peak_bytes(&self) -> usize {
        let Allocated { activations, scratch, .. } = self.allocated();
        activations + scratch
    }

    /// Output codes of any whole number of samples, concatenated batch first as the input is.
    ///
    /// # Errors
    /// [`RunError::CodeType`] where `codes` are not of the input's type, [`RunError::InputLength`] where they are not a whole
    /// number of samples, [`RunError::OutputSize`] where memory is short.
    pub fn run<'c>(&mut self, codes: impl Into<CodesRef<'c>>) -> Result<Codes, RunError> {
        let codes = codes.into();
        self.check_type(codes)?;
        let (input, output) = (self.plan.cells[self.plan.input], self.plan.cells[self.plan.output]);
        if !codes.len().is_multiple_of(input.length) {
            return Err(RunError::InputLength { sample: input.length, found: codes.len() });
        }
        let samples = codes.len() / input.length;
        let result = samples.checked_mul(output.length).and_then(|total| Codes::try_zeros(output.code_type, total));
        let Some(mut result) = result else {
            return Err(RunError::OutputSize { sample: output.length, found: samples });
        };
        match self.threads.min(samples) {
            0 => {}
            #[cfg(feature = "threads")]
            2.. => self.compute_apart(self.threads.min(samples), codes, result.view_mut()),
            _ => self.compute_together(codes, result.view_mut()),
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
        let sample = self.plan.cells[self.plan.input].length;
        if codes.len() != sample {
            return Err(RunError::InputLength { sample, found: codes.len() });
        }
        let mut values = vec![Codes::zeros(CodeType::Int8, 0); self.model.values.len()];
        values[self.model.input.0] = codes.to_owned();
        let (model, plan) = (self.model, &self.plan);
        forward(model, plan, &mut self.memories[0], 1, codes, |cell, codes| {
            let mut value = Codes::zeros(codes.code_type(), codes.len());
            leave(model, plan, cell, codes, &mut value.view_mut());
            values[plan.cells[cell].value] = value;
        });
        Ok(values)
    }

    /// Computes one sample on all threads where that pays, or any number on this one.
    fn compute_together(&mut self, codes: CodesRef, mut result: CodesMut) {
        let (plan, memory) = (&self.plan, &mut self.memories[0]);
        #[cfg(feature = "threads")]
        if let (Some(team), CodesRef::Int8(codes)) = (&mut self.team, codes)
            && codes.len() == plan.cells[plan.input].length
        {
            team.compute(self.model, memory, codes);
            return leave(self.model, plan, plan.output, memory.get(plan, plan.output, 1), &mut result);
        }
        compute(self.model, plan, memory, codes, result.slice(0, result.len()));
    }

    /// Computes about as many samples on each thread.
    #[cfg(feature = "threads")]
    fn compute_apart(&mut self, threads: usize, codes: CodesRef, result: CodesMut) {
        extern crate std;

        let (model, plan) = (self.model, &self.plan);
        let [sample, output] = [plan.input, plan.output].map(|cell| plan.cells[cell].length);
        let samples = codes.len() / sample;
        while self.memories.len() < threads {
            self.memories.push(Memory::new(plan, 1));
        }
        std::thread::scope(|scope| {
            let (mut rest, mut start) = (result, 0);
            for (index, memory) in self.memories[..threads].iter_mut().enumerate() {
                let end = samples * (index + 1) / threads;
                let (part, behind) = rest.split_at((end - start) * output);
                let codes = codes.slice(start * sample, (end - start) * sample);
                (rest, start) = (behind, end);
                // The last part is this thread's own.
                if index + 1 < threads {
                    scope.spawn(move || compute(model, plan, memory, codes, part));
                } else {
                    compute(model, plan, memory, codes, part);
                }
            }
        });
    }

    fn check_type(&self, codes: CodesRef) -> Result<(), RunError> {
        let (expected, found) = (self.model.input_info().code_type, codes.code_type());
        if expected == found { Ok(()) } else { Err(RunError::CodeType { expected, found }) }
    }
}

/// Computes a whole number of samples, some at a time.
fn compute(model: &IntegerModel, plan: &Plan, memory: &mut Memory, codes: CodesRef, mut result: CodesMut) {
    let [sample, output] = [plan.input, plan.output].map(|cell| plan.cells[cell].length);
    let samples = codes.len() / sample;
    let at_once = Memory::best_samples(plan, samples);
    if memory.samples < at_once {
        *memory = Memory::new(plan, at_once);
    }
    for first in (0..samples).step_by(at_once) {
        let count = at_once.min(samples - first);
        forward(model, plan, memory, count, codes.slice(first * sample, count * sample), |_, _| ());
        leave(model, plan, plan.output, memory.get(plan, plan.output, count), &mut result.slice(first * output, count * output));
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
