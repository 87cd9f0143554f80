//! Convolutions. One-dimensional ones are two-dimensional ones of height 1 between reshapes.

use burn::tensor::ops::ConvOptions;

use super::Importer;
use super::attributes::NodeView;
use super::interface::MAX_SAMPLE;
use super::refusal::{Outcome, Refusal};
use super::tensor::Tensor;
use crate::graph::{ConstantId, Op, Transposed, ValueId};
use crate::nn::SliceRange;

/// A sliding window over height and width.
pub(super) struct Window {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    /// `(before, after)`; a `ceil_mode` counts as more after.
    pub(super) padding: [(usize, usize); 2],
    /// What of the padding after is there for the sake of a `ceil_mode`.
    pub(super) ceiling: [usize; 2],
    /// Positions.
    pub(super) output: [usize; 2],
}

impl Window {
    /// The window of a node over an image of `size`, which is a row of height 1 where `kernel` has one number.
    pub(super) fn of(node: &NodeView, kernel: &[usize], size: [usize; 2]) -> Outcome<Self> {
        let axes = kernel.len();
        let lift = |list: &[usize]| match *list {
            [width] => Some([1, width]),
            [height, width] => Some([height, width]),
            _ => None,
        };
        let dimensions = || Refusal::new("a window of 1 or 2 dimensions", format!("{axes}"));
        let (stride, dilation) = (node.positive("strides", axes)?, node.positive("dilations", axes)?);
        let (Some(kernel), Some(stride), Some(dilation)) = (lift(kernel), lift(&stride), lift(&dilation)) else {
            return Err(dimensions());
        };
        let pads = pads(node, axes)?;
        let auto = node.string("auto_pad", "NOTSET")?;
        let ceil = node.flag("ceil_mode", false)?;
        let (mut padding, mut ceiling, mut output) = ([(0, 0); 2], [0; 2], [0; 2]);
        for axis in 0..2 {
            let refuse = || Refusal::new("a window inside the padded image", format!("{kernel:?} over {size:?}"));
            let extent = (kernel[axis].checked_sub(1)).and_then(|rest| rest.checked_mul(dilation[axis])?.checked_add(1));
            let extent = extent.filter(|extent| *extent <= MAX_SAMPLE && stride[axis] <= MAX_SAMPLE).ok_or_else(refuse)?;
            let (mut before, mut after) = pads[axis];
            match auto.as_str() {
                "NOTSET" | "" => {}
                "VALID" => (before, after) = (0, 0),
                "SAME_UPPER" | "SAME_LOWER" => {
                    let reach = (size[axis].div_ceil(stride[axis]) - 1) * stride[axis] + extent;
                    let total = reach.saturating_sub(size[axis]);
                    (before, after) =
                        if auto == "SAME_UPPER" { (total / 2, total - total / 2) } else { (total - total / 2, total / 2) };
                }
                other => return Err(Refusal::new("auto_pad NOTSET, VALID, SAME_UPPER or SAME_LOWER", other)),
            }
            let slack = (size[axis] + before + after).checked_sub(extent).ok_or_else(refuse)?;
            let mut count = slack / stride[axis] + 1;
            // The last window of a ceil_mode begins inside the image or the padding before it.
            if ceil && !slack.is_multiple_of(stride[axis]) && count * stride[axis] < size[axis] + before {
                ceiling[axis] = stride[axis] - slack % stride[axis];
                after += ceiling[axis];
                count += 1;
            }
            padding[axis] = (before, after);
            output[axis] = count;
        }
        Ok(Self { kernel, stride, dilation, padding, ceiling, output })
    }
}

/// `(before, after)` of height and width; a row has none above and below.
fn pads(node: &NodeView, axes: usize) -> Outcome<[(usize, usize); 2]> {
    let list = node.ints("pads")?.unwrap_or_else(|| vec![0; 2 * axes]);
    let sizes: Vec<usize> = list.iter().filter_map(|pad| usize::try_from(*pad).ok()).filter(|pad| *pad <= MAX_SAMPLE).collect();
    match (sizes.len() == list.len(), &sizes[..]) {
        (true, [before, after]) if axes == 1 => Ok([(0, 0), (*before, *after)]),
        (true, [top, left, bottom, right]) if axes == 2 => Ok([(*top, *bottom), (*left, *right)]),
        _ => Err(Refusal::new(format!("{} pads of at least 0", 2 * axes), format!("{list:?}"))),
    }
}

