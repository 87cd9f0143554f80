//! Fully connected layer: the rows of the input are the patches.

use alloc::vec;

use super::{
    finish::Finish,
    image::Frame,
    level::{Instructions, Level, Work},
    products::{Layer, Patching, Products, Section},
    scratch::{Scratch, ScratchSize},
};
use crate::{model::ValueInfo, op, rules::Rules, sum_rule::SumRule};

/// A fully connected layer with packed weights.
#[derive(Debug)]
pub(crate) struct Linear {
    products: Products,
    /// Rows of one sample.
    rows: usize,
    d_input: usize,
    d_output: usize,
    zero_point: i8,
}

/// Rows one after another, of so many codes.
struct Rows(usize);

impl Patching for Rows {
    #[inline(always)]
    fn starts(&self, first: usize, starts: &mut [usize]) {
        for (offset, start) in starts.iter_mut().enumerate() {
            *start = (first + offset) * self.0;
        }
    }
}

impl Linear {
    pub(super) fn new(level: Level, rules: Rules, op: &op::Linear, x: &ValueInfo, y: &ValueInfo) -> Self {
        let weights = op.weights.codes.unpack();
        let layer = Layer {
            channels: op.d_output,
            sections: 1,
            runs: vec![0],
            run_length: op.d_input,
            weight: &|channel, _, place| weights[channel * op.d_input + place],
            bias: &op.weights.bias,
            zero_point: x.qparams.zero_point,
            finish: Finish::new(SumRule::linear(rules, op, x.code_type), &op.weights, 1, x, y, op.clamp),
        };
        Self {
            products: Products::new(level, layer),
            rows: x.shape.iter().product::<usize>() / op.d_input,
            d_input: op.d_input,
            d_output: op.d_output,
            zero_point: x.qparams.zero_point as i8,
        }
    }

    /// What `samples` samples at once need.
    pub(super) fn scratch(&self, level: Level, samples: usize) -> ScratchSize {
        level.image(samples * self.rows * self.d_input + Products::SLACK)
    }

    pub(super) fn allocated(&self) -> usize {
        self.products.allocated()
    }

    /// `x` is `[.., d_input]`, `y` is `[.., d_output]`, of any number of samples that the scratch is large enough for.
    pub(super) fn compute(&self, level: Level, scratch: &mut Scratch, x: &[i8], y: &mut [i8]) {
        level.give(Run { linear: self, scratch, x, y });
    }
}

struct Run<'a> {
    linear: &'a Linear,
    scratch: &'a mut Scratch,
    x: &'a [i8],
    y: &'a mut [i8],
}

impl Work for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with<I: Instructions>(self, instructions: I) {
        let linear = self.linear;
        let image = I::image(self.scratch);
        let frame = Frame { size: [1, 1, self.x.len()], border: [0; 4], spread: [1, 1], zero_point: linear.zero_point };
        frame.fill::<I>(0..1, self.x, image);
        let section = Section {
            products: &linear.products,
            image,
            index: 0,
            offset: 0,
            patches: 0..self.x.len() / linear.d_input,
            patching: &Rows(linear.d_input),
            stride: linear.d_output,
        };
        section.compute(instructions, self.y);
    }
}
