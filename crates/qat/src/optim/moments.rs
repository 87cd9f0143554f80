//! The moments that Adam and AdamW have in common.

use burn::optim::AdaptiveMomentumState;
use burn::tensor::Tensor;

use crate::ops::{self, AdamStep};

/// Whether one kernel takes a step of `parameter`.
pub(super) fn has_kernel<const D: usize>(
    parameter: &Tensor<D>,
    gradient: &Tensor<D>,
    state: Option<&AdaptiveMomentumState<D>>,
) -> bool {
    match state {
        Some(state) => ops::has_adam_kernel(parameter, &[gradient, &state.moment_1, &state.moment_2]),
        None => ops::has_adam_kernel(parameter, &[gradient]),
    }
}

/// The parameter and its state after a step, which may depend on the number of steps with it.
pub(super) fn step<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    state: Option<AdaptiveMomentumState<D>>,
    step: impl FnOnce(i32) -> AdamStep,
) -> (Tensor<D>, AdaptiveMomentumState<D>) {
    let (before, moments, max_moment_2) = match state {
        Some(state) => (state.time, Some((state.moment_1, state.moment_2)), state.max_moment_2),
        None => (0, None, None),
    };
    let time = before + 1;
    let (parameter, (moment_1, moment_2)) = ops::adam(parameter, gradient, moments, step(time as i32));
    let mut state = AdaptiveMomentumState::new(time, moment_1, moment_2);
    state.max_moment_2 = max_moment_2;
    (parameter, state)
}
