//! Layers with constants: convolutions, linear layers, tables of rows.

use qat_formats::tflite::{
    BuiltinOperator as Operator, BuiltinOptions, Conv2DOptions, DepthwiseConv2DOptions, FullyConnectedOptions, GatherOptions,
    Padding, TensorType, TransposeConvOptions,
};
use qat_runtime::{CodeType, Conv2d, ConvTranspose2d, Gather, Linear, Node, PackedCodes, WeightBits, Weights, dequantize};

use super::{Writer, with_batch};
use crate::{
    obstacle::Obstacle,
    tflite::{
        Form,
        graph::{per_channel, per_tensor},
        half,
        order::{Order, transpose},
        version::{Numbers, version},
    },
};

/// Codes of a layer as they stand in the file.
struct Kernel {
    codes: Vec<i8>,
    shape: Vec<usize>,
    /// That of the output channels.
    dimension: i32,
    /// In a dynamic-range file, the operator takes them as they are.
    is_hybrid: bool,
}

impl Writer<'_> {
    /// Weight and bias tensors of a layer.
    fn weights(&mut self, index: usize, node: &Node, weights: &Weights, kernel: Kernel) -> Result<[i32; 2], Obstacle> {
        let Kernel { codes, shape, dimension, is_hybrid } = kernel;
        let x = self.info(node.inputs[0]);
        let layer = self.layers[index].clone();
        let shape: Vec<i32> = shape.iter().map(|&size| self.number(node, size)).collect::<Result<_, _>>()?;
        let (name, bias_name) = (format!("{layer}.weight"), format!("{layer}.bias"));
        let channels = vec![shape[dimension as usize]];
        let bias_scale = weights.scale.iter().map(|&s_w| x.qparams.scale * s_w);
        let kernel = match self.options.form {
            Form::Integer => {
                let bits = self.model.rules.weight_storage(&node.op, x.code_type).unwrap_or(WeightBits::Eight);
                let packed = PackedCodes::pack(&codes, bits).unwrap_or_else(|| PackedCodes::eight(&codes));
                let r#type = match packed.bits() {
                    WeightBits::Eight => TensorType::INT8,
                    WeightBits::Four => TensorType::INT4,
                    WeightBits::Two => TensorType::INT2,
                };
                let quantization = per_channel(&weights.scale, dimension);
                self.graph.constant(name, r#type, shape, packed.as_bytes().to_vec(), Some(quantization))
            }
            Form::DynamicRange => {
                let data = codes.iter().map(|code| code.cast_unsigned()).collect();
                let quantization = per_channel(&weights.scale, dimension);
                let stored = match is_hybrid {
                    true => name.clone(),
                    false => format!("{name}/codes"),
                };
                let kernel = self.graph.constant(stored, TensorType::INT8, shape.clone(), data, Some(quantization));
                if is_hybrid { kernel } else { self.dequantized(kernel, name, shape, 5) }
            }
            Form::Float16 => {
                // The output channel of each code: how often the codes after that dimension repeat.
                let inner: i32 = shape[dimension as usize + 1..].iter().product();
                let channel = |at: usize| at / inner as usize % weights.scale.len();
                let reals = codes.iter().enumerate().map(|(at, &code)| f32::from(code) * weights.scale[channel(at)]);
                let reals: Vec<f32> = reals.collect();
                let halves = self.halves(node, format!("{name}/float16"), shape.clone(), &reals)?;
                self.dequantized(halves, name, shape, 3)
            }
        };
        let bias = match (self.options.form, x.code_type) {
            (Form::Integer, CodeType::Int16) => {
                let data = weights.bias.iter().flat_map(|bias| bias.to_le_bytes()).collect();
                let quantization = per_channel(&bias_scale.collect::<Vec<_>>(), 0);
                self.graph.constant(bias_name, TensorType::INT64, channels, data, Some(quantization))
            }
            (Form::Integer, _) => {
                // The model is valid: its sums, biases included, are within int32.
                let data = weights.bias.iter().flat_map(|&bias| (bias as i32).to_le_bytes()).collect();
                let quantization = per_channel(&bias_scale.collect::<Vec<_>>(), 0);
                self.graph.constant(bias_name, TensorType::INT32, channels, data, Some(quantization))
            }
            _ => {
                let reals = weights.bias.iter().zip(bias_scale).map(|(&bias, scale)| (bias as f64 * f64::from(scale)) as f32);
                let data = reals.flat_map(f32::to_le_bytes).collect();
                self.graph.constant(bias_name, TensorType::FLOAT32, channels, data, None)
            }
        };
        Ok([kernel, bias])
    }

    /// A constant of half-precision floats.
    fn halves(&mut self, node: &Node, name: String, shape: Vec<i32>, reals: &[f32]) -> Result<i32, Obstacle> {
        if let Some(&beyond) = reals.iter().find(|real| real.abs() > half::MAX) {
            return Err(self.obstacle(node, "weights within float16", format!("{beyond}")));
        }
        let data = reals.iter().flat_map(|&real| half::from_f32(real).to_le_bytes()).collect();
        Ok(self.graph.constant(name, TensorType::FLOAT16, shape, data, None))
    }

    /// A constant tensor as f32.
    fn dequantized(&mut self, source: i32, name: String, shape: Vec<i32>, version: i32) -> i32 {
        let target = self.graph.widened(name, shape);
        self.graph.operator(Operator::DEQUANTIZE, version, &[source], target, BuiltinOptions::Dequantize);
        target
    }

    fn layer_numbers(&self, node: &Node, is_hybrid: bool) -> Numbers {
        match self.options.form {
            Form::DynamicRange if is_hybrid => Numbers::Hybrid,
            _ => self.numbers_of(node.inputs[0]),
        }
    }

    pub(super) fn conv2d(&mut self, index: usize, node: &Node, op: &Conv2d) -> Result<(), Obstacle> {
        let x = self.want(node.inputs[0], &Order::image());
        let (padding, x) = self.window(node, x, op.kernel, op.stride, op.padding, op.dilation)?;
        let [k_h, k_w] = op.kernel;
        let from = [op.c_out, op.c_in / op.groups, k_h, k_w];
        let codes = op.weights.codes.unpack();
        let is_depthwise = op.is_depthwise();
        let is_hybrid = is_depthwise || op.groups == 1;
        let [kernel, bias] = if is_depthwise {
            let codes = transpose(&codes, &from, &[1, 2, 3, 0]);
            let shape = vec![1, k_h, k_w, op.c_out];
            self.weights(index, node, &op.weights, Kernel { codes, shape, dimension: 3, is_hybrid })?
        } else {
            let codes = transpose(&codes, &from, &[0, 2, 3, 1]);
            let shape = vec![from[0], k_h, k_w, from[1]];
            self.weights(index, node, &op.weights, Kernel { codes, shape, dimension: 0, is_hybrid })?
        };
        let [stride_h, stride_w] = self.pair(node, op.stride)?;
        let [dilation_h_factor, dilation_w_factor] = self.pair(node, op.dilation)?;
        let depth_multiplier = self.number(node, op.c_out / op.c_in.max(1))?;
        let numbers = self.layer_numbers(node, is_hybrid);
        self.activated(node, Order::image(), op.clamp, |writer, fused_activation_function, y| {
            let (operator, options) = if is_depthwise {
                let options = DepthwiseConv2DOptions {
                    padding,
                    stride_w,
                    stride_h,
                    depth_multiplier,
                    fused_activation_function,
                    dilation_w_factor,
                    dilation_h_factor,
                };
                (Operator::DEPTHWISE_CONV_2D, options.into())
            } else {
                let options = Conv2DOptions {
                    padding,
                    stride_w,
                    stride_h,
                    fused_activation_function,
                    dilation_w_factor,
                    dilation_h_factor,
                    ..Conv2DOptions::default()
                };
                (Operator::CONV_2D, options.into())
            };
            writer.graph.operator(operator, version(operator, numbers), &[x, kernel, bias], y, options);
            Ok(())
        })
    }

    pub(super) fn conv_transpose2d(&mut self, index: usize, node: &Node, op: &ConvTranspose2d) -> Result<(), Obstacle> {
        if op.groups != 1 || op.dilation != [1, 1] {
            let found = format!("groups {} and dilation {:?}", op.groups, op.dilation);
            return Err(self.obstacle(node, "a transposed convolution without groups or dilation", found));
        }
        if op.output_padding[0] >= op.stride[0] || op.output_padding[1] >= op.stride[1] {
            let found = format!("{:?} at stride {:?}", op.output_padding, op.stride);
            return Err(self.obstacle(node, "an output padding below the stride", found));
        }
        let (x_info, y_info) = (self.info(node.inputs[0]), self.info(node.output));
        let x = self.want(node.inputs[0], &Order::image());
        let [k_h, k_w] = op.kernel;
        let codes = transpose(&op.weights.codes.unpack(), &[op.c_out, op.c_in, k_h, k_w], &[0, 2, 3, 1]);
        let kernel = Kernel { codes, shape: vec![op.c_out, k_h, k_w, op.c_in], dimension: 0, is_hybrid: false };
        let [kernel, bias] = self.weights(index, node, &op.weights, kernel)?;
        let [stride_h, stride_w] = self.pair(node, op.stride)?;
        let numbers = self.numbers_of(node.inputs[0]);

        let (inputs, outputs) = ([x_info.shape[1], x_info.shape[2]], [y_info.shape[1], y_info.shape[2]]);
        let whole = [0, 1].map(|axis| (inputs[axis] - 1) * op.stride[axis] + op.kernel[axis] + op.output_padding[axis]);
        let [top, left, bottom, right] = op.padding;
        // SAME cuts what lies beyond the output, the odd row at the bottom; an output as large as it gets is not cut.
        let is_same = (0..2).all(|axis| {
            let natural = whole[axis] - op.output_padding[axis];
            let cut = natural.saturating_sub(outputs[axis]);
            op.padding[axis] == cut / 2 && outputs[axis].div_ceil(op.stride[axis]) == inputs[axis]
        });
        let padding = if is_same { Padding::SAME } else { Padding::VALID };
        let is_cut = !is_same && [top, left, bottom, right] != [0; 4];
        let size = if is_cut { whole } else { outputs };
        let shape = [1, self.number(node, size[0])?, self.number(node, size[1])?, self.number(node, op.c_out)?];
        let shape_operand = self.graph.integers(&[4], &shape);
        let write = move |writer: &mut Self, fused_activation_function, y| {
            let options = TransposeConvOptions {
                padding,
                stride_w,
                stride_h,
                fused_activation_function,
                ..TransposeConvOptions::default()
            };
            let version = version(Operator::TRANSPOSE_CONV, numbers);
            let operands = [shape_operand, kernel, x, bias];
            writer.graph.operator(Operator::TRANSPOSE_CONV, version, &operands, y, options.into());
        };
        self.activated(node, Order::image(), op.clamp, |writer, function, y| {
            if !is_cut {
                write(writer, function, y);
                return Ok(());
            }
            let uncut = writer.tensor_like(y_info, format!("{}/uncut", y_info.name), &[size[0], size[1], op.c_out]);
            write(writer, function, uncut);
            let begin = [0, writer.number(node, top)?, writer.number(node, left)?, 0];
            let size = [1, writer.number(node, outputs[0])?, writer.number(node, outputs[1])?, shape[3]];
            let operands = [uncut, writer.graph.integers(&[4], &begin), writer.graph.integers(&[4], &size)];
            writer.graph.operator(Operator::SLICE, version(Operator::SLICE, numbers), &operands, y, BuiltinOptions::Slice);
            Ok(())
        })
    }

    pub(super) fn linear(&mut self, index: usize, node: &Node, op: &Linear) -> Result<(), Obstacle> {
        let input = node.inputs[0];
        let rank = self.info(input).shape.len();
        let order = Some(self.order_or_plain(input)).filter(Order::keeps_last).unwrap_or_else(|| Order::plain(rank));
        let x = self.want(input, &order);
        let mut codes = op.weights.codes.unpack();
        if let Some(&[c, h, w]) = self.flattened.get(&input) {
            codes = transpose(&codes, &[op.d_output, c, h, w], &[0, 2, 3, 1]);
        }
        let kernel = Kernel { codes, shape: vec![op.d_output, op.d_input], dimension: 0, is_hybrid: true };
        let [kernel, bias] = self.weights(index, node, &op.weights, kernel)?;
        let numbers = self.layer_numbers(node, true);
        let asymmetric_quantize_inputs = numbers == Numbers::Hybrid;
        self.activated(node, order, op.clamp, |writer, fused_activation_function, y| {
            let options = FullyConnectedOptions {
                fused_activation_function,
                keep_num_dims: rank > 1,
                asymmetric_quantize_inputs,
                ..FullyConnectedOptions::default()
            };
            let version = version(Operator::FULLY_CONNECTED, numbers);
            writer.graph.operator(Operator::FULLY_CONNECTED, version, &[x, kernel, bias], y, options.into());
            Ok(())
        })
    }

    pub(super) fn gather(&mut self, index: usize, node: &Node, op: &Gather) -> Result<(), Obstacle> {
        let (input, y_info) = (node.inputs[0], self.info(node.output));
        let rank = self.info(input).shape.len();
        let indices = self.want(input, &Order::plain(rank));
        let shape = vec![self.number(node, op.rows)?, self.number(node, op.width)?];
        let codes = op.table.unpack();
        let name = format!("{}.weight", self.layers[index]);
        let quantization = Some(per_tensor(y_info.qparams.scale, y_info.qparams.zero_point.into()));
        let data = codes.iter().map(|code| code.cast_unsigned()).collect();
        let options = GatherOptions { axis: 0, batch_dims: 0 }.into();
        let order = Order::plain(rank + 1);
        match self.options.form {
            Form::Integer => {
                let table = self.graph.constant(name, TensorType::INT8, shape, data, quantization);
                let y = self.define(node.output, order);
                self.graph.operator(Operator::GATHER, 2, &[table, indices], y, options);
            }
            Form::DynamicRange => {
                let table = self.graph.constant(name, TensorType::INT8, shape, data, quantization.clone());
                let file_shape = with_batch(1, &y_info.shape);
                let codes = self.graph.computed(format!("{}/codes", y_info.name), TensorType::INT8, file_shape, quantization);
                self.graph.operator(Operator::GATHER, 2, &[table, indices], codes, options);
                let y = self.define(node.output, order);
                self.graph.operator(Operator::DEQUANTIZE, 2, &[codes], y, BuiltinOptions::Dequantize);
            }
            Form::Float16 => {
                let reals: Vec<f32> = codes.iter().map(|&code| dequantize(code, y_info.qparams)).collect();
                let halves = self.halves(node, format!("{name}/float16"), shape.clone(), &reals)?;
                let table = self.dequantized(halves, name, shape, 3);
                let y = self.define(node.output, order);
                self.graph.operator(Operator::GATHER, 1, &[table, indices], y, options);
            }
        }
        Ok(())
    }
}
