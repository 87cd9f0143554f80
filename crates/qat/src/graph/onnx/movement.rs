//! Operators that only move or choose numbers.

use super::attributes::{NodeView, axis};
use super::fold::permutation;
use super::interface::MAX_SAMPLE;
use super::refusal::{Outcome, Refusal};
use super::shape::{broadcast_shapes, size_of};
use super::tensor::{Size, Tensor};
use super::{Importer, Operand, Placed};
use crate::graph::{Dim, Op, ValueId};
use crate::nn::SliceRange;

/// Positions that a Gather may ask for one by one.
const MAX_INDICES: usize = 256;

/// The part of an axis that a Slice asks for, as the file has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    start: Size,
    end: Size,
    step: i64,
}

impl Cut {
    /// The positions it takes of an axis of `size`, as ONNX counts them.
    pub(super) fn indices(self, size: usize) -> Outcome<Vec<usize>> {
        let (Some(start), Some(end)) = (self.start.known(), self.end.known()) else {
            return Err(Refusal::new("bounds that do not depend on the batch size", format!("{self:?}")));
        };
        let limit = size as i64;
        let counted = |at: i64| if at < 0 { at.saturating_add(limit) } else { at };
        if self.step > 0 {
            let (start, end) = (counted(start).clamp(0, limit), counted(end).clamp(0, limit));
            Ok((start..end).step_by(self.step as usize).map(|at| at as usize).collect())
        } else {
            let (start, end) = (counted(start).clamp(-1, limit - 1), counted(end).clamp(-1, limit - 1));
            let step = usize::try_from(self.step.unsigned_abs()).unwrap_or(usize::MAX);
            Ok((end + 1..=start).rev().step_by(step).map(|at| at as usize).collect())
        }
    }

    /// Whether it takes a whole batch, whose size the file may fix.
    fn is_whole_batch(self, dim: Dim, batch: Option<usize>) -> bool {
        let end = match self.end {
            Size::Known(end) => end >= i64::from(i32::MAX) || batch.is_some_and(|batch| end >= 0 && end as usize >= batch),
            end => end == size_of(dim),
        };
        self.start == Size::Known(0) && end && self.step == 1
    }
}

impl<'a> Importer<'a> {
    pub(super) fn identity(&mut self, node: &NodeView<'a>) -> Outcome {
        let operand = self.operand(node, 0)?;
        match node.operator() {
            "Cast" => {
                // FLOAT is 1, INT32 6 and INT64 7.
                let to = node.int("to", 0)?;
                let is_index =
                    matches!(&operand, Operand::Value(placed) if self.graph.input_is_indices && placed.value == self.graph.input);
                if if is_index { to != 6 && to != 7 } else { to != 1 } {
                    return Err(Refusal::new("a cast that changes nothing", format!("one to type {to}")));
                }
            }
            "Dropout" => {
                let training = self.optional_constant(node, 2)?;
                let training = training.map(|tensor| tensor.known()).transpose()?.unwrap_or_default();
                if training.iter().any(|value| *value != 0) {
                    return Err(Refusal::new("a model in inference mode", "a Dropout in training mode"));
                }
            }
            _ => {}
        }
        self.define(node, 0, operand);
        Ok(())
    }

    pub(super) fn transpose(&mut self, node: &NodeView<'a>) -> Outcome {
        let placed = self.placed(node, 0)?;
        let rank = self.dims(placed.value).len();
        let order = permutation(node, rank)?;
        let Some(batch_axis) = order.iter().position(|axis| *axis == placed.batch_axis) else {
            unreachable!("an order has each axis")
        };
        let rest = order.iter().filter(|axis| **axis != placed.batch_axis).map(|axis| placed.graph_axis(*axis));
        let graph_order: Vec<usize> = std::iter::once(0).chain(rest).collect();
        let value = self.permuted(placed.value, graph_order)?;
        self.define_placed(node, Placed { value, batch_axis })
    }

    /// The axes of an activation in another order, the batch first.
    pub(super) fn permuted(&mut self, value: ValueId, order: Vec<usize>) -> Outcome<ValueId> {
        if order.windows(2).all(|pair| pair[0] < pair[1]) {
            return Ok(value);
        }
        let dims = self.dims(value);
        let shape = order.iter().map(|axis| dims[*axis]).collect();
        self.add(Op::Transpose(order), vec![value], shape)
    }

