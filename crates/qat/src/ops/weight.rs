//! Weight and bias of a layer as it multiplies by them, and their gradients: channels times a batch norm's factor (Q12), steps that
//! follow the largest weight (Q4) or learn (Q71), (Q74), the grid (Q5), and the bias on the accumulator's (Q11).

use std::borrow::Cow;

use super::grid::{self, Channels, Grid};
use super::largest::largest;

/// How the weight of a layer is put on a grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WeightCodes {
    /// It stays as it is: on no grid, or already on that of given steps, which the bias follows.
    AsItIs,
    /// Steps are the largest weight over the highest code, of each channel or of all, or `min_scale` where that is more.
    Largest { grid: Grid, min_scale: f32, per_channel: bool },
    /// Steps are a given reach over the highest code, or `min_scale`, with one for each channel or for all; the gradient of the reach is
    /// multiplied by `gradient`.
    Learned { grid: Grid, min_scale: f32, per_channel: bool, gradient: f32 },
}

impl WeightCodes {
    /// With ±∞ as where a gradient is asked for, or not.
    pub fn on(mut self, is_autodiff: bool) -> Self {
        if let Self::Largest { grid, .. } | Self::Learned { grid, .. } = &mut self {
            grid.keeps_infinity = !is_autodiff;
        }
        self
    }
}

/// What weight and bias are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightInputs<'a> {
    pub weight: &'a [f32],
    pub channels: Channels,
    /// What each channel is multiplied by; empty for nothing.
    pub factor: &'a [f32],
    /// A reach for each channel or for all, steps of a weight that stays as it is, or nothing.
    pub reach: &'a [f32],
    /// A number for each channel; empty for none.
    pub bias: &'a [f32],
    /// The step of the input's grid, where it is on one.
    pub input_scale: Option<f32>,
    pub codes: WeightCodes,
    /// Whether ±∞ of the bias saturate.
    pub keeps_infinity: bool,
}

/// Weight and bias as a layer multiplies by them.
#[derive(Debug)]
pub(super) struct Quantized<'a> {
    pub weight: Cow<'a, [f32]>,
    pub bias: Cow<'a, [f32]>,
}

/// Gradients of what weight and bias are made of.
#[derive(Debug)]
pub(super) struct WeightGradients {
    pub d_weight: Vec<f32>,
    /// Empty where there is no factor.
    pub d_factor: Vec<f32>,
    /// Empty where there is no reach.
    pub d_reach: Vec<f32>,
}

