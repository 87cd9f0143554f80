//! What Adam and AdamW remember of a parameter's gradients.

use burn::optim::{AdaptiveMomentumState, RecordState, StateSink, StateSource, join_path};
use burn::tensor::{Device, Tensor};

use crate::ops::{self, AdamStep};

/// The field of Burn's states of Adam and AdamW, by which records name what is in it.
const FIELD: &str = "momentum";

/// The number of steps so far, the mean of gradients and that of their squares; its records are those of [`burn::optim::AdamState`] and
/// [`burn::optim::AdamWState`].
///
/// In every step, Burn hands the state of each parameter on several times, and takes memory anew for it. Behind a pointer that is little;
/// two tensors are hundreds of bytes, however few numbers they have.
#[derive(Clone)]
pub struct Moments<const D: usize>(Box<AdaptiveMomentumState<D>>);

impl<const D: usize> Moments<D> {
    pub(super) fn new(state: AdaptiveMomentumState<D>) -> Self {
        Self(Box::new(state))
    }

    pub(super) fn into_state(self) -> AdaptiveMomentumState<D> {
        *self.0
    }

    pub(super) fn moved_to(self, device: &Device) -> Self {
        if self.0.moment_1.device() == *device { self } else { Self::new(self.into_state().to_device(device)) }
    }
}

impl<const D: usize> RecordState for Moments<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        self.0.state_flatten(&join_path(prefix, FIELD), out);
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        AdaptiveMomentumState::state_unflatten(&join_path(prefix, FIELD), src, device).map(Self::new)
    }
}

/// Whether one kernel takes a step of `parameter`.
pub(super) fn has_kernel<const D: usize>(parameter: &Tensor<D>, gradient: &Tensor<D>, moments: Option<&Moments<D>>) -> bool {
    match moments {
        Some(Moments(state)) => ops::has_adam_kernel(parameter, &[gradient, &state.moment_1, &state.moment_2]),
        None => ops::has_adam_kernel(parameter, &[gradient]),
    }
}

/// The parameter and its moments after a step, which may depend on the number of steps with it.
pub(super) fn step<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    moments: Option<Moments<D>>,
    step: impl FnOnce(i32) -> AdamStep,
) -> (Tensor<D>, Moments<D>) {
    let Some(Moments(mut state)) = moments else {
        let (parameter, (moment_1, moment_2)) = ops::adam(parameter, gradient, None, step(1));
        return (parameter, Moments::new(AdaptiveMomentumState::new(1, moment_1, moment_2)));
    };
    let AdaptiveMomentumState { time, moment_1, moment_2, max_moment_2 } = *state;
    let time = time + 1;
    let (parameter, (moment_1, moment_2)) = ops::adam(parameter, gradient, Some((moment_1, moment_2)), step(time as i32));
    // In the memory of the state before.
    *state = AdaptiveMomentumState { time, moment_1, moment_2, max_moment_2 };
    (parameter, Moments(state))
}
