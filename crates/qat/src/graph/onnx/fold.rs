//! Nodes on constants alone are computed while the file is read.
//!
//! Exporters leave arithmetic on shapes, weights that are cut, joined and transposed, and constants as nodes. Integers may be
//! multiples of the batch size (see `tensor`); real numbers are f32.

use std::rc::Rc;

use qat_formats::onnx::DataType;

use super::attributes::{NodeView, axes, axis};
use super::refusal::{Outcome, Refusal};
use super::shape::{Target, broadcast_shapes};
use super::tensor::{Elements, Size, Tensor, strides, walk};
use super::{Importer, Operand};

/// What is computed; for messages.
const KNOWN: &str = "arithmetic on constants that can be computed: Constant, ConstantOfShape, Cast, Identity, Reshape, Flatten, \
     Squeeze, Unsqueeze, Transpose, Slice, Split, Gather, Concat, Expand, Range, Shape, Size, Where, comparisons, +, −, ·, /, Pow, \
     Min, Max, MatMul, Neg, Abs, Sqrt, Reciprocal, Exp, Log, Floor, Ceil, Not or a reduction";

impl<'a> Importer<'a> {
    pub(super) fn fold(&mut self, node: &NodeView<'a>) -> Outcome {
        let inputs: Vec<Option<Rc<Tensor>>> =
            (0..node.node.input.len()).map(|index| self.optional_constant(node, index)).collect::<Outcome<_>>()?;
        let outputs = self.computed(node, &inputs)?;
        for (index, tensor) in outputs.into_iter().enumerate() {
            self.define(node, index, Operand::Constant(Rc::new(tensor)));
        }
        Ok(())
    }

