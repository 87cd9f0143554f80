//! Memory of a thread that is reused from step to step.

use std::cell::RefCell;

thread_local! {
    static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `length` zeros, which go back to the thread's pool.
pub(super) fn with_zeros<R>(length: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.clear();
    buffer.resize(length, 0.0);
    let result = f(&mut buffer);
    POOL.with_borrow_mut(|pool| pool.push(buffer));
    result
}
