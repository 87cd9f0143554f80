//! Operators that move numbers, and means.

use qat_formats::tflite::order::Order;
use qat_formats::tflite::{BuiltinOperator, BuiltinOptions, TensorType};

use super::{Activation, Held, Reader, Refusal, Site};
use crate::graph::{Op, ValueId};
use crate::nn::SliceRange;

/// What a slice takes of one axis.
#[derive(Clone, Copy)]
pub(super) struct AxisRange {
    pub range: SliceRange,
    /// Its one element is left without the axis.
    pub is_dropped: bool,
}

impl Reader<'_> {
    pub(super) fn concat(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::Concatenation(options) = site.options() else { return Err(site.wrong_options()) };
        let y = site.output()?;
        let tensors = site.inputs()?;
        let first = tensors.iter().find_map(|&tensor| self.activation(site, tensor).ok());
        let Some(first) = first else { return Err(site.unsupported("parts that depend on the input", "constants")) };
        let axis = self.sample_axis(site, &first, options.axis.into())?;
        let shape = self.shape(&first);
        let (mut parts, mut sample): (Vec<ValueId>, Vec<usize>) = (Vec::new(), self.sample(first.value));
        sample[axis] = 0;
        for tensor in tensors {
            let part = match self.is_constant(tensor) {
                true => {
                    let constant = self.reals(site, tensor)?;
                    self.constant_value(site, &constant, &first, shape.len())?
                }
                false => {
                    let part = self.activation(site, tensor)?;
                    if part.order.rank() != first.order.rank() || part.has_batch != first.has_batch {
                        return Err(site.unsupported("parts of one rank", format!("{:?}", self.shape(&part))));
                    }
                    self.in_order(&part, &first.order)
                }
            };
            let found = self.sample(part);
            let fits = found.len() == sample.len() && (0..found.len()).all(|at| at == axis || found[at] == sample[at]);
            if !fits {
                return Err(site.unsupported("parts that differ along one axis alone", format!("{found:?}")));
            }
            sample[axis] += found[axis];
            parts.push(part);
        }
        let value = match parts[..] {
            [only] => only,
            _ => self.step(site, Op::Concat(axis + 1), parts, &sample)?,
        };
        let value = self.activated(site, options.fused_activation_function, value)?;
        self.define(site, y, Activation { value, ..first })
    }

    pub(super) fn mean(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::Reducer(options) = site.options() else { return Err(site.wrong_options()) };
        let (x, y) = (self.activation(site, site.input(0)?)?, site.output()?);
        let mut axes = Vec::new();
        for axis in self.integers(site, site.input(1)?)? {
            axes.push(self.sample_axis(site, &x, axis)?);
        }
        axes.sort_unstable();
        axes.dedup();
        if axes.is_empty() {
            return self.define(site, y, x);
        }
        let mut sample = self.sample(x.value);
        axes.iter().for_each(|&axis| sample[axis] = 1);
        let value = self.step(site, Op::Mean(axes.iter().map(|axis| axis + 1).collect()), vec![x.value], &sample)?;
        let kept = Activation { value, ..x };
        if options.keep_dims {
            return self.define(site, y, kept);
        }
        let file_axes = kept.order.axes();
        let shape = self.shape(&kept);
        let batch = usize::from(kept.has_batch);
        let left = (0..shape.len()).filter(|&at| at < batch || !axes.contains(&file_axes[at - batch]));
        let shape = left.map(|at| shape[at]).collect();
        let reduced = self.under_shape(site, &kept, shape)?;
        self.define(site, y, reduced)
    }

    /// What RESHAPE, SQUEEZE or EXPAND_DIMS makes of `shape`.
    pub(super) fn target_shape(&self, site: &Site, operator: BuiltinOperator, shape: &[usize]) -> Result<Vec<usize>, Refusal> {
        match operator {
            BuiltinOperator::SQUEEZE => {
                let BuiltinOptions::Squeeze(options) = site.options() else { return Err(site.wrong_options()) };
                let mut gone = Vec::new();
                for &axis in &options.squeeze_dims {
                    gone.push(self.axis(site, shape.len(), axis.into())?);
                }
                if gone.iter().any(|&axis| shape[axis] != 1) {
                    return Err(site.unsupported("axes of size 1", format!("{gone:?} of {shape:?}")));
                }
                let is_gone = |axis: usize| if gone.is_empty() { shape[axis] == 1 } else { gone.contains(&axis) };
                Ok((0..shape.len()).filter(|&axis| !is_gone(axis)).map(|axis| shape[axis]).collect())
            }
            BuiltinOperator::EXPAND_DIMS => {
                let axis = self.integer(site, site.input(1)?)?;
                let at = self.axis(site, shape.len() + 1, axis)?;
                Ok([&shape[..at], &[1], &shape[at..]].concat())
            }
            _ => {
                let list = match (site.optional(1), site.options()) {
                    (Some(tensor), _) => self.integers(site, tensor)?,
                    (None, BuiltinOptions::Reshape(options)) => options.new_shape.iter().map(|&size| size.into()).collect(),
                    _ => return Err(site.wrong_options()),
                };
                let found =
                    || site.unsupported("sizes of as many numbers, at most one of them -1", format!("{list:?} of {shape:?}"));
                let count: usize = shape.iter().product();
                let open = list.iter().filter(|&&size| size == -1).count();
                let known = list.iter().filter(|&&size| size != -1);
                let known =
                    known.map(|&size| usize::try_from(size).ok()).try_fold(1usize, |product, size| product.checked_mul(size?));
                let known = known.ok_or_else(found)?;
                let rest = match open {
                    0 if known == count => 1,
                    1 if known > 0 && count.is_multiple_of(known) => count / known,
                    _ => return Err(found()),
                };
                Ok(list.iter().map(|&size| if size == -1 { rest } else { size as usize }).collect())
            }
        }
    }

    pub(super) fn reshape(&mut self, site: &Site, operator: BuiltinOperator) -> Result<(), Refusal> {
        if self.is_joined_tile(site)? {
            return Ok(());
        }
        let (x, y) = (self.activation(site, site.input(0)?)?, site.output()?);
        let shape = self.target_shape(site, operator, &self.shape(&x))?;
        if let [1, width] = shape[..]
            && self.is_turned_image(&x)
            && y != self.output
            && self.is_read_by_linear_alone(y, width)
        {
            let value = self.flattened(site, &x)?;
            return self.define(site, y, Activation { value, order: Order::plain(1), has_batch: true });
        }
        let reshaped = self.under_shape(site, &x, shape)?;
        self.define(site, y, reshaped)
    }

    /// Whether an activation is an image whose numbers stand in another order than in the file.
    pub(super) fn is_turned_image(&self, x: &Activation) -> bool {
        x.has_batch && x.order == Order::image() && !x.order.stands_as(&Order::plain(3), &self.sample(x.value))
    }

    /// An image as a vector in the order of the graph; linear layers alone may read it.
    pub(super) fn flattened(&mut self, site: &Site, x: &Activation) -> Result<ValueId, Refusal> {
        let sample = self.sample(x.value);
        let value = self.step(site, Op::Reshape, vec![x.value], &[sample.iter().product()])?;
        if let [c, h, w] = sample[..] {
            self.flattened.insert(value, [c, h, w]);
        }
        Ok(value)
    }

    /// Whether every operator that reads a tensor multiplies it by a matrix with `width` columns.
    fn is_read_by_linear_alone(&self, tensor: usize, width: usize) -> bool {
        let is_linear = |&reader: &usize| {
            let operator = &self.subgraph.operators[reader];
            let code = self.file.operator_code(operator).map(|code| code.builtin_code);
            let kernel = operator.inputs.get(1).and_then(|&kernel| usize::try_from(kernel).ok());
            code == Some(BuiltinOperator::FULLY_CONNECTED)
                && operator.inputs.first() == Some(&(tensor as i32))
                && operator.inputs[1..].iter().all(|&other| other != tensor as i32)
                && kernel.is_some_and(|kernel| self.tensor(kernel).shape.get(1) == Some(&(width as i32)))
        };
        !self.readers[tensor].is_empty() && self.readers[tensor].iter().all(is_linear)
    }

    /// The numbers of an activation, in the order of the file, under another shape of the file.
    pub(super) fn under_shape(&mut self, site: &Site, x: &Activation, shape: Vec<usize>) -> Result<Activation, Refusal> {
        let has_batch = shape.len() > 1 && shape[0] == 1;
        let target = &shape[usize::from(has_batch)..];
        let before = x.order.apply(&self.sample(x.value));
        if target == before {
            return Ok(Activation { value: x.value, order: x.order.clone(), has_batch });
        }
        let sizes = |list: &[usize]| list.iter().copied().filter(|&size| size != 1).collect::<Vec<_>>();
        if sizes(target) == sizes(&before)
            && let Some(order) = self.order_beside_units(x, &before, target)
        {
            // Axes of size 1 come and go; the others stay where they are.
            let value = self.step(site, Op::Reshape, vec![x.value], &order.undo(target))?;
            return Ok(Activation { value, order, has_batch });
        }
        let plain = Order::plain(x.order.rank());
        let source = match x.order.stands_as(&plain, &self.sample(x.value)) {
            true => x.value,
            false => self.in_order(x, &plain),
        };
        let order = match target.len() {
            3 if Order::plain(3).stands_as(&Order::image(), &Order::image().undo(target)) => Order::image(),
            rank => Order::plain(rank),
        };
        let value = self.step(site, Op::Reshape, vec![source], &order.undo(target))?;
        Ok(Activation { value, order, has_batch })
    }

    /// The order of a tensor that has the sizes `target` and, but for axes of size 1, the axes of `x` as they stand in the
    /// graph: that of an image where it fits.
    fn order_beside_units(&self, x: &Activation, before: &[usize], target: &[usize]) -> Option<Order> {
        // Which of the file's axes with a size stand one after another in the graph.
        let standing = |order: &Order, sizes: &[usize]| -> Vec<usize> {
            let numbered: Vec<usize> = (0..sizes.len()).filter(|&at| sizes[at] != 1).collect();
            let in_file: Vec<usize> = order.undo(&(0..sizes.len()).collect::<Vec<_>>());
            in_file.iter().filter_map(|at| numbered.iter().position(|found| found == at)).collect()
        };
        let wanted = standing(&x.order, before);
        let image = (target.len() == 3).then(Order::image);
        if let Some(order) = image.into_iter().chain([Order::plain(target.len())]).find(|order| standing(order, target) == wanted)
        {
            return Some(order);
        }
        // The axes of size 1 first, then the others as they stand.
        let numbered: Vec<usize> = (0..target.len()).filter(|&at| target[at] != 1).collect();
        let units = (0..target.len()).filter(|&at| target[at] == 1);
        let stand: Vec<usize> = units.chain(wanted.iter().map(|&at| numbered[at])).collect();
        let axes = (0..target.len()).map(|at| stand.iter().position(|&found| found == at)).collect::<Option<Vec<_>>>()?;
        Order::of(axes)
    }

    /// The permutation that TRANSPOSE is told, for an operand of `rank` axes.
    pub(super) fn permutation(&self, site: &Site, rank: usize) -> Result<Vec<usize>, Refusal> {
        let mut axes = Vec::new();
        for axis in self.integers(site, site.input(1)?)? {
            axes.push(self.axis(site, rank, axis)?);
        }
        match Order::of(axes.clone()) {
            Some(_) if axes.len() == rank => Ok(axes),
            _ => Err(site.unsupported("each axis once", format!("{axes:?} of {rank}"))),
        }
    }

    pub(super) fn transpose(&mut self, site: &Site) -> Result<(), Refusal> {
        let (x, y) = (self.activation(site, site.input(0)?)?, site.output()?);
        let batch = usize::from(x.has_batch);
        let axes = self.permutation(site, x.order.rank() + batch)?;
        if axes[..batch] != [0][..batch] {
            return Err(site.unsupported("the batch as first axis", format!("{axes:?}")));
        }
        let axes: Vec<usize> = axes[batch..].iter().map(|axis| axis - batch).collect();
        let order = x.order.in_transpose(&axes);
        self.define(site, y, Activation { order, ..x })
    }

    /// Ranges that SLICE is told, of an operand of these sizes.
    pub(super) fn slice_ranges(&self, site: &Site, shape: &[usize]) -> Result<Vec<AxisRange>, Refusal> {
        let (begin, size) = (self.integers(site, site.input(1)?)?, self.integers(site, site.input(2)?)?);
        let found = || site.unsupported("a box inside the operand", format!("{begin:?} and {size:?} of {shape:?}"));
        if begin.len() != shape.len() || size.len() != shape.len() {
            return Err(found());
        }
        let ranges = begin.iter().zip(&size).zip(shape).map(|((&begin, &size), &whole)| {
            let start = usize::try_from(begin).ok().filter(|&start| start < whole)?;
            let end = if size == -1 { whole } else { start.checked_add(usize::try_from(size).ok()?)? };
            let range = SliceRange { start, end, step: 1 };
            (start < end && end <= whole).then_some(AxisRange { range, is_dropped: false })
        });
        ranges.collect::<Option<Vec<_>>>().ok_or_else(found)
    }

    /// Ranges that STRIDED_SLICE is told, of an operand of these sizes.
    pub(super) fn strided_ranges(&self, site: &Site, shape: &[usize]) -> Result<Vec<AxisRange>, Refusal> {
        let BuiltinOptions::StridedSlice(options) = site.options() else { return Err(site.wrong_options()) };
        let [begins, ends, steps] = [1, 2, 3].map(|operand| site.input(operand).and_then(|tensor| self.integers(site, tensor)));
        let (begins, ends, steps) = (begins?, ends?, steps?);
        let found = || {
            let found = format!("{begins:?} to {ends:?} by {steps:?} of {shape:?}");
            site.unsupported("a box inside the operand, forwards", found)
        };
        let entries = begins.len();
        if ends.len() != entries || steps.len() != entries || options.new_axis_mask != 0 || options.offset {
            return Err(found());
        }
        let is_set = |mask: i32, entry: usize| entry < 32 && mask >> entry & 1 == 1;
        let spread = entries - usize::from((0..entries).any(|entry| is_set(options.ellipsis_mask, entry)));
        let whole = |size: usize| AxisRange { range: SliceRange { start: 0, end: size, step: 1 }, is_dropped: false };
        let mut ranges = Vec::new();
        for (entry, ((&begin, &end), &step)) in begins.iter().zip(&ends).zip(&steps).enumerate() {
            if is_set(options.ellipsis_mask, entry) {
                let count = shape.len().checked_sub(spread).ok_or_else(found)?;
                let next = ranges.len();
                ranges.extend(shape.iter().skip(next).take(count).map(|&size| whole(size)));
                continue;
            }
            let size = *shape.get(ranges.len()).ok_or_else(found)?;
            let place =
                |value: i64| (if value < 0 { value.saturating_add(size as i64) } else { value }).clamp(0, size as i64) as usize;
            let start = if is_set(options.begin_mask, entry) { 0 } else { place(begin) };
            let is_dropped = is_set(options.shrink_axis_mask, entry);
            let end = match (is_dropped, is_set(options.end_mask, entry)) {
                (true, _) => start + 1,
                (false, true) => size,
                (false, false) => place(end),
            };
            let step = if is_dropped { 1 } else { usize::try_from(step).ok().filter(|&step| step > 0).ok_or_else(found)? };
            if start >= end || end > size {
                return Err(found());
            }
            ranges.push(AxisRange { range: SliceRange { start, end, step }, is_dropped });
        }
        ranges.extend(shape.iter().skip(ranges.len()).map(|&size| whole(size)));
        if ranges.len() == shape.len() { Ok(ranges) } else { Err(found()) }
    }

    /// A box of an activation, with one range for each axis of the tensor.
    fn sliced(&mut self, site: &Site, x: &Activation, ranges: &[AxisRange]) -> Result<Activation, Refusal> {
        let batch = usize::from(x.has_batch);
        let is_whole = |range: &AxisRange| range.range == SliceRange { start: 0, end: 1, step: 1 } && !range.is_dropped;
        if !ranges[..batch].iter().all(is_whole) {
            return Err(site.unsupported("all of the batch", format!("{:?} of it", ranges[0].range)));
        }
        let list: Vec<SliceRange> = ranges[batch..].iter().map(|range| range.range).collect();
        let in_graph = x.order.undo(&list);
        let before = self.sample(x.value);
        let sample: Vec<usize> = in_graph.iter().map(|range| (range.end - range.start).div_ceil(range.step)).collect();
        let value = if sample == before { x.value } else { self.step(site, Op::Slice(in_graph), vec![x.value], &sample)? };
        let kept = Activation { value, ..x.clone() };
        let shape = self.shape(&kept);
        let left: Vec<usize> = (0..shape.len()).filter(|&at| !ranges[at].is_dropped).map(|at| shape[at]).collect();
        if left.len() == shape.len() { Ok(kept) } else { self.under_shape(site, &kept, left) }
    }

    pub(super) fn slice(&mut self, site: &Site) -> Result<(), Refusal> {
        let (x, y) = (self.activation(site, site.input(0)?)?, site.output()?);
        let ranges = self.slice_ranges(site, &self.shape(&x))?;
        let sliced = self.sliced(site, &x, &ranges)?;
        self.define(site, y, sliced)
    }

    pub(super) fn strided_slice(&mut self, site: &Site) -> Result<(), Refusal> {
        let (x, y) = (self.activation(site, site.input(0)?)?, site.output()?);
        let ranges = self.strided_ranges(site, &self.shape(&x))?;
        let sliced = self.sliced(site, &x, &ranges)?;
        self.define(site, y, sliced)
    }

    pub(super) fn split(&mut self, site: &Site) -> Result<(), Refusal> {
        let x = self.activation(site, site.input(1)?)?;
        let shape = self.shape(&x);
        let at = self.axis(site, shape.len(), self.integer(site, site.input(0)?)?)?;
        let parts = site.operator.outputs.len();
        if parts == 0 || !shape[at].is_multiple_of(parts) {
            return Err(site.unsupported("parts of one size", format!("{parts} of {}", shape[at])));
        }
        self.parts(site, &x, at, vec![shape[at] / parts; parts])
    }

    pub(super) fn split_v(&mut self, site: &Site) -> Result<(), Refusal> {
        let x = self.activation(site, site.input(0)?)?;
        let shape = self.shape(&x);
        let at = self.axis(site, shape.len(), self.integer(site, site.input(2)?)?)?;
        let list = self.integers(site, site.input(1)?)?;
        let known = list.iter().filter(|&&size| size >= 0).fold(0i64, |sum, &size| sum.saturating_add(size));
        let rest = (shape[at] as i64).saturating_sub(known);
        let sizes: Option<Vec<usize>> =
            list.iter().map(|&size| usize::try_from(if size == -1 { rest } else { size }).ok()).collect();
        let sum = |sizes: &Vec<usize>| sizes.iter().fold(0usize, |sum, &size| sum.saturating_add(size));
        match sizes.filter(|sizes| sizes.len() == site.operator.outputs.len() && sum(sizes) == shape[at]) {
            Some(sizes) => self.parts(site, &x, at, sizes),
            None => Err(site.unsupported("one size for each part", format!("{list:?} of {}", shape[at]))),
        }
    }

    /// One slice for each part along an axis of the tensor.
    fn parts(&mut self, site: &Site, x: &Activation, at: usize, sizes: Vec<usize>) -> Result<(), Refusal> {
        let whole = |&size: &usize| AxisRange { range: SliceRange { start: 0, end: size, step: 1 }, is_dropped: false };
        let mut start = 0;
        for (&y, size) in site.operator.outputs.iter().zip(sizes) {
            let mut ranges: Vec<AxisRange> = self.shape(x).iter().map(whole).collect();
            ranges[at].range = SliceRange { start, end: start + size, step: 1 };
            start += size;
            if size == 0 {
                return Err(site.unsupported("parts that are not empty", "an empty one"));
            }
            let part = self.sliced(site, x, &ranges)?;
            self.define(site, y as usize, part)?;
        }
        Ok(())
    }

    pub(super) fn resize_nearest(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::ResizeNearestNeighbor(options) = site.options() else { return Err(site.wrong_options()) };
        let y = site.output()?;
        let x = self.image(site, site.input(0)?)?;
        let to = self.integers(site, site.input(1)?)?;
        let from = self.sample(x);
        let to: Vec<usize> = to.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
        let is_block = |axis: usize| {
            let (from, to) = (from[axis + 1], to[axis]);
            let factor = to / from;
            let offset = if options.half_pixel_centers { 0.5 } else { 0.0 };
            let scale = from as f32 / to as f32;
            // Beyond this, runtimes lose whole pixels in f32.
            factor > 0
                && to < 1 << 20
                && from * factor == to
                && (0..to).all(|at| ((at as f32 + offset) * scale) as usize == at / factor)
        };
        if to.len() != 2 || options.align_corners || !(0..2).all(is_block) {
            let found = format!("{:?} to {to:?}", &from[1..]);
            return Err(site.unsupported("a resize by whole factors, every pixel a block", found));
        }
        let factor = [to[0] / from[1], to[1] / from[2]];
        let value = self.step(site, Op::ResizeNearest(factor), vec![x], &[from[0], to[0], to[1]])?;
        self.define(site, y, Activation { value, order: Order::image(), has_batch: true })
    }

    /// CAST, where it changes nothing: of float numbers to float, or of indices to indices.
    pub(super) fn cast(&mut self, site: &Site) -> Result<(), Refusal> {
        let (x, y) = (site.input(0)?, site.output()?);
        let activation = self.indices(site, x).or_else(|_| self.activation(site, x))?;
        let types = [self.tensor(x).r#type, self.tensor(y).r#type];
        let is_integer = |r#type: TensorType| matches!(r#type, TensorType::INT32 | TensorType::INT64);
        if types[0] != types[1] && !types.into_iter().all(is_integer) {
            return Err(site.unsupported("a cast that changes no number", format!("{:?} to {:?}", types[0], types[1])));
        }
        self.held[y] = Some(Held::Activation(activation));
        Ok(())
    }
}
