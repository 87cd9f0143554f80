//! Products with a constant matrix, and what is folded into the layer before it.

use super::attributes::NodeView;
use super::fold::stretched;
use super::refusal::{Outcome, Refusal};
use super::tensor::Tensor;
use super::{Importer, Operand, Placed};
use crate::graph::{ConstantId, Dim, Op, ValueId};

/// A layer whose result only one node reads: what that node adds or multiplies per channel can be part of it.
#[derive(Clone, Copy)]
pub(super) struct Foldable {
    /// Its position among the graph's nodes.
    pub(super) node: usize,
    pub(super) channels: usize,
    /// The axis of the channels in the result that is read.
    pub(super) axis: usize,
    weight: ConstantId,
    bias: Option<ConstantId>,
    /// The axis of the output channels in the weight, and how many groups share it.
    weight_axis: usize,
    groups: usize,
}

impl<'a> Importer<'a> {
    pub(super) fn gemm(&mut self, node: &NodeView<'a>) -> Outcome {
        let value = self.value(node, 0)?;
        let weight = match self.operand(node, 1)? {
            Operand::Constant(weight) => weight,
            _ => return Err(Refusal::new("a constant matrix as second factor", "one that depends on the model's input")),
        };
        if node.flag("transA", false)? {
            return Err(Refusal::new("transA = 0", "transA = 1"));
        }
        let ([d_input], [_, _]) = (&self.sample(value)[..], &weight.shape[..]) else {
            return Err(Refusal::new("[N, D] by a matrix", format!("{:?} by {:?}", self.dims(value), weight.shape)));
        };
        let d_input = *d_input;
        let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
        let mut matrix = if node.flag("transB", false)? { transposed(&weight) } else { weight.as_ref().clone() };
        if matrix.shape[0] != d_input {
            return Err(Refusal::new(format!("a matrix of {d_input} inputs"), format!("{:?}", matrix.shape)));
        }
        let d_output = matrix.shape[1];
        scale(&mut matrix, alpha)?;
        let weight = self.parameter(&matrix, "weight")?;
        let bias = match self.optional_constant(node, 2)? {
            None => None,
            Some(bias) => {
                let is_row = bias.shape.iter().rev().skip(1).all(|size| *size == 1)
                    && [1, d_output].contains(bias.shape.last().unwrap_or(&1));
                if !is_row {
                    return Err(Refusal::new(format!("a bias [{d_output}]"), format!("{:?}", bias.shape)));
                }
                let mut row = if bias.len() == d_output {
                    bias.reshaped(vec![d_output])?
                } else {
                    stretched(&bias.reshaped(vec![])?, &[d_output])
                };
                scale(&mut row, beta)?;
                Some(self.parameter(&row, "bias")?)
            }
        };
        let shape = self.with_sample(value, &[d_output]);
        let output = self.add_layer(weight, Op::Linear { weight, bias }, vec![value], shape)?;
        self.define_value(node, output)
    }

