//! Symmetric fake quantization of weights and biases.
//!
//! `ŵ = s · clamp(round_half_even(w / s), quant_min, quant_max)` with a step `s` for each output channel, for each group of its
//! inputs (Q98) or for the whole tensor (Q5).
//! By default `s = max|w| / quant_max` follows the weight (Q4): the gradient is straight-through inside the range, which is
//! everywhere since the range is that of the weight, and `s` gets none (Q7). A [`WeightQuantizer`] can have steps of its own instead,
//! which are found by their squared error (Q73) and may learn (Q71).
//!
//! Where a batch norm is folded into the weight by a factor for each channel, steps per channel and per group are those of the weight
//! before that, and are folded by the factor's magnitude: `s_fold = s · |γ / σ|` (Q74). The codes do not change with the batch norm then,
//! so that its statistics may move while steps learn. A step of the whole tensor is that of the folded weight.

use std::num::NonZeroUsize;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::activation::Mode;
use super::group::Groups;
use super::learner::WeightScale;
use super::lsq::{gradient_factor, scale_gradient};
use crate::format::{Granularity, IntegerFormat};
use crate::ops::{Grid, WeightCodes, fake_quantize, weight_step};
use crate::qparams::QParams;

/// Candidates for a step, as parts of that of the largest weight.
const CANDIDATES: u32 = 100;

/// The grid of a layer's weight.
#[derive(Module, Debug)]
pub struct WeightQuantizer {
    /// Steps times the highest code, `[c_out]`, `[c_out · groups]` or `[1]`, before a batch norm's factor but for a step of the whole
    /// tensor; `None` where they follow the largest weight.
    pub reach: Option<Param<Tensor<1>>>,
    #[module(skip)]
    format: IntegerFormat,
    #[module(skip)]
    granularity: Granularity,
    #[module(skip)]
    scale: WeightScale,
}

impl WeightQuantizer {
    /// A grid for weights of `channels` output channels of `inputs` weights each; steps of its own mean nothing until
    /// [`WeightQuantizer::with_steps_for`]. Groups that hold a whole channel are channels.
    pub fn new(
        format: IntegerFormat,
        granularity: Granularity,
        scale: WeightScale,
        [channels, inputs]: [usize; 2],
        device: &Device,
    ) -> Self {
        let granularity = granularity.of_channels(inputs);
        let mut quantizer = Self { reach: None, format, granularity, scale };
        if scale.has_steps() {
            let reach = Tensor::ones([quantizer.count([channels, inputs])], device);
            quantizer.reach = Some(Param::from_tensor(reach).set_require_grad(scale == WeightScale::Learned));
        }
        quantizer
    }

    /// Steps of a weight of `channels` output channels of `inputs` weights each; 0 where it is on no grid.
    pub fn count(&self, [channels, inputs]: [usize; 2]) -> usize {
        match self.granularity {
            _ if self.scale == WeightScale::Real => 0,
            Granularity::PerTensor => 1,
            Granularity::PerChannel => channels,
            Granularity::PerGroup { size } => Groups::new(channels, inputs, size).count(),
        }
    }

    /// The same grid with the steps that have the least squared error on `weight`, whose channels are on `channel_axis`, where it has
    /// steps of its own (Q73). Per tensor that is the weight with a batch norm folded in, else the one before.
    pub fn with_steps_for<const D: usize>(mut self, weight: Tensor<D>, channel_axis: usize) -> Self {
        let (format, granularity) = (self.format, self.granularity);
        self.reach = self.reach.map(|reach| {
            let rows = weight.detach().swap_dims(0, channel_axis);
            let row = rows.shape().num_elements() / rows.dims()[0].max(1);
            let values: Vec<f32> = rows.into_data().iter::<f32>().collect();
            let steps = initial_steps(&values, row, format, granularity);
            with_values(reach, steps.into_iter().map(|step| step * format.quant_max() as f32).collect())
        });
        self
    }

    /// The same grid with codes of another format; its own steps cover the same range until they are found anew.
    pub fn with_format(mut self, format: IntegerFormat) -> Self {
        self.format = format;
        self
    }

