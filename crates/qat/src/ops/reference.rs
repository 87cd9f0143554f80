//! The compositions of Burn operations that the kernels are tested against, and that other devices run.

use burn::tensor::Tensor;

#[cfg(test)]
use super::Ending;
use super::{Grid, Norm, RangeCodes, RangeEnds};
use crate::fake_quantize::round_ste;

/// As [`super::fake_quantize`].
pub(crate) fn fake_quantize<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    zero: Option<Tensor<1>>,
    channel_axis: Option<usize>,
    grid: Grid,
) -> Tensor<D> {
    let mut shape = [1; D];
    if let Some(axis) = channel_axis {
        shape[axis] = x.dims()[axis];
    }
    let step = scale.reshape(shape);
    let codes = round_ste(grid.clamp.apply(x) / step.clone());
    let codes = match zero {
        Some(zero) => {
            let zero = zero.reshape(shape);
            (codes + zero.clone()).clamp(grid.low, grid.high) - zero
        }
        None if grid.low == f32::NEG_INFINITY && grid.high == f32::INFINITY => codes,
        None => codes.clamp(grid.low, grid.high),
    };
    codes * step
}

/// As [`super::weight_step`].
pub(crate) fn weight_step<const D: usize>(
    weight: Tensor<D>,
    channel_axis: Option<usize>,
    steps: f32,
    min_scale: f32,
) -> Tensor<1> {
    let others: Vec<usize> = (0..D).filter(|axis| Some(*axis) != channel_axis).collect();
    let count = channel_axis.map_or(1, |axis| weight.dims()[axis]);
    (weight.detach().max_abs_dims(&others).reshape([count]) / steps).clamp_min(min_scale)
}

/// Step, and where it has both ends zero point, of a range, all of shape `[1]` (Q2), (Q3), (Q60).
pub(crate) fn range(min: Tensor<1>, max: Tensor<1>, codes: RangeCodes) -> (Tensor<1>, Option<Tensor<1>>) {
    let high = codes.upper().apply(max);
    let low = || min.clone().clamp_max(0.0);
    let length = match codes.ends {
        RangeEnds::Upper => high,
        RangeEnds::Both => high - low(),
        RangeEnds::Farther => high.max_pair(-low()),
    };
    let scale = (length / codes.steps).clamp_min(codes.min_scale);
    let zero_point = (codes.ends == RangeEnds::Both).then(|| -round_ste(low() / scale.clone()) + codes.quant_min);
    (scale, zero_point)
}

/// As [`super::finish`].
#[cfg(test)]
pub(crate) fn finish<const D: usize>(x: Tensor<D>, y: Option<Tensor<D>>, ending: Ending) -> Tensor<D> {
    let x = match y {
        Some(y) => x + y,
        None => x,
    };
    match ending {
        Ending::Clamp(clamp) => clamp.apply(x),
        Ending::Grid { grid, scale, zero } => fake_quantize(x, scale, zero, None, grid),
        Ending::Range { grid, min, max, codes, .. } => {
            let (scale, zero) = range(min, max, codes);
            fake_quantize(x, scale, zero, None, grid)
        }
    }
}

/// As [`super::norm`].
#[cfg(test)]
pub(crate) fn norm(z: Tensor<4>, norm: Norm, ending: Ending) -> (Tensor<4>, (Tensor<1>, Tensor<1>)) {
    let (out, statistics) = normalize(z, norm);
    (finish(out, None, ending), statistics)
}

/// As [`super::norm`], without what follows it.
pub(crate) fn normalize(z: Tensor<4>, norm: Norm) -> (Tensor<4>, (Tensor<1>, Tensor<1>)) {
    let (mean, variance) = batch_statistics(z.clone());
    let sigma = match norm.unfold {
        Some(k) => (variance.clone() + k.clone() * k.clone() * norm.epsilon).sqrt() * k.sign(),
        None => (variance.clone() + norm.epsilon).sqrt(),
    };
    let channels = [1, mean.dims()[0], 1, 1];
    let shift = norm.beta - norm.gamma.clone() * mean.clone() / sigma.clone();
    let (x, factor) = match norm.folded {
        Some((y, folded_sigma)) => (y, folded_sigma / sigma),
        None => (z, norm.gamma / sigma),
    };
    let out = x * factor.reshape(channels) + shift.reshape(channels);
    (out, (mean.detach(), variance.detach()))
}

/// Mean and biased variance of each channel, `[c]`, in the order of operations of Burn's batch norm.
fn batch_statistics(x: Tensor<4>) -> (Tensor<1>, Tensor<1>) {
    let [n, c, h, w] = x.dims();
    let x = x.swap_dims(0, 1).reshape([c, n * h * w]);
    let mean = x.clone().mean_dim(1);
    let centred = x - mean.clone();
    let variance = (centred.clone() * centred).mean_dim(1);
    (mean.reshape([c]), variance.reshape([c]))
}