    pub(super) fn mat_mul(&mut self, node: &NodeView<'a>) -> Outcome {
        match (self.operand(node, 0)?, self.operand(node, 1)?) {
            (Operand::Value(_), Operand::Constant(weight)) => {
                let placed = self.placed(node, 0)?;
                let leading = weight.shape.len().saturating_sub(2);
                let ([.., d_input, d_output], true) = (&weight.shape[..], weight.shape[..leading].iter().all(|size| *size == 1))
                else {
                    return Err(Refusal::new("one matrix as second factor", format!("{:?}", weight.shape)));
                };
                let dims = self.dims(placed.value);
                if placed.batch_axis + 1 == dims.len()
                    || dims.last() != Some(&Dim::Fixed(*d_input))
                    || weight.shape.len() > dims.len()
                {
                    return Err(Refusal::new(format!("an activation [.., {d_input}]"), format!("{dims:?}")));
                }
                let matrix = weight.reshaped(vec![*d_input, *d_output])?;
                let value = self.product(placed.value, &matrix)?;
                self.define_placed(node, Placed { value, ..placed })
            }
            (Operand::Constant(weight), Operand::Value(_)) => {
                let value = self.value(node, 1)?;
                let sample = self.sample(value);
                let rank = sample.len() + 1;
                let ([_, d_input], true) = (&weight.shape[..], rank >= 3) else {
                    return Err(Refusal::new(
                        "a matrix by matrices for each sample",
                        format!("{:?} by {:?}", weight.shape, self.dims(value)),
                    ));
                };
                if sample[rank - 3] != *d_input {
                    return Err(Refusal::new(format!("{d_input} rows"), format!("{:?}", self.dims(value))));
                }
                // W x is the transpose of xᵀ Wᵀ.
                let mut swap: Vec<usize> = (0..rank).collect();
                swap.swap(rank - 1, rank - 2);
                let columns = self.permuted(value, swap.clone())?;
                let product = self.product(columns, &transposed(&weight))?;
                let output = self.permuted(product, swap)?;
                self.define_value(node, output)
            }
            _ => {
                let (a, b) = (self.value(node, 0)?, self.value(node, 1)?);
                let (left, right) = (self.dims(a), self.dims(b));
                let rank = left.len();
                let fits = rank >= 3
                    && right.len() == rank
                    && left[..rank - 2] == right[..rank - 2]
                    && left[rank - 1] == right[rank - 2];
                if !fits {
                    let found = format!("{left:?} by {right:?}");
                    return Err(Refusal::new("matrices for each sample, the leading axes equal", found));
                }
                let mut shape = left;
                shape[rank - 1] = right[rank - 1];
                let output = self.add(Op::MatMul, vec![a, b], shape)?;
                self.define_value(node, output)
            }
        }
    }

    /// The product of an activation and a matrix `[d_input, d_output]`.
    fn product(&mut self, value: ValueId, matrix: &Tensor) -> Outcome<ValueId> {
        let weight = self.parameter(matrix, "weight")?;
        let mut sample = self.sample(value);
        if let Some(last) = sample.last_mut() {
            *last = matrix.shape[1];
        }
        let shape = self.with_sample(value, &sample);
        self.add_layer(weight, Op::Linear { weight, bias: None }, vec![value], shape)
    }

    /// The layer that gives input `index` of the node, which alone reads it; a reshape of a row stands between at most.
    pub(super) fn foldable(&self, node: &NodeView<'a>, index: usize) -> Option<Foldable> {
        let name = node.input(index)?;
        let Some(Operand::Value(Placed { value, batch_axis: 0 })) = self.operands.get(name) else { return None };
        if self.uses.get(name) != Some(&1) || self.graph.uses(*value) != 0 {
            return None;
        }
        let mut at = self.graph.producer(*value)?;
        let mut axis = 1;
        if self.graph.nodes[at].op == Op::Reshape {
            let image = self.graph.nodes[at].inputs[0];
            let (image_sample, row) = (self.sample(image), self.sample(*value));
            let is_row = matches!((&image_sample[..], &row[..]), ([c, 1, l], [d, m]) if c == d && l == m);
            if !is_row || self.graph.uses(image) != 1 {
                return None;
            }
            at = self.graph.producer(image)?;
            if matches!(self.graph.nodes[at].op, Op::Linear { .. }) {
                return None;
            }
        }
        let (weight, bias, weight_axis, groups) = match &self.graph.nodes[at].op {
            Op::Conv2d { weight, bias, norm: None, .. } => (*weight, *bias, 0, 1),
            Op::ConvTranspose2d { weight, bias, norm: None, options } => (*weight, *bias, 1, options.groups),
            Op::Linear { weight, bias } => {
                axis = self.dims(*value).len() - 1;
                (*weight, *bias, 1, 1)
            }
            _ => return None,
        };
        let channels = self.graph.constants[weight.0].data.shape().to_vec()[weight_axis].checked_mul(groups)?;
        Some(Foldable { node: at, channels, axis, weight, bias, weight_axis, groups })
    }

