//! Affine fake quantization of an activation with a learned range.
//!
//! With `N = quant_max − quant_min`, `low = min(min, 0)`, `high = max(max, 0)` (Q2, Q3, Q5):
//!
//! ```text
//! s = max((high − low) / N, MIN_SCALE)        z = quant_min − round(low / s)
//! y = s · (clamp(round(x / s) + z, quant_min, quant_max) − z)
//! ```
//!
//! Gradients (Q8): every `round` passes its gradient straight through, so the input gets `dy` inside the range and 0 outside, and
//! both ends of the range get theirs through `s` and `z`. With `r = round(x / s)` and `e = round(low / s) − low / s`:
//!
//! | x | dy/dx | dy/dmin | dy/dmax |
//! | --- | --- | --- | --- |
//! | inside | 1 | −(r − x / s) / N | (r − x / s) / N |
//! | clipped above | 0 | −e / N | 1 + e / N |
//! | clipped below | 0 | 1 − e / N | e / N |
//!
//! Formats of 16 bits have the zero point 0 instead: `s = max(−low, high) / quant_max`, and the end that is farther from 0 learns (Q60).
//! An end on the wrong side of 0, and the `min` of a range that is never negative, get nothing. NaN stays NaN. In
//! inference ±∞ saturate; in training they become NaN, so that a run that diverges stops. Not here: how a range is first found (see [`crate::observer`]).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::round::round_ste;
use crate::clamp::Clamp;
use crate::format::IntegerFormat;
use crate::observer::{Observer, ObserverKind, scalar};
use crate::ops::{After, Grid, Steps, fake_quantize};
use crate::qparams::QParams;
use crate::tensor::QuantTensor;

/// What a quantizer does to what passes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: the model computes in float.
    Float,
    /// Nothing, but the range is observed.
    Observe,
    /// It is put on the integer grid.
    Quantize,
}

/// What is known of the sign of an activation before any number is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSign {
    /// Both signs: both ends of the range learn.
    Any,
    /// Never negative, as after a relu: `min` stays 0, so that the lowest code is real 0 and the clamp is the relu.
    NonNegative,
}

/// Where a range comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSource {
    /// It is observed during calibration.
    Calibration,
    /// It is known beforehand, as that of a sigmoid is.
    Known,
    /// There is none: what reads the activation quantizes it, and the activation itself stays float.
    Reader,
}

/// Per-tensor quantizer, affine or of 16 bits symmetric, with learned `min` and `max`.
#[derive(Module, Debug)]
pub struct FakeQuantize {
    /// Lower end of the range in real units, shape `[1]`; values above 0 count as 0.
    pub min: Param<Tensor<1>>,
    /// Upper end of the range in real units, shape `[1]`; values below 0 count as 0.
    pub max: Param<Tensor<1>>,
    observer: Observer,
    #[module(skip)]
    format: IntegerFormat,
    #[module(skip)]
    sign: RangeSign,
    #[module(skip)]
    source: RangeSource,
    /// The upper end counts as at most this.
    #[module(skip)]
    limit: f32,
    #[module(skip)]
    mode: Mode,
}

impl FakeQuantize {
    /// A quantizer without a range yet, in [`Mode::Float`]; its range learns once it is calibrated.
    pub fn new(format: IntegerFormat, sign: RangeSign, observer: ObserverKind, device: &Device) -> Self {
        Self {
            min: Param::from_tensor(Tensor::zeros([1], device)),
            max: Param::from_tensor(Tensor::zeros([1], device)),
            observer: Observer::new(observer, device),
            format,
            sign,
            source: RangeSource::Calibration,
            limit: f32::INFINITY,
            mode: Mode::Float,
        }
    }

    /// A quantizer whose range is known without calibration, and fixed.
    pub fn known(format: IntegerFormat, min: f32, max: f32, device: &Device) -> Self {
        Self::without_calibration(format, min, max, RangeSource::Known, device)
    }

    /// A quantizer that leaves what passes through it to its reader's quantizer, and only knows the mode.
    pub fn of_reader(format: IntegerFormat, device: &Device) -> Self {
        Self::without_calibration(format, 0.0, 0.0, RangeSource::Reader, device)
    }

    /// It has seen its range, so that all numbers of a model are finite once it is calibrated.
    fn without_calibration(format: IntegerFormat, min: f32, max: f32, source: RangeSource, device: &Device) -> Self {
        let mut quantizer = Self::new(format, RangeSign::Any, ObserverKind::MinMax, device).with_fixed_range(min, max);
        quantizer.observer = Observer::of_known(min, max, device);
        quantizer.source = source;
        quantizer
    }

    /// The same quantizer with an upper end that counts as at most `limit`, > 0, whatever it learns: that of a fused relu6 or clamp.
    pub fn with_limit(mut self, limit: f32) -> Self {
        self.limit = limit;
        self
    }

    /// The same quantizer with its range set and fixed, for values whose range is known, such as pixels.
    pub fn with_fixed_range(mut self, min: f32, max: f32) -> Self {
        self = self.with_range(min, max);
        self.min = self.min.set_require_grad(false);
        self.max = self.max.set_require_grad(false);
        self
    }

