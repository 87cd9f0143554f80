//! Shapes: what is read of them, and reshapes of activations, in which the batch axis has to stay recognisable.

use super::attributes::{NodeView, axes, axis};
use super::fold::shape_range;
use super::refusal::{Outcome, Refusal};
use super::tensor::{Elements, Size, Tensor};
use super::{Importer, Operand, Placed};
use crate::graph::{Dim, Op};

/// The shape that a node asks for.
pub(super) struct Target {
    /// −1 for what is left over.
    pub(super) sizes: Vec<Size>,
    /// Whether 0 is a size instead of "as before".
    pub(super) allow_zero: bool,
}

/// Shape to which both stretch.
pub(super) fn broadcast_shapes(a: &[usize], b: &[usize]) -> Outcome<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis]);
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (a, b) if a == b => Ok(a),
            (1, other) | (other, 1) => Ok(other),
            _ => Err(Refusal::new("shapes that stretch to each other", format!("{a:?} and {b:?}"))),
        })
        .collect()
}

impl<'a> Importer<'a> {
    /// The file's order of an activation's dimensions.
    pub(super) fn file_dims(&self, placed: Placed) -> Vec<Dim> {
        placed.file_order(&self.dims(placed.value))
    }

    pub(super) fn shape(&mut self, node: &NodeView<'a>) -> Outcome {
        let Operand::Value(placed) = self.operand(node, 0)? else {
            return Err(Refusal::new("an activation", "part of a gelu"));
        };
        let sizes: Vec<Size> = self.file_dims(placed).into_iter().map(size_of).collect();
        let tensor = match node.operator() {
            "Shape" => {
                let range = shape_range(node, sizes.len())?;
                Tensor::integers(sizes[range].to_vec())
            }
            _ => {
                let size = sizes.into_iter().try_fold(Size::Known(1), Size::mul);
                let size = size.ok_or_else(|| Refusal::new("a size within 64 bits", "more"))?;
                Tensor::new(vec![], Elements::Integer(vec![size]))
            }
        };
        self.define(node, 0, Operand::Constant(tensor.into()));
        Ok(())
    }

