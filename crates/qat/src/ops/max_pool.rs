//! Max pooling without padding, and its gradient, which finds the maxima again instead of keeping their places.
//!
//! Columns are sorted by their place in a step of the window, so that every tap of a row of windows is a run of numbers. Rows are folded
//! over the columns of the window, then over its rows: in the order of the taps, of which the first of equal maxima counts and NaN above
//! all.

#![allow(unsafe_code, reason = "results are written to memory that is not initialized before")]

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::parts::for_parts;
use super::scratch::with_zeros;
use super::simd::{Kernel, Simd, dispatch};

/// Numbers of an input that one task works on, about.
const PART: usize = 1 << 15;

/// Windows that are worked on together.
const LANES: usize = 16;

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

    /// Numbers of a plane of the input.
    fn area(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Numbers of a plane of the output.
    fn windows(&self) -> usize {
        self.output().iter().product()
    }

    /// Planes of a task. It does not depend on the number of threads.
    fn part(&self) -> usize {
        (PART / self.area()).max(1)
    }

    /// Columns of a row that have one place in a step.
    fn columns(&self) -> usize {
        self.input[1].div_ceil(self.stride[1])
    }

    /// Places in a step that windows reach.
    fn phases(&self) -> usize {
        self.stride[1].min(self.kernel[1])
    }

    /// Whether windows are pairs of neighbours in pairs of rows, and every row is pairs.
    fn is_pairs(&self) -> bool {
        self.kernel == [2, 2] && self.stride == [2, 2] && self.input[1].is_multiple_of(2)
    }

    /// Room for what is kept of one place of a plane, and for the junk of lanes beyond the last row.
    fn room(&self) -> usize {
        self.input[0] * self.columns() + self.kernel[1] + LANES
    }
}

/// The largest number of each window.
pub(super) fn max_pool(x: &[f32], shape: PoolShape) -> Vec<f32> {
    let (area, windows) = (shape.area(), shape.windows());
    assert_eq!(x.len(), shape.planes * area, "the input's length");
    let mut y: Vec<f32> = Vec::with_capacity(shape.planes * windows);
    let parts = y.spare_capacity_mut()[..shape.planes * windows].par_chunks_mut(shape.part() * windows);
    for_parts(parts.zip(x.par_chunks(shape.part() * area)), |(y, x)| {
        with_zeros((shape.phases() + 1) * shape.room(), |scratch| dispatch(Forward { x, y, scratch, shape }));
    });
    // SAFETY: every window of every plane has been written.
    unsafe { y.set_len(shape.planes * windows) };
    y
}

/// The gradient of the input: that of each window goes to its maximum.
pub(super) fn max_pool_gradient(x: &[f32], dy: &[f32], shape: PoolShape) -> Vec<f32> {
    let (area, windows) = (shape.area(), shape.windows());
    assert_eq!(x.len(), shape.planes * area, "the input's length");
    assert_eq!(dy.len(), shape.planes * windows, "the gradient's length");
    let mut dx: Vec<f32> = Vec::with_capacity(x.len());
    let inputs = x.par_chunks(shape.part() * area).zip(dy.par_chunks(shape.part() * windows));
    let parts = dx.spare_capacity_mut()[..x.len()].par_chunks_mut(shape.part() * area).zip(inputs);
    for_parts(parts, |(dx, (x, dy))| {
        with_zeros((2 * shape.phases() + 2) * shape.room(), |scratch| {
            if shape.is_pairs() {
                dispatch(BackwardOfPairs { x, dy, dx, scratch, shape });
            } else {
                dispatch(Backward { x, dy, dx, scratch, shape });
            }
        });
    });
    // SAFETY: every number of every plane has been written.
    unsafe { dx.set_len(x.len()) };
    dx
}

/// Whether a number takes the place of the largest one before it.
#[inline(always)]
fn takes(x: f32, largest: f32) -> bool {
    (x > largest) | x.is_nan()
}

/// The place of a column in its step, and its step.
#[inline(always)]
fn split(column: usize, stride: usize) -> (usize, usize) {
    (column % stride, column / stride)
}