/// What both convolutions read.
struct Layer {
    image: ValueId,
    is_row: bool,
    size: [usize; 2],
    c_in: usize,
    weight: Tensor,
    kernel: Vec<usize>,
    groups: usize,
}

impl<'a> Importer<'a> {
    /// `[N, C, L]` as an image of height 1.
    pub(super) fn as_image(&mut self, value: ValueId) -> Outcome<ValueId> {
        let [c, l] = self.sample(value)[..] else {
            return Err(Refusal::new("[N, C, L]", format!("{:?}", self.dims(value))));
        };
        let shape = self.with_sample(value, &[c, 1, l]);
        self.add_part("image", Op::Reshape, vec![value], shape)
    }

    /// An image of height 1 as `[N, C, L]`.
    pub(super) fn as_row_of_image(&mut self, value: ValueId) -> Outcome<ValueId> {
        let sample = self.sample(value);
        let shape = self.with_sample(value, &[sample[0], sample[2]]);
        self.add_part("row", Op::Reshape, vec![value], shape)
    }

    fn layer(&mut self, node: &NodeView<'a>) -> Outcome<Layer> {
        let value = self.value(node, 0)?;
        let weight = self.constant(node, 1)?;
        weight.reals()?;
        let (image, is_row) = match self.sample(value).len() {
            2 => (self.as_image(value)?, true),
            3 => (value, false),
            _ => return Err(Refusal::new("images or rows", format!("{:?}", self.dims(value)))),
        };
        let [c_in, h, w] = self.sample(image)[..] else { unreachable!("an image has three dimensions") };
        let [c_0, c_1, kernel @ ..] = &weight.shape[..] else {
            return Err(Refusal::new("a weight of 3 or 4 dimensions", format!("{:?}", weight.shape)));
        };
        let kernel = kernel.to_vec();
        let lifted = match (is_row, &kernel[..]) {
            (true, [l]) => vec![*c_0, *c_1, 1, *l],
            (false, [_, _]) => weight.shape.clone(),
            _ => {
                return Err(Refusal::new(
                    "a weight that fits the input",
                    format!("{:?} on {:?}", weight.shape, self.dims(value)),
                ));
            }
        };
        if let Some(shape) = node.ints("kernel_shape")?
            && !shape.iter().eq(kernel.iter().map(|size| *size as i64).collect::<Vec<_>>().iter())
        {
            return Err(Refusal::new(format!("a kernel_shape {kernel:?}"), format!("{shape:?}")));
        }
        let groups = usize::try_from(node.int("group", 1)?).unwrap_or(0);
        if weight.shape.contains(&0) || groups == 0 || !c_in.is_multiple_of(groups) {
            return Err(Refusal::new(
                "groups that divide the channels",
                format!("{groups} of {c_in}, weight {:?}", weight.shape),
            ));
        }
        let weight = weight.reshaped(lifted)?;
        Ok(Layer { image, is_row, size: [h, w], c_in, weight, kernel, groups })
    }

    fn bias(&mut self, node: &NodeView<'a>, c_out: usize) -> Outcome<Option<ConstantId>> {
        let Some(bias) = self.optional_constant(node, 2)? else { return Ok(None) };
        if bias.shape != [c_out] {
            return Err(Refusal::new(format!("a bias [{c_out}]"), format!("{:?}", bias.shape)));
        }
        self.parameter(&bias, "bias").map(Some)
    }

    pub(super) fn conv(&mut self, node: &NodeView<'a>) -> Outcome {
        let layer = self.layer(node)?;
        let Layer { image, is_row, size, c_in, ref weight, ref kernel, groups } = layer;
        let c_out = weight.shape[0];
        if !c_out.is_multiple_of(groups) || weight.shape[1].checked_mul(groups) != Some(c_in) {
            let expected = format!("a weight [c_out, {c_in} / {groups}, ..]");
            return Err(Refusal::new(expected, format!("{:?}", weight.shape)));
        }
        let window = Window::of(node, kernel, size)?;
        let id = self.parameter(weight, "weight")?;
        let bias = self.bias(node, c_out)?;
        let options = ConvOptions::new_with_padding(window.stride, window.padding, window.dilation, groups);
        let shape = self.with_sample(image, &[c_out, window.output[0], window.output[1]]);
        let output = self.add_layer(id, Op::Conv2d { weight: id, bias, norm: None, options }, vec![image], shape)?;
        let output = if is_row { self.as_row_of_image(output)? } else { output };
        self.define_value(node, output)
    }