    fn computed(&mut self, node: &NodeView<'a>, inputs: &[Option<Rc<Tensor>>]) -> Outcome<Vec<Tensor>> {
        let first = || self.constant(node, 0);
        let one = |tensor: Tensor| Ok(vec![tensor]);
        match node.operator() {
            "Constant" => one(self.constant_node(node)?),
            "ConstantOfShape" => {
                let shape = first()?;
                self.constant_of_shape(node, shape.sizes()?).map(|tensor| vec![tensor])
            }
            "Identity" | "Dropout" => one(first()?.as_ref().clone()),
            "Cast" => one(cast(first()?.as_ref(), node.int("to", 0)?)?),
            "Shape" | "Size" => {
                let tensor = first()?;
                if tensor.is_per_batch {
                    return Err(Refusal::new("a shape that is known", "that of a constant stretched to the batch"));
                }
                let sizes: Vec<Size> = tensor.shape.iter().map(|size| Size::Known(*size as i64)).collect();
                match node.operator() {
                    "Size" => one(Tensor::new(vec![], Elements::Integer(vec![Size::Known(tensor.len() as i64)]))),
                    _ => {
                        let range = shape_range(node, sizes.len())?;
                        one(Tensor::integers(sizes[range].to_vec()))
                    }
                }
            }
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
                let tensor = first()?;
                let Target { sizes, allow_zero } =
                    self.target(node, &tensor.shape.iter().map(|n| Size::Known(*n as i64)).collect::<Vec<_>>())?;
                one(tensor.reshaped(known_shape(&tensor, &sizes, allow_zero)?)?)
            }
            "Transpose" => {
                let tensor = first()?;
                let permutation = permutation(node, tensor.shape.len())?;
                let ordered = permutation.windows(2).all(|pair| pair[0] < pair[1]);
                self.spend(Some(tensor.len()))?;
                one(if ordered { tensor.as_ref().clone() } else { tensor.transposed(&permutation) })
            }
            "Slice" => {
                let tensor = first()?;
                let shape: Vec<Size> = tensor.shape.iter().map(|size| Size::Known(*size as i64)).collect();
                let cuts = self.cuts(node, &shape)?;
                self.spend(Some(tensor.len()))?;
                let (mut result, mut at) = (tensor.as_ref().clone(), 0);
                for (axis, cut) in cuts {
                    let indices = cut.indices(result.shape[axis])?;
                    result = taken(&result, axis, &indices);
                    at += 1;
                }
                if at > 0 && result.shape == tensor.shape {
                    result.path = None;
                }
                one(result)
            }
            "Split" => {
                let tensor = first()?;
                let axis = axis(node.int("axis", 0)?, tensor.shape.len())?;
                let parts = self.parts(node, tensor.shape[axis])?;
                self.spend(Some(tensor.len()))?;
                let ranges = parts.into_iter().scan(0, |start, size| {
                    *start += size;
                    Some(*start - size..*start)
                });
                Ok(ranges.map(|range| taken(&tensor, axis, &range.collect::<Vec<_>>())).collect())
            }
            "Gather" => {
                let (tensor, indices) = (first()?, self.constant(node, 1)?);
                let axis = axis(node.int("axis", 0)?, tensor.shape.len())?;
                let size = tensor.shape[axis] as i64;
                let mut at = Vec::with_capacity(indices.len());
                for index in indices.known()? {
                    let counted = if index < 0 { index.saturating_add(size) } else { index };
                    if !(0..size).contains(&counted) {
                        return Err(Refusal::new(format!("indices below {size}"), index.to_string()));
                    }
                    at.push(counted as usize);
                }
                let rest = tensor.len() / tensor.shape[axis].max(1);
                self.spend(rest.checked_mul(at.len()))?;
                let mut result = taken(&tensor, axis, &at);
                result.shape.splice(axis..=axis, indices.shape.iter().copied());
                one(result)
            }
            "Concat" => {
                let parts: Vec<&Tensor> = inputs.iter().flatten().map(Rc::as_ref).collect();
                let total = parts.iter().try_fold(0usize, |sum, part| sum.checked_add(part.len()));
                let result = concatenated(&parts, node.int("axis", 0)?)?;
                self.spend(total)?;
                one(result)
            }
            "Expand" => {
                let (tensor, shape) = (first()?, self.constant(node, 1)?);
                self.expanded(&tensor, shape.sizes()?).map(|tensor| vec![tensor])
            }
            "Range" => {
                let bounds = [self.constant(node, 0)?, self.constant(node, 1)?, self.constant(node, 2)?];
                let bounds = bounds.iter().map(|bound| bound.known()).collect::<Outcome<Vec<_>>>()?.concat();
                let [start, limit, delta] = bounds[..] else { return Err(Refusal::new("three numbers", format!("{bounds:?}"))) };
                if delta == 0 {
                    return Err(Refusal::new("a step other than 0", "0"));
                }
                let distance = if delta > 0 { limit.saturating_sub(start) } else { start.saturating_sub(limit) };
                let count = distance.max(0).unsigned_abs().div_ceil(delta.unsigned_abs());
                self.spend(usize::try_from(count).ok())?;
                let values = (0..count as i64).map(|index| Size::Known(start.saturating_add(delta.saturating_mul(index))));
                one(Tensor::integers(values.collect()))
            }
            "Where" => {
                let (condition, a, b) = (first()?, self.constant(node, 1)?, self.constant(node, 2)?);
                let shape = broadcast_shapes(&broadcast_shapes(&condition.shape, &a.shape)?, &b.shape)?;
                self.spend(count(&shape))?;
                let is_true: Vec<bool> = stretched(&condition, &shape).known()?.iter().map(|value| *value != 0).collect();
                let (a, b) = (stretched(&a, &shape), stretched(&b, &shape));
                one(Tensor::new(shape, chosen(&is_true, &a.elements, &b.elements)?))
            }
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" | "Mod" | "Equal" | "Less" | "Greater" | "LessOrEqual"
            | "GreaterOrEqual" | "And" | "Or" | "Sum" => {
                let parts: Vec<Rc<Tensor>> = inputs.iter().flatten().cloned().collect();
                let Some((first, rest)) = parts.split_first() else { return Err(Refusal::new("operands", "none")) };
                let mut result = first.as_ref().clone();
                result.path = None;
                for other in rest {
                    let shape = broadcast_shapes(&result.shape, &other.shape)?;
                    self.spend(count(&shape))?;
                    let is_per_batch = result.is_per_batch || other.is_per_batch;
                    let (a, b) = (stretched(&result, &shape), stretched(other, &shape));
                    let elements = combined(node.operator(), &a.elements, &b.elements)?;
                    result = Tensor { is_per_batch, ..Tensor::new(shape, elements) };
                }
                one(result)
            }
            "MatMul" => {
                let (a, b) = (first()?, self.constant(node, 1)?);
                self.product_of(&a, &b).map(|tensor| vec![tensor])
            }
            "Neg" | "Abs" | "Sqrt" | "Reciprocal" | "Exp" | "Log" | "Floor" | "Ceil" | "Not" => {
                let tensor = first()?;
                self.spend(Some(tensor.len()))?;
                let elements = mapped(node.operator(), &tensor.elements)?;
                one(Tensor { is_per_batch: tensor.is_per_batch, ..Tensor::new(tensor.shape.clone(), elements) })
            }
            "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceMean" => {
                let tensor = first()?;
                let list = self.ints(node, "axes", 1)?;
                let all = list.as_ref().is_none_or(Vec::is_empty);
                let reduced =
                    if all { (0..tensor.shape.len()).collect() } else { axes(&list.unwrap_or_default(), tensor.shape.len())? };
                let result = reduced_over(&tensor, &reduced, node.operator())?;
                if node.flag("keepdims", true)? {
                    return one(result);
                }
                let kept: Vec<usize> = (0..tensor.shape.len()).filter(|axis| !reduced.contains(axis)).collect();
                let shape = kept.iter().map(|axis| result.shape[*axis]).collect();
                one(result.reshaped(shape)?)
            }
            other => Err(Refusal::operator(KNOWN, other)),
        }
    }

    /// The product of two matrices.
    fn product_of(&mut self, a: &Tensor, b: &Tensor) -> Outcome<Tensor> {
        let ([rows, inner], [same, columns]) = (&a.shape[..], &b.shape[..]) else {
            return Err(Refusal::new("two matrices", format!("{:?} by {:?}", a.shape, b.shape)));
        };
        if inner != same {
            return Err(Refusal::new("matrices that fit", format!("{:?} by {:?}", a.shape, b.shape)));
        }
        self.spend(count(&[*rows, *inner, *columns]))?;
        let (left, right) = (a.reals()?, b.reals()?);
        let mut values = vec![0.0f32; rows * columns];
        for row in 0..*rows {
            for at in 0..*inner {
                let factor = left[row * inner + at];
                let sums = &mut values[row * columns..(row + 1) * columns];
                for (sum, value) in sums.iter_mut().zip(&right[at * columns..(at + 1) * columns]) {
                    *sum += factor * value;
                }
            }
        }
        Ok(Tensor { is_per_batch: a.is_per_batch, ..Tensor::real(vec![*rows, *columns], values) })
    }

    fn constant_node(&mut self, node: &NodeView<'a>) -> Outcome<Tensor> {
        if let Some(tensor) = node.tensor("value")? {
            if tensor.is_external() {
                return Err(Refusal::new("elements in the model's file", "a Constant with elements in another"));
            }
            let tensor = Tensor::of_file(tensor)?;
            self.elements[0] = self.elements[0].saturating_add(tensor.len());
            return Ok(tensor);
        }
        let integers = |values: Vec<i64>| Elements::Integer(values.into_iter().map(Size::Known).collect());
        if node.has("value_int") {
            return Ok(Tensor::new(vec![], integers(vec![node.int("value_int", 0)?])));
        }
        if node.has("value_float") {
            return Ok(Tensor::real(vec![], vec![node.float("value_float", 0.0)?]));
        }
        if let Some(values) = node.ints("value_ints")? {
            return Ok(Tensor::new(vec![values.len()], integers(values)));
        }
        match node.floats("value_floats")? {
            Some(values) => Ok(Tensor::real(vec![values.len()], values)),
            None => Err(Refusal::new("a tensor or numbers as value", "none or another kind")),
        }
    }

    /// A tensor of one number; where its shape has the batch size, it has one sample that stands for all.
    fn constant_of_shape(&mut self, node: &NodeView<'a>, sizes: &[Size]) -> Outcome<Tensor> {
        let value = match node.tensor("value")? {
            Some(tensor) if !tensor.is_external() => Tensor::of_file(tensor)?,
            Some(_) => return Err(Refusal::new("a value in the model's file", "one in another")),
            None => Tensor::real(vec![1], vec![0.0]),
        };
        if value.len() != 1 {
            return Err(Refusal::new("a value of one element", value.len().to_string()));
        }
        let value = Tensor { shape: vec![], ..value };
        self.expanded(&value, sizes)
    }

    /// A constant stretched to a shape; an axis of the batch size stays 1.
    fn expanded(&mut self, tensor: &Tensor, sizes: &[Size]) -> Outcome<Tensor> {
        let mut is_per_batch = tensor.is_per_batch;
        let mut shape = Vec::with_capacity(sizes.len());
        for size in sizes {
            shape.push(match size {
                Size::Batch(1) => {
                    is_per_batch = true;
                    1
                }
                Size::Known(size) if *size >= 0 => usize::try_from(*size).unwrap_or(usize::MAX),
                other => return Err(Refusal::new("sizes", format!("{other:?}"))),
            });
        }
        let shape = broadcast_shapes(&tensor.shape, &shape)?;
        self.spend(count(&shape))?;
        let path = if shape == tensor.shape { tensor.path.clone() } else { None };
        Ok(Tensor { is_per_batch, path, ..stretched(tensor, &shape) })
    }
}

