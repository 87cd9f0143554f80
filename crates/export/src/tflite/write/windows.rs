//! Windows over images: pools, and how padding is said.

use qat_formats::tflite::{BuiltinOperator as Operator, BuiltinOptions, Padding, Pool2DOptions};
use qat_runtime::{AvgPool2d, Clamp, MaxPool2d, Node, ValueInfo};

use super::{Writer, bytes};
use crate::{
    obstacle::Obstacle,
    tflite::{order::Order, padding, version::version},
};

impl Writer<'_> {
    /// How a window's padding is said: by SAME, VALID, or a PAD before it, whose result is returned in place of `x`.
    pub(super) fn window(
        &mut self,
        node: &Node,
        x: i32,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
        dilation: [usize; 2],
    ) -> Result<(Padding, i32), Obstacle> {
        let info = self.info(node.inputs[0]);
        if padding == [0; 4] {
            return Ok((Padding::VALID, x));
        }
        if padding == padding::same([info.shape[1], info.shape[2]], kernel, stride, dilation) {
            return Ok((Padding::SAME, x));
        }
        let [top, left, bottom, right] = padding;
        let padded = self.padded(node, x, info, [[top, bottom], [left, right], [0, 0]], None)?;
        Ok((Padding::VALID, padded))
    }

    /// `x`, an image in the order of the file, with elements around it: real 0, or a code.
    fn padded(
        &mut self,
        node: &Node,
        x: i32,
        info: &ValueInfo,
        amounts: [[usize; 2]; 3],
        code: Option<i16>,
    ) -> Result<i32, Obstacle> {
        let mut list = vec![0, 0];
        let mut shape = Vec::new();
        for (axis, [before, after]) in amounts.into_iter().enumerate() {
            list.extend([self.number(node, before)?, self.number(node, after)?]);
            shape.push(self.graph.shape(x)[axis + 1] as usize + before + after);
        }
        let y = &self.info(node.output).name;
        let padded = self.tensor_like(info, format!("{y}/padded"), &shape);
        let amounts = self.graph.integers(&[4, 2], &list);
        let numbers = self.numbers_of(node.inputs[0]);
        match code {
            None => {
                let version = version(Operator::PAD, numbers);
                self.graph.operator(Operator::PAD, version, &[x, amounts], padded, BuiltinOptions::Pad);
            }
            Some(code) => {
                let (r#type, quantization) = self.type_of(info);
                // Below every number that a float graph meets.
                let data = bytes(r#type, vec![i32::from(code)], |_| f32::MIN);
                let fill = self.graph.constant(format!("{y}/fill"), r#type, vec![1], data, quantization);
                let version = version(Operator::PADV2, numbers);
                self.graph.operator(Operator::PADV2, version, &[x, amounts, fill], padded, BuiltinOptions::PadV2);
            }
        }
        Ok(padded)
    }

    pub(super) fn max_pool2d(&mut self, node: &Node, op: &MaxPool2d) -> Result<(), Obstacle> {
        if op.dilation != [1, 1] {
            return Err(self.obstacle(node, "a pool without dilation", format!("{:?}", op.dilation)));
        }
        let info = self.info(node.inputs[0]);
        let x = self.want(node.inputs[0], &Order::image());
        let is_same = op.padding == padding::same([info.shape[1], info.shape[2]], op.kernel, op.stride, [1, 1]);
        let (padding, x) = if op.padding == [0; 4] {
            (Padding::VALID, x)
        } else if is_same {
            (Padding::SAME, x)
        } else {
            // The lowest code never wins against another.
            let [top, left, bottom, right] = op.padding;
            let lowest = Clamp::full(info.code_type).min;
            (Padding::VALID, self.padded(node, x, info, [[top, bottom], [left, right], [0, 0]], Some(lowest))?)
        };
        self.pool(node, Operator::MAX_POOL_2D, x, padding, op.kernel, op.stride)
    }

    pub(super) fn avg_pool2d(&mut self, node: &Node, op: &AvgPool2d) -> Result<(), Obstacle> {
        let (x_info, y_info) = (self.info(node.inputs[0]), self.info(node.output));
        if self.is_integer() && x_info.qparams != y_info.qparams {
            let expected = "an average pool that shares its input's parameters, as `for_target` makes it";
            let found = format!("scales {} and {}", x_info.qparams.scale, y_info.qparams.scale);
            return Err(self.obstacle(node, expected, found));
        }
        let x = self.want(node.inputs[0], &Order::image());
        let (padding, x) = if op.count_include_pad && op.padding != [0; 4] {
            let [top, left, bottom, right] = op.padding;
            (Padding::VALID, self.padded(node, x, x_info, [[top, bottom], [left, right], [0, 0]], None)?)
        } else if op.padding == [0; 4] {
            (Padding::VALID, x)
        } else if op.padding == padding::same([x_info.shape[1], x_info.shape[2]], op.kernel, op.stride, [1, 1]) {
            (Padding::SAME, x)
        } else {
            let expected = "SAME padding, or padding that counts in the divisor";
            return Err(self.obstacle(node, expected, format!("{:?} that does not", op.padding)));
        };
        self.pool(node, Operator::AVERAGE_POOL_2D, x, padding, op.kernel, op.stride)
    }

    fn pool(
        &mut self,
        node: &Node,
        operator: Operator,
        x: i32,
        padding: Padding,
        kernel: [usize; 2],
        stride: [usize; 2],
    ) -> Result<(), Obstacle> {
        let [filter_height, filter_width] = self.pair(node, kernel)?;
        let [stride_h, stride_w] = self.pair(node, stride)?;
        let y = self.define(node.output, Order::image());
        let options = Pool2DOptions { padding, stride_w, stride_h, filter_width, filter_height, ..Pool2DOptions::default() };
        self.graph.operator(operator, version(operator, self.numbers_of(node.output)), &[x], y, options.into());
        Ok(())
    }
}