    /// Makes `factor · x + shift` of a layer's result `x` part of the layer; both have a number for each channel.
    pub(super) fn fold_into(
        &mut self,
        layer: Foldable,
        factor: Option<&[f32]>,
        shift: Option<(&[f32], Option<String>)>,
    ) -> Outcome {
        let name = self.graph.nodes[layer.node].name.clone();
        if let Some(factor) = factor {
            let data = &self.graph.constants[layer.weight.0].data;
            let shape = data.shape().to_vec();
            let inner: usize = shape[layer.weight_axis + 1..].iter().product();
            // Output channels of a transposed convolution: those of each group lie side by side.
            let (per_group, outer) = (shape[layer.weight_axis], shape[..layer.weight_axis].iter().product::<usize>());
            let rows_per_group = (outer / layer.groups).max(1);
            let channel = |at: usize| {
                let row = at / (per_group * inner);
                row / rows_per_group * per_group * usize::from(layer.groups > 1) + at / inner % per_group
            };
            let values = data.iter::<f32>().enumerate().map(|(at, value)| value * factor[channel(at)]).collect();
            let weight = self.parameter_at(format!("{name}.weight.folded"), &Tensor::real(shape, values))?;
            match &mut self.graph.nodes[layer.node].op {
                Op::Conv2d { weight: own, .. } | Op::ConvTranspose2d { weight: own, .. } | Op::Linear { weight: own, .. } => {
                    *own = weight
                }
                _ => unreachable!("a layer that was found foldable"),
            }
        }
        if factor.is_none() && shift.is_none() {
            return Ok(());
        }
        let old: Option<Vec<f32>> = layer.bias.map(|bias| self.graph.constants[bias.0].data.iter().collect());
        if old.is_none() && shift.is_none() {
            return Ok(());
        }
        let path = match (&old, &shift) {
            (None, Some((_, Some(path)))) => path.clone(),
            (None, _) => format!("{name}.bias"),
            _ => format!("{name}.bias.folded"),
        };
        let bias: Vec<f32> = (0..layer.channels)
            .map(|channel| {
                let old = old.as_ref().map_or(0.0, |old| old[channel]);
                old * factor.map_or(1.0, |factor| factor[channel]) + shift.as_ref().map_or(0.0, |(shift, _)| shift[channel])
            })
            .collect();
        let bias = self.parameter_at(path, &Tensor::real(vec![layer.channels], bias))?;
        match &mut self.graph.nodes[layer.node].op {
            Op::Conv2d { bias: own, .. } | Op::ConvTranspose2d { bias: own, .. } | Op::Linear { bias: own, .. } => {
                *own = Some(bias)
            }
            _ => unreachable!("a layer that was found foldable"),
        }
        Ok(())
    }

    /// The numbers of a constant, one for each channel of a layer, where it is one number or `[.., channels, ..]`.
    pub(super) fn per_channel(&self, layer: Foldable, tensor: &Tensor, rank: usize) -> Option<Vec<f32>> {
        let values = tensor.reals().ok()?;
        if values.len() == 1 && tensor.shape.len() <= rank {
            return Some(vec![values[0]; layer.channels]);
        }
        let missing = rank.checked_sub(tensor.shape.len())?;
        let fits = tensor
            .shape
            .iter()
            .enumerate()
            .all(|(axis, size)| *size == if axis + missing == layer.axis { layer.channels } else { 1 });
        let has_axis = layer.axis >= missing;
        (fits && has_axis).then(|| values.to_vec())
    }

    /// A parameter as one number for each of `channels`.
    pub(super) fn channel_parameter(&mut self, tensor: &Tensor, what: &str, channels: usize) -> Outcome<ConstantId> {
        if tensor.shape != [channels] {
            return Err(Refusal::new(format!("{what} [{channels}]"), format!("{:?}", tensor.shape)));
        }
        self.parameter(tensor, what)
    }
}

/// A matrix with rows and columns swapped, which is the same parameter.
pub(super) fn transposed(matrix: &Tensor) -> Tensor {
    Tensor { path: matrix.path.clone(), ..matrix.transposed(&[1, 0]) }
}

/// Numbers times a factor; they are then another parameter.
fn scale(tensor: &mut Tensor, factor: f32) -> Outcome {
    if factor != 1.0 {
        let values = tensor.reals()?.iter().map(|value| value * factor).collect();
        *tensor = Tensor::real(tensor.shape.clone(), values);
    }
    Ok(())
}