/// The part of a shape that a Shape node asks for.
pub(super) fn shape_range(node: &NodeView, rank: usize) -> Outcome<std::ops::Range<usize>> {
    let at = |position: i64| {
        let counted = if position < 0 { position.saturating_add(rank as i64) } else { position };
        counted.clamp(0, rank as i64) as usize
    };
    let (start, end) = (at(node.int("start", 0)?), at(node.int("end", rank as i64)?));
    Ok(start..end.max(start))
}

/// The order of axes of a Transpose node.
pub(super) fn permutation(node: &NodeView, rank: usize) -> Outcome<Vec<usize>> {
    let Some(list) = node.ints("perm")? else { return Ok((0..rank).rev().collect()) };
    let order = list.iter().map(|one| axis(*one, rank)).collect::<Outcome<Vec<_>>>()?;
    if axes(&list, rank)?.len() == rank && order.len() == rank {
        Ok(order)
    } else {
        Err(Refusal::new(format!("an order of {rank} axes"), format!("{list:?}")))
    }
}

fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))
}

/// Sizes that a Reshape of a constant asks for.
fn known_shape(tensor: &Tensor, sizes: &[Size], allow_zero: bool) -> Outcome<Vec<usize>> {
    let mut shape = Vec::with_capacity(sizes.len());
    let mut open = None;
    for (axis, size) in sizes.iter().enumerate() {
        shape.push(match size {
            Size::Known(-1) if open.is_none() => {
                open = Some(axis);
                1
            }
            Size::Known(0) if !allow_zero => *tensor.shape.get(axis).unwrap_or(&0),
            Size::Known(size) if *size >= 0 => *size as usize,
            // A constant of one sample stands for all.
            Size::Batch(1) if tensor.is_per_batch => 1,
            other => return Err(Refusal::new("sizes", format!("{other:?}"))),
        });
    }
    if let Some(axis) = open {
        let rest = count(&shape).filter(|rest| *rest > 0);
        shape[axis] = tensor.len() / rest.ok_or_else(|| Refusal::new("sizes above 0", format!("{shape:?}")))?;
    }
    Ok(shape)
}

