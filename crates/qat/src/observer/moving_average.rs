//! Exponential moving average of each batch's lowest and highest value (Q6).

use burn::tensor::{Bool, Tensor};

/// `r ← r + momentum · (batch − r)`; the first batch is taken as it is.
pub(super) fn update(seen: (Tensor<1>, Tensor<1>), batch: (Tensor<1>, Tensor<1>), momentum: f32) -> (Tensor<1>, Tensor<1>) {
    // Only the range of nothing, [+∞, −∞], is the wrong way round.
    let first = seen.0.clone().greater(seen.1.clone());
    (step(seen.0, batch.0, first.clone(), momentum), step(seen.1, batch.1, first, momentum))
}

fn step(seen: Tensor<1>, batch: Tensor<1>, first: Tensor<1, Bool>, momentum: f32) -> Tensor<1> {
    let moved = seen.clone() + (batch.clone() - seen) * momentum;
    moved.mask_where(first, batch)
}