    pub(super) fn conv_transpose(&mut self, node: &NodeView<'a>) -> Outcome {
        let layer = self.layer(node)?;
        let Layer { image, is_row, size, c_in, ref weight, ref kernel, groups } = layer;
        let c_out = weight.shape[1].checked_mul(groups);
        let (Some(c_out), true) = (c_out, weight.shape[0] == c_in) else {
            return Err(Refusal::new(format!("a weight [{c_in}, c_out / {groups}, ..]"), format!("{:?}", weight.shape)));
        };
        let axes = kernel.len();
        let lift = |list: Vec<usize>, one: usize| if axes == 1 { [one, list[0]] } else { [list[0], list[1]] };
        let (stride, dilation) = (lift(node.positive("strides", axes)?, 1), lift(node.positive("dilations", axes)?, 1));
        let kernel = lift(kernel.clone(), 1);
        let added = node.ints("output_padding")?.unwrap_or_else(|| vec![0; axes]);
        let added: Vec<usize> =
            added.iter().filter_map(|size| usize::try_from(*size).ok()).filter(|size| *size <= MAX_SAMPLE).collect();
        if added.len() != axes {
            return Err(Refusal::new(format!("{axes} output_padding of at least 0"), format!("{added:?}")));
        }
        let output_padding = lift(added, 0);
        let mut pads = pads(node, axes)?;
        let wanted = node.ints("output_shape")?;
        let auto = node.string("auto_pad", "NOTSET")?;
        let mut whole = [0usize; 2];
        for axis in 0..2 {
            let spread = (size[axis] - 1).checked_mul(stride[axis]);
            let extent = (kernel[axis] - 1).checked_mul(dilation[axis]);
            let sum =
                spread.zip(extent).and_then(|(spread, extent)| spread.checked_add(extent)?.checked_add(1 + output_padding[axis]));
            whole[axis] =
                sum.filter(|size| *size <= MAX_SAMPLE).ok_or_else(|| Refusal::new("an image of at most 2^31", "more"))?;
            let of_axis = (axis + axes).checked_sub(2);
            let target = match (&wanted, of_axis, auto.as_str()) {
                (Some(list), Some(at), _) => {
                    Some(list.iter().rev().take(axes).rev().nth(at).and_then(|size| usize::try_from(*size).ok()))
                }
                (None, Some(_), "SAME_UPPER" | "SAME_LOWER") => Some(size[axis].checked_mul(stride[axis])),
                (None, _, "NOTSET" | "") => None,
                (_, _, "VALID") => Some(Some(whole[axis])),
                (_, None, _) => None,
                (_, _, other) => return Err(Refusal::new("auto_pad NOTSET, VALID, SAME_UPPER or SAME_LOWER", other)),
            };
            if let Some(target) = target {
                let total = target.and_then(|target| whole[axis].checked_sub(target));
                let total =
                    total.ok_or_else(|| Refusal::new(format!("an output of at most {}", whole[axis]), format!("{target:?}")))?;
                pads[axis] = if auto == "SAME_UPPER" { (total / 2, total - total / 2) } else { (total - total / 2, total / 2) };
            }
        }
        let id = self.parameter(weight, "weight")?;
        let bias = self.bias(node, c_out)?;
        // The graph cuts as much from either side; what is left over goes by a slice.
        let padding = [pads[0].0.min(pads[0].1), pads[1].0.min(pads[1].1)];
        let cut = [0, 1].map(|axis| whole[axis].checked_sub(2 * padding[axis]).filter(|size| *size > 0));
        let [Some(h), Some(w)] = cut else {
            return Err(Refusal::new("an output of at least one pixel", format!("{whole:?} less {pads:?}")));
        };
        let options = Transposed { stride, padding, output_padding, dilation, groups };
        let shape = self.with_sample(image, &[c_out, h, w]);
        let mut output = self.add_layer(id, Op::ConvTranspose2d { weight: id, bias, norm: None, options }, vec![image], shape)?;
        for (axis, size) in [(0, h), (1, w)] {
            let (before, after) = (pads[axis].0 - padding[axis], pads[axis].1 - padding[axis]);
            let end = size.checked_sub(after).filter(|end| *end > before);
            let end = end.ok_or_else(|| Refusal::new("an output of at least one pixel", format!("{whole:?} less {pads:?}")))?;
            output = self.sliced(output, axis + 2, SliceRange { start: before, end, step: 1 })?;
        }
        let output = if is_row { self.as_row_of_image(output)? } else { output };
        self.define_value(node, output)
    }
}
