//! Memory of a thread that is reused from step to step.

use std::cell::RefCell;

/// Numbers in a line of a cache, at whose beginning memory begins.
const LINE: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `length` zeros, which go back to the thread's pool.
pub(super) fn with_zeros<R>(length: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    with_numbers(length, |numbers| {
        numbers.fill(0.0);
        f(numbers)
    })
}

/// Calls `f` with `length` numbers left by whoever had them before; they go back to the thread's pool.
pub(super) fn with_numbers<R>(length: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = POOL.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < length + LINE {
        buffer.clear();
        buffer.resize(length + LINE, 0.0);
    }
    let first = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let result = f(&mut buffer[first..][..length]);
    POOL.with_borrow_mut(|pool| pool.push(buffer));
    result
}
