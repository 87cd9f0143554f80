//! Affine fake quantization of an activation with a learned range or a learned step.
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
//! With [`RangeLearner::Lsq`] the step is a parameter of its own and `z` that of the range as it was calibrated (Q71).
//! An end on the wrong side of 0, and the `min` of a range that is never negative, get nothing. NaN stays NaN. In
//! inference ±∞ saturate; in training they become NaN, so that a run that diverges stops. Not here: how a range is first found (see [`crate::observer`]).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::learner::RangeLearner;
use super::lsq::scale_gradient;
use crate::clamp::Clamp;
use crate::format::IntegerFormat;
use crate::observer::{Observer, ObserverKind, scalar};
use crate::ops::{Ending, Grid, RangeCodes, RangeEnds, finish, range, range_ending};
use crate::qparams::QParams;
use crate::tensor::QuantTensor;

/// What a quantizer does to what passes through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: the model computes in float.
    Float,
    /// Nothing, but the range is observed.
    Observe,
    /// Nothing to activations, but weights are on their grids.
    Weights,
    /// It is put on the integer grid, but weights stay as they are.
    Activations,
    /// It is put on the integer grid, and so are weights.
    Quantize,
}

impl Mode {
    /// Whether the weights of a layer are on their grid.
    pub fn quantizes_weights(self) -> bool {
        matches!(self, Self::Weights | Self::Quantize)
    }
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

/// Per-tensor quantizer, affine or of 16 bits symmetric, with learned `min` and `max` or a learned step.
#[derive(Module, Debug)]
pub struct FakeQuantize {
    /// Lower end of the range in real units, shape `[1]`; values above 0 count as 0.
    pub min: Param<Tensor<1>>,
    /// Upper end of the range in real units, shape `[1]`; values below 0 count as 0.
    pub max: Param<Tensor<1>>,
    /// The step times the largest code on either side of the zero point, shape `[1]`, where the step learns by itself; `min` and `max`
    /// are then the calibrated range, which gives the zero point.
    pub reach: Option<Param<Tensor<1>>>,
    observer: Observer,
    #[module(skip)]
    format: IntegerFormat,
    #[module(skip)]
    sign: RangeSign,
    #[module(skip)]
    source: RangeSource,
    #[module(skip)]
    learner: RangeLearner,
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
            reach: None,
            observer: Observer::new(observer, device),
            format,
            sign,
            source: RangeSource::Calibration,
            learner: RangeLearner::MinMax,
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

    /// The same quantizer with an observer that has seen nothing, of the given kind or of the present one's; what is known stays.
    pub fn with_observer(mut self, kind: Option<ObserverKind>) -> Self {
        if self.source == RangeSource::Calibration {
            let device = self.max.val().device();
            self.observer = Observer::new(kind.unwrap_or(self.observer.kind()), &device);
        }
        self
    }

    /// The same quantizer with another learner; what it takes over from is the present range.
    pub fn with_learner(mut self, learner: RangeLearner) -> Self {
        self.learner = learner;
        let ends_learn = learner == RangeLearner::MinMax;
        self.min = self.min.set_require_grad(ends_learn);
        self.max = self.max.set_require_grad(ends_learn);
        self.reach = None;
        if learner == RangeLearner::Lsq {
            let device = self.max.val().device();
            self.reach = Some(Param::from_tensor(Tensor::full([1], self.calibrated_reach(), &device)));
        }
        self
    }

    /// The same quantizer with codes of another format and with the range that it covers.
    pub fn with_format(mut self, format: IntegerFormat) -> Self {
        self.format = format;
        self
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
        self.reach = self.reach.map(|reach| reach.set_require_grad(false));
        self
    }

    /// The same quantizer with its range set; whether it learns stays as it was.
    pub fn with_range(mut self, min: f32, max: f32) -> Self {
        let min = if self.sign == RangeSign::NonNegative { 0.0 } else { min };
        self.min = replace(self.min, min);
        self.max = replace(self.max, max);
        let reach = self.calibrated_reach();
        self.reach = self.reach.map(|param| replace(param, reach));
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
        self.observer.range(self.format, self.sign)
    }

    /// Passes `x` through, according to the mode.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> QuantTensor<D> {
        self.forward_clamped(x, Clamp::NONE)
    }

    /// Passes `clamp(x)` through, according to the mode.
    pub fn forward_clamped<const D: usize>(&self, x: Tensor<D>, clamp: Clamp) -> QuantTensor<D> {
        let elements = sample_elements(&x);
        self.forward_with(elements, clamp, |ending| (finish(x, None, ending), ())).0
    }

    /// Passes `clamp(x + y)` through, according to the mode; a dimension of 1 stretches to that of the other operand.
    pub(crate) fn forward_sum<const D: usize>(&self, x: Tensor<D>, y: Tensor<D>, clamp: Clamp) -> QuantTensor<D> {
        let elements = (1..D).map(|axis| x.dims()[axis].max(y.dims()[axis])).product();
        self.forward_with(elements, clamp, |ending| (finish(x, Some(y), ending), ())).0
    }

    /// Passes what `op` gives, which ends as it is told to, according to the mode; what `op` gives besides is handed on. A sample of it has so many elements.
    pub(crate) fn forward_with<const D: usize, R>(
        &self,
        elements: usize,
        clamp: Clamp,
        op: impl FnOnce(Ending) -> (Tensor<D>, R),
    ) -> (QuantTensor<D>, R) {
        if self.source != RangeSource::Reader && matches!(self.mode, Mode::Activations | Mode::Quantize) {
            let (min, max, codes) = (self.min.val(), self.max.val(), self.range_codes());
            let grid = self.codes().after(clamp);
            let ending = match &self.reach {
                Some(reach) => {
                    let (_, zero) = range(min, max, codes);
                    let scale = self.learned_step(reach.val(), zero.clone(), elements);
                    Ending::Grid { grid, scale, zero }
                }
                None => range_ending(grid, min, max, codes),
            };
            let scale = ending.step();
            let (tensor, besides) = op(ending);
            return (QuantTensor { tensor, scale }, besides);
        }
        let (x, besides) = op(Ending::Clamp(clamp));
        if self.mode == Mode::Observe && self.source == RangeSource::Calibration {
            self.observer.observe(x.clone());
        }
        (QuantTensor::float(x), besides)
    }

