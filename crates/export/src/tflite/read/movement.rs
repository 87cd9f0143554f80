//! Operators that move numbers, and means.

use qat_formats::tflite::{ActivationFunctionType, BuiltinOptions};
use qat_runtime::{Concat, Mean, Op, ResizeNearest, Slice};

use super::{Held, Reader, Site};
use crate::{error::TfliteError, tflite::order::Order};

impl Reader<'_> {
    pub(super) fn concat(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::Concatenation(options) = site.options() else { return Err(site.wrong_options()) };
        if options.fused_activation_function != ActivationFunctionType::NONE {
            let found = format!("{:?}", options.fused_activation_function);
            return Err(site.unsupported("a concatenation without activation", found));
        }
        let y = site.output()?;
        let at = self.axis(site, y, options.axis.into())?;
        let rank = self.sample(y).len();
        let tensors: Vec<usize> = (0..site.operator.inputs.len()).map(|at| site.input(at)).collect::<Result<_, _>>()?;
        let order = tensors.iter().find_map(|&tensor| self.held[tensor].as_ref()).map(|held| held.order.clone());
        let order = order.filter(|order| order.rank() == rank).unwrap_or_else(|| Order::plain(rank));
        let mut inputs = Vec::new();
        for tensor in tensors {
            inputs.push(self.want(site, tensor, &order)?);
        }
        let axis = order.axes()[at];
        self.finish(Op::Concat(Concat { axis }), &inputs, y, order)
    }

    pub(super) fn mean(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::Reducer(options) = site.options() else { return Err(site.wrong_options()) };
        let (x, y) = (site.input(0)?, site.output()?);
        let Held { value, order } = self.held(site, x)?;
        let mut axes = Vec::new();
        for axis in self.integers(site, site.input(1)?)? {
            axes.push(order.axes()[self.axis(site, x, axis)?]);
        }
        axes.sort_unstable();
        axes.dedup();
        let left = if options.keep_dims { order.clone() } else { order.without(&axes) };
        let op = Mean { axes, keep_dims: options.keep_dims };
        self.finish(Op::Mean(op), &[value], y, left)
    }

    pub(super) fn reshape(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y) = (site.input(0)?, site.output()?);
        let held = self.held(site, x)?;
        let shape = self.sample(y);
        if self.sample(x) == shape && self.codes(x)? == self.codes(y)? {
            self.held[y] = Some(held);
            return Ok(());
        }
        let plain = Order::plain(held.order.rank());
        let value = match held.order.stands_as(&plain, &self.values[held.value.0].shape) {
            true => held.value,
            false => self.in_order(&held, &plain),
        };
        let (target, image) = (Order::plain(shape.len()), Order::image());
        let order = match shape.len() == 3 && target.stands_as(&image, &image.undo(&shape)) {
            true => image,
            false => target,
        };
        self.finish(Op::Reshape, &[value], y, order)
    }

    pub(super) fn transpose(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y) = (site.input(0)?, site.output()?);
        let held = self.held(site, x)?;
        let permutation = self.integers(site, site.input(1)?)?;
        let mut axes = Vec::new();
        for axis in permutation.iter().skip(self.batch_axes(x)) {
            axes.push(self.axis(site, x, *axis)?);
        }
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        let is_permutation = sorted.iter().copied().eq(0..held.order.rank());
        let keeps_batch = self.batch_axes(x) == 0 || permutation.first() == Some(&0);
        let expected: Vec<usize> = axes.iter().filter_map(|&at| self.sample(x).get(at).copied()).collect();
        if !is_permutation || !keeps_batch || expected != self.sample(y) || self.codes(x)? != self.codes(y)? {
            return Err(site.unsupported("a permutation of the sample's axes", format!("{permutation:?}")));
        }
        let order = held.order.in_transpose(&axes);
        self.held[y] = Some(Held { value: held.value, order });
        Ok(())
    }

    /// A box of `x`, lists being in the order of the file without the batch.
    fn slice_node(&mut self, site: &Site, x: usize, y: usize, lists: [Vec<usize>; 3]) -> Result<(), TfliteError> {
        let Held { value, order } = self.held(site, x)?;
        if lists.iter().any(|list| list.len() != order.rank()) {
            return Err(site.unsupported("one entry for each axis", format!("{lists:?}")));
        }
        let [start, end, step] = lists.map(|list| order.undo(&list));
        self.finish(Op::Slice(Slice { start, end, step }), &[value], y, order)
    }

    /// Whether a range of the batch is all of it; the rest of the list.
    fn without_batch(&self, site: &Site, x: usize, ranges: Vec<[i64; 3]>) -> Result<[Vec<usize>; 3], TfliteError> {
        let batch = self.batch_axes(x);
        let found = || site.unsupported("a box inside the sample", format!("{ranges:?}"));
        if ranges.len() != self.tensor(x).shape.len() || ranges[..batch].iter().any(|&range| range != [0, 1, 1]) {
            return Err(found());
        }
        let mut lists = [Vec::new(), Vec::new(), Vec::new()];
        for range in &ranges[batch..] {
            for (list, &entry) in lists.iter_mut().zip(range) {
                list.push(usize::try_from(entry).map_err(|_| found())?);
            }
        }
        Ok(lists)
    }

    pub(super) fn slice(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y) = (site.input(0)?, site.output()?);
        let (begin, size) = (self.integers(site, site.input(1)?)?, self.integers(site, site.input(2)?)?);
        let sizes = &self.tensor(x).shape;
        let ranges = begin.iter().zip(&size).zip(sizes).map(|((&begin, &size), &whole)| {
            let end = if size == -1 { whole.into() } else { begin.saturating_add(size) };
            [begin, end, 1]
        });
        let lists = self.without_batch(site, x, ranges.collect())?;
        self.slice_node(site, x, y, lists)
    }

    pub(super) fn strided_slice(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::StridedSlice(options) = site.options() else { return Err(site.wrong_options()) };
        let masks = [options.ellipsis_mask, options.new_axis_mask, options.shrink_axis_mask];
        if masks != [0; 3] || options.offset {
            return Err(site.unsupported("a slice that keeps all axes", format!("masks {masks:?}")));
        }
        let (x, y) = (site.input(0)?, site.output()?);
        let mut lists = Vec::new();
        for operand in 1..4 {
            lists.push(self.integers(site, site.input(operand)?)?);
        }
        let sizes = self.tensor(x).shape.clone();
        if lists.iter().any(|list| list.len() != sizes.len()) {
            return Err(site.unsupported("one entry for each axis", format!("{lists:?}")));
        }
        let ranges = sizes.iter().enumerate().map(|(axis, &size)| {
            let size = i64::from(size);
            let place = |entry: i64| if entry < 0 { entry.saturating_add(size) } else { entry }.clamp(0, size);
            let is_set = |mask: i32| mask >> axis & 1 == 1;
            let begin = if is_set(options.begin_mask) { 0 } else { place(lists[0][axis]) };
            let end = if is_set(options.end_mask) { size } else { place(lists[1][axis]) };
            [begin, end, lists[2][axis]]
        });
        let lists = self.without_batch(site, x, ranges.collect())?;
        self.slice_node(site, x, y, lists)
    }

    pub(super) fn split(&mut self, site: &Site) -> Result<(), TfliteError> {
        let x = site.input(1)?;
        let [axis] = self.integers(site, site.input(0)?)?[..] else {
            return Err(site.unsupported("one axis", "another number"));
        };
        let at = self.axis(site, x, axis)?;
        let parts = site.operator.outputs.len();
        let size = self.sample(x)[at];
        if parts == 0 || !size.is_multiple_of(parts) {
            return Err(site.unsupported("parts of one size", format!("{parts} of {size}")));
        }
        self.parts(site, x, at, vec![size / parts; parts])
    }

    pub(super) fn split_v(&mut self, site: &Site) -> Result<(), TfliteError> {
        let x = site.input(0)?;
        let [axis] = self.integers(site, site.input(2)?)?[..] else {
            return Err(site.unsupported("one axis", "another number"));
        };
        let at = self.axis(site, x, axis)?;
        let list = self.integers(site, site.input(1)?)?;
        let known: i64 = list.iter().filter(|&&size| size >= 0).fold(0, |sum, &size| sum.saturating_add(size));
        let rest = self.sample(x)[at] as i64 - known;
        let sizes: Result<Vec<usize>, _> =
            list.iter().map(|&size| usize::try_from(if size == -1 { rest } else { size })).collect();
        let Some(sizes) = sizes.ok().filter(|sizes| sizes.len() == site.operator.outputs.len()) else {
            return Err(site.unsupported("one size for each part", format!("{list:?}")));
        };
        self.parts(site, x, at, sizes)
    }

    /// One slice for each part along an axis.
    fn parts(&mut self, site: &Site, x: usize, at: usize, sizes: Vec<usize>) -> Result<(), TfliteError> {
        let whole = self.sample(x);
        let mut first = 0usize;
        for (&y, size) in site.operator.outputs.iter().zip(sizes) {
            let (mut start, mut end) = (vec![0; whole.len()], whole.clone());
            (start[at], end[at]) = (first, first.saturating_add(size));
            first = end[at];
            self.slice_node(site, x, y as usize, [start, end, vec![1; whole.len()]])?;
        }
        Ok(())
    }

    pub(super) fn resize_nearest(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::ResizeNearestNeighbor(options) = site.options() else { return Err(site.wrong_options()) };
        let y = site.output()?;
        let (x, before) = self.image_operand(site, site.input(0)?)?;
        let (from, to) = (self.values[x.0].shape.clone(), self.sample(y));
        let factor = [0, 1].map(|axis| to.get(axis).map_or(0, |&size| size / from[axis + 1].max(1)));
        let is_block = |axis: usize| {
            let (from, to) = (from[axis + 1], to[axis]);
            let offset = if options.half_pixel_centers { 0.5 } else { 0.0 };
            let scale = from as f32 / to as f32;
            // Beyond this, runtimes lose whole pixels in f32.
            to < 1 << 20
                && from * factor[axis] == to
                && (0..to).all(|at| ((at as f32 + offset) * scale) as usize == at / factor[axis])
        };
        if to.len() != 3 || before != [0; 4] || options.align_corners || factor.contains(&0) || !(0..2).all(is_block) {
            let found = format!("{from:?} in [channels, height, width] to {to:?} in [height, width, channels]");
            return Err(site.unsupported("a resize by whole factors, every pixel a block", found));
        }
        self.finish(Op::ResizeNearest(ResizeNearest { factor }), &[x], y, Order::image())
    }
}
