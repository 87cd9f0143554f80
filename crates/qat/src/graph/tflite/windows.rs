//! Windows over images: pools, and what padding means.

use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use qat_formats::tflite::order::Order;
use qat_formats::tflite::{BuiltinOperator, BuiltinOptions, Padding, padding};

use super::{Activation, MAX_ELEMENTS, Padded, Reader, Refusal, Site};
use crate::graph::{Op, ValueId};

/// Below every number that a float model meets: what pads an image before its maximum is taken.
const LOWEST: f32 = -1e30;

/// An image and the window that an operator lays over it.
pub(super) struct Window {
    /// `[batch, c, h, w]`.
    pub x: ValueId,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// `[(top, bottom), (left, right)]`.
    pub padding: [(usize, usize); 2],
    /// Height and width of the result.
    pub size: [usize; 2],
}

impl Reader<'_> {
    /// An image operand, `[batch, c, h, w]`.
    pub(super) fn image(&mut self, site: &Site, tensor: usize) -> Result<ValueId, Refusal> {
        let x = self.activation(site, tensor)?;
        self.image_of(site, &x)
    }

    fn image_of(&mut self, site: &Site, x: &Activation) -> Result<ValueId, Refusal> {
        if x.order.rank() != 3 || !x.has_batch {
            return Err(site.unsupported("images, [batch, height, width, channels]", format!("{:?}", self.shape(x))));
        }
        Ok(self.in_order(x, &Order::image()))
    }

    /// A window over the image in `tensor`, with the padding that stands before the operator if it reads the result of one.
    pub(super) fn window(
        &mut self,
        site: &Site,
        tensor: usize,
        padding: Padding,
        [kernel, stride, dilation]: [[usize; 2]; 3],
    ) -> Result<Window, Refusal> {
        if let Some(dilated) = self.dilated.get(&tensor).cloned() {
            let x = self.image_of(site, &dilated.source)?;
            return self.window_of(site, x, dilated.padding, [kernel, stride, dilated.dilation]);
        }
        let (x, before) = match self.padded.get(&tensor).cloned() {
            Some(Padded { source, amounts }) => (self.image_of(site, &source)?, amounts),
            None => (self.image(site, tensor)?, [0; 4]),
        };
        let sample = self.sample(x);
        let sides = [sample[1], sample[2]];
        let [top, left, bottom, right] = match padding {
            Padding::VALID => before,
            Padding::SAME if before == [0; 4] => padding::same(sides, kernel, stride, dilation),
            other => return Err(site.unsupported("SAME or VALID padding", format!("{other:?}"))),
        };
        self.window_of(site, x, [top, left, bottom, right], [kernel, stride, dilation])
    }

    /// A window over an image with padding `[top, left, bottom, right]`.
    fn window_of(
        &self,
        site: &Site,
        x: ValueId,
        [top, left, bottom, right]: [usize; 4],
        [kernel, stride, dilation]: [[usize; 2]; 3],
    ) -> Result<Window, Refusal> {
        let sample = self.sample(x);
        let sides = [sample[1], sample[2]];
        let padding = [(top, bottom), (left, right)];
        let (mut size, mut padded) = ([0; 2], sample[0]);
        for axis in 0..2 {
            let extent = (kernel[axis] - 1).saturating_mul(dilation[axis]).saturating_add(1);
            let whole = sides[axis].saturating_add(padding[axis].0).saturating_add(padding[axis].1);
            let Some(room) = whole.checked_sub(extent) else {
                return Err(site.unsupported("an image at least as large as the window", format!("{whole} below {extent}")));
            };
            size[axis] = room / stride[axis] + 1;
            padded = padded.saturating_mul(whole);
        }
        if padded > MAX_ELEMENTS {
            // Backends may lay the padding out.
            return Err(site.unsupported("a window and padding within 2^28 numbers", format!("{padded}")));
        }
        Ok(Window { x, kernel, stride, dilation, padding, size })
    }

    pub(super) fn max_pool2d(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::Pool2D(options) = site.options() else { return Err(site.wrong_options()) };
        let shape =
            [site.positive([options.filter_height, options.filter_width])?, site.positive([options.stride_h, options.stride_w])?];
        let window = self.window(site, site.input(0)?, options.padding, [shape[0], shape[1], [1, 1]])?;
        let pool = MaxPoolOptions::new(window.kernel).with_stride(window.stride).with_padding_pairs(window.padding);
        self.pool(site, Op::MaxPool2d(pool), &window)
    }

    pub(super) fn avg_pool2d(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::Pool2D(options) = site.options() else { return Err(site.wrong_options()) };
        let shape =
            [site.positive([options.filter_height, options.filter_width])?, site.positive([options.stride_h, options.stride_w])?];
        let window = self.window(site, site.input(0)?, options.padding, [shape[0], shape[1], [1, 1]])?;
        let pool = AvgPoolOptions::new(window.kernel)
            .with_stride(window.stride)
            .with_padding_pairs(window.padding)
            .with_count_include_pad(false);
        self.pool(site, Op::AvgPool2d(pool), &window)
    }

    fn pool(&mut self, site: &Site, op: Op, window: &Window) -> Result<(), Refusal> {
        let BuiltinOptions::Pool2D(options) = site.options() else { return Err(site.wrong_options()) };
        let channels = self.sample(window.x)[0];
        let value = self.step(site, op, vec![window.x], &[channels, window.size[0], window.size[1]])?;
        let value = self.activated(site, options.fused_activation_function, value)?;
        self.define(site, site.output()?, Activation { value, order: Order::image(), has_batch: true })
    }

    /// Whether every operator that reads a tensor is one of `operators`, without padding of its own.
    fn is_read_by(&self, tensor: usize, operators: &[BuiltinOperator]) -> bool {
        let is_one = |&reader: &usize| padding::is_valid_window(self.file, &self.subgraph.operators[reader], operators);
        tensor != self.output && !self.readers[tensor].is_empty() && self.readers[tensor].iter().all(is_one)
    }

    /// PAD, or PADV2 with 0 or, before max pools, with what no maximum is.
    pub(super) fn pad(&mut self, site: &Site, operator: BuiltinOperator) -> Result<(), Refusal> {
        use BuiltinOperator as B;
        let (x, y) = (self.activation(site, site.input(0)?)?, site.output()?);
        let fill = match operator {
            B::PADV2 => {
                let constant = self.reals(site, site.input(2)?)?;
                match constant.data[..] {
                    [number] => number,
                    _ => return Err(site.unsupported("one number to fill with", format!("{:?}", constant.shape))),
                }
            }
            _ => 0.0,
        };
        let shape = self.shape(&x);
        let list = self.integers(site, site.input(1)?)?;
        let amounts: Option<Vec<usize>> = list.iter().map(|&amount| usize::try_from(amount).ok()).collect();
        let batch = usize::from(x.has_batch);
        let found = || site.unsupported("two amounts for each axis, none for the batch", format!("{list:?}"));
        let amounts = amounts.filter(|amounts| amounts.len() == 2 * shape.len()).ok_or_else(found)?;
        let pairs: Vec<(usize, usize)> = amounts.as_chunks().0.iter().map(|&[before, after]| (before, after)).collect();
        if pairs[..batch].iter().any(|&pair| pair != (0, 0)) {
            return Err(found());
        }
        let pairs = &pairs[batch..];
        if pairs.iter().all(|&pair| pair == (0, 0)) {
            return self.define(site, y, x);
        }
        let readers: &[B] = if fill == 0.0 { &[B::CONV_2D, B::DEPTHWISE_CONV_2D] } else { &[B::MAX_POOL_2D] };
        if let ([(top, bottom), (left, right), (0, 0)], true, true) = (pairs, x.has_batch, self.is_read_by(y, readers))
            && (fill == 0.0 || fill <= LOWEST)
        {
            self.padded.insert(y, Padded { source: x.clone(), amounts: [*top, *left, *bottom, *right] });
            // Its readers go by the amounts; nothing else has it.
            return self.define(site, y, x);
        }
        if fill != 0.0 {
            return Err(site.unsupported("a padding with 0, or with -infinity before max pools", fill.to_string()));
        }
        let in_graph = x.order.undo(pairs);
        let before = self.sample(x.value);
        let sample: Vec<usize> =
            in_graph.iter().zip(before).map(|(pair, size)| size.saturating_add(pair.0).saturating_add(pair.1)).collect();
        let value = self.step(site, Op::Pad(in_graph), vec![x.value], &sample)?;
        self.define(site, y, Activation { value, ..x })
    }
}
