//! Constants while a file is read: real numbers, and integers of which some are the batch size.

use qat_formats::onnx::{self, DataType};

use super::refusal::{Outcome, Refusal};

/// An integer that may grow with the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// A number.
    Known(i64),
    /// That many times the batch size; not 0.
    Batch(i64),
}

impl Size {
    pub(super) fn known(self) -> Option<i64> {
        match self {
            Self::Known(n) => Some(n),
            Self::Batch(_) => None,
        }
    }

    fn times(factor: i64) -> Self {
        if factor == 0 { Self::Known(0) } else { Self::Batch(factor) }
    }

    pub(super) fn add(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => Some(Self::Known(a.checked_add(b)?)),
            (Self::Batch(a), Self::Batch(b)) => Some(Self::times(a.checked_add(b)?)),
            (size, Self::Known(0)) | (Self::Known(0), size) => Some(size),
            _ => None,
        }
    }

    pub(super) fn negated(self) -> Option<Self> {
        match self {
            Self::Known(n) => Some(Self::Known(n.checked_neg()?)),
            Self::Batch(n) => Some(Self::Batch(n.checked_neg()?)),
        }
    }

    pub(super) fn mul(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => Some(Self::Known(a.checked_mul(b)?)),
            (Self::Batch(a), Self::Known(b)) | (Self::Known(b), Self::Batch(a)) => Some(Self::times(a.checked_mul(b)?)),
            _ => None,
        }
    }

    /// The quotient towards zero.
    pub(super) fn div(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => Some(Self::Known(a.checked_div(b)?)),
            (Self::Batch(a), Self::Batch(b)) if a.checked_rem(b)? == 0 => Some(Self::Known(a.checked_div(b)?)),
            (Self::Batch(a), Self::Known(b)) if a.checked_rem(b)? == 0 => Some(Self::times(a.checked_div(b)?)),
            _ => None,
        }
    }

    /// Order of two integers where it does not depend on the batch size, which is at least 1.
    pub(super) fn order(self, other: Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) | (Self::Batch(a), Self::Batch(b)) => Some(a.cmp(&b)),
            (Self::Batch(a), Self::Known(b)) if a > 0 && b < 1 => Some(std::cmp::Ordering::Greater),
            (Self::Known(a), Self::Batch(b)) if b > 0 && a < 1 => Some(std::cmp::Ordering::Less),
            _ => None,
        }
    }
}

/// The numbers of a constant, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Elements {
    /// Floats of any width, as f32.
    Real(Vec<f32>),
    /// Integers and truth values.
    Integer(Vec<Size>),
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    /// Empty for a scalar.
    pub(super) shape: Vec<usize>,
    pub(super) elements: Elements,
    /// The initializer whose numbers, in their order, it has.
    pub(super) path: Option<String>,
    /// Whether an axis of size 1 stands for the batch.
    pub(super) is_per_batch: bool,
}

impl Tensor {
    pub(super) fn new(shape: Vec<usize>, elements: Elements) -> Self {
        Self { shape, elements, path: None, is_per_batch: false }
    }

    pub(super) fn real(shape: Vec<usize>, values: Vec<f32>) -> Self {
        Self::new(shape, Elements::Real(values))
    }

    pub(super) fn integers(values: Vec<Size>) -> Self {
        Self::new(vec![values.len()], Elements::Integer(values))
    }

    pub(super) fn len(&self) -> usize {
        match &self.elements {
            Elements::Real(values) => values.len(),
            Elements::Integer(values) => values.len(),
        }
    }