    /// The shape that a Reshape, Flatten, Squeeze, Unsqueeze or Expand asks for of a tensor of `shape`.
    pub(super) fn target(&self, node: &NodeView<'a>, shape: &[Size]) -> Outcome<Target> {
        let rank = shape.len();
        let sizes = match node.operator() {
            "Reshape" => {
                let sizes = self.constant(node, 1)?.sizes()?.to_vec();
                return Ok(Target { sizes, allow_zero: node.flag("allowzero", false)? });
            }
            "Flatten" => {
                let at = node.int("axis", 1)?;
                let at = if at == rank as i64 { rank } else { axis(at, rank)? };
                let product = |sizes: &[Size]| sizes.iter().copied().try_fold(Size::Known(1), Size::mul);
                let both = [product(&shape[..at]), product(&shape[at..])];
                both.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| Refusal::new("sizes within 64 bits", "more"))?
            }
            "Squeeze" => {
                let removed = match self.ints(node, "axes", 1)? {
                    Some(list) => axes(&list, rank)?,
                    None => (0..rank).filter(|axis| shape[*axis] == Size::Known(1)).collect(),
                };
                // A batch that the file fixes at 1 may be squeezed there, which no graph can follow.
                if let Some(axis) = removed.iter().find(|axis| shape[**axis] != Size::Known(1)) {
                    return Err(Refusal::new("axes of size 1", format!("axis {axis} of {shape:?}")));
                }
                (0..rank).filter(|axis| !removed.contains(axis)).map(|axis| shape[axis]).collect()
            }
            _ => {
                let list = self.ints(node, "axes", 1)?.ok_or_else(|| Refusal::new("axes", "none"))?;
                let added = axes(&list, rank + list.len())?;
                let mut rest = shape.iter().copied();
                (0..rank + list.len())
                    .map(|axis| if added.contains(&axis) { Some(Size::Known(1)) } else { rest.next() })
                    .collect::<Option<Vec<_>>>()
                    .unwrap_or_default()
            }
        };
        Ok(Target { sizes, allow_zero: true })
    }

    pub(super) fn reshape(&mut self, node: &NodeView<'a>) -> Outcome {
        let placed = self.placed(node, 0)?;
        let dims = self.file_dims(placed);
        if node.operator() == "Expand" {
            return self.expand(node, placed, &dims);
        }
        let sizes: Vec<Size> = dims.iter().copied().map(size_of).collect();
        let Target { sizes, allow_zero } = self.target(node, &sizes)?;
        let target = resolved(&dims, &sizes, allow_zero, self.batch)?;
        if let Some(order) = channel_moved(&dims, &target).filter(|_| placed.batch_axis == 0) {
            let value = self.permuted(placed.value, order)?;
            return self.define_placed(node, Placed { value, ..placed });
        }
        let result = self.reshaped(placed, &target)?;
        self.define_placed(node, result)
    }

    fn expand(&mut self, node: &NodeView<'a>, placed: Placed, dims: &[Dim]) -> Outcome {
        let sizes = self.constant(node, 1)?.sizes()?.to_vec();
        let missing = dims.len().checked_sub(sizes.len());
        let keeps = |(axis, size): (usize, &Size)| {
            let own = size_of(dims[axis + missing.unwrap_or(0)]);
            *size == Size::Known(1)
                || *size == own
                || (self.batch.is_some_and(|batch| *size == Size::Known(batch as i64)) && own == Size::Batch(1))
        };
        if missing.is_none() || !sizes.iter().enumerate().all(keeps) {
            return Err(Refusal::operator("an Expand that changes nothing", format!("{dims:?} to {sizes:?}")));
        }
        self.define_placed(node, placed)
    }

    /// An activation under another shape, which has the batch where the file's tensor has it.
    pub(super) fn reshaped(&mut self, placed: Placed, target: &[Dim]) -> Outcome<Placed> {
        let dims = self.file_dims(placed);
        if dims == target {
            return Ok(placed);
        }
        let batch_axis = target.iter().position(|dim| matches!(dim, Dim::Batch(_)));
        let Some(batch_axis) = batch_axis else { return Err(Refusal::new("a shape with the batch", format!("{target:?}"))) };
        // The graph has the batch first: what was before it in the file's tensor has to be before it still.
        let before = |dims: &[Dim], axis: usize| dims[..axis].iter().map(|dim| fixed(*dim)).product::<usize>();
        let (old, new) = (before(&dims, placed.batch_axis), before(target, batch_axis));
        let keeps_batch = dims[placed.batch_axis] == target[batch_axis];
        if old != new || (old != 1 && !keeps_batch) {
            let found = format!("{dims:?} to {target:?}");
            return Err(Refusal::new("a reshape that keeps samples apart", found));
        }
        let mut shape = target.to_vec();
        let batch = shape.remove(batch_axis);
        shape.insert(0, batch);
        if shape == self.dims(placed.value) {
            return Ok(Placed { value: placed.value, batch_axis });
        }
        let value = self.add(Op::Reshape, vec![placed.value], shape)?;
        Ok(Placed { value, batch_axis })
    }
}

pub(super) fn size_of(dim: Dim) -> Size {
    match dim {
        Dim::Batch(times) => Size::Batch(times as i64),
        Dim::Fixed(size) => Size::Known(size as i64),
    }
}

fn fixed(dim: Dim) -> usize {
    match dim {
        Dim::Batch(size) | Dim::Fixed(size) => size,
    }
}

/// The dimensions that a reshape of a tensor of `dims` asks for by `sizes`.
///
/// Which of them is the batch follows from shape arithmetic, or from −1; a file that fixes the batch size, or was traced
/// with a batch of 1, has it in its constants, as first dimension.
fn resolved(dims: &[Dim], sizes: &[Size], allow_zero: bool, batch: Option<usize>) -> Outcome<Vec<Dim>> {
    let refuse = || Refusal::new(format!("a shape that {dims:?} fills whatever the batch size"), format!("{sizes:?}"));
    let elements = dims.iter().map(|dim| fixed(*dim)).try_fold(1usize, usize::checked_mul).ok_or_else(refuse)?;
    let mut target = Vec::with_capacity(sizes.len());
    let mut open = None;
    for (axis, size) in sizes.iter().enumerate() {
        target.push(match size {
            Size::Known(0) if !allow_zero => *dims.get(axis).ok_or_else(refuse)?,
            Size::Known(-1) if open.is_none() => {
                open = Some(axis);
                Dim::Fixed(1)
            }
            Size::Known(size) => Dim::Fixed(usize::try_from(*size).ok().filter(|size| *size > 0).ok_or_else(refuse)?),
            Size::Batch(times) => Dim::Batch(usize::try_from(*times).ok().filter(|times| *times > 0).ok_or_else(refuse)?),
        });
    }
    let product = |target: &[Dim]| target.iter().map(|dim| fixed(*dim)).try_fold(1usize, usize::checked_mul);
    let batches = target.iter().filter(|dim| matches!(dim, Dim::Batch(_))).count();
    let known = product(&target).ok_or_else(refuse)?;
    match (batches, open) {
        (1, None) if known == elements => Ok(target),
        (1, Some(axis)) if elements.is_multiple_of(known) => {
            target[axis] = Dim::Fixed(elements / known);
            Ok(target)
        }
        (0, None | Some(1..)) => {
            // The batch size is in the first constant.
            let first = target.first().map(|dim| fixed(*dim)).ok_or_else(refuse)?;
            let size = batch.unwrap_or(1);
            let is_batch = first.is_multiple_of(size) && (batch.is_some() || first == 1 || open.is_some());
            let rest = (known / first).checked_mul(first / size).filter(|_| is_batch && first != 0);
            match (rest, open) {
                (Some(rest), None) if rest == elements => {
                    target[0] = Dim::Batch(first / size);
                    Ok(target)
                }
                (Some(rest), Some(axis)) if rest > 0 && elements.is_multiple_of(rest) && (batch.is_some() || first == 1) => {
                    target[0] = Dim::Batch(first / size);
                    target[axis] = Dim::Fixed(elements / rest);
                    Ok(target)
                }
                (_, Some(axis)) if elements.is_multiple_of(known) => {
                    target[axis] = Dim::Batch(elements / known);
                    Ok(target)
                }
                _ => Err(refuse()),
            }
        }
        (0, Some(axis)) if elements.is_multiple_of(known) => {
            target[axis] = Dim::Batch(elements / known);
            Ok(target)
        }
        _ => Err(refuse()),
    }
}