    /// `weight` on its grid, and the step of each channel, `[c_out]`; `None` for the latter where the weight stays as it is, and where a
    /// channel has several. `factor`, `[c_out]`, is what a batch norm has multiplied the channels by.
    pub fn apply<const D: usize>(
        &self,
        weight: Tensor<D>,
        channel_axis: usize,
        factor: Option<Tensor<1>>,
    ) -> (Tensor<D>, Option<Tensor<1>>) {
        if let Granularity::PerGroup { size } = self.granularity {
            return (self.apply_by_groups(weight, channel_axis, size, factor), None);
        }
        let Some(steps) = self.steps(weight.clone(), channel_axis, factor) else { return (weight, None) };
        let channels = weight.dims()[channel_axis];
        (self.quantized(weight, steps.clone()), Some(steps.reshape([channels])))
    }

    /// The weight on the grid of its steps. Steps that follow the largest weight clip none, so that its gradient is the result's.
    fn quantized<const D: usize>(&self, weight: Tensor<D>, steps: Tensor<D>) -> Tensor<D> {
        match self.reach {
            None => quantize_on(weight, steps, Grid::UNBOUNDED),
            Some(_) => fake_quantize_weight(weight, steps, self.format),
        }
    }

    /// The weight with each group on its grid (Q98).
    fn apply_by_groups<const D: usize>(
        &self,
        weight: Tensor<D>,
        channel_axis: usize,
        size: NonZeroUsize,
        factor: Option<Tensor<1>>,
    ) -> Tensor<D> {
        if self.scale == WeightScale::Real {
            return weight;
        }
        let dims = weight.dims();
        let groups = Groups::of(&weight, channel_axis, size);
        let own = self.folded_steps(weight.shape().num_elements(), dims[channel_axis], factor);
        let rows = groups.split(weight, channel_axis);
        let steps = own.map_or_else(|| weight_scale(rows.clone(), Some(0), self.format), |own| own.reshape([groups.count(), 1]));
        groups.join(self.quantized(rows, steps), dims, channel_axis)
    }

    /// The steps of `weight` as it is quantized, per channel or per tensor, of shape `[1, …, c_out, …, 1]`; `None` where it is not.
    fn steps<const D: usize>(&self, weight: Tensor<D>, channel_axis: usize, factor: Option<Tensor<1>>) -> Option<Tensor<D>> {
        let channels = weight.dims()[channel_axis];
        let by_channel: [usize; D] = std::array::from_fn(|axis| if axis == channel_axis { channels } else { 1 });
        match &self.reach {
            None if self.scale == WeightScale::Real => None,
            None => {
                let axis = (self.granularity == Granularity::PerChannel).then_some(channel_axis);
                Some(weight_scale(weight, axis, self.format).expand(by_channel))
            }
            Some(_) => {
                let elements = weight.shape().num_elements();
                self.folded_steps(elements, channels, factor).map(|steps| steps.reshape(by_channel))
            }
        }
    }

    /// Its own steps as they are deployed, `[c_out]`, or `[c_out · groups]` with those of a channel side by side, for a weight of so many
    /// elements (Q74); `None` where they follow the weight.
    pub fn folded_steps(&self, elements: usize, channels: usize, factor: Option<Tensor<1>>) -> Option<Tensor<1>> {
        let reach = self.reach.as_ref()?.val();
        let device = reach.device();
        let highest = self.format.quant_max() as f32;
        let gradient = |weights: usize| gradient_factor(weights, highest);
        let step = |gradient: Tensor<1>| scale_gradient(reach.clone(), gradient) / highest;
        let step = match self.granularity {
            Granularity::PerTensor => step(Tensor::full([1], gradient(elements), &device)).expand([channels]),
            Granularity::PerChannel => {
                let step = step(Tensor::full([channels], gradient(elements / channels.max(1)), &device));
                match factor {
                    Some(factor) => step * factor.abs(),
                    None => step,
                }
            }
            Granularity::PerGroup { size } => {
                let groups = Groups::new(channels, elements / channels.max(1), size);
                let of_channel: Vec<f32> = groups.sizes().map(gradient).collect();
                let step = step(Tensor::from_floats(&of_channel.repeat(channels)[..], &device));
                match factor {
                    Some(factor) => step * groups.repeat(factor.abs()),
                    None => step,
                }
            }
        };
        Some(step.clamp_min(self.format.min_scale()))
    }