    /// The codes relative to the zero point, where there is one, else relative to real 0.
    fn codes(&self) -> Grid {
        let (quant_min, quant_max) = (self.format.quant_min() as f32, self.format.quant_max() as f32);
        match (self.sign, self.format.is_symmetric()) {
            (RangeSign::Any, _) => Grid::new(quant_min, quant_max),
            (RangeSign::NonNegative, true) => Grid::new(0.0, quant_max),
            (RangeSign::NonNegative, false) => Grid::new(0.0, quant_max - quant_min),
        }
    }

    /// What the range is laid over.
    fn range_codes(&self) -> RangeCodes {
        let (quant_min, quant_max) = (self.format.quant_min() as f32, self.format.quant_max() as f32);
        let (steps, min_scale) = (self.format.steps() as f32, self.format.min_scale());
        let (ends, steps) = match (self.sign, self.format.is_symmetric()) {
            (RangeSign::NonNegative, true) => (RangeEnds::Upper, quant_max),
            (RangeSign::Any, true) => (RangeEnds::Farther, quant_max),
            (RangeSign::NonNegative, false) => (RangeEnds::Upper, steps),
            (RangeSign::Any, false) => (RangeEnds::Both, steps),
        };
        RangeCodes { quant_min, steps, min_scale, limit: self.limit, ends }
    }

    /// The learned step, whose reach has its gradient multiplied (Q71).
    fn learned_step(&self, reach: Tensor<1>, zero_point: Option<Tensor<1>>, elements: usize) -> Tensor<1> {
        let (quant_min, quant_max) = (self.format.quant_min() as f32, self.format.quant_max() as f32);
        let elements = elements.max(1) as f32;
        let device = reach.device();
        let constant = |value: f32| Tensor::full([1], value, &device);
        let highest = match (zero_point, self.sign, self.format.is_symmetric()) {
            (Some(zero_point), ..) => {
                let zero_point = zero_point.detach();
                (-zero_point.clone() + quant_max).max_pair(zero_point - quant_min)
            }
            (None, RangeSign::NonNegative, false) => constant(quant_max - quant_min),
            (None, ..) => constant(quant_max),
        };
        let factor = highest.clone().powf_scalar(1.5) / elements.sqrt();
        let reach = scale_gradient(self.reach_limit().apply(reach), factor);
        (reach / highest).clamp_min(self.format.min_scale())
    }

    /// The bound of a learned reach: that of a fused clamp. Where codes lie on both sides of 0, a step says nothing of the upper end.
    fn reach_limit(&self) -> Clamp {
        let max = if self.sign == RangeSign::NonNegative { self.limit } else { f32::INFINITY };
        Clamp { min: f32::NEG_INFINITY, max }
    }

    /// The largest code on either side of the zero point.
    fn highest(&self) -> i32 {
        let zero_point = self.calibrated_qparams().zero_point;
        match (self.sign, self.format.is_symmetric()) {
            (_, true) => self.format.quant_max(),
            (RangeSign::NonNegative, false) => self.format.steps(),
            (RangeSign::Any, false) => (self.format.quant_max() - zero_point).max(zero_point - self.format.quant_min()),
        }
    }

    /// The reach of the calibrated range.
    fn calibrated_reach(&self) -> f32 {
        self.calibrated_qparams().scale * self.highest() as f32
    }

    /// Scale and zero point of the calibrated range, as host numbers.
    fn calibrated_qparams(&self) -> QParams {
        let min = if self.sign == RangeSign::NonNegative { 0.0 } else { scalar(self.min.val()) };
        QParams::of_range(min, scalar(self.max.val()).min(self.limit), self.format)
    }

    /// Scale and zero point of the present range, as host numbers.
    pub fn qparams(&self) -> QParams {
        let qparams = self.calibrated_qparams();
        let Some(reach) = &self.reach else { return qparams };
        let reach = scalar(reach.val());
        if reach.is_nan() {
            // It stays one, for conversion to refuse.
            return QParams { scale: reach, ..qparams };
        }
        let step = reach.min(self.reach_limit().max) / self.highest() as f32;
        QParams { scale: step.max(self.format.min_scale()), ..qparams }
    }

    /// The range as it stands, not widened to contain 0; that of the codes where the step learns.
    pub fn range(&self) -> (f32, f32) {
        match &self.reach {
            None => (scalar(self.min.val()), scalar(self.max.val())),
            Some(_) => self.qparams().real_range(),
        }
    }

    /// How the range learns.
    pub fn learner(&self) -> RangeLearner {
        self.learner
    }

    /// The codes.
    pub fn format(&self) -> IntegerFormat {
        self.format
    }

    /// What is known of the sign.
    pub fn sign(&self) -> RangeSign {
        self.sign
    }
}

/// Elements of a sample of a batch.
pub(crate) fn sample_elements<const D: usize>(x: &Tensor<D>) -> usize {
    x.dims()[1..].iter().product()
}

/// The same parameter with another value; whether it learns stays as it was.
fn replace(param: Param<Tensor<1>>, value: f32) -> Param<Tensor<1>> {
    param.map(|old| {
        let learns = old.is_require_grad();
        Tensor::full([1], value, &old.device()).set_require_grad(learns)
    })
}
