//! Operations that only move or choose numbers: the output is on the grid of the input.

use burn::module::Module;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};

use crate::ops::{pad, slice};
use crate::tensor::QuantTensor;

/// Axes in another order.
#[derive(Module, Debug)]
pub struct QuantTranspose {
    #[module(skip)]
    permutation: Vec<usize>,
}

impl QuantTranspose {
    /// Output axis `i` is input axis `permutation[i]`; the batch axis is 0.
    pub fn new(permutation: Vec<usize>) -> Self {
        Self { permutation }
    }

    /// Applies it.
    pub fn forward<const D: usize>(&self, input: QuantTensor<D>) -> QuantTensor<D> {
        let axes: [usize; D] = std::array::from_fn(|axis| self.permutation[axis]);
        input.map(|x| x.permute(axes))
    }

    /// The order of axes.
    pub fn permutation(&self) -> &[usize] {
        &self.permutation
    }
}

/// Zeros around a sample.
#[derive(Module, Debug)]
pub struct QuantPad {
    #[module(skip)]
    padding: Vec<(usize, usize)>,
}

impl QuantPad {
    /// `(before, after)` for each axis of the sample, which begins after the batch axis.
    pub fn new(padding: Vec<(usize, usize)>) -> Self {
        Self { padding }
    }

    /// Applies it.
    pub fn forward<const D: usize>(&self, input: QuantTensor<D>) -> QuantTensor<D> {
        let padding: [(usize, usize); D] = std::array::from_fn(|axis| if axis == 0 { (0, 0) } else { self.padding[axis - 1] });
        input.map(|x| pad(x, padding))
    }

    /// `(before, after)` for each axis of the sample.
    pub fn padding(&self) -> &[(usize, usize)] {
        &self.padding
    }
}

/// The part of one axis that a slice takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRange {
    /// First element.
    pub start: usize,
    /// One past the last element.
    pub end: usize,
    /// Distance of neighbouring elements, at least 1.
    pub step: usize,
}

/// A box of a sample, with steps.
#[derive(Module, Debug)]
pub struct QuantSlice {
    #[module(skip)]
    ranges: Vec<SliceRange>,
}

impl QuantSlice {
    /// One range for each axis of the sample, which begins after the batch axis.
    pub fn new(ranges: Vec<SliceRange>) -> Self {
        Self { ranges }
    }

    /// Applies it.
    pub fn forward<const D: usize>(&self, input: QuantTensor<D>) -> QuantTensor<D> {
        input.map(|x| slice(x, &self.ranges))
    }

    /// One range for each axis of the sample.
    pub fn ranges(&self) -> &[SliceRange] {
        &self.ranges
    }
}

/// Nearest-neighbour resize of images by whole factors: every pixel becomes a block.
#[derive(Module, Debug)]
pub struct QuantResizeNearest {
    factor: [usize; 2],
}

impl QuantResizeNearest {
    /// `[vertical, horizontal]`, at least 1.
    pub fn new(factor: [usize; 2]) -> Self {
        Self { factor }
    }

    /// Applies it to `[N, C, H, W]`.
    pub fn forward(&self, input: QuantTensor<4>) -> QuantTensor<4> {
        let [_, _, h, w] = input.tensor.dims();
        let options =
            InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([h * self.factor[0], w * self.factor[1]]);
        input.map(|x| interpolate(x, options))
    }

    /// `[vertical, horizontal]`.
    pub fn factor(&self) -> [usize; 2] {
        self.factor
    }
}