impl<'a> WeightInputs<'a> {
    /// Weight and bias on their grids.
    pub fn quantized(&self) -> Quantized<'a> {
        let folded = self.folded();
        let steps = self.steps(&folded);
        let weight = match self.codes {
            WeightCodes::AsItIs => folded,
            WeightCodes::Largest { grid, .. } | WeightCodes::Learned { grid, .. } => {
                Cow::Owned(grid::fake_quantize(&folded, &steps, &[], self.channels_of(&steps), grid))
            }
        };
        let bias = match self.bias_steps(&steps) {
            Some(steps) => Cow::Owned(grid::fake_quantize(self.bias, &steps, &[], self.bias_channels(), self.bias_grid())),
            None => Cow::Borrowed(self.bias),
        };
        Quantized { weight, bias }
    }

    /// The gradients for those of the weight and the bias as they are multiplied by; that of the bias is empty where a reach needs none.
    /// Not here: the gradient of the bias, which is the same, since nothing of it is clipped; nor is a weight whose steps follow the largest.
    pub fn gradients(&self, d_weight: Vec<f32>, d_bias: &[f32]) -> WeightGradients {
        let (mut d_weight, mut d_factor) = (d_weight, vec![0.0; self.factor.len()]);
        let d_reach = if self.reach.is_empty() {
            Vec::new()
        } else {
            let folded = self.folded();
            let steps = self.steps(&folded);
            let mut d_steps = vec![0.0; steps.len()];
            if let WeightCodes::Learned { grid, .. } = self.codes {
                let channels = self.channels_of(&steps);
                let found = grid::fake_quantize_gradients(&folded, &d_weight, &steps, &[], channels, grid);
                (d_weight, d_steps) = (found.dx, found.d_scale);
            }
            if let (Some(bias_steps), Some(input_scale), false) = (self.bias_steps(&steps), self.input_scale, d_bias.is_empty()) {
                let (channels, grid) = (self.bias_channels(), self.bias_grid());
                let found = grid::fake_quantize_gradients(self.bias, d_bias, &bias_steps, &[], channels, grid);
                for (channel, d) in found.d_scale.iter().enumerate() {
                    d_steps[channel % steps.len()] += d * input_scale;
                }
            }
            self.reach_gradient(&d_steps, &mut d_factor)
        };
        if !self.factor.is_empty() {
            let (count, run) = (self.channels.count, self.channels.inner.max(1));
            for (index, (d_weight, weight)) in d_weight.chunks_mut(run).zip(self.weight.chunks(run)).enumerate() {
                let channel = index % count;
                d_factor[channel] += d_weight.iter().zip(weight).map(|(d, w)| f64::from(*d) * f64::from(*w)).sum::<f64>() as f32;
                d_weight.iter_mut().for_each(|d| *d *= self.factor[channel]);
            }
        }
        WeightGradients { d_weight, d_factor, d_reach }
    }

    /// The weight with each channel times its factor.
    fn folded(&self) -> Cow<'a, [f32]> {
        if self.factor.is_empty() {
            return Cow::Borrowed(self.weight);
        }
        let mut folded = self.weight.to_vec();
        for (index, run) in folded.chunks_mut(self.channels.inner.max(1)).enumerate() {
            let factor = self.factor[index % self.channels.count];
            run.iter_mut().for_each(|w| *w *= factor);
        }
        Cow::Owned(folded)
    }

    /// Steps of each channel, or one for all; none where the weight is on no grid.
    fn steps(&self, folded: &[f32]) -> Vec<f32> {
        match self.codes {
            WeightCodes::AsItIs => self.reach.to_vec(),
            WeightCodes::Largest { grid, min_scale, per_channel } => {
                let channels = if per_channel { self.channels } else { Channels { count: 1, inner: folded.len() } };
                largest(folded, channels).into_iter().map(|largest| at_least(largest / grid.high, min_scale)).collect()
            }
            WeightCodes::Learned { grid, min_scale, .. } => {
                let step = |(index, reach): (usize, &f32)| at_least(reach / grid.high * self.magnitude(index), min_scale);
                self.reach.iter().enumerate().map(step).collect()
            }
        }
    }

    /// What a batch norm multiplies a learned step by; a step of the whole weight is that of the folded one (Q74).
    fn magnitude(&self, index: usize) -> f32 {
        match self.codes {
            WeightCodes::Learned { per_channel: true, .. } => self.factor.get(index).map_or(1.0, |factor| factor.abs()),
            _ => 1.0,
        }
    }

    /// The gradient of the reach for that of the steps; adds the part that goes through the factor's magnitude.
    fn reach_gradient(&self, d_steps: &[f32], d_factor: &mut [f32]) -> Vec<f32> {
        let WeightCodes::Learned { grid, min_scale, per_channel, gradient } = self.codes else { return d_steps.to_vec() };
        let of_step = |(index, (d, reach)): (usize, (&f32, &f32))| {
            let (step, magnitude) = (reach / grid.high, self.magnitude(index));
            if step * magnitude < min_scale {
                return 0.0;
            }
            if let (true, Some(factor)) = (per_channel, self.factor.get(index)) {
                let sign = if *factor == 0.0 { 0.0 } else { factor.signum() };
                d_factor[index] += d * step * sign;
            }
            d * magnitude / grid.high * gradient
        };
        d_steps.iter().zip(self.reach).enumerate().map(of_step).collect()
    }

    fn channels_of(&self, steps: &[f32]) -> Channels {
        if steps.len() == self.channels.count { self.channels } else { Channels { count: 1, inner: self.weight.len() } }
    }

    /// The steps of the bias, where it is on a grid.
    fn bias_steps(&self, steps: &[f32]) -> Option<Vec<f32>> {
        let scale = self.input_scale.filter(|_| !self.bias.is_empty() && !steps.is_empty())?;
        Some((0..self.bias.len()).map(|channel| scale * steps[channel % steps.len()]).collect())
    }

    fn bias_channels(&self) -> Channels {
        Channels { count: self.bias.len(), inner: 1 }
    }

    fn bias_grid(&self) -> Grid {
        Grid { keeps_infinity: self.keeps_infinity, ..Grid::UNBOUNDED }
    }
}

fn at_least(step: f32, min_scale: f32) -> f32 {
    if step < min_scale { min_scale } else { step }
}
