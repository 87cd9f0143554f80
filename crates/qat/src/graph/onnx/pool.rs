//! Pools, and reductions over axes of a sample.

use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

use super::attributes::{NodeView, axes};
use super::convolution::Window;
use super::refusal::{Outcome, Refusal};
use super::{Importer, Placed};
use crate::graph::{Dim, Op, ValueId};

impl<'a> Importer<'a> {
    pub(super) fn pool(&mut self, node: &NodeView<'a>) -> Outcome {
        let value = self.value(node, 0)?;
        let (image, is_row) = match self.sample(value).len() {
            2 => (self.as_image(value)?, true),
            3 => (value, false),
            _ => return Err(Refusal::new("images or rows", format!("{:?}", self.dims(value)))),
        };
        let [channels, h, w] = self.sample(image)[..] else { unreachable!("an image has three dimensions") };
        if node.operator() == "GlobalAveragePool" {
            let shape = self.with_sample(image, &[channels, 1, 1]);
            let output = self.add(Op::AdaptiveAvgPool2d([1, 1]), vec![image], shape)?;
            return self.leave_image(node, output, is_row);
        }
        if node.operator() == "GlobalMaxPool" {
            let output = self.max_of_image(image)?;
            return self.leave_image(node, output, is_row);
        }
        let kernel = node.positive("kernel_shape", if is_row { 1 } else { 2 })?;
        let window = Window::of(node, &kernel, [h, w])?;
        let shape = self.with_sample(image, &[channels, window.output[0], window.output[1]]);
        // A window of nothing but padding has no maximum and no mean.
        for (axis, size) in [h, w].into_iter().enumerate() {
            let extent = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
            let (before, _) = window.padding[axis];
            let last = (window.output[axis] - 1) * window.stride[axis];
            if before >= extent || last >= before + size {
                return Err(Refusal::new(
                    "windows that reach into the image",
                    format!("{:?} padded by {:?}", window.kernel, window.padding),
                ));
            }
        }
        let output = if node.operator() == "MaxPool" {
            let mut options = MaxPoolOptions::new(window.kernel).with_stride(window.stride).with_dilation(window.dilation);
            options.padding = window.padding;
            self.add(Op::MaxPool2d(options), vec![image], shape)?
        } else {
            let include = node.flag("count_include_pad", false)?;
            let padded = window.padding != [(0, 0); 2];
            if window.dilation != [1, 1] || (include && window.ceiling != [0, 0]) {
                let found = format!("dilations {:?}, ceil_mode with count_include_pad {include}", window.dilation);
                return Err(Refusal::operator("an average without dilation, and without padding counted beyond the pads", found));
            }
            let mut options =
                AvgPoolOptions::new(window.kernel).with_stride(window.stride).with_count_include_pad(include && padded);
            options.padding = window.padding;
            self.add(Op::AvgPool2d(options), vec![image], shape)?
        };
        self.leave_image(node, output, is_row)
    }

    fn leave_image(&mut self, node: &NodeView<'a>, image: ValueId, is_row: bool) -> Outcome {
        let output = if is_row { self.as_row_of_image(image)? } else { image };
        self.define_value(node, output)
    }

    /// The maximum of each channel of an image.
    fn max_of_image(&mut self, image: ValueId) -> Outcome<ValueId> {
        let [channels, h, w] = self.sample(image)[..] else { unreachable!("an image has three dimensions") };
        let shape = self.with_sample(image, &[channels, 1, 1]);
        self.add(Op::MaxPool2d(MaxPoolOptions::new([h, w])), vec![image], shape)
    }

    pub(super) fn reduce(&mut self, node: &NodeView<'a>) -> Outcome {
        let placed = self.placed(node, 0)?;
        let dims = self.file_dims(placed);
        let list = self.ints(node, "axes", 1)?.unwrap_or_default();
        if list.is_empty() {
            if node.flag("noop_with_empty_axes", false)? {
                return self.define_placed(node, placed);
            }
            return Err(Refusal::new("axes other than the batch axis", "all axes"));
        }
        let reduced = axes(&list, dims.len())?;
        if reduced.contains(&placed.batch_axis) {
            return Err(Refusal::new("axes other than the batch axis", format!("{list:?}")));
        }
        let mut of_graph: Vec<usize> = reduced.iter().map(|axis| placed.graph_axis(*axis)).collect();
        of_graph.sort_unstable();
        let mut shape = self.dims(placed.value);
        let mut count = 1usize;
        for axis in &of_graph {
            if let Dim::Fixed(size) = shape[*axis] {
                count = count.saturating_mul(size);
            }
            shape[*axis] = Dim::Fixed(1);
        }
        let value = match node.operator() {
            "ReduceMax" if of_graph == [2, 3] && dims.len() == 4 => self.max_of_image(placed.value)?,
            "ReduceMax" => {
                return Err(Refusal::operator("a maximum over height and width", format!("axes {list:?} of {dims:?}")));
            }
            "ReduceSum" => {
                let mean = self.add_part("mean", Op::Mean(of_graph), vec![placed.value], shape.clone())?;
                self.add(Op::MulScalar(count as f32), vec![mean], shape)?
            }
            _ => self.add(Op::Mean(of_graph), vec![placed.value], shape)?,
        };
        let result = Placed { value, ..placed };
        if node.flag("keepdims", true)? {
            return self.define_placed(node, result);
        }
        let kept = self.file_dims(result);
        let kept: Vec<Dim> =
            kept.into_iter().enumerate().filter(|(axis, _)| !reduced.contains(axis)).map(|(_, dim)| dim).collect();
        let result = self.reshaped(result, &kept)?;
        self.define_placed(node, result)
    }
}