    /// How a layer in a mode puts a weight of so many elements on this grid, and what its steps follow from where they are its own; a batch norm's
    /// factor is for the layer to apply. `None` for groups: their weight is on its grid before a layer takes it.
    pub(crate) fn codes(&self, elements: usize, mode: Mode) -> Option<(WeightCodes, Option<Tensor<1>>)> {
        if !mode.quantizes_weights() {
            return Some((WeightCodes::AsItIs, None));
        }
        let (highest, min_scale) = (self.format.quant_max() as f32, self.format.min_scale());
        let grid = Grid::new(self.format.quant_min() as f32, highest);
        let per_channel = match self.granularity {
            Granularity::PerTensor => false,
            Granularity::PerChannel => true,
            Granularity::PerGroup { .. } => return None,
        };
        Some(match &self.reach {
            None if self.scale == WeightScale::Real => (WeightCodes::AsItIs, None),
            None => (WeightCodes::Largest { grid, min_scale, per_channel }, None),
            Some(reach) => {
                let reach = reach.val();
                let gradient = gradient_factor(elements / reach.dims()[0].max(1), highest);
                (WeightCodes::Learned { grid, min_scale, per_channel, gradient }, Some(reach))
            }
        })
    }

    /// Codes of the weight.
    pub fn format(&self) -> IntegerFormat {
        self.format
    }

    /// How many weights share a step.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// Where the steps come from.
    pub fn scale(&self) -> WeightScale {
        self.scale
    }
}

/// The same parameter with other numbers; whether it learns stays as it was.
fn with_values(param: Param<Tensor<1>>, values: Vec<f32>) -> Param<Tensor<1>> {
    param.map(|old| {
        let learns = old.is_require_grad();
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [count]), &old.device()).set_require_grad(learns)
    })
}

/// Steps with the least squared error, of rows of `row` weights each: one for each row, for each group of it, or for all (Q73).
pub fn initial_steps(values: &[f32], row: usize, format: IntegerFormat, granularity: Granularity) -> Vec<f32> {
    match granularity {
        Granularity::PerTensor => vec![least_squares(values, format)],
        Granularity::PerChannel => values.chunks(row.max(1)).map(|row| least_squares(row, format)).collect(),
        Granularity::PerGroup { size } => {
            let groups = values.chunks(row.max(1)).flat_map(|row| row.chunks(size.get()));
            groups.map(|group| least_squares(group, format)).collect()
        }
    }
}

/// The step with the least squared error among parts of that of the largest weight; the largest one of equals. Of numbers that are
/// not finite, that of the largest.
fn least_squares(values: &[f32], format: IntegerFormat) -> f32 {
    if values.iter().any(|w| w.is_nan()) {
        return f32::NAN;
    }
    let largest = values.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
    let whole = QParams::symmetric_scale(largest, format);
    if !largest.is_finite() || largest == 0.0 {
        return whole;
    }
    let (min, max) = (format.quant_min() as f32, format.quant_max() as f32);
    let error = |step: f32| {
        let inv_step = 1.0 / step;
        // Whether a tie goes to one side or the other makes no difference to the error.
        let error = |w: &f32| f64::from(w - (w * inv_step).round_ties_even().clamp(min, max) * step).powi(2);
        values.iter().map(error).sum::<f64>()
    };
    let candidates = (1..=CANDIDATES).rev().map(|part| (whole * part as f32 / CANDIDATES as f32).max(format.min_scale()));
    let best = candidates.fold((f64::INFINITY, whole), |best, step| {
        let error = error(step);
        if error < best.0 { (error, step) } else { best }
    });
    best.1
}

/// The steps of a weight, detached: of each channel on `channel_axis`, of shape `[1, …, c_out, …, 1]`, or without an axis of the whole
/// tensor, of shape `[1, …, 1]` (Q4).
pub fn weight_scale<const D: usize>(weight: Tensor<D>, channel_axis: Option<usize>, format: IntegerFormat) -> Tensor<D> {
    let dims = weight.dims();
    let shape: [usize; D] = std::array::from_fn(|axis| if channel_axis == Some(axis) { dims[axis] } else { 1 });
    weight_step(weight, channel_axis, format.quant_max() as f32, format.min_scale()).reshape(shape)
}

/// The weight on the grid of `scale`, a shape that broadcasts to the weight's (Q5).
pub fn fake_quantize_weight<const D: usize>(weight: Tensor<D>, scale: Tensor<D>, format: IntegerFormat) -> Tensor<D> {
    quantize_on(weight, scale, Grid::new(format.quant_min() as f32, format.quant_max() as f32))
}

fn quantize_on<const D: usize>(weight: Tensor<D>, scale: Tensor<D>, grid: Grid) -> Tensor<D> {
    let axis = (0..D).find(|axis| scale.dims()[*axis] != 1);
    let steps: usize = scale.dims().iter().product();
    fake_quantize(weight, scale.reshape([steps]), None, axis, grid)
}