fn cast(tensor: &Tensor, to: i64) -> Outcome<Tensor> {
    let to = i32::try_from(to).ok().and_then(|to| DataType::try_from(to).ok());
    let elements = match (to, &tensor.elements) {
        (Some(DataType::Float | DataType::Double), Elements::Real(_)) => return Ok(tensor.clone()),
        (Some(DataType::Int64 | DataType::Int32), Elements::Integer(_)) => return Ok(tensor.clone()),
        (Some(DataType::Float | DataType::Double), Elements::Integer(_)) => {
            Elements::Real(tensor.known()?.into_iter().map(|value| value as f32).collect())
        }
        (Some(DataType::Int64 | DataType::Int32), Elements::Real(values)) => {
            Elements::Integer(values.iter().map(|value| Size::Known(*value as i64)).collect())
        }
        (Some(DataType::Bool), Elements::Integer(_)) => {
            Elements::Integer(tensor.known()?.into_iter().map(|value| Size::Known((value != 0).into())).collect())
        }
        (Some(DataType::Bool), Elements::Real(values)) => {
            Elements::Integer(values.iter().map(|value| Size::Known((*value != 0.0).into())).collect())
        }
        (other, _) => return Err(Refusal::new("a cast to float32, float64, int32, int64 or bool", format!("{other:?}"))),
    };
    Ok(Tensor { is_per_batch: tensor.is_per_batch, ..Tensor::new(tensor.shape.clone(), elements) })
}

