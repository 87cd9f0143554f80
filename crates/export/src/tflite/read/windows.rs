//! Windows over images: pools, and what padding means.

use qat_formats::tflite::{ActivationFunctionType, BuiltinOperator, BuiltinOptions, Padding};
use qat_runtime::{AvgPool2d, MaxPool2d, Op, Pad, ValueId};

use super::{Held, Padded, Reader, Site};
use crate::{
    error::TfliteError,
    tflite::{order::Order, padding},
};

/// An image and the window that a pool lays over it.
struct PoolOperand {
    x: ValueId,
    /// `[top, left, bottom, right]`.
    padding: [usize; 4],
    kernel: [usize; 2],
    stride: [usize; 2],
}

impl Reader<'_> {
    /// An image operand, `[c, h, w]`, with the padding that stands before the operator if it reads the result of one.
    pub(super) fn image_operand(&mut self, site: &Site, tensor: usize) -> Result<(ValueId, [usize; 4]), TfliteError> {
        let (tensor, amounts) = match self.padded.get(&tensor) {
            Some(padded) => (padded.source, padded.amounts),
            None => (tensor, [0; 4]),
        };
        if self.sample(tensor).len() != 3 || self.batch_axes(tensor) != 1 {
            let found = format!("{:?}", self.tensor(tensor).shape);
            return Err(site.unsupported("one image, [1, height, width, channels]", found));
        }
        Ok((self.want(site, tensor, &Order::image())?, amounts))
    }

    /// `[top, left, bottom, right]` of a window over the image `x`, of which `before` stands before the operator.
    pub(super) fn window_padding(
        &self,
        site: &Site,
        padding: Padding,
        x: ValueId,
        [kernel, stride, dilation]: [[usize; 2]; 3],
        before: [usize; 4],
    ) -> Result<[usize; 4], TfliteError> {
        let shape = &self.values[x.0].shape;
        match padding {
            Padding::VALID => Ok(before),
            Padding::SAME if before == [0; 4] => Ok(padding::same([shape[1], shape[2]], kernel, stride, dilation)),
            other => Err(site.unsupported("SAME or VALID padding", format!("{other:?}"))),
        }
    }

    fn pool(&mut self, site: &Site) -> Result<PoolOperand, TfliteError> {
        let BuiltinOptions::Pool2D(options) = site.options() else { return Err(site.wrong_options()) };
        if options.fused_activation_function != ActivationFunctionType::NONE {
            let found = format!("{:?}", options.fused_activation_function);
            return Err(site.unsupported("a pool without activation", found));
        }
        let kernel = site.positive([options.filter_height, options.filter_width])?;
        let stride = site.positive([options.stride_h, options.stride_w])?;
        let (x, before) = self.image_operand(site, site.input(0)?)?;
        let padding = self.window_padding(site, options.padding, x, [kernel, stride, [1, 1]], before)?;
        Ok(PoolOperand { x, padding, kernel, stride })
    }

    pub(super) fn max_pool2d(&mut self, site: &Site) -> Result<(), TfliteError> {
        let PoolOperand { x, padding, kernel, stride } = self.pool(site)?;
        let op = MaxPool2d { kernel, stride, padding, dilation: [1, 1] };
        self.finish(Op::MaxPool2d(op), &[x], site.output()?, Order::image())
    }

    pub(super) fn avg_pool2d(&mut self, site: &Site) -> Result<(), TfliteError> {
        let PoolOperand { x, padding, kernel, stride } = self.pool(site)?;
        let op = AvgPool2d { kernel, stride, padding, count_include_pad: false };
        self.finish(Op::AvgPool2d(op), &[x], site.output()?, Order::image())
    }

    /// Amounts before and after each axis of a tensor's sample, in the order of the file.
    fn amounts(&self, site: &Site, x: usize) -> Result<[Vec<usize>; 2], TfliteError> {
        let list = self.integers(site, site.input(1)?)?;
        let shape = &self.tensor(x).shape;
        let sizes: Result<Vec<usize>, _> = list.iter().map(|&amount| usize::try_from(amount)).collect();
        let Some(sizes) = sizes.ok().filter(|sizes| sizes.len() == 2 * shape.len()) else {
            return Err(site.unsupported("two amounts for each axis", format!("{list:?}")));
        };
        let (before, after): (Vec<usize>, Vec<usize>) =
            sizes.as_chunks().0.iter().map(|&[before, after]| (before, after)).unzip();
        let batch = self.batch_axes(x);
        if before[..batch].iter().chain(&after[..batch]).any(|&amount| amount != 0) {
            return Err(site.unsupported("no padding of the batch", format!("{list:?}")));
        }
        Ok([before[batch..].to_vec(), after[batch..].to_vec()])
    }

    /// Whether every operator that reads a tensor is one of `operators`, without padding of its own.
    fn is_read_by(&self, tensor: usize, operators: &[BuiltinOperator]) -> bool {
        let is_one = |&reader: &usize| padding::is_valid_window(self.file, &self.subgraph.operators[reader], operators);
        tensor != self.output && self.readers[tensor].iter().all(is_one)
    }

    /// Notes the padding of an image for those that read it, if `operators` are all that do; whether it did.
    fn fold_padding(&mut self, x: usize, y: usize, amounts: &[Vec<usize>; 2], operators: &[BuiltinOperator]) -> bool {
        let ([&[top, left, 0], &[bottom, right, 0]], true) = ([&amounts[0][..], &amounts[1][..]], self.is_read_by(y, operators))
        else {
            return false;
        };
        self.padded.insert(y, Padded { source: x, amounts: [top, left, bottom, right] });
        true
    }

    pub(super) fn pad(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y) = (site.input(0)?, site.output()?);
        let amounts = self.amounts(site, x)?;
        self.held(site, x)?;
        if self.codes(x)? == self.codes(y)?
            && self.fold_padding(x, y, &amounts, &[BuiltinOperator::CONV_2D, BuiltinOperator::DEPTHWISE_CONV_2D])
        {
            return Ok(());
        }
        self.pad_node(site, x, y, amounts)
    }

    fn pad_node(&mut self, site: &Site, x: usize, y: usize, [before, after]: [Vec<usize>; 2]) -> Result<(), TfliteError> {
        let Held { value, order } = self.held(site, x)?;
        let op = Pad { before: order.undo(&before), after: order.undo(&after) };
        self.finish(Op::Pad(op), &[value], y, order)
    }

    /// PADV2 with real 0, or with the lowest code before max pools.
    pub(super) fn pad_v2(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y, fill) = (site.input(0)?, site.output()?, site.input(2)?);
        let amounts = self.amounts(site, x)?;
        self.held(site, x)?;
        let (code_type, qparams) = self.codes(x)?;
        let info = self.tensor(fill);
        let code = if info.element_count() == Some(1) { info.to_i64s(self.file.data(info)) } else { None };
        let Some(&[code]) = code.as_deref() else {
            return Err(site.unsupported("one constant to fill with", self.place(fill)));
        };
        if self.codes(fill)? != (code_type, qparams) || self.codes(y)? != (code_type, qparams) {
            return Err(site.unsupported("one scale and zero point throughout", self.place(fill)));
        }
        let is_lowest = code == i64::from(code_type.min());
        if is_lowest && self.fold_padding(x, y, &amounts, &[BuiltinOperator::MAX_POOL_2D]) {
            return Ok(());
        }
        if code != i64::from(qparams.zero_point) {
            return Err(site.unsupported("a padding with real 0, or with the lowest code before max pools", code.to_string()));
        }
        self.pad_node(site, x, y, amounts)
    }
}
