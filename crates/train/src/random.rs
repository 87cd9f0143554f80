//! The device's random numbers, when several threads of a process want them.
//!
//! Flex and other devices draw from one generator of the whole process. Seeding and drawing is one act only if nobody seeds in
//! between, which the lock here sees to. Not here: layers that draw random numbers in each step; two trainings of such
//! models in one process at a time disturb each other.

use burn::tensor::Device;
use std::sync::{Mutex, PoisonError};

static GENERATOR: Mutex<()> = Mutex::new(());

/// What `draw` makes with the random numbers that follow from `seed`.
pub(crate) fn with_seed<T>(device: &Device, seed: u64, draw: impl FnOnce() -> T) -> T {
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    device.seed(seed);
    draw()
}