/// Numbers of planes, the result, and room for a place of a step each, then for one row of maxima each.
struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [MaybeUninit<f32>],
    scratch: &'a mut [f32],
    shape: PoolShape,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, y, scratch, shape } = self;
        let (room, columns, stride) = (shape.room(), shape.columns(), shape.stride);
        let [height, width] = shape.output();
        let (sorted, rows) = scratch.split_at_mut(shape.phases() * room);
        for (x, y) in x.chunks_exact(shape.area()).zip(y.chunks_exact_mut(shape.windows())) {
            sort_columns(x, sorted, shape);
            // The row of windows at every row and column; only those of whole steps are read.
            let count = shape.input[0] * columns;
            rows[..count].copy_from_slice(&sorted[..count]);
            for column in 1..shape.kernel[1] {
                let (phase, step) = split(column, stride[1]);
                let tap = &sorted[phase * room + step..][..count];
                for (largest, x) in rows[..count].iter_mut().zip(tap) {
                    *largest = if takes(*x, *largest) { *x } else { *largest };
                }
            }
            for row in 0..height {
                for first in (0..width).step_by(LANES) {
                    let place = row * stride[0] * columns + first;
                    let mut largest = *lanes(rows, place);
                    for tap in 1..shape.kernel[0] {
                        let x = lanes(rows, place + tap * columns);
                        for lane in 0..LANES {
                            largest[lane] = if takes(x[lane], largest[lane]) { x[lane] } else { largest[lane] };
                        }
                    }
                    // Lanes beyond the row are written again by the next one.
                    let y = &mut y[row * width + first..];
                    if let Some(y) = y.first_chunk_mut::<LANES>() {
                        for lane in 0..LANES {
                            y[lane].write(largest[lane]);
                        }
                    } else {
                        for (y, largest) in y.iter_mut().zip(&largest) {
                            y.write(*largest);
                        }
                    }
                }
            }
        }
    }
}

/// Numbers of planes, the gradients of their windows, the result, and room for numbers and gradients of a place of a step each, then
/// for one row of maxima and their taps each.
struct Backward<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [MaybeUninit<f32>],
    scratch: &'a mut [f32],
    shape: PoolShape,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, dy, dx, scratch, shape } = self;
        let (room, columns, stride) = (shape.room(), shape.columns(), shape.stride);
        let [height, width] = shape.output();
        let (sorted, scratch) = scratch.split_at_mut(shape.phases() * room);
        let (gradients, scratch) = scratch.split_at_mut(shape.phases() * room);
        let (rows, taps) = scratch.split_at_mut(room);
        let planes = x.chunks_exact(shape.area()).zip(dy.chunks_exact(shape.windows()));
        for ((x, dy), dx) in planes.zip(dx.chunks_exact_mut(shape.area())) {
            sort_columns(x, sorted, shape);
            let count = shape.input[0] * columns;
            rows[..count].copy_from_slice(&sorted[..count]);
            taps[..count].fill(0.0);
            for column in 1..shape.kernel[1] {
                let (phase, step) = split(column, stride[1]);
                let tap = &sorted[phase * room + step..][..count];
                for ((largest, found), x) in rows[..count].iter_mut().zip(&mut taps[..count]).zip(tap) {
                    let takes = takes(*x, *largest);
                    *largest = if takes { *x } else { *largest };
                    *found = if takes { column as f32 } else { *found };
                }
            }
            gradients.fill(0.0);
            for row in 0..height {
                for first in (0..width).step_by(LANES) {
                    let place = row * stride[0] * columns + first;
                    let mut largest = *lanes(rows, place);
                    let mut found = *lanes(taps, place);
                    let mut found_row = [0.0f32; LANES];
                    for tap in 1..shape.kernel[0] {
                        let (x, column) = (lanes(rows, place + tap * columns), lanes(taps, place + tap * columns));
                        for lane in 0..LANES {
                            let takes = takes(x[lane], largest[lane]);
                            largest[lane] = if takes { x[lane] } else { largest[lane] };
                            found[lane] = if takes { column[lane] } else { found[lane] };
                            found_row[lane] = if takes { tap as f32 } else { found_row[lane] };
                        }
                    }
                    // Lanes beyond the row give nothing.
                    let mut d = [0.0f32; LANES];
                    let rest = (width - first).min(LANES);
                    let dy = &dy[row * width + first..];
                    if let Some(dy) = dy.first_chunk::<LANES>() {
                        for lane in 0..LANES {
                            d[lane] = if lane < rest { dy[lane] } else { 0.0 };
                        }
                    } else {
                        d[..rest].copy_from_slice(&dy[..rest]);
                    }
                    for tap in 0..shape.kernel[0] {
                        // Of windows that share a number, the one to the left comes first.
                        for column in (0..shape.kernel[1]).rev() {
                            let (phase, step) = split(column, stride[1]);
                            let to = lanes_mut(gradients, phase * room + place + tap * columns + step);
                            for lane in 0..LANES {
                                let is_found = (found[lane] == column as f32) & (found_row[lane] == tap as f32);
                                to[lane] += if is_found { d[lane] } else { 0.0 };
                            }
                        }
                    }
                }
            }
            unsort_columns(gradients, dx, shape);
        }
    }
}