/// The bias on the grid of the accumulator, `scale = s_in · s_w[c]` of shape `[c_out]` (Q11).
///
/// Codes are int32 and their sums stay far below 2³¹, so nothing is clamped.
pub fn fake_quantize_bias(bias: Tensor<1>, scale: Tensor<1>) -> Tensor<1> {
    fake_quantize(bias, scale, None, Some(0), Grid::UNBOUNDED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::CodeRange;
    use crate::qparams::quantize;
    use burn::tensor::Device;

    const FORMAT: IntegerFormat = IntegerFormat::INT8_NARROW;

    #[test]
    fn each_channel_has_its_own_step_and_equals_the_host() {
        let device = Device::flex();
        let rows = [[0.3f32, -1.27, 0.005], [0.0, 0.0, 0.0], [2.5e-3, 1e-3, -2e-3]];
        let weight = Tensor::<2>::from_floats(rows, &device);
        let scale = weight_scale(weight.clone(), Some(0), FORMAT);
        let values: Vec<f32> = fake_quantize_weight(weight, scale, FORMAT).into_data().try_to_vec().unwrap();
        for (row, got) in rows.iter().zip(values.chunks(3)) {
            let scale = QParams::symmetric_scale(row.iter().fold(0.0f32, |m, w| m.max(w.abs())), FORMAT);
            for (w, got) in row.iter().zip(got) {
                assert_eq!(*got, quantize(*w, scale, 0, FORMAT) as f32 * scale);
            }
        }
    }

    #[test]
    fn per_tensor_takes_the_largest_channel() {
        let device = Device::flex();
        let weight = Tensor::<2>::from_floats([[1.0, -2.54], [0.1, 0.2]], &device);
        let quantizer = WeightQuantizer::new(FORMAT, Granularity::PerTensor, WeightScale::Max, [2, 2], &device);
        let steps = quantizer.apply(weight, 0, None).1.unwrap();
        steps.into_data().assert_eq(&[2.54f32 / 127.0; 2].into(), true);
    }

    #[test]
    fn least_squares_beat_the_largest_weight() {
        let values: Vec<f32> = (0..600).map(|i| (0..8).map(|j| ((i * 31 + j * 57) as f32 * 0.618).sin()).sum::<f32>()).collect();
        for (bits, range) in [(2, CodeRange::Narrow), (2, CodeRange::Full), (3, CodeRange::Full), (4, CodeRange::Narrow)] {
            let format = IntegerFormat::new(bits, range).unwrap();
            let error = |step: f32| {
                let q = |w: &f32| f64::from(w - quantize(*w, step, 0, format) as f32 * step).powi(2);
                values.iter().map(q).sum::<f64>()
            };
            let [step] = initial_steps(&values, 600, format, Granularity::PerTensor)[..] else { panic!("one step") };
            let largest = values.iter().fold(0.0f32, |m, w| m.max(w.abs()));
            assert!(error(step) < 0.95 * error(QParams::symmetric_scale(largest, format)), "{bits} bits {range:?}");
            for part in 1..1000 {
                let other = largest * part as f32 / 500.0;
                assert!(error(step) <= 1.01 * error(other), "{bits} bits {range:?}: {step} is worse than {other}");
            }
        }
    }

    #[test]
    fn degenerate_weights_have_a_step() {
        let format = IntegerFormat::INT4_NARROW;
        let steps = initial_steps(&[0.0, 0.0, 7.0, -7.0, 1e-30, 0.0], 2, format, Granularity::PerChannel);
        assert_eq!(steps, [format.min_scale(), 1.0, format.min_scale()]);
        assert!(initial_steps(&[f32::NAN, 1.0], 2, format, Granularity::PerTensor)[0].is_nan());
    }

    #[test]
    fn the_gradient_of_a_weight_is_straight_through() {
        let device = Device::flex().autodiff();
        let weight = Tensor::<2>::from_floats([[0.3, -1.27], [0.4, 0.1]], &device).require_grad();
        let scale = weight_scale(weight.clone(), Some(0), FORMAT);
        let gradients = (fake_quantize_weight(weight.clone(), scale, FORMAT) * 2.0).sum().backward();
        for g in weight.grad(&gradients).unwrap().into_data().iter::<f32>() {
            assert!((g - 2.0).abs() < 1e-5, "gradient {g}");
        }
    }
}
