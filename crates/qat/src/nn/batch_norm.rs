//! Batch norm folded into the convolution before it: what every kind of convolution shares.
//!
//! The folded weight is the one that is quantized (Q12). In training, the batch's statistics come from a convolution with the unfolded
//! weight, and the output is corrected from the running to the batch's statistics (Q13); frozen and in inference, the shift is a
//! bias (Q14). Running statistics are updated as Burn's `BatchNorm` does.

use burn::nn::BatchNorm;
use burn::tensor::{Device, Tensor};

/// Factor of the weight, `γ / σ`, and bias, `β − (μ − b) · γ / σ`, by the running statistics, `[c_out]` (Q12), (Q14).
pub(super) fn fold(norm: &BatchNorm, bias: Option<Tensor<1>>) -> (Tensor<1>, Tensor<1>) {
    let device = norm.gamma.val().device();
    let mean = norm.running_mean.value_sync().to_device(&device);
    let factor = norm.gamma.val() / running_sigma(norm, &device);
    let shift = match bias {
        Some(bias) => mean - bias,
        None => mean,
    };
    (factor.clone(), norm.beta.val() - shift * factor)
}

/// The output by the batch's statistics (Q13), `[N, c_out, H, W]`.
///
/// `unfolded` is the result with the weight neither folded nor quantized, bias `b` included; `convolve` computes it without bias with
/// the weight folded by a factor `[c_out]` and quantized.
pub(super) fn corrected(
    norm: &BatchNorm,
    bias: Option<Tensor<1>>,
    unfolded: Tensor<4>,
    convolve: impl FnOnce(Tensor<1>) -> Tensor<4>,
) -> Tensor<4> {
    let device = unfolded.device();
    let (mean, variance) = batch_statistics(unfolded);

    let sigma = running_sigma(norm, &device);
    update_running(norm, mean.clone(), variance.clone());

    let batch_sigma = (variance + norm.epsilon).sqrt();
    let y = convolve(norm.gamma.val() / sigma.clone());
    let channels = [1, mean.dims()[0], 1, 1];
    let shift = match bias {
        Some(bias) => mean - bias,
        None => mean,
    };
    let bias = norm.beta.val() - norm.gamma.val() * shift / batch_sigma.clone();
    y * (sigma / batch_sigma).reshape(channels) + bias.reshape(channels)
}

/// `√(running variance + ε)`, detached, `[c_out]`.
fn running_sigma(norm: &BatchNorm, device: &Device) -> Tensor<1> {
    (norm.running_var.value_sync().to_device(device) + norm.epsilon).sqrt()
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

/// `running ← (1 − momentum) · running + momentum · batch`, as Burn's `BatchNorm` updates them.
fn update_running(norm: &BatchNorm, mean: Tensor<1>, variance: Tensor<1>) {
    for (running, batch) in [(&norm.running_mean, mean), (&norm.running_var, variance)] {
        let old = running.value_sync().to_device(&batch.device());
        running.update((old * (1.0 - norm.momentum) + batch.detach() * norm.momentum).detach());
    }
}
