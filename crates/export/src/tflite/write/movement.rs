//! Operators that move numbers, and means.

use qat_formats::tflite::{
    BuiltinOperator as Operator, BuiltinOptions, ConcatenationOptions, ReducerOptions, ResizeNearestNeighborOptions,
    StridedSliceOptions,
};
use qat_runtime::{Concat, Mean, Node, Op, Pad, ResizeNearest, Slice};

use super::Writer;
use crate::{
    obstacle::Obstacle,
    tflite::{order::Order, version::version},
};

impl Writer<'_> {
    pub(super) fn concat(&mut self, node: &Node, op: Concat) -> Result<(), Obstacle> {
        let order = self.shared_order(node);
        let operands: Vec<i32> = node.inputs.iter().map(|&input| self.want(input, &order)).collect();
        let axis = order.position(op.axis) as i32 + 1;
        let version = version(Operator::CONCATENATION, self.numbers_of(node.output));
        let y = self.define(node.output, order);
        let options = ConcatenationOptions { axis, ..ConcatenationOptions::default() };
        self.graph.operator(Operator::CONCATENATION, version, &operands, y, options.into());
        Ok(())
    }

    pub(super) fn mean(&mut self, node: &Node, op: &Mean) -> Result<(), Obstacle> {
        let info = self.info(node.inputs[0]);
        let order = self.order_or_plain(node.inputs[0]);
        let x = self.want(node.inputs[0], &order);
        let mut axes: Vec<i32> = op.axes.iter().map(|&axis| order.position(axis) as i32 + 1).collect();
        axes.sort_unstable();
        let axes = self.graph.integers(&[axes.len() as i32], &axes);
        let version = version(Operator::MEAN, self.numbers_of(node.inputs[0]));
        let is_everything = !op.keep_dims && op.axes.len() == info.shape.len();
        let options = ReducerOptions { keep_dims: op.keep_dims || is_everything }.into();
        if is_everything {
            // A mean over all axes would leave the batch alone, and a sample is a vector at least.
            let y_info = self.info(node.output);
            let ones = vec![1; info.shape.len()];
            let y = self.tensor_like(y_info, format!("{}/mean", y_info.name), &ones);
            self.graph.operator(Operator::MEAN, version, &[x, axes], y, options);
            let target = self.define(node.output, Order::plain(1));
            self.reshape(y, target, &[1]);
            return Ok(());
        }
        let y = self.define(node.output, if op.keep_dims { order } else { order.without(&op.axes) });
        self.graph.operator(Operator::MEAN, version, &[x, axes], y, options);
        Ok(())
    }

    pub(super) fn reshape_node(&mut self, node: &Node) -> Result<(), Obstacle> {
        let (input, output) = (node.inputs[0], node.output);
        let (from, to) = (&self.info(input).shape, &self.info(output).shape);
        let plain = Order::plain(from.len());
        let order = self.order_or_plain(input);
        let is_read_by_linear_alone = self.readers[output.0].iter().all(|&at| matches!(self.model.nodes[at].op, Op::Linear(_)))
            && !self.readers[output.0].is_empty()
            && output != self.model.output;
        if !order.stands_as(&plain, from)
            && let Some(target) = order.beside_units(from, to)
        {
            // Axes of size 1 come and go; the others stay where they are.
            let x = self.want(input, &order);
            let shape = target.apply(to);
            let y = self.define(output, target);
            self.reshape(x, y, &shape);
            return Ok(());
        }
        let (x, is_turned) = if order.stands_as(&plain, from) {
            (self.want(input, &order), false)
        } else if order == Order::image() && to.len() == 1 && is_read_by_linear_alone {
            // The columns of the layer's weights are put in the order of the file instead of the vector in the sample's.
            self.flattened.insert(output, [from[0], from[1], from[2]]);
            (self.want(input, &order), true)
        } else {
            (self.want(input, &plain), false)
        };
        let image_order = Order::image();
        // An image whose order does not matter is written as the operators that follow want it.
        let target_order = match to.len() == 3 && !is_turned && Order::plain(3).stands_as(&image_order, to) {
            true => image_order,
            false => Order::plain(to.len()),
        };
        let shape = target_order.apply(to);
        let y = self.define(output, target_order);
        self.reshape(x, y, &shape);
        Ok(())
    }

    pub(super) fn pad(&mut self, node: &Node, op: &Pad) -> Result<(), Obstacle> {
        let order = self.order_or_plain(node.inputs[0]);
        let x = self.want(node.inputs[0], &order);
        let mut amounts = vec![0, 0];
        for (before, after) in order.apply(&op.before).into_iter().zip(order.apply(&op.after)) {
            amounts.extend([self.number(node, before)?, self.number(node, after)?]);
        }
        let amounts = self.graph.integers(&[(amounts.len() / 2) as i32, 2], &amounts);
        let y = self.define(node.output, order);
        let version = version(Operator::PAD, self.numbers_of(node.output));
        self.graph.operator(Operator::PAD, version, &[x, amounts], y, BuiltinOptions::Pad);
        Ok(())
    }

    pub(super) fn slice(&mut self, node: &Node, op: &Slice) -> Result<(), Obstacle> {
        let order = self.order_or_plain(node.inputs[0]);
        let x = self.want(node.inputs[0], &order);
        let list = |writer: &Self, first: i32, values: Vec<usize>| {
            let values: Result<Vec<i32>, _> = values.into_iter().map(|value| writer.number(node, value)).collect();
            values.map(|values| [vec![first], values].concat())
        };
        let begin = list(self, 0, order.apply(&op.start))?;
        let rank = begin.len() as i32;
        let begin = self.graph.integers(&[rank], &begin);
        let numbers = self.numbers_of(node.output);
        let y = self.define(node.output, order.clone());
        if op.step.iter().all(|&step| step == 1) {
            let size = list(self, self.graph.batch(), order.apply(&self.info(node.output).shape))?;
            let size = self.graph.integers(&[rank], &size);
            let version = version(Operator::SLICE, numbers);
            self.graph.operator(Operator::SLICE, version, &[x, begin, size], y, BuiltinOptions::Slice);
            return Ok(());
        }
        let end = list(self, 1, order.apply(&op.end))?;
        let step = list(self, 1, order.apply(&op.step))?;
        let operands = [x, begin, self.graph.integers(&[rank], &end), self.graph.integers(&[rank], &step)];
        // All of the batch, whatever its size.
        let options = StridedSliceOptions { begin_mask: 1, end_mask: 1, ..StridedSliceOptions::default() };
        let version = version(Operator::STRIDED_SLICE, numbers);
        self.graph.operator(Operator::STRIDED_SLICE, version, &operands, y, options.into());
        Ok(())
    }

    pub(super) fn resize_nearest(&mut self, node: &Node, _: ResizeNearest) -> Result<(), Obstacle> {
        let x = self.want(node.inputs[0], &Order::image());
        let shape = &self.info(node.output).shape;
        let size = [self.number(node, shape[1])?, self.number(node, shape[2])?];
        let size = self.graph.integers(&[2], &size);
        let version = version(Operator::RESIZE_NEAREST_NEIGHBOR, self.numbers_of(node.output));
        let y = self.define(node.output, Order::image());
        // Centres of pixels keep clear of the borders between them, so that no rounding moves one.
        let options = ResizeNearestNeighborOptions { align_corners: false, half_pixel_centers: true };
        self.graph.operator(Operator::RESIZE_NEAREST_NEIGHBOR, version, &[x, size], y, options.into());
        Ok(())
    }
}