    pub(super) fn concat(&mut self, node: &NodeView<'a>) -> Outcome {
        let operands = (0..node.node.input.len()).map(|index| self.operand(node, index)).collect::<Outcome<Vec<_>>>()?;
        let first = operands.iter().find_map(|operand| match operand {
            Operand::Value(placed) => Some(*placed),
            _ => None,
        });
        let Some(first) = first else { return Err(Refusal::operator("activations", "part of a gelu")) };
        let dims = self.dims(first.value);
        let along = first.graph_axis(axis(node.int("axis", 0)?, dims.len())?);
        if along == 0 {
            return Err(Refusal::new("an axis other than the batch axis", "the batch axis"));
        }
        let mut parts = Vec::with_capacity(operands.len());
        let mut total = 0usize;
        for (index, operand) in operands.into_iter().enumerate() {
            let value = match operand {
                Operand::Constant(tensor) => self.row(&tensor, first, dims.len())?,
                _ => {
                    let placed = self.placed(node, index)?;
                    if placed.batch_axis != first.batch_axis {
                        return Err(Refusal::new("parts with the batch in one place", "others"));
                    }
                    placed.value
                }
            };
            let part = self.dims(value);
            let differs =
                part.len() != dims.len() || part.iter().zip(&dims).enumerate().any(|(axis, (a, b))| axis != along && a != b);
            let (Some(Dim::Fixed(size)), false) = (part.get(along), differs) else {
                return Err(Refusal::new("parts that differ in one axis", format!("{dims:?} and {part:?}")));
            };
            total = total.saturating_add(*size);
            parts.push(value);
        }
        let mut shape = dims;
        shape[along] = Dim::Fixed(total);
        let value = if parts.len() == 1 { parts[0] } else { self.add(Op::Concat(along), parts, shape)? };
        self.define_placed(node, Placed { value, ..first })
    }

    /// A constant as an activation of `rank`, the same for every sample, for an operation with one that lies as `like` does.
    pub(super) fn row(&mut self, tensor: &Tensor, like: Placed, rank: usize) -> Outcome<ValueId> {
        let tensor = self.as_row(tensor, like, rank)?;
        let id = self.plain_constant(&tensor)?;
        self.constant_value(id)
    }

    /// A constant under the shape `[1, ..]` of `rank` axes that the graph has it under; where it is short of axes, in front.
    pub(super) fn as_row(&self, tensor: &Tensor, like: Placed, rank: usize) -> Outcome<Tensor> {
        let refuse = || {
            Refusal::new(format!("a constant that is the same for every sample, of {rank} axes"), format!("{:?}", tensor.shape))
        };
        let missing = rank.checked_sub(tensor.shape.len()).ok_or_else(refuse)?;
        let mut shape = vec![1; missing];
        shape.extend(&tensor.shape);
        if shape[like.batch_axis] != 1 {
            return Err(refuse());
        }
        // The batch axis of size 1 may be moved: the order of the numbers stays.
        shape.remove(like.batch_axis);
        shape.insert(0, 1);
        let reshaped = tensor.reshaped(shape)?;
        Ok(Tensor { path: tensor.path.clone(), ..reshaped })
    }

