//! Batch norm folded into the convolution before it: what every kind of convolution shares.
//!
//! The folded weight is the one that is quantized (Q12). In training, the batch's statistics come from a convolution with the unfolded
//! weight, and the output is corrected from the running to the batch's statistics (Q13); frozen and in inference, the shift is a
//! bias (Q14). Running statistics are updated as Burn's `BatchNorm` does.

use burn::nn::BatchNorm;
use burn::tensor::{Device, Tensor};

use crate::clamp::Clamp;
use crate::fake_quantize::{FakeQuantize, sample_elements};
use crate::ops;
use crate::tensor::QuantTensor;

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

/// The output by the batch's statistics (Q13), `[N, c_out, H, W]`, clamped and on its grid.
///
/// `z` is the result with the weight neither folded nor quantized, without the bias `b`, which the mean takes back out; `convolve`
/// computes it with the weight folded by a factor `[c_out]` and quantized. In float these are the same number, and `convolve` is not
/// called.
pub(super) fn corrected(
    norm: &BatchNorm,
    bias: Option<Tensor<1>>,
    z: Tensor<4>,
    output: &FakeQuantize,
    clamp: Clamp,
    convolve: impl FnOnce(Tensor<1>) -> Tensor<4>,
) -> QuantTensor<4> {
    let device = z.device();
    let sigma = running_sigma(norm, &device);
    let folded = output.mode().quantizes_weights().then(|| (convolve(norm.gamma.val() / sigma.clone()), sigma));
    let operands = ops::Norm { gamma: norm.gamma.val(), beta: norm.beta.val(), epsilon: norm.epsilon, folded };
    let elements = sample_elements(&z);
    let (y, (mean, variance)) = output.forward_with(elements, clamp, |after, steps| ops::norm(z, operands, after, steps));
    let mean = match bias {
        Some(bias) => mean + bias,
        None => mean,
    };
    update_running(norm, mean, variance);
    y
}

/// `√(running variance + ε)`, detached, `[c_out]`.
fn running_sigma(norm: &BatchNorm, device: &Device) -> Tensor<1> {
    (norm.running_var.value_sync().to_device(device) + norm.epsilon).sqrt()
}

/// `running ← (1 − momentum) · running + momentum · batch`, as Burn's `BatchNorm` updates them.
fn update_running(norm: &BatchNorm, mean: Tensor<1>, variance: Tensor<1>) {
    for (running, batch) in [(&norm.running_mean, mean), (&norm.running_var, variance)] {
        let old = running.value_sync().to_device(&batch.device());
        running.update((old * (1.0 - norm.momentum) + batch.detach() * norm.momentum).detach());
    }
}
