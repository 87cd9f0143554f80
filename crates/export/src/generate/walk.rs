//! Boxes of elements as rows with steps: how operations on axes of any number become two loops.
//!
//! An operand is a list of steps, one for each axis of the box: how far apart its elements stand in memory. Axes of size 1 are left
//! out, neighbouring axes that every operand passes as one are merged, and the last one left becomes the inner loop.

/// Distance in elements of neighbours along each axis of a row-major tensor.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// A box that operands are walked through together.
#[derive(Debug, PartialEq)]
pub(crate) struct Walk {
    /// Sizes of the outer axes.
    pub(crate) size: Vec<usize>,
    /// Steps of each operand along the outer axes.
    pub(crate) steps: Vec<Vec<usize>>,
    /// Size of the inner axis.
    pub(crate) length: usize,
    /// Step of each operand along the inner axis.
    pub(crate) inner: Vec<usize>,
}

impl Walk {
    /// Through a box of this shape; one list of steps for each operand.
    pub(crate) fn new(shape: &[usize], operands: &[Vec<usize>]) -> Self {
        let mut size: Vec<usize> = Vec::new();
        let mut steps: Vec<Vec<usize>> = vec![Vec::new(); operands.len()];
        for (axis, &length) in shape.iter().enumerate().filter(|(_, length)| **length != 1) {
            let merges = !size.is_empty()
                && steps.iter().zip(operands).all(|(steps, operand)| steps.last() == Some(&(operand[axis] * length)));
            if merges {
                size.iter_mut().last().into_iter().for_each(|last| *last *= length);
                steps.iter_mut().zip(operands).for_each(|(steps, operand)| {
                    steps.pop();
                    steps.push(operand[axis]);
                });
            } else {
                size.push(length);
                steps.iter_mut().zip(operands).for_each(|(steps, operand)| steps.push(operand[axis]));
            }
        }
        let length = size.pop().unwrap_or(1);
        let inner = steps.iter_mut().map(|steps| steps.pop().unwrap_or(1)).collect();
        Self { size, steps, length, inner }
    }

    /// Number of rows, that is turns of the inner loop.
    pub(crate) fn rows(&self) -> usize {
        self.size.iter().product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shapes_are_one_row() {
        let walk = Walk::new(&[2, 1, 3], &[strides(&[2, 1, 3]), strides(&[2, 1, 3])]);
        assert_eq!(walk, Walk { size: vec![], steps: vec![vec![], vec![]], length: 6, inner: vec![1, 1] });
        assert_eq!(walk.rows(), 1);
    }

    #[test]
    fn only_what_all_operands_pass_as_one_is_merged() {
        // The second operand has one number for each of the first axis.
        let walk = Walk::new(&[4, 2, 3], &[strides(&[4, 2, 3]), vec![1, 0, 0]]);
        assert_eq!(walk, Walk { size: vec![4], steps: vec![vec![6], vec![1]], length: 6, inner: vec![1, 0] });
        // A transposition.
        let walk = Walk::new(&[3, 2], &[vec![1, 3], vec![2, 1]]);
        assert_eq!(walk, Walk { size: vec![3], steps: vec![vec![1], vec![2]], length: 2, inner: vec![3, 1] });
    }
}