/// The order of axes by which an image of one channel, last, has it first, or the reverse: exporters write a reshape for it, which
/// is the same for the numbers but does not tell which axis is which.
fn channel_moved(dims: &[Dim], target: &[Dim]) -> Option<Vec<usize>> {
    let one = Dim::Fixed(1);
    match (dims, target) {
        _ if dims == target => None,
        ([a, h, w, channel], [b, first, y, x]) if a == b && [*channel, *first] == [one; 2] && [h, w] == [y, x] => {
            Some(vec![0, 3, 1, 2])
        }
        ([a, channel, h, w], [b, y, x, last]) if a == b && [*channel, *last] == [one; 2] && [h, w] == [y, x] => {
            Some(vec![0, 2, 3, 1])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: fn(i64) -> Size = Size::Known;

    fn of(dims: &[Dim], sizes: &[Size], batch: Option<usize>) -> Option<Vec<Dim>> {
        resolved(dims, sizes, false, batch).ok()
    }

    #[test]
    fn the_batch_is_found_in_every_way_that_exporters_write_it() {
        let image = [Dim::Batch(1), Dim::Fixed(8), Dim::Fixed(5), Dim::Fixed(5)];
        let row = Some(vec![Dim::Batch(1), Dim::Fixed(200)]);
        assert_eq!(of(&image, &[K(-1), K(200)], None), row);
        assert_eq!(of(&image, &[K(0), K(-1)], None), row);
        assert_eq!(of(&image, &[Size::Batch(1), K(-1)], None), row);
        assert_eq!(of(&image, &[Size::Batch(1), K(200)], None), row);
        assert_eq!(of(&image, &[K(1), K(200)], Some(1)), row);
        assert_eq!(of(&image, &[K(1), K(-1)], Some(1)), row);
        assert_eq!(of(&image, &[K(32), K(-1)], Some(32)), row);
        // Traced with a batch of 1, although the input's batch is a symbol.
        assert_eq!(of(&image, &[K(1), K(-1)], None), row);
        assert_eq!(of(&image, &[K(1), K(200)], None), row);
        // Time steps become samples, and samples time steps.
        let steps = [Dim::Batch(1), Dim::Fixed(7), Dim::Fixed(3)];
        let merged = [Dim::Batch(7), Dim::Fixed(3)];
        assert_eq!(of(&steps, &[K(-1), K(3)], None), Some(merged.to_vec()));
        assert_eq!(of(&steps, &[K(7), K(3)], Some(1)), Some(merged.to_vec()));
        assert_eq!(of(&merged, &[K(-1), K(7), K(3)], None), Some(steps.to_vec()));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let image = [Dim::Batch(1), Dim::Fixed(8), Dim::Fixed(25)];
        for sizes in [
            &[K(-1), K(3)][..],
            &[K(-1), K(-1)],
            &[K(2), K(100)],
            &[K(-2), K(100)],
            &[Size::Batch(1), K(201)],
            &[K(i64::MAX), K(i64::MAX)],
            &[],
        ] {
            assert_eq!(of(&image, sizes, None), None, "{sizes:?}");
        }
        assert_eq!(of(&image, &[K(31), K(200)], Some(32)), None);
    }
}