/// The elements at `indices` of an axis.
fn taken(tensor: &Tensor, axis: usize, indices: &[usize]) -> Tensor {
    let mut shape = tensor.shape.clone();
    let strides = strides(&shape);
    let outer = walk(&shape[..axis], &strides[..axis]);
    let inner = walk(&shape[axis + 1..], &strides[axis + 1..]);
    let mut positions = Vec::with_capacity(outer.len() * indices.len() * inner.len());
    for start in &outer {
        for index in indices {
            positions.extend(inner.iter().map(|at| start + index * strides[axis] + at));
        }
    }
    shape[axis] = indices.len();
    tensor.picked(shape, &positions)
}

fn concatenated(parts: &[&Tensor], along: i64) -> Outcome<Tensor> {
    let Some(first) = parts.first() else { return Err(Refusal::new("parts", "none")) };
    let along = axis(along, first.shape.len())?;
    let alike = |part: &&Tensor| {
        let other = part.shape.iter().enumerate().filter(|(axis, _)| *axis != along).map(|(_, size)| size);
        let own = first.shape.iter().enumerate().filter(|(axis, _)| *axis != along).map(|(_, size)| size);
        part.shape.len() == first.shape.len() && own.eq(other)
    };
    if !parts.iter().all(alike) {
        let shapes: Vec<&Vec<usize>> = parts.iter().map(|part| &part.shape).collect();
        return Err(Refusal::new("parts that differ in one axis", format!("{shapes:?}")));
    }
    let mut shape = first.shape.clone();
    shape[along] = parts.iter().map(|part| part.shape[along]).sum();
    let outer: usize = shape[..along].iter().product();
    let rows = |part: &Tensor| part.len() / outer.max(1);
    let elements = match &first.elements {
        Elements::Real(_) => {
            let lists = parts.iter().map(|part| part.reals()).collect::<Outcome<Vec<_>>>()?;
            let row = |row: usize| {
                lists.iter().zip(parts).flat_map(move |(list, part)| &list[row * rows(part)..(row + 1) * rows(part)])
            };
            Elements::Real((0..outer).flat_map(row).copied().collect())
        }
        Elements::Integer(_) => {
            let lists = parts.iter().map(|part| part.sizes()).collect::<Outcome<Vec<_>>>()?;
            let row = |row: usize| {
                lists.iter().zip(parts).flat_map(move |(list, part)| &list[row * rows(part)..(row + 1) * rows(part)])
            };
            Elements::Integer((0..outer).flat_map(row).copied().collect())
        }
    };
    let mut result = Tensor::new(shape, elements);
    result.is_per_batch = parts.iter().any(|part| part.is_per_batch);
    Ok(result)
}