    /// The same quantizer with its range set; whether it learns stays as it was.
    pub fn with_range(mut self, min: f32, max: f32) -> Self {
        let min = if self.sign == RangeSign::NonNegative { 0.0 } else { min };
        self.min = replace(self.min, min);
        self.max = replace(self.max, max);
        self
    }

    /// The same quantizer in another mode.
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Where its range comes from.
    pub fn source(&self) -> RangeSource {
        self.source
    }

    /// What it does at present.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The observed range, `None` before anything was observed.
    pub fn observed(&self) -> Option<(f32, f32)> {
        self.observer.range()
    }

    /// Passes `x` through, according to the mode.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> QuantTensor<D> {
        self.forward_clamped(x, Clamp::NONE)
    }

    /// Passes `clamp(x)` through, according to the mode.
    pub fn forward_clamped<const D: usize>(&self, x: Tensor<D>, clamp: Clamp) -> QuantTensor<D> {
        if self.mode == Mode::Quantize && self.source != RangeSource::Reader {
            return self.fake_quantize(x, clamp);
        }
        let x = clamp.apply(x);
        match self.mode {
            _ if self.source == RangeSource::Reader => QuantTensor::float(x),
            Mode::Float | Mode::Quantize => QuantTensor::float(x),
            Mode::Observe if self.source == RangeSource::Known => QuantTensor::float(x),
            Mode::Observe => {
                self.observer.observe(x.clone());
                QuantTensor::float(x)
            }
        }
    }

    /// Passes what `op` gives, with the clamp and the grid that it is told to end with, according to the mode; what `op` gives
    /// besides is passed on.
    pub(crate) fn forward_with<const D: usize, R, S>(
        &self,
        clamp: Clamp,
        op: impl FnOnce(After, Option<Steps>) -> (Tensor<D>, R, S),
    ) -> (QuantTensor<D>, R, S) {
        if self.mode == Mode::Quantize && self.source != RangeSource::Reader {
            let (scale, zero_point, grid) = self.grid();
            let (tensor, r, s) = op(After::Grid(grid.after(clamp)), Some((scale.clone(), zero_point)));
            return (QuantTensor { tensor, scale: Some(scale.detach()) }, r, s);
        }
        let (x, r, s) = op(After::Clamp(clamp), None);
        (self.forward(x), r, s)
    }

    fn fake_quantize<const D: usize>(&self, x: Tensor<D>, clamp: Clamp) -> QuantTensor<D> {
        let (scale, zero_point, grid) = self.grid();
        let tensor = fake_quantize(x, scale.clone(), zero_point, None, grid.after(clamp));
        QuantTensor { tensor, scale: Some(scale.detach()) }
    }

    /// Step, zero point and codes of the present range, each with its gradient.
    fn grid(&self) -> (Tensor<1>, Option<Tensor<1>>, Grid) {
        let (quant_min, quant_max) = (self.format.quant_min() as f32, self.format.quant_max() as f32);
        let (steps, min_scale) = (self.format.steps() as f32, self.format.min_scale());
        let high = Clamp { min: 0.0, max: self.limit }.apply(self.max.val());
        let low = || self.min.val().clamp_max(0.0);
        let (scale, zero_point) = match (self.sign, self.format.is_symmetric()) {
            (RangeSign::NonNegative, true) => ((high / quant_max).clamp_min(min_scale), None),
            (RangeSign::Any, true) => ((high.max_pair(-low()) / quant_max).clamp_min(min_scale), None),
            (RangeSign::NonNegative, false) => ((high / steps).clamp_min(min_scale), None),
            (RangeSign::Any, false) => {
                let low = low();
                let scale = ((high - low.clone()) / steps).clamp_min(min_scale);
                let zero_point = -round_ste(low / scale.clone()) + quant_min;
                (scale, Some(zero_point))
            }
        };
        let (low, high) = match (zero_point.is_some(), self.sign, self.format.is_symmetric()) {
            (true, ..) | (false, RangeSign::Any, _) => (quant_min, quant_max),
            (false, RangeSign::NonNegative, true) => (0.0, quant_max),
            (false, RangeSign::NonNegative, false) => (0.0, quant_max - quant_min),
        };
        (scale, zero_point, Grid::new(low, high))
    }

    /// Scale and zero point of the present range, as host numbers.
    pub fn qparams(&self) -> QParams {
        let min = if self.sign == RangeSign::NonNegative { 0.0 } else { scalar(self.min.val()) };
        QParams::of_range(min, scalar(self.max.val()).min(self.limit), self.format)
    }

    /// The range as it stands, not widened to contain 0.
    pub fn range(&self) -> (f32, f32) {
        (scalar(self.min.val()), scalar(self.max.val()))
    }

    /// What is known of the sign.
    pub fn sign(&self) -> RangeSign {
        self.sign
    }
}

/// The same parameter with another value; whether it learns stays as it was.
fn replace(param: Param<Tensor<1>>, value: f32) -> Param<Tensor<1>> {
    param.map(|old| {
        let learns = old.is_require_grad();
        Tensor::full([1], value, &old.device()).set_require_grad(learns)
    })
}