    /// Sizes of the parts that a Split asks for of an axis of `size`.
    pub(super) fn parts(&self, node: &NodeView<'a>, size: usize) -> Outcome<Vec<usize>> {
        let outputs = node.node.output.len();
        let sizes = match self.ints(node, "split", 1)? {
            Some(list) => list.iter().map(|size| usize::try_from(*size).ok()).collect::<Option<Vec<_>>>(),
            None => {
                let each = size.div_ceil(outputs.max(1));
                Some((0..outputs).map(|part| each.min(size.saturating_sub(each * part))).collect())
            }
        };
        let sum = |sizes: &[usize]| sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size));
        match sizes {
            Some(sizes) if sum(&sizes) == Some(size) && sizes.len() == outputs => Ok(sizes),
            other => Err(Refusal::new(format!("{outputs} parts of {size}"), format!("{other:?}"))),
        }
    }

    pub(super) fn split(&mut self, node: &NodeView<'a>) -> Outcome {
        let placed = self.placed(node, 0)?;
        let (along, size) = self.sample_axis(placed, node.int("axis", 0)?)?;
        let mut start = 0;
        for (index, part) in self.parts(node, size)?.into_iter().enumerate() {
            let range = SliceRange { start, end: start + part, step: 1 };
            start += part;
            if node.node.output[index].is_empty() || !self.uses.contains_key(node.node.output[index].as_str()) {
                continue;
            }
            let value = self.sliced(placed.value, along, range)?;
            self.define(node, index, Operand::Value(Placed { value, ..placed }));
        }
        Ok(())
    }

    /// An axis of the file's tensor as the graph's, which is not the batch axis, and its size.
    fn sample_axis(&self, placed: Placed, of_file: i64) -> Outcome<(usize, usize)> {
        let dims = self.dims(placed.value);
        let along = placed.graph_axis(axis(of_file, dims.len())?);
        match dims[along] {
            Dim::Fixed(size) => Ok((along, size)),
            Dim::Batch(_) => Err(Refusal::new("an axis other than the batch axis", "the batch axis")),
        }
    }

    /// A range of an axis other than the batch axis.
    pub(super) fn sliced(&mut self, value: ValueId, along: usize, range: SliceRange) -> Outcome<ValueId> {
        let mut sample = self.sample(value);
        let whole = SliceRange { start: 0, end: sample[along - 1], step: 1 };
        if range == whole {
            return Ok(value);
        }
        let mut ranges: Vec<SliceRange> = sample.iter().map(|size| SliceRange { start: 0, end: *size, step: 1 }).collect();
        ranges[along - 1] = range;
        sample[along - 1] = range.end.saturating_sub(range.start).div_ceil(range.step);
        let shape = self.with_sample(value, &sample);
        self.add(Op::Slice(ranges), vec![value], shape)
    }

    /// The axes that a Slice cuts and what it takes of them.
    pub(super) fn cuts(&self, node: &NodeView<'a>, shape: &[Size]) -> Outcome<Vec<(usize, Cut)>> {
        let rank = shape.len();
        let sizes = |list: Vec<i64>| list.into_iter().map(Size::Known).collect::<Vec<_>>();
        let (starts, ends) = match (node.ints("starts")?, node.ints("ends")?) {
            (Some(starts), Some(ends)) => (sizes(starts), sizes(ends)),
            _ => (self.constant(node, 1)?.sizes()?.to_vec(), self.constant(node, 2)?.sizes()?.to_vec()),
        };
        let axes = self.ints(node, "axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = match self.optional_constant(node, 4)? {
            Some(steps) => steps.known()?,
            None => vec![1; starts.len()],
        };
        if starts.len() != ends.len() || axes.len() != starts.len() || steps.len() != starts.len() || steps.contains(&0) {
            return Err(Refusal::new(
                "as many starts, ends, axes and steps",
                format!("{starts:?}, {ends:?}, {axes:?}, {steps:?}"),
            ));
        }
        super::attributes::axes(&axes, rank)?;
        let cuts = axes.iter().zip(starts.iter().zip(&ends)).zip(&steps);
        cuts.map(|((along, (start, end)), step)| Ok((axis(*along, rank)?, Cut { start: *start, end: *end, step: *step })))
            .collect()
    }

    pub(super) fn slice(&mut self, node: &NodeView<'a>) -> Outcome {
        let mut placed = self.placed(node, 0)?;
        let dims = self.file_dims(placed);
        let sizes: Vec<Size> = dims.iter().copied().map(size_of).collect();
        for (along, cut) in self.cuts(node, &sizes)? {
            match dims[along] {
                Dim::Batch(_) if cut.is_whole_batch(dims[along], self.batch) => {}
                Dim::Batch(_) => return Err(Refusal::new("the whole batch", format!("{cut:?}"))),
                Dim::Fixed(size) => {
                    let indices = cut.indices(size)?;
                    placed.value = self.taken(placed.value, placed.graph_axis(along), &indices)?;
                }
            }
        }
        self.define_placed(node, placed)
    }

    /// Positions of an axis: one slice where they are evenly spaced, else several.
    fn taken(&mut self, value: ValueId, along: usize, indices: &[usize]) -> Outcome<ValueId> {
        let step = match indices {
            [] => return Err(Refusal::new("at least one position", "none")),
            [_] => Some(1),
            [first, second, ..] => second.checked_sub(*first).filter(|step| *step > 0),
        };
        if let Some(step) = step.filter(|step| indices.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(*step))) {
            let range = SliceRange { start: indices[0], end: indices[indices.len() - 1] + 1, step };
            return self.sliced(value, along, range);
        }
        if indices.len() > MAX_INDICES {
            return Err(Refusal::new(format!("positions evenly spaced, or {MAX_INDICES} at most"), indices.len().to_string()));
        }
        let parts = indices
            .iter()
            .map(|at| self.sliced(value, along, SliceRange { start: *at, end: at + 1, step: 1 }))
            .collect::<Outcome<Vec<_>>>()?;
        let mut shape = self.dims(value);
        shape[along] = Dim::Fixed(indices.len());
        self.add(Op::Concat(along), parts, shape)
    }

    pub(super) fn gather(&mut self, node: &NodeView<'a>) -> Outcome {
        if let (Operand::Constant(table), Operand::Value(indices)) = (self.operand(node, 0)?, self.operand(node, 1)?) {
            return self.embedding(node, &table, indices);
        }
        let placed = self.placed(node, 0)?;
        let (along, size) = self.sample_axis(placed, node.int("axis", 0)?)?;
        let indices = self.constant(node, 1)?;
        let positions = indices.known()?.into_iter().map(|index| {
            let counted = if index < 0 { index.saturating_add(size as i64) } else { index };
            usize::try_from(counted)
                .ok()
                .filter(|at| *at < size)
                .ok_or_else(|| Refusal::new(format!("indices below {size}"), index.to_string()))
        });
        let positions = positions.collect::<Outcome<Vec<_>>>()?;
        let value = self.taken(placed.value, along, &positions)?;
        let taken = Placed { value, ..placed };
        // The axis makes way for those of the indices: a scalar's are none.
        let mut target = self.file_dims(taken);
        let Some(of_file) = (0..target.len()).find(|axis| placed.graph_axis(*axis) == along) else {
            unreachable!("each axis has a place")
        };
        target.splice(of_file..=of_file, indices.shape.iter().map(|size| Dim::Fixed(*size)));
        let result = self.reshaped(taken, &target)?;
        self.define_placed(node, result)
    }

    /// Rows of a table by the model's input.
    fn embedding(&mut self, node: &NodeView<'a>, table: &Tensor, indices: Placed) -> Outcome {
        let dims = self.dims(indices.value);
        let is_input = self.graph.input_is_indices && indices.value == self.graph.input;
        let ([_, width], [_, Dim::Fixed(length)], 0, true) = (&table.shape[..], &dims[..], node.int("axis", 0)?, is_input) else {
            let found = format!("a table {:?} and indices {dims:?} along axis {}", table.shape, node.int("axis", 0)?);
            return Err(Refusal::new("rows [entries, width] by the model's input of indices [N, T]", found));
        };
        let (length, width) = (*length, *width);
        let weight = self.parameter(table, "weight")?;
        let shape = vec![dims[0], Dim::Fixed(length), Dim::Fixed(width)];
        let value = self.add_layer(weight, Op::Embedding(weight), vec![indices.value], shape)?;
        self.define_value(node, value)
    }

    pub(super) fn pad(&mut self, node: &NodeView<'a>) -> Outcome {
        let placed = self.placed(node, 0)?;
        let dims = self.file_dims(placed);
        let rank = dims.len();
        let mode = node.string("mode", "constant")?;
        let fill = match self.optional_constant(node, 2)? {
            Some(value) => value.reals()?.to_vec(),
            None => vec![node.float("value", 0.0)?],
        };
        if mode != "constant" || fill.iter().any(|value| *value != 0.0) {
            return Err(Refusal::new("zeros around samples", format!("{mode} {fill:?}")));
        }
        let pads = self.ints(node, if node.has("paddings") { "paddings" } else { "pads" }, 1)?.unwrap_or_default();
        let axes = match self.optional_constant(node, 3)? {
            Some(axes) => axes.known()?,
            None => (0..rank as i64).collect(),
        };
        super::attributes::axes(&axes, rank)?;
        if pads.len() != 2 * axes.len() {
            return Err(Refusal::new(format!("two pads for each of {} axes", axes.len()), pads.len().to_string()));
        }
        let mut padding = vec![(0usize, 0usize); rank];
        let mut value = placed.value;
        for (index, along) in axes.iter().enumerate() {
            let along = placed.graph_axis(axis(*along, rank)?);
            let (before, after) = (pads[index], pads[index + axes.len()]);
            if (before, after) == (0, 0) {
                continue;
            }
            if along == 0 {
                return Err(Refusal::new("zeros around samples", "samples of zeros around the batch"));
            }
            // What a negative pad cuts off is a slice.
            let size = self.sample(value)[along - 1];
            let cut = |pad: i64| usize::try_from(pad.min(0).unsigned_abs()).unwrap_or(usize::MAX).min(size);
            let range = SliceRange { start: cut(before), end: size - cut(after), step: 1 };
            if range.start >= range.end {
                return Err(Refusal::new(format!("pads that leave something of {size}"), format!("{before} and {after}")));
            }
            value = self.sliced(value, along, range)?;
            let zeros = |pad: i64| usize::try_from(pad.max(0)).unwrap_or(usize::MAX).min(MAX_SAMPLE);
            padding[along] = (zeros(before), zeros(after));
        }
        if padding.iter().any(|pads| *pads != (0, 0)) {
            value = self.padded(value, &padding[1..])?;
        }
        self.define_placed(node, Placed { value, ..placed })
    }

    /// Zeros around a sample.
    pub(super) fn padded(&mut self, value: ValueId, padding: &[(usize, usize)]) -> Outcome<ValueId> {
        let sample: Vec<usize> =
            self.sample(value).iter().zip(padding).map(|(size, (before, after))| size + before + after).collect();
        let shape = self.with_sample(value, &sample);
        self.add(Op::Pad(padding.to_vec()), vec![value], shape)
    }

    pub(super) fn resize(&mut self, node: &NodeView<'a>) -> Outcome {
        let value = self.value(node, 0)?;
        let dims = self.dims(value);
        let sample = self.sample(value);
        let upsample = node.operator() == "Upsample";
        let mode = node.string("mode", "nearest")?;
        if mode != "nearest" {
            return Err(Refusal::operator("nearest neighbours by whole factors", format!("mode {mode}")));
        }
        let [scales_at, sizes_at] = if upsample || node.opset < 11 { [1, usize::MAX] } else { [2, 3] };
        let scales = match node.floats("scales")? {
            Some(scales) => scales,
            None => self
                .optional_constant(node, scales_at)?
                .map(|scales| scales.reals().map(<[f32]>::to_vec))
                .transpose()?
                .unwrap_or_default(),
        };
        let policy = node.string("keep_aspect_ratio_policy", "stretch")?;
        let axes = node.ints("axes")?.unwrap_or_else(|| (0..dims.len() as i64).collect());
        let mut factor = vec![1usize; dims.len()];
        let sizes = if scales.is_empty() { Some(self.constant(node, sizes_at)?) } else { None };
        let count = sizes.as_ref().map_or(scales.len(), |sizes| sizes.len());
        if count != axes.len() || policy != "stretch" {
            return Err(Refusal::new(format!("a factor or size for each of {} axes", axes.len()), format!("{count}, {policy}")));
        }
        super::attributes::axes(&axes, dims.len())?;
        for (index, along) in axes.iter().enumerate() {
            let along = axis(*along, dims.len())?;
            let whole = match &sizes {
                Some(sizes) => match (sizes.sizes()?[index], dims[along]) {
                    (size, dim) if size == size_of(dim) => Some(1),
                    (Size::Known(size), Dim::Batch(_)) => self.batch.filter(|batch| *batch as i64 == size).map(|_| 1),
                    (Size::Known(size), Dim::Fixed(old)) => {
                        usize::try_from(size).ok().filter(|size| size.is_multiple_of(old)).map(|size| size / old)
                    }
                    _ => None,
                },
                None => Some(scales[index])
                    .filter(|scale| scale.fract() == 0.0 && (1.0..65536.0).contains(scale))
                    .map(|scale| scale as usize),
            };
            factor[along] = whole.filter(|factor| *factor > 0).ok_or_else(|| {
                Refusal::operator(
                    "nearest neighbours by whole factors",
                    format!("axis {along} of {dims:?} by {scales:?} or to {sizes:?}"),
                )
            })?;
        }
        let (image, is_row) = match sample[..] {
            [_, _, _] => (value, false),
            [_, _] => (self.as_image(value)?, true),
            _ => return Err(Refusal::new("images or rows", format!("{dims:?}"))),
        };
        if is_row {
            factor.insert(2, 1);
        }
        let [1, 1, vertical, horizontal] = factor[..] else {
            return Err(Refusal::operator("factors of height and width alone", format!("{factor:?}")));
        };
        if !upsample && node.opset >= 11 {
            let (coordinates, nearest) = (
                node.string("coordinate_transformation_mode", "half_pixel")?,
                node.string("nearest_mode", "round_prefer_floor")?,
            );
            let copies = |factor: usize, size: usize| copies_pixels(&coordinates, &nearest, factor, size);
            let image = self.sample(image);
            if !copies(vertical, image[1]) || !copies(horizontal, image[2]) {
                return Err(Refusal::operator(
                    "nearest neighbours that make a block of each pixel",
                    format!("{coordinates} and {nearest}"),
                ));
            }
        }
        let old = self.sample(image);
        let new = [old[0], old[1].saturating_mul(vertical), old[2].saturating_mul(horizontal)];
        let shape = self.with_sample(image, &new);
        let output = self.add(Op::ResizeNearest([vertical, horizontal]), vec![image], shape)?;
        let output = if is_row { self.as_row_of_image(output)? } else { output };
        self.define_value(node, output)
    }

    /// Shape of two activations that stretch to each other, the batch first.
    pub(super) fn stretched_dims(&self, a: ValueId, b: ValueId) -> Outcome<Vec<Dim>> {
        let (left, right) = (self.dims(a), self.dims(b));
        if left.len() != right.len() || left[0] != right[0] {
            return Err(Refusal::new("operands of as many dimensions", format!("{left:?} and {right:?}")));
        }
        Ok(self.with_sample(a, &broadcast_shapes(&self.sample(a), &self.sample(b))?))
    }
}

