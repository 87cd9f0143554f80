//! Exponential moving average of each batch's lowest and highest value (Q6).

use burn::tensor::Tensor;

/// `r ← r + momentum · (batch − r)`; the first batch is taken as it is.
pub(super) fn update(
    seen: (Tensor<1>, Tensor<1>),
    batch: (Tensor<1>, Tensor<1>),
    momentum: f32,
) -> (Tensor<1>, Tensor<1>) {
    (step(seen.0, batch.0, momentum), step(seen.1, batch.1, momentum))
}

fn step(seen: Tensor<1>, batch: Tensor<1>, momentum: f32) -> Tensor<1> {
    let first = seen.clone().is_inf();
    let moved = seen.clone() + (batch.clone() - seen) * momentum;
    moved.mask_where(first, batch)
}