/// A constant repeated along its axes of size 1.
pub(super) fn stretched(tensor: &Tensor, shape: &[usize]) -> Tensor {
    if tensor.shape == shape {
        return tensor.clone();
    }
    let own = strides(&tensor.shape);
    let missing = shape.len() - tensor.shape.len();
    let stride = |axis: usize| match axis.checked_sub(missing) {
        Some(own_axis) if tensor.shape[own_axis] != 1 => own[own_axis],
        _ => 0,
    };
    let positions = walk(shape, &(0..shape.len()).map(stride).collect::<Vec<_>>());
    tensor.picked(shape.to_vec(), &positions)
}

fn chosen(is_first: &[bool], a: &Elements, b: &Elements) -> Outcome<Elements> {
    match (a, b) {
        (Elements::Real(a), Elements::Real(b)) => {
            Ok(Elements::Real(is_first.iter().zip(a.iter().zip(b)).map(|(first, (a, b))| if *first { *a } else { *b }).collect()))
        }
        (Elements::Integer(a), Elements::Integer(b)) => Ok(Elements::Integer(
            is_first.iter().zip(a.iter().zip(b)).map(|(first, (a, b))| if *first { *a } else { *b }).collect(),
        )),
        _ => Err(Refusal::new("operands of one type", "floats and integers")),
    }
}

fn combined(operator: &str, a: &Elements, b: &Elements) -> Outcome<Elements> {
    let unknown = || Refusal::operator(KNOWN, operator);
    match (a, b) {
        (Elements::Real(a), Elements::Real(b)) => {
            let pairs = a.iter().copied().zip(b.iter().copied());
            let truth = |of: fn(&f32, &f32) -> bool| {
                Elements::Integer(pairs.clone().map(|(a, b)| Size::Known(of(&a, &b).into())).collect())
            };
            let number: fn(f32, f32) -> f32 = match operator {
                "Add" | "Sum" => |a, b| a + b,
                "Sub" => |a, b| a - b,
                "Mul" => |a, b| a * b,
                "Div" => |a, b| a / b,
                "Pow" => f32::powf,
                "Min" => f32::min,
                "Max" => f32::max,
                "Equal" => return Ok(truth(f32::eq)),
                "Less" => return Ok(truth(f32::lt)),
                "Greater" => return Ok(truth(f32::gt)),
                "LessOrEqual" => return Ok(truth(f32::le)),
                "GreaterOrEqual" => return Ok(truth(f32::ge)),
                _ => return Err(unknown()),
            };
            Ok(Elements::Real(pairs.map(|(a, b)| number(a, b)).collect()))
        }
        (Elements::Real(a), Elements::Integer(b)) if operator == "Pow" => {
            let powers = b.iter().map(|size| size.known().map(|size| size as f32)).collect::<Option<Vec<_>>>();
            let powers = powers.ok_or_else(|| Refusal::new("exponents that are numbers", "the batch size"))?;
            Ok(Elements::Real(a.iter().zip(powers).map(|(a, b)| a.powf(b)).collect()))
        }
        (Elements::Integer(a), Elements::Integer(b)) => {
            let value = |a: Size, b: Size| -> Option<Size> {
                use std::cmp::Ordering::{Equal, Greater, Less};
                let truth = |of: &[std::cmp::Ordering]| a.order(b).map(|order| Size::Known(of.contains(&order).into()));
                match operator {
                    "Add" | "Sum" => a.add(b),
                    "Sub" => a.add(b.negated()?),
                    "Mul" => a.mul(b),
                    "Div" => a.div(b),
                    "Mod" => match (a, b) {
                        (Size::Known(a), Size::Known(b)) if b != 0 => {
                            Some(Size::Known(a.checked_rem(b)?.checked_add(b)?.checked_rem(b)?))
                        }
                        _ => None,
                    },
                    "Min" => a.order(b).map(|order| if order == Greater { b } else { a }),
                    "Max" => a.order(b).map(|order| if order == Less { b } else { a }),
                    "Equal" => truth(&[Equal]),
                    "Less" => truth(&[Less]),
                    "Greater" => truth(&[Greater]),
                    "LessOrEqual" => truth(&[Less, Equal]),
                    "GreaterOrEqual" => truth(&[Greater, Equal]),
                    "And" => Some(Size::Known((a.known()? != 0 && b.known()? != 0).into())),
                    "Or" => Some(Size::Known((a.known()? != 0 || b.known()? != 0).into())),
                    _ => None,
                }
            };
            let values = a.iter().zip(b).map(|(a, b)| value(*a, *b)).collect::<Option<Vec<_>>>();
            let values = values.ok_or_else(|| {
                Refusal::new("integers whose result is a number or a multiple of the batch size", format!("{operator} of others"))
            })?;
            Ok(Elements::Integer(values))
        }
        _ => Err(Refusal::new("operands of one type", "floats and integers")),
    }
}