/// Whether a nearest-neighbour resize of an axis by a whole factor gives every pixel `factor` times, as ONNX computes it.
fn copies_pixels(coordinates: &str, nearest: &str, factor: usize, size: usize) -> bool {
    let source = |x: usize| {
        let (x, scale) = (x as f32, factor as f32);
        let at = match coordinates {
            "half_pixel" | "half_pixel_symmetric" => (x + 0.5) / scale - 0.5,
            "pytorch_half_pixel" if size * factor > 1 => (x + 0.5) / scale - 0.5,
            "asymmetric" => x / scale,
            _ => return None,
        };
        let rounded = match nearest {
            "floor" => at.floor(),
            "ceil" => at.ceil(),
            "round_prefer_floor" => (at - 0.5).ceil(),
            "round_prefer_ceil" => (at + 0.5).floor(),
            _ => return None,
        };
        Some((rounded.max(0.0) as usize).min(size - 1))
    };
    // Away from the edges the pattern repeats.
    let count = size.min(4).saturating_mul(factor);
    factor == 1 || (0..count).all(|x| source(x) == Some(x / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_count_as_onnx_does() {
        let cut = |start, end, step| Cut { start: Size::Known(start), end: Size::Known(end), step }.indices(5).unwrap();
        assert_eq!(cut(0, i64::MAX, 1), [0, 1, 2, 3, 4]);
        assert_eq!(cut(-2, i64::MAX, 1), [3, 4]);
        assert_eq!(cut(1, -1, 2), [1, 3]);
        assert_eq!(cut(-1, i64::MIN, -2), [4, 2, 0]);
        assert_eq!(cut(3, 0, -1), [3, 2, 1]);
        assert_eq!(cut(4, 2, 1), [] as [usize; 0]);
        assert_eq!(cut(i64::MIN, i64::MAX, i64::MAX), [0]);
    }

    #[test]
    fn nearest_modes_that_make_blocks() {
        assert!(copies_pixels("asymmetric", "floor", 3, 5));
        assert!(copies_pixels("half_pixel", "round_prefer_floor", 2, 5));
        assert!(copies_pixels("half_pixel", "round_prefer_floor", 3, 5));
        assert!(copies_pixels("asymmetric", "round_prefer_floor", 2, 5));
        assert!(!copies_pixels("asymmetric", "round_prefer_floor", 3, 5));
        assert!(!copies_pixels("half_pixel", "floor", 2, 5));
        assert!(!copies_pixels("align_corners", "floor", 2, 5));
    }
}