    /// The elements of a tensor of the file, which has them itself.
    pub(super) fn of_file(tensor: &onnx::Tensor) -> Outcome<Self> {
        let elements = match tensor.element_type() {
            Some(DataType::Double) => doubles(tensor).map(Elements::Real),
            _ => tensor
                .to_f32s()
                .map(Elements::Real)
                .or_else(|| tensor.to_i64s().map(|values| Elements::Integer(values.into_iter().map(Size::Known).collect()))),
        };
        let elements = elements
            .ok_or_else(|| Refusal::new("floats or integers", format!("{:?} in {:?}", tensor.element_type(), tensor.name())))?;
        let shape = tensor.dims.iter().map(|size| usize::try_from(*size)).collect::<Result<Vec<_>, _>>();
        let shape = shape.map_err(|_| Refusal::new("dimensions that are sizes", format!("{:?}", tensor.dims)))?;
        let tensor = Self::new(shape, elements);
        match tensor.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size)) {
            Some(count) if count == tensor.len() => Ok(tensor),
            _ => Err(Refusal::new("elements that fill the shape", format!("{} for {:?}", tensor.len(), tensor.shape))),
        }
    }

    /// Its real numbers.
    pub(super) fn reals(&self) -> Outcome<&[f32]> {
        match &self.elements {
            Elements::Real(values) => Ok(values),
            Elements::Integer(_) => Err(Refusal::new("a constant of floats", "one of integers")),
        }
    }

    /// Its integers, some of which may be the batch size.
    pub(super) fn sizes(&self) -> Outcome<&[Size]> {
        match &self.elements {
            Elements::Integer(values) => Ok(values),
            Elements::Real(_) => Err(Refusal::new("a constant of integers", "one of floats")),
        }
    }

    /// Its integers, none of which depends on the batch.
    pub(super) fn known(&self) -> Outcome<Vec<i64>> {
        let known = self.sizes()?.iter().map(|size| size.known()).collect::<Option<Vec<_>>>();
        known.ok_or_else(|| Refusal::new("integers that do not depend on the batch size", format!("{:?}", self.elements)))
    }

    /// The same numbers under another shape of as many elements.
    pub(super) fn reshaped(&self, shape: Vec<usize>) -> Outcome<Self> {
        match shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size)) {
            Some(count) if count == self.len() => Ok(Self { shape, ..self.clone() }),
            _ => Err(Refusal::new(format!("a shape of {} elements", self.len()), format!("{shape:?}"))),
        }
    }

    /// The elements at `positions`, in that order.
    pub(super) fn picked(&self, shape: Vec<usize>, positions: &[usize]) -> Self {
        let elements = match &self.elements {
            Elements::Real(values) => Elements::Real(positions.iter().map(|at| values[*at]).collect()),
            Elements::Integer(values) => Elements::Integer(positions.iter().map(|at| values[*at]).collect()),
        };
        Self { is_per_batch: self.is_per_batch, ..Self::new(shape, elements) }
    }

    /// Axes in another order; the path stays where the order of the numbers does.
    pub(super) fn transposed(&self, permutation: &[usize]) -> Self {
        let shape: Vec<usize> = permutation.iter().map(|axis| self.shape[*axis]).collect();
        let strides = strides(&self.shape);
        let positions = walk(&shape, &permutation.iter().map(|axis| strides[*axis]).collect::<Vec<_>>());
        self.picked(shape, &positions)
    }
}

/// Distance of neighbours along each axis of a row-major tensor.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// Positions that a row-major walk over `shape` visits where a step along an axis is `strides` long.
pub(super) fn walk(shape: &[usize], strides: &[usize]) -> Vec<usize> {
    let mut positions = vec![0usize];
    for (size, stride) in shape.iter().zip(strides) {
        positions = positions.iter().flat_map(|at| (0..*size).map(move |index| at + index * stride)).collect();
    }
    positions
}

/// Elements of a tensor of doubles, rounded to f32.
fn doubles(tensor: &onnx::Tensor) -> Option<Vec<f32>> {
    if tensor.is_external() {
        return None;
    }
    Some(match &tensor.raw_data {
        Some(raw) => raw.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes) as f32).collect(),
        None => tensor.double_data.iter().map(|value| *value as f32).collect(),
    })
}
