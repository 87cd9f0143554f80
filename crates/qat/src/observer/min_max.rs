//! The lowest and the highest value of all batches.

use burn::tensor::Tensor;

/// The union of the range so far and a batch's range.
pub(super) fn update(seen: (Tensor<1>, Tensor<1>), batch: (Tensor<1>, Tensor<1>)) -> (Tensor<1>, Tensor<1>) {
    (seen.0.min_pair(batch.0), seen.1.max_pair(batch.1))
}