fn mapped(operator: &str, elements: &Elements) -> Outcome<Elements> {
    let unknown = || Refusal::operator(KNOWN, format!("{operator} of integers"));
    match elements {
        Elements::Real(values) => {
            let function: fn(f32) -> f32 = match operator {
                "Neg" => |x| -x,
                "Abs" => f32::abs,
                "Sqrt" => f32::sqrt,
                "Reciprocal" => f32::recip,
                "Exp" => f32::exp,
                "Log" => f32::ln,
                "Floor" => f32::floor,
                "Ceil" => f32::ceil,
                _ => return Err(Refusal::operator(KNOWN, format!("{operator} of floats"))),
            };
            Ok(Elements::Real(values.iter().map(|value| function(*value)).collect()))
        }
        Elements::Integer(values) => {
            let value = |size: &Size| match operator {
                "Neg" => size.negated(),
                "Abs" => size.known().and_then(i64::checked_abs).map(Size::Known),
                "Not" => size.known().map(|value| Size::Known((value == 0).into())),
                _ => None,
            };
            Ok(Elements::Integer(values.iter().map(value).collect::<Option<Vec<_>>>().ok_or_else(unknown)?))
        }
    }
}

/// A reduction whose axes stay with size 1.
fn reduced_over(tensor: &Tensor, reduced: &[usize], operator: &str) -> Outcome<Tensor> {
    let shape: Vec<usize> =
        tensor.shape.iter().enumerate().map(|(axis, size)| if reduced.contains(&axis) { 1 } else { *size }).collect();
    let strides = strides(&tensor.shape);
    let kept = walk(&shape, &strides);
    let inner: Vec<usize> = reduced.iter().map(|axis| tensor.shape[*axis]).collect();
    let steps: Vec<usize> = reduced.iter().map(|axis| strides[*axis]).collect();
    let inner = walk(&inner, &steps);
    if inner.is_empty() {
        return Err(Refusal::new("axes that are not empty", format!("{:?}", tensor.shape)));
    }
    let name = match operator {
        "ReduceProd" => "Mul",
        "ReduceMax" => "Max",
        "ReduceMin" => "Min",
        _ => "Add",
    };
    let picked = |offset: usize| tensor.picked(shape.clone(), &kept.iter().map(|at| at + offset).collect::<Vec<_>>());
    let mut result = picked(inner[0]);
    for offset in &inner[1..] {
        result.elements = combined(name, &result.elements, &picked(*offset).elements)?;
    }
    if operator == "ReduceMean" {
        let count = inner.len() as f32;
        let values = result.reals()?.iter().map(|value| value / count).collect();
        result.elements = Elements::Real(values);
    }
    Ok(result)
}