/// As [`Backward`] for windows of pairs in pairs of rows, with room for what is kept of the pairs of a plane four times: a whole plane of
/// pairs is one run, whatever the length of its rows.
struct BackwardOfPairs<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [MaybeUninit<f32>],
    scratch: &'a mut [f32],
    shape: PoolShape,
}

impl Kernel for BackwardOfPairs<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, dy, dx, scratch, shape } = self;
        let room = shape.room();
        let [height, width] = shape.output();
        let pairs = 2 * height * width;
        let (largest, scratch) = scratch.split_at_mut(room);
        let (second, scratch) = scratch.split_at_mut(room);
        let (gradients, d_windows) = scratch.split_at_mut(room);
        let planes = x.chunks_exact(shape.area()).zip(dy.chunks_exact(shape.windows()));
        for ((x, dy), dx) in planes.zip(dx.chunks_exact_mut(shape.area())) {
            let of_pairs = largest[..pairs].iter_mut().zip(&mut second[..pairs]);
            for (pair, (largest, second)) in x[..2 * pairs].chunks_exact(2).zip(of_pairs) {
                let takes = takes(pair[1], pair[0]);
                *largest = if takes { pair[1] } else { pair[0] };
                *second = f32::from_bits(if takes { u32::MAX } else { 0 });
            }
            d_windows[..dy.len()].copy_from_slice(dy);
            // Lanes beyond a row are written again by the next one.
            match width {
                ..=4 => pairs_of_rows::<4>(largest, d_windows, gradients, height, width),
                5..=8 => pairs_of_rows::<8>(largest, d_windows, gradients, height, width),
                _ => pairs_of_rows::<LANES>(largest, d_windows, gradients, height, width),
            }
            let (dx, rest) = dx.split_at_mut(2 * pairs);
            for (dx, (d, second)) in dx.chunks_exact_mut(2).zip(gradients[..pairs].iter().zip(&second[..pairs])) {
                // By masks, so that no number is written under a condition.
                let (d, second) = (d.to_bits(), second.to_bits());
                dx[0].write(f32::from_bits(d & !second));
                dx[1].write(f32::from_bits(d & second));
            }
            rest.iter_mut().for_each(|dx| _ = dx.write(0.0));
        }
    }
}

/// The gradient of each window to the larger one of its two rows, `L` windows at a time.
#[inline(always)]
fn pairs_of_rows<const L: usize>(largest: &[f32], dy: &[f32], gradients: &mut [f32], height: usize, width: usize) {
    let some = |numbers: &[f32], at: usize| -> [f32; L] {
        *numbers[at..].first_chunk().expect("there is room for the lanes of the last window")
    };
    for row in 0..2 * height {
        for first in (0..width).step_by(L) {
            let at = row / 2 * 2 * width + first;
            let (above, below, d) = (some(largest, at), some(largest, at + width), some(dy, row / 2 * width + first));
            let mut given = [0.0f32; L];
            for lane in 0..L {
                let is_given = takes(below[lane], above[lane]) == (row % 2 == 1);
                // A sum with 0, as that of windows that share a number.
                given[lane] = if is_given { d[lane] + 0.0 } else { 0.0 };
            }
            gradients[row * width + first..][..L].copy_from_slice(&given);
        }
    }
}

/// The lanes that begin at a place.
#[inline(always)]
fn lanes(numbers: &[f32], at: usize) -> &[f32; LANES] {
    numbers[at..].first_chunk().expect("there is room for the lanes of the last window")
}

/// As [`lanes`], to be changed.
#[inline(always)]
fn lanes_mut(numbers: &mut [f32], at: usize) -> &mut [f32; LANES] {
    numbers[at..].first_chunk_mut().expect("there is room for the lanes of the last window")
}

/// Rows of a plane with those columns together that have one place in a step: `sorted[place][row][step]`.
#[inline(always)]
fn sort_columns(x: &[f32], sorted: &mut [f32], shape: PoolShape) {
    let (room, columns) = (shape.room(), shape.columns());
    let [height, width] = shape.input;
    match (shape.stride[1], shape.phases()) {
        (1, _) => sorted[..x.len()].copy_from_slice(x),
        (2, 2) => {
            let (even, odd) = sorted.split_at_mut(room);
            // Rows of even width are as one.
            let (run, step) = if width % 2 == 0 { (height * width, height * columns) } else { (width, columns) };
            for ((x, even), odd) in x.chunks_exact(run).zip(even.chunks_mut(step)).zip(odd.chunks_mut(step)) {
                let pairs = x.chunks_exact(2);
                if let [last] = pairs.remainder() {
                    even[step - 1] = *last;
                }
                for ((pair, even), odd) in pairs.zip(even).zip(odd) {
                    (*even, *odd) = (pair[0], pair[1]);
                }
            }
        }
        (stride, phases) => {
            for (row, x) in x.chunks_exact(width).enumerate() {
                for phase in 0..phases {
                    let to = &mut sorted[phase * room + row * columns..];
                    to.iter_mut().zip(x[phase..].iter().step_by(stride)).for_each(|(to, x)| *to = *x);
                }
            }
        }
    }
}

