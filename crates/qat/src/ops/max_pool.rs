//! Max pooling without padding, and its gradient, which finds the maxima again instead of keeping their places.

#![allow(unsafe_code, reason = "results are written to memory that is not initialized before")]

use std::ops::Range;

use rayon::prelude::*;

/// A pool over planes of an input.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolShape {
    /// Planes, channels of images.
    pub planes: usize,
    /// Height and width of the input, at least the kernel's.
    pub input: [usize; 2],
    /// Height and width of the window, > 0.
    pub kernel: [usize; 2],
    /// Steps of the window, > 0.
    pub stride: [usize; 2],
}

impl PoolShape {
    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.input[axis] - self.kernel[axis]) / self.stride[axis] + 1)
    }

    /// Calls `f` with each place of a plane of the output and the rows and columns of its window.
    #[inline(always)]
    fn windows(&self, mut f: impl FnMut(usize, Range<usize>, Range<usize>)) {
        let [height, width] = self.output();
        for y in 0..height {
            let rows = y * self.stride[0]..y * self.stride[0] + self.kernel[0];
            for x in 0..width {
                f(y * width + x, rows.clone(), x * self.stride[1]..x * self.stride[1] + self.kernel[1]);
            }
        }
    }

    /// Where the maximum of a window is: the first of equal ones, NaN above all.
    #[inline(always)]
    fn maximum(&self, plane: &[f32], rows: Range<usize>, columns: Range<usize>) -> usize {
        let mut place = rows.start * self.input[1] + columns.start;
        let mut largest = plane[place];
        for row in rows {
            for column in columns.clone() {
                let at = row * self.input[1] + column;
                if plane[at] > largest || plane[at].is_nan() {
                    (place, largest) = (at, plane[at]);
                }
            }
        }
        place
    }
}

/// The largest number of each window.
pub(super) fn max_pool(x: &[f32], shape: PoolShape) -> Vec<f32> {
    let area = shape.input[0] * shape.input[1];
    let [height, width] = shape.output();
    assert_eq!(x.len(), shape.planes * area, "the input's length");
    let mut y: Vec<f32> = Vec::with_capacity(shape.planes * height * width);
    let planes = y.spare_capacity_mut()[..shape.planes * height * width].par_chunks_mut(height * width);
    planes.zip(x.par_chunks(area)).with_min_len(8).for_each(|(y, x)| {
        shape.windows(|place, rows, columns| {
            y[place].write(x[shape.maximum(x, rows, columns)]);
        });
    });
    // SAFETY: every window of every plane has been written.
    unsafe { y.set_len(shape.planes * height * width) };
    y
}

/// The gradient of the input: that of each window goes to its maximum.
pub(super) fn max_pool_gradient(x: &[f32], dy: &[f32], shape: PoolShape) -> Vec<f32> {
    let area = shape.input[0] * shape.input[1];
    let [height, width] = shape.output();
    assert_eq!(x.len(), shape.planes * area, "the input's length");
    assert_eq!(dy.len(), shape.planes * height * width, "the gradient's length");
    let mut dx = vec![0.0f32; x.len()];
    let gradients = x.par_chunks(area).zip(dy.par_chunks(height * width));
    dx.par_chunks_mut(area).zip(gradients).with_min_len(8).for_each(|(dx, (x, dy))| {
        shape.windows(|place, rows, columns| dx[shape.maximum(x, rows, columns)] += dy[place]);
    });
    dx
}
