//! Where an element stands in a row-major tensor.

use alloc::{vec, vec::Vec};

/// Distance in elements of neighbours along each axis.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Strides of an operand whose dimensions of 1 stretch.
pub(super) fn stretched(shape: &[usize]) -> Vec<usize> {
    strides(shape).into_iter().zip(shape).map(|(stride, &size)| if size == 1 { 0 } else { stride }).collect()
}

/// The sum over all axes of `term(axis, coordinate)`, for the element `flat` of a tensor of this shape.
pub(super) fn offset(mut flat: usize, shape: &[usize], mut term: impl FnMut(usize, usize) -> usize) -> usize {
    let mut total = 0;
    for axis in (0..shape.len()).rev() {
        total += term(axis, flat % shape[axis]);
        flat /= shape[axis];
    }
    total
}