/// Undoes [`sort_columns`]; columns of places that windows do not reach are 0.
#[inline(always)]
fn unsort_columns(sorted: &[f32], x: &mut [MaybeUninit<f32>], shape: PoolShape) {
    let (room, columns) = (shape.room(), shape.columns());
    let [height, width] = shape.input;
    match (shape.stride[1], shape.phases()) {
        (1, _) => x.iter_mut().zip(sorted).for_each(|(to, x)| _ = to.write(*x)),
        (2, 2) => {
            let (even, odd) = sorted.split_at(room);
            let (run, step) = if width % 2 == 0 { (height * width, height * columns) } else { (width, columns) };
            for ((x, even), odd) in x.chunks_exact_mut(run).zip(even.chunks(step)).zip(odd.chunks(step)) {
                let mut pairs = x.chunks_exact_mut(2);
                for ((pair, even), odd) in (&mut pairs).zip(even).zip(odd) {
                    pair[0].write(*even);
                    pair[1].write(*odd);
                }
                if let [last] = pairs.into_remainder() {
                    last.write(even[step - 1]);
                }
            }
        }
        (stride, phases) => {
            for (row, x) in x.chunks_exact_mut(width).enumerate() {
                for (column, x) in x.iter_mut().enumerate() {
                    let (phase, step) = split(column, stride);
                    x.write(if phase < phases { sorted[phase * room + row * columns + step] } else { 0.0 });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the maximum of a window is: the first of equal ones, the last NaN.
    fn maximum(plane: &[f32], shape: PoolShape, row: usize, column: usize) -> usize {
        let mut place = row * shape.input[1] + column;
        for y in row..row + shape.kernel[0] {
            for x in column..column + shape.kernel[1] {
                let at = y * shape.input[1] + x;
                if plane[at] > plane[place] || plane[at].is_nan() {
                    place = at;
                }
            }
        }
        place
    }

    /// Output and gradient, window by window.
    fn reference(x: &[f32], dy: &[f32], shape: PoolShape) -> (Vec<f32>, Vec<f32>) {
        let [height, width] = shape.output();
        let (mut y, mut dx) = (Vec::new(), vec![0.0; x.len()]);
        for plane in 0..shape.planes {
            let begin = plane * shape.area();
            for row in 0..height {
                for column in 0..width {
                    let plane = &x[begin..begin + shape.area()];
                    let at = begin + maximum(plane, shape, row * shape.stride[0], column * shape.stride[1]);
                    dx[at] += dy[y.len()];
                    y.push(x[at]);
                }
            }
        }
        (y, dx)
    }

    #[test]
    fn every_bit_is_that_of_a_loop_over_windows() {
        let mut state = 20_261_124u64;
        let mut draw = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        // Few values, so that maxima are often equal, zeros of both signs, and what is not finite.
        let values = [0.0f32, -0.0, 1.0, -1.0, 1.5, 0.1, f32::NAN, f32::from_bits(0x7fc0_0001), f32::INFINITY, f32::NEG_INFINITY];
        for case in 0..300 {
            let kernel = [1 + draw(4), 1 + draw(4)];
            let (kernel, stride) = if case % 3 == 0 { ([2 + case % 2; 2], [2, 2]) } else { (kernel, [1 + draw(4), 1 + draw(4)]) };
            let input = [kernel[0] + draw(40), kernel[1] + draw(40)];
            let shape = PoolShape { planes: 1 + draw(90), input, kernel, stride };
            let kinds = if case % 2 == 0 { 6 } else { values.len() };
            let x: Vec<f32> = (0..shape.planes * shape.area()).map(|_| values[draw(kinds)]).collect();
            let dy: Vec<f32> = (0..shape.planes * shape.windows()).map(|_| values[draw(6)] * draw(1 << 20) as f32).collect();
            let (y, dx) = reference(&x, &dy, shape);
            let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&max_pool(&x, shape)), bits(&y), "{shape:?}");
            assert_eq!(bits(&max_pool_gradient(&x, &dy, shape)), bits(&dx), "{shape:?}");
        }
    }
}
