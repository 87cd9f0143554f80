//! The compositions of Burn operations that the kernels are tested against, and that other devices run.

use burn::tensor::Tensor;

use super::{After, Grid, Norm, Steps};
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
        None => codes.clamp(grid.low, grid.high),
    };
    codes * step
}

/// As [`super::norm`].
pub(crate) fn norm(z: Tensor<4>, norm: Norm, after: After, steps: Option<Steps>) -> (Tensor<4>, (Tensor<1>, Tensor<1>)) {
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
    let out = match (after, steps) {
        (After::Grid(grid), Some((scale, zero))) => fake_quantize(out, scale, zero, None, grid),
        (After::Grid(grid), None) => grid.clamp.apply(out),
        (After::Clamp(clamp), _) => clamp.apply(out),
    };
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
