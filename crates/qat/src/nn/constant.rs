//! A tensor that is the same for every sample, as an activation.
//!
//! It is quantized as a weight with one scale for the whole tensor, and its codes are those of the activation: symmetric, zero point
//! 0 (Q4). One that is zero everywhere, as a recurrent state begins, has the step of a tanh, 1/128 or 1/32768: real 0 is on every
//! grid, and a bias on the grid `s_in · s_w` is then as fine at the first time step as at the others.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use crate::fake_quantize::{Mode, fake_quantize_weight, weight_scale};
use crate::format::{CodeRange, IntegerFormat};
use crate::tensor::QuantTensor;

/// A constant or a parameter that is added to, multiplied with or fed to something.
#[derive(Module, Debug)]
pub struct QuantConstant {
    /// Its numbers, row-major, `[elements]`.
    pub value: Param<Tensor<1>>,
    #[module(skip)]
    shape: Vec<usize>,
    #[module(skip)]
    format: IntegerFormat,
    #[module(skip)]
    is_zero: bool,
    #[module(skip)]
    mode: Mode,
}

impl QuantConstant {
    /// A constant of `shape`, that of one sample, in the codes of activations of `format`; `is_zero` says that it is, and stays, zero.
    pub fn new(value: Param<Tensor<1>>, shape: Vec<usize>, format: IntegerFormat, is_zero: bool) -> Self {
        Self { value, shape, format, is_zero, mode: Mode::Float }
    }

    /// The same constant in another mode.
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Its numbers for a batch of `batch` samples, `[batch, shape..]`.
    ///
    /// # Panics
    /// If its rank, batch included, is not `D`.
    pub fn forward<const D: usize>(&self, batch: usize) -> QuantTensor<D> {
        assert_eq!(
            D,
            self.shape.len() + 1,
            "a constant of rank {}, batch included, was read with rank {D}",
            self.shape.len() + 1
        );
        let mut value = self.value.val();
        let mut scale = None;
        if self.mode.quantizes_weights() {
            let step = self.step(value.clone());
            value = fake_quantize_weight(value, step.clone(), self.codes());
            scale = Some(step);
        }
        let size = |axis: usize, batch| if axis == 0 { batch } else { self.shape[axis - 1] };
        let one: [usize; D] = std::array::from_fn(|axis| size(axis, 1));
        let all: [usize; D] = std::array::from_fn(|axis| size(axis, batch));
        QuantTensor { tensor: value.reshape(one).expand(all), scale }
    }

    fn step(&self, value: Tensor<1>) -> Tensor<1> {
        if self.is_zero {
            return value.detach().narrow(0, 0, 1) * 0.0 + self.zero_step();
        }
        weight_scale(value, None, self.codes())
    }

    /// The step of a constant that is zero everywhere; `None` where it has a step of its own.
    pub fn fixed_step(&self) -> Option<f32> {
        self.is_zero.then(|| self.zero_step())
    }

    fn zero_step(&self) -> f32 {
        1.0 / (1u32 << (self.format.bits() - 1)) as f32
    }

    /// Its codes: those of activations without the lowest.
    pub fn codes(&self) -> IntegerFormat {
        self.format.with_range(CodeRange::Narrow)
    }

    /// Its shape for one sample.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// What it does at present.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}
