//! Moving codes: every operation that reorders, cuts, joins or repeats them is loops over strides.

use alloc::{vec, vec::Vec};

/// Nested loops that copy one code each, or a block where codes stand side by side.
#[derive(Clone, Debug)]
pub(crate) struct Strided {
    /// Loops, outermost first: count, distance in the input, distance in the output.
    loops: Vec<[usize; 3]>,
    /// First code in the input and in the output.
    start: [usize; 2],
    /// Codes copied at once.
    block: usize,
}

/// Distances of neighbours along each axis of a row-major tensor.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

impl Strided {
    /// Copies `count` elements along each axis, from `start` on, with these distances in the input and in the output.
    pub(super) fn new(counts: &[usize], from: &[usize], to: &[usize], start: [usize; 2]) -> Self {
        let mut loops: Vec<[usize; 3]> =
            (0..counts.len()).map(|axis| [counts[axis], from[axis], to[axis]]).filter(|[count, ..]| *count > 1).collect();
        // Neighbouring loops that are one loop over all their elements become one.
        let mut axis = 1;
        while axis < loops.len() {
            let ([count, from, to], [outer, outer_from, outer_to]) = (loops[axis], loops[axis - 1]);
            if outer_from == count * from && outer_to == count * to {
                loops[axis - 1] = [outer * count, from, to];
                loops.remove(axis);
            } else {
                axis += 1;
            }
        }
        let block = match loops.last() {
            Some(&[count, 1, 1]) => {
                loops.pop();
                count
            }
            _ => {
                // Without blocks the longest loop goes innermost, where it is cheapest.
                if let Some(longest) = (0..loops.len()).max_by_key(|&axis| loops[axis][0]) {
                    let longest = loops.remove(longest);
                    loops.push(longest);
                }
                1
            }
        };
        Self { loops, start, block }
    }

    /// Reads `x` in the layout `[h, w, c]` and gives `[c, h, w]`, the shape.
    pub(super) fn to_row_major(&[c, h, w]: &[usize; 3]) -> Self {
        Self::new(&[c, h * w], &[1, c], &[h * w, 1], [0, 0])
    }

    /// Reads `x` of the shape `[c, h, w]` and gives `[h, w, c]`.
    pub(super) fn to_channels_last(&[c, h, w]: &[usize; 3]) -> Self {
        Self::new(&[c, h * w], &[h * w, 1], &[1, c], [0, 0])
    }

    pub(super) fn compute<T: Copy>(&self, x: &[T], y: &mut [T]) {
        self.nest(&self.loops, &x[self.start[0]..], &mut y[self.start[1]..]);
    }

    fn nest<T: Copy>(&self, loops: &[[usize; 3]], x: &[T], y: &mut [T]) {
        match loops {
            [] => y[..self.block].copy_from_slice(&x[..self.block]),
            &[[count, from, to]] if self.block == 1 => {
                let x = x.iter().step_by(from.max(1));
                // A distance of 0 repeats the first code; such a loop never has the distance 0 in the output.
                let y = y.iter_mut().step_by(to).take(count);
                if from == 0 {
                    let first = *x.clone().next().expect("a validated shape has elements");
                    y.for_each(|y| *y = first);
                } else {
                    y.zip(x).for_each(|(y, &x)| *y = x);
                }
            }
            [[count, from, to], inner @ ..] => {
                for index in 0..*count {
                    self.nest(inner, &x[index * from..], &mut y[index * to..]);
                }
            }
        }
    }
}
