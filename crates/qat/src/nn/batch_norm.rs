//! Batch norm folded into the convolution before it: what every kind of convolution shares.
//!
//! The folded weight is the one that is quantized (Q12). In training, the batch's statistics come from the convolution with it (Q94), or from
//! one with the unfolded weight, to whose statistics the output is corrected (Q13); frozen and in inference, the shift is a bias (Q14).
//! Running statistics are updated as Burn's `BatchNorm` does.

use burn::nn::BatchNorm;
use burn::tensor::{Device, Tensor};

use crate::clamp::Clamp;
use crate::fake_quantize::{FakeQuantize, sample_elements};
use crate::ops::{self, MIN_FACTOR, NormParameters, NormStatisticsOf};
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

/// The batch norm for a layer that is one operation, by the statistics of the batch, of a folded weight or not, or by the running ones.
pub(super) fn parameters(norm: &BatchNorm, takes_batch: bool, folds: bool) -> NormParameters {
    let gamma = norm.gamma.val();
    let device = gamma.device();
    let [mean, variance] = [&norm.running_mean, &norm.running_var].map(|running| running.value_sync().to_device(&device));
    let momentum = norm.momentum;
    let statistics = match (takes_batch, folds) {
        (false, _) => NormStatisticsOf::Running,
        (true, false) => NormStatisticsOf::Batch { momentum },
        (true, true) => NormStatisticsOf::FoldedBatch { momentum },
    };
    NormParameters { gamma, beta: norm.beta.val(), mean, variance, epsilon: norm.epsilon, statistics }
}

/// Of which convolution a batch norm takes its statistics, in training with weights on their grids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormStatistics {
    /// Of that with the weight neither folded nor quantized, which is a convolution more (Q13).
    Float,
    /// Of that with the folded weight on its grid, the folding undone (Q94): one convolution, as in float training.
    #[default]
    Quantized,
}

/// The output by the batch's statistics (Q13), (Q94), `[N, c_out, H, W]`, clamped and on its grid.
///
/// `plain` is the convolution with the weight neither folded nor quantized, without the bias `b`, which the mean takes back out; `convolve`
/// that with the weight folded by a factor `[c_out]` and quantized. In float they are the same, and only `plain` is called.
pub(super) fn corrected(
    norm: &BatchNorm,
    bias: Option<Tensor<1>>,
    statistics: NormStatistics,
    output: &FakeQuantize,
    clamp: Clamp,
    plain: impl FnOnce() -> Tensor<4>,
    convolve: impl FnOnce(Tensor<1>) -> Tensor<4>,
) -> QuantTensor<4> {
    let (gamma, beta, epsilon) = (norm.gamma.val(), norm.beta.val(), norm.epsilon);
    let sigma = running_sigma(norm, &gamma.device());
    let (z, operands) = match (output.mode().quantizes_weights(), statistics) {
        (false, _) => (plain(), ops::Norm { gamma, beta, epsilon, folded: None, unfold: None }),
        (true, NormStatistics::Float) => {
            let y = convolve(gamma.clone() / sigma.clone());
            (plain(), ops::Norm { gamma, beta, epsilon, folded: Some((y, sigma)), unfold: None })
        }
        (true, NormStatistics::Quantized) => {
            let factor = gamma.clone().detach() / sigma;
            let factor = factor.clone().mask_fill(factor.abs().lower_elem(MIN_FACTOR), MIN_FACTOR);
            let z = convolve(factor.clone());
            (z, ops::Norm { gamma, beta, epsilon, folded: None, unfold: Some(factor) })
        }
    };
    let unfold = operands.unfold.clone();
    let elements = sample_elements(&z);
    let (y, (mut mean, mut variance)) = output.forward_with(elements, clamp, |ending| ops::norm(z, operands, ending));
    if let Some(factor) = unfold {
        mean = mean / factor.clone();
        variance = variance / factor.clone() / factor;
    }
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
