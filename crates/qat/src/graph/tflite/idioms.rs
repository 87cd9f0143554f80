//! What converters spell with several operators for one of a graph.
//!
//! * SPACE_TO_BATCH_ND, a convolution, BATCH_TO_SPACE_ND: a convolution with dilation.
//! * RESHAPE to a new axis of size 1, TILE along it, RESHAPE that joins it to the axis before: a nearest-neighbour resize.
//! * A layer, ADD of a number for each channel: a layer with bias.

use qat_formats::tflite::order::Order;
use qat_formats::tflite::{BuiltinOperator, BuiltinOptions, Padding};

use super::constants::Constant;
use super::{Activation, Reader, Refusal, Site};
use crate::graph::Op;

/// A dilated convolution that stands as an undilated one between two moves of pixels.
#[derive(Clone)]
pub(super) struct Dilated {
    /// What the first move reads.
    pub source: Activation,
    /// `[vertical, horizontal]`.
    pub dilation: [usize; 2],
    /// `[top, left, bottom, right]`.
    pub padding: [usize; 4],
}

/// An activation whose axis of size 1 is repeated, and nothing computed yet.
#[derive(Clone)]
pub(super) struct Tiled {
    source: Activation,
    axis: usize,
    times: usize,
}

impl Reader<'_> {
    /// The only operator that reads a tensor, which is not the model's output.
    fn only_operator(&self, tensor: usize) -> Option<usize> {
        match self.readers[tensor][..] {
            [reader] if tensor != self.output => Some(reader),
            _ => None,
        }
    }

    fn code(&self, operator: usize) -> Option<BuiltinOperator> {
        self.file.operator_code(&self.subgraph.operators[operator]).map(|code| code.builtin_code)
    }

    /// SPACE_TO_BATCH_ND before a convolution that BATCH_TO_SPACE_ND follows.
    pub(super) fn space_to_batch(&mut self, site: &Site) -> Result<(), Refusal> {
        const EXPECTED: &str =
            "a dilated convolution: a convolution with stride 1 and VALID padding alone, then BATCH_TO_SPACE_ND";
        use BuiltinOperator as B;
        let (source, y) = (self.activation(site, site.input(0)?)?, site.output()?);
        let found = || site.unsupported(EXPECTED, "other operators");
        let conv = self.only_operator(y).ok_or_else(found)?;
        let (padding, stride, dilation) = match &self.subgraph.operators[conv].builtin_options {
            BuiltinOptions::Conv2D(o) => (o.padding, [o.stride_h, o.stride_w], [o.dilation_h_factor, o.dilation_w_factor]),
            BuiltinOptions::DepthwiseConv2D(o) => {
                (o.padding, [o.stride_h, o.stride_w], [o.dilation_h_factor, o.dilation_w_factor])
            }
            _ => return Err(found()),
        };
        let is_plain = padding == Padding::VALID && stride == [1, 1] && dilation == [1, 1];
        let is_conv = matches!(self.code(conv), Some(B::CONV_2D | B::DEPTHWISE_CONV_2D));
        let result = self.subgraph.operators[conv].outputs.first().and_then(|&tensor| usize::try_from(tensor).ok());
        let back =
            result.and_then(|result| self.only_operator(result)).filter(|&back| self.code(back) == Some(B::BATCH_TO_SPACE_ND));
        let (Some(back), true, true) = (back, is_plain, is_conv) else { return Err(found()) };

        let amounts = |reader: &Self, operand: i32| reader.integers(site, usize::try_from(operand).map_err(|_| found())?);
        let operands = &self.subgraph.operators[back].inputs;
        let [_, blocks_back, crops] = operands[..] else { return Err(found()) };
        let (blocks, pads) = (self.integers(site, site.input(1)?)?, self.integers(site, site.input(2)?)?);
        let (blocks_back, crops) = (amounts(self, blocks_back)?, amounts(self, crops)?);
        let sizes = |list: &[i64]| list.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<Vec<_>>>();
        let (Some(blocks), Some(pads), Some(crops)) = (sizes(&blocks), sizes(&pads), sizes(&crops)) else { return Err(found()) };
        let (&[vertical, horizontal], true, &[top, bottom, left, right], &[cut_top, cut_bottom, cut_left, cut_right]) =
            (&blocks[..], sizes(&blocks_back).as_ref() == Some(&blocks), &pads[..], &crops[..])
        else {
            return Err(site.unsupported(EXPECTED, format!("blocks {blocks:?}, paddings {pads:?} and crops {crops:?}")));
        };
        let shape = self.shape(&source);
        let fits = shape.len() == 4
            && vertical > 0
            && horizontal > 0
            && (shape[1].saturating_add(top).saturating_add(bottom)).is_multiple_of(vertical)
            && (shape[2].saturating_add(left).saturating_add(right)).is_multiple_of(horizontal);
        let kept =
            (top.checked_sub(cut_top), left.checked_sub(cut_left), bottom.checked_sub(cut_bottom), right.checked_sub(cut_right));
        let ((Some(top), Some(left), Some(bottom), Some(right)), true) = (kept, fits) else {
            return Err(site.unsupported(EXPECTED, format!("paddings {pads:?} and crops {crops:?} of {shape:?}")));
        };
        let dilated = Dilated { source, dilation: [vertical, horizontal], padding: [top, left, bottom, right] };
        self.dilated.insert(y, dilated);
        Ok(())
    }

    /// The result of a dilated convolution, which is where it belongs already.
    pub(super) fn batch_to_space(&mut self, site: &Site) -> Result<(), Refusal> {
        let x = site.input(0)?;
        let is_dilated = self.subgraph.operators[..site.index].iter().any(|operator| {
            let reads = operator.inputs.first().and_then(|&tensor| usize::try_from(tensor).ok());
            operator.outputs == [x as i32] && reads.is_some_and(|tensor| self.dilated.contains_key(&tensor))
        });
        if !is_dilated {
            return Err(site.unsupported("the end of a dilated convolution", self.place(x)));
        }
        let activation = self.activation(site, x)?;
        self.define(site, site.output()?, activation)
    }

    /// TILE along one axis of size 1, which a RESHAPE is to join to the axis before it.
    pub(super) fn tile(&mut self, site: &Site) -> Result<(), Refusal> {
        let (source, y) = (self.activation(site, site.input(0)?)?, site.output()?);
        let shape = self.shape(&source);
        let multiples = self.integers(site, site.input(1)?)?;
        let repeated: Vec<usize> = (0..multiples.len()).filter(|&axis| multiples[axis] != 1).collect();
        let times = |axis: usize| usize::try_from(multiples[axis]).ok().filter(|&times| times > 1);
        match repeated[..] {
            [] if multiples.len() == shape.len() => self.define(site, y, source),
            [axis] if shape.get(axis) == Some(&1) && axis > usize::from(source.has_batch) && multiples.len() == shape.len() => {
                let Some(times) = times(axis) else {
                    return Err(site.unsupported("a whole factor", multiples[axis].to_string()));
                };
                self.tiled.insert(y, Tiled { source, axis, times });
                Ok(())
            }
            _ => {
                let found = format!("{multiples:?} times {shape:?}");
                Err(site.unsupported("rows or columns of an image, each repeated: UpSampling2D by nearest neighbours", found))
            }
        }
    }

    /// RESHAPE of what TILE has repeated; whether it was one.
    pub(super) fn is_joined_tile(&mut self, site: &Site) -> Result<bool, Refusal> {
        let (x, y) = (site.input(0)?, site.output()?);
        let Some(Tiled { source, axis, times }) = self.tiled.get(&x).cloned() else { return Ok(false) };
        let mut shape = self.shape(&source);
        shape[axis] = times;
        let target = self.target_shape(site, BuiltinOperator::RESHAPE, &shape)?;
        shape.remove(axis);
        let before = shape.clone();
        shape[axis - 1] = shape[axis - 1].saturating_mul(times);
        let found = || site.unsupported("a RESHAPE that joins the repeated axis to the one before it", format!("{target:?}"));
        // The same numbers may be told with further axes of size 1.
        if target != shape {
            let units = |list: &[usize]| list.iter().copied().filter(|&size| size != 1).collect::<Vec<_>>();
            if units(&target) != units(&shape) {
                return Err(found());
            }
        }
        let image = self.under_shape(site, &source, before)?;
        let factor = match (image.order.rank(), image.has_batch, axis - 1) {
            (3, true, 1) => [times, 1],
            (3, true, 2) => [1, times],
            _ => return Err(found()),
        };
        let value = self.in_order(&image, &Order::image());
        let sample = self.sample(value);
        let sample = [sample[0], sample[1].saturating_mul(factor[0]), sample[2].saturating_mul(factor[1])];
        let value = self.step(site, Op::ResizeNearest(factor), vec![value], &sample)?;
        let resized = Activation { value, order: Order::image(), has_batch: true };
        let resized = self.under_shape(site, &resized, target)?;
        self.define(site, y, resized)?;
        Ok(true)
    }

    /// ADD of a number for each channel to the layer that the operator's operand is, and which nothing else reads; whether it was
    /// one.
    pub(super) fn is_bias(
        &mut self,
        site: &Site,
        x: usize,
        activation: &Activation,
        numbers: &Constant<f32>,
    ) -> Result<bool, Refusal> {
        let Some(index) = self.graph.producer(activation.value) else { return Ok(false) };
        let axes = activation.order.axes();
        // A value that other tensors share may have readers besides.
        let is_alone = self.only_operator(x) == Some(site.index) && self.graph.uses(activation.value) == 0;
        let node = &self.graph.nodes[index];
        let (weight, bias) = match node.op {
            Op::Conv2d { weight, bias, .. } | Op::ConvTranspose2d { weight, bias, .. } if axes.last() == Some(&0) => {
                (weight, bias)
            }
            Op::Linear { weight, bias } if axes.last() == Some(&(axes.len() - 1)) => (weight, bias),
            _ => return Ok(false),
        };
        let channel = axes.last().copied().unwrap_or(0);
        let channels = self.sample(activation.value)[channel];
        let is_row = numbers.data.len() == channels && numbers.shape.last() == Some(&channels);
        // Layers that share a weight keep to one bias, or none.
        let is_shared = self.graph.nodes.iter().filter(|node| node.op.parameters().contains(&weight)).count() > 1;
        if !is_row || !is_alone || is_shared || self.layers.values().filter(|layer| layer.0 == weight).count() != 1 {
            return Ok(false);
        }
        let before: Vec<f32> = match bias {
            Some(bias) => self.graph.constants[bias.0].data.iter().collect(),
            None => vec![0.0; channels],
        };
        let path = self.graph.constants[weight.0].path.as_deref().and_then(|path| path.strip_suffix(".weight"));
        let path = path.map(|path| format!("{path}.bias"));
        let sum = before.iter().zip(numbers.data.iter()).map(|(before, added)| before + added).collect();
        let added = self.parameter(site, path, &Constant { shape: vec![channels], data: sum }, &[0], vec![channels])?;
        if let Op::Conv2d { bias, .. } | Op::ConvTranspose2d { bias, .. } | Op::Linear { bias, .. } =
            &mut self.graph.nodes[index].op
        {
            *bias = Some(added);
        }
        // A later application of the weight without this bias is another layer.
        self.layers.retain(|_, layer| layer.0 != weight);
        Ok(true)
    }
}
