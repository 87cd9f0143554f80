//! Rows of numbers times a weight, for training: forward, and the gradients of input, weight and bias.
//!
//! All three products read their operands where they lie; none is transposed before.

#![allow(unsafe_code, reason = "products are written through pointers, to memory that is not initialized before")]

use gemm::Parallelism;
use rayon::prelude::*;

use super::parts::{for_parts, map_parts};
use super::simd::{Kernel, Simd, dispatch};

/// Products of numbers from which on a matrix product is divided among threads.
const PARALLEL: usize = 192 * 192 * 192;

/// Numbers that one task works on, about.
const PART: usize = 1 << 15;

/// `[rows, inputs]` by `[inputs, outputs]`; none of them 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LinearShape {
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl LinearShape {
    /// Numbers of a task: whole rows of the output.
    fn part(&self) -> usize {
        self.outputs * (PART / self.outputs).max(1)
    }
}

/// `y[r, o] = Σ x[r, i] · w[i, o] + b[o]`; an empty bias is none.
pub(super) fn linear(shape: LinearShape, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let LinearShape { rows, inputs, outputs } = shape;
    let mut y = product([rows, inputs, outputs], Matrix::by_rows(x, rows, inputs), Matrix::by_rows(weight, inputs, outputs));
    if !bias.is_empty() {
        assert_eq!(bias.len(), outputs, "the bias's length");
        for_parts(y.par_chunks_mut(shape.part()), |y| dispatch(AddToRows { y, bias }));
    }
    y
}

/// `dx[r, i] = Σ dy[r, o] · w[i, o]`.
pub(super) fn linear_input_gradient(shape: LinearShape, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    let LinearShape { rows, inputs, outputs } = shape;
    product([rows, outputs, inputs], Matrix::by_rows(dy, rows, outputs), Matrix::by_rows(weight, inputs, outputs).turned())
}

/// `dw[i, o] = Σ x[r, i] · dy[r, o]`.
pub(super) fn linear_weight_gradient(shape: LinearShape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let LinearShape { rows, inputs, outputs } = shape;
    product([inputs, rows, outputs], Matrix::by_rows(x, rows, inputs).turned(), Matrix::by_rows(dy, rows, outputs))
}

/// `db[o] = Σ dy[r, o]`.
pub(super) fn linear_bias_gradient(shape: LinearShape, dy: &[f32]) -> Vec<f32> {
    assert_eq!(dy.len(), shape.rows * shape.outputs, "the gradient's length");
    let mut parts = map_parts(dy.par_chunks(shape.part()), |dy| {
        let mut sums = vec![0.0f32; shape.outputs];
        dispatch(SumRows { dy, sums: &mut sums });
        sums
    })
    .into_iter();
    let mut sums = parts.next().unwrap_or_default();
    for part in parts {
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    sums
}

/// Numbers with the distances of neighbours in a column and in a row.
struct Matrix<'a> {
    numbers: &'a [f32],
    steps: [usize; 2],
}

impl<'a> Matrix<'a> {
    fn by_rows(numbers: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(numbers.len(), rows * columns, "a matrix of {rows} by {columns}");
        Self { numbers, steps: [columns, 1] }
    }

    /// Rows as columns.
    fn turned(self) -> Self {
        let [down, across] = self.steps;
        Self { steps: [across, down], ..self }
    }
}

/// `[m, k]` by `[k, n]`.
fn product([m, k, n]: [usize; 3], a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let parallelism = if m * k * n < PARALLEL { Parallelism::None } else { Parallelism::Rayon(0) };
    let mut y: Vec<f32> = Vec::with_capacity(m * n);
    let [a_rows, a_columns] = a.steps.map(|step| step as isize);
    let [b_rows, b_columns] = b.steps.map(|step| step as isize);
    // SAFETY: `a` has m by k numbers, `b` k by n, `y` room for m by n, at these steps; `y` is written and not read.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            y.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.numbers.as_ptr(),
            a_columns,
            a_rows,
            b.numbers.as_ptr(),
            b_columns,
            b_rows,
            0.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
        y.set_len(m * n);
    }
    y
}

struct AddToRows<'a> {
    y: &'a mut [f32],
    bias: &'a [f32],
}

impl Kernel for AddToRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for row in self.y.chunks_exact_mut(self.bias.len()) {
            for (y, bias) in row.iter_mut().zip(self.bias) {
                *y += bias;
            }
        }
    }
}

struct SumRows<'a> {
    dy: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for SumRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for row in self.dy.chunks_exact(self.sums.len()) {
            for (sum, dy) in self.sums.iter_mut().zip(row) {
                *sum += dy;
            }
        }
    }
}
